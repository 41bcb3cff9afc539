"""Quality of service: the node's profiles (REP 2003), and endpoints that are incompatible with its own.

Promises: a topic that stays empty because its two ends are incompatible is named, with the other node and the reason.
The graph is asked instead of waiting for DDS's events: it knows the other node's name, and drops it when it leaves.
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
    QoSDurabilityPolicy,
    QoSHistoryPolicy,
    QoSProfile,
    QoSReliabilityPolicy,
    qos_check_compatible,
)

NEWEST_BEST_EFFORT = QoSProfile(
    history=QoSHistoryPolicy.KEEP_LAST, depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT
)
"""For sensor data of which only the newest counts."""
SENSOR_DATA = QoSProfile(history=QoSHistoryPolicy.KEEP_LAST, depth=5, reliability=QoSReliabilityPolicy.BEST_EFFORT)
RELIABLE = QoSProfile(history=QoSHistoryPolicy.KEEP_LAST, depth=10, reliability=QoSReliabilityPolicy.RELIABLE)
LATCHED = QoSProfile(
    history=QoSHistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=QoSReliabilityPolicy.RELIABLE,
    durability=QoSDurabilityPolicy.TRANSIENT_LOCAL,
)
"""For what is published once and holds from then on."""
MANY_QUERIES = QoSProfile(history=QoSHistoryPolicy.KEEP_LAST, depth=100, reliability=QoSReliabilityPolicy.RELIABLE)


@dataclass(frozen=True)
class Endpoint:
    """What one of the node's subscriptions or publishers was made as; it may have been destroyed meanwhile.

    Args:
        topic: The topic's full name.
        kind: The type of its messages, such as "sensor_msgs/msg/Image".
        qos: Its quality of service.
        subscribes: It is a subscription.
    """

    topic: str
    kind: str
    qos: QoSProfile
    subscribes: bool

    @classmethod
    def of(cls, entity: Any, subscribes: bool) -> Endpoint:
        """The endpoint of a subscription or publisher of rclpy."""
        kind = entity.msg_type
        name = f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}"
        return cls(entity.topic_name, name, _with_explicit_durations(entity.qos_profile), subscribes)


def _with_explicit_durations(qos: QoSProfile) -> QoSProfile:
    """A copy in which a duration of zero, which means the default, is DDS's default: no limit."""
    qos = copy.copy(qos)
    for name in ("deadline", "lifespan", "liveliness_lease_duration"):
        if getattr(qos, name).nanoseconds == 0:
            setattr(qos, name, Infinite)
    return qos


def incompatible_endpoints(node: Node, endpoints: Iterable[Endpoint]) -> list[str]:
    """Find publishers and subscribers that cannot exchange messages with a node.

    Args:
        node: The node, whose view of the graph is used.
        endpoints: The node's own endpoints.

    Returns:
        One line for each, sorted, without duplicates.
    """
    lines = set()
    for ours in endpoints:
        find = node.get_publishers_info_by_topic if ours.subscribes else node.get_subscriptions_info_by_topic
        does = "publishes" if ours.subscribes else "subscribes to"
        for other in find(ours.topic):
            other_end = f"{other.node_namespace.rstrip('/')}/{other.node_name} {does} {ours.topic}"
            if other.topic_type != ours.kind:
                lines.add(f"{other_end} as {other.topic_type}; expected {ours.kind}")
                continue
            pair = (other.qos_profile, ours.qos) if ours.subscribes else (ours.qos, other.qos_profile)
            verdict, reason = qos_check_compatible(*pair)
            if verdict == QoSCompatibility.ERROR:
                reason = " ".join(reason.replace("ERROR:", "").split()).rstrip(";")
                lines.add(f"{other_end} with an incompatible quality of service: {reason}")
    return sorted(lines)
