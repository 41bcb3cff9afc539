"""What the demo prints: aligned columns, depths beside the truth, how well they agree.

Promises: every number printed was measured or comes from the bag's truth; what is not known is a dash. Knows nothing of
ROS but the fields of its messages.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

UNKNOWN = "–"
VISIBLE_SCORE = 0.5
"""Least score of an object in view."""
MIN_GAP = 0.08
"""Two objects count as a pair when their true distances differ by this share of the farther one."""


def columns(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of left-aligned columns, two spaces apart, a rule below the headers."""
    widths = [max(len(row[i]) for row in (headers, *rows)) for i in range(len(headers))]
    lines = [headers, ["-" * w for w in widths], *rows]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def by_name(objects: Iterable[Any]) -> dict[str, Any]:
    """ObjectDepth messages by name; a name that comes twice is left out, since it means neither."""
    found: dict[str, list[Any]] = {}
    for o in objects:
        found.setdefault(o.name, []).append(o)
    return {name: same[0] for name, same in found.items() if len(same) == 1}


def depth_text(o: Any) -> str:
    """'0.42 ± 0.05', with metres where calibrated, or that the object is not in view."""
    if o is None:
        return UNKNOWN
    if o.score < VISIBLE_SCORE:
        return f"not in view ({o.score:.2f})"
    metres = f", {o.distance:.2f} m" if math.isfinite(o.distance) else ""
    return f"{o.depth:.2f} ± {o.depth_stddev:.2f}{metres}"


def error_text(o: Any, true: Any) -> str:
    """The signed error in relative depth."""
    return UNKNOWN if o is None or true is None or o.score < VISIBLE_SCORE else f"{o.depth - true.depth:+.2f}"


def depth_table(
    names: Sequence[str], named: Mapping[str, Any], boxed: Mapping[str, Any], truth: Mapping[str, Any]
) -> str:
    """One row per object: depth by name and, where the truth gives boxes, by box, beside the true one."""
    if not truth:
        return columns(["object", "depth by name"], [[n, depth_text(named.get(n))] for n in names])
    rows = []
    for name in names:
        a, b, true = named.get(name), boxed.get(name), truth.get(name)
        values = [UNKNOWN, UNKNOWN] if true is None else [f"{true.depth:.2f}", f"{true.distance:.2f} m"]
        rows.append([name, depth_text(a), depth_text(b), *values, error_text(a, true), error_text(b, true)])
    headers = ["object", "depth by name", "depth by box", "truth", "true distance", "error by name", "error by box"]
    return columns(headers, rows)


@dataclass(frozen=True)
class Agreement:
    """How well messages agree with the truth.

    Attributes:
        objects: Number of depths compared.
        error: Mean absolute error in relative depth; NaN where there are no objects.
        pairs: Number of pairs of objects whose true distances differ enough.
        pairs_right: Number of those in the right order.
    """

    objects: int
    error: float
    pairs: int
    pairs_right: int

    def __str__(self) -> str:
        if not self.objects:
            return "no object of the truth was seen"
        text = f"{self.objects} object depths, mean error {self.error:.3f}"
        if self.pairs:
            text += f"; {self.pairs_right} of {self.pairs} pairs in the right order"
        return text


def agreement(found: Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> Agreement:
    """How well the objects of many images agree with the truth; those out of view, by their score, are not counted.

    Args:
        found: Of each image: the objects found and the true ones, by name.
    """
    errors: list[float] = []
    pairs = right = 0
    for objects, truth in found:
        both = [(o, truth[n]) for n, o in objects.items() if n in truth and o.score >= VISIBLE_SCORE]
        errors += [abs(o.depth - true.depth) for o, true in both]
        for (a, true_a), (b, true_b) in itertools.combinations(both, 2):
            near, far = sorted((true_a.distance, true_b.distance))
            if far - near >= MIN_GAP * far:
                pairs += 1
                right += (a.depth < b.depth) == (true_a.distance < true_b.distance)
    return Agreement(len(errors), sum(errors) / len(errors) if errors else math.nan, pairs, right)
