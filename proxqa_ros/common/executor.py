"""Spin a node for as long as it is wanted, whatever its callbacks raise.

Promises: `HandoverExecutor` takes the interpreter's lock for what there is to do alone; an error in a callback, or in rclpy
itself, is logged as one line and does not end the process. A request that rclpy cannot read (a parameter of a type that
there is none) raises out of `Executor.spin()`: anyone on the network could end a node that way.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from rclpy.executors import Executor, ExternalShutdownException, MultiThreadedExecutor
from rclpy.node import Node

from proxqa_ros.proximity.worker import one_line

QUIET = 5.0
"""Seconds between two log lines."""
BREATH = 0.01
"""Seconds of rest after an error: one that comes again at once does not take the whole processor."""

HANDOVER = 0.1
"""Most seconds that a callback is waited for to begin: all threads may be busy."""


class _HandingOver(ThreadPoolExecutor):
    """Threads to which work is handed over: `submit` returns when it has begun."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        begun = threading.Event()

        def run() -> Any:
            begun.set()
            return fn(*args, **kwargs)

        future = super().submit(run)
        begun.wait(HANDOVER)
        return future


class HandoverExecutor(MultiThreadedExecutor):
    """rclpy's, but for one thing: rclpy 9 submits a callback again and again until a thread has begun it.

    While the model computes, threads begin late: thousands of submissions a second then keep the interpreter's lock
    from the model, which takes ten times as long.
    """

    def __init__(self, num_threads: int, **kwargs: Any) -> None:
        super().__init__(num_threads, **kwargs)
        self._executor.shutdown(wait=False)  # it has no thread yet
        self._executor = _HandingOver(num_threads)


def spin(executor: Executor, node: Node, ended: Callable[[], bool], tick: float) -> None:
    """Until `ended()`, which is asked every `tick` seconds at least, or until ROS is shut down."""
    while node.context.ok() and not ended():
        try:
            executor.spin_once(tick)
        except ExternalShutdownException:
            return
        except Exception as error:
            if not node.context.ok():  # a callback was about to publish when the process was interrupted
                return
            node.get_logger().error(f"a callback failed: {one_line(error)}", throttle_duration_sec=QUIET)
            time.sleep(BREATH)
