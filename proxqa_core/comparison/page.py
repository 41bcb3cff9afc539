"""A comparison as one HTML page: a table of figures, and a plot of accuracies with their intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from proxqa_core.evaluation.html import Provenance, escaped, number, page

COLUMNS = {
    "questions": "questions",
    "accuracy": "right",
    "accuracy_both_orders": "right in both orders",
    "consistent": "same in both orders",
    "first_named": "chose what was named first",
    "counter_heuristic_accuracy": "right where lower is not closer",
    "accuracy_as_recorded": "right as recorded",
    "unparsed": "not parsed",
    "failed": "failed",
}
"""Keys of a score, and what the page calls them."""
COUNTS = ("questions", "unparsed", "failed")


def render(
    title: str, scores: Sequence[dict[str, Any]], notes: Sequence[str] = (), provenance: Provenance | None = None
) -> str:
    """The page.

    Args:
        title: Of the page.
        scores: Of models (`scores.score`) and of rules (`scores.rule_scores`).
        notes: Lines on what was left out.
        provenance: What made it.
    """
    parts = [_table(scores), "<h2>Share of right answers, with 95 % intervals by image</h2>", _plot(scores)]
    parts += [f"<p class=note>{escaped(note)}</p>" for note in notes]
    return page(title, parts, provenance)


def cell(score: dict[str, Any], key: str) -> str:
    """A figure of a score for people: a count, a share in percent, or - where there is none."""
    value = score.get(key)
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "-"
    return str(value) if key in COUNTS else f"{100 * value:.1f} %"


def _table(scores: Sequence[dict[str, Any]]) -> str:
    head = "".join(f"<th class=n>{escaped(name)}</th>" for name in COLUMNS.values())
    rows = "".join(
        f"<tr><td>{escaped(s['model'])}</td>" + "".join(f"<td class=n>{cell(s, key)}</td>" for key in COLUMNS) + "</tr>"
        for s in scores
    )
    return f"<table><tr><th>model</th>{head}</tr>{rows}</table>"


def _plot(scores: Sequence[dict[str, Any]]) -> str:
    """Bars from 0 to 100 %, a line at chance, whiskers where there are intervals."""
    left, width, step = 260, 480, 26
    height = step * len(scores) + 30
    bars = "".join(_bar(s, i, left, width, step) for i, s in enumerate(scores))
    chance = left + width / 2
    axis = f"<line x1={chance} x2={chance} y1=0 y2={height - 24} stroke='#999' stroke-dasharray='3 3'/>"
    ticks = "".join(
        f"<text x={left + width * v / 100} y={height - 6} text-anchor=middle>{v} %</text>" for v in range(0, 101, 25)
    )
    return f"<svg width={left + width + 60} height={height} role=img>{axis}{bars}{ticks}</svg>"


def _bar(score: dict[str, Any], index: int, left: int, width: int, step: int) -> str:
    y = index * step + 4
    name = f"<text x={left - 8} y={y + 13} text-anchor=end>{escaped(score['model'][-36:])}</text>"
    value = score["accuracy"]
    if not math.isfinite(value):
        return name
    low, high = score.get("accuracy_95") or (math.nan, math.nan)
    whisker = ""
    if math.isfinite(low) and math.isfinite(high):
        whisker = f"<line x1={left + width * low} x2={left + width * high} y1={y + 9} y2={y + 9} stroke='#222'/>"
    label = f"<text x={left + width + 8} y={y + 13}>{number(100 * value, 1)} %</text>"
    return f"{name}<rect x={left} y={y} width={width * value} height=18 fill='#7aa6c2'/>{whisker}{label}"
