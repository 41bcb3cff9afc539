#!/usr/bin/env python3
"""A long run of the real node: does it lose answers, grow or get slower?

Promises: the node runs as a process of its own with the real model; the images of the demo's bag reach it raw at
a camera's rate, and questions at a steady rate whether or not it keeps up, over DDS. Exit 0 if no limit was exceeded,
else 1 with one line for each that was; 2 where the arguments are wrong. What was measured goes to a JSON file.

    .venv/bin/python scripts/soak.py --minutes 10 --json out/soak.json

"First" and "last" are windows of a minute (of a short run: a third of it) after the warm-up and at the end. BUSY is an
answer of a kind, counted apart; every question that ended in neither an answer nor BUSY is lost.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the checkout's modules

import numpy as np
from sensor_msgs.msg import Image

from demo.errors import DemoError
from demo.run import FRAME_COUNTS, OWN_BAG, message_of, questions_of, truth_in
from proxqa_core.errors import ProxqaError
from proxqa_core.files import write_text
from proxqa_core.jsontext import plain
from proxqa_core.rosbags.bag import Bag, names_in
from proxqa_ros.common.conversions import image_to_rgb, rgb_to_image
from proxqa_ros.common.qos import MANY_QUERIES
from proxqa_ros.msg import ObjectDepthArray
from proxqa_ros.srv import ProximityQuery
from proxqa_ros.testing.camera import Camera, at_rate
from proxqa_ros.testing.domain import own_domain, ros_environment
from proxqa_ros.testing.errors import HarnessError
from proxqa_ros.testing.process import NodeProcess, node_command, resident
from proxqa_ros.testing.waiting import wait_until
from proxqa_ros.testing.watcher import NodeWatcher

log = logging.getLogger("soak")

WINDOW_S = 60.0
"""Seconds compared at the beginning and at the end, at most a third of what is left after the warm-up."""
WARM_UP_S = 60.0
"""Seconds left out at the beginning, at most a tenth of the run."""
NUM_NAMES = 4
"""Objects that are published and asked about."""
START_TIMEOUT_S = 300.0
"""Seconds until the node must have answered its first question; the first start ever converts the model's weights."""
LAST_ANSWERS_S = 45.0
"""Seconds after the last question in which answers count: more than the node's own query_timeout."""
SAMPLE_PERIOD_S = 0.5
"""Seconds between two readings of the node's memory."""
Response = ProximityQuery.Response
CODES = {getattr(Response, name): name for name in vars(type(Response)) if name[0].isupper()}


@dataclass(frozen=True)
class Limits:
    """What may not be exceeded.

    Args:
        rss_growth: Growth of the node's resident memory, percent.
        lost: Questions lost.
        p95_ratio: p95 latency of the last window over that of the first.

    Raises:
        ValueError: One is negative or not finite.
    """

    rss_growth: float = 5.0
    lost: int = 0
    p95_ratio: float = 1.2

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"limit {name} is {value}; expected a number >= 0")


@dataclass
class Asked:
    """A question.

    Attributes:
        at: When it was sent, in seconds from the beginning.
        latency: Seconds until the response; None = no response.
        outcome: The name of the response's error code.
    """

    at: float
    latency: float | None = None
    outcome: str = "no response"


@dataclass(frozen=True)
class Windows:
    """The two parts of a run that are compared: begin and end of each, in seconds from the beginning."""

    first: tuple[float, float]
    last: tuple[float, float]

    @classmethod
    def of(cls, duration: float) -> Windows:
        """Of a run of so many seconds."""
        warm = min(WARM_UP_S, duration / 10)
        length = min(WINDOW_S, (duration - warm) / 3)
        return cls((warm, warm + length), (duration - length, duration))


