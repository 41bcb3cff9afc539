"""Who publishes object_depths, and what the newest is that each of them saw.

Promises: every publisher is known by its own identity, so that a second one neither replaces nor hides the first; what
one of them saw ends with it; a message whose numbers cannot be true is kept as a problem, not passed over. Whatever a
robot's company would want to know (two publishers, two nodes of one name, a frame that changes) is one line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rclpy.node import Node

from proxqa_core.errors import BadObjectError
from proxqa_core.robot.speed_limits import Observation, merge
from proxqa_core.stamps import nanoseconds
from proxqa_core.types import clean_text
from proxqa_ros.common.conversions import message_to_health, message_to_object
from proxqa_ros.msg import ObjectDepthArray

Gid = bytes
MAX_SOURCES = 32
"""Publishers that are kept apart; more of them are no robot, and must not fill the memory."""
OTHERS: Gid = b"others"
"""Stands for all publishers beyond those."""


class Sources:
    """The newest observation of every publisher of a topic."""

    def __init__(self) -> None:
        self._held: dict[Gid, Observation] = {}
        self._frames: dict[Gid, list[str]] = {}

    @property
    def observations(self) -> list[Observation]:
        """One a publisher."""
        return list(self._held.values())

    @property
    def newest_stamp_ns(self) -> int | None:
        """The newest image's stamp, None where nothing was seen."""
        return max((o.stamp_ns for o in self._held.values()), default=None)

    def clear(self) -> None:
        """Forget everything."""
        self._held.clear()
        self._frames.clear()

    def add(self, gid: Gid, message: ObjectDepthArray, now_ns: int, steady_ns: int, max_ahead_s: float) -> str:
        """Take a message in.

        Args:
            gid: The publisher's identity.
            message: What it published.
            now_ns: The clock that stamps are of; 0 = it has not started.
            steady_ns: When it came, on the steady clock.
            max_ahead_s: Seconds by which a stamp may be ahead of the clock: one farther ahead would hold up all others.

        Returns:
            Why it cannot be used, one line; '' where it can.
        """
        if gid not in self._held and len(self._held.keys() - {OTHERS}) >= MAX_SOURCES:
            problem = f"more than {MAX_SOURCES} publishers"
            self._held[OTHERS] = Observation(nanoseconds(message.header.stamp), (), steady_ns, problem=problem)
            return problem
        new = observation_of(message, steady_ns)
        ahead_s = (new.stamp_ns - now_ns) / 1e9
        if now_ns and ahead_s > max_ahead_s and not new.problem:
            new = replace(new, problem=f"stamped {ahead_s:.2f} s ahead of the clock")
        self._held[gid] = merge(self._held.get(gid), new)
        frames = self._frames.setdefault(gid, [])
        frame = clean_text(message.header.frame_id)[:80]
        if frame not in frames:
            frames[:] = [*frames[-1:], frame]
        return new.problem

    def drop_gone(self, present: Mapping[Gid, str], steady_ns: int, after_s: float) -> None:
        """Forget publishers that have left, once what they saw is older than `after_s` seconds."""
        gone = [g for g, o in self._held.items() if g not in present and steady_ns - o.received_ns > after_s * 1e9]
        if len(gone) < len(self._held):  # the last one's silence is to be seen
            for gid in gone:
                del self._held[gid]
                self._frames.pop(gid, None)

    def warnings(self, present: Mapping[Gid, str]) -> list[str]:
        """What is odd about the publishers, a line each."""
        lines = []
        if len(present) > 1:
            names = ", ".join(sorted(present.values()))
            lines.append(f"{len(present)} publishers of object_depths ({names}); the nearest of all counts")
        for gid, frames in self._frames.items():
            if len(frames) > 1:
                lines.append(
                    f"{present.get(gid, 'a publisher')} changed its frame_id from {frames[0]!r} to {frames[1]!r}"
                )
        return lines


def observation_of(message: ObjectDepthArray, steady_ns: int) -> Observation:
    """What a message says, or why it cannot be used."""
    stamp_ns = nanoseconds(message.header.stamp)
    try:
        objects = tuple(message_to_object(o) for o in message.objects)
        health = message_to_health(message.image_health)
    except BadObjectError as error:
        return Observation(stamp_ns, (), steady_ns, problem=str(error))
    return Observation(stamp_ns, objects, steady_ns, unhealthy=health.problem)


def publishers_of(node: Node, topic: str) -> dict[Gid, str]:
    """Identity and node of every publisher of a topic, as the graph knows them."""
    return {
        bytes(info.endpoint_gid): f"{info.node_namespace.rstrip('/')}/{info.node_name}"
        for info in node.get_publishers_info_by_topic(topic)
    }


def doubled_nodes(node: Node) -> list[str]:
    """Full names that more than one node has, a line each."""
    names = Counter(f"{space.rstrip('/')}/{name}" for name, space in node.get_node_names_and_namespaces())
    return [
        f"{count} nodes are called {name}; give each a name of its own" for name, count in names.items() if count > 1
    ]


def gid_of(info: Any) -> Gid:
    """The publisher's identity in rclpy's message info; b'' where the middleware tells none."""
    gid = info.get("publisher_gid") if isinstance(info, Mapping) else None
    data = gid.get("data") if isinstance(gid, Mapping) else gid
    return bytes(data) if data else b""
