"""A sample of the fuzzing that `python -m tests.fuzz` does at length: no traceback, no hang, each refusal one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.harness import Outcome, fuzz
from tests.fuzz.targets import TARGETS

SAMPLE = {"model folders": 12, "bags": 40, "questions": 200}
"""How many inputs of each kind; of another kind 60."""


@pytest.mark.parametrize("kind", TARGETS)
def test_damaged_input_is_refused_in_one_line_or_taken(kind: str, tmp_path: Path) -> None:
    tally = fuzz(TARGETS[kind](tmp_path), SAMPLE.get(kind, 60), seed=1)
    assert not tally.failures and tally.bad == 0
    assert tally.outcomes[Outcome.REFUSED] > 0


def test_a_checkpoint_with_a_checksum_is_never_taken_with_another_content(tmp_path: Path) -> None:
    tally = fuzz(TARGETS["training checkpoints"](tmp_path), 200, seed=2)
    assert tally.outcomes[Outcome.OTHER] == 0


def test_the_harness_knows_a_traceback_from_a_refusal() -> None:
    def fails(_: object) -> bool:
        raise ZeroDivisionError("no error of ours")

    tally = fuzz(fails, 3)
    assert tally.bad == 3 and "ZeroDivisionError" in next(iter(tally.failures))
