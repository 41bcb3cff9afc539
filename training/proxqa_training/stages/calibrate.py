"""Make an adapter as sure as it is right: what is fitted on a validation set, saved with the adapter.

The depth temperature is the one with which σ holds as many errors as a normal distribution's would (68.3 %). Which is
closer is left to stage 2 where it puts more pairs in the right order than the perceived depths do, else to them
(`reasons`); the choice temperature is the one that makes the true choices likeliest (temperature scaling, Guo et al.
2017, arXiv 1706.04599).

What is asked for is there if the language model and the grounding head together say so; the weight of either (by
name `visibility`, by box `visibility_in_box`) is fitted on what is there and on names that are not, both kinds of equal
weight.

The second digit of a depth is asked for only where it tells something: where no depth of the set moves by more than
MAX_TENTHS_SHIFT without it, `depth_digits` is 1.

Promises: only these six change: no choice becomes another by its temperature, and a depth, the mean over the digit
tree, moves only as far as the tree widens. Never run it on a set that figures are reported on.
"""

from __future__ import annotations

import dataclasses
import json
import random
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proxqa_core.datasets.folder import LabelledFolder, LabelledObject, Record
from proxqa_core.engine import ProximityEngine
from proxqa_core.errors import BadImageError
from proxqa_core.evaluation.metrics import MIN_GAP, expected_calibration_error
from proxqa_core.evaluation.runner import absent_names
from proxqa_core.files import write_text
from proxqa_core.llm.readout import DigitTree, compare_depths, read_choice, read_depth, read_visibility
from proxqa_core.model.adapter import INFO, AdapterInfo, read_info
from proxqa_core.types import ObjectQuery
from proxqa_training.bad_images import BadImages
from proxqa_training.logs import progress

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

TEMPERATURES = np.geomspace(0.25, 16, 145)
ABSENT_PER_IMAGE = 3
"""Names that are not there, asked for in every image."""
PAIRS_PER_IMAGE = 8
"""Pairs asked for in every image by either prompt, drawn where there are more: each is asked in both orders."""
RIDGE = 1e-4
"""Pull of the visibility weights to 0: classes that part without error would pull them to infinity."""
NEWTON_STEPS = 50
MAX_TENTHS_SHIFT = 0.01
"""Most that a depth may move where its second digit is taken as equally likely."""
NORMAL_WITHIN_SIGMA = 0.683
"""Share of a normal distribution within one standard deviation."""


@dataclass(frozen=True)
class CalibrationData:
    """What the model predicted for a set, uncalibrated, and what is true.

    Attributes:
        trees: Digit trees of the n depths.
        depths: [n], true relative depths.
        odds: [pairs, 2], log-odds that the first is closer, in both orders of naming.
        first: [pairs], whether the first is closer.
        pairs: [pairs, 2], indices of the trees of the first and of the second object.
        visible: Evidence [m, 2] (`readout.visibility_evidence`) of objects that are there, asked by name and by box;
            empty where the adapter has no grounding head.
        absent: The same of names that are not there.
    """

    trees: list[DigitTree]
    depths: Floats
    odds: Floats
    first: Bools
    pairs: NDArray[np.int64]
    visible: tuple[Floats, Floats]
    absent: tuple[Floats, Floats]


@dataclass
class _Collected:
    """`CalibrationData` while it is collected."""

    trees: list[DigitTree] = field(default_factory=list)
    depths: list[float] = field(default_factory=list)
    odds: list[Floats] = field(default_factory=list)
    first: list[bool] = field(default_factory=list)
    pairs: list[tuple[int, int]] = field(default_factory=list)
    visible: tuple[list[Floats], list[Floats]] = field(default_factory=lambda: ([], []))
    absent: tuple[list[Floats], list[Floats]] = field(default_factory=lambda: ([], []))

    def arrays(self) -> CalibrationData:
        return CalibrationData(
            self.trees,
            np.array(self.depths, float),
            np.concatenate(self.odds) if self.odds else np.zeros((0, 2)),
            np.array(self.first, bool),
            np.array(self.pairs, np.int64).reshape(-1, 2),
            (_evidence(self.visible[0]), _evidence(self.visible[1])),
            (_evidence(self.absent[0]), _evidence(self.absent[1])),
        )


