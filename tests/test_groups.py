"""The parts that the tests are run in: every file once; what a signal ended and the few that failed, once more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests import groups


def test_every_file_is_in_one_part() -> None:
    files = [file for group in groups.GROUPS for part in groups.parts(group) for file in part.files]
    assert sorted(files) == sorted(str(p.relative_to(groups.TESTS.parent)) for p in groups.TESTS.rglob("test_*.py"))
    (timing,) = groups.parts("timing")
    assert "tests/ros/proximity/test_soak.py" in timing.files and set(timing.files) < set(files)


@pytest.mark.parametrize(
    ("codes", "outcome", "said"),
    [
        ([0, 0], 0, "ros: passed"),
        ([-11, 0, groups.NOTHING_SELECTED], 0, "ros/proximity: ended by SIGSEGV; once more\nros: passed"),
        ([-11, -9, 0], 1, "ros: failed: ros/proximity (exit code -9)"),
        ([1, 0], 1, "ros: failed: ros/proximity (exit code 1)"),  # no test is named that could be run again
        ([0, -11, 1], 1, "ros: failed: ros, demo, test_examples.py (exit code 1)"),
    ],
)
def test_what_a_signal_ended_is_run_once_more(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], codes: list[int], outcome: int, said: str
) -> None:
    left = list(codes)
    monkeypatch.setattr(groups, "run", lambda part, arguments, cache: left.pop(0))
    assert groups.main("ros", []) == outcome and not left
    assert said in capsys.readouterr().out


Tiny = Callable[..., None]


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tiny:
    """Makes a checkout of tests of its own, whose group "few" has a part for each text given by name."""
    monkeypatch.setattr(groups, "TESTS", tmp_path / "tests")
    monkeypatch.setattr(groups, "UNSTEADY", tmp_path / "build/unsteady-tests.txt")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    (tmp_path / "tests").mkdir()
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = timing\n")

    def make(**texts: str) -> None:
        for name, text in texts.items():
            (tmp_path / f"tests/test_{name}.py").write_text(text)
        monkeypatch.setattr(groups, "GROUPS", {"few": tuple((f"test_{name}.py",) for name in texts)})

    return make


UNSTEADY = """
import os, pathlib, pytest
here = pathlib.Path(__file__)
runs = here.with_suffix(".runs")
runs.write_text(f"{runs.read_text() if runs.exists() else ''}{os.getpid()}\\n")
def test_good():
    here.with_suffix(".good").open("a").write("x")
@pytest.mark.timing
@pytest.mark.parametrize("n", [1, 2])
def test_noise(n):
    assert len(set(runs.read_text().split())) > 1
"""
BROKEN = "def test_it():\n    assert False\ndef test_good():\n    pass\n"
MANY = "import pytest\n@pytest.mark.parametrize('n', range(6))\ndef test_it(n):\n    assert False\n"


def test_the_few_that_failed_are_run_once_more_by_themselves_and_named(
    tiny: Tiny, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tiny(noise=UNSTEADY)
    named = [f"unsteady: tests/test_noise.py::test_noise[{n}] failed once, passed when run again" for n in (1, 2)]
    assert groups.main("few", ["-q"]) == 0
    said = capfd.readouterr().out
    assert "test_noise.py: 2 failed; once more by themselves" in said
    assert said.endswith("".join(f"!!! {line}\n" for line in named) + "few: passed\n")
    assert groups.UNSTEADY.read_text().splitlines() == named
    assert (tmp_path / "tests/test_noise.good").read_text() == "x"
    # those that measure time go the same way, and what stood in the file stays
    (tmp_path / "tests/test_noise.runs").unlink()
    assert groups.main("timing", ["-q", "-m", "timing"]) == 0
    assert groups.UNSTEADY.read_text().splitlines() == named * 2
    assert (tmp_path / "tests/test_noise.good").read_text() == "x"


def test_who_fails_twice_has_failed_and_many_are_not_run_again(tiny: Tiny, capfd: pytest.CaptureFixture[str]) -> None:
    tiny(broken=BROKEN, many=MANY, unread="import no_such_module\n")
    assert groups.main("few", ["-q"]) == 1
    said = capfd.readouterr().out
    assert said.count("once more") == 1 and "test_broken.py: 1 failed; once more by themselves" in said
    assert said.endswith(
        "few: failed: test_broken.py (exit code 1); test_many.py (exit code 1); test_unread.py (exit code 2)\n"
    )
    assert "unsteady" not in said and not groups.UNSTEADY.exists()


def test_what_is_not_run_again_has_failed(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test whose name is another in the second run, as of a parameter that is drawn at random."""
    tiny(broken="import os, pytest\n@pytest.mark.parametrize('n', [os.getpid()])\ndef test_it(n):\n    assert False\n")
    assert groups.main("few", ["-q"]) == 1


def test_a_part_without_files_runs_nothing_and_fails(tiny: Tiny, capfd: pytest.CaptureFixture[str]) -> None:
    tiny(broken=BROKEN)
    (groups.TESTS / "empty").mkdir()
    groups.GROUPS["few"] = (("empty",),)
    assert groups.main("few", ["-q"]) == 1
    assert capfd.readouterr().out == "empty: no test files\nfew: failed: empty (exit code 1)\n"


def test_a_part_that_does_not_end_is_ended_and_one_of_which_nothing_is_asked_passes(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    tiny(broken=BROKEN)
    assert groups.main("few", ["-q", "-k", "of_that_name_there_is_none"]) == 0
    monkeypatch.setattr(groups, "LIMIT_S", 0.1)
    assert groups.main("few", ["-q"]) == 1
    assert "test_broken.py: not done after 0.1 s\nfew: failed" in capfd.readouterr().out
