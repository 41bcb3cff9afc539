"""`proxqa record` as a command; what it records is tested with the recording."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from proxqa_core.cli import main


def test_record(drive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["record", str(drive), "--out", str(out), "--every-seconds", "0.2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{out}: 3 images, 9 objects, 9 of them with depth", "chair 3, table 3, lamp 3"]
    assert main(["record", str(drive), "--out", str(out), "--every-seconds", "0.2", "--json", "-"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["images"] == 3 and answer["names"] == {"chair": 3, "table": 3, "lamp": 3}
    assert main(["record", str(drive), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("proxqa: ") and "choose another --out" in error and len(error.splitlines()) == 1


def test_each_nth_image(drive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, report = tmp_path / "out", tmp_path / "report.json"
    arguments = ["record", str(drive), "--out", str(out), "--depth", "none", "--every-images", "4"]
    assert main([*arguments, "--json", str(report)]) == 0
    assert json.loads(report.read_text())["images"] == 2
    assert capsys.readouterr().out.startswith(f"{out}: 2 images")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "neither came; expected --out"),
        (["--out", "OUT", "--every-seconds", "soon"], "from 0"),
        (["--out", "OUT", "--every-images", "0"], "from 1"),
        (["--out", "OUT", "--every-images", "2", "--every-seconds", "1"], "not allowed"),
        (["--out", "OUT", "--tolerance", "-1"], "tolerance is -1.0"),
        (["--out", "OUT", "--min-score", "2"], "min_score is 2.0"),
        (["--out", "OUT", "--json", "nowhere/r.json"], "does not exist"),
    ],
)
def test_bad_input(
    arguments: list[str], says: str, drive: Path, tmp_path: Path, refused: Callable[[Sequence[str], str], None]
) -> None:
    refused(["record", str(drive), *(str(tmp_path / "out") if a == "OUT" else a for a in arguments)], says)


def test_frames_to_draw_boxes_in_and_back(drive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames, out = tmp_path / "frames", tmp_path / "out"
    assert main(["record", str(drive), "--frames", str(frames), "--every-images", "2"]) == 0
    assert [p.stem for p in sorted(frames.glob("*.*g"))] == ["000000", "000002", "000004"]
    assert json.loads((frames / "boxes.json").read_text()) == {}
    said = capsys.readouterr().out
    assert f"proxqa serve --boxes {frames}" in said and f"proxqa record {drive} --boxes" in said
    drawn = {"0": [{"name": "mug", "box": [1, 2, 20, 30]}], "3": [{"name": "mug", "box": [1, 2, 20, 30]}]}
    (frames / "boxes.json").write_text(json.dumps(drawn))
    assert main(["record", str(drive), "--frames", str(frames), "--every-images", "2"]) == 0
    assert json.loads((frames / "boxes.json").read_text()) == drawn, "what was drawn stays"
    arguments = ["record", str(drive), "--boxes", str(frames / "boxes.json"), "--depth", "none", "--out", str(out)]
    assert main([*arguments, "--every-images", "2"]) == 0
    said = capsys.readouterr().out
    assert "1 images, 1 objects" in said
    assert "1 images with boxes that --every-… left out (image 3)" in said


def test_frames_or_a_labelled_folder(
    drive: Path, tmp_path: Path, refused: Callable[[Sequence[str], str], None]
) -> None:
    refused(
        ["record", str(drive), "--frames", str(tmp_path), "--out", str(tmp_path / "o")], "both came; expected --out DIR"
    )


@pytest.mark.parametrize("given", ["--boxes b.json", "--names n.json", "--depth none", "--min-score 0.9", "--complete"])
def test_frames_take_no_option_of_boxes(
    drive: Path, tmp_path: Path, refused: Callable[[Sequence[str], str], None], given: str
) -> None:
    says = f"{given.split()[0]} is not used with --frames"
    refused(["record", str(drive), "--frames", str(tmp_path / "frames"), *given.split()], says)
