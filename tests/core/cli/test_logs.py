"""What is told on stderr while a command runs."""

from __future__ import annotations

import logging
import warnings

import pytest

from proxqa_core.cli import logs

LEVELS = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR)


def told(capsys: pytest.CaptureFixture[str], **how: bool) -> list[str]:
    with logs.to_stderr(**how):
        for level in LEVELS:
            logging.getLogger("proxqa_core.model.base_weights").log(level, "own %s", logging.getLevelName(level))
            logging.getLogger("another.module").log(level, "other %s", logging.getLevelName(level))
    output = capsys.readouterr()
    assert output.out == ""
    return output.err.splitlines()


def test_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys) == [
        "proxqa: own INFO",
        "proxqa: own WARNING",
        "proxqa: own ERROR",
        "another: other ERROR",
    ]


def test_verbose(capsys: pytest.CaptureFixture[str]) -> None:
    lines = told(capsys, verbose=True)
    assert lines[:3] == ["proxqa: own DEBUG", "proxqa: own INFO", "another: other INFO"] and len(lines) == 7


def test_quiet(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "error")
    assert told(capsys, quiet=True) == ["proxqa: own ERROR", "another: other ERROR"]


LIBRARY = "/env/lib/python3.11/site-packages/transformers/modeling_utils.py"
OURS = "/env/lib/python3.11/site-packages/proxqa_core/engine.py"


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({}, ["proxqa: UserWarning: the lens is dirty (engine.py:7)"]),
        ({"quiet": True}, []),
        (
            {"verbose": True},
            [
                "transformers: FutureWarning: this will change (modeling_utils.py:3303)",
                "proxqa: UserWarning: the lens is dirty (engine.py:7)",
            ],
        ),
    ],
)
def test_warnings_are_records_of_the_package_whose_line_it_is(
    how: dict[str, bool], expected: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "error")
    with logs.to_stderr(**how):
        warnings.warn_explicit("this will\nchange", FutureWarning, LIBRARY, 3303)
        warnings.warn_explicit("the lens is dirty", UserWarning, OURS, 7)
    assert capsys.readouterr().err.splitlines() == expected


def test_logging_is_as_it_was_afterwards() -> None:
    loggers = [logging.getLogger(name) for name in ("", *logs.OWN)]
    before = [(logger.level, list(logger.handlers)) for logger in loggers]
    shown = warnings.showwarning
    with pytest.raises(KeyError), logs.to_stderr(verbose=True):
        raise KeyError
    assert [(logger.level, list(logger.handlers)) for logger in loggers] == before
    assert warnings.showwarning is shown
