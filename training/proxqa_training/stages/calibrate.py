"""Make an adapter as sure as it is right: what is fitted on a validation set, saved with the adapter.

The depth temperature is the one with which σ holds as many errors as a normal distribution's would (68.3 %). Which is
closer is left to stage 2 where it puts more pairs in the right order than the perceived depths do, else to them
(`reasons`); the choice temperature is the one that makes the true choices likeliest (temperature scaling, Guo et al.
2017, arXiv 1706.04599). Depths are compared with a vote of the ground, for the box that ends lower in the image, and
one of the order head where there is one (`proxqa_core.llm.readout.closer_evidence`): by name `closer_weights`, by box
`closer_weights_in_box`. Where another thing was taken for one that was named, the choice is a coin's: by name it is the
less sure, the less sure it is that what was named is in view (`closer_doubt`).

Rendered pairs break the rule of the lower edge six times as often as photographed ones. What is fitted to choices
counts them so that the rule is broken in RULE_BREAKING of them.

What is asked for is there if the language model and the grounding head together say so; the weight of either (by
name `visibility`, by box `visibility_in_box`) is fitted on what is there and on names that are not, both kinds of equal
weight and in the same images: those that list all that is in view.

The second digit of a depth is asked for only where it tells something: where the mean error does not grow by more than
MAX_TENTHS_COST without it, `depth_digits` is 1.

Promises: only these change, and a depth, the mean over the digit tree, moves only as far as the tree widens. Never run
it on a set that figures are reported on.
"""

from __future__ import annotations

import dataclasses
import json
import math
import random
from collections.abc import Sequence
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
from proxqa_core.llm.readout import (
    DigitTree,
    Standing,
    closer_evidence,
    compare_depths,
    doubted,
    read_choice,
    read_closer,
    read_depths,
    read_visibility,
)
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
DOUBTS = tuple(float(v) for v in np.arange(0, 1.01, 0.02))
"""Of which `closer_doubt` is one."""
MAX_WEIGHT = 20.0
"""Of the difference of the depths and of the ground."""
MIN_DEPTH_WEIGHT = 0.01
"""Least weight of the difference of the depths, where other evidence has one."""
MAX_TENTHS_COST = 0.002
"""Most that the mean error of the depths may grow by where their second digit is taken as equally likely."""
RULE_BREAKING = 0.2
"""Share of rendered pairs, after weighting, in which the object that ends lower in the image is not the closer one.

Photographs have 5 to 13 %, renders 30 %. A vote of the ground that is fitted at the share of photographs puts a pair or
two in a hundred of them more in order, and loses three times as many of those that break the rule.
"""
NORMAL_WITHIN_SIGMA = 0.683
"""Share of a normal distribution within one standard deviation."""


@dataclass(frozen=True)
class CalibrationData:
    """What the model predicted for a set, uncalibrated, and what is true.

    Attributes:
        trees: Digit trees of the n depths.
        depths: [n], true relative depths; NaN = not known, of what is only compared.
        lower_edges: [n], of the boxes that were asked with or found, as share of the image's height; NaN = no box.
        order: [n], what the order head says of these boxes; NaN = no box, or no order head.
        by_box: [n], whether it was asked by box.
        weights: [pairs], what each pair counts.
        odds: [pairs, 2], log-odds that the first is closer, in both orders of naming.
        first: [pairs], whether the first is closer.
        pairs: [pairs, 2], indices of the trees of the first and of the second object.
        visible: Evidence [m, 2] (`readout.visibility_evidence`) of objects that are there, asked by name and by box;
            empty where the adapter has no grounding head.
        absent: The same of names that are not there.
        in_view: [n, 2], that evidence of all objects; None = the adapter has no grounding head.
    """

    trees: list[DigitTree]
    depths: Floats
    lower_edges: Floats
    order: Floats
    by_box: Bools
    weights: Floats
    odds: Floats
    first: Bools
    pairs: NDArray[np.int64]
    visible: tuple[Floats, Floats]
    absent: tuple[Floats, Floats]
    in_view: Floats | None = None


