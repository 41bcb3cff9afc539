"""Figures from answers: how right the order of objects, the depths and the stated certainty are.

Promises: `summary` gives the report of `proxqa eval`, plain numbers that go into JSON as they are (NaN where a figure
has nothing to be computed from), with simple rules on the same pairs and objects beside the model's figures and 95 %
intervals by bootstrap over images, seeded. Knows nothing of models, of files or of how the questions were asked.

Counter-heuristic pairs are those in which the object with the lower box edge is not the closer one: a model that only
uses the position in the image gets them wrong. Their keys in the report end in `_breaking`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proxqa_core.types import VISIBLE

MIN_GAP = 0.08
"""Two objects make a pair if their depths differ by at least this share of the farther one."""
GAPS = {"8-15": (MIN_GAP, 0.15), "15-30": (0.15, 0.30), ">30": (0.30, math.inf)}
"""Bins of the depth difference, percent of the farther one: from the first bound to below the second."""
DELTAS = {"1.25": 1.25, "1.25^2": 1.25**2, "1.25^3": 1.25**3}
"""Thresholds of δ, the usual ones of depth estimation."""
LEAST_DEPTH = 0.01
"""Relative depths below this count as this in δ, a ratio: the step that depths are written in."""
ECE_BINS = 15
BOOTSTRAPS = 1000
"""Number of resamples of a confidence interval."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PairResult:
    """One which-closer pair.

    Attributes:
        image: Index of its image.
        near: Name of the truly closer object.
        far: Name of the other one.
        gap: Depth difference as a share of the farther depth.
        near_box: xyxy in pixels, NaN = not known.
        far_box: xyxy in pixels, NaN = not known.
        correct: Whether the answer was right.
        confidence: The probability that the model gave its answer, in [0.5, 1], NaN = none.
        from_depths: 1 if the order of the two predicted depths is right, 0.5 if they are equal, else 0.
        direct: Whether the answer was right when asked without perceived depths, None = not asked so.
    """

    image: int
    near: str
    far: str
    gap: float
    near_box: tuple[float, float, float, float]
    far_box: tuple[float, float, float, float]
    correct: bool
    confidence: float
    from_depths: float
    direct: bool | None = None

    @property
    def counter_heuristic(self) -> bool:
        """Whether the object with the lower box edge is not the closer one."""
        return self.near_box[3] <= self.far_box[3]


@dataclass(frozen=True)
class ObjectResult:
    """One object asked for.

    Attributes:
        image: Index of its image.
        name: As it was asked for.
        depth: Predicted relative depth, in [0, 1].
        score: Predicted probability that it is in view.
        truth: True relative depth, in [0, 1], NaN = not known.
        lower_edge: Lower edge of its box as a share of the image's height, NaN = not known.
        stddev: Predicted standard deviation of the depth, NaN = none.
    """

    image: int
    name: str
    depth: float
    score: float
    truth: float
    lower_edge: float
    stddev: float = math.nan


@dataclass(frozen=True)
class AbsentResult:
    """One name asked for that is not in view, and the score that it got. image: index of its image."""

    image: int
    name: str
    score: float


@dataclass(frozen=True)
class Measurements:
    """All answers of one run.

    Attributes:
        model: The model's name.
        prompt: "name" or "box".
        pairs: The pairs asked about.
        objects: The objects asked for.
        seconds: Time that every image took, by index.
        images: Path or stamp of every image, by index.
        absent: Names asked for that are not in view, None = not asked for.
        bad: Number of images that could not be used.
        bad_reasons: Why, one line each; the first few.
    """

    model: str
    prompt: str
    pairs: tuple[PairResult, ...]
    objects: tuple[ObjectResult, ...]
    seconds: tuple[float, ...]
    images: tuple[str, ...]
    absent: tuple[AbsentResult, ...] | None = None
    bad: int = 0
    bad_reasons: tuple[str, ...] = ()


def ranks(values: Floats) -> Floats:
    """Ranks of values [n] from 1; ties share their mean rank."""
    # 1. sort, and number the groups of equal values
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    new = np.concatenate([[True], ordered[1:] != ordered[:-1]]) if len(values) else np.zeros(0, bool)
    group = np.cumsum(new) - 1
    # 2. the mean rank of every group, back in the original order
    place = np.arange(1, len(values) + 1, dtype=np.float64)
    mean = np.bincount(group, place) / np.bincount(group) if len(values) else place
    result = np.empty(len(values))
    result[order] = mean[group]
    return result


