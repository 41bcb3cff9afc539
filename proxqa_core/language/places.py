"""Words that pick one of several things of a name by where it is: "leftmost chair", "second car from the left".

Promises: `read_place` splits such a phrase into the name and a rule that picks; a phrase without them is all name.
Knows nothing of images.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from proxqa_core.types import Box

_SIDES = {
    "left": (0, False),
    "leftmost": (0, False),
    "right": (0, True),
    "rightmost": (0, True),
    "top": (1, False),
    "topmost": (1, False),
    "upper": (1, False),
    "bottom": (1, True),
    "lower": (1, True),
    "lowest": (1, True),
}
_COUNTS = {"first": 0, "second": 1, "third": 2, "fourth": 3, "fifth": 4}
_MIDDLE = ("middle", "central", "center", "centre")
_SIDE = "|".join(_SIDES)
_COUNT = "|".join(_COUNTS)
_BEFORE = re.compile(rf"(?:far )?({_SIDE})[ -](?:most |hand )?(.+)")
_AFTER = re.compile(rf"(.+?),? (?:on|at|to|in) the (?:far )?({_SIDE})(?: side)?")
_COUNTED = re.compile(rf"({_COUNT}) (.+?) from (?:the )?({_SIDE})")
_COUNTED_BEFORE = re.compile(rf"({_COUNT}) ({_SIDE}) (.+)")
_IN_THE_MIDDLE = re.compile(rf"(?:({'|'.join(_MIDDLE)}) (.+)|(.+?) in the ({'|'.join(_MIDDLE)}))")


@dataclass(frozen=True)
class Place:
    """Which of several things is meant.

    Attributes:
        axis: The axis that they are sorted along, 0 = x, 1 = y.
        from_end: Count from the axis' end: from the right, from the bottom.
        index: Which one in that order, from 0.
        middle: The middle one along x; the other fields are ignored then.
    """

    axis: int = 0
    from_end: bool = False
    index: int = 0
    middle: bool = False

    def pick(self, boxes: Sequence[Box]) -> int:
        """Pick one of several boxes.

        Args:
            boxes: The candidates, in pixels.

        Returns:
            The index of the box that is meant; the last in order where there are fewer.

        Raises:
            ValueError: There are no boxes.
        """
        if not boxes:
            raise ValueError("no boxes to pick from")

        def along(i: int) -> float:
            b = boxes[i]
            return (b.x1 + b.x2, b.y1 + b.y2)[self.axis]

        order = sorted(range(len(boxes)), key=along, reverse=self.from_end)
        return order[len(order) // 2 if self.middle else min(self.index, len(order) - 1)]


def read_place(phrase: str) -> tuple[str, Place | None]:
    """Split a phrase into a name and a place: 'leftmost chair' → ('chair', Place(0)); 'chair' → ('chair', None).

    Args:
        phrase: Such as 'second car from the left'.

    Returns:
        The name, and which of several it means; the phrase as it is and None where it has no place.
    """
    lower = phrase.lower()
    if match := _COUNTED.fullmatch(lower):
        axis, end = _SIDES[match[3]]
        return match[2], Place(axis, end, _COUNTS[match[1]])
    if match := _COUNTED_BEFORE.fullmatch(lower):
        axis, end = _SIDES[match[2]]
        return match[3], Place(axis, end, _COUNTS[match[1]])
    if match := _BEFORE.fullmatch(lower):
        return match[2], Place(*_SIDES[match[1]])
    if match := _AFTER.fullmatch(lower):
        return match[1], Place(*_SIDES[match[2]])
    if match := _IN_THE_MIDDLE.fullmatch(lower):
        return match[2] or match[3], Place(middle=True)
    return phrase, None
