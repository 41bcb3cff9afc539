#!/usr/bin/env python3
"""A long run of the real node: does it lose answers, grow or get slower?

Promises: the node runs as a process of its own with the real model; the pictures of the demo's bag reach it as raw
images at a camera's rate, and questions at a steady rate whether or not it keeps up, over DDS. Exit 0 if no limit was
passed, else 1 with one line for each that was; 2 where the arguments are wrong. What was measured goes to a JSON file.

    .venv/bin/python scripts/soak.py --minutes 10 --json out/soak.json

"First" and "last" are windows of a minute (of a short run: a third of it) after the warm-up and at the end. BUSY is an
answer of a kind, counted apart; every question that ended in neither an answer nor BUSY is lost.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the checkout's modules

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

from demo.errors import DemoError
from demo.node import MAIN, NodeProcess, own_domain, ros_environment
from demo.ros_side import Watcher
from demo.run import OWN_BAG, message_of, questions_of, truth_in
from proxqa_core.errors import ProxqaError
from proxqa_core.rosbags.bag import Bag, names_in
from proxqa_ros.common.conversions import image_to_rgb, rgb_to_image
from proxqa_ros.common.qos import MANY_QUERIES
from proxqa_ros.msg import ObjectDepthArray
from proxqa_ros.srv import ProximityQuery

WINDOW = 60.0
"""Seconds compared at the beginning and at the end, at most a third of what is left after the warm-up."""
WARM_UP = 60.0
"""Seconds left out at the beginning, at most a tenth of the run."""
NAMES = 4
"""Objects that are published and asked about."""
START = 300.0
"""Seconds until the node must have answered its first question; the first start ever converts the model's weights."""
LAST_ANSWERS = 45.0
"""Seconds after the last question in which answers count: more than the node's own query_timeout."""
FATES = ("received", "answered", "dropped", "bad", "failed")
Response = ProximityQuery.Response
CODES = {getattr(Response, name): name for name in vars(type(Response)) if name[0].isupper()}


@dataclass(frozen=True)
class Limits:
    """What may not be passed. rss_growth: percent; lost: questions; p95_ratio: last over first."""

    rss_growth: float = 5.0
    lost: int = 0
    p95_ratio: float = 1.2

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"limit {name} is {value}; expected a number >= 0")


@dataclass
class Asked:
    """A question. at: seconds from the beginning. latency: seconds, None = no response. said: error code, its name."""

    at: float
    latency: float | None = None
    said: str = "no response"


@dataclass(frozen=True)
class Windows:
    """The two parts of a run of `duration` seconds that are compared: begin and end of each, in seconds."""

    first: tuple[float, float]
    last: tuple[float, float]

    @classmethod
    def of(cls, duration: float) -> Windows:
        warm = min(WARM_UP, duration / 10)
        length = min(WINDOW, (duration - warm) / 3)
        return cls((warm, warm + length), (duration - length, duration))


def judge(
    duration: float, asked: Sequence[Asked], rss: Sequence[tuple[float, float]], limits: Limits
) -> tuple[dict[str, Any], list[str]]:
    """The figures of a run of so many seconds, and one line for every limit that was passed.

    rss: (seconds from the beginning, megabytes). A figure that there is nothing for is NaN, and passes its limit.
    """
    windows = Windows.of(duration)

    def within(at: float, window: tuple[float, float]) -> bool:
        return window[0] <= at < window[1]

    def megabytes(window: tuple[float, float]) -> float:
        found = [size for at, size in rss if within(at, window)]
        return float(np.mean(found)) if found else math.nan

    def latency(window: tuple[float, float]) -> dict[str, float]:
        found = [1000 * a.latency for a in asked if a.latency is not None and _answered(a) and within(a.at, window)]
        return {f"p{p}": float(np.percentile(found, p)) if found else math.nan for p in (50, 95)}

    ends = Counter(a.said for a in asked)
    lost = {said: n for said, n in ends.items() if said not in ("NONE", "NOT_VISIBLE", "BUSY")}
    sizes = {"first": megabytes(windows.first), "last": megabytes(windows.last)}
    sizes["growth_percent"] = 100 * (sizes["last"] / sizes["first"] - 1)
    times: dict[str, Any] = {"first": latency(windows.first), "last": latency(windows.last)}
    times["p95_ratio"] = times["last"]["p95"] / times["first"]["p95"]
    report = {
        "windows_s": {"first": list(windows.first), "last": list(windows.last)},
        "rss_mb": sizes,
        "queries": {
            "sent": len(asked),
            "answered": sum(map(_answered, asked)),
            "busy": ends["BUSY"],
            "lost": sum(lost.values()),
            "lost_as": lost,
        },
        "latency_ms": times,
    }
    problems = [
        f"{what} is {value:.4g}; at most {limit:g} is allowed"
        for what, value, limit in (
            ("growth of the memory, percent,", sizes["growth_percent"], limits.rss_growth),
            ("number of questions lost", report["queries"]["lost"], limits.lost),
            ("p95 of the last window over the first's", times["p95_ratio"], limits.p95_ratio),
        )
        if not value <= limit  # NaN too
    ]
    return report, problems