def judge(
    duration: float, asked: Sequence[Asked], rss: Sequence[tuple[float, float]], limits: Limits
) -> tuple[dict[str, Any], list[str]]:
    """The figures of a run, and one line for every limit that was exceeded.

    Args:
        duration: Of the run, in seconds.
        asked: All questions.
        rss: The node's resident memory: (seconds from the beginning, megabytes).
        limits: What may not be exceeded. A figure that there is nothing for is NaN, and exceeds its limit.
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

    ends = Counter(a.outcome for a in asked)
    lost = {outcome: n for outcome, n in ends.items() if outcome not in ("NONE", "NOT_VISIBLE", "BUSY")}
    sizes = {"first": megabytes(windows.first), "last": megabytes(windows.last)}
    sizes["growth_percent"] = 100 * (sizes["last"] / sizes["first"] - 1)
    times: dict[str, Any] = {"first": latency(windows.first), "last": latency(windows.last)}
    times["p95_ratio"] = times["last"]["p95"] / times["first"]["p95"]
    report: dict[str, Any] = {
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
    return a.outcome in ("NONE", "NOT_VISIBLE")


class Client(NodeWatcher):
    """The camera, the caller and the listener; use it in a `with`.

    Args:
        domain: The ROS domain id.
        images: Published one after the other, again and again.
        names: Of the objects to ask about.

    Attributes:
        published: Number of messages received on object_depths.
        model: The model's name in the last one.
    """

    def __init__(self, domain: int, images: Sequence[Image], names: Sequence[str]) -> None:
        super().__init__(domain, "soak")
        self._images = images
        self._questions = questions_of(list(names))
        self._camera = Camera(self.node)
        self._query: Any = self.node.create_client(ProximityQuery, "proximity_query", qos_profile=MANY_QUERIES)
        self.published = 0
        self.model = ""
        self._depths = self.node.create_subscription(ObjectDepthArray, "object_depths", self._on_depths, 100)
        self.start()

    def _on_depths(self, message: ObjectDepthArray) -> None:
        self.published += 1
        self.model = message.model

    def frames(self) -> dict[str, int]:
        """The node's own counts of frames, by what became of them."""
        values = self.counts()
        return {name: int(values.get(f"frames_{name}", 0)) for name in FRAME_COUNTS}

    def is_ready(self) -> bool:
        """Whether the node hears images and questions."""
        return self._camera.has_listener() and bool(self._query.service_is_ready())

    def show(self, n: int) -> None:
        """Publish image number n, taken now."""
        self._camera.publish(self._images[n % len(self._images)])

    def ask(self, n: int, at: float) -> Asked:
        """Ask question number n; what comes of it is filled in later."""
        question = self._questions[n % (len(self._questions) + 1) - 1] if n % (len(self._questions) + 1) else ""
        asked, sent = Asked(at), time.perf_counter()

        def answered(future: Any) -> None:
            response, latency = future.result(), time.perf_counter() - sent
            asked.outcome = CODES.get(response.error_code, "?")  # before the latency, which is what is waited for
            asked.latency = latency

        self._query.call_async(ProximityQuery.Request(question=question, objects=[])).add_done_callback(answered)
        return asked


def images_and_names() -> tuple[list[Image], list[str]]:
    """The demo's images, raw, and the objects that are in most of them."""
    with Bag(OWN_BAG) as bag:
        messages = [message_of(frame) for frame in bag.messages(bag.image_topic())]
        names = names_in(list(truth_in(bag).values()), NUM_NAMES)
    return [rgb_to_image(image_to_rgb(m), m.header) for m in messages], names


@dataclass
class Recording:
    """What a run gave.

    Attributes:
        asked: All questions.
        rss: The node's resident memory: (seconds from the beginning, megabytes).
        frames: The node's own counts of frames.
        published: Messages received on object_depths.
        sent: Images sent.
        seconds: How long images were sent.
    """

    asked: list[Asked]
    rss: list[tuple[float, float]]
    frames: dict[str, int]
    published: int
    sent: int
    seconds: float


