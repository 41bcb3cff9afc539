"""What came out of a sequence of frames: answers beside the truth of the same moment, and the figures they make.

Promises: `report` gives the keys of `proxqa eval` where they mean the same, and what only a sequence can tell beside
them: how steady answers are from frame to frame, how late they come, which frames were lost. Frames may come from a
model that was asked here or from a node that answered over topics. Knows nothing of models, bags or ROS.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from proxqa_core.evaluation.metrics import MIN_GAP, Measurements, ObjectResult, PairResult, summary
from proxqa_core.types import VISIBLE, Box, ObjectDepth

STILL = 0.02
"""Between two frames an object's true depth counts as unchanged where it differs by no more than this."""
MAX_STEP = 2_000_000_000
"""Two frames follow one another if their stamps are no farther apart, nanoseconds."""
REASONS = 5
"""How many reasons for bad frames are kept."""
UNKNOWN_BOX = (math.nan, math.nan, math.nan, math.nan)

NO_TRUTH, LABELS, DEPTH_IMAGES = "none", "labels", "depth images"
"""Kinds of truth: none; depths of named objects; depth images, looked up where the model looked."""


@dataclass(frozen=True)
class TrueObject:
    """What is true of one object. depth: relative, in [0, 1]; distance: metres; NaN = not known. box: pixels."""

    depth: float
    distance: float = math.nan
    box: Box | None = None


@dataclass(frozen=True)
class Compared:
    """A pair that was asked about: indices into the frame's objects, and what was said.

    says_first: whether the first one was called the closer one. confidence: probability of what was said, NaN = none.
    """

    first: int
    second: int
    says_first: bool
    confidence: float = math.nan


@dataclass(frozen=True)
class Answer:
    """What came back for one frame.

    image: index of the frame among those asked about. stamp: its header's, nanoseconds. height: pixels. truth: one per
    object, None = not known. latency: seconds until the depths were there. seconds: for everything asked. pass_number:
    which time the frame was shown, from 0. compared: the pairs asked about, None = pairs were not asked about.
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

    source, topic: what was played, and the images' topic. truth_kind: one of the kinds above; truth_topic: '' = none;
    truth_problem: why the last truth was of no use, '' = none. prompt: as in `proxqa eval`. model: '' until known.
    in_source: all images there are. wanted: images to be asked about, over all passes; sent: that were so far.
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
    """By index of the frame."""
    answers: list[Answer] = field(default_factory=list)
    bad: int = 0
    bad_reasons: list[str] = field(default_factory=list)

    def add_bad(self, reason: str) -> None:
        """Count a frame that could not be read."""
        self.bad += 1
        if len(self.bad_reasons) < REASONS:
            self.bad_reasons.append(reason)


def true_pairs(truth: Sequence[TrueObject | None]) -> Iterator[tuple[int, int]]:
    """Pairs of objects (indices) that truly differ enough in depth, in order: those a model can be judged by."""
    for i, j in itertools.combinations(range(len(truth)), 2):
        if math.isfinite(_gap(truth[i], truth[j])):
            yield i, j


def _gap(a: TrueObject | None, b: TrueObject | None) -> float:
    """Difference in metres as a share of the farther one; NaN where unknown or too small to be judged."""
    if a is None or b is None or not (math.isfinite(a.distance) and math.isfinite(b.distance)):
        return math.nan
    farther = max(a.distance, b.distance)
    gap = abs(a.distance - b.distance) / farther if farther > 0 else 0.0
    return gap if gap >= MIN_GAP else math.nan


def measurements(run: Run) -> Measurements:
    """The sequence as `metrics.summary` takes it.

    Objects: with labels those that the labels hold, else all. A pair that was not asked about is judged by the order of
    the two depths, equal ones are wrong.
    """
    objects: list[ObjectResult] = []
    pairs: list[PairResult] = []
    for answer in run.answers:
        for said, true in zip(answer.objects, answer.truth, strict=True):
            if true is None and run.truth_kind == LABELS:
                continue
            box = (true.box if true is not None else None) or region_of(said)
            objects.append(
                ObjectResult(
                    answer.image,
                    said.name,
                    said.depth,
                    said.score,
                    math.nan if true is None else true.depth,
                    math.nan if box is None else box.y2 / answer.height,
                    said.depth_stddev,
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
    )


def region_of(thing: ObjectDepth) -> Box | None:
    """Where an object was asked for, or found by a model that saw it; None where nobody knows."""
    return thing.box or (thing.found_at if thing.score >= VISIBLE else None)


def _pair_results(answer: Answer) -> Iterator[PairResult]:
    said = {(c.first, c.second): c for c in answer.compared or ()}
    for i, j in true_pairs(answer.truth):
        if answer.compared is not None and (i, j) not in said:
            continue
        a, b = answer.truth[i], answer.truth[j]
        assert a is not None and b is not None  # true_pairs gave them
        near, far = (i, j) if a.distance < b.distance else (j, i)
        depths = (answer.objects[near].depth, answer.objects[far].depth)
        compared = said.get((i, j))
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
            1.0 if depths[0] < depths[1] else 0.5 if depths[0] == depths[1] else 0.0,
        )


def report(run: Run, intervals: bool = True) -> dict[str, Any]:
    """The report of a run: `metrics.summary` and what only a sequence can tell."""
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

    Over steps of an object that is seen in both frames: depth_change is the mean absolute change of its depth where its
    true depth stays within STILL (without truth: over all steps), jitter the mean absolute change of its error.
    flip_rate: share of steps of a pair in which the order of the two depths turns round while the true order stays as
    it was (without truth: in which it turns round at all).
    """
    blind = run.truth_kind == NO_TRUTH
    changes: list[float] = []
    jitter: list[float] = []
    flips: list[bool] = []
    for before, after in steps(run.answers):
        places = {o.name: i for i, o in enumerate(before.objects)}
        both = [
            (i, j)
            for j, o in enumerate(after.objects)
            if (i := places.get(o.name)) is not None and _seen(o) and _seen(before.objects[i])
        ]
        for i, j in both:
            change = after.objects[j].depth - before.objects[i].depth
            was, now = before.truth[i], after.truth[j]
            moved = math.nan if was is None or now is None else now.depth - was.depth
            if blind or abs(moved) <= STILL:
                changes.append(abs(change))
            if math.isfinite(moved):
                jitter.append(abs(change - moved))
        for (i, j), (k, m) in itertools.combinations(both, 2):
            old = before.objects[i].depth - before.objects[k].depth
            new = after.objects[j].depth - after.objects[m].depth
            if blind or _same_order(before.truth[i], before.truth[k], after.truth[j], after.truth[m]):
                flips.append(old * new < 0)
    return {
        "basis": "all steps" if blind else "steps in which the truth stays",
        "steps": len(changes),
        "depth_change": _mean(changes),
        "jitter": _mean(jitter),
        "pair_steps": len(flips),
        "flip_rate": _mean(flips),
    }