@dataclass
class _Collected:
    """`CalibrationData` while it is collected."""

    trees: list[DigitTree] = field(default_factory=list)
    depths: list[float] = field(default_factory=list)
    lower_edges: list[float] = field(default_factory=list)
    order: list[float] = field(default_factory=list)
    by_box: list[bool] = field(default_factory=list)
    in_view: list[Floats] = field(default_factory=list)
    breaks: list[bool] = field(default_factory=list)
    rendered: list[bool] = field(default_factory=list)
    odds: list[Floats] = field(default_factory=list)
    first: list[bool] = field(default_factory=list)
    pairs: list[tuple[int, int]] = field(default_factory=list)
    visible: tuple[list[Floats], list[Floats]] = field(default_factory=lambda: ([], []))
    absent: tuple[list[Floats], list[Floats]] = field(default_factory=lambda: ([], []))

    def arrays(self) -> CalibrationData:
        return CalibrationData(
            self.trees,
            np.array(self.depths, float),
            np.array(self.lower_edges, float),
            np.array(self.order, float),
            np.array(self.by_box, bool),
            pair_weights(np.array(self.breaks, bool), np.array(self.rendered, bool)),
            np.concatenate(self.odds) if self.odds else np.zeros((0, 2)),
            np.array(self.first, bool),
            np.array(self.pairs, np.int64).reshape(-1, 2),
            (_evidence(self.visible[0]), _evidence(self.visible[1])),
            (_evidence(self.absent[0]), _evidence(self.absent[1])),
            _evidence(self.in_view) if self.in_view else None,
        )


@dataclass(frozen=True)
class _Measured:
    """An object that can be asked for, with what is true of it; depth: NaN = not known."""

    name: str
    thing: LabelledObject
    depth: float
    distance_m: float

    def query(self, by_box: bool) -> ObjectQuery:
        return ObjectQuery(self.name, self.thing.box if by_box else None)


def pair_weights(breaks: Bools, rendered: Bools) -> Floats:
    """What pairs count, so that RULE_BREAKING of the rendered ones, by weight, break the rule of the lower edge.

    Args:
        breaks: [pairs], whether each does.
        rendered: [pairs], whether its image is no photograph.

    Returns:
        [pairs], 1 for photographs, 1 in the mean for renders; all 1 where no rendered pair breaks the rule, or all do.
    """
    weights = np.ones(len(breaks))
    if rendered.any():
        share = float(breaks[rendered].mean())
        if 0 < share < 1:
            weights[rendered & breaks] = RULE_BREAKING / share
            weights[rendered & ~breaks] = (1 - RULE_BREAKING) / (1 - share)
    return weights


def collect(
    engine: ProximityEngine,
    folders: LabelledFolder | Sequence[LabelledFolder],
    limit: int | None = None,
    bad: BadImages | None = None,
) -> CalibrationData:
    """Ask about everything by name (where a phrase means one object) and by box.

    Args:
        engine: With the adapter to be calibrated.
        folders: With depths or distances.
        limit: Only the first images of each.
        bad: Takes the images that cannot be used.
    """
    collected, bad = _Collected(), BadImages() if bad is None else bad
    folders = [folders] if isinstance(folders, LabelledFolder) else folders
    names = sorted({o.name for folder in folders for record in folder.records for o in record.objects})
    records = [record for folder in folders for record in folder.records[:limit]]
    for record in progress(records, desc="calibrate", unit="image"):
        try:
            objects = _measured(record)
            if not objects:
                continue
            encoded = engine.encode_image(record.load_image())
        except BadImageError as error:
            bad.add(str(record.folder / record.image), str(error))
            continue
        missing = absent_names(record, names, ABSENT_PER_IMAGE)
        for by_box in (False, True):
            asked = [o for o in objects if by_box or o.thing.ref is not None]
            if not asked:
                continue
            queries = [o.query(by_box) for o in asked]
            start = len(collected.trees)
            collected.trees += encoded.digit_trees(queries)
            collected.depths += [o.depth for o in asked]
            collected.by_box += [by_box] * len(asked)
            if engine.model.grounding_head is not None:
                collected.in_view += map(encoded.visibility_evidence, queries, collected.trees[start:])
                if record.visible_names is not None:
                    _collect_visibility(collected, encoded, queries, missing, start, by_box)
            _collect_choices(collected, encoded, record, asked, queries, start)
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
    # 2. the most likely weights, [3]
    of_language, of_grounding, constant = (round(float(v), 4) for v in _newton(x, y, w))
    return of_language, of_grounding, constant


