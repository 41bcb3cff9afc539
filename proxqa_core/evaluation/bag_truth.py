"""What is true of the objects in a bag's images, by the image's stamp.

Two sources: labels (ObjectDepthArray messages with exactly the stamp of the image) and aligned depth images (nearest
stamp within a tolerance), which are read where the model located the object. Promises: what the bag does not know is
None, never a guess. Knows nothing of models or figures.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from proxqa_core.depth import (
    disparity_of,
    disparity_percentiles,
    median_in_box,
    relative_of_disparity,
    same_aspect,
)
from proxqa_core.errors import BadImageError, reason_of
from proxqa_core.evaluation.sequence import DEPTH_IMAGES, LABELS, NO_TRUTH, TrueObject, region_of
from proxqa_core.frames import same_frame
from proxqa_core.rosbags.bag import BadBagError, Bag, StampedReader, Topic, names_in
from proxqa_core.rosbags.image_messages import depth_to_metres
from proxqa_core.stamps import NS_PER_S
from proxqa_core.types import MAX_OBJECTS, Box, ObjectDepth, ObjectQuery, clean_text

log = logging.getLogger(__name__)

MIN_MEASURED = 0.5
"""Smallest share of the central half of a region that must have a depth, in [0, 1]."""


class Truth(Protocol):
    """A source of truth.

    Attributes:
        kind: NO_TRUTH, LABELS or DEPTH_IMAGES of `sequence`.
        topic: The topic's name, '' = none.
        problem: Why the last message could not be used, '' = it could.
    """

    kind: str
    topic: str
    problem: str

    def labels(self, stamp: int, time: int | None = None) -> dict[str, TrueObject]:
        """What is labelled in an image, by name; a name that is labelled twice is left out.

        Args:
            stamp: Of the image, in nanoseconds.
            time: When the image was recorded, in nanoseconds, None = not known.
        """
        ...

    def of(
        self,
        stamp: int,
        width: int,
        height: int,
        objects: Sequence[ObjectDepth],
        time: int | None = None,
        frame_id: str | None = None,
    ) -> tuple[TrueObject | None, ...]:
        """The truth of each object of an image, None = not known.

        Args:
            stamp: Of the image, in nanoseconds.
            width: Of the image, in pixels.
            height: Of the image, in pixels.
            objects: As the model answered; their names and regions are used.
            time: When the image was recorded, in nanoseconds, None = not known.
            frame_id: The image's frame, None = not known.
        """
        ...


class NoTruth:
    """Nothing is known."""

    kind, topic, problem = NO_TRUTH, "", ""

    def labels(self, stamp: int, time: int | None = None) -> dict[str, TrueObject]:
        """See `Truth.labels`."""
        return {}

    def of(
        self,
        stamp: int,
        width: int,
        height: int,
        objects: Sequence[ObjectDepth],
        time: int | None = None,
        frame_id: str | None = None,
    ) -> tuple[TrueObject | None, ...]:
        """See `Truth.of`."""
        return (None,) * len(objects)


class LabelTruth:
    """ObjectDepthArray messages.

    Args:
        bag: The open bag.
        topic: The topic of the messages.
        images: The topic of the images, None = not known.

    Attributes:
        names: The names in them, the most frequent first, at most MAX_OBJECTS.
    """

    kind = LABELS

    def __init__(self, bag: Bag, topic: Topic, images: Topic | None = None) -> None:
        self.topic = topic.name
        self.problem = ""
        self._messages = StampedReader(bag, topic, images)
        self._matched = False
        self.names = names_in(list(self._messages), MAX_OBJECTS)

    def labels(self, stamp: int, time: int | None = None) -> dict[str, TrueObject]:
        """See `Truth.labels`."""
        try:
            message = self._messages.nearest(stamp, time=time)
        except BadImageError as error:  # a truth that cannot be read is none
            self.problem = str(error)
            return {}
        if message is None and not self._matched:
            away = self._messages.distance_s(stamp)
            self.problem = f"no image so far has labels of its stamp: the nearest to {stamp} are {away:g} s away"
        elif message is not None and not self._matched:
            self._matched, self.problem = True, ""
        found: dict[str, list[TrueObject]] = {}
        for o in () if message is None else message.objects:
            depth = float(o.depth)
            known = depth if math.isfinite(depth) and 0 <= depth <= 1 else math.nan
            metres = float(o.distance)
            metres = metres if math.isfinite(metres) and metres > 0 else math.nan
            found.setdefault(clean_text(o.name), []).append(TrueObject(known, metres, _box(o.region)))
        doubled = next((name for name, same in found.items() if len(same) > 1), None)
        if doubled is not None:
            self.problem = (
                f"labels hold {len(found[doubled])} objects called {doubled!r}; expected a name of its own for each"
            )
        return {name: same[0] for name, same in found.items() if len(same) == 1}

    def of(
        self,
        stamp: int,
        width: int,
        height: int,
        objects: Sequence[ObjectDepth],
        time: int | None = None,
        frame_id: str | None = None,
    ) -> tuple[TrueObject | None, ...]:
        """See `Truth.of`."""
        known = self.labels(stamp, time)
        return tuple(known.get(o.name) for o in objects)


class DepthTruth:
    """Depth images aligned with the images, read where each object was located.

    Args:
        bag: The open bag.
        topic: The topic of the depth images.
        tolerance: Largest difference of the stamps of an image and its depth image, in nanoseconds.
        images: The topic of the images, None = not known.

    Raises:
        BadBagError: The depth images are in another frame than the images.
    """

    kind = DEPTH_IMAGES

    def __init__(self, bag: Bag, topic: Topic, tolerance: int, images: Topic | None = None) -> None:
        self.topic = topic.name
        self.problem = ""
        frames = None if images is None else (bag.frame_id(topic), bag.frame_id(images))
        if frames is not None and frames[0] is not None and frames[1] is not None:
            try:
                _check_frames(frames[0], frames[1])
            except BadImageError as error:
                raise BadBagError(f"bag {str(bag.path)!r}: {topic.name}: {error}") from error
        self._messages = StampedReader(bag, topic, images)
        self._tolerance = tolerance
        self._matched = False

    def labels(self, stamp: int, time: int | None = None) -> dict[str, TrueObject]:
        """See `Truth.labels`."""
        return {}

    def of(
        self,
        stamp: int,
        width: int,
        height: int,
        objects: Sequence[ObjectDepth],
        time: int | None = None,
        frame_id: str | None = None,
    ) -> tuple[TrueObject | None, ...]:
        """See `Truth.of`."""
        try:
            message = self._messages.nearest(stamp, self._tolerance, time)
            if message is None:
                self.problem = "" if self._matched else self._unmatched(stamp)
                return (None,) * len(objects)
            self._matched, self.problem = True, "" if not self._matched else self.problem
            if frame_id is not None:
                _check_frames(str(message.header.frame_id), frame_id)
            metres = depth_to_metres(message)
            rows, columns = metres.shape
            if not same_aspect(columns, rows, width, height):
                raise BadImageError(
                    f"the depth image is {columns}x{rows} pixels, the image {width}x{height}; expected a depth image "
                    "aligned with the image"
                )
        except BadImageError as error:
            self.problem = str(error)
            return (None,) * len(objects)
        # s2, s98 of this view: the scale of relative depth
        low, high = disparity_percentiles(disparity_of(metres))
        return tuple(self._at(metres, low, high, width, height, o) for o in objects)

    def _unmatched(self, stamp: int) -> str:
        return (
            f"no image so far has a depth image within {self._tolerance / NS_PER_S:g} s: the nearest to stamp {stamp} "
            f"is {self._messages.distance_s(stamp):g} s away"
        )

    @staticmethod
    def _at(
        metres: NDArray[np.float32], low: float, high: float, width: int, height: int, thing: ObjectDepth
    ) -> TrueObject | None:
        region = region_of(thing)
        if region is None:
            return None
        distance = median_in_box(metres, region, width, height, MIN_MEASURED)
        if math.isnan(distance):
            return None
        # of the median, not the median of: both are the same value, since relative depth rises with the metres
        return TrueObject(float(relative_of_disparity(1 / distance, low, high)), distance, region)


def truth_of(
    bag: Bag,
    labels: str | None,
    depth: str,
    tolerance: float,
    images: Topic | None = None,
    shown: Topic | None = None,
) -> Truth:
    """The truth to judge by: the depth topic where one is named, else labels, else the only depth topic, else none.

    Args:
        bag: The open bag.
        labels: Topic of ObjectDepthArray, '' = the one whose name contains "ground_truth", where there is one; None =
            do not look for any truth that is not named.
        depth: Topic of depth images, '' = the only one where there are no labels, if it can be used.
        tolerance: Largest difference of the stamps of an image and its depth image, in seconds.
        images: The topic of the images, None = not known: then frames, and times where stamps say nothing, are not
            compared.
        shown: A depth topic that the model is shown, which is not taken unasked to judge it by.

    Raises:
        BadBagError: A topic cannot be used, or the depth images are in another frame than the images.
    """
    if depth:
        return DepthTruth(bag, bag.depth_topic(depth), round(tolerance * NS_PER_S), images)
    if labels is None:
        return NoTruth()
    topic = bag.truth_topic(labels)
    return _only_depth(bag, tolerance, images, shown) if topic is None else LabelTruth(bag, topic, images)


def _only_depth(bag: Bag, tolerance: float, images: Topic | None, shown: Topic | None) -> Truth:
    """The bag's only depth topic, where it has one that can be used."""
    topics = bag.depth_topics()
    if len(topics) != 1 or (shown is not None and topics[0].name == shown.name):
        return NoTruth()
    try:
        truth = DepthTruth(bag, topics[0], round(tolerance * NS_PER_S), images)
    except BadBagError as error:
        log.warning("the depth images on %s are not used: %s", topics[0].name, reason_of(error))
        return NoTruth()
    log.info("judged by the only depth topic, %s", topics[0].name)
    return truth


