"""A robot's own data: from a bag to an adapter, and back when it was stopped."""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from proxqa_core.backends.config import BackendConfig
from proxqa_core.datasets.folder import LabelledFolder
from proxqa_core.datasets.record import Settings, record
from proxqa_core.engine import ProximityEngine
from proxqa_core.model.adapter import GROUNDING_HEAD, LORA, PROJECTOR, read_info
from proxqa_core.model.loading import DEFAULT_ADAPTER
from proxqa_core.model.taught_names import NAMES
from proxqa_training.begun import begin
from proxqa_training.config_file import read_config
from proxqa_training.stages import held_out
from proxqa_training.stages.config import RunConfig, StageConfig
from proxqa_training.stages.finetune import CONFIG, with_num_samples
from proxqa_training.stages.trainer import Trainer

BAG = Path(__file__).resolve().parents[3] / "demo" / "bag"
SMALL = """
name: small
stages:
  - {name: finetune, num_samples: 4, batch_size: 1, max_seq_len: 208, recipe: {perceive: 2, absent: 1, reason: 1}}
torch_compile: false
"""
Train = Callable[..., tuple[int, str, str]]


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """Three images of the demo's bag."""
    record(BAG, tmp_path / "recorded", Settings(every_seconds=5, complete=True))
    return tmp_path / "recorded"


@pytest.fixture
def small(tmp_path: Path) -> Path:
    file = tmp_path / "small.yaml"
    file.write_text(SMALL)
    return file


