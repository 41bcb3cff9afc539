"""True distances of objects from the readings of a planar laser scanner beside the camera.

Promises: a reading counts for the object in whose region its point is seen, by the camera's lens and its pose in the
scanner's frame: an object that the scan's plane does not cross gets none. Infinity, -infinity and NaN mean what REP 117
says. What cannot be used is refused with one line. Knows nothing of nodes, topics or models.

The rule. Of the readings that are seen in the middle half of an object's region, from its left to its right, the near
quartile is looked up; where half of them or more lie within a tenth of it, their median is the object's distance. So an
object with a background beside it is measured, one that stands in the scan with its legs only is not, or teaches the
wall behind it: leave such objects out by name.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import LaserScan

from proxqa_core.errors import ProxqaError
from proxqa_core.robot.calibration import MAX_DISTANCE_M
from proxqa_core.types import ObjectDepth
from proxqa_ros.common.camera import Camera

Floats = NDArray[np.float64]

FEWEST = 3
"""Least readings on an object."""
NEAR = 0.25
"""Part of the readings on an object that may be nearer than its near quartile: things in front of it."""
ALIKE = 0.1
"""Part of the distance by which readings on one object may differ."""
AGREE = 0.5
"""Least part of the readings on an object that must be alike."""
FARTHEST_POSE = 100.0
"""Most metres between scanner and camera, along each axis."""


class BadScanError(ProxqaError, ValueError):
    """A scan, or where the camera is in it, cannot be used."""


@dataclass(frozen=True)
class CameraPose:
    """Where the camera is in the scanner's frame, by REP 103: x ahead, y to the left, z up (m).

    roll, pitch, yaw: radians about these axes in that order, as tf2 prints them, of the camera's body (x along its
    optical axis), not of its optical frame: yaw > 0 looks to the left of the scanner's ahead, pitch > 0 looks down.
    Raises BadScanError unless all are finite, metres within ±FARTHEST_POSE, angles within ±π.
    """

    x: float = 0.0
    y: float = 0.0
    z: float = 0.0
    roll: float = 0.0
    pitch: float = 0.0
    yaw: float = 0.0

    def __post_init__(self) -> None:
        metres, angles = (self.x, self.y, self.z), (self.roll, self.pitch, self.yaw)
        if not (all(abs(v) <= FARTHEST_POSE for v in metres) and all(abs(v) <= math.pi for v in angles)):
            raise BadScanError(
                f"the camera's pose is {[*metres, *angles]}; expected [x, y, z, roll, pitch, yaw], "
                f"metres within ±{FARTHEST_POSE:g} and radians within ±3.1416"
            )

    @classmethod
    def of(cls, values: Sequence[float]) -> CameraPose:
        """Of six numbers. Raises BadScanError."""
        if len(values) != 6:
            raise BadScanError(f"the camera's pose has {len(values)} numbers; expected 6: [x, y, z, roll, pitch, yaw]")
        return cls(*(float(v) for v in values))

    def optical(self, points: Floats) -> Floats:
        """Points [n, 3] of the scanner's frame in the camera's optical frame (x right, y down, z along the axis)."""
        (sr, sp, sy), (cr, cp, cy) = (f([self.roll, self.pitch, self.yaw]) for f in (np.sin, np.cos))
        about_x = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
        about_y = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
        about_z = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
        body = (points - (self.x, self.y, self.z)) @ (about_z @ about_y @ about_x)
        return np.stack([-body[:, 1], -body[:, 2], body[:, 0]], axis=1)


def from_scan(
    message: LaserScan, pose: CameraPose, camera: Camera, depths: Sequence[ObjectDepth], names: Collection[str] = ()
) -> list[tuple[ObjectDepth, float]]:
    """Objects that have a region and are in the scan, with their metres along the camera's optical axis.

    camera: the lens of the image that the regions are of. names: of the objects that may be measured, in any case;
    none = all. Raises BadScanError where the message is broken.
    """
    points, values = _readings(message)
    points = pose.optical(points)
    values = np.where(np.isfinite(values), points[:, 2], values)
    x, y = camera.places(points).T
    wanted = {name.casefold() for name in names}
    found = []
    for d in depths:
        region = d.box or d.found_at
        if region is None or (wanted and d.name.casefold() not in wanted):
            continue
        quarter = (region.x2 - region.x1) / 4
        across = (region.x1 + quarter <= x) & (x < region.x2 - quarter)
        metres = _near(values[across & (region.y1 <= y) & (y < region.y2)])
        if math.isfinite(metres):
            found.append((d, metres))
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
    angles = message.angle_min + message.angle_increment * np.arange(len(ranges))
    known = np.isinf(ranges) | ((low <= ranges) & (ranges <= high))
    ranges, angles = ranges[known], angles[known]
    at = np.clip(ranges, low, min(high, MAX_DISTANCE_M))
    return np.stack([at * np.cos(angles), at * np.sin(angles), np.zeros(len(at))], axis=1), ranges


def _near(values: Floats) -> float:
    """The distance that readings on one object agree on, NaN where they do not; ±infinity among them."""
    if len(values) < FEWEST:
        return math.nan
    near = np.sort(values)[int(NEAR * len(values))]
    if not near > 0 or not math.isfinite(near):
        return math.nan
    alike = values[np.isfinite(values) & (np.abs(values - near) <= ALIKE * near)]
    return float(np.median(alike)) if len(alike) >= AGREE * len(values) else math.nan
