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
        "another: other WARNING",
        "proxqa: own ERROR",
        "another: other ERROR",
    ]


def test_verbose(capsys: pytest.CaptureFixture[str]) -> None:
    lines = told(capsys, verbose=True)
    assert lines[:3] == ["proxqa: own DEBUG", "proxqa: own INFO", "another: other INFO"] and len(lines) == 7


def test_quiet(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "error")
    assert told(capsys, quiet=True) == ["proxqa: own ERROR", "another: other ERROR"]


@pytest.mark.parametrize("quiet", [False, True])
def test_warnings_are_records_like_others(
    quiet: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "error")
    with logs.to_stderr(quiet=quiet):
        warnings.warn("this will change", FutureWarning, stacklevel=1)
    assert ("this will change" in capsys.readouterr().err) is not quiet


def test_logging_is_as_it_was_afterwards() -> None:
    loggers = [logging.getLogger(name) for name in ("", *logs.OWN)]
    before = [(logger.level, list(logger.handlers)) for logger in loggers]
    with pytest.raises(KeyError), logs.to_stderr(verbose=True):
        raise KeyError
    assert [(logger.level, list(logger.handlers)) for logger in loggers] == before
