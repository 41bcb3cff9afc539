"""Curves from logs."""

import json

import pytest

from proxqa_training.curves import main, read_curves, smoothed


@pytest.fixture
def run(tmp_path):
    place = tmp_path / "run"
    place.mkdir()
    lines = [{"stage": "perceive", "step": i, "loss": 2.0 - i, "mae": 0.3} for i in range(3)]
    lines.append({"stage": "tower check", "on": "photographs", "found": 0.5})
    (place / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return place


def test_what_was_logged_is_read(run):
    assert read_curves(run) == {
        "perceive: loss": ([0, 1, 2], [2.0, 1.0, 0.0]),
        "perceive: mae": ([0, 1, 2], [0.3, 0.3, 0.3]),
    }


def test_a_resumed_run_has_one_line(run):
    with (run / "log.jsonl").open("a") as file:
        file.write(json.dumps({"stage": "perceive", "step": 1, "loss": 0.9}) + "\n")
    assert read_curves(run)["perceive: loss"] == ([0, 1], [2.0, 0.9])


def test_smoothing_starts_at_the_first_value():
    assert smoothed([1.0, 0.0], 0.5) == [1.0, 0.5]


def test_the_picture(run):
    pytest.importorskip("matplotlib", reason="curves need matplotlib: pip install matplotlib")
    assert main([str(run)]) == 0 and (run / "curves.png").stat().st_size > 1000


def test_nothing_to_draw_is_one_line(tmp_path, capsys):
    (tmp_path / "log.jsonl").write_text("")
    assert main([str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
