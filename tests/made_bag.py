"""Bags written without ROS, for tests of what reads them."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from proxqa_core.rosbags.bag import COMPRESSED, RAW, TRUTH_TYPE, typestore

WIDTH, HEIGHT = 64, 48
START, PERIOD = 1000 * 10**9, 10**8
IMAGES, DEPTHS, TRUTH = "/camera/image_raw", "/camera/depth", "/ground_truth/object_depths"
STORE = typestore()
REGIONS = {"chair": (4, 20, 16, 24), "table": (24, 10, 16, 24), "lamp": (44, 2, 16, 24)}
"""x, y, width, height of what is in every image."""

Message = tuple[str, int, Any]
"""topic, stamp, message."""


def _types(*names: str) -> list[Any]:
    return [STORE.types[name] for name in names]


Time, Header, RawImage, CompressedImage, Region, Health, Depth, Depths = _types(
    "builtin_interfaces/msg/Time",
    "std_msgs/msg/Header",
    RAW,
    COMPRESSED,
    "sensor_msgs/msg/RegionOfInterest",
    "proxqa_ros/msg/ImageHealth",
    "proxqa_ros/msg/ObjectDepth",
    TRUTH_TYPE,
)


def header(stamp: int) -> Any:
    return Header(Time(stamp // 10**9, stamp % 10**9), "camera")


def picture(i: int = 0) -> np.ndarray:
    """Noise of one shade for every frame."""
    return np.random.default_rng(i).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def raw(stamp: int, pixels: np.ndarray | None = None, encoding: str = "rgb8") -> Any:
    pixels = picture() if pixels is None else pixels
    height, width = pixels.shape[:2]
    data = np.frombuffer(np.ascontiguousarray(pixels).tobytes(), np.uint8)
    return RawImage(header(stamp), height, width, encoding, 0, len(data) // height, data)


def compressed(stamp: int, pixels: np.ndarray | None = None, format_: str = "jpeg") -> Any:
    out = io.BytesIO()
    Image.fromarray(picture() if pixels is None else pixels).save(out, "JPEG")
    return CompressedImage(header(stamp), format_, np.frombuffer(out.getvalue(), np.uint8))


def compressed_depth(stamp: int, metres: np.ndarray) -> Any:
    ok, png = cv2.imencode(".png", np.round(metres * 1000).astype(np.uint16))
    assert ok
    data = np.frombuffer(bytes(12) + png.tobytes(), np.uint8)
    return CompressedImage(header(stamp), "16UC1; compressedDepth png", data)


def truth(stamp: int, objects: dict[str, tuple[float, float]], regions: bool = True) -> Any:
    """objects: name → relative depth, metres."""
    found = []
    for name, (depth, metres) in objects.items():
        x, y, width, height = REGIONS.get(name, (0, 0, 8, 8)) if regions else (0, 0, 0, 0)
        found.append(Depth(name, Region(x, y, height, width, False), depth, 0.0, metres, 0.0, 1.0, ""))
    return Depths(header(stamp), "truth", Health(0, np.nan, np.nan, np.nan, np.nan), found)


def depth_map(objects: dict[str, float]) -> np.ndarray:
    """Metres: 4 m everywhere but in the regions of these objects."""
    metres = np.full((HEIGHT, WIDTH), 4.0, np.float32)
    for name, distance in objects.items():
        x, y, width, height = REGIONS[name]
        metres[y : y + height, x : x + width] = distance
    return metres


def write(
    path: Path,
    messages: Iterable[Message | tuple[str, int, str, bytes]],
    storage: str = "sqlite3",
    compression: str = "",
) -> Path:
    """A bag of messages, recorded at their stamps. (topic, stamp, type, bytes): written as they are."""
    plugin = {"sqlite3": StoragePlugin.SQLITE3, "mcap": StoragePlugin.MCAP}[storage]
    connections: dict[tuple[str, str], Any] = {}
    writer = Writer(path, version=9, storage_plugin=plugin)
    if compression:
        writer.set_compression(CompressionMode[compression], CompressionFormat.ZSTD)
    with writer:
        for topic, stamp, *rest in messages:
            content: Any = rest[0]
            kind = str(rest[0] if len(rest) == 2 else content.__msgtype__)
            if (topic, kind) not in connections:
                connections[topic, kind] = writer.add_connection(topic, kind, typestore=STORE)
            data: Any = rest[1] if len(rest) == 2 else STORE.serialize_cdr(content, kind)
            writer.write(connections[topic, kind], stamp, data)
    return path


def drive(frames: int = 6, objects: Sequence[dict[str, tuple[float, float]]] | None = None) -> list[Message]:
    """Images with labels and, at every other one, depth: a chair at 1 m, a table at 2 m, a lamp at 3 m."""
    still = {"chair": (0.1, 1.0), "table": (0.6, 2.0), "lamp": (0.8, 3.0)}
    found: list[Message] = []
    for i in range(frames):
        stamp = START + i * PERIOD
        there = still if objects is None else objects[i % len(objects)]
        found.append((IMAGES, stamp, raw(stamp, picture(i))))
        found.append((TRUTH, stamp, truth(stamp, there)))
        if i % 2 == 0:
            metres = depth_map({name: metres for name, (_, metres) in there.items()})
            found.append((DEPTHS, stamp + 10**6, raw(stamp + 10**6, metres, "32FC1")))
    return found
