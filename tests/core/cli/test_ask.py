"""`proxqa ask` and `proxqa depths`."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from proxqa_core.cli import main
from tests.core.fake_engine import FakeEngine


def test_depths_as_json(image: str, fake: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["depths", image, "--objects", "table, chair", "--box", "chair=1,2,30,40", "--box", "vase=5,5,9,9"]
    assert main([*arguments, "--json", "-"]) == 0
    output = capsys.readouterr()
    answer = json.loads(output.out)
    assert [o["name"] for o in answer["objects"]] == ["table", "chair", "vase"]
    assert answer["objects"][1]["box"] == [1, 2, 30, 40] and answer["objects"][0]["box"] is None
    assert answer["objects"][0]["depth"] == 0.6 and answer["objects"][0]["distance"] is None
    assert "library" in output.err


def test_depths_as_a_table(image: str, fake: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["depths", image, "--objects", "table,chair"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert (
        len(lines) == 4
        and "not metres" in lines[3]
        and lines[1].split()[:2] == ["chair", "0.20"]
        and lines[2].startswith("table")
    )


def test_a_file_name_that_is_no_text(image: str, fake: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    odd = Path(image).with_name("room \udcff.jpg")  # how Python spells the byte 0xff
    Path(image).rename(odd)
    assert main(["depths", str(odd), "--objects", "chair", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["image"] == str(odd)


def test_a_file_name_that_is_no_text_in_a_file(image: str, fake: FakeEngine, tmp_path: Path) -> None:
    odd = Path(image).with_name("room \udcff.jpg")
    Path(image).rename(odd)
    assert main(["depths", str(odd), "--objects", "chair", "--json", str(tmp_path / "r.json")]) == 0
    assert json.loads((tmp_path / "r.json").read_text())["image"] == str(odd)


def test_depths_saved_as_a_picture(image: str, fake: FakeEngine, tmp_path: Path) -> None:
    for name in ("out.png", "out.JPG"):
        assert main(["depths", image, "--box", "chair=1,2,30,40", "--save", str(tmp_path / name)]) == 0
        assert Image.open(tmp_path / name).size == (64, 48)


def test_ask(image: str, fake: FakeEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", image, "what is nearest?", "--objects", "chair,table", "--json", "-"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["question"] == "what is nearest?" and answer["probability"] is None
    assert {o["name"] for o in answer["objects"]} == {"chair", "table"}
    file = tmp_path / "answer.json"
    assert main(["ask", image, "what is nearest?", "--objects", "chair,table", "--json", str(file)]) == 0
    assert "is nearest" in capsys.readouterr().out.splitlines()[0]
    assert "is nearest" in json.loads(file.read_text())["answer"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["depths", "IMAGE"], "--objects"),
        (["depths", "IMAGE", "--objects", " , "], "--objects"),
        (["depths", "IMAGE", "--objects", "x" * 90], "too long"),
        (["depths", "IMAGE", "--objects", ",".join(f"thing {n}" for n in range(200))], "at most 64"),
        (["depths", "IMAGE", "--box", "chair"], "NAME=X1,Y1,X2,Y2"),
        (["depths", "IMAGE", "--box", "chair=1,2,3"], "NAME=X1,Y1,X2,Y2"),
        (["depths", "IMAGE", "--box", "chair=9,2,3,4"], "empty"),
        (["depths", "IMAGE", "--box", "=1,2,3,4"], "empty"),
        (["depths", "IMAGE", "--box", "chair=900,2,930,40"], "outside the image"),
        (["depths", "nowhere.jpg", "--objects", "chair"], "no such file"),
        (["depths", "IMAGE", "--objects", "chair", "--save", "out.gif"], ".png"),
        (["depths", "IMAGE", "--objects", "chair", "--save", "nowhere/out.png"], "does not exist"),
        (["depths", "IMAGE", "--objects", "chair", "--json", "nowhere/out.json"], "does not exist"),
        (["ask", "IMAGE", ""], "empty"),
        (["ask", "IMAGE"], "no question was asked"),
        (["ask", "how far is the chair?", "IMAGE"], "no question was asked"),
        (["ask", "IMAGE", "how", "far", "is", "the", "chair"], "put the question in quotes"),
        (["ask", "nowhere/room.jpg", "chair"], "no such file"),
        (["depths", "/dev/video99", "--objects", "chair"], "no such camera; there are: "),
        (["ask", "IMAGE", "which is closer, the chair?"], "two objects"),
        (["ask", "IMAGE", "how far is it\nreally?"], "names no object"),
        (["ask", "IMAGE", "a" * 10_000], "10000 characters"),
        (["ask", "IMAGE", "what is nearest?", "--objects", ",".join(map(str, range(65)))], "at most 64"),
    ],
)
def test_bad_input_is_one_line_and_code_2(
    arguments: list[str], says: str, image: str, refused: Callable[[Sequence[str], str], None]
) -> None:
    refused([image if a == "IMAGE" else a for a in arguments], says)


@pytest.mark.parametrize(
    ("question", "warned"),
    [
        ("Which is closer, the cup or the table?", "the box of cap is not used: the question names cup, table"),
        ("Which is closer, the caps or the table?", ""),
        ("What is nearest?", ""),
        ("Is the table the nearest?", ""),
    ],
)
def test_a_box_that_the_question_does_not_name_is_told(
    question: str, warned: str, image: str, use_engine: Callable[[Any], None], capsys: Any
) -> None:
    use_engine(FakeEngine({"cup": 0.2, "cap": 0.4, "table": 0.9}))
    assert main(["ask", image, question, "--objects", "table", "--box", "cap=0,0,9,9"]) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("proxqa: ")]
    assert told == ([f"proxqa: {warned}"] if warned else [])


def test_an_image_that_is_none(tmp_path: Path, fake: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut off")
    assert main(["depths", str(tmp_path / "cut.jpg"), "--objects", "chair"]) == 2
    assert "cut.jpg" in capsys.readouterr().err


@pytest.mark.model
def test_the_real_model(
    engine: Any, image: str, use_engine: Callable[[Any], None], capsys: pytest.CaptureFixture[str]
) -> None:
    use_engine(engine)
    assert main(["depths", image, "--objects", "chair", "--box", "table=4,4,40,40", "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [o["name"] for o in found["objects"]] == ["chair", "table"]
    chair, table = found["objects"]
    assert 0 <= table["depth"] <= 1  # given with a box
    assert chair["depth"] is None if chair["score"] < 0.5 else 0 <= chair["depth"] <= 1
    assert all(0 <= o["score"] <= 1 for o in found["objects"])
    assert main(["ask", image, "which is closer, the chair or the table?", "--json", "-"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["kind"] == "closer" and {o["name"] for o in answer["objects"]} == {"chair", "table"}
    if all(o["score"] >= 0.5 for o in answer["objects"]):
        assert {answer["closer"], answer["farther"]} == {"chair", "table"} and 0.5 <= answer["probability"] <= 1
    else:
        assert answer["closer"] == answer["farther"] == "" and answer["probability"] is None


def test_several_images_with_one_load(image: str, fake: FakeEngine, tmp_path: Path, capsys: Any) -> None:
    other = Path(image).with_name("hall.png")
    Image.open(image).save(other)
    (tmp_path / "notes.png").write_text("no image")
    report, pictures = tmp_path / "r.json", tmp_path / "out"
    arguments = [str(tmp_path), "How far is the chair?", "--save", str(pictures), "--json", str(report)]
    assert main(["ask", *arguments]) == 0
    found = json.loads(report.read_text())
    assert [Path(i["image"]).name for i in found["images"]] == ["hall.png", "room.jpg"]
    assert len(found["bad_images"]) == 1 and "notes.png" in found["bad_images"][0]
    assert sorted(p.name for p in pictures.iterdir()) == ["hall.png", "room.jpg"]
    output = capsys.readouterr()
    assert output.err.count("a library prints while it loads") == 1 and f"written to {pictures}" in output.err
    assert "hall.png" in output.out and "room.jpg" in output.out


def test_words_behind_options_belong_to_the_list(image: str, fake: FakeEngine, capsys: Any) -> None:
    assert main(["ask", image, "--objects", "chair", "how far is it?", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["question"] == "how far is it?"


def test_a_video(fake: FakeEngine, tmp_path: Path, capsys: Any) -> None:
    video = tmp_path / "drive.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for n in range(10):
        writer.write(np.full((48, 64, 3), 20 * n, np.uint8))
    writer.release()
    assert main(["depths", str(video), "--objects", "chair", "--every-seconds", "0.45", "--json", "-"]) == 0
    assert [i["image"] for i in json.loads(capsys.readouterr().out)["images"]] == [f"{video}:0", f"{video}:5"]
    assert main(["depths", str(video), "--objects", "chair", "--most", "3", "--json", "-"]) == 0
    assert len(json.loads(capsys.readouterr().out)["images"]) == 3


def test_a_damaged_video_is_one_line(fake: FakeEngine, tmp_path: Path, capsys: Any) -> None:
    video = tmp_path / "drive.mp4"
    video.write_bytes(b"no video")
    assert main(["depths", str(video), "--objects", "chair"]) == 2
    assert "cannot be opened as a video" in capsys.readouterr().err.splitlines()[-1]


def test_chat(image: str, fake: FakeEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any) -> None:
    lines = "/objects chair, table\n\nwhich is nearest?\n/nonsense\n/quit\nnever asked\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    assert main(["chat", image, "--json", str(tmp_path / "chat.json")]) == 0
    said = capsys.readouterr().out
    assert "The chair is nearest" in said and "'/nonsense' is no command" in said
    assert len(json.loads((tmp_path / "chat.json").read_text())["turns"]) == 3


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["Who painted this?"], "not about proximity"),
        (["How far is the cup on the shelf?"], "in relation to another"),
        (["How far is it?"], "names no object"),
        (["Is it near?"], "names no object"),
    ],
)
def test_bad_questions_are_refused_before_the_model_is_loaded(
    image: str, refused: Callable[[Sequence[str], str], None], words: list[str], says: str
) -> None:
    refused(["ask", image, *words], says)


def test_what_is_nearest_needs_names_of_a_model_that_does_not_say_what_it_was_taught(
    image: str, refused: Callable[[Sequence[str], str], None]
) -> None:
    refused(["ask", image, "What is nearest?", "--model", "org/llava"], "names no object")
    refused(["ask", image, "What is nearest?", "--adapter", "none"], "names no object")


def test_several_images_need_a_folder(
    image: str, refused: Callable[[Sequence[str], str], None], tmp_path: Path
) -> None:
    refused(["depths", image, image, "--objects", "chair", "--save", str(tmp_path / "a.png")], "expected a folder")
    refused(["ask", "How far is the chair?"], "no image was named")
    refused(["ask", image, "How far is the chair?", "--node"], "its own newest image")


@pytest.mark.parametrize("given", ["--save a.png", "--every-seconds 2", "--most 3", "--model m", "--int8"])
def test_a_node_takes_no_option_of_images_and_models(refused: Callable[[Sequence[str], str], None], given: str) -> None:
    says = f"{given.split()[0]} is not used with --node"
    refused(["ask", "--node", "How far is the chair?", *given.split()], says)
    refused(["ask", "--node-name", "/front/proximity", "How far is the chair?", *given.split()], says)
