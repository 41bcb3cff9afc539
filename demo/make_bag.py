"""`python -m demo.make_bag DRIVE BAG`: a rendered drive (`proxqa_training.scenes.drive`) as a rosbag2.

Promises: the same drive gives the same messages and stamps; every rosbag2 of ROS 2 Jazzy and later plays it (sqlite3,
no compression, types described inside); truth and images of one frame share one stamp. Knows nothing of the model.

Topics, all in frame `camera_optical_frame`:
    /camera/image_raw/compressed   sensor_msgs/CompressedImage, JPEG, every frame
    /camera/camera_info            sensor_msgs/CameraInfo, every frame
    /camera/depth/image_raw        sensor_msgs/Image, 16UC1, mm (65535 = 65.5 m or farther), every DEPTH_EVERY-th frame
    /ground_truth/object_depths    proxqa_ros/ObjectDepthArray, every frame: what is well visible, as rendered
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from builtin_interfaces.msg import Time
from rclpy.serialization import serialize_message
from rosbags.rosbag2 import StoragePlugin, Writer
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from proxqa_core.errors import BadImageError
from proxqa_core.rosbags.bag import typestore
from proxqa_core.stamps import nanoseconds
from proxqa_core.types import Box
from proxqa_core.vision.image_file import read_raw
from proxqa_core.vision.image_health import ImageHealth
from proxqa_ros.common.conversions import box_to_region, health_to_message
from proxqa_ros.msg import ObjectDepth, ObjectDepthArray

FRAME_ID = "camera_optical_frame"
START_NS = 1_767_225_600_000_000_000
"""Stamp of the drive's time 0: 2026-01-01 00:00:00 UTC."""
DEPTH_EVERY = 3
IMAGE, INFO = "/camera/image_raw/compressed", "/camera/camera_info"
DEPTH, TRUTH = "/camera/depth/image_raw", "/ground_truth/object_depths"


def header_of(time: float) -> Header:
    """The header of the frame at a time of the drive, in seconds."""
    stamp = START_NS + round(time * 1e9)
    return Header(stamp=Time(sec=stamp // 1_000_000_000, nanosec=stamp % 1_000_000_000), frame_id=FRAME_ID)


def info_of(header: Header, size: Sequence[int], intrinsics: Sequence[float]) -> CameraInfo:
    """An ideal pinhole camera. intrinsics: fx, fy, cx, cy in pixels."""
    fx, fy, cx, cy = map(float, intrinsics)
    info = CameraInfo(header=header, width=size[0], height=size[1], distortion_model="plumb_bob", d=[0.0] * 5)
    info.k = [fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0]
    info.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    info.p = [fx, 0.0, cx, 0.0, 0.0, fy, cy, 0.0, 0.0, 0.0, 1.0, 0.0]
    return info


def depth_of(header: Header, file: Path) -> Image:
    """A 16-bit depth PNG (mm) as 16UC1."""
    millimetres = read_raw(file)
    height, width = millimetres.shape
    message = Image(header=header, height=height, width=width, encoding="16UC1", step=2 * width, is_bigendian=0)
    message.data = millimetres.astype("<u2").tobytes()
    return message


def truth_of(header: Header, objects: Sequence[dict[str, Any]]) -> ObjectDepthArray:
    """What the renderer knows of one frame; objects hardly visible in it are left out."""
    array = ObjectDepthArray(header=header, model="ground truth", image_health=health_to_message(ImageHealth()))
    for o in objects:
        if o["labelled"]:
            found = ObjectDepth(name=o["name"], region=box_to_region(Box(*o["box"])), score=1.0, text="rendered")
            found.depth, found.distance = float(o["depth"]), float(o["depth_m"])
            array.objects.append(found)
    return array


def messages_of(drive: Path) -> Iterator[tuple[str, Any]]:
    """(topic, message) of a drive folder, in order of time."""
    about = json.loads((drive / "poses.json").read_text())
    maps = {r["image"]: r["depth_map"] for r in json.loads((drive / "annotations.json").read_text())}
    for i, frame in enumerate(about["frames"]):
        header = header_of(frame["time"])
        jpeg = (drive / frame["image"]).read_bytes()
        yield IMAGE, CompressedImage(header=header, format="rgb8; jpeg compressed bgr8", data=jpeg)
        yield INFO, info_of(header, about["size"], about["intrinsics"])
        if i % DEPTH_EVERY == 0:
            yield DEPTH, depth_of(header, drive / maps[frame["image"]])
        yield TRUTH, truth_of(header, frame["objects"])


def write(messages: Iterable[tuple[str, Any]], bag: Path) -> int:
    """Write a bag, in the place of an older one.

    Args:
        messages: (topic, message) pairs; a message's header stamp is the time at which it counts as recorded.
        bag: The folder to write.

    Returns:
        The number of messages.
    """
    store, count = typestore(), 0
    connections: dict[str, Any] = {}
    bag.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".bag-", dir=bag.parent) as work:
        part = Path(work) / bag.name  # the file inside is named after the folder
        with Writer(part, version=9, storage_plugin=StoragePlugin.SQLITE3) as writer:
            for topic, message in messages:
                if topic not in connections:
                    kind = type(message)
                    name = f"{kind.__module__.partition('.')[0]}/msg/{kind.__name__}"
                    connections[topic] = writer.add_connection(topic, name, typestore=store)
                writer.write(connections[topic], nanoseconds(message.header.stamp), serialize_message(message))
                count += 1
        shutil.rmtree(bag, ignore_errors=True)
        part.rename(bag)
    return count


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code: 0, or 2 where the drive cannot be used."""
    p = argparse.ArgumentParser(prog="python -m demo.make_bag", description="A rendered drive as a rosbag2.")
    p.add_argument("drive", type=Path, help="folder that `proxqa train drive --out` made")
    p.add_argument("bag", type=Path, help="folder to write; an older bag there is replaced")
    args = p.parse_args(argv)
    for name in ("poses.json", "annotations.json"):
        if not (args.drive / name).is_file():
            print(f"make_bag: {str(args.drive)!r} has no {name}; expected a rendered drive", file=sys.stderr)
            return 2
    try:
        count = write(messages_of(args.drive), args.bag)
    except (BadImageError, OSError, KeyError, ValueError) as error:
        print(f"make_bag: {str(args.drive)!r} is no whole drive: {error!r}", file=sys.stderr)
        return 2
    print(f"{count} messages in {args.bag}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
