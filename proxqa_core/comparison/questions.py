"""The questions of a comparison: every pair in both orders of naming.

Promises: one pair gives two questions that differ only in which thing is A; what is right follows from the pair alone.
Sources of pairs: a which-closer benchmark, or a labelled folder (pairs whose depths differ by the evaluation's least
gap).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

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
    if not all(item.names):
        points = "Two points are marked in the image, A and B. Which point is closer to the camera?"
        return f"{item.question or points}\n(A) A is closer\n(B) B is closer\n{INSTRUCTION}"
    a, b = (item.names[1], item.names[0]) if flipped else item.names
    return f"Which object is closer to the camera that took this image?\n(A) {a}\n(B) {b}\n{INSTRUCTION}"
