"""The parts that the tests are run in: every file once, and what a signal ended once more."""

from __future__ import annotations

import pytest

from tests import groups


def test_every_file_is_in_one_part() -> None:
    parts = [file for parts in groups.GROUPS.values() for part in parts for file in groups.files(part)]
    assert sorted(parts) == sorted(str(p.relative_to(groups.TESTS.parent)) for p in groups.TESTS.rglob("test_*.py"))


@pytest.mark.parametrize(
    ("codes", "outcome", "said"),
    [
        ([0, 0], 0, "ros: passed"),
        ([-11, 0, groups.NOTHING_SELECTED], 0, "ros/proximity: ended by SIGSEGV; once more\nros: passed"),
        ([-11, -9, 0], 1, "ros: failed: ros/proximity (exit code -9)"),
        ([1, 0], 1, "ros: failed: ros/proximity (exit code 1)"),
        ([0, -11, 1], 1, "ros: failed: ros, demo, test_examples.py (exit code 1)"),
    ],
)
def test_what_a_signal_ended_is_run_once_more(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], codes: list[int], outcome: int, said: str
) -> None:
    left = list(codes)
    monkeypatch.setattr(groups, "run", lambda part, arguments: left.pop(0))
    assert groups.main("ros", []) == outcome and not left
    assert said in capsys.readouterr().out


def test_the_exit_code_is_that_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    assert groups.run(["test_groups.py"], ["-q", "-k", "every_file"]) == 0
    assert groups.run(["test_groups.py"], ["-q", "-k", "of_that_name_there_is_none"]) == groups.NOTHING_SELECTED
    monkeypatch.setattr(groups, "LIMIT_S", 0.1)
    assert groups.run(["test_groups.py"], ["-q"]) == 1
