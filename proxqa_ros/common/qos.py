"""Quality of service: the node's profiles (REP 2003), and who on a topic cannot be heard, or cannot hear the node.

Promises: a topic that stays empty because the two ends do not fit is named, with the other node and the reason. The
graph is asked rather than DDS's events awaited: it knows who it is, and forgets it when it leaves.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rclpy.duration import Infinite
from rclpy.node import Node
from rclpy.qos import (
    QoSCompatibility,
    QoSHistoryPolicy,
    QoSProfile,
    QoSReliabilityPolicy,
    qos_check_compatible,
)

NEWEST_BEST_EFFORT = QoSProfile(
    history=QoSHistoryPolicy.KEEP_LAST, depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT
)
"""Sensor data of which only the newest counts."""
SENSOR_DATA = QoSProfile(history=QoSHistoryPolicy.KEEP_LAST, depth=5, reliability=QoSReliabilityPolicy.BEST_EFFORT)
RELIABLE = QoSProfile(history=QoSHistoryPolicy.KEEP_LAST, depth=10, reliability=QoSReliabilityPolicy.RELIABLE)
MANY_QUERIES = QoSProfile(history=QoSHistoryPolicy.KEEP_LAST, depth=100, reliability=QoSReliabilityPolicy.RELIABLE)


@dataclass(frozen=True)
class Endpoint:
    """One of the node's subscriptions or publishers: what it was made as, so that it may be gone by now."""

    topic: str
    kind: str
    qos: QoSProfile
    subscribes: bool

    @classmethod
    def of(cls, entity: Any, subscribes: bool) -> Endpoint:
        """Of a subscription or publisher of rclpy."""
        kind = entity.msg_type
        name = f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}"
        return cls(entity.topic_name, name, _spelled_out(entity.qos_profile), subscribes)


def _spelled_out(qos: QoSProfile) -> QoSProfile:
    """A copy in which a duration of zero, which means the default, is what DDS's default is: no limit."""
    qos = copy.copy(qos)
    for name in ("deadline", "lifespan", "liveliness_lease_duration"):
        if getattr(qos, name).nanoseconds == 0:
            setattr(qos, name, Infinite)
    return qos


def incompatible_endpoints(node: Node, endpoints: Iterable[Endpoint]) -> list[str]:
    """One line for every other end of these topics that cannot exchange messages with the node, sorted, none twice."""
    lines = set()
    for ours in endpoints:
        ends = node.get_publishers_info_by_topic if ours.subscribes else node.get_subscriptions_info_by_topic
        does = "publishes" if ours.subscribes else "subscribes to"
        for other in ends(ours.topic):
            said = f"{other.node_namespace.rstrip('/')}/{other.node_name} {does} {ours.topic}"
            if other.topic_type != ours.kind:
                lines.add(f"{said} as {other.topic_type}; expected {ours.kind}")
                continue
            pair = (other.qos_profile, ours.qos) if ours.subscribes else (ours.qos, other.qos_profile)
            verdict, reason = qos_check_compatible(*pair)
            if verdict == QoSCompatibility.ERROR:
                reason = " ".join(reason.replace("ERROR:", "").split()).rstrip(";")
                lines.add(f"{said} with a quality of service that does not fit: {reason}")
    return sorted(lines)
