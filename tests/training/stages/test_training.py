"""A whole small run: tower, two stages, stop and resume, adapter out and into the engine."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from proxqa_core.datasets.folder import LabelledFolder
from proxqa_core.engine import ProximityEngine
from proxqa_core.model.adapter import GROUNDING_HEAD, LORA, PROJECTOR, read_info
from proxqa_core.model.loading import NO_ADAPTER, load
from proxqa_core.vision.grounding_head import GroundingHead
from proxqa_training.instructions.build import Recipe
from proxqa_training.stages.data import open_set, pointing
from proxqa_training.stages.run import RunConfig, main, read_config, start_from
from proxqa_training.stages.trainer import LoraSettings, StageConfig, Trainer

CONFIG = RunConfig(
    "blocks",
    lora=LoraSettings(4, 8),
    stages=(
        StageConfig("perceive", 6, Recipe(perceive=2, absent=1, present=1), batch=2, row_tokens=192, photo_share=0.5),
        StageConfig("reason", 2, Recipe(perceive=1, absent=0, reason=1, direct=1), batch=2, row_tokens=256),
    ),
    compiled=False,
)


@pytest.fixture
def start(tmp_path):
    """What a tower's run leaves behind: a projector and a grounding head, here as they are drawn."""
    model = load("default", NO_ADAPTER, device="cpu", dtype="float32")
    place = tmp_path / "start"
    place.mkdir()
    torch.manual_seed(0)
    hidden = model.llava.config.vision_config.hidden_size // model.spatial_merge_size**2
    grounding_head = GroundingHead(hidden, model.llava.config.text_config.hidden_size)
    save_file({k: v.half() for k, v in grounding_head.state_dict().items()}, place / GROUNDING_HEAD)
    projector = model.llava.model.multi_modal_projector.state_dict()
    save_file({k: v.half().contiguous() for k, v in projector.items()}, place / PROJECTOR)
    return place