def _newton(x: Floats, y: Bools, w: Floats, found: Floats | None = None) -> Floats:
    """Logistic regression with a ridge, by Fisher's scoring: [k].

    Args:
        x: Evidence [n, k].
        y: Labels [n].
        w: Weights [n] that sum to 1.
        found: [n], share of the probability that comes from the evidence, the rest being a coin's; None = all of it.
    """
    b, found = np.zeros(x.shape[1]), np.ones(len(x)) if found is None else found
    for _ in range(NEWTON_STEPS):
        p = 1 / (1 + np.exp(-np.clip(x @ b, -30, 30)))
        whole = 0.5 + (p - 0.5) * found
        rise = found * p * (1 - p)
        spread = np.maximum(whole * (1 - whole), 1e-13)
        slope = x.T @ (w * (y - whole) * rise / spread) - RIDGE * b
        b += np.linalg.solve((x * (w * rise**2 / spread)[:, None]).T @ x + RIDGE * np.eye(len(b)), slope)
    return b


def within_sigma(data: CalibrationData, temperature: float) -> float:
    """Share of the depths whose error is at most the stated σ."""
    error, stddev = _errors(data, temperature)
    return float((abs(error) <= stddev).mean())


def mean_error(data: CalibrationData, temperature: float) -> float:
    """Mean absolute error of the depths."""
    return float(abs(_errors(data, temperature)[0]).mean())


def _errors(data: CalibrationData, temperature: float) -> tuple[Floats, Floats]:
    """Errors and σ of the depths whose truth is known, [m] each."""
    known = np.flatnonzero(np.isfinite(data.depths))
    mean, stddev = read_depths([data.trees[i] for i in known], temperature)
    return mean - data.depths[known], stddev


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


def tenths_cost(data: CalibrationData, temperature: float) -> float:
    """What the mean error of the depths grows by where their second digits are taken as equally likely."""
    return mean_error(without_hundredths(data), temperature) - mean_error(data, temperature)


def reasoned(data: CalibrationData, temperature: float) -> Floats:
    """Probability [pairs] by stage 2 that the first is closer."""
    return read_choice(data.odds, temperature)


def compared(data: CalibrationData, depth_temperature: float, temperature: float) -> Floats:
    """Probability [pairs] by the perceived depths that the first is closer."""
    mean, stddev = read_depths(data.trees, depth_temperature)
    return np.array([compare_depths(mean[i], stddev[i], mean[j], stddev[j], temperature) for i, j in data.pairs])


def evidence(data: CalibrationData, depth_temperature: float) -> Floats:
    """`closer_evidence` [pairs, 2 or 3] by the perceived depths; where a box is not known, only these have a vote."""
    mean, stddev = read_depths(data.trees, depth_temperature)
    has_head = bool(np.isfinite(data.order).any())
    rows = []
    for pair in data.pairs:
        both = (data.lower_edges[pair], data.order[pair])
        edges, order = ([*values] if np.isfinite(values).all() else [0.0, 0.0] for values in both)
        orders = order if has_head else [None, None]
        a, b = (Standing(float(mean[i]), float(stddev[i]), e, o) for i, e, o in zip(pair, edges, orders, strict=True))
        rows.append(closer_evidence(a, b))
    return np.array(rows).reshape(len(rows), 3 if has_head else 2)


def closer_weights(
    evidence: Floats, first: Bools, weights: Floats, found: Floats | None = None
) -> tuple[float, ...] | None:
    """Fit a logistic regression without a constant: the same two the other way round have the opposite answer.

    Args:
        evidence: [pairs, k], see `closer_evidence`.
        first: [pairs], whether the first is closer.
        weights: [pairs], what each counts.
        found: [pairs], how far the choice is told by the evidence, see `doubted`; None = wholly.

    Returns:
        The k weights, in [0, 20], that of the depths above 0; None where the depths do not speak for the truth.
    """
    if not len(first):
        return None
    weights = weights / weights.sum()
    # 1. Whether the depths alone speak for the truth.
    if round(float(_newton(evidence[:, :1], first, weights, found)[0]), 3) <= 0:
        return None
    # 2. Newton on [pairs, k]; who votes against the truth has no vote, and the others are fitted anew.
    voters = [*range(evidence.shape[1])]
    b = _newton(evidence, first, weights, found)
    while len(voters) > 1 and b[1:].min() < 0:
        del voters[1 + int(b[1:].argmin())]
        b = _newton(evidence[:, voters], first, weights, found)
    fitted = np.zeros(evidence.shape[1])
    fitted[voters] = np.clip(b, 0, MAX_WEIGHT)
    fitted[0] = max(fitted[0], MIN_DEPTH_WEIGHT)  # what the depths say is not thrown away for what else is known
    return tuple(round(float(v), 3) for v in fitted)


