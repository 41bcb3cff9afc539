"""Plays frames of a bag into ROS as a camera would, together with the bag's clock.

Promises: images go out unchanged, header and all, at the pace in which they were recorded; `/clock` follows the stamps
in their headers, so a node with `use_sim_time` sees images of the right age. Knows nothing of who listens.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from builtin_interfaces.msg import Time
from rclpy.node import Node
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from rosgraph_msgs.msg import Clock

from demo.bags import Frame, ImageTopic

TICK = 0.02
"""Most seconds between two messages on /clock."""


class Player:
    """Publishers of one image topic and of /clock on a node."""

    def __init__(self, node: Node, topic: ImageTopic) -> None:
        qos = QoSProfile(depth=5, reliability=QoSReliabilityPolicy.RELIABLE)
        self._images = node.create_publisher(topic.kind, topic.name, qos)
        self._clock = node.create_publisher(Clock, "/clock", 10)

    def has_listeners(self) -> bool:
        """Whether somebody listens to the images and to the clock."""
        return self._images.get_subscription_count() > 0 and self._clock.get_subscription_count() > 0

    def play(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Publish the frames at their own pace; gives each one back once it is out. The clock never runs backwards."""
        started = first = shown = None
        for frame in frames:
            if started is None:
                started, first, shown = time.monotonic(), frame.time, frame.stamp
            due = started + (frame.time - first) / 1e9
            ticked = time.monotonic()
            while (wait := due - time.monotonic()) > 0:
                time.sleep(min(wait, TICK))
                self._tick(min(shown + int((time.monotonic() - ticked) * 1e9), max(shown, frame.stamp)))
            shown = max(shown, frame.stamp)
            self._tick(shown)
            self._images.publish(frame.message)
            yield frame

    def _tick(self, stamp: int) -> None:
        self._clock.publish(Clock(clock=Time(sec=stamp // 1_000_000_000, nanosec=stamp % 1_000_000_000)))