@dataclass(frozen=True)
class _Measured:
    """An object that can be asked for, with what is true of it."""

    name: str
    thing: LabelledObject
    depth: float
    distance_m: float

    def query(self, by_box: bool) -> ObjectQuery:
        return ObjectQuery(self.name, self.thing.box if by_box else None)


def collect(
    engine: ProximityEngine, folder: LabelledFolder, limit: int | None = None, bad: BadImages | None = None
) -> CalibrationData:
    """Ask about everything by name (where a phrase means one object) and by box.

    Args:
        engine: With the adapter to be calibrated.
        folder: With depths.
        limit: Only the first images.
        bad: Takes the images that cannot be used.
    """
    collected, bad = _Collected(), BadImages() if bad is None else bad
    names = sorted({o.name for record in folder.records for o in record.objects})
    for record in progress(folder.records[:limit], desc="calibrate", unit="image"):
        objects = _measured(record)
        if not objects:
            continue
        try:
            encoded = engine.encode_image(record.load_image())
        except BadImageError as error:
            bad.add(str(record.folder / record.image), str(error))
            continue
        missing = absent_names(record, names, ABSENT_PER_IMAGE)
        for by_box in (False, True):
            queries = [o.query(by_box) for o in objects]
            start = len(collected.trees)
            collected.trees += encoded.digit_trees(queries)
            collected.depths += [o.depth for o in objects]
            if engine.model.grounding_head is not None:
                _collect_visibility(collected, encoded, queries, missing, start, by_box)
            _collect_choices(collected, encoded, objects, queries, start, random.Random(record.image))
    return collected.arrays()


def visibility_weights(visible: Floats, absent: Floats) -> tuple[float, float, float]:
    """Fit a logistic regression by Newton's method, visible and absent objects of equal weight.

    Args:
        visible: Evidence [n, 2]: log-odds by the language model and by the grounding head.
        absent: Evidence [m, 2] likewise.

    Returns:
        The weights of both log-odds and a constant.
    """
    # 1. evidence with a constant [n + m, 3], labels [n + m], weights [n + m] that sum to 1/2 for each kind
    x = np.concatenate([visible, absent])
    x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    y = np.arange(len(x)) < len(visible)
    w = np.where(y, 0.5 / len(visible), 0.5 / len(absent))
    # 2. Newton: gradient [3] and negative Hessian [3, 3] of the likelihood with the ridge
    b = np.zeros(3)
    for _ in range(NEWTON_STEPS):
        p = 1 / (1 + np.exp(-np.clip(x @ b, -30, 30)))
        slope = x.T @ (w * (y - p)) - RIDGE * b
        b += np.linalg.solve((x * (w * p * (1 - p))[:, None]).T @ x + RIDGE * np.eye(3), slope)
    of_language, of_grounding, constant = (round(float(v), 4) for v in b)
    return of_language, of_grounding, constant


def within_sigma(data: CalibrationData, temperature: float) -> float:
    """Share of the depths whose error is at most the stated σ."""
    reads = [read_depth(tree, temperature) for tree in data.trees]
    error = np.array([r.mean for r in reads]) - data.depths
    return float((abs(error) <= np.array([r.stddev for r in reads])).mean())


def fit_depth_temperature(data: CalibrationData) -> float:
    """The lowest temperature with which σ holds its share of the errors; the nearest to it where none does.

    Not the nearest of all: flat trees put every mean in the middle, and a wide σ around a wrong mean can hold as many.
    """
    shares = np.array([within_sigma(data, t) for t in TEMPERATURES])
    enough = np.flatnonzero(shares >= NORMAL_WITHIN_SIGMA)
    upto = int(enough[0]) + 1 if len(enough) else len(shares)
    return float(TEMPERATURES[np.abs(shares[:upto] - NORMAL_WITHIN_SIGMA).argmin()])


def without_hundredths(data: CalibrationData) -> CalibrationData:
    """The same data as an adapter of one digit gives it."""
    return dataclasses.replace(data, trees=[dataclasses.replace(tree, hundredths=None) for tree in data.trees])


def tenths_shift(data: CalibrationData, temperature: float) -> float:
    """Most that a depth moves where its second digit is taken as equally likely."""
    pairs = zip(data.trees, without_hundredths(data).trees, strict=True)
    return max(abs(read_depth(a, temperature).mean - read_depth(b, temperature).mean) for a, b in pairs)


