"""How long the speed governor takes to stop a robot: from the report of a near person to the zero command.

    .venv/bin/python scripts/stop_latency.py --stops 200 --json out/stop_latency.json

Starts the real node as a process of its own and measures over DDS, alone and beside a stream of 720p images at 30 Hz
that this process publishes and receives.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the checkout's modules

import rclpy
from geometry_msgs.msg import Twist, Vector3
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

from proxqa_ros.msg import ImageHealth, ObjectDepth, ObjectDepthArray

NODE = "import sys; from proxqa_ros.governor.node import main; sys.exit(main())"
PARAMETERS = ("max_depths_age:=5.0", "command_timeout:=5.0", "sigmas:=0.0", "max_speed:=1.0")
FAR_M, NEAR_M = 9.0, 0.4
TIMEOUT_S = 30.0


class Bench:
    """What stands before and behind the governor."""

    def __init__(self) -> None:
        self.node = rclpy.create_node("stop_latency")
        self.came = threading.Event()
        self.speed, self.arrived_s = math.nan, math.nan
        self.node.create_subscription(Twist, "cmd_vel", self._on_command, 10)
        self.depths = self.node.create_publisher(ObjectDepthArray, "object_depths", 10)
        self.commands = self.node.create_publisher(Twist, "cmd_vel_in", 10)
        self.images = self.node.create_publisher(Image, "stream", qos_profile_sensor_data)
        self.node.create_subscription(Image, "stream", lambda _: None, qos_profile_sensor_data)
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        threading.Thread(target=self._spin, daemon=True).start()

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            while rclpy.ok():
                self.executor.spin_once(0.1)

    def _on_command(self, message: Twist) -> None:
        self.speed, self.arrived_s = message.linear.x, time.perf_counter()
        self.came.set()

    def see(self, distance_m: float) -> None:
        """Report a person at a distance, now."""
        person = ObjectDepth(name="person", depth=0.5, depth_stddev=0.1, score=0.9, distance=distance_m)
        person.distance_stddev = 0.0
        health = ImageHealth(status=ImageHealth.OK, exposure=0.5, contrast=0.2, sharpness=0.3, change=0.01)
        message = ObjectDepthArray(objects=[person], image_health=health)
        message.header.stamp = self.node.get_clock().now().to_msg()
        self.depths.publish(message)

    def until(self, stopped: bool) -> None:
        """Wait for a command that is a stop, or is none."""
        end_s = time.monotonic() + TIMEOUT_S
        while (self.speed == 0.0) != stopped or math.isnan(self.speed):
            if not self.came.wait(max(0.0, end_s - time.monotonic())):
                raise SystemExit("stop_latency: the governor does not answer")
            self.came.clear()

    def stop_once(self) -> float:
        """Drive, see a person, and measure until the zero command; seconds."""
        self.see(FAR_M)
        self.commands.publish(Twist(linear=Vector3(x=0.5)))
        self.until(stopped=False)
        time.sleep(0.02)
        self.came.clear()
        begun_s = time.perf_counter()
        self.see(NEAR_M)
        self.until(stopped=True)
        return self.arrived_s - begun_s


def stream(bench: Bench, stop: threading.Event) -> None:
    """720p images at 30 Hz until `stop`."""
    image = Image(height=720, width=1280, encoding="rgb8", step=3 * 1280)
    image.data = np.random.default_rng(0).integers(0, 255, 720 * 1280 * 3, np.uint8).tobytes()
    while not stop.wait(1 / 30):
        bench.images.publish(image)


def measure(bench: Bench, stops: int) -> dict[str, float]:
    """p50, p99 and the worst of some stops, milliseconds."""
    times = 1000 * np.array([bench.stop_once() for _ in range(stops)])
    return {
        "p50_ms": float(np.percentile(times, 50)),
        "p99_ms": float(np.percentile(times, 99)),
        "max_ms": float(times.max()),
    }


def main(argv: list[str] | None = None) -> int:
    """Measure; the exit code."""
    parser = argparse.ArgumentParser(description="How long the speed governor takes to stop a robot.")
    parser.add_argument("--stops", type=int, default=200, help="how many are measured each way (200)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    options = parser.parse_args(argv)
    command = [sys.executable, "-c", NODE, "--ros-args", *(x for p in PARAMETERS for x in ("-p", p))]
    environment = dict(os.environ, PYTHONPATH=str(Path(__file__).resolve().parents[1]))
    rclpy.init()
    report: dict[str, Any] = {"stops": options.stops}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            bench = Bench()
            end_s = time.monotonic() + TIMEOUT_S
            while not bench.commands.get_subscription_count() and time.monotonic() < end_s:
                time.sleep(0.1)
            time.sleep(1.0)
            report["alone"] = measure(bench, options.stops)
            stop = threading.Event()
            threading.Thread(target=stream, args=(bench, stop), daemon=True).start()
            report["beside 720p at 30 Hz"] = measure(bench, options.stops)
            stop.set()
        finally:
            process.terminate()
            rclpy.try_shutdown()
    for name, figures in report.items():
        print(name, figures)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