def spearman(a: Floats, b: Floats) -> float:
    """Spearman's rank correlation in [-1, 1]; NaN below three values or where one side does not vary."""
    if len(a) < 3:
        return math.nan
    x, y = ranks(a) - (len(a) + 1) / 2, ranks(b) - (len(b) + 1) / 2
    scale = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / scale if scale > 0 else math.nan


def within_factors(depth: Floats, truth: Floats) -> dict[str, float]:
    """δ: the share of depths that are within a factor of the true ones (Eigen et al., arXiv 1406.2283).

    Args:
        depth: Predicted relative depths, in [0, 1], [n].
        truth: True ones, [n].

    Returns:
        The share of max(depth / truth, truth / depth) < 1.25, 1.25² and 1.25³; NaN where nothing is known of both.
    """
    known = np.isfinite(depth) & np.isfinite(truth)
    d, t = np.maximum(depth[known], LEAST_DEPTH), np.maximum(truth[known], LEAST_DEPTH)
    ratio = np.maximum(d / t, t / d)
    return {name: _mean(ratio < factor) for name, factor in DELTAS.items()}


def auroc(there: Floats, absent: Floats) -> float:
    """Area under the ROC curve by the Mann-Whitney statistic.

    Args:
        there: Scores of what is in view, [n].
        absent: Scores of what is not, [m].

    Returns:
        The probability that a score of `there` is above one of `absent`, ties half; NaN where one of them is empty.
    """
    if not len(there) or not len(absent):
        return math.nan
    above = ranks(np.concatenate([there, absent]))[: len(there)].sum() - len(there) * (len(there) + 1) / 2
    return float(above / (len(there) * len(absent)))


def calibration_bins(confidence: Floats, correct: Floats, bins: int = ECE_BINS) -> list[tuple[float, float, int]]:
    """Reliability diagram: confidence against accuracy.

    Args:
        confidence: Stated probabilities in [0.5, 1], [n].
        correct: 1 = right, 0 = wrong, [n].
        bins: Number of bins of equal width over [0.5, 1].

    Returns:
        (mean confidence, accuracy, count) of every bin that is not empty.
    """
    index = np.clip(((confidence - 0.5) / 0.5 * bins).astype(int), 0, bins - 1)
    return [
        (float(confidence[index == i].mean()), float(correct[index == i].mean()), int((index == i).sum()))
        for i in range(bins)
        if (index == i).any()
    ]


def expected_calibration_error(confidence: Floats, correct: Floats) -> float:
    """Expected calibration error (Guo et al., arXiv 1706.04599) over ECE_BINS bins of [0.5, 1].

    Args:
        confidence: Stated probabilities in [0.5, 1], NaN = none, [n].
        correct: 1 = right, 0 = wrong, [n].

    Returns:
        The mean distance of stated probability and accuracy, weighted by count; NaN without answers.
    """
    known = np.isfinite(confidence)
    if not known.any():
        return math.nan
    found = calibration_bins(confidence[known], correct[known])
    return sum(abs(stated - right) * count for stated, right, count in found) / int(known.sum())


def interval(
    images: NDArray[np.int64], figure: Callable[[NDArray[np.int64]], float], seed: int = 0
) -> tuple[float, float]:
    """95 % bootstrap interval of a figure, by the percentile method; whole images are drawn with replacement.

    Args:
        images: The image index of every item, [n].
        figure: Computes the figure from indices of items.
        seed: Of the draws.

    Returns:
        The 2.5th and the 97.5th percentile; (NaN, NaN) below two images.
    """
    # 1. the items of every image
    unique, inverse = np.unique(images, return_inverse=True)
    if len(unique) < 2:
        return (math.nan, math.nan)
    items = [np.flatnonzero(inverse == i) for i in range(len(unique))]
    # 2. the figure of every resample; a resample may have nothing to compute it from
    rng = np.random.default_rng(seed)
    drawn = [
        figure(np.concatenate([items[i] for i in rng.integers(0, len(unique), len(unique))])) for _ in range(BOOTSTRAPS)
    ]
    values = np.array([v for v in drawn if math.isfinite(v)])
    if not len(values):
        return (math.nan, math.nan)
    low, high = np.percentile(values, [2.5, 97.5])
    return (float(low), float(high))


