"""The questions of a comparison: every pair in both orders of naming.

Promises: one pair gives two questions that differ only in which thing is A; what is right follows from the pair alone.
Sources of pairs: a which-closer benchmark, or a labelled folder (pairs whose depths differ by the evaluation's least
gap).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from proxqa_core.comparison.parsing import Choice
from proxqa_core.datasets.benchmarks import WhichCloser
from proxqa_core.types import Box

INSTRUCTION = "Answer with the option's letter from the given choices directly."


@dataclass(frozen=True)
class ComparisonQuestion:
    """One pair in one order.

    Attributes:
        key: Names the pair and the order; what is resumed goes by it.
        item: The pair as its source has it.
        flipped: Whether the item's B is named first.
        right: The right choice in this order, None where the item has none.
        text: The words, with the two choices.
    """

    key: str
    item: WhichCloser
    flipped: bool
    right: Choice | None
    text: str

    @property
    def names(self) -> tuple[str, str]:
        """What A and B are called in this order."""
        return self.item.names if not self.flipped else (self.item.names[1], self.item.names[0])

    @property
    def fingerprint(self) -> str:
        """What is asked about what, as 16 hexadecimal digits: an answer that was kept belongs to this alone."""
        item, image = self.item, self.item.image
        picture = image.name if isinstance(image, Path) else hashlib.sha256(image).hexdigest()
        boxes = None if self.boxes is None else [b.xyxy for b in self.boxes]
        asked = json.dumps([self.text, picture, boxes, item.points])
        return hashlib.sha256(asked.encode()).hexdigest()[:16]

    @property
    def boxes(self) -> tuple[Box, Box] | None:
        """The boxes of A and B in this order."""
        boxes = self.item.boxes
        return boxes if boxes is None or not self.flipped else (boxes[1], boxes[0])


def questions_of(items: Iterable[WhichCloser], both_orders: bool = True) -> Iterator[ComparisonQuestion]:
    """The questions about pairs; in both orders of naming unless told otherwise.

    Pairs without names are points A and B drawn into the image: the letters belong to the image, so that they are
    asked as they are, once.
    """
    for item in items:
        named = all(item.names)
        for flipped in (False, True) if named and both_orders else (False,):
            yield ComparisonQuestion(
                f"{item.item_id}/{'BA' if flipped else 'AB'}",
                item,
                flipped,
                _right(item, flipped),
                _text(item, flipped),
            )


def _right(item: WhichCloser, flipped: bool) -> Choice | None:
    if item.answer is None or not flipped:
        return item.answer
    return "B" if item.answer == "A" else "A"


def _text(item: WhichCloser, flipped: bool) -> str:
    asked, a, b = question_and_choices(item, flipped)
    return f"{asked}\n(A) {a}\n(B) {b}\n{INSTRUCTION}"


def question_and_choices(item: WhichCloser, flipped: bool = False, marks: bool = True) -> tuple[str, str, str]:
    """The words for a pair, for any model: the question, choice A, choice B.

    Args:
        item: The pair.
        flipped: Whether its B is named first.
        marks: Whether boxes, where there are any, are drawn into the image (`marking.marked`): A's red, B's blue.
    """
    if not all(item.names):
        colours = "A (red circle) and B (blue circle)" if item.points is not None else "A and B"
        points = f"Two points are marked in the image, {colours}. Which point is closer to the camera?"
        return item.question if item.points is None and item.question else points, "A is closer", "B is closer"
    a, b = (item.names[1], item.names[0]) if flipped else item.names
    if marks and item.boxes is not None:
        a, b = f"{a} (red box)", f"{b} (blue box)"
    return "Which object is closer to the camera that took this image?", a, b
