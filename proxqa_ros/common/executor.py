"""Spin a node until the process is to end, whatever its callbacks raise.

Promises: `HandoverExecutor` does not take the interpreter's lock from threads that compute; an error in a callback, or
in rclpy itself, is logged as one line and does not end the process. (rclpy raises out of `Executor.spin()` when it
cannot read a request, such as a parameter of an unknown type: anyone on the network could end a node that way.)
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from rclpy.executors import Executor, ExternalShutdownException, MultiThreadedExecutor
from rclpy.node import Node

from proxqa_ros.common.errors import one_line

LOG_THROTTLE_S = 5.0
"""Seconds between two log lines about the same thing."""
ERROR_PAUSE_S = 0.01
"""Pause after an error, in seconds: one that recurs at once does not take a whole core."""
HANDOVER_TIMEOUT_S = 0.1
"""Longest wait for a callback to begin, in seconds: all threads may be busy."""


class _HandoverPool(ThreadPoolExecutor):
    """A thread pool whose `submit` returns when the work has begun."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        begun = threading.Event()

        def run() -> Any:
            begun.set()
            return fn(*args, **kwargs)

        future = super().submit(run)
        begun.wait(HANDOVER_TIMEOUT_S)
        return future


class HandoverExecutor(MultiThreadedExecutor):
    """rclpy's MultiThreadedExecutor, except that a callback is submitted once.

    rclpy 9 submits a callback again and again until a thread has begun it. While the model computes, threads begin
    late: thousands of submissions a second then keep the interpreter's lock from the model, which takes ten times as
    long.

    Args:
        num_threads: Number of threads.
        **kwargs: As of rclpy's.
    """

    # looked at by rclpy's destructor, also of an executor that could not be made since the context had ended
    _sigint_gc = None

    def __init__(self, num_threads: int, **kwargs: Any) -> None:
        super().__init__(num_threads, **kwargs)
        self._executor.shutdown(wait=False)  # it has no thread yet
        self._executor = _HandoverPool(num_threads)


def spin(executor: Executor, node: Node, ended: Callable[[], bool], period_s: float) -> None:
    """Spin until `ended()` or until ROS is shut down.

    Args:
        executor: The executor that the node is in.
        node: The node, whose logger is used.
        ended: Whether to stop.
        period_s: Longest time between two calls of `ended`, in seconds.
    """
    while node.context.ok() and not ended():
        try:
            executor.spin_once(period_s)
        except ExternalShutdownException:
            return
        except Exception as error:
            if not node.context.ok():  # a callback was about to publish when the process was interrupted
                return
            node.get_logger().error(f"a callback failed: {one_line(error)}", throttle_duration_sec=LOG_THROTTLE_S)
            time.sleep(ERROR_PAUSE_S)