def _answered(a: Asked) -> bool:
    return a.said in ("NONE", "NOT_VISIBLE")


def resident(pid: int) -> float:
    """Resident memory of a process in megabytes."""
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS:")) / 1024


class Client(Watcher):
    """The camera, the caller and the listener; use it in a `with`."""

    def __init__(self, domain: int, pictures: Sequence[np.ndarray], names: Sequence[str]) -> None:
        super().__init__(domain, "soak")
        self._pictures, self._names = pictures, list(names)
        self._questions = questions_of(self._names)
        self._camera = self.node.create_publisher(Image, "image", qos_profile_sensor_data)
        self._query = self.node.create_client(ProximityQuery, "proximity_query", qos_profile=MANY_QUERIES)
        self.published = 0
        self.model = ""
        self._depths = self.node.create_subscription(ObjectDepthArray, "object_depths", self._on_depths, 100)
        self.start()

    def _on_depths(self, message: ObjectDepthArray) -> None:
        self.published += 1
        self.model = message.model

    def frames(self) -> dict[str, int]:
        """How many frames met which fate, by the node's own counts."""
        values = self.counts()
        return {fate: int(values.get(f"frames_{fate}", 0)) for fate in FATES}

    def is_ready(self) -> bool:
        return self._camera.get_subscription_count() > 0 and self._query.service_is_ready()

    def show(self, n: int) -> None:
        """Publish picture number n, taken now."""
        message = self._pictures[n % len(self._pictures)]
        message.header.stamp = self.node.get_clock().now().to_msg()
        self._camera.publish(message)

    def ask(self, n: int, at: float) -> Asked:
        """Ask question number n; what comes of it is filled in later."""
        question = self._questions[n % (len(self._questions) + 1) - 1] if n % (len(self._questions) + 1) else ""
        asked, sent = Asked(at), time.perf_counter()

        def answered(future: Any) -> None:
            response = future.result()
            asked.latency, asked.said = time.perf_counter() - sent, CODES.get(response.error_code, "?")

        self._query.call_async(ProximityQuery.Request(question=question, objects=[])).add_done_callback(answered)
        return asked


@contextlib.contextmanager
def steadily(hz: float, step: Callable[[int], None]) -> Iterator[None]:
    """Call step(0), step(1) … at that rate in a thread of its own until the `with` ends; what is late is caught up."""
    leaving, broken = threading.Event(), []

    def run() -> None:
        started, n = time.monotonic(), 0
        try:
            while not leaving.wait(max(0.0, started + n / hz - time.monotonic())):
                step(n)
                n += 1
        except Exception as error:
            broken.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        leaving.set()
        thread.join()
    if broken:
        raise broken[0]


def pictures_and_names() -> tuple[list[Image], list[str]]:
    """The demo's pictures as raw images, and the objects that are in most of them."""
    with Bag(OWN_BAG) as bag:
        messages = [message_of(frame) for frame in bag.messages(bag.image_topic())]
        names = names_in(list(truth_in(bag).values()), NAMES)
    return [rgb_to_image(image_to_rgb(m), m.header) for m in messages], names


