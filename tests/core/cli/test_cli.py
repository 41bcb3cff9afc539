"""The command line: what it prints, where, and how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from proxqa_core.cli import main as cli
from proxqa_core.errors import BadModelError, ModelNotFoundError
from tests.core.fake_engine import DirectEncodedImage, FakeEngine

KNOWN = {"chair": 0.2, "table": 0.6, "left cup": 0.1, "right cup": 0.8, "lamp": 0.4}


@pytest.fixture
def image(tmp_path: Path) -> str:
    Image.fromarray(np.full((48, 64, 3), 90, np.uint8)).save(tmp_path / "room.jpg")
    return str(tmp_path / "room.jpg")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    engine = FakeEngine(KNOWN)

    def load(options: Any) -> FakeEngine:
        print("a library prints while it loads")
        return engine

    monkeypatch.setattr(cli, "_engine", load)
    return engine


@pytest.fixture
def unloadable(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception], None]:
    def set_error(error: Exception) -> None:
        def load(options: Any) -> None:
            raise error

        monkeypatch.setattr(cli, "_engine", load)

    return set_error


def test_depths_as_json(image: str, fake: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["depths", image, "--objects", "table, chair", "--box", "chair=1,2,30,40", "--box", "vase=5,5,9,9"]
    assert cli.main([*arguments, "--json"]) == 0
    said = capsys.readouterr()
    answer = json.loads(said.out)
    assert [o["name"] for o in answer["objects"]] == ["table", "chair", "vase"]
    assert answer["objects"][1]["box"] == [1, 2, 30, 40] and answer["objects"][0]["box"] is None
    assert answer["objects"][0]["depth"] == 0.6 and answer["objects"][0]["distance"] is None
    assert "library" in said.err


def test_depths_as_a_table(image: str, fake: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["depths", image, "--objects", "table,chair"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[1].split()[:2] == ["chair", "0.20"] and lines[2].startswith("table")


def test_a_file_name_that_is_no_text(image: str, fake: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    odd = Path(image).with_name("room \udcff.jpg")  # how Python spells the byte 0xff
    Path(image).rename(odd)
    assert cli.main(["depths", str(odd), "--objects", "chair", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["image"] == str(odd)


def test_depths_saved_as_a_picture(image: str, fake: FakeEngine, tmp_path: Path) -> None:
    for name in ("out.png", "out.JPG"):
        assert cli.main(["depths", image, "--box", "chair=1,2,30,40", "--save", str(tmp_path / name)]) == 0
        assert Image.open(tmp_path / name).size == (64, 48)


def test_ask(image: str, fake: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["ask", image, "what is nearest?", "--objects", "chair,table", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["question"] == "what is nearest?" and answer["probability"] is None
    assert {o["name"] for o in answer["objects"]} == {"chair", "table"}
    assert cli.main(["ask", image, "what is nearest?"]) == 0
    assert "is nearest" in capsys.readouterr().out.splitlines()[0]


def test_eval(labelled: Path, fake: FakeEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report, page = tmp_path / "r.json", tmp_path / "r.html"
    assert cli.main(["eval", str(labelled), "--limit", "2", "--json", str(report), "--html", str(page)]) == 0
    figures = json.loads(report.read_text())
    assert figures["pairs"] == 4 and figures["pair_accuracy"] == 1.0 and figures["images"] == 2
    assert "<svg" in page.read_text(encoding="utf-8")
    assert "closer right (4 pairs)" in capsys.readouterr().out
    assert cli.main(["eval", str(labelled), "--prompt", "box", "--train", str(labelled), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["prompt"] == "box"


def test_eval_asks_more_where_told_to(labelled: Path, fake: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["eval", str(labelled), "--json", "-"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["absent"] is None and figures["direct"] is None and 0 <= figures["within_sigma"] <= 1
    assert cli.main(["eval", str(labelled), "--direct"]) == 1
    said = capsys.readouterr()
    *_, line = said.err.splitlines()  # what comes before is the library's
    assert said.out == "" and line.startswith("proxqa: ") and "directly" in line
    fake.view = DirectEncodedImage
    file = labelled / "annotations.json"
    file.write_text(json.dumps([{**record, "visible_names": []} for record in json.loads(file.read_text())]))
    assert cli.main(["eval", str(labelled), "--absent", "2", "--direct"]) == 0
    table = capsys.readouterr().out
    assert "called so (6 names)" in table and "asked without depths" in table and "within the ± said" in table


def test_info(fake: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["scale"] is None
    assert cli.main(["info"]) == 0
    assert "fake <model>" in capsys.readouterr().out


def test_bench(
    fake: FakeEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def measured(engine: Any, repeats: int, progress: Callable[[str], None]) -> dict[str, Any]:
        assert engine is fake
        progress("a round")
        spans = {"shared": {"p50": 100.0, "p95": 120.4}, "one_by_one": {"p50": 900.0, "p95": 950.0}}
        return {"objects": 8, "repeats": repeats, "milliseconds": spans, "ratio": 9.0, "same_answers": 1.0}

    monkeypatch.setattr("proxqa_core.evaluation.bench.bench", measured)
    file = tmp_path / "bench.json"
    assert cli.main(["bench", "--repeats", "3", "--json", str(file)]) == 0
    said = capsys.readouterr()
    assert json.loads(file.read_text())["repeats"] == 3 and "a round" in said.err
    assert "shared 100 120" in " ".join(said.out.split()) and "9.0 times as fast" in said.out
    assert cli.main(["bench", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["milliseconds"]["one_by_one"]["p95"] == 950


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "COMMAND"),
        (["dance"], "dance"),
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
        (["ask", "IMAGE", ""], "empty"),
        (["ask", "IMAGE", "which is closer, the chair?"], "two objects"),
        (["ask", "IMAGE", "how far is it\nreally?"], "names no object"),
        (["ask", "IMAGE", "a" * 10_000], "10000 characters"),
        (["ask", "IMAGE", "what is nearest?", "--objects", ",".join(map(str, range(65)))], "at most 64"),
        (["eval", "nowhere"], "annotations.json"),
        (["eval", "FOLDER", "--limit", "0"], "from 1"),
        (["eval", "FOLDER", "--limit", "many"], "from 1"),
        (["eval", "FOLDER", "--absent", "-1"], "from 0"),
        (["eval", "FOLDER", "--absent", "few"], "from 0"),
        (["eval", "FOLDER", "--json", "nowhere/r.json"], "does not exist"),
        (["eval", "FOLDER", "--html", "FOLDER"], "is a folder"),
        (["eval", "FOLDER", "--prompt", "colour"], "colour"),
        (["bench", "--repeats", "1"], "at least 2"),
        (["bench", "--repeats", "many"], "from 1"),
        (["bench", "--json", "nowhere/b.json"], "does not exist"),
    ],
)
def test_bad_input_is_one_line_and_code_2(
    arguments: list[str],
    says: str,
    image: str,
    labelled: Path,
    unloadable: Callable[[Exception], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    unloadable(AssertionError("the model was loaded before the input was checked"))
    given = [{"IMAGE": image, "FOLDER": str(labelled)}.get(a, a) for a in arguments]
    assert cli.main(given) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("proxqa: ") and says in said.err
    assert said.err.count("\n") == 1


def test_an_image_that_is_none(tmp_path: Path, fake: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut off")
    assert cli.main(["depths", str(tmp_path / "cut.jpg"), "--objects", "chair"]) == 2
    assert "cut.jpg" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error",
    [
        ModelNotFoundError("no model; run get-base"),
        BadModelError("weights are\ndamaged"),
        OSError(28, "No space left on device"),
        PermissionError(13, "Permission denied", "x"),
    ],
)
def test_failures_are_one_line_and_code_1(
    error: Exception, image: str, unloadable: Callable[[Exception], None], capsys: pytest.CaptureFixture[str]
) -> None:
    unloadable(error)
    assert cli.main(["depths", image, "--objects", "chair"]) == 1
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("proxqa: ") and said.err.count("\n") == 1


def test_interrupted(image: str, unloadable: Callable[[Exception], None]) -> None:
    unloadable(KeyboardInterrupt())  # type: ignore[arg-type]
    assert cli.main(["info"]) == 130


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; from proxqa_core import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "assert not {'torch', 'numpy', 'cv2', 'PIL', 'transformers'} & set(sys.modules), sorted(sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert all(name in run.stdout for name in ("depths", "ask", "eval", "info", "bench"))


def test_a_closed_pipe_is_no_error(image: str) -> None:
    program = (
        "import sys; sys.path.insert(0, 'tests/core')\n"
        "from fake_engine import FakeEngine\nfrom proxqa_core import cli\n"
        "cli._engine = lambda options: FakeEngine({'chair': 0.2})\n"
        f"sys.exit(cli.main(['depths', {image!r}, '--objects', 'chair', '--json']))"
    )
    root = Path(__file__).parents[3]
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=root
    ) as run:
        assert run.stdout is not None and run.stderr is not None
        run.stdout.close()
        assert run.stderr.read() == ""
    assert run.returncode == 0


@pytest.mark.model
def test_the_real_model(
    engine: Any, image: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "_engine", lambda options: engine)
    assert cli.main(["depths", image, "--objects", "chair", "--box", "table=4,4,40,40", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [o["name"] for o in found["objects"]] == ["chair", "table"]
    assert all(0 <= o["depth"] <= 1 and 0 <= o["score"] <= 1 for o in found["objects"])
    assert cli.main(["ask", image, "which is closer, the chair or the table?", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["kind"] == "closer" and {answer["closer"], answer["farther"]} == {"chair", "table"}
    assert 0.5 <= answer["probability"] <= 1
