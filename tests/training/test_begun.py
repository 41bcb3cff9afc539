"""A run goes on with what it was begun with, and with nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxqa_core.model import adapter as adapters
from proxqa_training.begun import begin
from proxqa_training.frozen_tower import HeadConfig


@pytest.mark.parametrize("weights", [adapters.GROUNDING_HEAD, adapters.ORDER_HEAD, adapters.BOX_EMBEDDING])
def test_all_weights_of_the_start_count(weights: str, blocks: Path, tmp_path: Path) -> None:
    start, work = tmp_path / "start", tmp_path / "run"
    start.mkdir()
    for name in (adapters.LORA, weights):
        (start / name).write_bytes(b"first")
    begin(work, HeadConfig(), start, [blocks])
    begin(work, HeadConfig(), start, [blocks])
    (start / weights).write_bytes(b"second")
    with pytest.raises(ValueError, match="a run with other start was begun there"):
        begin(work, HeadConfig(), start, [blocks])