def closer_doubt(
    evidence: Floats, first: Bools, weights: Floats, in_view: Floats
) -> tuple[float, tuple[float, ...] | None]:
    """How much less sure the choices are the less sure it is that the things are in view, and the weights with that.

    Args:
        evidence: As of `closer_weights`.
        first: As of `closer_weights`.
        weights: As of `closer_weights`.
        in_view: [pairs], probability that both things are in view; NaN = not known.

    Returns:
        `closer_doubt` and `closer_weights` of `AdapterInfo`: those with which the choices are likeliest; no doubt where
        the probabilities are not known.
    """
    plain = 0.0, closer_weights(evidence, first, weights)
    if plain[1] is None or not np.isfinite(in_view).all():
        return plain
    fits = [(doubt, closer_weights(evidence, first, weights, in_view**doubt)) for doubt in DOUBTS]

    def loss(fit: tuple[float, tuple[float, ...] | None]) -> float:
        if fit[1] is None:
            return math.inf
        return negative_log_likelihood(_by_evidence(evidence, fit[1], in_view, fit[0]), first, weights)

    return min(fits, key=loss)


def _by_evidence(evidence: Floats, weights: tuple[float, ...], in_view: Floats, doubt: float) -> Floats:
    """Probability [pairs] by all votes that the first is closer. in_view: NaN is taken for 1."""
    both = np.nan_to_num(in_view, nan=1.0)
    return np.array([doubted(read_closer(e, weights), [v], doubt) for e, v in zip(evidence, both, strict=True)])


def accuracy(p: Floats, first: Bools, weights: Floats | None = None) -> float:
    """Share of the choices [pairs] that are right, by weight."""
    return float(np.average((p >= 0.5) == first, weights=weights))


def negative_log_likelihood(p: Floats, first: Bools, weights: Floats | None = None) -> float:
    """Mean negative log-likelihood of the true choices [pairs], by weight."""
    p = np.clip(p, 1e-6, 1 - 1e-6)
    return float(-np.average(np.log(np.where(first, p, 1 - p)), weights=weights))


def calibration_error(p: Floats, first: Bools) -> float:
    """Expected calibration error of the choices [pairs]."""
    right = np.where(p >= 0.5, first, ~first).astype(np.float64)
    return expected_calibration_error(np.maximum(p, 1 - p), right)


def calibrate(
    adapter: Path, folders: Sequence[Path], limit: int | None = None, device: str = "auto", dtype: str = "auto"
) -> dict[str, Any]:
    """Calibrate an adapter and save what was found with it.

    Args:
        adapter: Its folder; only its `proxqa.json` changes.
        folders: Labelled folders with depths or distances that no figure is reported on.
        limit: Only the first images of each.
        device: As of `ProximityEngine.load`.
        dtype: As of `ProximityEngine.load`.

    Returns:
        `fitted`, what was saved, `figures`, what it was before and is after, and `bad_images`, how many were left out
        and why.

    Raises:
        ProxqaError: The adapter or a folder is at fault.
        ValueError: There is nothing to calibrate on.
    """
    info, labelled = read_info(adapter), [LabelledFolder(folder) for folder in folders]
    bad = BadImages()
    data = collect(ProximityEngine.load(adapter=adapter, device=device, dtype=dtype), labelled, limit, bad)
    if not np.isfinite(data.depths).any() or not len(data.first):
        names = ", ".join(str(folder) for folder in folders)
        raise ValueError(f"{names}: no pairs of objects with depths to calibrate on")
    fitted, figures = fit(data)
    save_fitted(adapter, info, fitted)
    return {"adapter": str(adapter), "fitted": fitted, "figures": figures, "bad_images": bad.report()}


