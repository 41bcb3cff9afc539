"""`proxqa bench`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from proxqa_core.cli import main
from tests.core.fake_engine import FakeEngine


@pytest.fixture
def measured(fake: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is measured, but a round is reported."""

    def bench(engine: Any, repeats: int, on_progress: Callable[[str], None]) -> dict[str, Any]:
        assert engine is fake
        on_progress("a round")
        spans = {"shared": {"p50": 100.0, "p95": 120.4}, "one_by_one": {"p50": 900.0, "p95": 950.0}}
        return {"objects": 8, "repeats": repeats, "milliseconds": spans, "ratio": 9.0, "same_answers": 1.0}

    monkeypatch.setattr("proxqa_core.evaluation.bench.bench", bench)


def test_bench(measured: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bench.json"
    assert main(["bench", "--repeats", "3", "--json", str(file)]) == 0
    output = capsys.readouterr()
    assert json.loads(file.read_text())["repeats"] == 3 and "proxqa: a round\n" in output.err
    assert "shared 100 120" in " ".join(output.out.split()) and "9.0 times as fast" in output.out
    assert main(["bench", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["milliseconds"]["one_by_one"]["p95"] == 950


def test_quietly(measured: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "-q"]) == 0
    assert "a round" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--repeats", "1"], "at least 2"),
        (["--repeats", "many"], "from 1"),
        (["--json", "nowhere/b.json"], "does not exist"),
    ],
)
def test_bad_input(arguments: list[str], says: str, refused: Callable[[Sequence[str], str], None]) -> None:
    refused(["bench", *arguments], says)
