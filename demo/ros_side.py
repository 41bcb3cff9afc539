"""The demo's own ROS node: publishes the bag, hears the depths, asks the questions.

Promises: every wait has an end, and one that ends in vain is a DemoError of one clear line. Knows nothing of truth or
of tables.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Self

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.srv import GetState
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CompressedImage, Image

from demo.errors import DemoError
from demo.node import NodeProcess
from proxqa_core.rosbags.bag import Topic
from proxqa_ros.msg import ObjectDepthArray
from proxqa_ros.replay.player import Channel, Player
from proxqa_ros.srv import ProximityQuery

START_TIMEOUT = 120.0
"""Seconds until the node must be active; the first start ever converts the model's weights."""
QUERY_TIMEOUT = 40.0
MATCH_TIMEOUT = 10.0
SETTLE = 5.0
"""Most seconds after the last answer in which the last frame's depths and the node's counts come in."""


class Watcher:
    """A node in a domain that spins in a thread and hears how the proximity node is; use it in a `with`.

    start() begins it, once all that it listens to is made; status: the newest diagnostics, STALE before the first.
    """

    def __init__(self, domain: int, name: str) -> None:
        rclpy.init(domain_id=domain, signal_handler_options=SignalHandlerOptions.NO)  # the program has its own
        self.node = rclpy.create_node(name)
        self.status = DiagnosticStatus(level=DiagnosticStatus.STALE)
        self._diagnostics = self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._spin, name=f"{name}-ros", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving.set()  # before the shutdown: rclpy 9 may trigger a guard condition that it destroyed
        self._thread.join(2.0)
        self._executor.shutdown(timeout_sec=2.0)
        rclpy.try_shutdown()

    def _spin(self) -> None:
        while not self._leaving.is_set():
            self._executor.spin_once(0.1)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self.status = next((s for s in message.status if s.name.endswith("proximity")), self.status)

    def counts(self) -> dict[str, str]:
        """The proximity node's own counts, from its diagnostics."""
        return {value.key: value.value for value in self.status.values}


class RosSide(Watcher):
    """See the module."""

    def __init__(self, domain: int, topic: Topic) -> None:
        super().__init__(domain, "demo")
        kind = CompressedImage if topic.compressed else Image
        self.player = Player(self.node, {topic.name: Channel(topic.name, kind)})
        self.depths: list[ObjectDepthArray] = []
        self._depths = self.node.create_subscription(ObjectDepthArray, "object_depths", self.depths.append, 50)
        self._state = self.node.create_client(GetState, "/proximity/get_state")
        self._query = self.node.create_client(ProximityQuery, "proximity_query")
        self.start()

    def wait_until_active(self, node: NodeProcess) -> None:
        """Until the node answers that it is active. DemoError where it ends, cannot configure or takes too long."""

        def active() -> bool:
            node.check()
            if self.status.level == DiagnosticStatus.ERROR:
                raise DemoError(f"the node {self.status.message}; its log is {node.log}")
            if not self._state.service_is_ready():
                return False
            future = self._state.call_async(GetState.Request())
            until(future.done, 2.0)
            return future.done() and future.result().current_state.label == "active"

        if not until(active, START_TIMEOUT, 0.2):
            raise DemoError(f"the node was not active after {START_TIMEOUT:g} s; its log, {node.log}:\n{node.said()}")
        if not until(self._is_matched, MATCH_TIMEOUT):
            raise DemoError(f"the node is active, but its topics were not found after {MATCH_TIMEOUT:g} s")

    def _is_matched(self) -> bool:
        """Whether every image, depth, question and count will find its way."""
        return (
            self.player.has_listeners()
            and self._query.service_is_ready()
            and self.node.count_publishers("object_depths") > 0
            and self.counts().get("state") == "active"
        )

    def wait_for_the_rest(self) -> None:
        """Until every frame that reached the node is accounted for in counts of now, at most SETTLE seconds."""
        before = self.status

        def settled() -> bool:
            counts = {key: int(value) for key, value in self.counts().items() if key.startswith("frames_")}
            received = counts.pop("frames_received", 0)
            return self.status is not before and sum(counts.values()) >= received

        until(settled, SETTLE)

    def ask(self, question: str, objects: Sequence[str] = (), regions: Sequence[Any] = ()) -> Future[Any]:
        """Send a question; the future holds the response."""
        request = ProximityQuery.Request(question=question, objects=list(objects), regions=list(regions))
        return self._query.call_async(request)


def until(condition: Callable[[], bool], timeout: float, step: float = 0.02) -> bool:
    """Wait for a condition; whether it came true within the timeout (seconds)."""
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(step)
    return True


def answer_of(future: Future[Any], question: str) -> ProximityQuery.Response:
    """The response to a question. DemoError where none came or the node refused; not in view is an answer."""
    if not until(future.done, QUERY_TIMEOUT):
        raise DemoError(f"no answer to {question!r} within {QUERY_TIMEOUT:g} s")
    response = future.result()
    if response.error_code not in (response.NONE, response.NOT_VISIBLE):
        raise DemoError(f"the node refused {question!r} (error code {response.error_code}): {response.message}")
    return response
