"""A detector's names and boxes: which image they belong to, and which objects they name.

Promises: an image is matched with the detections made from it, whichever of the two arrives first, by their own stamps:
equal ones at once, others when it is certain that none fits better; what is too far apart in time, or of another frame,
is not matched. Whatever comes in is used, or left out with one line (`problem`) and never raised; any thread may call
any method. vision_msgs is optional: without it `Detection2DArray` is None.

A class_id is used as a name, cleaned like every name from outside. One that is only a number is an index into a list:
the parameter `class_names`, or else what the detector publishes as LabelInfo, says what it means. Without an entry it
is left out: no model knows what a "17" looks like.
"""

from __future__ import annotations

import math
import re
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

from proxqa_core.errors import BadObjectError, reason_of
from proxqa_core.frames import same_frame
from proxqa_core.types import MAX_OBJECTS, Box, ObjectQuery, clean_text
from proxqa_ros.common.parameters import BadParameterError
from proxqa_ros.common.stamps import NS_PER_S, nanoseconds
from proxqa_ros.proximity.worker import ObjectsIn

try:
    from vision_msgs.msg import Detection2DArray
except ImportError:
    Detection2DArray = None
try:
    from vision_msgs.msg import LabelInfo  # since vision_msgs 4.1
except ImportError:
    LabelInfo = None

NOT_INSTALLED = "vision_msgs is not installed; it is ros-<distro>-vision-msgs in a ROS distro, and has no wheel"
MAX_WAITING_IMAGES = 30
"""Most images that wait for their detections."""
MAX_WAITING_BYTES = 256 * 2**20
"""Most bytes of images that wait, beyond the newest one."""
MAX_WAITING_DETECTIONS = 10
"""Most detections that wait for their image."""
UNMET_DETECTIONS = 5
"""Detections in turn without an image of their stamp: from there on it is said."""
MAX_SCORE = 1.001
"""Largest score, but for rounding: one in percent would pass every least score."""
MAX_ANGLE_RAD = 2 * math.pi + 0.01
"""Largest rotation of a box either way: one in degrees is none."""
TIME_JUMP_NS = NS_PER_S
"""Stamps going back by more than this are a jump back in time, such as a bag that starts again; in nanoseconds."""
NO_CLASS_NAMES: Mapping[int, str] = MappingProxyType({})
_NUMBER = re.compile(r"[+-]?\d{1,9}")
_NUMBERED = re.compile(r"\s*(\d{1,9})\s*:\s*(.+)")


@dataclass(frozen=True, eq=False)
class DetectedFrame:
    """An image message and the objects that were detected in it."""

    image: Any
    objects: ObjectsIn


