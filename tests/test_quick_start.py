"""docs/quick-start.md pastes: its commands run from the checkout, and give the figures that stand below them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from proxqa_core.cli import main

ROOT = Path(__file__).resolve().parents[1]
TOLERANCE = 0.1
"""How far a figure may be from the one shown: bfloat16, where a processor has it, moves a probability by up to this."""
CONSOLES = re.findall(r"^```console\n(.*?)^```$", (ROOT / "docs/quick-start.md").read_text(), re.M | re.S)
COMMANDS = [part for console in CONSOLES for part in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", console, re.M)]


def figures(text: str) -> list[float]:
    """Numbers with a point in them, and shares."""
    return [float(n) / (100 if unit else 1) for n, unit in re.findall(r"\b(\d\.\d+|\d+(?= ?%))( ?%)?", text)]


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "shown"), COMMANDS, ids=[c.split()[1] + str(i) for i, (c, _) in enumerate(COMMANDS)]
)
def test_what_is_shown_is_what_comes(
    command: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    program, *arguments = shlex.split(command)
    assert program == "proxqa"
    code = main([str(tmp_path / a) if a == "answer.png" else a for a in arguments])
    output = capsys.readouterr()
    assert code == 0, output.err
    came, expected = figures(output.out), figures(shown)
    assert len(expected) > 1
    assert [e for e in expected if not any(abs(e - c) <= TOLERANCE for c in came)] == [], output.out


def test_there_are_some() -> None:
    assert len(COMMANDS) >= 3 and all(shown.strip() for _, shown in COMMANDS)
