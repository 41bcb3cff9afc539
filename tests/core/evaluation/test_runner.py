"""Asking a model everything a folder knows: what is asked, how answers are judged, what the page shows."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from proxqa_core.cli.tables import report_table
from proxqa_core.datasets.folder import BadDatasetError, LabelledFolder
from proxqa_core.errors import BadImageError
from proxqa_core.evaluation.html import render
from proxqa_core.evaluation.metrics import summary
from proxqa_core.evaluation.runner import NoDirectError, evaluate, labels, measure
from proxqa_core.types import MAX_OBJECTS
from tests.core.fake_engine import BatchEncodedImage, DirectEncodedImage, FakeEncodedImage, FakeEngine

RIGHT = {"left cup": 0.1, "right cup": 0.8, "lamp": 0.4, "chair": 0.25, "table": 0.75, "dog": 0.3}
WRONG = {name: 1 - depth for name, depth in RIGHT.items()}


def test_a_model_that_knows(labelled: Path) -> None:
    report = evaluate(FakeEngine(RIGHT), labelled, progress=False)
    assert report["pairs"] == 4 and report["pair_accuracy"] == 1.0 and report["pair_accuracy_from_depths"] == 1.0
    assert report["objects"] == 7 and report["objects_with_truth"] == 5
    assert report["valid_rate"] == pytest.approx(6 / 7)  # the cat was not seen
    assert report["ece"] == pytest.approx(0.1)
    assert (report["images"], report["model"], report["prompt"]) == (3, "fake <model>", "name")


def test_a_model_that_has_it_backwards(labelled: Path) -> None:
    report = evaluate(FakeEngine(WRONG), labelled, progress=False)
    assert report["pair_accuracy"] == 0.0 and report["pair_accuracy_from_depths"] == 0.0
    assert report["spearman"] < 0


def test_by_box_every_object_is_asked_and_boxes_go_along(labelled: Path) -> None:
    engine = FakeEngine(RIGHT, BatchEncodedImage)
    measured = measure(engine, labelled, "box", progress=False)
    assert len(measured.objects) == 8
    # One call for all objects of an image, one for all its pairs; none where there is no pair.
    assert engine.calls == [("depths", 4), ("closer_many", 3), ("depths", 2), ("closer_many", 1), ("depths", 2)]
    # Three cups: those that have one go by their phrase, so that answers can be told apart.
    assert [o.name for o in measured.objects[:4]] == ["left cup", "right cup", "cup", "lamp"]
    assert all(p.correct for p in measured.pairs)


def test_the_stated_sigma_is_judged(labelled: Path) -> None:
    assert evaluate(FakeEngine({**RIGHT, "table": 0.9}), labelled, progress=False)["within_sigma"] < 1.0
    measured = measure(FakeEngine(RIGHT), labelled, progress=False)
    assert [o.stddev for o in measured.objects] == [0.05] * 6 + [0.3]


def in_view(folder: Path, *names: list[str] | None, more: list[str] | None = None) -> None:
    """Write what is in view of each image; more: names of further objects of the last one."""
    file = folder / "annotations.json"
    records = json.loads(file.read_text())
    for record, seen in zip(records, names, strict=True):
        record["visible_names"] = seen
    records[-1]["objects"] += [{"name": name, "box": [0, 0, 20, 20]} for name in more or []]
    file.write_text(json.dumps(records))


def test_absent_names(labelled: Path) -> None:
    # Image 0 does not say what is in view; of image 1 a lampshade, a Dog house and the room's own chair and table.
    in_view(
        labelled, None, ["chair", "table", "lampshade", "Dog house"], ["dog", "cat"], more=["dinner table", "armchair"]
    )
    engine = FakeEngine(RIGHT, BatchEncodedImage)
    measured = measure(engine, labelled, "box", progress=False, absent=50)
    asked = {i: sorted(a.name for a in measured.absent or () if a.image == i) for i in range(3)}
    assert asked == {0: [], 1: ["cat", "cup"], 2: ["cup", "lamp"]}
    # Asked for after the rest, in a call of their own.
    assert engine.calls[2:] == [("depths", 2), ("closer_many", 1), ("depths", 2), ("depths", 4), ("depths", 2)]
    found = summary(measured)["absent"]
    assert found["asked"] == 4 and found["said_absent"] == 0.75  # the lamp is known to it
    assert summary(measure(FakeEngine(RIGHT), labelled, progress=False))["absent"] is None


def test_absent_names_are_the_same_in_every_run(labelled: Path) -> None:
    many = [f"{letter}{letter}{letter}" for letter in "bdefghijklmnopqrstuvwxyz"]
    in_view(labelled, ["cup", "lamp"], ["chair", "table"], None, more=many)
    runs = [
        measure(FakeEngine(RIGHT, view), labelled, prompt, limit, False, absent=5).absent
        for view, prompt, limit in (
            (FakeEncodedImage, "name", None),
            (BatchEncodedImage, "box", 2),
            (BatchEncodedImage, "name", 1),
        )
    ]
    assert runs[0] is not None and runs[2] is not None and len(runs[0]) == 10
    assert runs[0] == runs[1] and runs[0][:5] == runs[2]
    assert {a.name for a in runs[0][:5]} != {a.name for a in runs[0][5:]}


def test_many_absent_names_go_in_several_calls(labelled: Path) -> None:
    in_view(labelled, ["cup", "lamp"], None, None, more=[f"x{n:03}y" for n in range(MAX_OBJECTS)])
    engine = FakeEngine(RIGHT)
    measured = measure(engine, labelled, limit=1, progress=False, absent=MAX_OBJECTS + 1)
    assert [n for _, n in engine.calls] == [3, MAX_OBJECTS, 1]
    assert len({a.name for a in measured.absent or ()}) == MAX_OBJECTS + 1


def test_direct(labelled: Path) -> None:
    engine = FakeEngine(RIGHT, DirectEncodedImage)
    report = evaluate(engine, labelled, progress=False, direct=True)
    assert [name for name, _ in engine.calls] == ["depths", "closer_many", "directly"] * 2 + ["depths"]
    assert report["pair_accuracy"] == 1.0
    # Whatever is named first: right for left cup - right cup, left cup - lamp and chair - table of four pairs.
    assert report["direct"]["pair_accuracy"] == 0.75 and report["direct"]["difference"] == 0.25
    assert evaluate(FakeEngine(RIGHT, DirectEncodedImage), labelled, progress=False)["direct"] is None


@pytest.mark.parametrize("view", [FakeEncodedImage, BatchEncodedImage])
def test_an_engine_that_cannot_be_asked_directly(labelled: Path, view: type[FakeEncodedImage]) -> None:
    with pytest.raises(NoDirectError, match="cannot be asked directly") as error:
        measure(FakeEngine(RIGHT, view), labelled, progress=False, direct=True)
    assert "\n" not in str(error.value)


def test_limit_and_labels(labelled: Path) -> None:
    assert measure(FakeEngine(RIGHT), labelled, limit=1, progress=False).images == ("images/0.png",)
    assert [o.name for o in labels(labelled)] == ["cup", "cup", "cup", "lamp", "chair", "table", "dog", "cat"]
    report = evaluate(FakeEngine(RIGHT), labelled, progress=False, train=labelled)
    assert "training folder" in report["notes"]["lower_edge_line"]


def test_progress_goes_to_stderr(labelled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measure(FakeEngine(RIGHT), labelled)
    output = capsys.readouterr()
    assert output.out == "" and "3 of 3 images" in output.err


def test_bad_requests(labelled: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'colour'"):
        measure(FakeEngine(RIGHT), labelled, "colour")
    with pytest.raises(ValueError, match="at least 1"):
        measure(FakeEngine(RIGHT), labelled, limit=0)
    with pytest.raises(ValueError, match="at least 0"):
        measure(FakeEngine(RIGHT), labelled, absent=-1)
    (tmp_path / "annotations.json").write_text("[]")
    with pytest.raises(BadDatasetError, match="no object to ask"):
        measure(FakeEngine(RIGHT), tmp_path, progress=False)


def test_page_is_whole_and_escaped(labelled: Path) -> None:
    measured = measure(FakeEngine(WRONG), labelled, progress=False)
    page = render(summary(measured), measured, "labelled", LabelledFolder(labelled))
    assert "fake &lt;model&gt;" in page and "<model>" not in page
    assert page.count("data:image/jpeg;base64,") == 4 and "4 of 4 were wrong" in page
    assert not re.search(r"https?://|<script|src=\"(?!data:)", page)
    assert "<svg" in page and page.rstrip().endswith("</html>")


def test_page_shows_what_was_asked_beside(labelled: Path) -> None:
    in_view(labelled, ["cup", "lamp"], None, None)
    measured = measure(FakeEngine(RIGHT, DirectEncodedImage), labelled, progress=False, absent=2, direct=True)
    page = render(summary(measured), measured, "labelled", LabelledFolder(labelled))
    assert "not in view: predicted absent (2 names)" in page and "asked without depths" in page
    plain = measure(FakeEngine(RIGHT), labelled, progress=False)
    page = render(summary(plain), plain, "labelled", LabelledFolder(labelled))
    assert "called so" not in page and "asked without depths: right" not in page
    assert "within the predicted standard deviation" in page


def test_page_without_pictures_or_mistakes(labelled: Path) -> None:
    measured = measure(FakeEngine(RIGHT), labelled, progress=False)
    assert "No pair was answered wrongly" in render(summary(measured), measured, "labelled", LabelledFolder(labelled))
    wrong = measure(FakeEngine(WRONG), labelled, progress=False)
    for file in (labelled / "images").iterdir():
        file.unlink()
    page = render(summary(wrong), wrong, "labelled", LabelledFolder(labelled))
    assert "base64" not in page and "no such file" in page


def _cut(folder: Path) -> None:
    file = folder / "images/1.png"
    file.write_bytes(file.read_bytes()[:-60])


def _remove(folder: Path) -> None:
    (folder / "images/1.png").unlink()


def _other_size(folder: Path) -> None:
    Image.new("RGB", (10, 10)).save(folder / "images/1.png")


def _text(folder: Path) -> None:
    (folder / "images/1.png").write_text("<html>404</html>")


@pytest.mark.parametrize("harm", [_cut, _remove, _other_size, _text])
def test_one_bad_image_never_ends_an_evaluation(
    labelled: Path, harm: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    harm(labelled)
    report = evaluate(FakeEngine(RIGHT), labelled, progress=False)
    assert report["images"] == 2 and report["pairs"] == 3 and report["pair_accuracy"] == 1.0
    assert report["bad_images"]["count"] == 1 and "1.png" in report["bad_images"]["reasons"][0]
    assert "1.png" in caplog.text
    measured = measure(FakeEngine(RIGHT), labelled, progress=False)
    assert "1 images cannot be used" in render(summary(measured), measured, "labelled", LabelledFolder(labelled))
    assert "images left out, which cannot be used" in report_table(report)


@pytest.mark.parametrize("mode", ["cut", "missing", "8 bit", "palette"])
def test_a_depth_map_that_is_none_costs_its_image(labelled: Path, mode: str) -> None:
    file = labelled / "depth.png"
    if mode == "missing":
        file.unlink()
    elif mode == "cut":
        file.write_bytes(file.read_bytes()[:60])
    else:
        Image.fromarray(np.full((48, 64), 200, np.uint8)).convert("P" if mode == "palette" else "L").save(file)
    report = evaluate(FakeEngine(RIGHT), labelled, progress=False, train=labelled)
    assert report["images"] == 2 and report["bad_images"]["count"] == 1
    if mode in ("8 bit", "palette"):
        assert mode.replace("8 bit", "16-bit PNG") in report["bad_images"]["reasons"][0]
    assert [o.name for o in labels(labelled)] == ["chair", "table", "dog", "cat"]


def test_no_image_at_all_is_one_line(labelled: Path) -> None:
    for file in (labelled / "images").iterdir():
        file.write_bytes(b"")
    with pytest.raises(BadImageError, match=r"none of 3 images can be used, the first: .*0\.png") as caught:
        measure(FakeEngine(RIGHT), labelled, progress=False)
    assert "\n" not in str(caught.value)