def fit(data: CalibrationData) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fit all of it.

    Returns:
        Fields of `AdapterInfo`; and figures of before and after.
    """
    cost = tenths_cost(data, fit_depth_temperature(data))
    if cost <= MAX_TENTHS_COST:
        data = without_hundredths(data)
    depth = fit_depth_temperature(data)
    # 1. Which is closer by the depths and the ground, by name and by box.
    visibility = _visibility(data)
    seen, boxed = evidence(data, depth), data.by_box[data.pairs[:, 0]]
    in_view = np.where(boxed, 1.0, _both_in_view(data, visibility.get("visibility")))
    by_depths, ground = compared(data, depth, 1.0), dict[str, Any]()
    for key, of in (("closer_weights", ~boxed), ("closer_weights_in_box", boxed)):
        doubt, found = closer_doubt(seen[of], data.first[of], data.weights[of], in_view[of])
        ground[key] = found
        if key == "closer_weights":
            ground["closer_doubt"] = round(doubt, 3)
        if found is not None:
            by_depths[of] = _by_evidence(seen[of], found, in_view[of], doubt)
    # 2. By stage 2, and who decides.
    by_reasoning = reasoned(data, 1.0)
    accuracies = [accuracy(p, data.first, data.weights) for p in (by_reasoning, by_depths)]
    reasons = accuracies[0] > accuracies[1]

    def probability(temperature: float) -> Floats:
        return reasoned(data, temperature) if reasons else compared(data, depth, temperature)

    losses = {t: negative_log_likelihood(probability(t), data.first, data.weights) for t in TEMPERATURES}
    choice = float(min(losses, key=losses.__getitem__))
    fitted: dict[str, Any] = {
        "depth_digits": 1 if cost <= MAX_TENTHS_COST else 2,
        "depth_temperature": round(depth, 3),
        "choice_temperature": round(choice, 3),
        "reasons": reasons,
        **ground,
        **visibility,
    }
    before, after = probability(1.0), probability(choice) if reasons else by_depths
    figures: dict[str, Any] = {
        "depths": int(np.isfinite(data.depths).sum()),
        "choices": len(data.first),
        "tenths_cost": cost,
        "within_sigma": _before_after(within_sigma(data, 1), within_sigma(data, depth)),
        "accuracy_by_reasoning": accuracies[0],
        "accuracy_by_depths": accuracy(compared(data, depth, 1.0), data.first, data.weights),
        "accuracy_by_depths_and_ground": accuracies[1],
        "choice_loss": _before_after(*(negative_log_likelihood(p, data.first, data.weights) for p in (before, after))),
        "choice_calibration_error": _before_after(*(calibration_error(p, data.first) for p in (before, after))),
    }
    for key, visible, absent in zip(("visibility", "visibility_in_box"), data.visible, data.absent, strict=True):
        if key in visibility:
            is_there, is_not = (np.array([read_visibility(e, visibility[key]) for e in es]) for es in (visible, absent))
            figures[key] = {
                "visible": len(visible),
                "visible_right": float((is_there >= 0.5).mean()),
                "absent": len(absent),
                "absent_right": float((is_not < 0.5).mean()),
            }
    return fitted, figures


def _visibility(data: CalibrationData) -> dict[str, tuple[float, float, float]]:
    """`visibility` and `visibility_in_box` of `AdapterInfo`, where there is something to fit them on."""
    both = zip(("visibility", "visibility_in_box"), data.visible, data.absent, strict=True)
    return {key: visibility_weights(there, absent) for key, there, absent in both if len(there) and len(absent)}


def _both_in_view(data: CalibrationData, weights: tuple[float, float, float] | None) -> Floats:
    """Probability [pairs] that both things of a pair are in view; NaN = not known."""
    if weights is None or data.in_view is None:
        return np.full(len(data.pairs), np.nan)
    each = np.array([read_visibility(e, weights) for e in data.in_view])
    both: Floats = each[data.pairs].prod(axis=1)
    return both


def save_fitted(adapter: Path, info: AdapterInfo, fitted: dict[str, Any]) -> None:
    """Save an adapter's description with what was fitted."""
    values = dataclasses.asdict(dataclasses.replace(info, **fitted))
    write_text(adapter / INFO, json.dumps(values, indent=1) + "\n")