def record(node: NodeProcess, client: Client, duration: float, image_hz: float, query_hz: float) -> Recording:
    """Send images and questions for so many seconds, then images alone until the last answer.

    Raises:
        HarnessError: The node ends.
    """
    run = Recording([], [], {}, 0, 0, 0.0)
    published, received, started = client.published, client.frames(), time.monotonic()

    def now() -> float:
        return time.monotonic() - started

    def show(n: int) -> None:
        client.show(n)
        run.sent = n + 1

    def all_answered() -> bool:
        node.check()
        return all(a.latency is not None for a in run.asked)

    with at_rate(image_hz, show):  # until the last answer: a question that waited is about an image of then
        with at_rate(query_hz, lambda n: run.asked.append(client.ask(n, now()))):
            while now() < duration:
                time.sleep(min(SAMPLE_PERIOD_S, max(0.0, duration - now())))
                node.check()
                run.rss.append((now(), resident(node.pid)))
        end = time.monotonic() + LAST_ANSWERS_S
        wait_until(all_answered, LAST_ANSWERS_S, 0.05)
        run.seconds = now()
    run.published = client.published - published
    before = client.status
    wait_until(lambda: client.status is not before, end - time.monotonic(), 0.05)  # counts of now
    run.frames = {name: n - received[name] for name, n in client.frames().items()}
    return run


def soak(minutes: float, image_hz: float, query_hz: float, limits: Limits, node_log: Path) -> dict[str, Any]:
    """The whole run.

    Args:
        minutes: How long.
        image_hz: Images a second.
        query_hz: Questions a second.
        limits: What may not be exceeded.
        node_log: File for the node's output.

    Returns:
        The report, with one line in `problems` for every limit that was exceeded.

    Raises:
        HarnessError: The node does not start, or ends.
    """
    images, names = images_and_names()
    duration = 60 * minutes
    command = node_command(parameters={"objects": names})
    with own_domain() as domain:
        os.environ.update(ros_environment(domain))
        with NodeProcess(command, domain, node_log) as node, Client(domain, images, names) as client:
            log.info("starting the node (its log: %s) …", node_log)
            with at_rate(image_hz, client.show):
                wait_until_it_answers(node, client)
            log.info(
                "active: %s; %g minutes of %g Hz images, %g Hz questions", client.model, minutes, image_hz, query_hz
            )
            run = record(node, client, duration, image_hz, query_hz)
    report, problems = judge(duration, run.asked, run.rss, limits)
    return {
        "minutes": minutes,
        "image_hz": image_hz,
        "query_hz": query_hz,
        "image": f"{images[0].width}x{images[0].height} {images[0].encoding}",
        "objects": names,
        "model": client.model,
        **report,
        "frames": {"seconds": run.seconds, "sent": run.sent, **run.frames, "published": run.published},
        "limits": vars(limits),
        "problems": problems,
    }


def wait_until_it_answers(node: NodeProcess, client: Client) -> None:
    """Until the node has published depths and answered a question.

    Raises:
        HarnessError: It ends, cannot be configured or takes too long.
    """
    asked: Asked | None = None

    def answered() -> bool:
        nonlocal asked
        client.check(node)
        if client.is_ready() and (asked is None or (asked.latency is not None and not _answered(asked))):
            asked = client.ask(1, 0.0)
        return asked is not None and _answered(asked) and client.published > 0

    if not wait_until(answered, START_TIMEOUT_S, 0.2):
        raise HarnessError(
            f"the node answered nothing in {START_TIMEOUT_S:g} s; its log, {node.log}:\n{node.log_tail()}"
        )


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
    """Of the command line."""
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


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code: see the module."""
    args = parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    limits = Limits(args.max_rss_growth, args.max_lost, args.max_p95_ratio)
    try:
        args.json.parent.mkdir(parents=True, exist_ok=True)  # fails before the run, not after it
        report = soak(args.minutes, args.image_hz, args.query_hz, limits, args.json.with_suffix(".log"))
        text = json.dumps(plain(report), indent=2)
        write_text(args.json, text + "\n")
    except (DemoError, ProxqaError, OSError) as error:
        print(f"soak: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(text, flush=True)
    for problem in report["problems"]:
        print(f"soak: {problem}", file=sys.stderr)
    return 1 if report["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
