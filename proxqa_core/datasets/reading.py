"""What the readers of published data sets share: a count of what was left out, and checks of names, sizes and boxes.

Promises: a bad record is counted and named in a `ReadReport` and never ends the reading, whatever is in it. Knows
nothing of any one format.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from proxqa_core.datasets.folder import LabelledObject, is_finite
from proxqa_core.errors import BadObjectError
from proxqa_core.types import Box, ObjectQuery

MAX_EXAMPLES = 3
"""Records named for every reason why records were left out."""
MIN_SIDE_PX = 1.0
"""Boxes thinner than this within the image show nothing."""


class ReadReport:
    """Counts what a reader left out or mended, and names the first few of every kind.

    Attributes:
        counts: How many records, by reason.
        examples: The first `MAX_EXAMPLES` records of each reason, as the file calls them.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}

    def add(self, reason: str, record: object) -> None:
        """Count one record, such as ``add("crowd", "annotation 908")``."""
        self.counts[reason] += 1
        named = self.examples.setdefault(reason, [])
        if len(named) < MAX_EXAMPLES:
            named.append(brief(record, 80))

    def merge(self, other: ReadReport) -> None:
        """Count what another report counted too."""
        for reason, count in other.counts.items():
            self.counts[reason] += count
            named = self.examples.setdefault(reason, [])
            named += other.examples[reason][: MAX_EXAMPLES - len(named)]

    def lines(self) -> list[str]:
        """One line a reason, the most frequent first; empty where nothing was left out."""
        return [
            f"{count} x {reason}: {', '.join(self.examples[reason])}{', …' if count > MAX_EXAMPLES else ''}"
            for reason, count in self.counts.most_common()
        ]


def brief(value: object, length: int = 60) -> str:
    """The beginning of a value's text, of what is nested too deep to be written its type."""
    try:
        return str(value)[:length]
    except RecursionError:
        return type(value).__name__


def is_inside(name: str) -> bool:
    """Whether a path that data name leads nowhere but into the folder that it is relative to."""
    return bool(name) and "\x00" not in name and not Path(name).is_absolute() and ".." not in Path(name).parts


def clipped_box(xywh: Sequence[Any], size: tuple[int, int]) -> Box | None:
    """The part of a box [x, y, width, height] (pixels) that is inside an image of size (width, height).

    Returns:
        None where a number is none, the box has no area, or less than a pixel of it is inside.
    """
    if not all(map(is_finite, xywh)):
        return None
    x, y, width, height = (float(v) for v in xywh)
    x1, y1 = max(0.0, x), max(0.0, y)
    x2, y2 = min(float(size[0]), x + width), min(float(size[1]), y + height)
    if x2 - x1 < MIN_SIDE_PX or y2 - y1 < MIN_SIDE_PX:
        return None
    return Box(x1, y1, x2, y2)


def size_of(raw: Any) -> tuple[int, int] | tuple[()]:
    """(width, height) of a record, pixels; () where they are not two whole numbers above 0."""
    values = [raw.get(k) for k in ("width", "height")] if isinstance(raw, dict) else []
    whole = [v for v in values if isinstance(v, int) and not isinstance(v, bool) and v > 0]
    return (whole[0], whole[1]) if len(whole) == 2 else ()


def usable_name(name: Any) -> str | None:
    """A label as one line of plain text; None where it cannot be asked for (empty, too long, no text)."""
    try:
        return ObjectQuery(name).name
    except BadObjectError:
        return None


def with_refs(things: list[tuple[str, Box, str]], others: Collection[str] = ()) -> tuple[LabelledObject, ...]:
    """Labelled objects of (name, box, colour); a name that only one of them has means that one alone.

    Args:
        things: Name, box, colour of each.
        others: Names of what is in the image too, without a box.
    """
    names = Counter([*(name for name, _, _ in things), *others])
    return tuple(
        LabelledObject(name, box, ref=name if names[name] == 1 else None, unique=names[name] == 1, colour=colour)
        for name, box, colour in things
    )
