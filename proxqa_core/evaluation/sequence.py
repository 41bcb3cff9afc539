"""What came out of a sequence of frames: answers beside the truth of the same moment, and the figures they make.

Promises: `report` gives the keys of `proxqa eval` where they mean the same, and besides what only a sequence can tell:
how steady answers are from frame to frame, how late they come, which frames were lost. Frames may come from a model
that was asked here or from a node that answered over topics. Knows nothing of models, bags or ROS.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from proxqa_core.evaluation.metrics import MIN_GAP, Measurements, ObjectResult, PairResult, in_order, summary
from proxqa_core.types import VISIBLE, Box, ObjectDepth

MAX_UNCHANGED_DEPTH = 0.02
"""Between two frames an object's true relative depth counts as unchanged if it differs by no more than this."""
MAX_STEP_NS = 2_000_000_000
"""Two frames follow one another if their stamps are no farther apart than this, in nanoseconds."""
MAX_REASONS = 5
"""Number of reasons for bad frames that are kept."""
UNKNOWN_BOX = (math.nan, math.nan, math.nan, math.nan)

NO_TRUTH, LABELS, DEPTH_IMAGES = "none", "labels", "depth images"
"""Kinds of truth: none; depths of named objects; depth images, read where the model located the object."""


@dataclass(frozen=True)
class TrueObject:
    """What is true of one object.

    Attributes:
        depth: Relative depth in [0, 1], NaN = not known.
        distance: Metres along the optical axis, NaN = not known.
        box: In pixels, None = not known.
    """

    depth: float
    distance: float = math.nan
    box: Box | None = None


@dataclass(frozen=True)
class Compared:
    """A pair that was asked about, and the answer.

    Attributes:
        first: Index into the frame's objects.
        second: Index into the frame's objects.
        says_first: Whether the answer is that the first one is closer.
        confidence: The answer's probability, NaN = none.
    """

    first: int
    second: int
    says_first: bool
    confidence: float = math.nan


@dataclass(frozen=True)
class Answer:
    """The answer to one frame.

    Attributes:
        image: Index of the frame among those asked about.
        stamp: Of its header, in nanoseconds.
        height: Of the image, in pixels.
        objects: The objects with their predicted depths.
        truth: One per object, None = not known.
        latency: Seconds until the depths were there.
        seconds: Seconds for everything that was asked.
        pass_number: Which time the frame was sent, from 0.
        compared: The pairs asked about, None = pairs were not asked about.
    """

    image: int
    stamp: int
    height: int
    objects: tuple[ObjectDepth, ...]
    truth: tuple[TrueObject | None, ...]
    latency: float
    seconds: float
    pass_number: int = 0
    compared: tuple[Compared, ...] | None = None


@dataclass
class Run:
    """One run over a sequence. Frames are added while it lasts; `report` can be made at any time.

    Attributes:
        source: Name of the bag.
        topic: Of the images.
        truth_kind: NO_TRUTH, LABELS or DEPTH_IMAGES.
        truth_topic: '' = none.
        truth_problem: Why the last truth could not be used, '' = it could.
        prompt: As in `proxqa eval`.
        model: Name of the model, '' = not known yet.
        in_source: Number of images in the source.
        wanted: Number of images to ask about, over all passes.
        sent: Number of images asked about so far.
        passes: Number of passes over the source so far.
        stamps: Of the frames by their index, in nanoseconds.
        answers: One for every answered frame.
        bad: Number of frames that could not be read.
        bad_reasons: Why, the first MAX_REASONS.
    """

    source: str
    topic: str
    truth_kind: str = NO_TRUTH
    truth_topic: str = ""
    truth_problem: str = ""
    prompt: str = "name"
    model: str = ""
    in_source: int = 0
    wanted: int = 0
    sent: int = 0
    passes: int = 1
    stamps: list[int] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    bad: int = 0
    bad_reasons: list[str] = field(default_factory=list)

    def add_bad(self, reason: str) -> None:
        """Count a frame that could not be read."""
        self.bad += 1
        if len(self.bad_reasons) < MAX_REASONS:
            self.bad_reasons.append(reason)