def test_a_run_resumes_and_gives_an_adapter_that_answers(blocks, photographs, start, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("proxqa_training.stages.run.read_config", lambda path: CONFIG)
    out, adapter = tmp_path / "run", tmp_path / "adapter"
    command = ["x.yaml", "--start", str(start), "--data", str(blocks), str(photographs), "--out", str(out)]
    assert main([*command, "--adapter", str(adapter)]) == 0, capsys.readouterr().err
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert {line["stage"] for line in lines} == {"perceive", "reason"}
    lora = load_file(adapter / LORA)
    assert any(v.abs().max() > 0 for k, v in lora.items() if "lora_B" in k)
    assert json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"] is None
    info = read_info(adapter)
    assert info.grounding_head and info.training["images"] == 6 and info.training["photographs"] == 2

    # the same command again trains nothing and ends with the same weights
    assert main([*command, "--adapter", str(tmp_path / "again")]) == 0
    again = load_file(tmp_path / "again" / LORA)
    assert all(torch.equal(lora[k], again[k]) for k in lora)
    assert len((out / "log.jsonl").read_text().splitlines()) == len(lines)

    view = ProximityEngine.load("default", adapter, device="cpu").encode_image(np.zeros((96, 128, 3), np.uint8))
    found = view.depths(["red block"])[0]
    assert 0 <= found.depth <= 1 and found.found_at is not None

    # an adapter is a start too
    model = load("default", NO_ADAPTER, device="cpu", dtype="float32")
    assert start_from(adapter, model) is not None


def test_samples_know_what_is_absent_and_are_mirrored(blocks, photographs, tmp_path):
    model = load("default", NO_ADAPTER, device="cpu", dtype="float32")
    data = open_set([blocks, photographs], model, tmp_path / "cache")
    assert len(data.samples) == 12 and [len(f) for f in data.features] == [8, 4]
    plain, mirrored = data.samples[:2]
    assert plain.objects[0].box.x1 == pytest.approx(1 - mirrored.objects[0].box.x2)
    assert plain.absent == ("cat", "dog") or set(plain.absent) >= {"cat", "dog"}
    photo = data.samples[8]
    assert [o.name for o in photo.objects] == ["dog"] and photo.objects[0].depth is None
    assert photo.absent == ("cat",)  # of its own classes; nothing is known of blocks
    assert np.array_equal(data[8], data.features[1][0])
    with pytest.raises(IndexError):
        data[12]
    side = model.patches_a_side
    seen, turned = (data.patch_colours(i).reshape(side, side, 3) for i in (0, 1))
    assert np.abs(seen[:, ::-1] - turned).max() < 0.02
    assert seen[round(side * 70 / 96), round(side * 30 / 128)] * 255 == pytest.approx([200, 30, 30], abs=2)
    again = open_set([blocks, photographs], model, tmp_path / "cache")
    assert np.array_equal(again[3], data[3]) and np.array_equal(again.patch_colours(3), data.patch_colours(3))


def test_training_points_where_the_engine_does(blocks, tmp_path, exact):
    data = open_set(blocks, exact.model, tmp_path / "cache")
    image = LabelledFolder(blocks).records[0].load_image()
    view, words = exact.encode_image(image), exact.model.llava.get_input_embeddings().weight.float()
    seen = (torch.from_numpy(part) for part in (data[0], data.patch_colours(0)))
    point = pointing(exact.model.grounding_head, words, exact.model, *seen)
    for phrase in ("block", "red block", "blue block", "leftmost block", "rightmost blue block"):
        expected = view.depths([phrase])[0].found_at
        found = exact.model.preprocessing.in_pixels(point(phrase), image.shape[1], image.shape[0])
        assert found.xyxy == pytest.approx(expected.xyxy, abs=1.0)


def test_a_stopped_stage_goes_on_where_it_was(blocks, tmp_path, monkeypatch):
    def trained(place, stop_after):
        model = load("default", NO_ADAPTER, device="cpu", dtype="float32")
        trainer = Trainer(model, open_set(blocks, model, tmp_path / "cache"), CONFIG.lora, place, seed=3)
        if stop_after:
            calls = []
            real = trainer.loss

            def loss(*args):
                calls.append(1)
                if len(calls) > stop_after:
                    raise KeyboardInterrupt
                return real(*args)

            monkeypatch.setattr(trainer, "loss", loss)
            with pytest.raises(KeyboardInterrupt):
                trainer.run(CONFIG.stages[0], lambda **_: None, minutes_between_checkpoints=0)
            return None
        trainer.run(CONFIG.stages[0], lambda **_: None)
        return [p.detach().float() for p in trainer.lora]

    trained(tmp_path / "broken", stop_after=2)
    resumed, unbroken = trained(tmp_path / "broken", 0), trained(tmp_path / "whole", 0)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(resumed, unbroken, strict=True))


def test_what_is_trained_is_what_is_asked(blocks, tmp_path):
    """The loss of a row equals the cross-entropy of each turn alone behind the image, as the engine runs it."""
    model = load("default", NO_ADAPTER, device="cpu", dtype="float32")
    trainer = Trainer(model, open_set(blocks, model, tmp_path / "cache"), CONFIG.lora, tmp_path / "run", seed=0)
    trainer.dtype = torch.float32
    model.llava.float()
    import random

    stage = StageConfig("perceive", 1, Recipe(perceive=0, absent=0, direct=2), row_tokens=256)
    row = trainer.row(0, stage, random.Random(0))
    whole, _ = trainer.loss([(0, row)], stage)
    boxes = iter(row.boxes.split([s.count(model.prompter.image_token_id) for s in row.suffixes]))
    alone = []
    for suffix, target in zip(row.suffixes, row.targets, strict=True):
        single = type(row)([suffix], next(boxes), [target], [None])
        alone.append(trainer.loss([(0, single)], stage)[0])
    assert whole.item() == pytest.approx(sum(a.item() for a in alone) / len(alone), rel=1e-3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: x\nalign: {speed: 3}", "unknown \\['align'\\]"),
        ("name: x\nstages: [{name: a, images: 0}]", "images is 0"),
        ("name: x\nstages: [{name: a, images: 1, recipe: {perceive: -1}}]", "perceive is -1"),
        ("name: x\nlora: 3", "expected a mapping"),
    ],
)
def test_bad_configurations_are_one_line(tmp_path, text, said, capsys):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=said):
        read_config(path)
    command = [str(path), "--start", str(tmp_path), "--data", str(tmp_path), "--out", str(tmp_path / "o")]
    assert main(command) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
