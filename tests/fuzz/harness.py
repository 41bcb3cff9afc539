"""Runs one thing on damaged input again and again, and counts what came of it.

An outcome is one of `Outcome`. A traceback is anything raised that is no error of ours in one line; a hang is what
takes longer than `LIMIT_S`.
"""

from __future__ import annotations

import contextlib
import random
import signal
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from types import FrameType
from typing import Any

from proxqa_core.errors import ProxqaError

LIMIT_S = 20
MAX_LINE = 1200
"""Most characters of an error's line."""


class Outcome(str, Enum):
    """What came of one input."""

    REFUSED = "refused in one line"
    SAME = "taken, as the undamaged one"
    OTHER = "taken, with another content"
    TRACEBACK = "TRACEBACK"
    HANG = "HANG"


class HangError(BaseException):
    """It took too long; no `except Exception` catches it."""


@dataclass
class Tally:
    """What came of many inputs of one kind.

    Attributes:
        outcomes: How often which.
        failures: What was raised that should not have been, each kind once, with the number of the input.
        reasons: The beginnings of the lines of refusals, and how often.
    """

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    failures: dict[str, str] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)

    def report(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "outcomes": {o.value: self.outcomes[o] for o in Outcome},
            "failures": self.failures,
            "reasons": dict(self.reasons),
        }

    @property
    def bad(self) -> int:
        """Tracebacks and hangs."""
        return self.outcomes[Outcome.TRACEBACK] + self.outcomes[Outcome.HANG]


@contextlib.contextmanager
def _time_limit() -> Iterator[None]:
    def end(_: int, __: FrameType | None) -> None:
        raise HangError

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(LIMIT_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def fuzz(run: Callable[[random.Random], bool], count: int, seed: int = 0, first: int = 0) -> Tally:
    """Run something on `count` damaged inputs.

    Args:
        run: Makes an input by the generator and uses it; whether what came out is as of the undamaged input.
        count: How many.
        seed: Of the generators: input i of a seed is always the same.
        first: The number of the first input.
    """
    tally = Tally()
    for number in range(first, first + count):
        tally.outcomes[_one(run, f"{seed}/{number}", tally)] += 1
    return tally


def _one(run: Callable[[random.Random], bool], key: str, tally: Tally) -> Outcome:
    try:
        with _time_limit():
            return Outcome.SAME if run(random.Random(key)) else Outcome.OTHER
    except HangError:
        tally.failures.setdefault("hang", key)
        return Outcome.HANG
    except ProxqaError as error:
        line = str(error)
        if "\n" in line or not 0 < len(line) <= MAX_LINE:
            tally.failures.setdefault(f"no one line: {line[:200]!r}", key)
            return Outcome.TRACEBACK
        tally.reasons[type(error).__name__] += 1
        return Outcome.REFUSED
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        tally.failures.setdefault(f"{type(error).__name__}: {str(error)[:160]} at {frame.filename}:{frame.lineno}", key)
        return Outcome.TRACEBACK
