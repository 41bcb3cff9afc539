"""Plays recorded messages into ROS as a camera would, together with the recording's clock.

Promises: messages go out byte for byte as they were recorded, header and all, at the pace in which they were recorded
or a multiple of it; `/clock` follows the stamps in their headers, so a node with `use_sim_time` sees images of the
right age. Only where a recording is played again does the clock jump back. Knows nothing of who listens.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from builtin_interfaces.msg import Time
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.node import Node
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from rosgraph_msgs.msg import Clock

from proxqa_core.rosbags.bag import Recorded

TICK = 0.02
"""Most seconds between two messages on /clock."""


@dataclass(frozen=True)
class Channel:
    """Where a recorded topic goes out: the topic's name and the message's class."""

    name: str
    kind: type


class Player:
    """Publishers of some topics and of /clock on a node. channels: by the name under which a topic was recorded."""

    def __init__(self, node: Node, channels: Mapping[str, Channel]) -> None:
        self._node = node
        self._publishers = {recorded: self._publisher(c.kind, c.name, 5) for recorded, c in channels.items()}
        self._clock = self._publisher(Clock, "/clock", 10)

    def _publisher(self, kind: type, topic: str, depth: int) -> Any:
        qos = QoSProfile(depth=depth, reliability=QoSReliabilityPolicy.RELIABLE)
        # no event handlers: a player may be closed while an executor spins, and rclpy 9 stumbles over those
        events = PublisherEventCallbacks(use_default_callbacks=False)
        return self._node.create_publisher(kind, topic, qos, event_callbacks=events)

    def close(self) -> None:
        """Take the publishers away; the player is of no use then."""
        for publisher in (*self._publishers.values(), self._clock):
            self._node.destroy_publisher(publisher)

    def has_listeners(self) -> bool:
        """Whether somebody listens to every topic and to the clock."""
        return all(map(self.is_heard, self._publishers)) and self.clock_is_heard()

    def is_heard(self, recorded: str) -> bool:
        """Whether somebody listens to a topic, by the name it was recorded under."""
        return bool(self._publishers[recorded].get_subscription_count() > 0)

    def clock_is_heard(self) -> bool:
        """Whether somebody goes by /clock."""
        return self._clock.get_subscription_count() > 0

    def topic_name(self, recorded: str) -> str:
        """The full name of the topic on which what was recorded goes out."""
        return str(self._publishers[recorded].topic_name)

    def play(
        self,
        messages: Iterable[Recorded],
        rate: float = 1.0,
        ended: Callable[[], bool] = lambda: False,
        before: Callable[[Recorded], None] = lambda _: None,
    ) -> Iterator[Recorded]:
        """Publish the messages at `rate` times their own pace; gives each one back once it is out.

        The clock never runs backwards here; playing once more sets it back. ended: asked at every tick, true = stop.
        before: called with a message the moment before it goes out.
        """
        started = first = shown = None
        for message in messages:
            if started is None:
                started, first, shown = time.monotonic(), message.time, message.stamp
            due = started + (message.time - first) / 1e9 / rate
            ticked = time.monotonic()
            while (wait := due - time.monotonic()) > 0 and not ended():
                time.sleep(min(wait, TICK))
                passed = int((time.monotonic() - ticked) * 1e9 * rate)
                self._tick(min(shown + passed, max(shown, message.stamp)))
            if ended():
                return
            shown = max(shown, message.stamp)
            self._tick(shown)
            before(message)
            self._publishers[message.topic].publish(message.raw)
            yield message

    def _tick(self, stamp: int) -> None:
        self._clock.publish(Clock(clock=Time(sec=stamp // 1_000_000_000, nanosec=stamp % 1_000_000_000)))
