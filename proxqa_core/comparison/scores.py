"""How good each model's answers are, judged alike.

Promises: what cannot be parsed and what failed counts as wrong and is counted apart; intervals are by image; the rules
"lower box edge is closer" and "larger box is closer" are scored on the same pairs. Of points the lower one stands for
the lower edge, and none is larger.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proxqa_core.comparison.answerers import Answer
from proxqa_core.comparison.parsing import Choice, parse_choice
from proxqa_core.comparison.questions import ComparisonQuestion
from proxqa_core.datasets.benchmarks import WhichCloser
from proxqa_core.evaluation.metrics import GAPS, interval


@dataclass(frozen=True)
class Judged:
    """One question's answer. choice: None = not parsed, or failed."""

    question: ComparisonQuestion
    choice: Choice | None
    failed: bool
    probability: float

    @property
    def right(self) -> bool:
        """Whether the right one was chosen."""
        return self.choice is not None and self.choice == self.question.right


def judge(questions: Sequence[ComparisonQuestion], answers: Mapping[str, Answer]) -> list[Judged]:
    """Every question that has a right answer with what was made of the model's."""
    judged = []
    for q in questions:
        if q.right is None:
            continue
        answer = answers.get(q.key, Answer(error="not asked"))
        choice = None if answer.error else parse_choice(answer.text, q.names)
        p = math.nan if answer.probability is None else answer.probability
        judged.append(Judged(q, choice, bool(answer.error), p))
    return judged


def score(model: str, judged: Sequence[Judged]) -> dict[str, Any]:
    """The figures of one model.

    Returns:
        accuracy: over all questions, unparsed and failed ones wrong. accuracy_one_order: over those in the item's own
        order. accuracy_both_orders: pairs right in both. consistent: pairs with the same thing chosen in both orders.
        counter_heuristic_accuracy: over pairs whose closer thing has not the lower box edge, NaN without boxes.
        accuracy_by_gap: by how much the depths differ (`metrics.GAPS`), NaN where that is not known.
        first_named: share of parsed answers that chose what was named first. Each share in [0, 1], NaN of nothing.
    """
    right = np.array([j.right for j in judged], dtype=np.float64)
    image = _image_indices(judged)
    counter = np.array([is_counter_heuristic(j.question.item) for j in judged], dtype=bool)
    straight = np.array([not j.question.flipped for j in judged], dtype=bool)
    parsed = [j for j in judged if j.choice is not None]
    pairs = _pairs(judged)
    return {
        "model": model,
        "questions": len(judged),
        "unparsed": sum(j.choice is None and not j.failed for j in judged),
        "failed": sum(j.failed for j in judged),
        "accuracy": _mean(right),
        "accuracy_95": interval(image, lambda i: _mean(right[i])),
        "accuracy_one_order": _mean(right[straight]),
        "pairs_in_both_orders": len(pairs),
        "accuracy_both_orders": _mean(np.array([a.right and b.right for a, b in pairs], dtype=np.float64)),
        "consistent": _mean(np.array([_same_thing(a, b) for a, b in pairs], dtype=np.float64)),
        "first_named": _mean(np.array([j.choice == "A" for j in parsed], dtype=np.float64)),
        "counter_heuristic_questions": int(counter.sum()),
        "counter_heuristic_accuracy": _mean(right[counter]),
        "counter_heuristic_accuracy_95": interval(image[counter], lambda i: _mean(right[counter][i])),
        "accuracy_by_gap": _by_gap([j.question.item for j in judged], right),
    }


def rule_scores(items: Sequence[WhichCloser]) -> list[dict[str, Any]]:
    """The figures of the two simple rules over items that have places and answers; none where no item has."""
    judged = [i for i in items if (i.boxes or i.points) and i.answer is not None]
    if not judged:
        return []
    rules = {"rule: lower edge": _lower_edges, "rule: larger box": _areas}
    return [
        {
            "model": name,
            "questions": len(judged),
            "accuracy": _mean(_by_rule(judged, rule)),
            "counter_heuristic_accuracy": _mean(_by_rule([i for i in judged if is_counter_heuristic(i)], rule)),
            "accuracy_by_gap": _by_gap(judged, _by_rule(judged, rule)),
        }
        for name, rule in rules.items()
    ]


def is_counter_heuristic(item: WhichCloser) -> bool:
    """Whether the closer thing does not end lower in the image: where the rule "lower is closer" is wrong."""
    edges = _lower_edges(item)
    if edges is None or item.answer is None:
        return False
    near, far = edges if item.answer == "A" else edges[::-1]
    return near <= far


def _lower_edges(item: WhichCloser) -> tuple[float, float] | None:
    """How far down A and B end, pixels; None where it is not known."""
    if item.boxes is not None:
        return item.boxes[0].y2, item.boxes[1].y2
    return None if item.points is None else (item.points[0][1], item.points[1][1])


def _areas(item: WhichCloser) -> tuple[float, float] | None:
    """Of the boxes of A and B, pixels; of points, which have none, equal ones."""
    if item.boxes is None:
        return (0.0, 0.0)
    first, second = (b.area for b in item.boxes)
    return first, second


def _by_gap(items: Sequence[WhichCloser], right: NDArray[np.float64]) -> dict[str, float]:
    """The share right in each bin of `GAPS`; one value of `right` for every item."""
    gap = np.array([i.gap for i in items], dtype=np.float64)
    return {name: _mean(right[(gap >= low) & (gap < high)]) for name, (low, high) in GAPS.items()}


def _by_rule(
    items: Sequence[WhichCloser], rule: Callable[[WhichCloser], tuple[float, float] | None]
) -> NDArray[np.float64]:
    """1 right, 0 wrong, 0.5 where the rule cannot tell."""
    values = []
    for item in items:
        a, b = rule(item) or (0.0, 0.0)
        values.append(0.5 if a == b else float((a > b) == (item.answer == "A")))
    return np.array(values, dtype=np.float64)


def _image_indices(judged: Sequence[Judged]) -> NDArray[np.int64]:
    number: dict[Any, int] = {}
    keys = [j.question.item.image if not isinstance(j.question.item.image, bytes) else j.question.item.item_id
            for j in judged]  # fmt: skip
    return np.array([number.setdefault(k, len(number)) for k in keys], dtype=np.int64)


def _pairs(judged: Sequence[Judged]) -> list[tuple[Judged, Judged]]:
    """Those that were asked in both orders: (as the item has it, flipped)."""
    by_item: dict[str, dict[bool, Judged]] = {}
    for j in judged:
        by_item.setdefault(j.question.item.item_id, {})[j.question.flipped] = j
    return [(both[False], both[True]) for both in by_item.values() if len(both) == 2]


def _same_thing(a: Judged, b: Judged) -> bool:
    return a.choice is not None and b.choice is not None and a.choice != b.choice


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else math.nan