def _check_frames(depth: str, image: str) -> None:
    """BadImageError where a depth image is in another frame than the image."""
    if not same_frame(depth, image):
        raise BadImageError(
            f"the depth images are in frame {depth[:60]!r}, the images in {image[:60]!r}; expected depth images "
            "aligned with the images (registered)"
        )


def queries_of(bag: Bag, truth: Truth, wanted: Sequence[ObjectQuery]) -> list[ObjectQuery]:
    """The objects to ask about: those wanted, else all that the labels name.

    Args:
        bag: The open bag.
        truth: The truth to judge by.
        wanted: The objects that the user named.

    Raises:
        BadBagError: There are none, or a wanted one is in no label: it could never be judged.
    """
    if not isinstance(truth, LabelTruth):
        if not wanted:
            raise BadBagError(
                f"bag {str(bag.path)!r} has no labels that say what is in it; give objects, such as 'chair,table'"
            )
        return list(wanted)
    if not truth.names:
        raise BadBagError(f"topic {truth.topic} of bag {str(bag.path)!r} names no object; expected true depths")
    for query in wanted:
        if query.name not in truth.names:
            raise BadBagError(
                f"object {query.name!r} is in no label of {truth.topic}; labelled are: {', '.join(truth.names)}"
            )
    return list(wanted) or [ObjectQuery(name) for name in truth.names]


def _box(region: Any) -> Box | None:
    x, y, width, height = (float(v) for v in (region.x_offset, region.y_offset, region.width, region.height))
    return Box(x, y, x + width, y + height) if width > 0 and height > 0 else None
