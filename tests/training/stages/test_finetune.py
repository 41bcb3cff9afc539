"""A robot's own data: from a bag to an adapter, and back when it was stopped."""

import functools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from proxqa_core.datasets.record import Settings, record
from proxqa_core.engine import ProximityEngine
from proxqa_core.model.adapter import GROUNDING_HEAD, LORA, PROJECTOR, read_info, read_lora
from proxqa_core.model.loading import DEFAULT_ADAPTER, NO_ADAPTER, load
from proxqa_training.stages.data import open_set
from proxqa_training.stages.finetune import CONFIG, main, with_images
from proxqa_training.stages.run import RunConfig, read_config
from proxqa_training.stages.trainer import StageConfig, Trainer

BAG = Path(__file__).resolve().parents[3] / "demo" / "bag"
SMALL = """
name: small
stages:
  - {name: finetune, images: 4, batch: 1, row_tokens: 208, recipe: {perceive: 2, absent: 1, reason: 1}}
compiled: false
"""


@pytest.fixture
def recorded(tmp_path):
    """Three images of the demo's bag."""
    record(BAG, tmp_path / "recorded", Settings(every_seconds=5, complete=True))
    return tmp_path / "recorded"


@pytest.fixture
def small(tmp_path):
    file = tmp_path / "small.yaml"
    file.write_text(SMALL)
    return file


def weights(adapter):
    return {k: v for name in (LORA, PROJECTOR) for k, v in load_file(adapter / name).items()}


def test_from_a_bag_to_an_adapter_that_answers(recorded, small, tmp_path, monkeypatch, capsys):
    out = tmp_path / "mine"
    command = [str(recorded), "--out", str(out), "--config", str(small), "--images", "3"]
    real = Trainer.loss

    def stops(self, *args):
        stops.calls += 1
        if stops.calls == 2:
            raise KeyboardInterrupt
        return real(self, *args)

    stops.calls = 0
    monkeypatch.setattr(Trainer, "run", functools.partialmethod(Trainer.run, minutes_between_checkpoints=0))
    monkeypatch.setattr(Trainer, "loss", stops)
    with pytest.raises(KeyboardInterrupt):
        main(command)
    assert not out.exists()
    assert main(command) == 0, capsys.readouterr().err
    assert stops.calls == 4  # the step that was stopped and the two after the first
    assert "3 images, 2" in capsys.readouterr().err

    info, start = read_info(out), read_info(DEFAULT_ADAPTER)
    assert (info.name, info.base, info.grounding_head, info.reasons) == (
        "mine",
        start.base,
        start.grounding_head,
        start.reasons,
    )
    assert info.training["start"] == start.name and info.training["images"] == 3
    assert info.training["config"]["stages"][0]["images"] == 3
    tuned, before = weights(out), weights(DEFAULT_ADAPTER)
    assert (out / GROUNDING_HEAD).read_bytes() == (DEFAULT_ADAPTER / GROUNDING_HEAD).read_bytes()
    moved = [float((tuned[k].float() - before[k].float()).abs().max()) for k in before if "lora_B" in k]
    size = max(float(v.abs().max()) for k, v in before.items() if "lora_B" in k)
    assert 0 < max(moved) < 0.1 * size  # it went on from there, and not far

    # the same command again trains nothing and ends with the same weights
    assert main(command) == 0 and stops.calls == 4
    again = weights(out)
    assert all(torch.equal(tuned[k], again[k]) for k in tuned)

    # other data are another run
    annotations = recorded / "annotations.json"
    annotations.write_text(json.dumps(json.loads(annotations.read_text())[:2]))
    capsys.readouterr()
    assert main(command) == 2
    assert "a run with other folders was begun there" in capsys.readouterr().err

    view = ProximityEngine.load("default", out, device="cpu").encode_image(np.full((96, 128, 3), 90, np.uint8))
    assert 0 <= view.depths(["chair"])[0].depth <= 1


def test_training_begins_with_the_weights_of_the_start(blocks, tmp_path):
    model = load("default", NO_ADAPTER, device="cpu", dtype="float32")
    lora = read_lora(DEFAULT_ADAPTER)
    data = open_set(blocks, model, tmp_path / "cache")
    trainer = Trainer(model, data, lora, tmp_path / "run", seed=0)
    begun = dict(trainer.llm.named_parameters())
    assert len(lora.weights) == len(trainer.lora)
    for name, value in lora.weights.items():
        assert torch.equal(begun[name.replace(".weight", ".default.weight")].float(), value.to(trainer.dtype).float())
    assert trainer.llm.peft_config["default"].r == lora.rank
    assert all(p.requires_grad for p in trainer.lora)


def test_folders_of_one_name_have_features_of_their_own(blocks, tmp_path):
    import shutil

    import cv2

    other = tmp_path / "other" / "blocks"
    shutil.copytree(blocks, other)
    for file in (other / "images").iterdir():
        cv2.imwrite(str(file), np.full((96, 128, 3), 200, np.uint8))
    model = load("default", NO_ADAPTER, device="cpu", dtype="float32")
    data = open_set([blocks, other], model, tmp_path / "cache")
    assert len(data.samples) == 16 and not np.array_equal(data[0], data[8])


def test_the_configuration_that_comes_with_it():
    config = read_config(CONFIG)
    assert [s.name for s in config.stages] == ["finetune"] and not config.compiled
    stage = config.stages[0]
    assert stage.recipe.perceive and stage.recipe.absent and stage.recipe.reason


def test_images_are_shared_out_among_the_stages():
    config = RunConfig("x", stages=(StageConfig("a", 300), StageConfig("b", 100)))
    assert [s.images for s in with_images(config, 40).stages] == [30, 10]
    assert [s.images for s in with_images(config, 1).stages] == [1, 1]
    with pytest.raises(ValueError, match="--images 0: expected at least 1"):
        with_images(config, 0)


def test_what_cannot_be_done_is_one_line(blocks, small, tmp_path, capsys):
    def said(*arguments, out=tmp_path / "out"):
        assert main([*map(str, arguments), "--out", str(out)]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert line.startswith("finetune: ")
        return line

    assert "has no annotations.json" in said(tmp_path / "nowhere")
    assert "does not exist" in said(blocks, "--start", tmp_path / "nowhere")
    assert "--images 0" in said(blocks, "--images", 0)
    assert "exists and is no adapter" in said(blocks, out=blocks)
    small.write_text(SMALL + "lora: {rank: 4}\n")
    assert "rank and alpha are those of the start" in said(blocks, "--config", small)
    small.write_text("name: x")
    assert "has no stages" in said(blocks, "--config", small)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    for file in DEFAULT_ADAPTER.iterdir():
        (foreign / file.name).write_bytes(file.read_bytes())
    info = json.loads((foreign / "proxqa.json").read_text())
    (foreign / "proxqa.json").write_text(json.dumps({**info, "base": "another"}))
    assert "was made for base 'another'" in said(blocks, "--start", foreign)
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.run").exists()


def test_a_folder_without_objects_is_refused(tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "annotations.json").write_text("[]")
    assert main([str(empty), "--out", str(tmp_path / "out")]) == 2
    assert "not one labelled object" in capsys.readouterr().err
