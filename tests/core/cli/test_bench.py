"""`proxqa bench`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from proxqa_core.cli import main
from proxqa_core.evaluation.bench import BenchConfig
from tests.core.fake_engine import FakeEngine


@pytest.fixture
def measured(fake: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> list[BenchConfig]:
    """Nothing is measured, but a round is reported; what was asked for."""
    asked: list[BenchConfig] = []

    def bench(engine: Any, config: BenchConfig, on_progress: Callable[[str], None]) -> dict[str, Any]:
        assert engine is fake
        asked.append(config)
        on_progress("a round")
        p50 = {"x": 100.0, "peer: y": 900.0}
        times = {name: {"p50": v, "p95": 1.2 * v, "p99": 1.3 * v} for name, v in p50.items()}
        facts = dict.fromkeys(("model", "device", "vision_encoder", "language_model"), "fake")
        floor = {"gflop": 90.0, "gflops": 900.0, "gbytes": 20.0, "image_ms": 100.0}
        peers = {"ratios": {"y": 9.0}, "ratios_both_digits": {"y": 7.0}, "same_answers": {"y": 1.0}}
        report = {"milliseconds": times, "floor": floor, "times_floor": 1.5, "objects": 8, "threads": 2}
        return {**facts, **report, "repeats": config.repeats, **peers}

    monkeypatch.setattr("proxqa_core.evaluation.bench.bench", bench)
    return asked


def test_bench(measured: list[BenchConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, plot = tmp_path / "bench.json", tmp_path / "bench.svg"
    chosen = ["--repeats", "3", "--threads", "1", "--threads", "2", "--no-peers", "--only", "pair"]
    assert main(["bench", *chosen, "--json", str(file), "--plot", str(plot)]) == 0
    output = capsys.readouterr()
    assert measured == [BenchConfig(3, (1, 2), False, ("pair",))]
    assert json.loads(file.read_text())["repeats"] == 3 and "proxqa: a round\n" in output.err
    assert "x 100.0 120.0 130.0" in " ".join(output.out.split()) and "9.0 times as fast as y" in output.out
    assert "1.5 times that" in output.out and plot.read_text().startswith("<svg")
    assert main(["bench", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["milliseconds"]["peer: y"]["p50"] == 900


def test_against_another_installation(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def against(venv: Path, repeats: int, *given: Any) -> dict[str, Any]:
        assert (str(venv), repeats, given[:3]) == ("old", 4, ("auto", "openvino", True))
        sides = {"this": {"a": {"p50": 50, "p95": 60}}, "other": {"a": {"p50": 150, "p95": 160}}}
        starts = {"this": {"first_answer_s": 4.0, "peak_mb": 900.0}, "other": {"first_answer_s": 9.0, "peak_mb": 800.0}}
        return {"milliseconds": sides, "times_faster": {"a": 3.0}, "starts": starts}

    monkeypatch.setattr("proxqa_core.evaluation.bench_against.against", against)
    assert main(["bench", "--against", "old", "--repeats", "4", "--backend", "openvino", "--int8"]) == 0
    output = capsys.readouterr().out
    assert "a 50 60 150 160 3.00" in " ".join(output.split())
    assert "other: 9.0 s from its start to the first answer, at most 800 MB of memory" in output


def test_quietly(measured: list[BenchConfig], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "-q"]) == 0
    assert "a round" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--repeats", "1"], "at least 2"),
        (["--repeats", "many"], "from 1"),
        (["--json", "nowhere/b.json"], "does not exist"),
        (["--threads", "0"], "from 1"),
        (["--against", "here", "--only", "pairs"], "default model in three cases"),
        (["--against", "nowhere"], "no bin/python"),
    ],
)
def test_bad_input(arguments: list[str], says: str, refused: Callable[[Sequence[str], str], None]) -> None:
    refused(["bench", *arguments], says)
