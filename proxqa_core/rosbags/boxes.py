"""Named boxes for the images of a bag: from a topic of the bag, or from a file written beside it.

Topics are vision_msgs/Detection2DArray, or proxqa_ros/ObjectDepthArray with regions; a message belongs to the image
whose stamp it carries. A file is JSON, `{key: [{"name": "chair", "box": [x1, y1, x2, y2]}, …], …}`, boxes in pixels; a
key is an image's number in its topic (from 0) or its stamp, in nanoseconds or in seconds with a point.

Promises: a box that is handed out has a name that can be asked for; what cannot be used is reported in one line. Knows
nothing of images or of depth.
"""

from __future__ import annotations

import bisect
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

from proxqa_core.errors import BadImageError, BadObjectError, ProxqaError, reason_of
from proxqa_core.rosbags.bag import TRUTH_TYPE, BadBagError, Bag, StampedReader, Topic
from proxqa_core.stamps import NS_PER_S
from proxqa_core.types import Box, ObjectQuery

DETECTIONS = "vision_msgs/msg/Detection2DArray"
OBJECT_DEPTHS = TRUTH_TYPE
KINDS = (DETECTIONS, OBJECT_DEPTHS)
MAX_STAMP_DIFFERENCE_NS = 1_000_000
"""A stamp in a file means the nearest image within this, in nanoseconds: seconds are often rounded."""

DETECTION_DEFINITION = """\
std_msgs/Header header
vision_msgs/Detection2D[] detections
================================================================================
MSG: vision_msgs/Detection2D
std_msgs/Header header
vision_msgs/ObjectHypothesisWithPose[] results
vision_msgs/BoundingBox2D bbox
string id
================================================================================
MSG: vision_msgs/ObjectHypothesisWithPose
vision_msgs/ObjectHypothesis hypothesis
geometry_msgs/PoseWithCovariance pose
================================================================================
MSG: vision_msgs/ObjectHypothesis
string class_id
float64 score
================================================================================
MSG: vision_msgs/BoundingBox2D
vision_msgs/Pose2D center
float64 size_x
float64 size_y
================================================================================
MSG: vision_msgs/Pose2D
vision_msgs/Point2D position
float64 theta
================================================================================
MSG: vision_msgs/Point2D
float64 x
float64 y
"""
"""The definition in vision_msgs 4 (Humble and later), for bags that do not describe their types."""


class BadBoxesError(ProxqaError, ValueError):
    """Boxes cannot be used; the message names the file or topic and what was expected."""


@dataclass(frozen=True)
class Boxed:
    """A named box in pixels, not clipped to the image yet."""

    name: str
    box: Box


class Boxes(Protocol):
    """A source of boxes.

    Attributes:
        label: Its name in messages.
        refused: Number of boxes that could not be used.
        refusal: Why the first of them could not, '' = all could.
    """

    label: str
    refused: int
    refusal: str

    def at(self, number: int, stamp: int, time: int | None = None) -> tuple[Boxed, ...]:
        """The boxes of an image.

        Args:
            number: The image's number in its topic, from 0.
            stamp: Its stamp, in nanoseconds.
            time: When it was recorded, in nanoseconds, None = not known.

        Returns:
            The boxes; none where nothing is known of that image.
        """
        ...


