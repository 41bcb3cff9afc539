"""What fine-tuning holds out, and how what it changed is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxqa_core.datasets.folder import LabelledFolder
from proxqa_training.begun import BEGUN, run_folder
from proxqa_training.stages import finetune, held_out
from proxqa_training.stages.held_out import as_text, split, write_folder
from tests.core.fake_engine import FakeEngine


def folder_of(place: Path, measured: list[bool]) -> Path:
    """A folder of records without image files, with a measured object or one without depth each."""
    place.mkdir(exist_ok=True)
    box = {"name": "chair", "box": [0, 0, 5, 5]}
    depth = {"depth": 0.5, "depth_m": 2.0}
    records = [
        {"image": f"{i}.png", "width": 10, "height": 10, "objects": [box | (depth if known else {})]}
        for i, known in enumerate(measured)
    ]
    (place / "annotations.json").write_text(json.dumps(records))
    return place


@given(st.lists(st.booleans(), max_size=30), st.floats(0, 0.99))
def test_what_is_held_out_is_the_last_with_depth_and_not_trained_on(
    tmp_path_factory: pytest.TempPathFactory, measured: list[bool], fraction: float
) -> None:
    folder = folder_of(tmp_path_factory.mktemp("folder"), measured)
    (kept,), (out,) = split([folder], fraction)
    trained, judged = ([r.image for r in part.records] for part in (kept, out))
    assert sorted(trained + judged) == sorted(f"{i}.png" for i in range(len(measured)))
    with_depth = [f"{i}.png" for i, known in enumerate(measured) if known]
    assert judged == with_depth[len(with_depth) - len(judged) :]
    if fraction == 0 or len(with_depth) < 2:
        assert not judged
    else:
        assert 1 <= len(judged) < len(with_depth)
        assert abs(len(judged) - fraction * len(with_depth)) <= 1


def test_what_is_held_out_of_two_folders_is_one_folder(blocks: Path, tmp_path: Path) -> None:
    parts = [LabelledFolder(blocks).subset([3]), LabelledFolder(blocks).subset([0])]
    for _ in range(2):  # a resumed run writes it again
        assert write_folder(parts, tmp_path / "out") == 2
    records = LabelledFolder(tmp_path / "out").records
    for record, original in zip(records, (parts[0].records[0], parts[1].records[0]), strict=True):
        assert (record.load_image() == original.load_image()).all()
        assert (record.load_depth() == original.load_depth()).all()
        assert record.relative_depths() == original.relative_depths()


def judged(pairs: int, **after: float) -> dict[str, Any]:
    before = {"pair_accuracy": 0.7, "objects_with_truth": 9, "mae": 0.1, "ece": 0.105, "within_sigma": 0.66}
    both = {"before": {"pairs": pairs} | before, "after": {"pairs": pairs} | before | after}
    return {"folder": "my run/held_out", "images": 2, "box": both}


@pytest.mark.parametrize(
    ("pairs", "after", "expected"),
    [
        (150, {"ece": 0.264}, "calibration error 0.105 → 0.264"),
        (150, {"within_sigma": 0.4}, "within ± 66.0 % → 40.0 %"),
        (150, {"ece": 0.264}, "proxqa train calibrate adapters/mine --data 'my run/held_out' (then they judge it no"),
        (12, {"ece": 0.264}, "proxqa train calibrate adapters/mine --data FOLDER"),
        (12, {}, "12 pairs are few: these figures show little"),
    ],
)
def test_worse_calibration_and_few_images_are_said(pairs: int, after: dict[str, float], expected: str) -> None:
    assert expected in as_text(judged(pairs, **after), Path("adapters/mine"))


def test_what_is_no_worse_is_not_said_to_be(recwarn: pytest.WarningsRecorder) -> None:
    text = as_text(judged(150, ece=0.08, within_sigma=0.69, pair_accuracy=float("nan")), Path("a"))
    assert "calibrate it" not in text and "few" not in text
    assert "by box: which is closer, right  " in text and "70.0 %" in text
    assert not recwarn.list


def test_both_adapters_are_asked_the_same(blocks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # the truth: red 1 to 4 m, blue 4 to 1 m; the first calls red always the nearer one, the other has it backwards
    engines = {"start": {"red block": 0.2, "blue block": 0.6}, "mine": {"red block": 0.6, "blue block": 0.2}}
    asked = []

    def load(adapter: Path, device: str, dtype: str) -> FakeEngine:
        asked.append((adapter.name, device))
        return FakeEngine(engines[adapter.name])

    monkeypatch.setattr(held_out.ProximityEngine, "load", staticmethod(load))
    found = held_out.judge(Path("start"), Path("mine"), blocks, "cpu")
    assert asked == [("start", "cpu"), ("mine", "cpu")] and found["images"] == 4
    for prompt in ("name", "box"):
        before, after = found[prompt]["before"], found[prompt]["after"]
        assert before["pairs"] == after["pairs"] == 4 and before["objects_with_truth"] == 8
        assert before["pair_accuracy"] == after["pair_accuracy"] == 0.5
        assert 0 < before["mae"] < 1 and before["ece"] == pytest.approx(0.4)
    text = as_text(found, Path("mine"))
    assert "4 images that it did not learn from" in text and "by name: which is closer, right" in text
    # where names alone mean nothing, boxes are judged by
    records = json.loads((blocks / "annotations.json").read_text())
    for thing in (o for r in records for o in r["objects"]):
        thing["ref"] = None
    (blocks / "annotations.json").write_text(json.dumps(records))
    found = held_out.judge(Path("start"), Path("mine"), blocks, "cpu")
    assert "name" not in found and found["box"]["after"]["pairs"] == 0
    assert "by name" not in as_text(found, Path("mine"))


def test_where_it_cannot_be_judged_the_adapter_is_written_all_the_same() -> None:
    report = {"adapter": "adapters/mine", "run": "adapters/.mine.run", "judged": None, "not_judged": "no image"}
    first, second = finetune.as_text(report).splitlines()
    assert first.startswith("wrote adapters/mine; adapters/.mine.run ") and second == "not judged: no image"


def test_a_run_of_an_earlier_version_is_found(tmp_path: Path) -> None:
    out = tmp_path / "mine"
    assert run_folder(out) == tmp_path / ".mine.run"
    (tmp_path / "mine.run").mkdir()
    (tmp_path / "mine.run" / BEGUN).write_text("{}")
    assert run_folder(out) == tmp_path / "mine.run"
    assert held_out.VAL_FRACTION == 0.2