def true_pairs(truth: Sequence[TrueObject | None]) -> Iterator[tuple[int, int]]:
    """Pairs of objects (indices) that a model can be judged by: their true distances differ by MIN_GAP or more."""
    for i, j in itertools.combinations(range(len(truth)), 2):
        if math.isfinite(_gap(truth[i], truth[j])):
            yield i, j


def _gap(a: TrueObject | None, b: TrueObject | None) -> float:
    """Difference in metres as a share of the farther one; NaN where not known or below MIN_GAP."""
    if a is None or b is None or not (math.isfinite(a.distance) and math.isfinite(b.distance)):
        return math.nan
    farther = max(a.distance, b.distance)
    gap = abs(a.distance - b.distance) / farther if farther > 0 else 0.0
    return gap if gap >= MIN_GAP else math.nan


def measurements(run: Run) -> Measurements:
    """The sequence as `metrics.summary` takes it.

    Objects: with labels those that are labelled, else all. A pair that was not asked about is judged by the order of
    the two predicted depths; equal ones are wrong.
    """
    objects: list[ObjectResult] = []
    pairs: list[PairResult] = []
    for answer in run.answers:
        for predicted, true in zip(answer.objects, answer.truth, strict=True):
            if true is None and run.truth_kind == LABELS:
                continue
            box = (true.box if true is not None else None) or region_of(predicted)
            objects.append(
                ObjectResult(
                    answer.image,
                    predicted.name,
                    predicted.depth,
                    predicted.score,
                    math.nan if true is None else true.depth,
                    math.nan if box is None else box.y2 / answer.height,
                    predicted.depth_stddev,
                )
            )
        pairs += _pair_results(answer)
    return Measurements(
        run.model,
        run.prompt,
        tuple(pairs),
        tuple(objects),
        tuple(a.seconds for a in run.answers),
        tuple(str(stamp) for stamp in run.stamps),
        bad=run.bad,
        bad_reasons=tuple(run.bad_reasons),
    )


def region_of(thing: ObjectDepth) -> Box | None:
    """The box that an object was asked with, or in which a model located a visible one; None where there is neither."""
    return thing.box or (thing.found_at if thing.score >= VISIBLE else None)


def _pair_results(answer: Answer) -> Iterator[PairResult]:
    by_pair = {(c.first, c.second): c for c in answer.compared or ()}
    for i, j in true_pairs(answer.truth):
        if answer.compared is not None and (i, j) not in by_pair:
            continue
        a, b = answer.truth[i], answer.truth[j]
        assert a is not None and b is not None  # true_pairs gave them
        near, far = (i, j) if a.distance < b.distance else (j, i)
        depths = (answer.objects[near].depth, answer.objects[far].depth)
        compared = by_pair.get((i, j))
        boxes = [(t.box if t is not None else None) or region_of(answer.objects[k]) for k, t in ((i, a), (j, b))]
        if near != i:
            boxes.reverse()
        yield PairResult(
            answer.image,
            answer.objects[near].name,
            answer.objects[far].name,
            _gap(a, b),
            UNKNOWN_BOX if boxes[0] is None else boxes[0].xyxy,
            UNKNOWN_BOX if boxes[1] is None else boxes[1].xyxy,
            depths[0] < depths[1] if compared is None else compared.says_first == (near == i),
            math.nan if compared is None else compared.confidence,
            in_order(*depths),
        )


