"""The nouns of the project as frozen dataclasses.

Promises: a value that exists is valid; bad values raise an error that quotes what came. Knows nothing of ROS, of
torch or of how the numbers are made.
"""

from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray

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
    """An axis-aligned region of an image: pixels, x to the right, y down, (x2, y2) exclusive.

    Raises BadObjectError unless all are finite and x1 < x2, y1 < y2.
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
        return (self.x1, self.y1, self.x2, self.y2)

    def clipped(self, width: int, height: int) -> Box:
        """The part inside an image of width × height pixels; BadObjectError where nothing is left."""
        x1, y1 = max(self.x1, 0.0), max(self.y1, 0.0)
        x2, y2 = min(self.x2, float(width)), min(self.y2, float(height))
        if x2 - x1 < 1 or y2 - y1 < 1:
            raise BadObjectError(f"box {self.xyxy} lies outside the image of {width}x{height} pixels")
        return Box(x1, y1, x2, y2)


@dataclass(frozen=True)
class ObjectQuery:
    """One object asked for: a name as people say it, optionally where it is.

    The name is data from outside: it is cleaned to one line of plain text (`clean_text`).
    Raises BadObjectError on a name that is empty or longer than MAX_NAME_LENGTH.
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

    depth: relative depth in [0, 1], 0 = nearest in view, 1 = farthest; depth_stddev: its standard deviation.
    distance, distance_stddev: metres along the optical axis; NaN = not calibrated, not in view, or too far to tell.
    score: probability in [0, 1] that the object is in view at all. text: what the model said.
    box: the one it was asked with. found_at: where a model that finds things looked for one asked by name, pixels.
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


class QuestionKind(str, Enum):
    """What a question asks for."""

    DEPTH = "depth"  # how far is X (and Y …)
    CLOSER = "closer"  # which is closer, A or B; is A closer than B
    FARTHER = "farther"  # which is farther, A or B; is A behind B
    NEAREST = "nearest"  # what is nearest (of these)
    FARTHEST = "farthest"  # what is farthest (of these)
    SORT = "sort"  # list by distance
    EQUAL = "equal"  # are A and B (and …) about equally far
    GENERAL = "general"  # anything else


@dataclass(frozen=True)
class ProximityAnswer:
    """The answer to one question about one view.

    answer: a sentence, begun with "Yes.", "No." or "Hard to say." where the question wants yes or no. objects: the
    objects it speaks of, nearest first. closer, farther: names, empty where the question has none. probability: that
    `closer` really is the closer one, in [0.5, 1]; NaN where there is no choice.
    """

    question: str
    kind: QuestionKind
    answer: str
    objects: tuple[ObjectDepth, ...] = ()
    closer: str = ""
    farther: str = ""
    probability: float = math.nan


@dataclass(frozen=True, eq=False)
class Frame:
    """One camera image.

    image: uint8 [height, width, 3], RGB. stamp_ns: nanoseconds from the image's own header. frame_id: its frame.
    Raises BadImageError on anything else.
    """

    image: NDArray[np.uint8]
    stamp_ns: int = 0
    frame_id: str = ""
    source: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        check_image(self.image)


def check_image(image: object) -> None:
    """Raise BadImageError unless image is uint8 RGB of a size that can be used."""
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
