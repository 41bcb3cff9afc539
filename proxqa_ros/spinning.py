"""Spin a node for as long as it is wanted, whatever its callbacks raise.

Promises: an error in a callback, or in rclpy itself, is logged as one line and does not end the process. A request
that rclpy cannot read (a parameter of a type that there is none) raises out of `Executor.spin()`: anyone on the network
could end a node that way.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from rclpy.executors import Executor, ExternalShutdownException
from rclpy.node import Node

from proxqa_ros.worker import one_line

QUIET = 5.0
"""Seconds between two log lines."""
BREATH = 0.01
"""Seconds of rest after an error: one that comes again at once does not take the whole processor."""


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