class BoxTopic:
    """Boxes of a topic.

    Args:
        bag: The open bag.
        topic: A topic of one of KINDS.
        names: The name of a class, None = leave it out; classes that are not in it keep their own name.
        min_score: Boxes with a score below this are left out, in [0, 1].
        images: The topic of the images, None = not known.

    Raises:
        BadBagError: The bag's own definition of the type cannot be used.
    """

    def __init__(
        self,
        bag: Bag,
        topic: Topic,
        names: Mapping[str, str | None],
        min_score: float,
        images: Topic | None = None,
    ) -> None:
        self.label, self.refused, self.refusal = f"topic {topic.name}", 0, ""
        self._names, self._min_score, self._kind = names, min_score, topic.kind
        if topic.kind == DETECTIONS:
            _register_detections(bag)
        self._messages = StampedReader(bag, topic, images)

    def at(self, number: int, stamp: int, time: int | None = None) -> tuple[Boxed, ...]:
        """See `Boxes.at`."""
        try:
            message = self._messages.nearest(stamp, time=time)
        except BadImageError as error:
            self._refuse(error)
            return ()
        if message is None:
            return ()
        parts = message.detections if self._kind == DETECTIONS else message.objects
        read = self._detection if self._kind == DETECTIONS else self._object
        found = []
        for part in parts:
            try:
                boxed = read(part)
            except BadObjectError as error:
                self._refuse(error)
            else:
                found += [boxed] if boxed is not None else []
        return tuple(found)

    def _detection(self, detection: Any) -> Boxed | None:
        guesses = [getattr(r, "hypothesis", r) for r in detection.results]
        best = max(guesses, key=lambda g: g.score, default=None)
        if best is None or best.score < self._min_score:
            return None
        name = self._name(str(best.class_id if hasattr(best, "class_id") else best.id))
        return None if name is None else Boxed(name, _box_of(detection.bbox))

    def _object(self, thing: Any) -> Boxed | None:
        region = thing.region
        if thing.score < self._min_score or not (region.width or region.height):
            return None
        name = self._name(thing.name)
        x, y = float(region.x_offset), float(region.y_offset)
        return None if name is None else Boxed(name, Box(x, y, x + region.width, y + region.height))

    def _name(self, name: str) -> str | None:
        if name in self._names:
            return self._names[name]
        if name.strip().isdigit():
            raise BadBoxesError(
                f"{self.label}: class {name!r} is a number; say what the numbers mean with --names FILE, "
                f'{{"{name}": "chair"}}'
            )
        return ObjectQuery(name).name

    def _refuse(self, error: Exception) -> None:
        self.refused += 1
        self.refusal = self.refusal or str(error)


class BoxFile:
    """Boxes of a JSON file.

    Args:
        path: The file.
        stamps: Of all images, in nanoseconds, in the order of their numbers.

    Raises:
        BadBoxesError: The file is not as the module says, or means an image that is not there.
    """

    def __init__(self, path: Path, stamps: Sequence[int]) -> None:
        self.label, self.refused, self.refusal = f"file {path}", 0, ""
        raw = read_json(path)
        expected = '{"0": [{"name": "chair", "box": [x1, y1, x2, y2]}]}'
        if not isinstance(raw, dict) or not raw:
            raise BadBoxesError(f"{path}: holds {_short(raw)}; expected boxes by image, {expected}")
        order = sorted(range(len(stamps)), key=lambda i: stamps[i])
        self._boxes: dict[int, tuple[Boxed, ...]] = {}
        for key, things in raw.items():
            number = _number(path, key, stamps, order)
            if number in self._boxes:
                raise BadBoxesError(f"{path}: {key!r} means image {number}, which an earlier key means too")
            if not isinstance(things, list):
                raise BadBoxesError(f"{path}: {key!r} holds {_short(things)}; expected a list, as in {expected}")
            self._boxes[number] = tuple(_boxed(f"{path}: {key!r} [{i}]", t) for i, t in enumerate(things))

    def at(self, number: int, stamp: int, time: int | None = None) -> tuple[Boxed, ...]:
        """See `Boxes.at`."""
        return self._boxes.get(number, ())


def box_topics(bag: Bag) -> list[Topic]:
    """The topics of a bag that may hold boxes, by name; empty ones are left out."""
    return [t for t in bag.topics() if t.kind in KINDS and t.count]


def box_topic(bag: Bag, wanted: str = "") -> Topic:
    """The topic of boxes of a name.

    Args:
        bag: The open bag.
        wanted: The name, with or without the leading slash; '' = the only topic of boxes.

    Raises:
        BadBagError: There is no such topic, or several to choose from; the message lists them.
    """
    topics, label = box_topics(bag), f"bag {str(bag.path)!r}"
    choices = ", ".join(f"{t.name} ({t.kind}, {t.count})" for t in topics)
    if not topics:
        there = ", ".join(f"{t.name} ({t.kind})" for t in bag.topics()) or "none"
        raise BadBagError(
            f"{label} has no topic of boxes ({' or '.join(KINDS)}); give --boxes FILE.json; its topics: {there}"
        )
    if not wanted and len(topics) > 1:
        raise BadBagError(f"{label} has several topics of boxes; choose one with --boxes TOPIC: {choices}")
    for topic in topics:
        if not wanted or topic.name.lstrip("/") == wanted.lstrip("/"):
            return topic
    raise BadBagError(f"{label} has no topic of boxes {wanted!r}, and there is no such file; there are: {choices}")


