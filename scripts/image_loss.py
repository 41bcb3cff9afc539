#!/usr/bin/env python3
"""How many camera images are lost on their way, by the size of Fast DDS's shared-memory segment.

Promises: a publisher and a subscriber as two processes on this machine, best effort as a camera's, images of a given
size at a given rate; what is printed is one line per segment size. A small /dev/shm is tried where mounting is
permitted (root, or a user namespace). With --one-by-one an image is sent once the one before has arrived, or four
seconds later: what is lost then is lost by the transport and not for want of time, however busy the machine is.

    .venv/bin/python scripts/image_loss.py --segment-mb 8 16 32 --width 1920 --height 1080
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the checkout's modules

import rclpy
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
from std_msgs.msg import Empty

from proxqa_ros.common.qos import NEWEST_BEST_EFFORT, RELIABLE
from proxqa_ros.testing.domain import fastdds_profile, own_domain
from proxqa_ros.testing.process import node_environment

MATCH_TIMEOUT_S = 30.0
"""Seconds until publisher and subscriber must have found each other."""
SILENCE_S = 3.0
"""Seconds without an image after which the subscriber takes the stream for ended."""
ARRIVAL_TIMEOUT_S = 4.0
"""Seconds after which an image sent one by one is taken for lost."""


def publish(width: int, height: int, hz: float, seconds: float, one_by_one: bool) -> None:
    """Publish images once somebody listens; prints how many."""
    rclpy.init()
    node = rclpy.create_node("image_source")
    publisher = node.create_publisher(Image, "image", qos_profile_sensor_data)
    message = Image(width=width, height=height, step=3 * width, encoding="rgb8")
    message.data = b"\xc8" * (3 * width * height)
    arrived = 0

    def on_arrival(_: Empty) -> None:
        nonlocal arrived
        arrived += 1

    node.create_subscription(Empty, "arrived", on_arrival, RELIABLE)
    end = time.monotonic() + MATCH_TIMEOUT_S
    while publisher.get_subscription_count() == 0 and time.monotonic() < end:
        time.sleep(0.02)
    time.sleep(1.0)
    started, count = time.monotonic(), round(hz * seconds)
    for n in range(count):
        time.sleep(max(0.0, started + n / hz - time.monotonic()))
        before, given_up = arrived, time.monotonic() + ARRIVAL_TIMEOUT_S
        publisher.publish(message)
        while one_by_one and arrived == before and time.monotonic() < given_up:
            rclpy.spin_once(node, timeout_sec=0.1)
    print(json.dumps({"sent": count, "seconds": time.monotonic() - started}), flush=True)
    time.sleep(SILENCE_S)
    rclpy.shutdown()


def receive() -> None:
    """Count images until they end; prints how many."""
    rclpy.init()
    node = rclpy.create_node("image_sink")
    received, newest = 0, time.monotonic() + MATCH_TIMEOUT_S

    def on_image(_: Image) -> None:
        nonlocal received, newest
        received, newest = received + 1, time.monotonic()
        arrival.publish(Empty())

    arrival = node.create_publisher(Empty, "arrived", RELIABLE)
    node.create_subscription(Image, "image", on_image, NEWEST_BEST_EFFORT)
    while time.monotonic() < newest + SILENCE_S:
        rclpy.spin_once(node, timeout_sec=0.1)
    print(json.dumps({"received": received}), flush=True)
    rclpy.shutdown()


def profile_with(segment_bytes: int, folder: Path) -> Path:
    """The shipped profile with another segment size; the largest message is half of it."""
    text = fastdds_profile().read_text()
    text = re.sub(r"<segment_size>\d+<", f"<segment_size>{segment_bytes}<", text)
    text = re.sub(r"<maxMessageSize>\d+<", f"<maxMessageSize>{segment_bytes // 2}<", text)
    path = folder / "profile.xml"
    path.write_text(text)
    return path


def measure(segment_mb: float, args: argparse.Namespace) -> dict[str, float]:
    """One run: images sent and received, seconds."""
    with tempfile.TemporaryDirectory() as folder, own_domain() as domain:
        env = node_environment(domain)
        env["FASTDDS_DEFAULT_PROFILES_FILE"] = str(profile_with(round(segment_mb * 2**20), Path(folder)))
        this = [sys.executable, str(Path(__file__).resolve()), "--role"]
        numbers = [str(x) for x in (args.width, args.height, args.hz, args.seconds)]
        sizes = dict(zip(("--width", "--height", "--hz", "--seconds"), numbers, strict=True))
        flags = [x for pair in sizes.items() for x in pair] + ["--one-by-one"] * args.one_by_one
        sink = subprocess.Popen([*this, "sink"], env=env, stdout=subprocess.PIPE, text=True)
        source = subprocess.run([*this, "source", *flags], env=env, stdout=subprocess.PIPE, text=True, check=True)
        out, _ = sink.communicate(timeout=2 * MATCH_TIMEOUT_S)
        return {**json.loads(source.stdout.splitlines()[-1]), **json.loads(out.splitlines()[-1])}


def in_small_shm(size_mb: int) -> Sequence[str]:
    """The command prefix that gives a process a /dev/shm of its own, of that size."""
    return [
        "unshare",
        "-m",
        "sh",
        "-c",
        f'mount -t tmpfs -o size={size_mb}m,mode=1777 proxqa /dev/shm && exec "$@"',
        "sh",
    ]


def main() -> int:
    """Exit code 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--segment-mb", type=float, nargs="+", default=[8, 16, 32], help="segment sizes, 2^20 bytes")
    parser.add_argument("--width", type=int, default=1280, help="pixels")
    parser.add_argument("--height", type=int, default=720, help="pixels")
    parser.add_argument("--hz", type=float, default=30.0, help="images a second")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a run")
    parser.add_argument("--one-by-one", action="store_true", help="wait for each image's arrival, four seconds at most")
    parser.add_argument("--shm-mb", type=int, default=0, help="a /dev/shm of this size instead of the machine's")
    parser.add_argument("--role", choices=["all", "source", "sink"], default="all", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.role != "all":
        if args.role == "sink":
            receive()
        else:
            publish(args.width, args.height, args.hz, args.seconds, args.one_by_one)
        return 0
    if args.shm_mb and shutil.which("unshare"):
        flags = sys.argv[1:]
        at = flags.index("--shm-mb")
        del flags[at : at + 2]
        return subprocess.run([*in_small_shm(args.shm_mb), sys.executable, __file__, *flags]).returncode
    for size in args.segment_mb:
        run = measure(size, args)
        sent, received = int(run["sent"]), int(run["received"])
        took = f"{sent} sent in {run['seconds']:.1f} s"
        print(f"segment {size:g} MB: {took}, {received} received, {100 * (1 - received / sent):.1f} % lost", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
