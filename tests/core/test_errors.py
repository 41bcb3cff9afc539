"""Errors are worded on one line, those without words too."""

from __future__ import annotations

from typing import Any

import pytest

from proxqa_core.cli import common, main
from proxqa_core.errors import BadModelError, first_line_of
from proxqa_core.model.loading import choose_device
from proxqa_core.vision import colours


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("\n a b \nc"), "a b"),
        (KeyError("k"), "'k'"),
        (RuntimeError(), "RuntimeError"),
        (OSError(" "), "OSError"),
    ],
)
def test_the_first_line_or_the_types_name(error: Exception, line: str) -> None:
    assert first_line_of(error) == line


def raises_nothing_said(*_: Any, **__: Any) -> Any:
    raise RuntimeError


def test_an_error_without_words_is_still_told(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(colours, "load_file", raises_nothing_said)
    with pytest.raises(BadModelError, match="does not hold a colour reader: RuntimeError"):
        colours.reader.__wrapped__()
    monkeypatch.setattr("torch.empty", raises_nothing_said)
    with pytest.raises(BadModelError, match="device 'cpu' cannot be used: RuntimeError; expected"):
        choose_device("cpu")

    def no_answer(_: Any) -> Any:
        raise TimeoutError

    monkeypatch.setattr(common, "load_engine", no_answer)
    assert main(["info"]) == 1 and capsys.readouterr().err == "proxqa: TimeoutError\n"