def read_names(path: Path) -> dict[str, str | None]:
    """Names for a detector's classes.

    Args:
        path: A JSON file such as {"17": "chair", "n/a": null}; null = leave the class out.

    Raises:
        BadBoxesError: The file cannot be read or is no such JSON.
    """
    raw = read_json(path)
    expected = '{"17": "chair", "n/a": null}'
    if not isinstance(raw, dict):
        raise BadBoxesError(f"{path}: holds {_short(raw)}; expected names by class, {expected}")
    for key, name in raw.items():
        try:
            raw[key] = None if name is None else ObjectQuery(name).name
        except BadObjectError as error:
            raise BadBoxesError(f"{path}: {key!r}: {error}; expected names by class, {expected}") from error
    return raw


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        BadBoxesError: The file cannot be read or is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadBoxesError(f"{path}: cannot be read ({error.strerror}); expected a JSON file") from error
    except (ValueError, RecursionError) as error:
        raise BadBoxesError(f"{path}: is no JSON ({reason_of(error)[:100]})") from error


def _register_detections(bag: Bag) -> None:
    """Add Detection2DArray to the bag's type store, as the bag describes it where it does."""
    from rosbags.typesys import get_types_from_msg

    store = bag.typestore()
    try:
        types = get_types_from_msg(bag.definition(DETECTIONS) or DETECTION_DEFINITION, DETECTIONS)
        store.register({name: kind for name, kind in types.items() if name not in store.fielddefs})
    except Exception as error:  # whatever the parser does with text that is no definition
        reason = reason_of(error)[:100]
        raise BadBagError(f"bag {str(bag.path)!r}: its definition of {DETECTIONS} cannot be used: {reason}") from error


def _box_of(bbox: Any) -> Box:
    """The axis-aligned box around a BoundingBox2D, which may be rotated."""
    centre = getattr(bbox.center, "position", bbox.center)  # before vision_msgs 4 it was a Pose2D of geometry_msgs
    cos, sin = abs(math.cos(bbox.center.theta)), abs(math.sin(bbox.center.theta))
    wide, high = bbox.size_x * cos + bbox.size_y * sin, bbox.size_x * sin + bbox.size_y * cos
    return Box(centre.x - wide / 2, centre.y - high / 2, centre.x + wide / 2, centre.y + high / 2)


def _number(path: Path, key: str, stamps: Sequence[int], order: Sequence[int]) -> int:
    """The number of the image that a key of a file means. order: image numbers sorted by stamp."""
    if not re.fullmatch(r"\d{1,20}(\.\d{1,9})?", key):
        raise BadBoxesError(f"{path}: key {key!r} is neither an image's number nor a stamp (nanoseconds, or seconds.x)")
    if "." not in key and int(key) < len(stamps):
        return int(key)
    stamp = int(Decimal(key) * NS_PER_S) if "." in key else int(key)
    at = bisect.bisect_left(order, stamp, key=lambda i: stamps[i])
    near = min(order[max(0, at - 1) : at + 1], key=lambda i: abs(stamps[i] - stamp), default=None)
    if near is None or abs(stamps[near] - stamp) > MAX_STAMP_DIFFERENCE_NS:
        span = f", stamps {min(stamps)} to {max(stamps)}" if stamps else ""
        raise BadBoxesError(f"{path}: there is no image {key!r}; the topic has {len(stamps)} images{span}")
    return near


def _boxed(where: str, raw: Any) -> Boxed:
    if not isinstance(raw, dict) or not {"name", "box"} <= set(raw):
        raise BadBoxesError(f'{where}: is {_short(raw)}; expected {{"name": "chair", "box": [x1, y1, x2, y2]}}')
    corners = raw["box"]
    numbers = isinstance(corners, list) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in corners)
    if not numbers or len(corners) != 4:
        raise BadBoxesError(f"{where}: box is {_short(corners)}; expected [x1, y1, x2, y2] in pixels")
    try:
        return Boxed(ObjectQuery(raw["name"]).name, Box(*(float(v) for v in corners)))
    except BadObjectError as error:
        raise BadBoxesError(f"{where}: {error}") from error


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
