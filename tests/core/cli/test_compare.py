"""`proxqa compare`: who can be asked, what is refused, what comes out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from proxqa_core.cli import common, compare, main
from proxqa_core.comparison.sources import READERS
from tests.core.fake_engine import FakeEngine


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images of three things, with metres."""
    things = [("chair", [0, 0, 20, 40], 2.0), ("table", [20, 0, 60, 44], 4.0), ("lamp", [5, 5, 15, 47], 3.0)]
    records = []
    for i in range(2):
        Image.fromarray(np.full((48, 64, 3), 90 + i, np.uint8)).save(tmp_path / f"{i}.png")
        objects = [{"name": n, "box": b, "depth_m": m} for n, b, m in things]
        records.append({"image": f"{i}.png", "width": 64, "height": 48, "objects": objects})
    (tmp_path / "annotations.json").write_text(json.dumps(records))
    return tmp_path


def test_our_engine_beside_rules_and_recorded_answers(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(common, "load_engine", lambda options: FakeEngine({"chair": 0.2, "lamp": 0.5, "table": 0.9}))
    recorded = [{"id": f"{i}.png#{p}", "answer": "A"} for i in range(2) for p in ("0-1", "0-2", "1-2")]
    (tmp_path / "always-a.jsonl").write_text("\n".join([*map(json.dumps, recorded), "{torn"]))
    arguments = ["compare", "folder", str(folder), "--engine", "--recorded", str(tmp_path / "always-a.jsonl"),
                 "--out", str(tmp_path / "answers"), "--html", str(tmp_path / "page.html"), "--json", "-"]  # fmt: skip
    assert main(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    by_name: dict[str, Any] = {m["model"]: m for m in report["models"]}
    assert report["pairs"] == 6 and set(by_name) == {
        "rule: lower edge",
        "rule: larger box",
        "fake <model> (by box)",
        "always-a",
    }
    assert by_name["fake <model> (by box)"]["accuracy"] == 1.0 and by_name["fake <model> (by box)"]["consistent"] == 1.0
    # recorded in one order only: A is right for chair-table and chair-lamp, not for table-lamp
    assert report["left_out"] == [
        "1 x no recorded answer: always-a.jsonl line 7 (Expecting property name enclosed in double quotes:)"
    ]
    assert by_name["always-a"]["accuracy_one_order"] == pytest.approx(2 / 3) and by_name["always-a"]["failed"] == 6
    page = (tmp_path / "page.html").read_text()
    assert (
        "<svg" in page and "Made by <code>proxqa compare " in page and len(list((tmp_path / "answers").iterdir())) == 2
    )
    monkeypatch.setattr(FakeEngine, "encode_image", lambda *_: pytest.fail("asked again"))
    assert main(arguments) == 0  # what was answered is kept
    assert json.loads(capsys.readouterr().out) == report


@pytest.mark.parametrize(
    "more, code, says",
    [
        ([], 2, "nobody to ask"),
        (["--server", "localhost=x"], 2, "expected URL=MODEL"),
        (["--recorded", "none.json"], 2, "none.json: no such file"),
        (["--engine", "--hf", "./no/model"], 2, "./no/model: no such folder; expected a model's"),
        (["--engine", "--decision", "/no/model"], 2, "/no/model: no such folder"),
        (["--hf", "none/none", "--limit", "0"], 2, "whole number from 1"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], code: int, says: str
) -> None:
    assert main(["compare", "folder", str(folder), "--out", str(tmp_path / "answers"), *more]) == code
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and says in said[0]


def test_a_file_of_which_nothing_can_be_asked_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.tsv").write_text("index\timage\tquestion\tA\tB\tanswer\n0\tx\tq\tcup\tdog\tA\n")
    (tmp_path / "r.json").write_text('{"id": "0", "answer": "A"}\n')
    given = ["--recorded", str(tmp_path / "r.json"), "--out", str(tmp_path / "out")]
    assert main(["compare", "tsv", str(tmp_path / "x.tsv"), *given]) == 2
    assert "no pair to ask about (1 x row without image and answer A or B: row 0)" in capsys.readouterr().err


def test_every_kind_of_source_can_be_named() -> None:
    assert set(compare.SOURCES) == set(READERS)
