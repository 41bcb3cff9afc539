"""The log of a run, and the averages on its progress bar."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from proxqa_training.logs import MetricsLogger, RunningMean, progress


def test_the_log_is_json(tmp_path: Path) -> None:
    metrics = MetricsLogger(tmp_path / "log.jsonl")
    metrics(stage="tower", step=1, loss=0.123456789)
    assert json.loads((tmp_path / "log.jsonl").read_text()) == {"stage": "tower", "step": 1, "loss": 0.12346}
    metrics(stage="tower", step=2)
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 2


def test_averages_begin_with_the_first_value() -> None:
    smooth = RunningMean(0.75)
    smooth.update({"loss": 2.0})
    smooth.update({"loss": 1.0, "mae": 0.5})
    assert smooth.values == {"loss": 1.75, "mae": 0.5} and smooth.as_text() == {"loss": "1.750", "mae": "0.500"}


def test_no_bar_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress(range(3), desc="x")) == [0, 1, 2]
    assert capsys.readouterr().err == ""
    logger = logging.getLogger("proxqa_training")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        assert progress(range(3)).disable
    finally:
        logger.setLevel(level)
