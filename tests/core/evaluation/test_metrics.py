"""The figures of the report, against values worked out by hand and against slower ways to compute them."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from proxqa_core.evaluation.metrics import (
    AbsentResult,
    Measurements,
    ObjectResult,
    PairResult,
    auroc,
    calibration_bins,
    expected_calibration_error,
    interval,
    ranks,
    spearman,
    summary,
)

LOW, HIGH = (0.0, 0.0, 10.0, 90.0), (0.0, 0.0, 20.0, 50.0)  # boxes: lower edge at 90 and at 50


def pair(image: int, correct: bool, confidence: float = 0.8, gap: float = 0.2, breaking: bool = False) -> PairResult:
    near, far = (HIGH, LOW) if breaking else (LOW, HIGH)
    return PairResult(image, "a", "b", gap, near, far, correct, confidence, float(correct))


def thing(image: int, depth: float, truth: float, edge: float = 0.5, score: float = 0.9) -> ObjectResult:
    return ObjectResult(image, "a", depth, score, truth, edge)


def measured(pairs: list[PairResult], objects: list[ObjectResult]) -> Measurements:
    images = tuple(str(i) for i in range(10))
    return Measurements("m", "name", tuple(pairs), tuple(objects), (0.5, 1.5), images)


def test_pairs_by_hand() -> None:
    pairs = [
        pair(0, True, gap=0.09),
        pair(0, False, gap=0.15),
        pair(1, True, gap=0.29, breaking=True),
        pair(2, False, gap=0.5, breaking=True),
        pair(2, False, gap=0.30),
    ]
    report = summary(measured(pairs, []))
    assert report["pairs"] == 5 and report["pair_accuracy"] == pytest.approx(0.4)
    assert report["pairs_breaking"] == 2 and report["pair_accuracy_breaking"] == 0.5
    assert report["pairs_by_gap"] == {"8-15": 1, "15-30": 2, ">30": 2}
    assert report["pair_accuracy_by_gap"] == {"8-15": 1.0, "15-30": 0.5, ">30": 0.0}
    base = report["baselines"]
    assert base["chance"] == 0.5 and base["lower_edge"] == pytest.approx(0.6) and base["lower_edge_breaking"] == 0.0
    assert base["larger_box"] == pytest.approx(0.4)  # the box that reaches lower is the smaller one here: 900 < 1000
    assert report["seconds_per_image"] == 1.0


def test_an_edge_that_is_level_breaks_the_rule() -> None:
    level = PairResult(0, "a", "b", 0.2, LOW, LOW, True, 0.9, 1.0)
    report = summary(measured([level], []))
    assert report["pairs_breaking"] == 1 and report["baselines"]["lower_edge"] == 0.5


def test_objects_by_hand() -> None:
    objects = [
        thing(0, 0.1, 0.2),
        thing(0, 0.5, 0.3),
        thing(1, 0.9, 0.9, score=0.4),  # not seen, but its depth counts
        thing(1, 0.7, math.nan),  # truth unknown
        thing(2, math.nan, 0.5),  # no depth predicted
    ]
    report = summary(measured([], objects))
    assert report["objects"] == 5 and report["objects_with_truth"] == 4
    assert report["mae"] == pytest.approx(0.1) and report["rmse"] == pytest.approx(math.sqrt(0.05 / 3))
    assert report["spearman"] == pytest.approx(1.0)
    assert report["valid_rate"] == pytest.approx(3 / 5)
    assert report["baselines"]["constant_mae"] == pytest.approx((0.2 + 0.1 + 0.5 + 0.1) / 4)
    assert math.isnan(report["pair_accuracy"]) and math.isnan(report["ece"])


def test_within_sigma_by_hand() -> None:
    cases = [(0.1, 0.2, 0.15), (0.5, 0.3, 0.1), (0.5, 0.25, 0.25), (0.9, 0.1, math.nan), (0.5, math.nan, 0.3)]
    objects = [ObjectResult(i, "a", depth, 0.9, truth, 0.5, sigma) for i, (depth, truth, sigma) in enumerate(cases)]
    report = summary(measured([], objects))
    assert report["within_sigma"] == pytest.approx(2 / 3)  # at the very edge counts; no truth or no sigma does not
    low, high = report["interval_95"]["within_sigma"]
    assert low <= 2 / 3 <= high
    assert math.isnan(summary(measured([], [thing(0, 0.1, 0.2)]))["within_sigma"])


def test_absent_by_hand() -> None:
    objects = [thing(0, 0.1, 0.2, score=0.9), thing(0, 0.1, math.nan, score=0.3), thing(1, 0.1, 0.2, score=0.7)]
    absent = [AbsentResult(0, "zebra", 0.1), AbsentResult(1, "tram", 0.3), AbsentResult(1, "fork", 0.8)]
    found = summary(replace(measured([], objects), absent=tuple(absent)))["absent"]
    assert found["asked"] == 3 and found["said_absent"] == pytest.approx(2 / 3)
    assert found["auroc"] == pytest.approx((3 + 1.5 + 2) / 9)
    low, high = found["interval_95"]
    assert low <= found["auroc"] <= high
    assert summary(measured([], objects))["absent"] is None
    none = summary(replace(measured([], objects), absent=()))["absent"]
    assert none["asked"] == 0 and math.isnan(none["said_absent"]) and math.isnan(none["auroc"])


def test_direct_by_hand() -> None:
    pairs = [
        replace(pair(0, True), direct=True),
        replace(pair(0, True, breaking=True), direct=False),
        replace(pair(1, True, breaking=True), direct=True),
        replace(pair(2, False), direct=True),
        replace(pair(3, True), direct=False),
    ]
    found = summary(measured(pairs, []))["direct"]
    assert found["pair_accuracy"] == pytest.approx(0.6) and found["pair_accuracy_breaking"] == 0.5
    assert found["difference"] == pytest.approx(0.8 - 0.6)
    low, high = found["interval_95"]
    assert -1 <= low < found["difference"] < high <= 1
    # Paired: answers that are right and wrong together leave nothing to doubt.
    same = [replace(pair(i, bool(i % 2)), direct=bool(i % 2)) for i in range(8)]
    assert summary(measured(same, []))["direct"]["interval_95"] == (0.0, 0.0)
    assert summary(measured([pair(0, True)], []))["direct"] is None
    assert "interval_95" not in summary(measured(pairs, []), intervals=False)["direct"]


def test_the_contract_and_plain_json() -> None:
    report = summary(measured([pair(0, True), pair(1, False)], [thing(0, 0.1, 0.2)]))
    contract = (
        "pairs pair_accuracy pairs_breaking pair_accuracy_breaking pair_accuracy_by_gap objects mae rmse spearman "
        "valid_rate ece seconds_per_image model prompt baselines within_sigma absent direct"
    )
    assert set(contract.split()) <= set(report)
    assert json.loads(json.dumps(report))["pairs"] == 2


def test_nothing_at_all_is_no_crash() -> None:
    report = summary(measured([], []))
    assert report["pairs"] == 0 and math.isnan(report["mae"])


def test_the_line_is_fitted_on_other_images_only() -> None:
    # Image 0 alone says the opposite of the rest: with itself left out, its line is theirs.
    rest = [thing(i, 0.0, 1 - e, edge=e) for i in range(1, 5) for e in (0.2, 0.8)]
    odd = [thing(0, 0.0, 0.2, edge=0.2), thing(0, 0.0, 0.8, edge=0.8)]
    alone = summary(measured([], rest), intervals=False)["baselines"]
    assert alone["lower_edge_line_mae"] == pytest.approx(0.0, abs=1e-9)
    with_odd = summary(measured([], odd + rest), train=rest, intervals=False)["baselines"]
    assert with_odd["lower_edge_line_mae"] == pytest.approx(2 * 0.6 / 10)
    left_out = summary(measured([], odd), intervals=False)["baselines"]
    assert math.isnan(left_out["lower_edge_line_mae"])  # one image only: nothing else to fit on


VALUES = hnp.arrays(np.float64, st.integers(3, 30), elements=st.integers(0, 8).map(float))


@given(VALUES)
def test_ranks_share_ties(values: NDArray[np.float64]) -> None:
    slow = [(values < v).sum() + ((values == v).sum() + 1) / 2 for v in values]
    assert ranks(values) == pytest.approx(slow)


SCORES = hnp.arrays(np.float64, st.integers(1, 20), elements=st.integers(0, 8).map(lambda n: n / 8))


@given(SCORES, SCORES)
def test_auroc_counts_all_pairs(there: NDArray[np.float64], absent: NDArray[np.float64]) -> None:
    slow = np.mean([1.0 if a > b else 0.5 if a == b else 0.0 for a in there for b in absent])
    assert auroc(there, absent) == pytest.approx(slow)
    assert auroc(absent, there) == pytest.approx(1 - slow)
    assert math.isnan(auroc(there, absent[:0])) and math.isnan(auroc(there[:0], absent))


@given(VALUES, st.randoms(use_true_random=False))
def test_spearman_is_a_rank_correlation(values: NDArray[np.float64], random: object) -> None:
    other = np.array([random.random() for _ in values])  # type: ignore[attr-defined]
    found = spearman(values, other)
    if np.ptp(values) == 0 or np.ptp(other) == 0:
        assert math.isnan(found)
        return
    assert found == pytest.approx(np.corrcoef(ranks(values), ranks(other))[0, 1])
    assert spearman(np.exp(values), other) == pytest.approx(found)
    assert spearman(values, values) == pytest.approx(1.0) and spearman(values, -values) == pytest.approx(-1.0)


def test_calibration() -> None:
    confidence = np.array([0.9, 0.9, 0.9, 0.9])
    assert expected_calibration_error(confidence, np.array([1.0, 1, 1, 1])) == pytest.approx(0.1)
    assert expected_calibration_error(confidence, np.array([0.0, 0, 0, 0])) == pytest.approx(0.9)
    mixed = np.array([0.5, 1.0, math.nan])
    assert expected_calibration_error(mixed, np.array([1.0, 1.0, 0.0])) == pytest.approx(0.25)
    assert [b[2] for b in calibration_bins(np.array([0.5, 0.52, 0.99, 1.0]), np.ones(4))] == [2, 2]


@given(hnp.arrays(np.float64, st.integers(1, 50), elements=st.floats(0.5, 1.0)), st.randoms(use_true_random=False))
def test_calibration_error_is_a_share(confidence: NDArray[np.float64], random: object) -> None:
    correct = np.array([float(random.random() < 0.5) for _ in confidence])  # type: ignore[attr-defined]
    assert 0 <= expected_calibration_error(confidence, correct) <= 1
    assert sum(b[2] for b in calibration_bins(confidence, correct)) == len(confidence)


def test_intervals_draw_images_not_items() -> None:
    # Ten images of ten equal items: by images the spread is that of ten values, not of a hundred.
    images = np.repeat(np.arange(10), 10)
    values = np.repeat(np.arange(10) % 2, 10).astype(float)
    low, high = interval(images, lambda i: float(values[i].mean()))
    assert high - low == pytest.approx(2 * 1.96 * 0.5 / math.sqrt(10), abs=0.12)
    assert interval(images, lambda i: float(values[i].mean())) == (low, high)  # seeded
    assert interval(images[:10], lambda i: float(values[i].mean())) == pytest.approx((math.nan, math.nan), nan_ok=True)
