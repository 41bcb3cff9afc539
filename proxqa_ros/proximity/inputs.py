"""The node's subscriptions, which there are while it is active."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSPolicyKind, QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions

from proxqa_ros.common.qos import Endpoint


class Inputs:
    """Subscriptions that are made and destroyed together.

    Args:
        node: The node.

    Attributes:
        subscriptions: Those that there are.
        endpoints: The same as what they were made as.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self.subscriptions: list[Any] = []
        self.endpoints: list[Endpoint] = []

    def subscribe(
        self, message_type: Any, topic: str, callback: Callable[..., None], qos: QoSProfile, group: CallbackGroup
    ) -> str:
        """Subscribe to a topic.

        Args:
            message_type: The type of its messages.
            topic: The topic, before remapping.
            callback: Called with every message, and with rclpy's `MessageInfo` where it takes two arguments.
            qos: The default of its quality of service, which the node's QoS overrides go before.
            group: The callback group.

        Returns:
            The topic's full name.
        """
        subscription = self._node.create_subscription(
            message_type,
            topic,
            callback,
            copy.copy(qos),  # rclpy writes the overrides into it
            callback_group=group,
            # rclpy 9 raises InvalidHandle out of spin() when it meets the event handler of a subscription that was
            # destroyed a moment ago
            event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False),
            qos_overriding_options=_overridable(qos),
        )
        self.subscriptions.append(subscription)
        self.endpoints.append(Endpoint.of(subscription, subscribes=True))
        return str(subscription.topic_name)

    def destroy(self) -> None:
        """Destroy all of them."""
        self.endpoints = []
        while self.subscriptions:
            self._node.destroy_subscription(self.subscriptions.pop())


def _overridable(qos: QoSProfile) -> QoSOverridingOptions:
    """The usual policies, and durability where one is asked for that not every publisher has."""
    options = QoSOverridingOptions.with_default_policies()
    if qos.durability != QoSDurabilityPolicy.TRANSIENT_LOCAL:
        return options
    return QoSOverridingOptions(policy_kinds=(*options.policy_kinds, QoSPolicyKind.DURABILITY))
