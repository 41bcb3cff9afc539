"""The bond of nav2: a heartbeat by which a lifecycle manager notices that a node has died.

Promises: where the package bondpy is not installed there is no bond, and `state` says so; nothing else changes. As in
nav2_util's LifecycleNode the topic is ``bond`` and the bond's name is the node's.
"""

from __future__ import annotations

import importlib
from typing import Any

from rclpy.node import Node

NOT_INSTALLED = "bondpy is not installed: no bond with a lifecycle manager (apt install ros-$ROS_DISTRO-bondpy)"


class LifecycleBond:
    """Made on activation, broken on deactivation.

    Args:
        node: Whose life it is.
        heartbeat_s: Seconds between two heartbeats; 0 = no bond is wanted.
    """

    def __init__(self, node: Node, heartbeat_s: float) -> None:
        self._node, self._heartbeat_s = node, heartbeat_s
        self._bond: Any = None
        self.state = "not wanted (bond_heartbeat_period is 0)" if heartbeat_s <= 0 else "not active"

    def start(self) -> None:
        """Begin to beat, where a bond is wanted and bondpy is installed."""
        if self._heartbeat_s <= 0 or self._bond is not None:
            return
        try:
            bondpy = importlib.import_module("bondpy.bondpy")
        except ImportError:
            self.state = NOT_INSTALLED
            return
        self._bond = bondpy.Bond(self._node, "bond", self._node.get_name())
        self._bond.set_heartbeat_period(self._heartbeat_s)
        self._bond.start()
        self.state = "beating"

    def stop(self) -> None:
        """Break the bond. Repeatable."""
        bond, self._bond = self._bond, None
        if bond is not None:
            bond.shutdown()
            self.state = "not active"