class DetectionMatcher:
    """Matches images and detections, which wait for each other.

    Attributes:
        tolerance_s: Largest difference between their stamps, in seconds.
        min_score: Least score of a detection that is used, 0 to 1.
        class_names: What a class_id that is a number means, by the parameter; where empty, by LabelInfo.
        images: Number of images received.
        received: Number of messages with detections received.
        matched: Number of those that have been matched with an image.
        matched_header: The header of the last image that has been matched; None = there is none.
        problem: What was wrong with the last detections, one line; "" = nothing.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._images: deque[Any] = deque()
        self._detections: deque[Any] = deque(maxlen=MAX_WAITING_DETECTIONS)
        self._taken: Any = None
        self._unmet = 0
        self.tolerance_s = 0.05
        self.min_score = 0.5
        self.class_names = NO_CLASS_NAMES
        self._label_info = NO_CLASS_NAMES
        self.images = 0
        self.received = 0
        self.matched = 0
        self.matched_header: Any = None
        self.problem = ""

    def add_image(self, message: Any) -> DetectedFrame | None:
        """Take an image. Returns it with its detections, where they arrived before it."""
        with self._lock:
            self.images += 1
            if self._images and _ns(message) < _ns(self._images[-1]) - TIME_JUMP_NS:
                self._drop_waiting()
            self._images.append(message)
            while len(self._images) > 1 and (
                len(self._images) > MAX_WAITING_IMAGES or sum(len(m.data) for m in self._images) > MAX_WAITING_BYTES
            ):
                self._images.popleft()
            return self._match()

    def add(self, message: Any) -> DetectedFrame | None:
        """Take a Detection2DArray. Returns its image with it, where that arrived before it."""
        with self._lock:
            self.received += 1
            if len(self._detections) == MAX_WAITING_DETECTIONS:
                self._count_unmet(self._detections[0])
            self._detections.append(message)
            return self._match()

    def add_label_info(self, message: Any) -> None:
        """Take a LabelInfo: what the detector's numbers mean."""
        with self._lock:
            self._label_info = {int(c.class_id): str(c.class_name) for c in message.class_map}

    def newest_image(self) -> Any:
        """The newest waiting image, for a query, which cannot wait; None = there is none, or it was taken before."""
        with self._lock:
            if not self._images or self._images[-1] is self._taken:
                return None
            self._taken = self._images[-1]
            return self._taken

    def clear(self) -> None:
        """Drop what waits, and what was wrong."""
        with self._lock:
            self._drop_waiting()
            self.problem = ""

    def objects_in(self, message: Any, width: int, height: int) -> tuple[ObjectQuery, ...]:
        """The objects of a Detection2DArray in an image of width x height pixels; sets `problem`."""
        objects, self.problem = objects_of(message, self.min_score, width, height, self.class_names or self._label_info)
        return objects

    def _drop_waiting(self) -> None:
        self._images.clear()
        self._detections.clear()
        self._taken = self.matched_header = None
        self._unmet = 0

    def _count_unmet(self, detections: Any) -> None:
        """Count detections that no image is for, and say so where that goes on."""
        self._unmet += 1
        if self._unmet < UNMET_DETECTIONS or not self._images:
            return
        off_s = min((_ns(detections) - _ns(m) for m in self._images), key=abs) / NS_PER_S
        self.problem = (
            f"the last {self._unmet} detections are of no image: by their stamps they are {abs(off_s):.3f} s "
            f"{'after' if off_s > 0 else 'before'} the nearest; expected within {self.tolerance_s:g} s (sync_tolerance)"
        )

    def _match(self) -> DetectedFrame | None:
        """The newest detections that have an image now, which is taken out with everything before it."""
        for detections in reversed(list(self._detections)):
            wanted = _ns(detections)
            image = min(self._images, key=lambda m: abs(_ns(m) - wanted), default=None)
            if image is None or max(_ns(m) for m in self._images) < wanted:
                continue  # a later image may fit better
            if abs(_ns(image) - wanted) > self.tolerance_s * NS_PER_S:
                self._count_unmet(detections)
                self._detections = deque((d for d in self._detections if d is not detections), MAX_WAITING_DETECTIONS)
                continue
            while self._detections.popleft() is not detections:
                pass
            while self._images.popleft() is not image:
                pass
            self._unmet = 0
            frame = detections.header.frame_id  # detectors leave it empty
            if frame and not same_frame(frame, image.header.frame_id):
                self.problem = (
                    f"detections are of frame {detections.header.frame_id[:60]!r}, the image of "
                    f"{image.header.frame_id[:60]!r}; expected the same"
                )
                return None
            self.matched += 1
            self.matched_header = image.header
            return DetectedFrame(image, partial(self.objects_in, detections))
        return None


