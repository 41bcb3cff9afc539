"""Figures from answers: how right the order of objects, the depths and the stated certainty are.

Promises: `summary` gives the report of `proxqa eval`, plain numbers that go into JSON as they are (NaN where a figure
has nothing to be computed from), with simple rules on the same pairs and objects beside the model's figures and 95 %
intervals by bootstrap over images, seeded. Knows nothing of models, of files or of how the questions were asked.
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
"""Two objects make a pair where their depths differ by at least this share of the farther one."""
GAPS = {"8-15": (MIN_GAP, 0.15), "15-30": (0.15, 0.30), ">30": (0.30, math.inf)}
"""Bins of the depth difference, percent of the farther one: from the first bound to below the second."""
ECE_BINS = 15
BOOTSTRAPS = 1000

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PairResult:
    """One which-closer pair; `near` is the truly closer object, `far` the other.

    image: index of its image. gap: depth difference as a share of the farther depth. near_box, far_box: xyxy, pixels,
    NaN = not known.
    correct: whether the answer was right; confidence: the probability it gave for what it said, in [0.5, 1], NaN =
    none. from_depths: 1 where the two depths alone have the right order, 0.5 where they are equal, else 0.
    direct: whether the answer was right when asked without perceived depths, None = not asked so.
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
    def breaking(self) -> bool:
        """Whether the lower box edge is not the closer object's."""
        return self.near_box[3] <= self.far_box[3]


@dataclass(frozen=True)
class ObjectResult:
    """One object asked for. depth, score, truth: relative depth said, score, true relative depth (NaN = unknown).

    lower_edge: the box's lower edge as a share of the image's height, NaN = not known. stddev: the depth's as it was
    said, NaN = none.
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
    """One name asked for that is not in view, and the score it got all the same."""

    image: int
    name: str
    score: float


@dataclass(frozen=True)
class Measurements:
    """All answers of one run. seconds: asking time of every image, in the order of their index.

    absent: what was asked for that is not in view, None = nothing was to be.
    """

    model: str
    prompt: str
    pairs: tuple[PairResult, ...]
    objects: tuple[ObjectResult, ...]
    seconds: tuple[float, ...]
    images: tuple[str, ...]
    absent: tuple[AbsentResult, ...] | None = None


def ranks(values: Floats) -> Floats:
    """Ranks from 1, ties share their mean rank."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    new = np.concatenate([[True], ordered[1:] != ordered[:-1]]) if len(values) else np.zeros(0, bool)
    group = np.cumsum(new) - 1
    place = np.arange(1, len(values) + 1, dtype=np.float64)
    mean = np.bincount(group, place) / np.bincount(group) if len(values) else place
    result = np.empty(len(values))
    result[order] = mean[group]
    return result


def spearman(a: Floats, b: Floats) -> float:
    """Rank correlation in [-1, 1]; NaN below three values or where one side does not vary."""
    if len(a) < 3:
        return math.nan
    x, y = ranks(a) - (len(a) + 1) / 2, ranks(b) - (len(b) + 1) / 2
    scale = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / scale if scale > 0 else math.nan


def auroc(there: Floats, absent: Floats) -> float:
    """Probability that a score of `there` is above one of `absent`, ties half; NaN where one of them is empty."""
    if not len(there) or not len(absent):
        return math.nan
    above = ranks(np.concatenate([there, absent]))[: len(there)].sum() - len(there) * (len(there) + 1) / 2
    return float(above / (len(there) * len(absent)))


def calibration_bins(confidence: Floats, correct: Floats, bins: int = ECE_BINS) -> list[tuple[float, float, int]]:
    """(mean confidence, accuracy, count) of the bins of equal width over [0.5, 1] that are not empty."""
    index = np.clip(((confidence - 0.5) / 0.5 * bins).astype(int), 0, bins - 1)
    return [
        (float(confidence[index == i].mean()), float(correct[index == i].mean()), int((index == i).sum()))
        for i in range(bins)
        if (index == i).any()
    ]