def summary(
    measured: Measurements, train: Sequence[ObjectResult] | None = None, intervals: bool = True
) -> dict[str, Any]:
    """The report: what `proxqa eval --json` writes.

    Args:
        measured: The answers.
        train: Objects with truth to fit the straight-line baseline on; without them it is fitted leaving one image out.
        intervals: Add 95 % bootstrap intervals.

    Returns:
        Figures by name; NaN where there is nothing to compute one from.
    """
    pairs, objects = _PairArrays(measured.pairs), _ObjectArrays(measured.objects)
    report: dict[str, Any] = {
        "model": measured.model,
        "prompt": measured.prompt,
        "images": len(measured.images),
        "bad_images": {"count": measured.bad, "reasons": list(measured.bad_reasons)},
        **pairs.figures(),
        **objects.figures(),
        "ece": expected_calibration_error(pairs.confidence, pairs.correct),
        "seconds_per_image": _mean(np.array(measured.seconds, dtype=np.float64)),
        "absent": None if measured.absent is None else _absent(measured.objects, measured.absent, intervals),
        "direct": _direct(measured.pairs, intervals),
        "baselines": _baselines(measured.pairs, measured.objects, train),
        "calibration": pairs.calibration(),
    }
    if intervals:
        report["interval_95"] = pairs.intervals() | objects.intervals()
    report["notes"] = _notes(report, train is not None)
    return report


class _PairArrays:
    """Results of pairs as arrays, each [pairs]."""

    def __init__(self, pairs: Sequence[PairResult]) -> None:
        self.image = np.array([p.image for p in pairs], dtype=np.int64)
        self.correct = np.array([p.correct for p in pairs], dtype=np.float64)
        self.confidence = np.array([p.confidence for p in pairs], dtype=np.float64)
        self.from_depths = np.array([p.from_depths for p in pairs], dtype=np.float64)
        self.counter_heuristic = np.array([p.counter_heuristic for p in pairs], dtype=bool)
        gap = np.array([p.gap for p in pairs], dtype=np.float64)
        self.in_gap = {name: (gap >= low) & (gap < high) for name, (low, high) in GAPS.items()}

    def figures(self) -> dict[str, Any]:
        return {
            "pairs": len(self.image),
            "pair_accuracy": _mean(self.correct),
            "pairs_breaking": int(self.counter_heuristic.sum()),
            "pair_accuracy_breaking": _mean(self.correct[self.counter_heuristic]),
            "pair_accuracy_by_gap": {name: _mean(self.correct[inside]) for name, inside in self.in_gap.items()},
            "pairs_by_gap": {name: int(inside.sum()) for name, inside in self.in_gap.items()},
            "pair_accuracy_from_depths": _mean(self.from_depths),
            "pair_accuracy_from_depths_breaking": _mean(self.from_depths[self.counter_heuristic]),
        }

    def calibration(self) -> list[tuple[float, float, int]]:
        known = np.isfinite(self.confidence)
        return calibration_bins(self.confidence[known], self.correct[known])

    def intervals(self) -> dict[str, tuple[float, float]]:
        among = np.flatnonzero(self.counter_heuristic)
        return {
            "pair_accuracy": interval(self.image, lambda i: _mean(self.correct[i])),
            "pair_accuracy_breaking": interval(self.image[among], lambda i: _mean(self.correct[among][i])),
            "pair_accuracy_from_depths": interval(self.image, lambda i: _mean(self.from_depths[i])),
        }