def report(run: Run, intervals: bool = True) -> dict[str, Any]:
    """The report of a run: `metrics.summary` and what only a sequence can tell.

    Args:
        run: The run, finished or not.
        intervals: Add 95 % bootstrap intervals.

    Returns:
        Figures by name; NaN where there is nothing to compute one from.
    """
    measured = measurements(run)
    found = summary(measured, intervals=intervals)
    answers = run.answers
    latency = [a.latency for a in answers]
    with_truth = sum(any(t is not None for t in a.truth) for a in answers)
    lost = max(0, run.sent - run.bad - len(answers))
    found |= {
        "source": run.source,
        "topic": run.topic,
        "truth": {
            "kind": run.truth_kind,
            "topic": run.truth_topic,
            "frames": with_truth,
            "problem": run.truth_problem,
        },
        "frames": {
            "in_source": run.in_source,
            "asked": run.sent,
            "answered": len(answers),
            "bad": run.bad,
            "dropped": lost,
            "drop_rate": lost / run.sent if run.sent else math.nan,
            "passes": run.passes,
            "bad_reasons": list(run.bad_reasons),
        },
        "latency_seconds": {"p50": _percentile(latency, 50), "p95": _percentile(latency, 95)},
        "temporal": temporal(run),
        "distance": _distance(answers),
        "not_labelled": _not_labelled(run),
        "by_object": _by_object(run),
    }
    found["notes"] |= _notes(run)
    return found


def temporal(run: Run) -> dict[str, Any]:
    """How steady answers are between frames that follow one another.

    Over steps of an object that is visible in both frames: `depth_change` is the mean absolute change of its depth
    where its true depth changes by at most MAX_UNCHANGED_DEPTH (without truth: over all steps), `jitter` the mean
    absolute change of its error. `flip_rate`: share of steps of a pair in which the order of the two depths flips
    while the true order stays (without truth: in which it flips at all).

    Args:
        run: The run.

    Returns:
        These figures, NaN where there are no steps, and the numbers of steps that they rest on.
    """
    without_truth = run.truth_kind == NO_TRUTH
    changes: list[float] = []
    jitter: list[float] = []
    flips: list[bool] = []
    for before, after in steps(run.answers):
        # 1. the objects visible in both frames: their indices before and after
        tracked = _tracked(before, after)
        # 2. how the depth of each of them changes, and how its true depth does
        for i, j in tracked:
            change = after.objects[j].depth - before.objects[i].depth
            true_change = _true_change(before.truth[i], after.truth[j])
            if without_truth or abs(true_change) <= MAX_UNCHANGED_DEPTH:
                changes.append(abs(change))
            if math.isfinite(true_change):
                jitter.append(abs(change - true_change))
        # 3. whether the order of each two of them flips
        for (i, j), (k, m) in itertools.combinations(tracked, 2):
            old = before.objects[i].depth - before.objects[k].depth
            new = after.objects[j].depth - after.objects[m].depth
            if without_truth or _same_order(before.truth[i], before.truth[k], after.truth[j], after.truth[m]):
                flips.append(old * new < 0)
    return {
        "basis": "all steps" if without_truth else "steps in which the truth stays",
        "steps": len(changes),
        "depth_change": _mean(changes),
        "jitter": _mean(jitter),
        "pair_steps": len(flips),
        "flip_rate": _mean(flips),
    }


def _tracked(before: Answer, after: Answer) -> list[tuple[int, int]]:
    """Indices in both frames of every object that is visible in both."""
    places = {o.name: i for i, o in enumerate(before.objects)}
    return [
        (i, j)
        for j, o in enumerate(after.objects)
        if (i := places.get(o.name)) is not None and _is_visible(o) and _is_visible(before.objects[i])
    ]


def _true_change(before: TrueObject | None, after: TrueObject | None) -> float:
    return math.nan if before is None or after is None else after.depth - before.depth


def steps(answers: Iterable[Answer]) -> Iterator[tuple[Answer, Answer]]:
    """Answers to frames that follow one another: of one pass, forward in time by at most MAX_STEP_NS."""
    ordered = sorted(answers, key=lambda a: (a.pass_number, a.image))
    for before, after in itertools.pairwise(ordered):
        if before.pass_number == after.pass_number and 0 < after.stamp - before.stamp <= MAX_STEP_NS:
            yield before, after


