"""What a storage file of a bag holds, whichever format it has.

Promises: a file is scanned once when it is opened, without its messages being kept; messages are then read one by one.
What is damaged or cut is said in `problems`, the rest is read.
"""

from __future__ import annotations

import re
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

MAX_TIME_NS = 2**63 - 1


@dataclass(frozen=True)
class Channel:
    """A channel of a storage file; several may have one topic.

    Attributes:
        topic: Such as /camera/image_raw.
        kind: Its message type, such as sensor_msgs/msg/Image; '' = not given.
        encoding: Of its messages; ROS 2 has "cdr".
        definition: Of its type, in the language of .msg files; '' = not given.
        digest: The hash of its type (REP 2011), '' = not given.
    """

    topic: str
    kind: str
    encoding: str = "cdr"
    definition: str = ""
    digest: str = ""


class StorageFile(Protocol):
    """An open file of messages.

    Attributes:
        path: Of the file.
        channels: By their ids in the file.
        problems: What of the file cannot be read, one line each.
    """

    path: Path
    channels: dict[int, Channel]
    problems: list[str]

    def index(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """When each message was recorded (ns) and the id of its channel, in the order stored."""
        ...

    def read(self, number: int) -> bytes:
        """A message as it is stored.

        Args:
            number: Its number in the index.

        Raises:
            StorageError: It is damaged.
        """
        ...

    def close(self) -> None:
        """Close the file."""
        ...


class Index:
    """Where messages are: one entry each, in the order stored. Arrays, since a bag has millions."""

    def __init__(self) -> None:
        self.times, self.channels = array("q"), array("q")
        self.blocks, self.offsets = array("q"), array("q")

    def __len__(self) -> int:
        return len(self.times)

    def add(self, time: int, channel: int, block: int, offset: int) -> None:
        """Add a message. time: in ns. block, offset: where it is, in the terms of its format."""
        self.times.append(max(-MAX_TIME_NS, min(time, MAX_TIME_NS)))
        self.channels.append(channel)
        self.blocks.append(block)
        self.offsets.append(offset)

    def pop(self) -> None:
        """Take the last message away."""
        for column in (self.times, self.channels, self.blocks, self.offsets):
            column.pop()

    def arrays(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Times and channels, int64 [messages]."""
        return np.array(self.times, np.int64), np.array(self.channels, np.int64)


def type_name(name: str) -> str:
    """A message type as ROS 2 writes it: sensor_msgs/msg/Image, of sensor_msgs/Image and sensor_msgs::msg::Image."""
    name = name.replace("::", "/")
    return re.sub(r"^(\w+)/(\w+)$", r"\1/msg/\2", name)
