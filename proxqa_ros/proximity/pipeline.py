"""A frame's way through the node: from the camera's message to the worker, and from the worker to the outputs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from sensor_msgs.msg import CompressedImage, Image

from proxqa_core.errors import BadImageError
from proxqa_core.protocols import AdaptableEngine
from proxqa_core.types import ObjectDepth
from proxqa_ros.common.camera import Camera
from proxqa_ros.common.conversions import Pixels, check_message, depths_to_message, image_to_rgb
from proxqa_ros.common.executor import LOG_THROTTLE_S
from proxqa_ros.distance.source import FrameContext
from proxqa_ros.proximity.arrivals import Arrivals
from proxqa_ros.proximity.detections import DetectedFrame
from proxqa_ros.proximity.outputs import Outputs
from proxqa_ros.proximity.shared import SharedState
from proxqa_ros.proximity.worker import FrameState, Worker


class FramePipeline:
    """Callbacks of the camera and the detector, and the worker's.

    Args:
        shared: What the node's parts share.
        logger: The node's logger.

    Attributes:
        arrivals: Which of the camera's images come.
        outputs: The publishers; None while there are none.
    """

    def __init__(self, shared: SharedState, logger: Any) -> None:
        self._shared, self._logger = shared, logger
        self.arrivals = Arrivals()
        self.outputs: Outputs | None = None

    # -- the node's callbacks ----------------------------------------------------------------------------------------

    def on_image(self, message: Image | CompressedImage, info: Mapping[str, Any]) -> None:
        """Take an image: to the worker, or first to its detections. info: rclpy's, of the message."""
        self.arrivals.add(info)
        worker = self._shared.worker
        if worker is None or not self._shared.active:
            return
        try:
            check_message(message)
        except BadImageError as error:
            worker.reject_frame(error)
        else:
            if self._shared.parameters.use_detections:
                _push(worker, self._shared.detections.add_image(message))
            else:
                worker.push_frame(message)

    def on_detections(self, message: Any) -> None:
        """Take a Detection2DArray: to the worker with its image."""
        worker = self._shared.worker
        if worker is not None and self._shared.active and self._shared.parameters.use_detections:
            _push(worker, self._shared.detections.add(message))

    # -- on the worker's thread --------------------------------------------------------------------------------------

    def decode(self, message: Image | CompressedImage) -> Pixels:
        """The pixels of a frame that is about to be processed. Raises BadImageError."""
        self._shared.calibrator.expect(message.header.stamp)
        return image_to_rgb(message)

    def publish(self, frame: FrameState, depths: tuple[ObjectDepth, ...], engine: AdaptableEngine) -> None:
        """Learn from a frame and publish everything about it."""
        shared, outputs = self._shared, self.outputs
        if not shared.active or outputs is None or not shared.is_ok():
            return
        started, parameters = time.perf_counter(), shared.parameters
        height, width = frame.image.shape[:2]

        def camera() -> Camera:
            return shared.camera_info.model(frame.header, width, height, parameters.image_rectified)

        shared.calibrator.update(
            FrameContext(frame.header, width, height, depths, camera, shared.transforms, parameters.sync_tolerance)
        )
        depths = shared.calibrator.annotate(frame.header, depths)
        shared.image_health = shared.health_monitor.assess(frame.image)
        message = depths_to_message(frame.header, engine.model_name, depths, shared.image_health)
        processing_s = frame.processing_s + time.perf_counter() - started
        outputs.publish(message, frame, depths, processing_s, camera)

    def report(self, text: str) -> None:
        """Log why a frame was not used."""
        self._logger.warning(f"frame not used: {text}", throttle_duration_sec=LOG_THROTTLE_S)


def _push(worker: Worker, detected: DetectedFrame | None) -> None:
    if detected is not None:
        worker.push_frame(detected.image, detected.objects)
