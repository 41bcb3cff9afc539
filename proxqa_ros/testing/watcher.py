"""A node that hears how a proximity node is: its diagnostics, its lifecycle state."""

from __future__ import annotations

from typing import Any, Self

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.srv import GetState
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor

from proxqa_ros.testing.errors import HarnessError
from proxqa_ros.testing.process import NodeProcess
from proxqa_ros.testing.spinning import SpinThread
from proxqa_ros.testing.waiting import wait_until

STATE_TIMEOUT_S = 2.0
"""Longest wait for an answer to a question about the state, in seconds."""
MATCH_TIMEOUT_S = 10.0
"""Longest time in which an active node's diagnostics are heard, in seconds."""


class NodeWatcher:
    """A node in a domain, spun in a thread, that hears how the proximity node there is; use it in a `with`.

    Subclasses make what else they listen to in `__init__` and call `start` last.

    Args:
        domain: The ROS domain id.
        name: The watcher's node name.

    Attributes:
        node: The watcher's own node.
        status: The proximity node's newest diagnostics; level STALE before the first.
    """

    def __init__(self, domain: int, name: str) -> None:
        self._context = Context()
        rclpy.init(context=self._context, domain_id=domain)  # no signal handlers: the program has its own
        self.node = rclpy.create_node(name, context=self._context)
        self.status = DiagnosticStatus(level=DiagnosticStatus.STALE)
        self._diagnostics = self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._state: Any = self.node.create_client(GetState, "/proximity/get_state")
        executor = SingleThreadedExecutor(context=self._context)
        executor.add_node(self.node)
        self._spinning = SpinThread(executor, f"{name}-ros")

    def start(self) -> None:
        """Begin to spin, once all that is listened to is made."""
        self._spinning.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._spinning.stop(2.0)
        rclpy.try_shutdown(context=self._context)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self.status = next((s for s in message.status if s.name.endswith("proximity")), self.status)

    def counts(self) -> dict[str, str]:
        """The proximity node's own figures, from its diagnostics."""
        return {value.key: value.value for value in self.status.values}

    def check(self, process: NodeProcess) -> None:
        """Nothing while the node runs and can work.

        Args:
            process: The proximity node's process.

        Raises:
            HarnessError: It has ended, or its diagnostics are an error.
        """
        process.check()
        if self.status.level == DiagnosticStatus.ERROR:
            raise HarnessError(f"the node {self.status.message}; its log is {process.log}")

    def is_active(self) -> bool:
        """Whether the proximity node answers that its state is active."""
        if not self._state.service_is_ready():
            return False
        future = self._state.call_async(GetState.Request())
        wait_until(future.done, STATE_TIMEOUT_S)
        return bool(future.done() and future.result().current_state.label == "active")

    def is_matched(self) -> bool:
        """Whether all that is exchanged with the node will find its way. To be extended by subclasses."""
        return self.counts().get("state") == "active"

    def wait_until_active(self, process: NodeProcess, timeout_s: float) -> None:
        """Wait until the node is active and its topics are known.

        Args:
            process: The proximity node's process.
            timeout_s: Longest wait until it is active, in seconds.

        Raises:
            HarnessError: It ends, cannot be configured or takes too long.
        """

        def active() -> bool:
            self.check(process)
            return self.is_active()

        if not wait_until(active, timeout_s, 0.2):
            raise HarnessError(
                f"the node was not active after {timeout_s:g} s; its log, {process.log}:\n{process.log_tail()}"
            )
        if not wait_until(self.is_matched, MATCH_TIMEOUT_S):
            raise HarnessError(f"the node is active, but its topics were not found after {MATCH_TIMEOUT_S:g} s")
