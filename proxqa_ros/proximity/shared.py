"""What the parts of the proximity node share: the model, the objects, the parameters, what is measured and detected.

Each part (queries, adapters, diagnostics, outputs) is given one `SharedState` by the node, which alone changes
`worker`, `active`, `fault` and `parameters`.
"""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Callable
from typing import Any, NoReturn

from proxqa_core.types import ObjectQuery
from proxqa_core.vision.image_health import ImageHealth, ImageHealthMonitor
from proxqa_ros.common.camera import LatestCameraInfo
from proxqa_ros.distance.calibrator import DistanceCalibrator
from proxqa_ros.distance.transforms import TransformLookup
from proxqa_ros.proximity.detections import DetectionMatcher, class_names_of
from proxqa_ros.proximity.parameters import Parameters
from proxqa_ros.proximity.queries import RefusedError
from proxqa_ros.proximity.worker import Stream, Worker

POLL_PERIOD_S = 0.2
"""Longest time in which a wait does not notice that ROS was shut down, in seconds."""


class SharedState:
    """See the module.

    Args:
        parameters: The parameters at start.
        calibrator: Learns distances.
        transforms: Looks up where sensors are.
        lifecycle_state: The name of the node's lifecycle state.
        now_ns: The node's clock in nanoseconds.
        is_ok: Whether ROS has not been shut down.
        unknown_parameters: Parameters that were given but are not the node's, one line each.
        unmatched_remaps: Remappings that match none of the node's names, one line each.

    Attributes:
        worker: The model's thread, None while there is no model.
        model_name: The model's name with its adapter's, "" while there is no model.
        adapter_in_use: The name that load_adapter was given for it; "" = the node was configured with it.
        active: The node is active.
        enabled: `object_depths` is not paused.
        fault: Why the last transition failed, "" = it did not.
        objects: The objects of the stream; None = not read from the parameter yet.
        camera_info: The newest CameraInfo.
        camera_problem: Why there are no markers, "" = there are some.
        detections: Matches detections with images.
        health_monitor: Judges the images one after the other.
        image_health: What the last published image was like.
    """

    def __init__(
        self,
        parameters: Parameters,
        calibrator: DistanceCalibrator,
        transforms: TransformLookup,
        lifecycle_state: Callable[[], str],
        now_ns: Callable[[], int],
        is_ok: Callable[[], bool],
        unknown_parameters: tuple[str, ...] = (),
        unmatched_remaps: tuple[str, ...] = (),
    ) -> None:
        self.parameters = parameters
        self.calibrator = calibrator
        self.transforms = transforms
        self.lifecycle_state, self.now_ns, self.is_ok = lifecycle_state, now_ns, is_ok
        self.unknown_parameters = unknown_parameters
        self.unmatched_remaps = unmatched_remaps
        self.worker: Worker | None = None
        self.model_name = ""
        self.adapter_in_use = ""
        self.active = False
        self.enabled = True
        self.fault = ""
        self.objects: tuple[ObjectQuery, ...] | None = None
        self.camera_info = LatestCameraInfo()
        self.camera_problem = ""
        self.detections = DetectionMatcher()
        self.health_monitor = ImageHealthMonitor()
        self.image_health = ImageHealth()

    def apply_parameters(self) -> None:
        """Give the parameters, which have been checked, to what measures and to what detects."""
        parameters = self.parameters
        self.calibrator.configure(parameters.sources, parameters.calibration_memory)
        self.detections.tolerance_s = parameters.sync_tolerance
        self.detections.min_score = parameters.detection_min_score
        self.detections.class_names = class_names_of(parameters.class_names)

    def forget_images(self) -> None:
        """What the last images were like says nothing of those that come once they are published again."""
        self.health_monitor.reset()
        self.image_health = ImageHealth()

    def update_stream(self) -> None:
        """Have the worker do with frames what objects, parameters and state say now."""
        if self.worker is not None:
            self.worker.set_stream(
                Stream(
                    objects=self.objects or (),
                    rate_hz=self.parameters.rate,
                    enabled=self.active and self.enabled,
                    use_detections=self.parameters.use_detections,
                )
            )

    def loaded_worker(self, code: int) -> Worker:
        """The worker once its model is loaded; RefusedError with that code before."""
        worker = self.worker
        if worker is None or not worker.loaded.done():
            self.refuse(code)
        return worker

    def refuse(self, code: int) -> NoReturn:
        """Raise the RefusedError of a request that the node's lifecycle state does not allow."""
        reason = f" ({self.fault})" if self.fault else ""
        raise RefusedError(code, f"the node is {self.lifecycle_state()}{reason}; configure and activate it first")

    def wait_for(self, future: concurrent.futures.Future[Any], timeout_s: float) -> bool:
        """Wait until a future is done, a time has passed or ROS is shut down. Whether it is done."""
        end_s = time.perf_counter() + timeout_s
        while not future.done() and self.is_ok() and (left_s := end_s - time.perf_counter()) > 0:
            concurrent.futures.wait([future], timeout=min(left_s, POLL_PERIOD_S))
        return future.done()
