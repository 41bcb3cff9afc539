"""The node's publishers, which there are from configure to cleanup: depths, debug image, markers, timing.

Promises: what nobody subscribes to is not computed, except the depths.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

from rclpy.event_handler import PublisherEventCallbacks
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSPolicyKind
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import Image
from std_msgs.msg import Float64

from proxqa_core.types import ObjectDepth
from proxqa_ros.common.camera import BadCameraError, Camera
from proxqa_ros.common.conversions import rgb_to_image
from proxqa_ros.common.errors import one_line
from proxqa_ros.common.qos import RELIABLE, Endpoint
from proxqa_ros.common.stamps import nanoseconds
from proxqa_ros.msg import ObjectDepthArray
from proxqa_ros.proximity import markers
from proxqa_ros.proximity.shared import SharedState
from proxqa_ros.proximity.timing import Timing
from proxqa_ros.proximity.worker import FrameState

# What a consumer may ask of `object_depths` that nobody has to offer: the governor's depths_deadline and depths_lease
OFFERED = (QoSPolicyKind.DEADLINE, QoSPolicyKind.LIVELINESS, QoSPolicyKind.LIVELINESS_LEASE_DURATION)


class Outputs:
    """The publishers.

    Args:
        node: The node, while it is being configured.
        shared: What the node's parts share.

    Attributes:
        depths: Publishes `object_depths`.
        debug_image: Publishes `~/debug/image`.
        markers: Publishes `markers`; None where visualization_msgs is not installed.
        timing: Publishes how long things take.
        endpoints: All of them as what they were made as.
    """

    def __init__(self, node: LifecycleNode, shared: SharedState) -> None:
        self._node, self._shared = node, shared
        self.depths = self._create(ObjectDepthArray, "object_depths", QoSOverridingOptions(OFFERED))
        self.debug_image = self._create(Image, "~/debug/image")
        self.markers = None if markers.MarkerArray is None else self._create(markers.MarkerArray, "markers")
        self.timing = Timing(lambda topic: self._create(Float64, topic))
        self.endpoints = [Endpoint.of(publisher, subscribes=False) for publisher in self._all()]

    def _create(self, message_type: Any, topic: str, overrides: QoSOverridingOptions | None = None) -> Any:
        # rclpy 9 raises InvalidHandle out of spin() when it meets the event handler of a publisher that was destroyed a
        # moment ago
        no_events = PublisherEventCallbacks(use_default_callbacks=False)
        return self._node.create_lifecycle_publisher(
            message_type,
            topic,
            copy.copy(RELIABLE),  # rclpy writes the overrides into it
            event_callbacks=no_events,
            qos_overriding_options=overrides,
        )

    def _all(self) -> list[Any]:
        publishers = (self.depths, self.debug_image, self.markers)
        return [*(publisher for publisher in publishers if publisher is not None), *self.timing.publishers]

    def destroy(self) -> None:
        """Destroy all of them."""
        for publisher in self._all():
            self._node.destroy_lifecycle_publisher(publisher)

    def publish(
        self,
        message: ObjectDepthArray,
        frame: FrameState,
        depths: Sequence[ObjectDepth],
        processing_s: float,
        camera: Callable[[], Camera],
    ) -> None:
        """Publish everything about a frame.

        Args:
            message: The message on `object_depths`.
            frame: The frame.
            depths: Its objects with their depths and distances.
            processing_s: Work on it in seconds.
            camera: Makes the camera model of the frame. Raises BadCameraError.
        """
        self.depths.publish(message)
        self.timing.record(nanoseconds(frame.header.stamp), processing_s, self._shared.now_ns)
        if self._shared.parameters.publish_debug_image and self.debug_image.get_subscription_count() > 0:
            from proxqa_core.vision.drawing import annotate

            self.debug_image.publish(rgb_to_image(annotate(frame.image, depths), frame.header))
        if self.markers is not None and self.markers.get_subscription_count() > 0:
            self.markers.publish(self._markers_of(frame, depths, camera))

    def _markers_of(self, frame: FrameState, depths: Sequence[ObjectDepth], camera: Callable[[], Camera]) -> Any:
        """Where the objects are, as far as that is known; an empty array where it is not."""
        try:
            placed, problem = markers.place(camera(), depths), ""
        except BadCameraError as error:
            placed, problem = [], one_line(error)
        self._shared.camera_problem = problem
        return markers.to_markers(frame.header, placed)
