"""`proxqa names`: told without a model, filtered, and what is not known answered with what is."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from proxqa_core.cli import main
from proxqa_core.model.sources import DEFAULT_ADAPTER
from proxqa_core.model.taught_names import NAMES, TaughtName, TaughtNames, read_names, write_names

TAUGHT = TaughtNames(
    "9 rendered images and 3 photographs that tower and grounding head never saw",
    (
        TaughtName("chair", ("seat",), 12, 30, 8, 6, 20, 1),
        TaughtName("rare thing", (), 1),
        TaughtName("sofa", ("couch",)),
    ),
)


@pytest.fixture
def adapter(tmp_path: Path) -> str:
    """The folder of an adapter that says what it was taught."""
    write_names(tmp_path, TAUGHT)
    return str(tmp_path)


def test_names_have_their_figures(adapter: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["names", "--adapter", adapter]) == 0
    table = capsys.readouterr().out
    assert "chair *" in table and "75 % of 8" in table and "5 % of 20" in table and "seat" in table
    assert "3 of 3 names" in table and "measured on 9 rendered images and 3 photographs" in table
    assert main(["names", "COUCH", "rare", "--adapter", adapter, "--json", "-"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [n["name"] for n in report["names"]] == ["rare thing", "sofa"] and report["asked"] == 0
    assert report["taught"] == 3 and report["looked_for_unasked"] == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["chiar"], "did you mean 'chair'?"),
        (["zebra"], "`proxqa names` lists all 3"),
        (["chair", "cuoch"], "did you mean 'couch'?"),
    ],
)
def test_an_unknown_name_is_one_line(
    adapter: str, refused: Callable[[Sequence[str], str], None], arguments: list[str], says: str
) -> None:
    refused(["names", *arguments, "--adapter", adapter], says)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--adapter", "nowhere"], "'nowhere' does not exist"),
        (["--model", "org/llava"], "model 'org/llava' does not say what it was taught"),
        (["--adapter", "none"], "adapter 'none' does not say"),
        (["--adapter", "DAMAGED"], "cannot be used"),
    ],
)
def test_names_that_are_not_there_are_one_line(
    arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / NAMES).write_text("{")
    assert main(["names", *(str(tmp_path) if a == "DAMAGED" else a for a in arguments)]) == 1
    output = capsys.readouterr()
    assert output.out == "" and says in output.err and output.err.count("\n") == 1


def test_the_bundled_model_says_what_it_was_taught(capsys: pytest.CaptureFixture[str]) -> None:
    bundled = read_names(DEFAULT_ADAPTER)
    assert bundled is not None and "grounding head never saw" in bundled.measured_on
    assert {"chair", "person", "bottle", "tv"} <= {n.name for n in bundled.names}
    assert len(bundled.reliable) >= 40
    assert main(["names", "television"]) == 0
    assert "tv" in capsys.readouterr().out
