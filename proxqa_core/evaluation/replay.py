"""Frames shown to somebody else and the answers that come back: which belongs to which, and the figures so far.

Promises: an answer is matched by the stamp of its frame, also where the same frames are shown several times over and
the clock jumps back between; what matches nothing is counted and otherwise left alone. Thread-safe: frames are shown by
one thread, answers come in on another. Knows nothing of ROS.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from proxqa_core.evaluation.sequence import Answer, true_pairs
from proxqa_core.types import ObjectDepth


@dataclass(frozen=True)
class SentFrame:
    """One frame shown once. image: its index; stamp: nanoseconds; time: when, seconds on a clock that never jumps."""

    image: int
    stamp: int
    pass_number: int
    time: float


@dataclass(frozen=True)
class ReceivedAnswer:
    """An answer that belongs to a showing. latency: seconds from one to the other."""

    showing: SentFrame
    objects: tuple[ObjectDepth, ...]
    latency: float


class Matching:
    """What was shown and what came back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[int, SentFrame] = {}
        self._heard: list[ReceivedAnswer] = []
        self._last: SentFrame | None = None
        self.unmatched = 0
        """Answers to frames that were not shown, or answered already."""
        self.model = ""
        """What the last answer says who gave it."""

    def show(self, showing: SentFrame) -> None:
        """Say that a frame is about to be shown. An earlier showing of it that has no answer will get none."""
        with self._lock:
            self._open[showing.stamp] = self._last = showing

    def hear(self, stamp: int, objects: Sequence[ObjectDepth], model: str, time: float) -> None:
        """Take an answer. time: as that of the showings."""
        with self._lock:
            self.model = model
            showing = self._open.pop(stamp, None)
            if showing is None:
                self.unmatched += 1
            else:
                self._heard.append(ReceivedAnswer(showing, tuple(objects), time - showing.time))

    def take(self) -> list[ReceivedAnswer]:
        """The answers that came since the last call, in the order in which they came."""
        with self._lock:
            heard, self._heard = self._heard, []
        return heard

    def last_is_answered(self) -> bool:
        """Whether the last frame that was shown has its answer."""
        with self._lock:
            return self._last is None or self._last.stamp not in self._open


class Running:
    """Figures while a run lasts; those of the report are made at its end."""

    def __init__(self) -> None:
        self._errors = self._right = 0.0
        self._objects = self._pairs = 0
        self.answered = 0
        self.latency = math.nan
        """Of the last answer, seconds."""

    def add(self, answer: Answer) -> None:
        self.answered += 1
        self.latency = answer.latency
        for said, true in zip(answer.objects, answer.truth, strict=True):
            if true is not None and math.isfinite(error := abs(said.depth - true.depth)):
                self._errors += error
                self._objects += 1
        for i, j in true_pairs(answer.truth):
            a, b = answer.truth[i], answer.truth[j]
            assert a is not None and b is not None  # true_pairs gave them
            self._pairs += 1
            near, far = (i, j) if a.distance < b.distance else (j, i)
            self._right += answer.objects[near].depth < answer.objects[far].depth

    @property
    def mae(self) -> float:
        """Mean absolute error of relative depth; NaN before the first."""
        return self._errors / self._objects if self._objects else math.nan

    @property
    def pair_accuracy(self) -> float:
        """Share of pairs whose depths are in the right order; NaN before the first."""
        return self._right / self._pairs if self._pairs else math.nan

    def figures(self) -> dict[str, Any]:
        """All of them by name."""
        return {
            "frames_answered": self.answered,
            "mae": self.mae,
            "pair_accuracy": self.pair_accuracy,
            "latency": self.latency,
        }