def expected_calibration_error(confidence: Floats, correct: Floats) -> float:
    """Mean distance of stated probability and accuracy over ECE_BINS bins, weighted by count; NaN without answers."""
    known = np.isfinite(confidence)
    if not known.any():
        return math.nan
    found = calibration_bins(confidence[known], correct[known])
    return sum(abs(stated - right) * count for stated, right, count in found) / int(known.sum())


def interval(
    images: NDArray[np.int64], figure: Callable[[NDArray[np.int64]], float], seed: int = 0
) -> tuple[float, float]:
    """95 % bootstrap interval of a figure, images drawn with replacement.

    images: the image index of every item. figure: takes item indices, gives the figure. (NaN, NaN) below two images.
    """
    unique, inverse = np.unique(images, return_inverse=True)
    if len(unique) < 2:
        return (math.nan, math.nan)
    items = [np.flatnonzero(inverse == i) for i in range(len(unique))]
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

    train: objects with truth to fit the straight-line baseline on; without them it is fitted leaving one image out.
    """
    pairs, objects = measured.pairs, measured.objects
    image = np.array([p.image for p in pairs], dtype=np.int64)
    correct = np.array([p.correct for p in pairs], dtype=np.float64)
    confidence = np.array([p.confidence for p in pairs], dtype=np.float64)
    from_depths = np.array([p.from_depths for p in pairs], dtype=np.float64)
    breaking = np.array([p.breaking for p in pairs], dtype=bool)
    gap = np.array([p.gap for p in pairs], dtype=np.float64)

    depth = np.array([o.depth for o in objects], dtype=np.float64)
    truth = np.array([o.truth for o in objects], dtype=np.float64)
    score = np.array([o.score for o in objects], dtype=np.float64)
    stddev = np.array([o.stddev for o in objects], dtype=np.float64)
    # Objects the model calls unseen count too, by the depth it read out: leaving them out would reward silence.
    scored = np.isfinite(depth) & np.isfinite(truth)
    error = (depth - truth)[scored]
    scored_image = np.array([o.image for o in objects], dtype=np.int64)[scored]
    stated = np.isfinite(stddev[scored])
    within = (np.abs(error) <= stddev[scored])[stated]
    in_gap = {name: (gap >= low) & (gap < high) for name, (low, high) in GAPS.items()}

    report: dict[str, Any] = {
        "model": measured.model,
        "prompt": measured.prompt,
        "images": len(measured.images),
        "pairs": len(pairs),
        "pair_accuracy": _mean(correct),
        "pairs_breaking": int(breaking.sum()),
        "pair_accuracy_breaking": _mean(correct[breaking]),
        "pair_accuracy_by_gap": {name: _mean(correct[inside]) for name, inside in in_gap.items()},
        "pairs_by_gap": {name: int(inside.sum()) for name, inside in in_gap.items()},
        "pair_accuracy_from_depths": _mean(from_depths),
        "pair_accuracy_from_depths_breaking": _mean(from_depths[breaking]),
        "objects": len(objects),
        "objects_with_truth": int(np.isfinite(truth).sum()),
        "mae": _mean(np.abs(error)),
        "rmse": _rmse(error),
        "spearman": spearman(depth[scored], truth[scored]),
        "within_sigma": _mean(within),
        "valid_rate": _mean(np.isfinite(depth) & (score >= VISIBLE)),
        "ece": expected_calibration_error(confidence, correct),
        "seconds_per_image": _mean(np.array(measured.seconds, dtype=np.float64)),
        "absent": None if measured.absent is None else _absent(objects, measured.absent, intervals),
        "direct": _direct(pairs, intervals),
        "baselines": _baselines(pairs, objects, train),
        "calibration": calibration_bins(confidence[np.isfinite(confidence)], correct[np.isfinite(confidence)]),
    }
    if intervals:
        broken = np.flatnonzero(breaking)
        said, true = depth[scored], truth[scored]
        report["interval_95"] = {
            "pair_accuracy": interval(image, lambda i: _mean(correct[i])),
            "pair_accuracy_breaking": interval(image[broken], lambda i: _mean(correct[broken][i])),
            "pair_accuracy_from_depths": interval(image, lambda i: _mean(from_depths[i])),
            "mae": interval(scored_image, lambda i: _mean(np.abs(error[i]))),
            "spearman": interval(scored_image, lambda i: spearman(said[i], true[i])),
            "within_sigma": interval(scored_image[stated], lambda i: _mean(within[i])),
        }
    report["notes"] = {
        "interval_95": f"bootstrap over images, {BOOTSTRAPS} draws, seed 0",
        "pair_accuracy_breaking": "pairs in which the closer object's lower box edge is not the lower one",
        "spearman": "over the objects of all images together",
        "within_sigma": "share of depths off by no more than the standard deviation said: 68 % if that is right",
        "constant": "the median of this set's own true depths: the best that any constant can do here",
        "lower_edge_line": "straight line from the lower box edge, fitted "
        + ("on the training folder" if train is not None else "on the other images of this set (leave one image out)"),
    }
    if report["absent"] is not None:
        report["notes"]["absent"] = (
            "names of other images that nothing in view can be meant by, asked by name alone; auroc: probability that "
            "an object that is there gets a higher score than one of them; interval_95: of auroc"
        )
    if report["direct"] is not None:
        report["notes"]["direct"] = (
            "the same pairs asked without perceived depths; difference: pair_accuracy with them minus without; "
            "interval_95: of the difference, both drawn from the same images"
        )
    return report


def _absent(objects: Sequence[ObjectResult], absent: Sequence[AbsentResult], intervals: bool) -> dict[str, Any]:
    """How well scores tell what is not in view from what is."""
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
        "pair_accuracy_breaking": _mean(direct[np.array([p.breaking for p in both], dtype=bool)]),
        "difference": _mean(gain),
    }
    if intervals:
        found["interval_95"] = interval(np.array([p.image for p in both], dtype=np.int64), lambda i: _mean(gain[i]))
    return found


def _baselines(
    pairs: Sequence[PairResult], objects: Sequence[ObjectResult], train: Sequence[ObjectResult] | None
) -> dict[str, float]:
    """What simple rules reach on the same pairs and objects; ties count half."""
    pairs = [p for p in pairs if all(map(math.isfinite, (*p.near_box, *p.far_box)))]
    breaking = np.array([p.breaking for p in pairs], dtype=bool)
    lower = np.array([_wins(p.near_box[3], p.far_box[3]) for p in pairs], dtype=np.float64)
    larger = np.array([_wins(_area(p.near_box), _area(p.far_box)) for p in pairs], dtype=np.float64)
    known = [o for o in objects if math.isfinite(o.truth)]
    truth = np.array([o.truth for o in known], dtype=np.float64)
    constant = truth - np.median(truth) if len(truth) else truth
    line = _line(known, train)
    fitted = np.isfinite(line)
    return {
        "chance": 0.5,
        "lower_edge": _mean(lower),
        "lower_edge_breaking": _mean(lower[breaking]),
        "larger_box": _mean(larger),
        "larger_box_breaking": _mean(larger[breaking]),
        "constant_mae": _mean(np.abs(constant)),
        "constant_rmse": _rmse(constant),
        "lower_edge_line_mae": _mean(np.abs(line - truth)[fitted]),
        "lower_edge_line_rmse": _rmse((line - truth)[fitted]),
        "lower_edge_line_spearman": spearman(line[fitted], truth[fitted]),
    }


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
    usable = np.isfinite(x)  # an object whose box is not known has no lower edge
    x, y = x[usable], y[usable]
    if len(x) < 2 or np.ptp(x) == 0:
        return np.full(len(at), math.nan)
    design = np.stack([x, np.ones_like(x)], axis=1)
    slope, offset = np.linalg.lstsq(design, y, rcond=None)[0]
    return np.clip(slope * at + offset, 0.0, 1.0)


def _wins(near: float, far: float) -> float:
    return 1.0 if near > far else 0.5 if near == far else 0.0


def _area(box: tuple[float, float, float, float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _mean(values: NDArray[Any]) -> float:
    return float(values.mean()) if len(values) else math.nan


def _rmse(error: Floats) -> float:
    return math.sqrt(float((error**2).mean())) if len(error) else math.nan