def class_names_of(entries: Sequence[str]) -> Mapping[int, str]:
    """What the class_ids that are numbers mean.

    Args:
        entries: Either "number: name" each, or the names alone, the first of which is number 0; [""] is none.

    Raises:
        BadParameterError: It is a mixture of the two, a number comes twice, or a name cannot be used.
    """
    if list(entries) in ([], [""]):
        return NO_CLASS_NAMES
    numbered = [_NUMBERED.fullmatch(entry) for entry in entries]
    if not any(numbered):
        pairs = list(enumerate(entries))
    elif None not in numbered:
        pairs = [(int(match[1]), match[2]) for match in numbered if match]
    else:
        wrong = entries[numbered.index(None)]
        raise BadParameterError(
            f"parameter 'class_names' has {wrong[:40]!r} among numbered names; expected 'number: name' each, or names"
        )
    names: dict[int, str] = {}
    for number, name in pairs:
        if number in names:
            raise BadParameterError(f"parameter 'class_names' has the number {number} twice; expected each once")
        try:
            names[number] = ObjectQuery(name).name
        except BadObjectError as error:
            raise BadParameterError(f"parameter 'class_names': {reason_of(error)}") from error
    return names


def objects_of(
    message: Any, min_score: float, width: int, height: int, class_names: Mapping[int, str] = NO_CLASS_NAMES
) -> tuple[tuple[ObjectQuery, ...], str]:
    """The objects of detections.

    Args:
        message: A vision_msgs/Detection2DArray.
        min_score: Detections below this score are left out in silence.
        width: The image's width in pixels; boxes are cut at its edges, rotated ones become their bounding boxes.
        height: The image's height in pixels.
        class_names: What class_ids that are numbers mean.

    Returns:
        The objects by falling score, at most `MAX_OBJECTS`; and why others were left out, "" = none was.
    """
    found: list[tuple[float, ObjectQuery]] = []
    problem = ""
    for detection in message.detections:
        hypotheses = [r.hypothesis for r in detection.results if r.hypothesis.score >= min_score]
        if not hypotheses:
            continue
        best = max(hypotheses, key=lambda h: h.score)
        try:
            if best.score > MAX_SCORE:
                raise BadObjectError(f"its score is {best.score:g}; expected 0 to 1")
            found.append(
                (best.score, ObjectQuery(_name(best.class_id, class_names), _box(detection.bbox, width, height)))
            )
        except BadObjectError as error:
            problem = problem or f"a detection was left out: {reason_of(error)}"
    found.sort(key=lambda f: -f[0])
    if len(found) > MAX_OBJECTS:
        problem = problem or f"{len(found)} detections in one image; the {MAX_OBJECTS} with the highest scores are used"
    return tuple(query for _, query in found[:MAX_OBJECTS]), problem


def _name(class_id: str, class_names: Mapping[int, str]) -> str:
    name = clean_text(class_id)
    if not _NUMBER.fullmatch(name):
        return name
    if int(name) in class_names:
        return class_names[int(name)]
    if class_names:
        raise BadObjectError(
            f"class_id {name!r} is none of the {len(class_names)} numbers that have names "
            f"({min(class_names)} to {max(class_names)}); see class_names"
        )
    raise BadObjectError(
        f"class_id {name!r} is a number; expected a name such as 'chair': give class_names, or let the detector "
        "publish names or LabelInfo"
    )


def _box(bbox: Any, width: int, height: int) -> Box:
    x, y, angle = bbox.center.position.x, bbox.center.position.y, bbox.center.theta
    if not abs(angle) <= MAX_ANGLE_RAD:  # also NaN
        raise BadObjectError(f"box is rotated by {angle:g} rad; expected at most one turn (is it in degrees?)")
    if min(x, y) >= 0 and max(x, y) <= 1 and 0 < max(bbox.size_x, bbox.size_y) <= 1:
        raise BadObjectError(
            f"box of {bbox.size_x:g} x {bbox.size_y:g} pixels at ({x:g}, {y:g}) is less than a pixel; expected pixels "
            "of the image, not shares of it"
        )
    c, s = abs(math.cos(angle)), abs(math.sin(angle))
    half_width, half_height = (bbox.size_x * c + bbox.size_y * s) / 2, (bbox.size_x * s + bbox.size_y * c) / 2
    return Box(x - half_width, y - half_height, x + half_width, y + half_height).clipped(width, height)


def _ns(message: Any) -> int:
    return nanoseconds(message.header.stamp)
