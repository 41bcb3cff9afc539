"""Another node's detections as names and boxes: which image they belong to, and which objects they name.

Promises: an image is paired with the detections made from it, whichever of the two comes first, by their own stamps:
equal ones at once, others when it is certain that none fits better; what is too far apart in time, or of another frame,
is not paired. Whatever comes in is used or left out with one line (`problem`), never raised; every method may be called
from any thread. Knows nothing of nodes, topics or models. vision_msgs is optional: without it `Detection2DArray` is
None.

A class_id is a name as it is, cleaned like every name from outside. One that is a number only is left out: it says
which entry of a list that is not here, and no model knows what a "17" looks like.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import Any

from proxqa_core.errors import BadObjectError
from proxqa_core.types import MAX_OBJECTS, Box, ObjectQuery, clean_text
from proxqa_ros.common.stamps import nanoseconds
from proxqa_ros.proximity.worker import ObjectsIn

try:
    from vision_msgs.msg import Detection2DArray
except ImportError:
    Detection2DArray = None

NOT_INSTALLED = "vision_msgs is not installed; it is ros-<distro>-vision-msgs in a ROS distro, and has no wheel"
IMAGES = 30
"""Most images that wait for their detections."""
BYTES = 256 * 2**20
"""Most bytes of images that wait, beyond the newest one."""
DETECTIONS = 10
"""Most detections that wait for their image."""
BACK = 1_000_000_000
"""Nanoseconds by which images may be out of order; more is a jump back in time: a bag that starts again."""


@dataclass(frozen=True, eq=False)
class Pair:
    """An image message and the objects that were detected in it."""

    image: Any
    objects: ObjectsIn


class Detections:
    """Images and detections that wait for each other.

    tolerance: most seconds between the two. min_score: least score of a detection that is used.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._images: deque[Any] = deque()
        self._waiting: deque[Any] = deque(maxlen=DETECTIONS)
        self._shown: Any = None
        self.tolerance = 0.05
        self.min_score = 0.5
        self.images = 0
        self.received = 0
        self.matched = 0
        self.problem = ""
        """What was wrong with the last detections, one line; '' = nothing."""

    def add_image(self, message: Any) -> Pair | None:
        """An image came; with its detections, where they came before it."""
        with self._lock:
            self.images += 1
            if self._images and _ns(message) < _ns(self._images[-1]) - BACK:
                self._forget()
            self._images.append(message)
            while len(self._images) > 1 and (
                len(self._images) > IMAGES or sum(len(m.data) for m in self._images) > BYTES
            ):
                self._images.popleft()
            return self._match()

    def add(self, message: Any) -> Pair | None:
        """A Detection2DArray came; with its image, where that came before it."""
        with self._lock:
            self.received += 1
            self._waiting.append(message)
            return self._match()

    def newest_image(self) -> Any:
        """The newest image that waits, for a question that cannot; None where there is none, or it was given before."""
        with self._lock:
            if not self._images or self._images[-1] is self._shown:
                return None
            self._shown = self._images[-1]
            return self._shown

    def clear(self) -> None:
        """Forget what waits, and what was wrong."""
        with self._lock:
            self._forget()
            self.problem = ""

    def objects_in(self, message: Any, width: int, height: int) -> tuple[ObjectQuery, ...]:
        """The objects of a Detection2DArray in an image of that many pixels; sets `problem`."""
        objects, self.problem = objects_of(message, self.min_score, width, height)
        return objects

    def _forget(self) -> None:
        self._images.clear()
        self._waiting.clear()
        self._shown = None

    def _match(self) -> Pair | None:
        """The newest detections that have an image now, which is taken out with everything before it."""
        for detections in reversed(list(self._waiting)):
            wanted = _ns(detections)
            image = min(self._images, key=lambda m: abs(_ns(m) - wanted), default=None)
            if image is None or max(_ns(m) for m in self._images) < wanted:
                continue  # a later image may fit better
            if abs(_ns(image) - wanted) > self.tolerance * 1e9:
                self._waiting = deque((d for d in self._waiting if d is not detections), DETECTIONS)
                continue
            while self._waiting.popleft() is not detections:
                pass
            while self._images.popleft() is not image:
                pass
            if detections.header.frame_id != image.header.frame_id:
                self.problem = (
                    f"detections are of frame {detections.header.frame_id[:60]!r}, the image of "
                    f"{image.header.frame_id[:60]!r}; expected the same"
                )
                return None
            self.matched += 1
            return Pair(image, partial(self.objects_in, detections))
        return None


def objects_of(message: Any, min_score: float, width: int, height: int) -> tuple[tuple[ObjectQuery, ...], str]:
    """Objects of a Detection2DArray, the surest first, at most MAX_OBJECTS; and why others were left out, if they were.

    width, height: of the image; boxes are cut at its edges, turned ones are held by an upright one. Detections below
    min_score are left out in silence.
    """
    found: list[tuple[float, ObjectQuery]] = []
    problem = ""
    for detection in message.detections:
        hypotheses = [r.hypothesis for r in detection.results if r.hypothesis.score >= min_score]
        if not hypotheses:
            continue
        best = max(hypotheses, key=lambda h: h.score)
        try:
            found.append((best.score, ObjectQuery(_name(best.class_id), _box(detection.bbox, width, height))))
        except BadObjectError as error:
            problem = problem or f"a detection was left out: {' '.join(str(error).split())}"
    found.sort(key=lambda f: -f[0])
    if len(found) > MAX_OBJECTS:
        problem = problem or f"{len(found)} detections in one image; the {MAX_OBJECTS} surest are used"
    return tuple(query for _, query in found[:MAX_OBJECTS]), problem


def _name(class_id: str) -> str:
    name = clean_text(class_id)
    if name.isdigit():
        raise BadObjectError(
            f"class_id {name[:40]!r} is a number; expected a name such as 'chair' (let the detector publish names)"
        )
    return name


def _box(bbox: Any, width: int, height: int) -> Box:
    x, y, turned = bbox.center.position.x, bbox.center.position.y, bbox.center.theta
    if not math.isfinite(turned):
        raise BadObjectError(f"box is turned by {turned} rad; expected a finite number")
    c, s = abs(math.cos(turned)), abs(math.sin(turned))
    across, down = (bbox.size_x * c + bbox.size_y * s) / 2, (bbox.size_x * s + bbox.size_y * c) / 2
    return Box(x - across, y - down, x + across, y + down).clipped(width, height)


def _ns(message: Any) -> int:
    return nanoseconds(message.header.stamp)
