"""Two adapters compared on the same cases."""

from __future__ import annotations

import dataclasses

import pytest

from proxqa_core.evaluation.metrics import Measurements, ObjectResult, PairResult
from proxqa_training.compare import difference


def measured(right: list[bool], depths: list[float]) -> Measurements:
    box = (0.0, 0.0, 9.0, 9.0)
    higher = (0.0, 0.0, 9.0, 5.0)
    pairs = tuple(PairResult(i, "a", "b", 0.5, higher, box, r, 0.9, float(r)) for i, r in enumerate(right))
    objects = tuple(ObjectResult(i, "a", d, 1.0, 0.5, 0.9) for i, d in enumerate(depths))
    return Measurements("m", "box", pairs, objects, (0.1,) * len(right), tuple(map(str, range(len(right)))))


def test_differences_are_paired() -> None:
    figures = difference(
        measured([True, True, True, False], [0.5, 0.4]), measured([True, False, False, False], [0.7, 0.4])
    )
    accuracy = figures["pair_accuracy"]
    assert (accuracy["first"], accuracy["other"], accuracy["cases"]) == (0.75, 0.25, 4)
    low, high = accuracy["interval_95"]
    assert low <= accuracy["difference"] == 0.5 <= high
    assert figures["pair_accuracy_breaking"] == accuracy  # the closer one's lower edge is the higher one in all
    assert figures["mae"]["difference"] == pytest.approx(-0.1)


def test_no_difference_is_none() -> None:
    one = measured([True, False, True], [0.1, 0.9])
    for figure in difference(one, one).values():
        assert figure["difference"] == 0 and figure["interval_95"] == (0, 0)


def test_other_cases_are_refused() -> None:
    one = measured([True, False], [0.1])
    with pytest.raises(ValueError, match="not asked the same"):
        difference(one, measured([True], [0.1]))
    with pytest.raises(ValueError, match="not asked the same"):
        difference(one, dataclasses.replace(one, objects=measured([True], [0.1, 0.2]).objects))
