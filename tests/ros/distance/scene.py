"""A small scene for the tests of distances: four objects side by side, as far as the fake engine's depths say."""

from __future__ import annotations

import io
import struct

import numpy as np
from builtin_interfaces.msg import Time
from PIL import Image as PilImage
from sensor_msgs.msg import CompressedImage, Image, Range, RegionOfInterest
from std_msgs.msg import Header

from proxqa_core.types import Box, ObjectDepth
from proxqa_ros.common.stamps import nanoseconds
from proxqa_ros.distance.source import FrameContext
from tests.ros.common.test_conversions import rvl

NAMES = ["dog", "hat", "mug", "rug"]
"""Relative depths of 3, 7, 12 and 17 in 26, side by side in the image."""
REGIONS = [RegionOfInterest(x_offset=16 * n, y_offset=8, width=16, height=32) for n in range(4)]


def relative(name):
    return (ord(name[0]) - 97) / 26


def true_metres(name):
    return 1 / (1.0 - 0.9 * relative(name))


def stamp(seconds: float) -> Time:
    return Time(sec=int(seconds // 1), nanosec=round(seconds % 1 * 1e9))


def header(seconds: float = 5.0, frame_id: str = "camera") -> Header:
    return Header(stamp=stamp(seconds), frame_id=frame_id)


def depth_image(of: Header, encoding: str = "32FC1", scale: int = 1) -> Image:
    """The objects' true metres in their regions, nothing elsewhere; a quarter of every region is a hole."""
    metres = np.full((48 * scale, 64 * scale), np.nan, np.float32)
    for name, r in zip(NAMES, REGIONS, strict=True):
        x, y = scale * r.x_offset, scale * r.y_offset
        metres[y : y + scale * r.height, x : x + scale * r.width] = true_metres(name)
        metres[y : y + scale * r.height // 2, x : x + scale * r.width // 2] = np.nan
    if encoding == "16UC1":
        metres = np.nan_to_num(metres * 1000).round().astype("<u2")
    message = Image(header=of, height=metres.shape[0], width=metres.shape[1], encoding=encoding)
    message.step, message.data = metres.strides[0], metres.tobytes()
    return message


def compressed_depth_image(of: Header, transport: str, encoding: str) -> CompressedImage:
    """`depth_image` as image_transport's plugins send it: a PNG alone, or compressedDepth with PNG or RVL inside."""
    raw = depth_image(of, encoding)
    kind = "<f4" if encoding == "32FC1" else "<u2"
    stored = np.frombuffer(bytes(raw.data), kind).reshape(raw.height, raw.width)
    header, inside = b"", transport
    if transport != "png":
        header = struct.pack("<iff", 0, *((10000.0, 1.0) if encoding == "32FC1" else (0.0, 0.0)))
    if encoding == "32FC1":  # inverse depth, as the plugin quantises it
        stored = np.where(np.isfinite(stored), 10000.0 / np.nan_to_num(stored, nan=1.0) + 1.0, 0).round().astype("<u2")
    if inside == "compressedDepth rvl":
        data = rvl(np.ascontiguousarray(stored, np.uint16))
    else:
        buffer = io.BytesIO()
        PilImage.fromarray(stored.astype(np.uint16)).save(buffer, "PNG")
        data = buffer.getvalue()
    return CompressedImage(header=of, format=f"{encoding}; {transport} ", data=header + data)


def reading(of: Header, metres: float) -> Range:
    return Range(header=of, radiation_type=Range.INFRARED, min_range=0.1, max_range=8.0, range=metres)


def seen(name: str, region: RegionOfInterest | None = None, score: float = 0.9) -> ObjectDepth:
    r = region
    box = r and Box(r.x_offset, r.y_offset, r.x_offset + r.width, r.y_offset + r.height)
    return ObjectDepth(name, relative(name), 0.01, score, "", box)


def all_seen():
    return [seen(n, r) for n, r in zip(NAMES, REGIONS, strict=True)]


def shifted(now: Time, offset: float) -> Header:
    """A header of that many seconds later, at most 1."""
    ns = nanoseconds(now) + round(offset * 1e9)
    return Header(stamp=Time(sec=ns // 10**9, nanosec=ns % 10**9), frame_id="camera")


def frame(of: Header, objects, **fields) -> FrameContext:
    """An image of 64x48 pixels with these objects."""
    return FrameContext(of, 64, 48, tuple(objects), **fields)
