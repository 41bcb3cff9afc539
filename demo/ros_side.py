"""The demo's own ROS node: publishes the bag, receives the depths, asks the questions.

Promises: every wait has an end, and one that ends in vain is an error of one clear line. Knows nothing of truth or of
tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from sensor_msgs.msg import CompressedImage, Image

from demo.errors import DemoError
from proxqa_core.rosbags.bag import Topic
from proxqa_ros.msg import ObjectDepthArray
from proxqa_ros.replay.player import Channel, Player
from proxqa_ros.srv import ProximityQuery
from proxqa_ros.testing.process import node_command
from proxqa_ros.testing.waiting import wait_until
from proxqa_ros.testing.watcher import NodeWatcher

START_TIMEOUT_S = 120.0
"""Seconds until the node must be active; the first start ever converts the model's weights."""
QUERY_TIMEOUT_S = 40.0
"""Longest wait for the answer to a question, in seconds."""
SETTLE_TIMEOUT_S = 5.0
"""Most seconds after the last answer in which the last frame's depths and the node's counts come in."""


def command_of(topic: Topic, objects: Sequence[str], model: str, adapter: str, code: str = "") -> list[str]:
    """The node's command line.

    Args:
        topic: The bag's topic of images, which the node subscribes to.
        objects: Names of the objects to look for.
        model: The node's parameter of that name; '' = its default.
        adapter: The node's parameter of that name; '' = its default.
        code: Python code to run instead of the node's `main`.
    """
    transport = "compressed" if topic.compressed else "raw"
    parameters: dict[str, Any] = {"use_sim_time": True, "image_transport": transport, "objects": list(objects)}
    parameters |= {name: value for name, value in (("model", model), ("adapter", adapter)) if value}
    image = "image/compressed" if topic.compressed else "image"
    return node_command(parameters=parameters, remappings={image: topic.name}, code=code)


class RosSide(NodeWatcher):
    """See the module.

    Args:
        domain: The ROS domain id.
        topic: The bag's topic of images.

    Attributes:
        player: Plays the bag's images.
        depths: The messages received on object_depths so far.
    """

    def __init__(self, domain: int, topic: Topic) -> None:
        super().__init__(domain, "demo")
        kind = CompressedImage if topic.compressed else Image
        self.player = Player(self.node, {topic.name: Channel(topic.name, kind)})
        self.depths: list[ObjectDepthArray] = []
        self._depths = self.node.create_subscription(ObjectDepthArray, "object_depths", self.depths.append, 50)
        self._query: Any = self.node.create_client(ProximityQuery, "proximity_query")
        self.start()

    def is_matched(self) -> bool:
        """Whether every image, depth, question and count will find its way."""
        return (
            super().is_matched()
            and self.player.has_listeners()
            and self._query.service_is_ready()
            and self.node.count_publishers("object_depths") > 0
        )

    def wait_for_the_rest(self) -> None:
        """Until every frame that reached the node is in its newest counts, at most SETTLE_TIMEOUT_S seconds."""
        before = self.status

        def settled() -> bool:
            counts = {key: int(value) for key, value in self.counts().items() if key.startswith("frames_")}
            received = counts.pop("frames_received", 0)
            return self.status is not before and sum(counts.values()) >= received

        wait_until(settled, SETTLE_TIMEOUT_S)

    def ask(self, question: str, objects: Sequence[str] = (), regions: Sequence[Any] = ()) -> Future[Any]:
        """Send a question; the future holds the response."""
        request = ProximityQuery.Request(question=question, objects=list(objects), regions=list(regions))
        future: Future[Any] = self._query.call_async(request)
        return future


def answer_of(future: Future[Any], question: str) -> ProximityQuery.Response:
    """The response to a question; that an object is not in view is an answer.

    Args:
        future: What `RosSide.ask` gave.
        question: The question, for the error's text.

    Raises:
        DemoError: No response came, or the node refused the question.
    """
    if not wait_until(future.done, QUERY_TIMEOUT_S):
        raise DemoError(f"no answer to {question!r} within {QUERY_TIMEOUT_S:g} s")
    response = future.result()
    if response.error_code not in (response.NONE, response.NOT_VISIBLE):
        raise DemoError(f"the node refused {question!r} (error code {response.error_code}): {response.message}")
    return response
