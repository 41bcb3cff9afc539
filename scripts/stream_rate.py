#!/usr/bin/env python3
"""How often the node tells depths of a camera's stream, and how old the image is by then; two installations in turns.

Promises: each node runs as a process of its own, with the bundled model; images of one size, the same for both, reach
it raw at a camera's rate from this process, over DDS, best effort; nothing is asked. What a node tells is heard by a
process of its installation, since DDS does not match two versions of a message. The time a node takes until its first
message is told apart and no part of the rest. Printed are a line for every turn and one for each installation.

    .venv/bin/python scripts/stream_rate.py --seconds 30
    .venv/bin/python scripts/stream_rate.py --against OTHER/CHECKOUT --turns 2 --json out/stream.json

An age is the time from the stamp of the image, set when it went out, to the arrival of its `object_depths`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the checkout's modules

import cv2
import numpy as np
import rclpy
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from proxqa_core.evaluation.bench import picture
from proxqa_core.files import write_text
from proxqa_core.vision.image_file import as_image
from proxqa_ros.common.conversions import rgb_to_image
from proxqa_ros.common.dds_profile import use_fastdds_profile
from proxqa_ros.testing.camera import Camera, at_rate
from proxqa_ros.testing.domain import own_domain
from proxqa_ros.testing.errors import HarnessError
from proxqa_ros.testing.process import NodeProcess, resident
from proxqa_ros.testing.waiting import wait_until
from proxqa_ros.testing.watcher import NodeWatcher

HERE = Path(__file__).resolve().parents[1]
NAMES = ("chair", "table", "cup", "person", "door", "bottle", "car", "box")
START_TIMEOUT_S = 300.0
"""Longest time until the first message: the first start ever converts the model's weights."""
WARM_UP_S = 5.0
"""Left out after the first message."""


@dataclass
class Turn:
    """What one node did.

    Attributes:
        first_s: From its start to its first message.
        seconds: That were measured.
        ages_ms: Of the images that were told of in that time.
        peak_mib: Most memory that its process had (resident).
    """

    first_s: float = 0.0
    seconds: float = 0.0
    ages_ms: list[float] = field(default_factory=list)
    peak_mib: float = 0.0

    @property
    def hz(self) -> float:
        """Messages a second."""
        return len(self.ages_ms) / self.seconds if self.seconds else 0.0

    def summary(self) -> dict[str, float]:
        """The figures, for people and reports."""
        p50, p95 = np.percentile(self.ages_ms, [50, 95]) if self.ages_ms else (np.nan, np.nan)
        return {
            "hz": round(self.hz, 3),
            "age_p50_ms": round(float(p50), 1),
            "age_p95_ms": round(float(p95), 1),
            "first_s": round(self.first_s, 2),
            "peak_mib": round(self.peak_mib, 1),
        }


LISTENER = """
import time
import rclpy
from rclpy.time import Time
from proxqa_ros.msg import ObjectDepthArray

rclpy.init()
node = rclpy.create_node("stream_rate_listener")

def heard(message):
    age = node.get_clock().now() - Time.from_msg(message.header.stamp, node.get_clock().clock_type)
    print("heard", time.monotonic(), age.nanoseconds / 1e6, flush=True)

subscription = node.create_subscription(ObjectDepthArray, "object_depths", heard, 10)
rclpy.spin(node)
"""
"""Prints when each message came, by the clock that all processes share, and how old its image was, in milliseconds."""


class Listener:
    """Hears what a node tells.

    Args:
        process: Runs LISTENER.
        log: What it prints.
    """

    def __init__(self, process: NodeProcess, log: Path) -> None:
        self._process, self._log = process, log

    def heard(self) -> list[tuple[float, float]]:
        """Of every message so far, when it came and the age in milliseconds."""
        self._process.check()
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        parts = (line.split() for line in lines if line.startswith("heard ") and line.endswith("\n"))
        return [(float(at), float(age)) for _, at, age in parts]


class Source(NodeWatcher):
    """Publishes the images.

    Args:
        domain: The ROS domain id.
    """

    def __init__(self, domain: int) -> None:
        super().__init__(domain, "stream_rate")
        self.camera = Camera(self.node)
        self.start()


def python_of(checkout: Path) -> Path:
    """The Python of an installation; HarnessError where there is none."""
    python = checkout / ".venv/bin/python"
    if not python.exists():
        raise HarnessError(f"{checkout}: has no .venv/bin/python; expected a checkout that is set up")
    return python


