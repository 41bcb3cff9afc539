"""`proxqa eval` and `proxqa eval-bag`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from proxqa_core.cli import main
from tests import made_bag as made
from tests.core.fake_engine import DirectEncodedImage, FakeEngine

RIGHT = {"chair": 0.1, "table": 0.6, "lamp": 0.8}
"""What is true in the bag."""


def test_eval(labelled: Path, fake: FakeEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report, page = tmp_path / "r.json", tmp_path / "r.html"
    assert main(["eval", str(labelled), "--limit", "2", "--json", str(report), "--html", str(page)]) == 0
    assert f"Made by <code>proxqa eval {labelled} --limit 2 --json" in page.read_text()
    figures = json.loads(report.read_text())
    assert figures["pairs"] == 4 and figures["pair_accuracy"] == 1.0 and figures["images"] == 2
    assert "<svg" in page.read_text(encoding="utf-8")
    table = capsys.readouterr().out
    assert "pair accuracy (4 pairs)" in table and "counter-heuristic pairs (lower edge misleads; " in table
    assert main(["eval", str(labelled), "--train", f"{labelled}/"]) == 2  # the line would know what it is judged on
    assert "is the folder that is measured" in capsys.readouterr().err
    train = shutil.copytree(labelled, tmp_path / "train")
    assert main(["eval", str(labelled), "--prompt", "box", "--train", str(train), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["prompt"] == "box"


def test_eval_says_that_nothing_can_be_judged_without_depths(
    labelled: Path, fake: FakeEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = json.loads((labelled / "annotations.json").read_text())
    for labels in (*records, *(thing for record in records for thing in record["objects"])):
        for key in ("depth_map", "depth_m", "depth"):
            labels.pop(key, None)
    (labelled / "annotations.json").write_text(json.dumps(records))
    assert main(["eval", str(labelled), "--html", str(tmp_path / "r.html")]) == 0
    assert "no object of these images has a depth" in capsys.readouterr().err
    assert "No pair was asked about" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_eval_of_a_labelled_folder_is_the_same_with_and_without_its_kind(
    labelled: Path, fake: FakeEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    reports = []
    for arguments in (["eval", str(labelled)], ["eval", "folder", str(labelled)], ["eval", "folder"]):
        assert main([*arguments, "--json", "-", *([str(labelled)] if arguments[1:] == ["folder"] else [])]) == 0
        reports.append(json.loads(capsys.readouterr().out))
    for report in reports:
        report.pop("seconds_per_image")
    assert reports[0] == reports[1] == reports[2] and "benchmark" not in reports[0]


def test_eval_of_a_benchmark(
    labelled: Path, fake: FakeEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, page = tmp_path / "out", tmp_path / "r.html"
    assert main(["eval", "folder", str(labelled), "--export", str(out)]) == 0
    assert capsys.readouterr().out.startswith(f"{out}: 4 items, 4 of them with pictures")
    arguments = ["eval", "items", str(out), "--images", str(labelled), "--html", str(page)]
    assert main([*arguments, "--json", str(tmp_path / "r.json")]) == 0
    report, table = json.loads((tmp_path / "r.json").read_text()), capsys.readouterr().out
    assert report["pairs"] == 4 and report["pair_accuracy"] == 1.0 and report["benchmark"]["kind"] == "items"
    assert "lower edge" in table and "larger box" in table and "which is closer: right (4 pairs)" in table
    assert "<svg" in page.read_text(encoding="utf-8")
    assert (
        main(["compare", "items", str(out), "--images", str(labelled), "--engine", "--out", str(tmp_path / "a")]) == 0
    )


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["eval", "blink"], "eval blink needs DATA"),
        (["eval", "nonsense", "x"], "no benchmark 'nonsense'"),
        (["eval", "gqa-depth", "x.json"], "gqa-depth needs --images"),
        (["eval", "x", "--images", "y"], "folder makes no use of --images"),
        (["eval", "blink", "x", "--direct"], "only a labelled folder is measured with --direct"),
        (["eval", "blink", "none.jsonl"], "none.jsonl: no such file"),
        (["eval", "blink", "none.jsonl", "--seed", "1"], "makes no use of --seed, since nothing is drawn"),
        (["eval", "items", "x", "--export", "y", "--html", "z.html"], "makes no use of --html"),
        (["eval", "items", "none.jsonl"], "none.jsonl: no such file"),
        (["eval", "make3d-proximity", "none", "--grids", "none"], "none: no such folder"),
        (["eval", "x", "y", "z"], "unrecognized arguments"),
        (["eval", "x", "--limit", "2", "y", "z"], "unrecognized arguments"),
    ],
)
def test_eval_of_what_is_no_benchmark_is_one_line(
    refused: Callable[[Sequence[str], str], None], arguments: list[str], says: str
) -> None:
    refused(arguments, says)


def test_eval_asks_more_where_told_to(labelled: Path, fake: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(labelled), "--json", "-"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["absent"] is None and figures["direct"] is None and 0 <= figures["within_sigma"] <= 1
    assert main(["eval", str(labelled), "--direct"]) == 1
    output = capsys.readouterr()
    *_, line = output.err.splitlines()  # what comes before is the library's
    assert output.out == "" and line.startswith("proxqa: ") and "directly" in line
    fake.view = DirectEncodedImage
    file = labelled / "annotations.json"
    file.write_text(json.dumps([{**record, "visible_names": []} for record in json.loads(file.read_text())]))
    assert main(["eval", str(labelled), "--absent", "2", "--direct"]) == 0
    table = capsys.readouterr().out
    assert "answered as not visible (6 names)" in table and "asked without depths" in table
    assert "within the predicted ±" in table


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere"], "annotations.json"),
        (["FOLDER", "--limit", "0"], "from 1"),
        (["FOLDER", "--limit", "many"], "from 1"),
        (["FOLDER", "--absent", "-1"], "from 0"),
        (["FOLDER", "--absent", "few"], "from 0"),
        (["FOLDER", "--json", "nowhere/r.json"], "does not exist"),
        (["FOLDER", "--html", "FOLDER"], "is a folder"),
        (["FOLDER", "--prompt", "colour"], "colour"),
    ],
)
def test_bad_input_of_eval(
    arguments: list[str], says: str, labelled: Path, refused: Callable[[Sequence[str], str], None]
) -> None:
    refused(["eval", *(str(labelled) if a == "FOLDER" else a for a in arguments)], says)


# -- on a bag ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def right(use_engine: Callable[[Any], None]) -> None:
    """The engine of the commands knows what is true in the bag."""
    use_engine(FakeEngine(RIGHT))


def test_eval_bag(drive: Path, tmp_path: Path, right: None, capsys: pytest.CaptureFixture[str]) -> None:
    file, page = tmp_path / "r.json", tmp_path / "r.html"
    arguments = ["eval-bag", str(drive), "--every-images", "2", "--json", str(file), "--html", str(page)]
    assert main(arguments) == 0
    output = capsys.readouterr()
    found = json.loads(file.read_text())
    assert found["pair_accuracy"] == 1.0 and found["frames"]["asked"] == 3 and found["source"] == "drive"
    assert "judged by labels" in output.out and "3 of 6" in output.out
    assert output.err == "a library prints while it loads\n"
    assert page.read_text().count("data:image/jpeg") == 3


@pytest.mark.parametrize(
    ("pace", "asked"), [(["--every-seconds", "0.25"], 2), (["--rate", "5"], 3), (["--every-images", "4"], 2), ([], 6)]
)
def test_which_images_of_a_bag(
    pace: list[str], asked: int, drive: Path, right: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval-bag", str(drive), *pace, "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["frames"]["asked"] == asked


def test_eval_bag_as_json(drive: Path, right: None, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["eval-bag", str(drive), "--depth", made.DEPTHS, "--objects", "chair, table", "--limit", "2"]
    assert main([*arguments, "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["truth"]["kind"] == "depth images" and found["mae"] is None  # this model looks nowhere
    assert list(found["by_object"]) == ["chair", "table"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere"], "'nowhere' does not exist"),
        (["BAG", "--topic", "/x"], f"choose one with --topic TOPIC: {made.IMAGES} (6 images)"),
        (["BAG", "--topic", made.DEPTHS], f"choose one with --topic TOPIC: {made.IMAGES} (6 images)"),
        (["BAG", "--truth", "/x"], made.TRUTH),
        (["BAG", "--depth", "/x"], f"{made.DEPTHS} (3 images)"),
        (["BAG", "--depth", made.DEPTHS], "give objects"),
        (["BAG", "--depth", made.DEPTHS, "--truth", made.TRUTH], "not allowed"),
        (["BAG", "--objects", "dragon"], "labelled are: chair, lamp, table"),
        (["BAG", "--objects", "x" * 90], "too long"),
        (["BAG", "--every-images", "0"], "from 1"),
        (["BAG", "--every-images", "2", "--rate", "1"], "not allowed"),
        (["BAG", "--every-images", "2", "--every-seconds", "1"], "not allowed"),
        (["BAG", "--every-seconds", "-1"], "from 0"),
        (["BAG", "--every-seconds", "inf"], "from 0"),
        (["BAG", "--every", "2"], "ambiguous"),
        (["BAG", "--rate", "nan"], "above 0"),
        (["BAG", "--rate", "-1"], "above 0"),
        (["BAG", "--tolerance", "soon"], "above 0"),
        (["BAG", "--limit", "0"], "from 1"),
        (["BAG", "--json", "nowhere/r.json"], "does not exist"),
        (["BAG", "--html", "nowhere/r.html"], "does not exist"),
        (["BAG", "--prompt", "colour"], "colour"),
        (["EMPTY"], "no colour images; its topics: /ground_truth"),
    ],
)
def test_bad_input_of_eval_bag(
    arguments: list[str], says: str, drive: Path, tmp_path: Path, refused: Callable[[Sequence[str], str], None]
) -> None:
    empty = made.write(tmp_path / "empty", [(made.TRUTH, 1, made.truth(1, {}))])
    refused(["eval-bag", *({"BAG": str(drive), "EMPTY": str(empty)}.get(a, a) for a in arguments)], says)