def steps(answers: Iterable[Answer]) -> Iterator[tuple[Answer, Answer]]:
    """Answers to frames that follow one another: of one pass, forward in time by at most MAX_STEP."""
    ordered = sorted(answers, key=lambda a: (a.pass_number, a.image))
    for before, after in itertools.pairwise(ordered):
        if before.pass_number == after.pass_number and 0 < after.stamp - before.stamp <= MAX_STEP:
            yield before, after


def _seen(thing: ObjectDepth) -> bool:
    return thing.score >= VISIBLE and math.isfinite(thing.depth)


def _same_order(a: TrueObject | None, b: TrueObject | None, c: TrueObject | None, d: TrueObject | None) -> bool:
    """Whether (a, b) and (c, d) are both far enough apart, and in the same order."""
    if not (math.isfinite(_gap(a, b)) and math.isfinite(_gap(c, d))):
        return False
    assert a is not None and b is not None and c is not None and d is not None  # they have a gap
    return (a.distance < b.distance) == (c.distance < d.distance)


def _distance(answers: Iterable[Answer]) -> dict[str, Any] | None:
    """How right the metres are, of objects seen that have some; None where no answer has."""
    said = [
        (o.distance, o.distance_stddev, t.distance)
        for a in answers
        for o, t in zip(a.objects, a.truth, strict=True)
        if t is not None and _seen(o) and math.isfinite(o.distance) and math.isfinite(t.distance)
    ]
    if not said:
        return None
    relative = [abs(d - true) / true for d, _, true in said if true > 0]
    return {
        "objects": len(said),
        "mae_m": _mean([abs(d - true) for d, _, true in said]),
        "relative_error": _mean(relative),
        "median_relative_error": float(np.median(relative or [math.nan])),
        "within_sigma": _mean([abs(d - true) <= sigma for d, sigma, true in said if math.isfinite(sigma)]),
    }


def _not_labelled(run: Run) -> dict[str, Any] | None:
    """Objects asked for in frames whose labels do not hold them: hidden, out of view, or forgotten."""
    if run.truth_kind != LABELS:
        return None
    said = [
        o.score >= VISIBLE
        for a in run.answers
        if any(t is not None for t in a.truth)
        for o, t in zip(a.objects, a.truth, strict=True)
        if t is None
    ]
    return {"asked": len(said), "said_in_view": _mean(said)}


def _by_object(run: Run) -> dict[str, dict[str, Any]]:
    """Per name, in the order first asked: how often asked, seen, with truth; mean error and mean change."""
    found: dict[str, list[tuple[ObjectDepth, TrueObject | None]]] = {}
    for a in run.answers:
        for o, t in zip(a.objects, a.truth, strict=True):
            found.setdefault(o.name, []).append((o, t))
    return {
        name: {
            "asked": len(said),
            "in_view": sum(o.score >= VISIBLE for o, _ in said),
            "with_truth": sum(t is not None and math.isfinite(t.depth) for _, t in said),
            "mae": _mean([e for o, t in said if t is not None and math.isfinite(e := abs(o.depth - t.depth))]),
        }
        for name, said in found.items()
    }


def _notes(run: Run) -> dict[str, str]:
    notes = {
        "temporal": f"frames at most {MAX_STEP / 1e9:g} s apart, objects seen in both; depth_change: where the true "
        f"depth changes by no more than {STILL:g} (without truth: everywhere); jitter: change of the error; flip_rate: "
        "pairs whose order turns round while the true order stays",
        "latency_seconds": "from the image to its depths",
    }
    if run.truth_kind == DEPTH_IMAGES:
        notes["truth"] = (
            "depth images, read in the middle of the region in which the model looked: this judges the depth said for "
            "that place, not whether the right thing was found there"
        )
    elif run.truth_kind == LABELS:
        notes["truth"] = "labelled depths, by name and stamp"
        notes["not_labelled"] = "asked for in frames whose labels do not hold them: not counted in the other figures"
    else:
        notes["truth"] = "none: only how steady, how fast and how often, not how right"
    if all(a.compared is None for a in run.answers):
        notes["pair_accuracy"] = "pairs were not asked about: by the order of the two depths"
    return notes


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else math.nan


def _percentile(values: Sequence[float], percent: float) -> float:
    return float(np.percentile(values, percent)) if len(values) else math.nan
