"""Metres for the node: true distances of objects from what is measured and known, and what is learned from them.

Sources: depth images, range readings, laser scans (see `scan`), objects of known height (see `known_sizes`).

Promises: a frame is paired with the depth image, reading and scan nearest to it in time, by their own stamps, or with
none; whatever comes in is used or refused with one line (`problem`), never raised; every method may be called from any
thread. Knows nothing of nodes or topics.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from builtin_interfaces.msg import Time
from sensor_msgs.msg import Image, LaserScan, Range
from std_msgs.msg import Header

from proxqa_core.depth import central_half
from proxqa_core.errors import BadImageError, BadObjectError, ProxqaError
from proxqa_core.robot.calibration import Calibration, CalibrationState
from proxqa_core.types import VISIBLE, Box, ObjectDepth
from proxqa_ros.common.camera import BadCameraError, Camera
from proxqa_ros.common.conversions import depth_to_metres
from proxqa_ros.common.errors import one_line
from proxqa_ros.common.stamps import StampedBuffer, seconds
from proxqa_ros.distance import known_sizes
from proxqa_ros.distance.scan import CameraPose, from_scan

MEASURED = 0.25
"""Least part of the pixels in the middle of an object that must have a depth."""
SAME_SHAPE = 0.02
"""Most by which the sides of image and depth image may differ in proportion."""


Lens = Callable[[], Camera]
"""Makes the lens of the image that is looked at; raises BadCameraError."""
Pairs = list[tuple[ObjectDepth, float, float]]
"""Objects with their true distances along the optical axis and the standard deviations of these, in metres."""


def no_lens() -> Camera:
    """Nothing is known of the lens: raises BadCameraError."""
    raise BadCameraError("no camera_info has arrived yet")


class DistanceCalibrator:
    """Learns from what is measured beside the camera and gives objects their distances.

    tolerance: most seconds between an image and what is measured beside it. range_object: name of the object a range
    sensor points at; '' = the one whose region holds the middle of the image, the smallest where several do.
    camera_pose: where the camera is in the frame of the laser scanner. scan_objects: names of those that it measures,
    none = all. known_sizes: heights in metres by name, case-folded.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calibration = Calibration()
        self._depth_images = StampedBuffer(10)
        self._ranges = StampedBuffer(100)
        self._scans = StampedBuffer(20)
        self.tolerance = 0.05
        self.range_object = ""
        self.camera_pose = CameraPose()
        self.scan_objects: tuple[str, ...] = ()
        self.known_sizes: Mapping[str, float] = {}
        self.depth_images = 0
        self.range_readings = 0
        self.scans = 0
        self.problem = ""
        """What was wrong with what was measured beside the last frame, one line; '' = nothing."""

    def set_memory(self, memory: float) -> None:
        """Seconds after which a sample counts 1/e of a new one."""
        with self._lock:
            self._calibration.memory = memory

    def reset(self) -> None:
        """Forget everything measured and learned."""
        with self._lock:
            self._calibration.reset()
            self._depth_images.clear()
            self._ranges.clear()
            self._scans.clear()
            self.depth_images = self.range_readings = self.scans = 0
            self.problem = ""

    def unlearn(self) -> None:
        """Forget what was learned: another model's depths come."""
        with self._lock:
            self._calibration.reset()

    def add_depth_image(self, message: Image) -> None:
        """Depth aligned with the image: the same view through the same lens, of whatever resolution."""
        with self._lock:
            self.depth_images += 1
            self._depth_images.add(message)

    def add_range(self, message: Range) -> None:
        """A reading of a sensor that looks along the optical axis from beside the camera."""
        with self._lock:
            self.range_readings += 1
            self._ranges.add(message)

    def add_scan(self, message: LaserScan) -> None:
        """A scan of a plane, by a scanner beside the camera."""
        with self._lock:
            self.scans += 1
            self._scans.add(message)

    def expect(self, stamp: Time) -> None:
        """An image of this stamp is about to be looked at."""
        with self._lock:
            self._depth_images.expect(stamp)
            self._ranges.expect(stamp)
            self._scans.expect(stamp)

    def learn(
        self, header: Header, width: int, height: int, depths: Sequence[ObjectDepth], lens: Lens = no_lens
    ) -> None:
        """Learn from the objects in view of the image with this header and of width x height pixels.

        lens: called where a source needs it. What one source lacks does not keep the others from teaching.
        """
        with self._lock:
            depth_image = self._depth_images.nearest(header.stamp, self.tolerance)
            reading = self._ranges.nearest(header.stamp, self.tolerance)
            scan = self._scans.nearest(header.stamp, self.tolerance)
        seen = [d for d in depths if d.score >= VISIBLE]

        def by_range() -> Pairs:
            pointed_at = None if reading is None else self._pointed_at(depths, width, height)
            return [] if pointed_at is None else [(pointed_at, metres_of_range(reading), 0.0)]

        def by_depth_image() -> Pairs:
            if depth_image is None:
                return []
            return [(d, m, 0.0) for d, m in from_depth_image(depth_image, header, width, height, seen)]

        def by_scan() -> Pairs:
            if scan is None:
                return []
            return [(d, m, 0.0) for d, m in from_scan(scan, self.camera_pose, lens(), seen, self.scan_objects)]

        def by_size() -> Pairs:
            sizes = self.known_sizes
            sized = known_sizes.measurable(sizes, width, height, seen)
            return known_sizes.from_known_sizes(sizes, lens(), sized) if sized else []

        pairs, problems = [], []
        for source in (by_range, by_depth_image, by_scan, by_size):
            try:
                pairs += source()
            except ProxqaError as error:
                problems.append(one_line(error))
        with self._lock:
            for d, metres, stddev in pairs:
                self._calibration.add(seconds(header.stamp), d.depth, d.depth_stddev, metres, stddev)
        self.problem = "; ".join(dict.fromkeys(problems))

    def fill(self, header: Header, depths: Sequence[ObjectDepth]) -> tuple[ObjectDepth, ...]:
        """The objects, those in view with their distances as far as the calibration is trusted."""
        with self._lock:
            return tuple(self._filled(seconds(header.stamp), d) for d in depths)

    def state(self) -> CalibrationState:
        """How far the calibration has got."""
        with self._lock:
            return self._calibration.state()

    def _filled(self, time: float, d: ObjectDepth) -> ObjectDepth:
        if not d.score >= VISIBLE:
            return d
        distance, stddev = self._calibration.distance(time, d.depth, d.depth_stddev)
        return replace(d, distance=distance, distance_stddev=stddev)

    def _pointed_at(self, depths: Sequence[ObjectDepth], width: int, height: int) -> ObjectDepth | None:
        """What the range sensor points at, None where it is not in view. BadObjectError where that is not clear."""
        name = self.range_object.casefold()
        if name:
            named = [d for d in depths if d.name.casefold() == name]
            if len(named) != 1:
                raise BadObjectError(
                    f"parameter range_object is {self.range_object!r}, the name of {len(named)} objects; expected one"
                )
        else:
            named = sorted((d for d in depths if _holds(_region(d), width / 2, height / 2)), key=_area)
        return next((d for d in named if d.score >= VISIBLE), None)


