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

CLOCK_PERIOD_S = 0.02
"""Most seconds between two messages on /clock."""


@dataclass(frozen=True)
class Channel:
    """Where a recorded topic goes out.

    Args:
        name: The topic's name.
        kind: The class of its messages.
    """

    name: str
    kind: type


class Player:
    """Publishers of some topics and of /clock on a node.

    Args:
        node: The node to publish with.
        channels: Where the messages go out, by the name under which their topic was recorded.
    """

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
        """Destroy the publishers; the player is of no use then."""
        for publisher in (*self._publishers.values(), self._clock):
            self._node.destroy_publisher(publisher)

    def has_listeners(self) -> bool:
        """Whether somebody subscribes to every topic and to the clock."""
        return all(map(self.is_heard, self._publishers)) and self.clock_is_heard()

    def is_heard(self, recorded: str) -> bool:
        """Whether somebody subscribes to a topic, by the name it was recorded under."""
        return bool(self._publishers[recorded].get_subscription_count() > 0)

    def clock_is_heard(self) -> bool:
        """Whether somebody subscribes to /clock."""
        return bool(self._clock.get_subscription_count() > 0)

    def topic_name(self, recorded: str) -> str:
        """The full name of the topic on which what was recorded goes out."""
        return str(self._publishers[recorded].topic_name)

    def play(
        self,
        messages: Iterable[Recorded],
        rate: float = 1.0,
        canceled: Callable[[], bool] = lambda: False,
        before: Callable[[Recorded], None] = lambda _: None,
    ) -> Iterator[Recorded]:
        """Publish the messages at a multiple of their own pace.

        The clock never runs backwards here; playing once more sets it back.

        Args:
            messages: In order of their time.
            rate: So many times faster than recorded.
            canceled: Asked at every step of the clock; true = stop.
            before: Called with a message the moment before it goes out.

        Yields:
            Each message once it is out.
        """
        pace: _Pace | None = None
        for message in messages:
            pace = pace or _Pace(message, rate)
            waited_from = time.monotonic()
            while (wait := pace.due(message) - time.monotonic()) > 0 and not canceled():
                time.sleep(min(wait, CLOCK_PERIOD_S))
                self._publish_clock(pace.clock_ns(message, time.monotonic() - waited_from))
            if canceled():
                return
            pace.stamp_ns = max(pace.stamp_ns, message.stamp)
            self._publish_clock(pace.stamp_ns)
            before(message)
            self._publishers[message.topic].publish(message.raw)
            yield message

    def _publish_clock(self, stamp: int) -> None:
        self._clock.publish(Clock(clock=Time(sec=stamp // 1_000_000_000, nanosec=stamp % 1_000_000_000)))


class _Pace:
    """When messages are due on the steady clock, and what /clock shows until then.

    Attributes:
        stamp_ns: The latest stamp so far.
    """

    def __init__(self, first: Recorded, rate: float) -> None:
        self._started, self._first_ns, self._rate = time.monotonic(), first.time, rate
        self.stamp_ns = first.stamp

    def due(self, message: Recorded) -> float:
        """Seconds of the steady clock."""
        return self._started + (message.time - self._first_ns) / 1e9 / self._rate

    def clock_ns(self, message: Recorded, waited_s: float) -> int:
        """What /clock shows so long after the wait for a message began: never past the message's own stamp."""
        return min(self.stamp_ns + int(waited_s * 1e9 * self._rate), max(self.stamp_ns, message.stamp))