def reasoned(data: CalibrationData, temperature: float) -> Floats:
    """Probability [pairs] by stage 2 that the first is closer."""
    return read_choice(data.odds, temperature)


def compared(data: CalibrationData, depth_temperature: float, temperature: float) -> Floats:
    """Probability [pairs] by the perceived depths that the first is closer."""
    reads = [read_depth(tree, depth_temperature) for tree in data.trees]
    spread = [(reads[i].mean, reads[i].stddev, reads[j].mean, reads[j].stddev) for i, j in data.pairs]
    return np.array([compare_depths(*values, temperature) for values in spread])


def accuracy(p: Floats, first: Bools) -> float:
    """Share of the choices [pairs] that are right."""
    return float(((p >= 0.5) == first).mean())


def negative_log_likelihood(p: Floats, first: Bools) -> float:
    """Mean negative log-likelihood of the true choices [pairs]."""
    p = np.clip(p, 1e-6, 1 - 1e-6)
    return float(-np.log(np.where(first, p, 1 - p)).mean())


def calibration_error(p: Floats, first: Bools) -> float:
    """Expected calibration error of the choices [pairs]."""
    right = np.where(p >= 0.5, first, ~first).astype(np.float64)
    return expected_calibration_error(np.maximum(p, 1 - p), right)


def calibrate(
    adapter: Path, folder: Path, limit: int | None = None, device: str = "auto", dtype: str = "auto"
) -> dict[str, Any]:
    """Calibrate an adapter and save what was found with it.

    Args:
        adapter: Its folder; only its `proxqa.json` changes.
        folder: A labelled folder with depths that no figure is reported on.
        limit: Only the first images.
        device: As of `ProximityEngine.load`.
        dtype: As of `ProximityEngine.load`.

    Returns:
        `fitted`, what was saved, `figures`, what it was before and is after, and `bad_images`, how many were left out
        and why.

    Raises:
        ProxqaError: The adapter or the folder is at fault.
        ValueError: There is nothing to calibrate on.
    """
    info, labelled = read_info(adapter), LabelledFolder(folder)
    bad = BadImages()
    data = collect(ProximityEngine.load(adapter=adapter, device=device, dtype=dtype), labelled, limit, bad)
    if not len(data.depths) or not len(data.first):
        raise ValueError(f"{str(folder)!r} has no pairs of objects with depths to calibrate on")
    fitted, figures = fit(data)
    save_fitted(adapter, info, fitted)
    return {"adapter": str(adapter), "fitted": fitted, "figures": figures, "bad_images": bad.report()}


def fit(data: CalibrationData) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fit all six.

    Returns:
        Fields of `AdapterInfo`; and figures of before and after.
    """
    depth = fit_depth_temperature(data)
    shift = max(tenths_shift(data, temperature) for temperature in (1.0, depth))
    if shift <= MAX_TENTHS_SHIFT:
        data = without_hundredths(data)
        depth = fit_depth_temperature(data)
    by_reasoning, by_depths = (accuracy(p, data.first) for p in (reasoned(data, 1), compared(data, depth, 1)))
    reasons = by_reasoning >= by_depths

    def probability(temperature: float) -> Floats:
        return reasoned(data, temperature) if reasons else compared(data, depth, temperature)

    choice = float(min(TEMPERATURES, key=lambda t: negative_log_likelihood(probability(t), data.first)))
    fitted: dict[str, Any] = {
        "depth_digits": 1 if shift <= MAX_TENTHS_SHIFT else 2,
        "depth_temperature": round(depth, 3),
        "choice_temperature": round(choice, 3),
        "reasons": reasons,
    }
    before, after = probability(1.0), probability(choice)
    figures: dict[str, Any] = {
        "depths": len(data.depths),
        "choices": len(data.first),
        "tenths_shift": shift,
        "within_sigma": _before_after(within_sigma(data, 1), within_sigma(data, depth)),
        "accuracy_by_reasoning": by_reasoning,
        "accuracy_by_depths": by_depths,
        "choice_loss": _before_after(*(negative_log_likelihood(p, data.first) for p in (before, after))),
        "choice_calibration_error": _before_after(*(calibration_error(p, data.first) for p in (before, after))),
    }
    for key, visible, absent in zip(("visibility", "visibility_in_box"), data.visible, data.absent, strict=True):
        if len(visible) and len(absent):
            fitted[key] = weights = visibility_weights(visible, absent)
            is_there, is_not = (np.array([read_visibility(e, weights) for e in es]) for es in (visible, absent))
            figures[key] = {
                "visible": len(visible),
                "visible_right": float((is_there >= 0.5).mean()),
                "absent": len(absent),
                "absent_right": float((is_not < 0.5).mean()),
            }
    return fitted, figures


def save_fitted(adapter: Path, info: AdapterInfo, fitted: dict[str, Any]) -> None:
    """Save an adapter's description with what was fitted."""
    values = dataclasses.asdict(dataclasses.replace(info, **fitted))
    write_text(adapter / INFO, json.dumps(values, indent=1) + "\n")


