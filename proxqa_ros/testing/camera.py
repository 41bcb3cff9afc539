"""A camera for a node: images at a steady rate."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, Image


class Camera:
    """Publishes images as a camera driver does: best effort, stamped when they go out.

    Args:
        node: The node to publish with.
        topic: The topic's name.
        kind: The type of its messages.
    """

    def __init__(self, node: Node, topic: str = "image", kind: type[Image] | type[CompressedImage] = Image) -> None:
        self._node = node
        self._publisher = node.create_publisher(kind, topic, qos_profile_sensor_data)

    def has_listener(self) -> bool:
        """Whether somebody subscribes to it."""
        return bool(self._publisher.get_subscription_count() > 0)

    def publish(self, message: Any) -> None:
        """Publish an image, taken now: its stamp is set."""
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)


@contextlib.contextmanager
def at_rate(hz: float, step: Callable[[int], object]) -> Iterator[None]:
    """Call step(0), step(1) … at a rate in a thread of its own until the `with` ends; what is late is caught up.

    Args:
        hz: Calls a second.
        step: Called with the call's number. What it raises ends the calls and is raised again at the end.
    """
    stopping = threading.Event()
    raised: list[Exception] = []

    def run() -> None:
        started, n = time.monotonic(), 0
        try:
            while not stopping.wait(max(0.0, started + n / hz - time.monotonic())):
                step(n)
                n += 1
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=run, name="at-rate", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()
    if raised:
        raise raised[0]
