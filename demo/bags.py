"""Reading bags for the demo: which image topic, its frames, the truth that goes with them.

Promises: any rosbag2 (sqlite3 or mcap, compressed or not) is read without ROS's own bag tools, and what cannot be used
is refused with one line that says what there is instead. Knows nothing of nodes or of models.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from rclpy.serialization import deserialize_message
from rosbags.rosbag2 import Reader, ReaderError
from sensor_msgs.msg import CompressedImage, Image

from proxqa_ros.msg import ObjectDepthArray

IMAGE_TYPES = {"sensor_msgs/msg/Image": Image, "sensor_msgs/msg/CompressedImage": CompressedImage}
TRUTH_TYPE = "proxqa_ros/msg/ObjectDepthArray"
DEPTH_ENCODINGS = ("16UC1", "32FC1")


class DemoError(Exception):
    """Why the demo cannot go on, in one line."""


@dataclass(frozen=True)
class ImageTopic:
    """A topic of colour or grey images. kind: Image or CompressedImage."""

    name: str
    kind: type
    count: int


@dataclass(frozen=True)
class Frame:
    """An image message and when it was recorded, in nanoseconds."""

    time: int
    message: Any

    @property
    def stamp(self) -> int:
        """The header's stamp in nanoseconds."""
        return stamp_of(self.message.header.stamp)


def stamp_of(stamp: Any) -> int:
    """A builtin_interfaces/Time in nanoseconds."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


class Bag:
    """An open bag; use it in a `with`. Raises DemoError where it cannot be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            raise DemoError(f"BAG {str(path)!r} does not exist; expected the folder of a rosbag2")
        try:
            self._reader = Reader(path)
            self._reader.open()
        except (ReaderError, OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise DemoError(f"BAG {str(path)!r} cannot be read: {reason}; expected the folder of a rosbag2") from error

    def __enter__(self) -> Bag:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._reader.close()

    def image_topics(self) -> list[ImageTopic]:
        """The topics with colour or grey images, by name; depth images are left out."""
        found = []
        for connection in self._reader.connections:
            kind = IMAGE_TYPES.get(connection.msgtype)
            if kind is not None and connection.msgcount:
                first = next(self._messages(connection.topic, kind))
                if not _is_depth(first.message):
                    found.append(ImageTopic(connection.topic, kind, connection.msgcount))
        return sorted(found, key=lambda t: t.name)

    def choose(self, wanted: str) -> ImageTopic:
        """The image topic of that name, or with '' the only one. DemoError with the choices otherwise."""
        topics = self.image_topics()
        if not topics:
            raise DemoError(f"BAG {str(self.path)!r} has no colour images; its topics: {self._said_topics()}")
        choices = ", ".join(f"{t.name} ({t.count} images)" for t in topics)
        if not wanted and len(topics) > 1:
            raise DemoError(f"BAG {str(self.path)!r} has several image topics; choose one with TOPIC=…: {choices}")
        chosen = [t for t in topics if not wanted or t.name.lstrip("/") == wanted.lstrip("/")]
        if not chosen:
            raise DemoError(f"BAG {str(self.path)!r} has no image topic {wanted!r}; choose one with TOPIC=…: {choices}")
        return chosen[0]

    def frames(self, topic: ImageTopic, seconds: float) -> Iterator[Frame]:
        """The images of a topic in the order recorded, those of its first seconds."""
        start = None
        for frame in self._messages(topic.name, topic.kind):
            start = frame.time if start is None else start
            if frame.time - start > seconds * 1e9:
                return
            yield frame

    def truth(self) -> dict[int, ObjectDepthArray]:
        """The true depths of objects by image stamp (ns); empty where the bag holds none."""
        found = {}
        for connection in self._reader.connections:
            if connection.msgtype == TRUTH_TYPE and "ground_truth" in connection.topic:
                for frame in self._messages(connection.topic, ObjectDepthArray):
                    found[frame.stamp] = frame.message
        return found

    def _messages(self, topic: str, kind: type) -> Iterator[Frame]:
        connections = [c for c in self._reader.connections if c.topic == topic]
        for _, time, raw in self._reader.messages(connections):
            yield Frame(time, deserialize_message(bytes(raw), kind))

    def _said_topics(self) -> str:
        return ", ".join(f"{c.topic} ({c.msgtype})" for c in self._reader.connections) or "none"


def _is_depth(message: Any) -> bool:
    if isinstance(message, Image):
        return message.encoding in DEPTH_ENCODINGS
    return "compressedDepth" in message.format or message.format.startswith(DEPTH_ENCODINGS)


def names_in(truth: Sequence[ObjectDepthArray], most: int) -> list[str]:
    """The names that most of these messages hold, at most `most` of them, the most frequent first."""
    counts = Counter(o.name for array in truth for o in array.objects)
    return sorted(counts, key=lambda name: (-counts[name], name))[:most]
