"""A running proximity node for the page of `proxqa serve` (`proxqa_core.serving.live`).

Promises: it only listens and asks; the annotated image is subscribed to only while somebody looks, so that the node
does not draw for nobody; what is missing is said in one line.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence

import cv2
import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.subscription import Subscription
from sensor_msgs.msg import Image

from proxqa_core.errors import BadImageError, ProxqaError, reason_of
from proxqa_core.language.questions import understand
from proxqa_core.serving.errors import BAD_REQUEST, TIMED_OUT, TOO_MANY, UNAVAILABLE, UNPROCESSABLE, ApiError
from proxqa_core.serving.live import LiveFrame
from proxqa_core.types import ObjectDepth, ObjectQuery, ProximityAnswer, QuestionKind
from proxqa_ros import client
from proxqa_ros.common.conversions import box_to_region, image_to_rgb, message_to_object
from proxqa_ros.common.dds_profile import use_fastdds_profile
from proxqa_ros.common.qos import RELIABLE
from proxqa_ros.common.stamps import nanoseconds
from proxqa_ros.msg import ObjectDepthArray

LOOKED_AT_S = 5.0
"""Time after the last look during which the image is still subscribed to, in seconds."""
CHECK_PERIOD_S = 0.1
KEPT_MESSAGES = 20
"""Depths that wait for their image."""
JPEG_QUALITY = 85
STATUS: dict[type[client.ProximityError], tuple[int, str]] = {
    client.QuestionNotUnderstoodError: (UNPROCESSABLE, "not_understood"),
    client.BadRequestError: (BAD_REQUEST, "bad_object"),
    client.BusyError: (TOO_MANY, "queue_full"),
    client.NoServiceError: (UNAVAILABLE, "no_node"),
    client.QueryTimeoutError: (TIMED_OUT, "timeout"),
}
"""HTTP status and code of what a node answers; of everything else 503."""


class PageBridge:
    """Listens to a node, in a thread of its own.

    Args:
        name: The node's name, with its namespace where it has one.
        context: Of ROS; None = one of its own, ended by `close`.
    """

    def __init__(self, name: str, context: rclpy.Context | None = None) -> None:
        namespace, _, node_name = f"/{name.strip('/')}".rpartition("/")
        self._own_context = context is None
        self._context = rclpy.Context() if context is None else context
        if context is None:
            rclpy.init(context=self._context)
        self._node = rclpy.create_node("proxqa_page", namespace=namespace, context=self._context)
        self._client = client.ProximityClient(self._node)
        self._image_topic = self._node.resolve_topic_name(f"{node_name}/debug/image")
        self._lock = threading.Lock()
        self._depths: dict[int, tuple[ObjectDepthArray, float]] = {}  # by stamp, with when they came
        self._image: Image | None = None
        self._jpeg: tuple[int, bytes] = (0, b"")
        self._images: Subscription[Image] | None = None
        self._looked_s = -LOOKED_AT_S
        self._node.create_subscription(ObjectDepthArray, "object_depths", self._on_depths, RELIABLE)
        self._node.create_timer(CHECK_PERIOD_S, self._listen_while_looked_at)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._executor.spin, name="page-bridge", daemon=True)
        self._thread.start()

    def newest(self) -> LiveFrame | None:
        """The newest depths whose image has come; without an image, where none comes, the newest depths."""
        self._looked_s = time.monotonic()
        with self._lock:
            if not self._depths:
                return None
            image = self._image
            stamp_ns = nanoseconds(image.header.stamp) if image is not None else 0
            if stamp_ns not in self._depths:
                stamp_ns, image = max(self._depths), None
            message, came_s = self._depths[stamp_ns]
        age_s = time.monotonic() - came_s
        return LiveFrame(stamp_ns, age_s, message.model, _objects(message), self._encoded(stamp_ns, image))

    def problem(self) -> str:
        """What is missing, and what to do; '' = nothing is."""
        domain = os.environ.get("ROS_DOMAIN_ID", "0")
        topic = self._node.resolve_topic_name("object_depths")
        if not self._node.count_publishers(topic):
            return f"no node publishes {topic}; is the proximity node running, in this domain ({domain})?"
        if not self._depths:
            return f"nothing has come on {topic} yet; is the node active, and does it get images (see /diagnostics)?"
        if self._image is None:
            return f"no image has come on {self._image_topic}; is the node's parameter publish_debug_image true?"
        return ""

    def ask(self, question: str, objects: Sequence[ObjectQuery]) -> ProximityAnswer:
        """Ask the node about its newest image.

        Args:
            question: In words; '' = how far the objects are, or those that it watches.
            objects: Known ones.

        Raises:
            ApiError: It did not answer.
        """
        names = [o.name for o in objects]
        regions = [box_to_region(o.box) for o in objects] if any(o.box for o in objects) else []
        try:
            response = self._client.ask(question, names, regions)
        except client.NotVisibleError as error:
            seen = _objects(error.response, objects) if error.response is not None else ()
            return ProximityAnswer(question, QuestionKind.DEPTH, error.message, seen)
        except client.ProximityError as error:
            known = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), (UNAVAILABLE, "no_answer"))
            raise ApiError(*known, error.message) from error
        kind = _kind(question, names)
        found = _objects(response, objects)
        return ProximityAnswer(
            question, kind, response.answer, found, response.closer, response.farther, float(response.probability)
        )

    def close(self) -> None:
        """Leave ROS."""
        self._executor.shutdown()
        self._thread.join()
        self._node.destroy_node()
        if self._own_context:
            rclpy.try_shutdown(context=self._context)

    def _on_depths(self, message: ObjectDepthArray) -> None:
        with self._lock:
            self._depths[nanoseconds(message.header.stamp)] = (message, time.monotonic())
            while len(self._depths) > KEPT_MESSAGES:
                del self._depths[next(iter(self._depths))]

    def _on_image(self, message: Image) -> None:
        with self._lock:
            self._image = message

    def _listen_while_looked_at(self) -> None:
        looked_at = time.monotonic() - self._looked_s < LOOKED_AT_S
        if looked_at and self._images is None:
            self._images = self._node.create_subscription(Image, self._image_topic, self._on_image, RELIABLE)
        elif not looked_at and self._images is not None:
            self._node.destroy_subscription(self._images)
            self._images, self._image = None, None

    def _encoded(self, stamp_ns: int, image: Image | None) -> bytes:
        """The image as JPEG, made once; b"" where there is none, or none that can be read."""
        if image is None:
            return b""
        if self._jpeg[0] != stamp_ns:
            try:
                bgr = np.ascontiguousarray(image_to_rgb(image)[:, :, ::-1])
            except BadImageError:
                return b""
            self._jpeg = (stamp_ns, cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes())
        return self._jpeg[1]


def connect(name: str) -> PageBridge:
    """A bridge to the node of that name, which need not run yet.

    Raises:
        ProxqaError: The name cannot be one, or ROS cannot be started.
    """
    use_fastdds_profile()  # else large images get lost
    if not name.strip("/ "):
        raise ProxqaError(f"cannot listen to node {name!r}: it has no name; expected one such as /proximity")
    try:
        return PageBridge(name)
    except Exception as error:  # rclpy has no base class for its errors
        raise ProxqaError(f"cannot listen to node {name!r}: {reason_of(error)}") from error


def _objects(message: ObjectDepthArray | client.Response, asked: Sequence[ObjectQuery] = ()) -> tuple[ObjectDepth, ...]:
    """The objects of a message that can be true; what cannot is left out.

    Args:
        message: Its regions are boxes that were given, or where the node found a name: it does not say which.
        asked: Objects that were asked about; of them it is known.
    """
    given = {o.name for o in asked if o.box is not None}
    found = []
    for thing in message.objects:
        try:
            found.append(message_to_object(thing, given))
        except ProxqaError:
            continue
    return tuple(found)


def _kind(question: str, names: Sequence[str]) -> QuestionKind:
    """What the node has answered: the response does not say it."""
    try:
        return understand(question, names).kind if question.strip() else QuestionKind.DEPTH
    except ProxqaError:  # another version may understand more
        return QuestionKind.GENERAL
