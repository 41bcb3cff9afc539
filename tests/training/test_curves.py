"""Curves from logs."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from proxqa_training.curves import read_curves, smoothed


@pytest.fixture
def run(tmp_path: Path) -> Path:
    place = tmp_path / "run"
    place.mkdir()
    lines: list[dict[str, object]] = [{"stage": "perceive", "step": i, "loss": 2.0 - i, "mae": 0.3} for i in range(3)]
    lines.append({"stage": "tower validation", "on": "photographs", "found": 0.5})
    (place / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return place


def test_what_was_logged_is_read(run: Path) -> None:
    assert read_curves(run) == {
        "perceive: loss": ([0, 1, 2], [2.0, 1.0, 0.0]),
        "perceive: mae": ([0, 1, 2], [0.3, 0.3, 0.3]),
    }


def test_a_resumed_run_has_one_line(run: Path) -> None:
    with (run / "log.jsonl").open("a") as file:
        file.write(json.dumps({"stage": "perceive", "step": 1, "loss": 0.9}) + "\n")
    assert read_curves(run)["perceive: loss"] == ([0, 1], [2.0, 0.9])


def test_smoothing_starts_at_the_first_value() -> None:
    assert smoothed([1.0, 0.0], 0.5) == [1.0, 0.5]


def test_the_picture(run: Path, train: Callable[..., tuple[int, str, str]]) -> None:
    pytest.importorskip("matplotlib", reason="curves need matplotlib: pip install matplotlib")
    assert train("curves", run)[:2] == (0, f"wrote {run / 'curves.png'}\n")
    assert (run / "curves.png").stat().st_size > 1000


def test_nothing_to_draw_is_one_line(tmp_path: Path, train: Callable[..., tuple[int, str, str]]) -> None:
    (tmp_path / "log.jsonl").write_text("")
    code, _, error = train("curves", tmp_path)
    assert code == 2 and len(error.strip().splitlines()) == 1 and "has no steps to draw" in error


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is not None, reason="matplotlib is installed")
def test_without_matplotlib_it_says_what_to_install(run: Path, train: Callable[..., tuple[int, str, str]]) -> None:
    code, _, error = train("curves", run)
    assert code == 1 and len(error.strip().splitlines()) == 1 and "pip install matplotlib" in error