def from_depth_image(
    message: Image, header: Header, width: int, height: int, depths: Sequence[ObjectDepth]
) -> list[tuple[ObjectDepth, float]]:
    """Objects that have a region, with the median of their metres over the central half of it.

    header, width, height: of the image that the regions are of. Left out: objects of whose middle less than MEASURED
    has a depth. BadImageError where the depth image is broken or not aligned with the image.
    """
    placed = [(d, region) for d in depths if (region := _region(d)) is not None]
    if message.header.frame_id != header.frame_id:
        raise BadImageError(
            f"the depth image is in frame {message.header.frame_id[:60]!r}, the image in {header.frame_id[:60]!r}; "
            "expected a depth image aligned with the image"
        )
    if abs(message.width * height - message.height * width) > SAME_SHAPE * message.height * width:
        raise BadImageError(
            f"the depth image is {message.width}x{message.height} pixels, the image {width}x{height}; "
            "expected a depth image aligned with the image"
        )
    metres = depth_to_metres(message)
    across, down = message.width / width, message.height / height
    found = []
    for d, region in placed:
        box = Box(region.x1 * across, region.y1 * down, region.x2 * across, region.y2 * down)
        try:
            middle = metres[central_half(box, message.width, message.height)]
        except BadObjectError:  # outside, or less than a pixel
            continue
        measured = middle[np.isfinite(middle)]
        if measured.size >= MEASURED * middle.size:
            found.append((d, float(np.median(measured))))
    return found


def metres_of_range(message: Range) -> float:
    """The reading in metres; NaN where it is outside the sensor's own limits or not finite: nothing there (REP 117)."""
    usable = message.min_range <= message.range <= message.max_range and math.isfinite(message.range)
    return float(message.range) if usable else math.nan


def _region(d: ObjectDepth) -> Box | None:
    return d.box or d.found_at


def _area(d: ObjectDepth) -> float:
    region = _region(d)
    return 0.0 if region is None else (region.x2 - region.x1) * (region.y2 - region.y1)


def _holds(region: Box | None, x: float, y: float) -> bool:
    return region is not None and region.x1 <= x < region.x2 and region.y1 <= y < region.y2
