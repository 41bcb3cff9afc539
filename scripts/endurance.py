#!/usr/bin/env python3
"""Does the real node give back what it took: after many adapter swaps, and after many lifecycle cycles?

Promises: the node runs as a process of its own with the real model, shown the demo's images. Part one loads two
adapters in turn, as fast as they load, for so many minutes, then lets it rest; part two takes it through deactivate,
cleanup, configure and activate, again and again. Exit 0 if no limit was exceeded, else 1 with one line for each that
was; 2 where the arguments are wrong. What was measured goes to a JSON file.

    .venv/bin/python scripts/endurance.py --swap-minutes 5 --cycles 60 --json out/endurance.json

"Before" is before the first swap; for cycles it is after some of them, when the executor's threads are there.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the checkout's modules

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from sensor_msgs.msg import Image

from demo.errors import DemoError
from demo.run import OWN_BAG, message_of, truth_in
from proxqa_core.errors import ProxqaError
from proxqa_core.files import write_text
from proxqa_core.model.loading import DEFAULT_ADAPTER
from proxqa_core.rosbags.bag import Bag, names_in
from proxqa_ros.common.conversions import image_to_rgb, rgb_to_image
from proxqa_ros.srv import LoadAdapter
from proxqa_ros.testing.camera import Camera, at_rate
from proxqa_ros.testing.domain import own_domain, ros_environment
from proxqa_ros.testing.errors import HarnessError
from proxqa_ros.testing.process import NodeProcess, node_command
from proxqa_ros.testing.waiting import wait_until
from proxqa_ros.testing.watcher import NodeWatcher

log = logging.getLogger("endurance")

START_TIMEOUT_S = 300.0
"""Seconds until the node must be active; the first start ever converts the model's weights."""
STEP_TIMEOUT_S = 120.0
"""Longest wait for a swap or a transition, in seconds."""
SAMPLE_PERIOD_S = 0.05
"""Seconds between two readings of the memory while something is under way."""
IMAGE_HZ = 5.0
LAZY_THREADS = 16
"""Threads that the node's executor may start later, as they are needed; a leak of one each cycle is more."""
MB = 2**20
CYCLE = (
    Transition.TRANSITION_DEACTIVATE,
    Transition.TRANSITION_CLEANUP,
    Transition.TRANSITION_CONFIGURE,
    Transition.TRANSITION_ACTIVATE,
)


@dataclass(frozen=True)
class Plan:
    """What is done, and what may come of it.

    Args:
        swap_minutes: Minutes of swaps; 0 = without.
        cycles: Lifecycle cycles; 0 = without.
        warm_up: Cycles before the measurement.
        rest_seconds: Seconds of rest before a measurement.
        max_growth: Most growth of the resident memory, percent.
    """

    swap_minutes: float = 5.0
    cycles: int = 60
    warm_up: int = 3
    rest_seconds: float = 5.0
    max_growth: float = 10.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not 0 <= value < float("inf"):
                raise ValueError(f"--{name.replace('_', '-')} {value:g}: expected a number from 0")


@dataclass(frozen=True)
class Held:
    """What a process holds.

    Args:
        rss_mb: Resident memory, 2^20 bytes.
        threads: Threads.
        files: Open file descriptors.
        shm_files: Files of /dev/shm that it has open or mapped.
    """

    rss_mb: float
    threads: int
    files: int
    shm_files: int

    @classmethod
    def of(cls, pid: int) -> Held:
        """Read it from /proc. HarnessError where the process has ended."""
        try:
            status = Path(f"/proc/{pid}/status").read_text()
            lines = dict(line.split(":", 1) for line in status.splitlines())
            links = {link for f in os.listdir(f"/proc/{pid}/fd") if (link := _target(f"/proc/{pid}/fd/{f}"))}
            maps = Path(f"/proc/{pid}/maps").read_text(errors="replace").splitlines()
        except (OSError, ValueError) as error:
            raise HarnessError(f"the node cannot be measured, it may have ended: {error}") from error
        mapped = {line.rsplit(" ", 1)[-1] for line in maps if " /dev/shm/" in line}
        shm = mapped | {link for link in links if link.startswith("/dev/shm/")}
        rss_mb = int(lines["VmRSS"].split()[0]) * 1024 / MB
        return cls(rss_mb, int(lines["Threads"]), len(os.listdir(f"/proc/{pid}/fd")), len(shm))


def _target(link: str) -> str:
    with contextlib.suppress(OSError):
        return os.readlink(link)
    return ""


class Driver(NodeWatcher):
    """Shows the node images, swaps its adapters and takes it through its states."""

    def __init__(self, domain: int, images: Sequence[Image]) -> None:
        super().__init__(domain, "endurance")
        self._images = images
        self._camera = Camera(self.node)
        self._load: Any = self.node.create_client(LoadAdapter, "load_adapter")
        self._change: Any = self.node.create_client(ChangeState, "/proximity/change_state")
        self.start()

    def show(self, n: int) -> None:
        """Publish image number n, taken now."""
        self._camera.publish(self._images[n % len(self._images)])

    def swap(self, adapter: str) -> None:
        """Load an adapter. HarnessError where that fails."""
        response = self._call(self._load, LoadAdapter.Request(adapter=adapter))
        if not response.success:
            raise HarnessError(f"adapter {adapter!r} was not loaded: {response.message}")

    def cycle(self) -> None:
        """From active to unconfigured and back. HarnessError where a transition fails."""
        for transition in CYCLE:
            request = ChangeState.Request(transition=Transition(id=transition))
            if not self._call(self._change, request).success:
                raise HarnessError(f"transition {transition} failed: {self.status.message}")

    def _call(self, client: Any, request: Any) -> Any:
        if not client.wait_for_service(timeout_sec=STEP_TIMEOUT_S):
            raise HarnessError(f"there is no service {client.srv_name}")
        future = client.call_async(request)
        if not wait_until(future.done, STEP_TIMEOUT_S):
            raise HarnessError(f"{client.srv_name} did not answer in {STEP_TIMEOUT_S:g} s")
        return future.result()


