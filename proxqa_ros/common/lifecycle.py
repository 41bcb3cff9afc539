"""What the lifecycle nodes have in common: they start by themselves, and say which state they are in.

Promises: with the parameter `autostart` a node is configured and activated as soon as it is spun, also while a
simulated clock stands still; one that cannot be configured stays unconfigured.
"""

from __future__ import annotations

from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleNodeMixin, TransitionCallbackReturn
from rclpy.logging import LoggingSeverity
from rclpy.node import Node


class AutostartNode(LifecycleNode):
    """A lifecycle node with the parameter `autostart`, which its subclass declares.

    Args:
        name: The node's name.
        **kwargs: As of rclpy's LifecycleNode.

    Attributes:
        steady_clock: For timers that tick also while a simulated clock stands still.
    """

    def __init__(self, name: str, **kwargs: Any) -> None:
        # as LifecycleNode's own, but for the group: get_state is answered while a transition takes its time, and so are
        # the parameter services, which have the default group; rcl refuses a second transition meanwhile
        Node.__init__(self, name, **kwargs)
        LifecycleNodeMixin.__init__(self, callback_group=ReentrantCallbackGroup())
        self.steady_clock = Clock(clock_type=ClockType.STEADY_TIME)

    def autostart(self) -> None:
        """Start as soon as the node is spun, where the parameter says so. To be called last in `__init__`."""
        self._autostart_timer = self.create_timer(
            0.0, self._on_autostart, clock=self.steady_clock, callback_group=MutuallyExclusiveCallbackGroup()
        )

    def _on_autostart(self) -> None:
        self._autostart_timer.cancel()
        if not self.get_parameter("autostart").value or self.state != "unconfigured":
            return
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def say_no_more(self) -> None:
        """Log nothing more: once ROS is shut down rclpy complains of transitions and lines that it cannot publish."""
        self.get_logger().set_level(LoggingSeverity.FATAL)

    @property
    def state(self) -> str:
        """The lifecycle state's name: unconfigured, inactive, active and the like."""
        return str(self._state_machine.current_state[1])
