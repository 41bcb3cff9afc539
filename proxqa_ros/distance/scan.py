"""Distances of objects from a planar laser scanner beside the camera.

A reading counts for the object in whose region its point is seen, by the camera's lens and by where the camera is
relative to the scanner: an object that the scan's plane does not cross gets none. Infinity, -infinity and NaN mean what
REP 117 says.

The rule: of the readings that are seen in the middle half of an object's region, from its left to its right, the near
quartile is taken; where half of them or more lie within a tenth of it, their median is the object's distance. So an
object with a background beside it is measured. One that stands in the scan with its legs only is not, or it teaches the
distance of the wall behind it: exclude such objects by the parameter `scan_objects`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from sensor_msgs.msg import LaserScan

from proxqa_core.errors import ProxqaError
from proxqa_core.robot.calibration import MAX_DISTANCE_M
from proxqa_core.types import ObjectDepth
from proxqa_ros.common.camera import Camera
from proxqa_ros.common.conversions import region_of
from proxqa_ros.common.parameters import Spec, named_objects
from proxqa_ros.distance.source import FrameContext, Measurement, TopicSource
from proxqa_ros.distance.transforms import CameraPose, Floats, SensorPose

MIN_READINGS = 3
"""Least number of readings on an object."""
NEAR_QUANTILE = 0.25
"""Part of the readings on an object that may be nearer than its near quartile: things in front of it."""
MAX_DEVIATION = 0.1
"""Part of the distance by which readings on one object may differ."""
MIN_AGREEMENT = 0.5
"""Least part of the readings on an object that must agree."""
MAX_TURN_RAD = 1.05 * 2 * math.pi
"""Largest angle that a scan begins at, and that it covers: one turn, for some scanners a little more."""


class BadScanError(ProxqaError, ValueError):
    """A scan cannot be used."""


class ScanSource(TopicSource):
    """Scans of a plane. Needs camera_info.

    Where the camera is relative to the scanner: by the parameter `camera_in_scan`, where that is set (not all zeros);
    else by TF, where there is a transform from the scan's frame to the image's; else the camera is taken to be at the
    scanner's place, looking ahead.
    """

    parameters = MappingProxyType(
        {
            "camera_in_scan": Spec(
                [0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
                "Camera's pose in the laser scanner's frame: x ahead, y left, z up in m (-100 to 100); "
                "roll, pitch, yaw in rad (-3.1416 to 3.1416); all zeros = as TF says, where there is TF.",
                live=True,
                check=lambda values: CameraPose.of(values or ()),
            ),
            "scan_objects": Spec(
                [""],
                "Names of the objects that the laser scan measures; [''] = all.",
                live=True,
                check=lambda names: named_objects(names, "scan_objects"),
            ),
        }
    )
    message_type = LaserScan
    topic = "scan"
    counter = "scans"
    buffer_size = 20

    def __init__(self) -> None:
        super().__init__()
        self.camera_pose = CameraPose()
        self.object_names: tuple[str, ...] = ()

    def configure(self, values: Mapping[str, Any]) -> None:
        """Take the parameters `camera_in_scan` and `scan_objects`."""
        self.camera_pose = CameraPose.of(values["camera_in_scan"])
        self.object_names = tuple(q.name for q in named_objects(values["scan_objects"], "scan_objects"))

    def measure_message(self, message: Any, frame: FrameContext) -> list[Measurement]:
        """See `from_scan`."""
        return from_scan(message, self._pose(message, frame), frame.camera(), frame.visible, self.object_names)

    def _pose(self, message: LaserScan, frame: FrameContext) -> SensorPose:
        pose = self.camera_pose
        if pose != CameraPose():
            return pose
        header = message.header
        transform = frame.transforms.find(frame.header.frame_id, header.frame_id, header.stamp, frame.sync_tolerance_s)
        return pose if transform is None else transform


def from_scan(
    message: LaserScan, pose: SensorPose, camera: Camera, objects: Sequence[ObjectDepth], names: Collection[str] = ()
) -> list[Measurement]:
    """Measure the objects that have a region and are in the scan.

    Args:
        message: The scan.
        pose: Where the scanner is relative to the camera.
        camera: The camera model of the image that the regions are of.
        objects: The objects.
        names: Names of the objects that may be measured, in any case; none = all.

    Returns:
        Those that the scan measures.

    Raises:
        BadScanError: The message is broken.
    """
    # 1. what was read, and where: points [n, 3] in the optical frame, distances along its axis [n] (or ±infinity)
    points, values = _readings(message)
    points = pose.to_optical(points)
    values = np.where(np.isfinite(values), points[:, 2], values)
    # 2. where in the image those points are seen: x [n], y [n] in pixels
    x, y = camera.project(points).T
    # 3. of every object: the readings in the middle half of its region
    wanted = {name.casefold() for name in names}
    found = []
    for d in objects:
        region = region_of(d)
        if region is None or (wanted and d.name.casefold() not in wanted):
            continue
        quarter = (region.x2 - region.x1) / 4
        inside = (region.x1 + quarter <= x) & (x < region.x2 - quarter) & (region.y1 <= y) & (y < region.y2)
        metres = _agreed_distance(values[inside])
        if math.isfinite(metres):
            found.append(Measurement(d, metres))
    return found


def _readings(message: LaserScan) -> tuple[Floats, Floats]:
    """Points [n, 3] in the scanner's frame and what was read there, metres or ±infinity [n]. NaN is left out.

    Infinity (nothing there) is placed as far as the scanner reaches, -infinity (too near) where its reach begins.
    """
    low, high = message.range_min, message.range_max
    if not (math.isfinite(low) and 0 <= low < high):
        raise BadScanError(f"the scan reaches from {low:g} to {high:g} m; expected 0 <= range_min < range_max")
    if not (math.isfinite(message.angle_min) and math.isfinite(message.angle_increment) and message.angle_increment):
        raise BadScanError(
            f"the scan begins at {message.angle_min:g} rad in steps of {message.angle_increment:g}; "
            "expected finite numbers, steps not 0"
        )
    ranges = np.array(message.ranges, np.float64)
    if not ranges.size:
        raise BadScanError("the scan has no readings; expected one or more")
    covered = abs(message.angle_increment) * (len(ranges) - 1)
    if max(abs(message.angle_min), covered) > MAX_TURN_RAD:
        raise BadScanError(
            f"the scan begins at {message.angle_min:g} rad and covers {covered:g} rad; expected at most one turn (are "
            "these degrees?)"
        )
    angles = message.angle_min + message.angle_increment * np.arange(len(ranges))
    known = np.isinf(ranges) | ((low <= ranges) & (ranges <= high))
    ranges, angles = ranges[known], angles[known]
    at = np.clip(ranges, low, min(high, MAX_DISTANCE_M))
    return np.stack([at * np.cos(angles), at * np.sin(angles), np.zeros(len(at))], axis=1), ranges


def _agreed_distance(values: Floats) -> float:
    """The distance that readings on one object agree on, NaN where they do not; ±infinity among them."""
    if len(values) < MIN_READINGS:
        return math.nan
    near = np.sort(values)[int(NEAR_QUANTILE * len(values))]
    if not near > 0 or not math.isfinite(near):
        return math.nan
    agreeing = values[np.isfinite(values) & (np.abs(values - near) <= MAX_DEVIATION * near)]
    return float(np.median(agreeing)) if len(agreeing) >= MIN_AGREEMENT * len(values) else math.nan