def weights(adapter: Path) -> dict[str, torch.Tensor]:
    return {k: v for name in (LORA, PROJECTOR) for k, v in load_file(adapter / name).items()}


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What is asked to be judged, which takes longer than the training: tests/test_examples.py has it done."""
    asked: list[tuple[Any, ...]] = []

    def judge(before: Path, after: Path, folder: Path, *how: str) -> dict[str, Any]:
        asked.append((before, after, folder, *how))
        return {"folder": str(folder), "images": len(LabelledFolder(folder))}

    monkeypatch.setattr(held_out, "judge", judge)
    return asked


def test_from_a_bag_to_an_adapter_that_answers(
    recorded: Path,
    small: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    train: Train,
    judged: list[tuple[Any, ...]],
) -> None:
    out = tmp_path / "mine"
    report = tmp_path / "report.json"
    command = ["finetune", recorded, "--out", out, "--config", small, "--num-samples", "3", "--device", "cpu"]
    command += ["--json", report]
    real, calls = Trainer.loss, []

    def stops(self: Trainer, *args: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(self, *args)

    monkeypatch.setattr(Trainer, "run", functools.partialmethod(Trainer.run, minutes_between_checkpoints=0))
    monkeypatch.setattr(Trainer, "loss", stops)
    assert train(*command)[0] == 130  # interrupted
    assert not out.exists()
    code, output, error = train(*command)
    assert code == 0, error
    assert output.startswith(f"wrote {out}; {tmp_path / '.mine.run'} ")
    assert len(calls) == 4  # the step that was stopped and the two after the first
    assert "proxqa: 2 images, " in error  # the third, the last of the drive, is held out
    assert {line.split(":")[0] for line in error.splitlines()} == {"proxqa"}  # no other library's
    expected = {f.name for f in DEFAULT_ADAPTER.iterdir()} - {NAMES}  # how well names are found is not measured here
    assert {f.name for f in out.iterdir()} == expected  # nothing but the adapter

    # the start and the result are judged on the last image, which was held out
    last = tmp_path / ".mine.run" / "held_out"
    assert judged == [(DEFAULT_ADAPTER, out, last, "cpu", "auto")]
    assert json.loads(report.read_text())["judged"] == {"folder": str(last), "images": 1}
    (image,) = (record.image for record in LabelledFolder(last).records)
    assert image.endswith(LabelledFolder(recorded).records[2].image)
    info, start = read_info(out), read_info(DEFAULT_ADAPTER)
    assert (info.name, info.base, info.grounding_head, info.reasons) == (
        "mine",
        start.base,
        start.grounding_head,
        start.reasons,
    )
    assert info.training["start"] == start.name and info.training["images"] == 2
    assert info.training["config"]["stages"][0]["num_samples"] == 3
    tuned, before = weights(out), weights(DEFAULT_ADAPTER)
    assert (out / GROUNDING_HEAD).read_bytes() == (DEFAULT_ADAPTER / GROUNDING_HEAD).read_bytes()
    moved = [float((tuned[k].float() - before[k].float()).abs().max()) for k in before if "lora_B" in k]
    size = max(float(v.abs().max()) for k, v in before.items() if "lora_B" in k)
    assert 0 < max(moved) < 0.1 * size  # it went on from there, and not far

    # the same command again trains nothing and ends with the same weights
    # nothing held out would be another run, and nothing is judged on what it was trained on
    assert "other val_" in train(*command, "--validate", shutil.copytree(recorded, tmp_path / "later"))[2]
    assert "3 of its 3 images are trained on too" in train(*command, "--validate", recorded)[2]
    assert train(*command)[0] == 0 and len(calls) == 4
    again = weights(out)
    assert all(torch.equal(tuned[k], again[k]) for k in tuned) and judged[1:] == judged[:1]

    # one that an earlier version began held nothing out, and goes on so; other data are another run
    begun = tmp_path / ".mine.run" / "begun.json"
    begun.write_text(json.dumps({k: v for k, v in json.loads(begun.read_text()).items() if k != "val_fraction"}))
    begun.parent.rename(tmp_path / "mine.run")
    annotations = recorded / "annotations.json"
    annotations.write_text(json.dumps(json.loads(annotations.read_text())[:2]))
    code, _, error = train(*command)
    assert code == 2 and "a run with other folders was begun there" in error

    engine = ProximityEngine.load("default", out, device="cpu", backend=BackendConfig("torch"))
    encoded = engine.encode_image(np.full((96, 128, 3), 90, np.uint8))
    assert 0 <= encoded.depths(["chair"])[0].depth <= 1


def test_the_configuration_that_is_bundled() -> None:
    config = read_config(CONFIG, RunConfig)
    assert [s.name for s in config.stages] == ["finetune"] and not config.torch_compile
    stage = config.stages[0]
    assert stage.recipe.perceive and stage.recipe.absent and stage.recipe.reason


def test_samples_are_shared_out_among_the_stages() -> None:
    config = RunConfig("x", stages=(StageConfig("a", 300), StageConfig("b", 100)))
    assert [s.num_samples for s in with_num_samples(config, 40).stages] == [30, 10]
    assert [s.num_samples for s in with_num_samples(config, 1).stages] == [1, 1]
    large = dataclasses.replace(config, stages=tuple(dataclasses.replace(s, batch_size=8) for s in config.stages))
    assert [s.batch_size for s in with_num_samples(large, 12).stages] == [8, 3]
    with pytest.raises(ValueError, match="--num-samples 0: expected at least 1"):
        with_num_samples(config, 0)


def test_what_cannot_be_done_is_one_line(blocks: Path, small: Path, tmp_path: Path, train: Train) -> None:
    def refusal(*arguments: Any, out: Path = tmp_path / "out", exit_code: int = 2) -> str:
        code, _, error = train("finetune", *arguments, "--out", out)
        (line,) = error.strip().splitlines()
        assert code == exit_code and line.startswith("proxqa: ")
        return line

    assert "has no annotations.json" in refusal(tmp_path / "nowhere")
    assert "nowhere" in refusal(blocks, "--start", tmp_path / "nowhere")
    assert "--num-samples 0" in refusal(blocks, "--num-samples", 0)
    assert "exists and is no adapter" in refusal(blocks, out=blocks)
    assert "is the adapter to start from" in refusal(blocks, out=DEFAULT_ADAPTER)
    small.write_text(SMALL + "lora: {rank: 4}\n")
    assert "rank and alpha are those of the start" in refusal(blocks, "--config", small)
    small.write_text("name: x")
    assert "has no stages" in refusal(blocks, "--config", small)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    for file in DEFAULT_ADAPTER.iterdir():
        (foreign / file.name).write_bytes(file.read_bytes())
    info = json.loads((foreign / "proxqa.json").read_text())
    (foreign / "proxqa.json").write_text(json.dumps({**info, "base": "another"}))
    assert "was made for base 'another'" in refusal(blocks, "--start", foreign, exit_code=1)
    assert "--val-fraction 1.0: expected a share" in refusal(blocks, "--val-fraction", 1)
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob("*out.run"))


def test_a_folder_without_objects_is_refused(tmp_path: Path, train: Train) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    bare = [{"image": f"{i}.png", "width": 9, "height": 9, "objects": []} for i in range(9)]
    (empty / "annotations.json").write_text(json.dumps(bare))
    code, _, error = train("finetune", empty, "--out", tmp_path / "out", "--device", "cpu")
    assert code == 2 and "not one labelled object" in error
    assert (
        "9 of 9 images have no boxes and no depth and are left out: 0.png, 1.png, 2.png" in error
        and "8.png" not in error
    )


def test_a_run_goes_on_with_less_at_once_in_memory(blocks: Path, tmp_path: Path) -> None:
    """A run that had too little memory is not another run."""
    stage = StageConfig("finetune", 8)
    for at_once in (None, 4, 1):
        config = RunConfig("mine", stages=(dataclasses.replace(stage, per_device_batch_size=at_once),))
        begin(tmp_path / "run", config, DEFAULT_ADAPTER, [blocks], 0.2)
    with pytest.raises(ValueError, match="a run with other config"):
        begin(tmp_path / "run", RunConfig("mine", stages=(stage, stage)), DEFAULT_ADAPTER, [blocks], 0.2)