def measure(
    node: NodeProcess, warm_up: int, rest_s: float, goes_on: Callable[[int], bool], step: Callable[[int], None]
) -> dict[str, Any]:
    """Do a step again and again, and measure before, meanwhile and after.

    Args:
        node: The node's process.
        warm_up: Steps before the measurement.
        rest_s: Seconds of rest before and after.
        goes_on: Whether there is another step, by its number.
        step: One step, by its number.
    """
    for n in range(warm_up):
        step(n)
    time.sleep(rest_s)
    before, count, started = Held.of(node.pid), 0, time.monotonic()
    samples: list[float] = []
    with at_rate(1 / SAMPLE_PERIOD_S, lambda _: samples.append(Held.of(node.pid).rss_mb)):
        while goes_on(count):
            node.check()
            step(count)
            count += 1
    seconds = time.monotonic() - started
    time.sleep(rest_s)
    after = Held.of(node.pid)
    peak_mb = max(samples, default=before.rss_mb)
    return {
        "count": count,
        "seconds": round(seconds, 1),
        "before": asdict(before),
        "peak_rss_mb": peak_mb,
        "after": asdict(after),
        "rss_growth_percent": 100 * (after.rss_mb / before.rss_mb - 1),
    }


def problems_of(name: str, run: dict[str, Any], max_growth: float) -> list[str]:
    """What exceeded its limit, one line each."""
    found = []
    if run["rss_growth_percent"] > max_growth:
        found.append(f"{name}: the memory grew by {run['rss_growth_percent']:.1f} %; expected at most {max_growth:g} %")
    for what in ("threads", "files", "shm_files"):
        before, after = run["before"][what], run["after"][what]
        most = before + (LAZY_THREADS if what == "threads" else 0)
        if after > most:
            found.append(f"{name}: {what} before {before}, after {after}; expected at most {most}")
    return found


def images_and_names() -> tuple[list[Image], list[str]]:
    """The demo's images, raw, and two objects that are in most of them."""
    with Bag(OWN_BAG) as bag:
        messages = [message_of(frame) for frame in bag.messages(bag.image_topic())]
        names = names_in(list(truth_in(bag).values()), 2)
    return [rgb_to_image(image_to_rgb(m), m.header) for m in messages], names


def run(plan: Plan, node_log: Path) -> dict[str, Any]:
    """Both parts, each with a node of its own.

    Args:
        plan: What is done.
        node_log: File for the node's output.

    Returns:
        The report, with one line in `problems` for every limit that was exceeded.
    """
    images, names = images_and_names()
    report: dict[str, Any] = {"objects": names, "max_rss_growth_percent": plan.max_growth, "problems": []}
    with tempfile.TemporaryDirectory() as folder:
        for adapter in ("one", "two"):
            shutil.copytree(DEFAULT_ADAPTER, Path(folder) / adapter)
        parameters = {"objects": names, "adapters_folder": folder}

        def part(name: str, warm_up: int, goes_on: Callable[[int], bool], step: Callable[[Driver, int], None]) -> None:
            with own_domain() as domain:
                os.environ.update(ros_environment(domain))
                with (
                    NodeProcess(node_command(parameters=parameters), domain, node_log) as node,
                    Driver(domain, images) as driver,
                ):
                    driver.wait_until_active(node, START_TIMEOUT_S)
                    log.info("%s …", name)
                    with at_rate(IMAGE_HZ, driver.show):
                        report[name] = measure(node, warm_up, plan.rest_seconds, goes_on, lambda n: step(driver, n))
            report["problems"] += problems_of(name, report[name], plan.max_growth)

        if plan.swap_minutes:
            end: list[float] = []

            def time_left(_: int) -> bool:
                end[:] = end or [time.monotonic() + 60 * plan.swap_minutes]
                return time.monotonic() < end[0]

            part("swaps", 0, time_left, lambda driver, n: driver.swap(("one", "two")[n % 2]))
        if plan.cycles:
            part("cycles", plan.warm_up, lambda n: n < plan.cycles, lambda driver, _: driver.cycle())
    return report


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code: see the module."""
    parser = argparse.ArgumentParser(prog="endurance", description=__doc__.splitlines()[0])
    for name, what in (
        ("swap_minutes", "minutes of swaps"),
        ("cycles", "lifecycle cycles"),
        ("warm_up", "cycles before the measurement"),
        ("rest_seconds", "seconds of rest before a measurement"),
        ("max_growth", "most growth of the memory, percent"),
    ):
        default = getattr(Plan, name)
        option = "--" + name.replace("_", "-")
        parser.add_argument(option, type=type(default), default=default, help=f"{what} (default: %(default)g)")
    parser.add_argument("--json", type=Path, default=Path("out/endurance.json"), help="the report")
    args = parser.parse_args(argv)
    try:
        plan = Plan(args.swap_minutes, args.cycles, args.warm_up, args.rest_seconds, args.max_growth)
    except ValueError as error:
        parser.error(str(error))
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        args.json.parent.mkdir(parents=True, exist_ok=True)  # fails before the run, not after it
        report = run(plan, args.json.with_suffix(".log"))
        write_text(args.json, json.dumps(report, indent=2) + "\n")
    except (DemoError, ProxqaError, OSError) as error:
        print(f"endurance: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(json.dumps(report, indent=2), flush=True)
    for problem in report["problems"]:
        print(f"endurance: {problem}", file=sys.stderr)
    return 1 if report["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