def _is_visible(thing: ObjectDepth) -> bool:
    return thing.score >= VISIBLE and math.isfinite(thing.depth)


def _same_order(a: TrueObject | None, b: TrueObject | None, c: TrueObject | None, d: TrueObject | None) -> bool:
    """Whether (a, b) and (c, d) are both far enough apart, and in the same order."""
    if not (math.isfinite(_gap(a, b)) and math.isfinite(_gap(c, d))):
        return False
    assert a is not None and b is not None and c is not None and d is not None  # they have a gap
    return (a.distance < b.distance) == (c.distance < d.distance)


def _distance(answers: Iterable[Answer]) -> dict[str, Any] | None:
    """How right the distances in metres are, of visible objects that have one; None where no answer has."""
    predicted = [
        (o.distance, o.distance_stddev, t.distance)
        for a in answers
        for o, t in zip(a.objects, a.truth, strict=True)
        if t is not None and _is_visible(o) and math.isfinite(o.distance) and math.isfinite(t.distance)
    ]
    if not predicted:
        return None
    relative = [abs(d - true) / true for d, _, true in predicted if true > 0]
    return {
        "objects": len(predicted),
        "mae_m": _mean([abs(d - true) for d, _, true in predicted]),
        "relative_error": _mean(relative),
        "median_relative_error": float(np.median(relative or [math.nan])),
        "within_sigma": _mean([abs(d - true) <= sigma for d, sigma, true in predicted if math.isfinite(sigma)]),
    }


def _not_labelled(run: Run) -> dict[str, Any] | None:
    """Objects asked for in frames in which they are not labelled: hidden, out of view, or forgotten."""
    if run.truth_kind != LABELS:
        return None
    in_view = [
        o.score >= VISIBLE
        for a in run.answers
        if any(t is not None for t in a.truth)
        for o, t in zip(a.objects, a.truth, strict=True)
        if t is None
    ]
    return {"asked": len(in_view), "said_in_view": _mean(in_view)}


def _by_object(run: Run) -> dict[str, dict[str, Any]]:
    """Per name, in the order first asked: how often asked, predicted in view, with truth; mean error."""
    found: dict[str, list[tuple[ObjectDepth, TrueObject | None]]] = {}
    for a in run.answers:
        for o, t in zip(a.objects, a.truth, strict=True):
            found.setdefault(o.name, []).append((o, t))
    return {
        name: {
            "asked": len(of),
            "in_view": sum(o.score >= VISIBLE for o, _ in of),
            "with_truth": sum(t is not None and math.isfinite(t.depth) for _, t in of),
            "mae": _mean([e for o, t in of if t is not None and math.isfinite(e := abs(o.depth - t.depth))]),
        }
        for name, of in found.items()
    }


def _notes(run: Run) -> dict[str, str]:
    notes = {
        "temporal": f"frames at most {MAX_STEP_NS / 1e9:g} s apart, objects visible in both; depth_change: where the "
        f"true depth changes by no more than {MAX_UNCHANGED_DEPTH:g} (without truth: everywhere); jitter: change of "
        "the error; flip_rate: pairs whose order flips while the true order stays",
        "latency_seconds": "from the image to its depths",
    }
    if run.truth_kind == DEPTH_IMAGES:
        notes["truth"] = (
            "depth images, read in the middle of the region in which the model located the object: this judges the "
            "depth predicted for that place, not whether the right thing was found there"
        )
    elif run.truth_kind == LABELS:
        notes["truth"] = "labelled depths, by name and stamp"
        notes["not_labelled"] = "asked for in frames in which they are not labelled: not counted in the other figures"
    else:
        notes["truth"] = "none: only how steady, how fast and how often, not how right"
    if all(a.compared is None for a in run.answers):
        notes["pair_accuracy"] = "pairs were not asked about: by the order of the two depths"
    return notes


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else math.nan


def _percentile(values: Sequence[float], percent: float) -> float:
    return float(np.percentile(values, percent)) if len(values) else math.nan