class _ObjectArrays:
    """Results of objects as arrays.

    Objects that the model calls not visible count too, by the depth it gave: leaving them out would reward silence.
    Those of known truth are the scored ones: depth, truth, error, image are [scored]; within is [scored with a stddev].
    """

    def __init__(self, objects: Sequence[ObjectResult]) -> None:
        depth = np.array([o.depth for o in objects], dtype=np.float64)
        truth = np.array([o.truth for o in objects], dtype=np.float64)
        score = np.array([o.score for o in objects], dtype=np.float64)
        stddev = np.array([o.stddev for o in objects], dtype=np.float64)
        # 1. all objects
        self.count, self.with_truth = len(objects), int(np.isfinite(truth).sum())
        self.valid = np.isfinite(depth) & (score >= VISIBLE)
        # 2. those with a depth and a truth
        scored = np.isfinite(depth) & np.isfinite(truth)
        self.depth, self.truth = depth[scored], truth[scored]
        self.error = (depth - truth)[scored]
        self.image = np.array([o.image for o in objects], dtype=np.int64)[scored]
        # 3. of these, those with a standard deviation
        self.stated = np.isfinite(stddev[scored])
        self.within = (np.abs(self.error) <= stddev[scored])[self.stated]

    def figures(self) -> dict[str, Any]:
        return {
            "objects": self.count,
            "objects_with_truth": self.with_truth,
            "mae": _mean(np.abs(self.error)),
            "rmse": _rmse(self.error),
            "spearman": spearman(self.depth, self.truth),
            "within_sigma": _mean(self.within),
            "valid_rate": _mean(self.valid),
        }

    def intervals(self) -> dict[str, tuple[float, float]]:
        return {
            "mae": interval(self.image, lambda i: _mean(np.abs(self.error[i]))),
            "spearman": interval(self.image, lambda i: spearman(self.depth[i], self.truth[i])),
            "within_sigma": interval(self.image[self.stated], lambda i: _mean(self.within[i])),
        }


def _notes(report: dict[str, Any], trained: bool) -> dict[str, str]:
    """What the figures of a report mean. trained: the line was fitted on a training folder."""
    notes = {
        "interval_95": f"bootstrap over images, {BOOTSTRAPS} draws, seed 0",
        "pair_accuracy_breaking": "counter-heuristic pairs: the closer object's lower box edge is not the lower one",
        "spearman": "over the objects of all images together",
        "within_sigma": "share of depths off by no more than the predicted standard deviation: 68 % if that is right",
        "constant": "the median of this set's own true depths: the best that any constant can do here",
        "lower_edge_line": "straight line from the lower box edge, fitted "
        + ("on the training folder" if trained else "on the other images of this set (leave one image out)"),
    }
    if report["absent"] is not None:
        notes["absent"] = (
            "names of other images that nothing in view can be called by, asked by name alone; auroc: probability that "
            "an object that is there gets a higher score than one of them; interval_95: of auroc"
        )
    if report["direct"] is not None:
        notes["direct"] = (
            "the same pairs asked without perceived depths; difference: pair_accuracy with them minus without; "
            "interval_95: of the difference, both drawn from the same images"
        )
    return notes


def _absent(objects: Sequence[ObjectResult], absent: Sequence[AbsentResult], intervals: bool) -> dict[str, Any]:
    """How well scores separate what is in view from what is not."""
    results: list[ObjectResult | AbsentResult] = [*objects, *absent]
    score = np.array([r.score for r in results], dtype=np.float64)
    there = np.arange(len(results)) < len(objects)
    found: dict[str, Any] = {
        "asked": len(absent),
        "said_absent": _mean(score[~there] < VISIBLE),
        "auroc": auroc(score[there], score[~there]),
    }
    if intervals:
        image = np.array([r.image for r in results], dtype=np.int64)
        found["interval_95"] = interval(image, lambda i: auroc(score[i][there[i]], score[i][~there[i]]))
    return found


def _direct(pairs: Sequence[PairResult], intervals: bool) -> dict[str, Any] | None:
    """What reasoning through perceived depths gains over asking without, on the pairs asked both ways; None = none."""
    both = [p for p in pairs if p.direct is not None]
    if not both:
        return None
    direct = np.array([p.direct for p in both], dtype=np.float64)
    gain = np.array([p.correct for p in both], dtype=np.float64) - direct
    found: dict[str, Any] = {
        "pair_accuracy": _mean(direct),
        "pair_accuracy_breaking": _mean(direct[np.array([p.counter_heuristic for p in both], dtype=bool)]),
        "difference": _mean(gain),
    }
    if intervals:
        found["interval_95"] = interval(np.array([p.image for p in both], dtype=np.int64), lambda i: _mean(gain[i]))
    return found


