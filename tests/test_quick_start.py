"""docs/quick-start.md pastes: its commands run from the checkout, and give the figures that stand below them."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOLERANCE = 0.05
"""How far a figure may be from the one shown: backends and processors round differently."""
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
def test_what_is_shown_is_what_comes(command: str, shown: str, tmp_path: Path) -> None:
    program, *arguments = shlex.split(command)
    assert program == "proxqa"
    arguments = [str(tmp_path / a) if a == "answer.png" else a for a in arguments]
    run = [sys.executable, "-m", "proxqa_core.cli", *arguments]
    done = subprocess.run(run, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    came, expected = figures(done.stdout), figures(shown)
    assert len(expected) > 1
    assert [e for e in expected if not any(abs(e - c) <= TOLERANCE for c in came)] == [], done.stdout


def test_there_are_some() -> None:
    assert len(COMMANDS) >= 3 and all(shown.strip() for _, shown in COMMANDS)
