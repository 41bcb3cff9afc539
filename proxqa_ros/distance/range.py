"""The distance of the object that a range sensor (ultrasound, infrared, time of flight) points at."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from sensor_msgs.msg import Range

from proxqa_core.errors import BadObjectError, ProxqaError
from proxqa_core.types import Box, ObjectDepth, ObjectQuery, clean_text
from proxqa_ros.common.camera import BadCameraError
from proxqa_ros.common.conversions import region_of
from proxqa_ros.common.parameters import Spec
from proxqa_ros.distance.source import FrameContext, Measurement, TopicSource
from proxqa_ros.distance.transforms import Floats


class BadRangeError(ProxqaError, ValueError):
    """A reading cannot be used."""


class RangeSource(TopicSource):
    """Readings of a range sensor beside the camera.

    By TF, where there is a transform from the sensor's frame to the image's: the reading is a point on the sensor's own
    x axis (REP 103, sensor_msgs/Range), and what is learned from is how far that point is along the optical axis. Else
    the sensor is taken to look along the optical axis from beside the camera.

    Which object it points at: the one named by the parameter `range_object`; else the one whose region holds the place
    where that point is seen, the smallest where several do. That place takes TF and camera_info; without them it is the
    middle of the image.
    """

    parameters = MappingProxyType(
        {
            "range_object": Spec(
                "",
                "Name of the object that the range sensor points at; '' = the one that its axis hits in the image.",
                live=True,
                check=lambda name: ObjectQuery(name) if name else None,
            )
        }
    )
    message_type = Range
    topic = "range"
    counter = "range_readings"
    buffer_size = 100

    def __init__(self) -> None:
        super().__init__()
        self.range_object = ""

    def configure(self, values: Mapping[str, Any]) -> None:
        """Take the parameter `range_object`."""
        self.range_object = clean_text(values["range_object"])

    def measure_message(self, message: Any, frame: FrameContext) -> list[Measurement]:
        """The object that the sensor points at; nothing where it is not in view or not clear of the camera."""
        _check_limits(message)
        point = _point(message, frame)
        if self.range_object:
            target = self._named(frame)
        else:
            place = _middle(frame) if point is None else _place(point, frame)
            target = _smallest_at(place, frame) if place is not None else None
        if target is None:
            return []
        return [Measurement(target, metres_of_range(message) if point is None else float(point[2]))]

    def _named(self, frame: FrameContext) -> ObjectDepth | None:
        """The object of that name, None where it is not in view. Raises BadObjectError where that is not clear."""
        name = self.range_object.casefold()
        named = [d for d in frame.objects if d.name.casefold() == name]
        if len(named) != 1:
            raise BadObjectError(
                f"parameter range_object is {self.range_object!r}, the name of {len(named)} objects; expected one"
            )
        return named[0] if named[0].is_answered else None


def _check_limits(message: Range) -> None:
    """Raise BadRangeError where no reading can be within the sensor's own limits, or only one of a fixed distance."""
    low, high = message.min_range, message.max_range
    if not (math.isfinite(low) and 0 <= low < high):
        raise BadRangeError(f"the range sensor reaches from {low:g} to {high:g} m; expected 0 <= min_range < max_range")


def metres_of_range(message: Range) -> float:
    """A reading in metres; NaN where it is not finite or outside the sensor's own limits: nothing there (REP 117)."""
    usable = message.min_range <= message.range <= message.max_range and math.isfinite(message.range)
    return float(message.range) if usable else math.nan


def _point(message: Range, frame: FrameContext) -> Floats | None:
    """The measured point in the optical frame [3], in metres; NaN = nothing is there, None = TF has no transform."""
    transform = frame.transforms.find(
        frame.header.frame_id, message.header.frame_id, message.header.stamp, frame.sync_tolerance_s
    )
    if transform is None:
        return None
    point: Floats = transform.to_optical(np.array([[metres_of_range(message), 0.0, 0.0]]))[0]
    return point


def _middle(frame: FrameContext) -> tuple[float, float]:
    return frame.width / 2, frame.height / 2


def _place(point: Floats, frame: FrameContext) -> tuple[float, float] | None:
    """Where in the image a point is seen, in pixels; None where it is not."""
    if not point[2] > 0:  # behind the camera, or nothing there
        return None
    try:
        camera = frame.camera()
    except BadCameraError:
        return _middle(frame)
    ((x, y),) = camera.project(point[None])
    return (float(x), float(y)) if math.isfinite(x) and math.isfinite(y) else None


def _smallest_at(place: tuple[float, float], frame: FrameContext) -> ObjectDepth | None:
    """The object in view whose region holds the place, the smallest where several do."""
    found = [(region, d) for d in frame.visible if (region := region_of(d)) is not None and _holds(region, *place)]
    return min(found, key=lambda f: f[0].area)[1] if found else None


def _holds(region: Box, x: float, y: float) -> bool:
    return region.x1 <= x < region.x2 and region.y1 <= y < region.y2