def as_text(report: dict[str, Any]) -> str:
    """What `calibrate` returned, for people."""
    fitted, figures = report["fitted"], report["figures"]
    within, loss, ece = (figures[k] for k in ("within_sigma", "choice_loss", "choice_calibration_error"))
    has_head = any(len(fitted[key] or ()) > 2 for key in ("closer_weights", "closer_weights_in_box"))
    votes = f"a vote of the ground{' and of the order head' if has_head else ''}"
    decides = "stage 2" if fitted["reasons"] else f"the depths, with {votes},"
    lines = [
        f"depth temperature {fitted['depth_temperature']:.3f}: within one σ "
        f"{within['before']:.1%} → {within['after']:.1%}",
        f"without their second digit the depths' mean error grows by {figures['tenths_cost']:.4f}: "
        f"{fitted['depth_digits']} asked for",
        f"right order: stage 2 {figures['accuracy_by_reasoning']:.1%}, perceived depths "
        f"{figures['accuracy_by_depths']:.1%}, with {votes} "
        f"{figures['accuracy_by_depths_and_ground']:.1%}: {decides} will decide",
        f"choices: loss {loss['before']:.4f} → {loss['after']:.4f}, calibration error {ece['before']:.4f} → "
        f"{ece['after']:.4f}",
        f"{figures['depths']} depths and {figures['choices']} choices, by name and by box",
    ]
    if fitted["closer_doubt"]:
        lines.append(
            f"by name a choice is the less sure, the less sure it is that both are in view "
            f"(to the power of {fitted['closer_doubt']:.2f})"
        )
    for key in ("visibility", "visibility_in_box"):
        if key in fitted:
            f = figures[key]
            lines.append(
                f"{key} {fitted[key]}: {f['visible_right']:.1%} of {f['visible']} visible and "
                f"{f['absent_right']:.1%} of {f['absent']} absent objects classified right"
            )
    return "\n".join(lines)


def _measured(record: Record) -> list[_Measured]:
    depths = record.relative_depths()
    return [
        _Measured(o.ref or o.name, o, depth, o.depth_m)
        for o, depth in zip(record.objects, depths, strict=True)
        if o.depth_m is not None
    ]


def _collect_visibility(
    collected: _Collected, encoded: Any, queries: list[ObjectQuery], names: list[str], start: int, by_box: bool
) -> None:
    """Evidence of the objects whose trees begin at `start`, and of absent names in the objects' boxes."""
    collected.visible[by_box].extend(collected.in_view[start:])
    missing = [ObjectQuery(name, query.box) for name, query in zip(names, cycle(queries), strict=False)]
    trees = encoded.digit_trees(missing) if missing else []
    collected.absent[by_box].extend(map(encoded.visibility_evidence, missing, trees))


def _collect_choices(
    collected: _Collected,
    encoded: Any,
    record: Record,
    objects: list[_Measured],
    queries: list[ObjectQuery],
    start: int,
) -> None:
    """Choices among pairs that are far enough apart, and where their boxes end."""
    depths = dict(zip(queries, encoded.depths(queries), strict=True))
    boxes = [q.box or depths[q].found_at for q in queries]
    collected.lower_edges += [math.nan if box is None else min(box.y2 / record.height, 1.0) for box in boxes]
    known = [box for box in boxes if box is not None]
    order = dict(zip(known, encoded.box_order(known) or [math.nan] * len(known), strict=True))
    collected.order += [math.nan if box is None else order[box] for box in boxes]
    apart = [(i, j) for i in range(len(objects)) for j in range(i) if _far_enough(objects[i], objects[j])]
    apart = [(i, j) for i, j in apart if queries[i] != queries[j]]
    apart = random.Random(record.image).sample(apart, min(PAIRS_PER_IMAGE, len(apart)))
    asked = [(queries[i], queries[j]) for i, j in apart]
    collected.odds.append(encoded.choice_odds(asked, [(depths[a], depths[b]) for a, b in asked]))
    collected.first += [objects[i].distance_m < objects[j].distance_m for i, j in apart]
    collected.breaks += [_breaks_the_rule(objects[i], objects[j]) for i, j in apart]
    collected.rendered += [record.mask_map is not None] * len(apart)
    collected.pairs += [(start + i, start + j) for i, j in apart]


def _breaks_the_rule(a: _Measured, b: _Measured) -> bool:
    """Whether the one that truly ends lower in the image is not the closer one."""
    return (a.distance_m < b.distance_m) != (a.thing.box.y2 > b.thing.box.y2)


def _far_enough(a: _Measured, b: _Measured) -> bool:
    return abs(a.distance_m - b.distance_m) >= MIN_GAP * max(a.distance_m, b.distance_m)


def _evidence(rows: list[Floats]) -> Floats:
    return np.array(rows, float).reshape(-1, 2)


def _before_after(before: float, after: float) -> dict[str, float]:
    return {"before": before, "after": after}
