"""The nouns of the project as frozen dataclasses.

Promises: a value that exists is valid; bad values raise an error that quotes what came. Knows nothing of ROS, of torch
or of how the numbers are made.
"""

from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass
from enum import Enum

import numpy as np

from proxqa_core.errors import BadImageError, BadObjectError

MAX_NAME_LENGTH = 80
"""Longest object name accepted, in characters: longer ones are sentences, not names."""
MAX_OBJECTS = 64
"""Most objects in one request."""
MAX_QUESTION_LENGTH = 500
"""Longest question accepted, in characters."""
VISIBLE = 0.5
"""An object whose score is below this counts as not seen."""
MIN_IMAGE_SIDE = 16
"""Smallest image side accepted, in pixels."""
MAX_IMAGE_SIDE = 16384
"""Largest image side accepted, in pixels."""


def clean_text(text: str) -> str:
    """One line of plain text: control and formatting characters become spaces, runs of white space one space."""
    kept = "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in unicodedata.normalize("NFC", text))
    return " ".join(kept.split())


@dataclass(frozen=True)
class Box:
    """An axis-aligned region of an image, (x2, y2) exclusive.

    Attributes:
        x1: Left edge, in pixels; x grows to the right.
        y1: Upper edge, in pixels; y grows downwards.
        x2: Right edge.
        y2: Lower edge.

    Raises:
        BadObjectError: A value is not finite, or the box is empty.
    """

    x1: float
    y1: float
    x2: float
    y2: float

    def __post_init__(self) -> None:
        if not all(math.isfinite(v) for v in self.xyxy):
            raise BadObjectError(f"box {self.xyxy} has a value that is not finite; expected four finite pixel values")
        if self.x2 <= self.x1 or self.y2 <= self.y1:
            raise BadObjectError(f"box {self.xyxy} is empty; expected x1 < x2 and y1 < y2 (pixels)")

    @property
    def xyxy(self) -> tuple[float, float, float, float]:
        """(x1, y1, x2, y2)."""
        return (self.x1, self.y1, self.x2, self.y2)

    @property
    def area(self) -> float:
        """Square pixels."""
        return (self.x2 - self.x1) * (self.y2 - self.y1)

    def clipped(self, width: int, height: int) -> Box:
        """The part inside an image.

        Args:
            width: Of the image, in pixels.
            height: Of the image, in pixels.

        Returns:
            A box of at least one pixel.

        Raises:
            BadObjectError: Nothing is left.
        """
        x1, y1 = max(self.x1, 0.0), max(self.y1, 0.0)
        x2, y2 = min(self.x2, float(width)), min(self.y2, float(height))
        if x2 - x1 < 1 or y2 - y1 < 1:
            raise BadObjectError(f"box {self.xyxy} lies outside the image of {width}x{height} pixels")
        return Box(x1, y1, x2, y2)


@dataclass(frozen=True)
class ObjectQuery:
    """One object asked for: a name as people say it, optionally where it is.

    Attributes:
        name: Data from outside, cleaned to one line of plain text by `clean_text`.
        box: Where it is in the image, in pixels; None = not known.

    Raises:
        BadObjectError: The name is empty or longer than MAX_NAME_LENGTH.
    """

    name: str
    box: Box | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise BadObjectError(f"object name {self.name!r} is not text")
        name = clean_text(self.name)
        if not name:
            raise BadObjectError(f"object name {self.name!r} is empty; expected a name such as 'chair'")
        if len(name) > MAX_NAME_LENGTH:
            raise BadObjectError(
                f"object name of {len(name)} characters ({name[:30]!r}…) is too long; at most {MAX_NAME_LENGTH}"
            )
        object.__setattr__(self, "name", name)


@dataclass(frozen=True)
class ObjectDepth:
    """How far one object is.

    Attributes:
        name: As it was asked for.
        depth: Relative depth in [0, 1], 0 = nearest in view, 1 = farthest; NaN = nothing was read (its box lies outside
            the image). Means something only where `is_answered`.
        depth_stddev: Standard deviation of `depth`; NaN as for `depth`.
        score: Probability in [0, 1] that the object is in view at all.
        text: The likeliest answer of the model in its own words.
        box: The one it was asked with, in pixels.
        distance: Metres along the optical axis; NaN = not calibrated, not in view, or too far to tell.
        distance_stddev: Standard deviation of `distance`, in metres; NaN as for `distance`.
        found_at: Where a model with a grounding head found what was asked by name, in pixels.
    """

    name: str
    depth: float
    depth_stddev: float
    score: float
    text: str
    box: Box | None = None
    distance: float = math.nan
    distance_stddev: float = math.nan
    found_at: Box | None = None

    @property
    def is_answered(self) -> bool:
        """Whether `depth` says how far it is: it is in view, or it was given with a box and read there.

        Who gives a box has seen the object: a low score is then a doubt about its name, not about its place.
        """
        return math.isfinite(self.depth) and (self.score >= VISIBLE or self.box is not None)

    @property
    def is_doubted(self) -> bool:
        """Whether it was read in a box that was given, which does not look like its name."""
        return self.is_answered and not self.score >= VISIBLE


class QuestionKind(str, Enum):
    """What a question asks for."""

    DEPTH = "depth"  # how far is X (and Y …)
    CLOSER = "closer"  # which is closer, A or B; is A closer than B
    FARTHER = "farther"  # which is farther, A or B; is A behind B
    NEAREST = "nearest"  # what is nearest (of these)
    FARTHEST = "farthest"  # what is farthest (of these)
    SORT = "sort"  # list by distance
    VISIBLE = "visible"  # is there an X, do you see an X
    EQUAL = "equal"  # are A and B (and …) about equally far
    GENERAL = "general"  # anything else


@dataclass(frozen=True)
class ProximityAnswer:
    """The answer to one question about one image.

    Attributes:
        question: As it was asked.
        kind: What it asks for.
        answer: A sentence, begun with "Yes.", "No." or "Hard to say." where the question wants yes or no; only an
            option's letter, a name, "Yes" or "No", or a number, where the question says so ("Answer with one word").
        objects: Those it speaks of, nearest first.
        closer: Name of the closer one; empty where the question has none, or where one of the two is not seen.
        farther: Name of the farther one; empty where `closer` is.
        probability: That `closer` really is the closer one, in [0.5, 1]; NaN where there is no choice.
        raw_probability: That the first of `objects` is closer than the second, in [0.5, 1], whether or not both are
            seen; NaN where no two were compared. For measuring a model: never act upon it.
    """

    question: str
    kind: QuestionKind
    answer: str
    objects: tuple[ObjectDepth, ...] = ()
    closer: str = ""
    farther: str = ""
    probability: float = math.nan
    raw_probability: float = math.nan


def check_image(image: object) -> None:
    """Refuse what is no image.

    Args:
        image: Anything.

    Raises:
        BadImageError: It is not uint8 [height, width, 3], or of a size that cannot be used.
    """
    if not isinstance(image, np.ndarray):
        raise BadImageError(f"image is a {type(image).__name__}; expected a numpy array, uint8 [height, width, 3], RGB")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise BadImageError(
            f"image is {image.dtype} of shape {list(image.shape)}; expected uint8 [height, width, 3], RGB"
        )
    height, width = image.shape[:2]
    if min(height, width) < MIN_IMAGE_SIDE or max(height, width) > MAX_IMAGE_SIDE:
        raise BadImageError(
            f"image is {width}x{height} pixels; expected sides of {MIN_IMAGE_SIDE} to {MAX_IMAGE_SIDE} pixels"
        )