def soak(minutes: float, image_hz: float, query_hz: float, limits: Limits, log: Path) -> dict[str, Any]:
    """The whole run; its report, with `problems`. DemoError where the node does not start, or ends."""
    images, names = pictures_and_names()
    duration = 60 * minutes
    command = [sys.executable, "-c", MAIN, "--ros-args", "-p", f"objects:={json.dumps(names)}"]
    with own_domain() as domain:
        os.environ.update(ros_environment(domain))
        with NodeProcess(command, domain, log) as node, Client(domain, images, names) as client:
            say(f"starting the node (its log: {log}) …")
            with steadily(image_hz, client.show):
                wait_until_it_answers(node, client)
                say(f"active: {client.model}; {minutes:g} minutes of {image_hz:g} Hz images, {query_hz:g} Hz questions")
            asked, rss, sent, base = [], [], [0], client.published
            received = client.frames()
            started = time.monotonic()

            def now() -> float:
                return time.monotonic() - started

            def show(n: int) -> None:
                client.show(n)
                sent[0] = n + 1

            with steadily(image_hz, show):  # until the last answer: a question that waited is about an image of then
                with steadily(query_hz, lambda n: asked.append(client.ask(n, now()))):
                    while now() < duration:
                        time.sleep(min(0.5, max(0.0, duration - now())))
                        node.check()
                        rss.append((now(), resident(node.pid)))
                end = time.monotonic() + LAST_ANSWERS
                while any(a.latency is None for a in asked) and time.monotonic() < end:
                    time.sleep(0.05)
                    node.check()
                showed = now()
            published = client.published - base
            before = client.status
            while client.status is before and time.monotonic() < end:
                time.sleep(0.05)  # counts of now
            frames = {fate: n - received[fate] for fate, n in client.frames().items()}
    report, problems = judge(duration, asked, rss, limits)
    return {
        "minutes": minutes,
        "image_hz": image_hz,
        "query_hz": query_hz,
        "image": f"{images[0].width}x{images[0].height} {images[0].encoding}",
        "objects": names,
        "model": client.model,
        **report,
        "frames": {"seconds": showed, "sent": sent[0], **frames, "published": published},
        "limits": vars(limits),
        "problems": problems,
    }


def wait_until_it_answers(node: NodeProcess, client: Client) -> None:
    """Until the node has published depths and answered a question. DemoError where it ends or takes too long."""
    end, asked = time.monotonic() + START, None
    while asked is None or not _answered(asked) or not client.published:
        node.check()
        if client.status.level == DiagnosticStatus.ERROR:
            raise DemoError(f"the node {client.status.message}; its log is {node.log}")
        if time.monotonic() > end:
            raise DemoError(f"the node answered nothing in {START:g} s; its log, {node.log}:\n{node.said()}")
        if client.is_ready() and (asked is None or asked.latency is not None):
            asked = client.ask(1, 0.0)
        time.sleep(0.2)


def say(text: str) -> None:
    print(text, flush=True)


def number(low: float, high: float) -> Callable[[str], float]:
    """A reader of numbers in that range for the command line."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is no number from {low:g} to {high:g}")
        return value

    return read


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="soak", description="Run the real node for long; lost answers, memory, latency.")
    p.add_argument("--minutes", type=number(0.1, 100_000), default=10.0, help="how long (default: %(default)g)")
    p.add_argument("--image-hz", type=number(0.1, 1000), default=30.0, help="images a second (default: %(default)g)")
    p.add_argument("--query-hz", type=number(0.1, 1000), default=5.0, help="questions a second (default: %(default)g)")
    p.add_argument("--json", type=Path, default=Path("out/soak.json"), help="the report (default: %(default)s)")
    for name, default, what in (
        ("rss-growth", Limits.rss_growth, "most growth of the node's memory, percent"),
        ("lost", Limits.lost, "most questions lost"),
        ("p95-ratio", Limits.p95_ratio, "most p95 latency of the last window over that of the first"),
    ):
        p.add_argument(f"--max-{name}", type=number(0, 1e9), default=default, help=f"{what} (default: %(default)g)")
    return p


def plain(value: Any) -> Any:
    """JSON has no NaN: it becomes null."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    limits = Limits(args.max_rss_growth, args.max_lost, args.max_p95_ratio)
    try:
        args.json.parent.mkdir(parents=True, exist_ok=True)  # said before the run, not after it
        report = soak(args.minutes, args.image_hz, args.query_hz, limits, args.json.with_suffix(".log"))
        text = json.dumps(plain(report), indent=2)
        args.json.write_text(text + "\n")
    except (DemoError, ProxqaError, OSError) as error:
        print(f"soak: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    say(text)
    for problem in report["problems"]:
        print(f"soak: {problem}", file=sys.stderr)
    return 1 if report["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