def as_text(report: dict[str, Any]) -> str:
    """What `calibrate` returned, for people."""
    fitted, figures = report["fitted"], report["figures"]
    within, loss, ece = (figures[k] for k in ("within_sigma", "choice_loss", "choice_calibration_error"))
    decides = "stage 2" if fitted["reasons"] else "the depths"
    choice = f"choice temperature {fitted['choice_temperature']:.3f}"
    lines = [
        f"depth temperature {fitted['depth_temperature']:.3f}: within one σ "
        f"{within['before']:.1%} → {within['after']:.1%}",
        f"without its second digit a depth moves by up to {figures['tenths_shift']:.4f}: "
        f"{fitted['depth_digits']} asked for",
        f"right order: stage 2 {figures['accuracy_by_reasoning']:.1%}, perceived depths "
        f"{figures['accuracy_by_depths']:.1%}: {decides} will decide",
        f"{choice}: loss {loss['before']:.4f} → {loss['after']:.4f}",
        f"{choice}: calibration error {ece['before']:.4f} → {ece['after']:.4f}",
        f"{figures['depths']} depths and {figures['choices']} choices, by name and by box",
    ]
    for key in ("visibility", "visibility_in_box"):
        if key in fitted:
            f = figures[key]
            lines.append(
                f"{key} {fitted[key]}: {f['visible_right']:.1%} of {f['visible']} visible and "
                f"{f['absent_right']:.1%} of {f['absent']} absent objects classified right"
            )
    return "\n".join(lines)


def _measured(record: Record) -> list[_Measured]:
    return [
        _Measured(o.ref, o, o.depth, o.depth_m)
        for o in record.objects
        if o.ref is not None and o.depth is not None and o.depth_m is not None
    ]


def _collect_visibility(
    collected: _Collected, encoded: Any, queries: list[ObjectQuery], names: list[str], start: int, by_box: bool
) -> None:
    """Evidence of the objects whose trees begin at `start`, and of absent names in the objects' boxes."""
    collected.visible[by_box].extend(map(encoded.visibility_evidence, queries, collected.trees[start:]))
    missing = [ObjectQuery(name, query.box) for name, query in zip(names, cycle(queries), strict=False)]
    trees = encoded.digit_trees(missing) if missing else []
    collected.absent[by_box].extend(map(encoded.visibility_evidence, missing, trees))


def _collect_choices(
    collected: _Collected,
    encoded: Any,
    objects: list[_Measured],
    queries: list[ObjectQuery],
    start: int,
    rng: random.Random,
) -> None:
    """Choices among pairs that are far enough apart."""
    depths = dict(zip(queries, encoded.depths(queries), strict=True))
    apart = [(i, j) for i in range(len(objects)) for j in range(i) if _far_enough(objects[i], objects[j])]
    apart = rng.sample(apart, min(PAIRS_PER_IMAGE, len(apart)))
    asked = [(queries[i], queries[j]) for i, j in apart]
    collected.odds.append(encoded.choice_odds(asked, [(depths[a], depths[b]) for a, b in asked]))
    collected.first += [objects[i].distance_m < objects[j].distance_m for i, j in apart]
    collected.pairs += [(start + i, start + j) for i, j in apart]


def _far_enough(a: _Measured, b: _Measured) -> bool:
    return abs(a.distance_m - b.distance_m) >= MIN_GAP * max(a.distance_m, b.distance_m)


def _evidence(rows: list[Floats]) -> Floats:
    return np.array(rows, float).reshape(-1, 2)


def _before_after(before: float, after: float) -> dict[str, float]:
    return {"before": before, "after": after}