def node_of(checkout: Path, names: Sequence[str]) -> list[str]:
    """The command that starts the node of an installation."""
    script = checkout / "scripts/proximity_node"
    if not script.exists():
        raise HarnessError(f"{checkout}: has no scripts/proximity_node; expected a checkout of proxqa")
    return [str(python_of(checkout)), str(script), "--ros-args", "-p", f"objects:={json.dumps(list(names))}"]


def measure(checkout: Path, image: Image, hz: float, seconds: float, names: Sequence[str]) -> Turn:
    """One turn of one installation."""
    turn = Turn()
    with own_domain() as domain, tempfile.TemporaryDirectory() as folder, Source(domain) as source:
        log = Path(folder) / "listener.log"
        started = time.monotonic()
        process = NodeProcess(node_of(checkout, names), domain, Path(folder) / "node.log", checkout)
        hearing = NodeProcess([str(python_of(checkout)), "-c", LISTENER], domain, log, checkout)
        with process, hearing, at_rate(hz, lambda _: source.camera.publish(image)):
            listener = Listener(hearing, log)

            def begun() -> bool:
                process.check()
                return bool(listener.heard())

            if not wait_until(begun, START_TIMEOUT_S):
                raise HarnessError(
                    f"no depths after {START_TIMEOUT_S:.0f} s; the node's log says:\n{process.log_tail()}"
                )
            turn.first_s = listener.heard()[0][0] - started
            time.sleep(WARM_UP_S)
            since = time.monotonic()
            while time.monotonic() < since + seconds:
                process.check()
                turn.peak_mib = max(turn.peak_mib, resident(process.pid))
                time.sleep(0.2)
            turn.seconds = time.monotonic() - since
            turn.ages_ms = [age for at, age in listener.heard() if since <= at <= since + turn.seconds]
    return turn


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--against", metavar="CHECKOUT", type=Path, help="another installation, a checkout with its .venv")
    add("--turns", metavar="N", type=int, default=1, help="of each (default: %(default)s)")
    add("--seconds", metavar="S", type=float, default=30.0, help="measured in a turn (default: %(default)s)")
    add("--hz", metavar="HZ", type=float, default=30.0, help="of the camera (default: %(default)s)")
    add("--size", metavar="WxH", default="1280x720", help="of the images (default: %(default)s)")
    add("--image", metavar="FILE", type=Path, help="what they show (default: coloured blocks)")
    add("--names", metavar="N", type=int, default=8, choices=range(1, len(NAMES) + 1), help="objects (default: 8)")
    add("--json", metavar="FILE", type=Path, help="where the figures go too")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it. Returns the exit code."""
    options = parsed(arguments)
    use_fastdds_profile()  # without it this process's images, which are large, do not arrive
    try:
        width, height = (int(v) for v in options.size.split("x"))
        shown = picture(0) if options.image is None else as_image(options.image)
        pixels = cv2.resize(shown, (width, height), interpolation=cv2.INTER_AREA)
        message = rgb_to_image(pixels, Header(frame_id="camera"))
        checkouts = {"this": HERE, **({"other": options.against.resolve()} if options.against else {})}
        turns: dict[str, list[Turn]] = {name: [] for name in checkouts}
        for _ in range(options.turns):
            for name, checkout in checkouts.items():
                turn = measure(checkout, message, options.hz, options.seconds, NAMES[: options.names])
                turns[name].append(turn)
                print(f"{name}: {turn.summary()}", flush=True)
    except (HarnessError, ValueError, OSError) as error:
        print(f"stream_rate: {error}", file=sys.stderr)
        return 2
    finally:
        rclpy.try_shutdown()
    report: dict[str, Any] = {name: _together(of).summary() for name, of in turns.items()}
    for name, figures in report.items():
        print(f"{name}, all turns: {figures}")
    if options.json:
        write_text(options.json, json.dumps(report, indent=1) + "\n")
    return 0


def _together(turns: Sequence[Turn]) -> Turn:
    """Several turns as one."""
    return Turn(
        float(np.median([t.first_s for t in turns])),
        sum(t.seconds for t in turns),
        [age for t in turns for age in t.ages_ms],
        max(t.peak_mib for t in turns),
    )


if __name__ == "__main__":
    sys.exit(main())
