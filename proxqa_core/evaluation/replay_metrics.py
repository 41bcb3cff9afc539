"""Frames sent to a node and the answers received from it: which answer belongs to which frame, and running figures.

Promises: an answer is matched by the stamp of its frame, also where the same frames are sent several times over and
the clock jumps back between; what matches nothing is counted and otherwise left alone. `FrameMatcher` is thread-safe:
one thread sends frames, answers arrive on another. Knows nothing of ROS.
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
    """One frame sent once.

    Attributes:
        image: Index of the frame among those of the bag.
        stamp: Of its header, in nanoseconds.
        pass_number: Which time the bag is played, from 0.
        time: When it was sent, in seconds of a steady clock.
    """

    image: int
    stamp: int
    pass_number: int
    time: float


@dataclass(frozen=True)
class ReceivedAnswer:
    """An answer that belongs to a sent frame.

    Attributes:
        frame: The frame.
        objects: What the answer says of it.
        latency: Seconds from sending the frame to receiving the answer.
    """

    frame: SentFrame
    objects: tuple[ObjectDepth, ...]
    latency: float


class FrameMatcher:
    """Matches answers to the frames that they belong to. Thread-safe.

    Attributes:
        unmatched: Number of answers to frames that were not sent, or were answered already.
        model: The name of the model in the last answer.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[int, SentFrame] = {}
        self._answers: list[ReceivedAnswer] = []
        self._last: SentFrame | None = None
        self.unmatched = 0
        self.model = ""

    def add_frame(self, frame: SentFrame) -> None:
        """Announce a frame just before it is sent. An earlier one of the same stamp is no longer waited for."""
        with self._lock:
            self._open[frame.stamp] = self._last = frame

    def add_answer(self, stamp: int, objects: Sequence[ObjectDepth], model: str, time: float) -> None:
        """Take in an answer.

        Args:
            stamp: Of the answer's header, which is that of its frame, in nanoseconds.
            objects: What it says.
            model: The name of the model that gave it.
            time: When it was received, in seconds of the same clock as `SentFrame.time`.
        """
        with self._lock:
            self.model = model
            frame = self._open.pop(stamp, None)
            if frame is None:
                self.unmatched += 1
            else:
                self._answers.append(ReceivedAnswer(frame, tuple(objects), time - frame.time))

    def take(self) -> list[ReceivedAnswer]:
        """The answers received since the last call, in the order of their arrival."""
        with self._lock:
            answers, self._answers = self._answers, []
        return answers

    def last_is_answered(self) -> bool:
        """Whether the last frame sent has its answer; true where none was sent."""
        with self._lock:
            return self._last is None or self._last.stamp not in self._open


class RunningMetrics:
    """Figures while a run lasts; those of the report are computed at its end.

    Attributes:
        answered: Number of answers so far.
        latency: Of the last answer, in seconds; NaN before the first.
    """

    def __init__(self) -> None:
        self._error_sum = 0.0
        self._objects = self._pairs = self._correct_pairs = 0
        self.answered = 0
        self.latency = math.nan

    def add(self, answer: Answer) -> None:
        """Count one more answer."""
        self.answered += 1
        self.latency = answer.latency
        for predicted, true in zip(answer.objects, answer.truth, strict=True):
            if true is not None and math.isfinite(error := abs(predicted.depth - true.depth)):
                self._error_sum += error
                self._objects += 1
        for i, j in true_pairs(answer.truth):
            a, b = answer.truth[i], answer.truth[j]
            assert a is not None and b is not None  # true_pairs gave them
            self._pairs += 1
            near, far = (i, j) if a.distance < b.distance else (j, i)
            self._correct_pairs += answer.objects[near].depth < answer.objects[far].depth

    @property
    def mae(self) -> float:
        """Mean absolute error of relative depth; NaN before the first."""
        return self._error_sum / self._objects if self._objects else math.nan

    @property
    def pair_accuracy(self) -> float:
        """Share of pairs whose depths are in the right order; NaN before the first."""
        return self._correct_pairs / self._pairs if self._pairs else math.nan

    def figures(self) -> dict[str, Any]:
        """All of them by name: `frames_answered`, `mae`, `pair_accuracy`, `latency` (seconds)."""
        return {
            "frames_answered": self.answered,
            "mae": self.mae,
            "pair_accuracy": self.pair_accuracy,
            "latency": self.latency,
        }
