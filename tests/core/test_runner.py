"""Asking a model everything a folder knows: what is asked, how answers are judged, what the page shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fake_engine import BatchView, FakeEngine

from proxqa_core.evaluation.folder import BadDatasetError, LabelledFolder
from proxqa_core.evaluation.html import render
from proxqa_core.evaluation.metrics import summary
from proxqa_core.evaluation.runner import evaluate, labels, measure

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
    engine = FakeEngine(RIGHT, BatchView)
    measured = measure(engine, labelled, "box", progress=False)
    assert len(measured.objects) == 8
    # One call for all objects of an image, one for all its pairs; none where there is no pair.
    assert engine.calls == [("depths", 4), ("closer_many", 3), ("depths", 2), ("closer_many", 1), ("depths", 2)]
    # Three cups: those that have one go by their phrase, so that answers can be told apart.
    assert [o.name for o in measured.objects[:4]] == ["left cup", "right cup", "cup", "lamp"]
    assert all(p.correct for p in measured.pairs)


def test_limit_and_labels(labelled: Path) -> None:
    assert measure(FakeEngine(RIGHT), labelled, limit=1, progress=False).images == ("images/0.png",)
    assert [o.name for o in labels(labelled)] == ["cup", "cup", "cup", "lamp", "chair", "table", "dog", "cat"]
    report = evaluate(FakeEngine(RIGHT), labelled, progress=False, train=labelled)
    assert "training folder" in report["notes"]["lower_edge_line"]


def test_progress_goes_to_stderr(labelled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measure(FakeEngine(RIGHT), labelled)
    said = capsys.readouterr()
    assert said.out == "" and "3 of 3 images" in said.err


def test_bad_requests(labelled: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'colour'"):
        measure(FakeEngine(RIGHT), labelled, "colour")
    with pytest.raises(ValueError, match="at least 1"):
        measure(FakeEngine(RIGHT), labelled, limit=0)
    (tmp_path / "annotations.json").write_text("[]")
    with pytest.raises(BadDatasetError, match="no object to ask"):
        measure(FakeEngine(RIGHT), tmp_path, progress=False)


def test_page_is_whole_and_escaped(labelled: Path) -> None:
    measured = measure(FakeEngine(WRONG), labelled, progress=False)
    page = render(summary(measured), measured, LabelledFolder(labelled))
    assert "fake &lt;model&gt;" in page and "<model>" not in page
    assert page.count("data:image/jpeg;base64,") == 4 and "4 of 4 were wrong" in page
    assert not re.search(r"https?://|<script|src=\"(?!data:)", page)
    assert "<svg" in page and page.rstrip().endswith("</html>")


def test_page_without_pictures_or_mistakes(labelled: Path) -> None:
    measured = measure(FakeEngine(RIGHT), labelled, progress=False)
    assert "No pair was answered wrongly" in render(summary(measured), measured, LabelledFolder(labelled))
    wrong = measure(FakeEngine(WRONG), labelled, progress=False)
    for file in (labelled / "images").iterdir():
        file.unlink()
    page = render(summary(wrong), wrong, LabelledFolder(labelled))
    assert "base64" not in page and "no such file" in page