def _baselines(
    pairs: Sequence[PairResult], objects: Sequence[ObjectResult], train: Sequence[ObjectResult] | None
) -> dict[str, float]:
    """What simple rules reach on the same pairs and objects; ties count half."""
    # 1. rules that choose: the lower box edge, the larger box
    rules, misled = rule_accuracy(pairs), rule_accuracy([p for p in pairs if p.counter_heuristic])
    # 2. rules that predict a depth: a constant, a straight line from the lower box edge
    known = [o for o in objects if math.isfinite(o.truth)]
    truth = np.array([o.truth for o in known], dtype=np.float64)
    constant = truth - np.median(truth) if len(truth) else truth
    line = _line(known, train)
    fitted = np.isfinite(line)
    return {
        "chance": 0.5,
        "lower_edge": rules["lower_edge"],
        "lower_edge_breaking": misled["lower_edge"],
        "larger_box": rules["larger_box"],
        "larger_box_breaking": misled["larger_box"],
        "constant_mae": _mean(np.abs(constant)),
        "constant_rmse": _rmse(constant),
        "lower_edge_line_mae": _mean(np.abs(line - truth)[fitted]),
        "lower_edge_line_rmse": _rmse((line - truth)[fitted]),
        "lower_edge_line_spearman": spearman(line[fitted], truth[fitted]),
    }


def rule_accuracy(pairs: Sequence[PairResult]) -> dict[str, float]:
    """The shares of pairs in which the lower box edge, and the larger box, is the closer one; ties count half.

    Only pairs whose boxes are known count.
    """
    pairs = [p for p in pairs if all(map(math.isfinite, (*p.near_box, *p.far_box)))]
    lower = np.array([in_order(p.far_box[3], p.near_box[3]) for p in pairs], dtype=np.float64)
    larger = np.array([in_order(_area(p.far_box), _area(p.near_box)) for p in pairs], dtype=np.float64)
    return {"lower_edge": _mean(lower), "larger_box": _mean(larger)}


def in_gap(pairs: Sequence[PairResult], name: str) -> list[PairResult]:
    """The pairs in one of the bins of `GAPS`."""
    low, high = GAPS[name]
    return [p for p in pairs if low <= p.gap < high]


def _line(known: Sequence[ObjectResult], train: Sequence[ObjectResult] | None) -> Floats:
    """Depth of each object by a straight line from its lower edge, NaN where none can be fitted."""
    edge = np.array([o.lower_edge for o in known], dtype=np.float64)
    truth = np.array([o.truth for o in known], dtype=np.float64)
    if train is not None:
        usable = [o for o in train if math.isfinite(o.truth)]
        return _fitted(np.array([o.lower_edge for o in usable]), np.array([o.truth for o in usable]), edge)
    image = np.array([o.image for o in known], dtype=np.int64)
    line = np.full(len(known), math.nan)
    for one in np.unique(image):
        left_out = image == one
        line[left_out] = _fitted(edge[~left_out], truth[~left_out], edge[left_out])
    return line


def _fitted(x: Floats, y: Floats, at: Floats) -> Floats:
    """The least-squares line through (x, y), evaluated at `at` and clipped to [0, 1]; NaN where there is none."""
    usable = np.isfinite(x)  # an object whose box is not known has no lower edge
    x, y = x[usable], y[usable]
    if len(x) < 2 or np.ptp(x) == 0:
        return np.full(len(at), math.nan)
    design = np.stack([x, np.ones_like(x)], axis=1)
    slope, offset = np.linalg.lstsq(design, y, rcond=None)[0]
    return np.clip(slope * at + offset, 0.0, 1.0)


def in_order(near: float, far: float) -> float:
    """Whether the closer of two things has the smaller number: 1, 0, or 0.5 where both are equal."""
    return 1.0 if near < far else 0.5 if near == far else 0.0


def _area(box: tuple[float, float, float, float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _mean(values: NDArray[Any]) -> float:
    return float(values.mean()) if len(values) else math.nan


def _rmse(error: Floats) -> float:
    return math.sqrt(float((error**2).mean())) if len(error) else math.nan
