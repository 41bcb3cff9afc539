"""A whole small run: align, two stages, stop and resume, adapter out and into the engine."""

import json

import cv2
import numpy as np
import pytest
import torch

from proxqa_core.adapter import save
from proxqa_core.base_weights import base_identity
from proxqa_core.engine import ProximityEngine
from proxqa_core.model import NO_ADAPTER, load
from training.align import AlignConfig, digit_targets
from training.data import open_set
from training.instructions.build import Recipe
from training.run import AdapterInfo, RunConfig, main, read_config, run
from training.train import LoraSettings, StageConfig, Trainer


@pytest.fixture
def folder(tmp_path):
    """Four pictures of two coloured blocks, the lower one nearer or farther by turns."""
    place = tmp_path / "blocks"
    for name in ("images", "depth", "masks"):
        (place / name).mkdir(parents=True)
    records = []
    for i in range(4):
        image = np.full((96, 128, 3), 90, np.uint8)
        depth = np.full((96, 128), 9000, np.uint16)
        mask = np.zeros((96, 128), np.uint8)
        things = []
        for k, (name, box, metres) in enumerate(
            [("red block", (10, 50, 50, 90), 1.0 + i), ("blue block", (70, 10, 110, 50), 4.0 - i)]
        ):
            x1, y1, x2, y2 = box
            image[y1:y2, x1:x2] = (200, 30, 30) if k == 0 else (30, 30, 200)
            depth[y1:y2, x1:x2] = int(metres * 1000)
            mask[y1:y2, x1:x2] = k + 1
            relative = float(np.clip(1 - (1 / metres - 1 / 9) / (1 - 1 / 9), 0, 1))
            things.append(
                {"name": name, "box": box, "depth_m": metres, "depth": relative, "ref": name, "mask_id": k + 1}
            )
        cv2.imwrite(str(place / f"images/{i}.png"), image[:, :, ::-1])
        cv2.imwrite(str(place / f"depth/{i}.png"), depth)
        cv2.imwrite(str(place / f"masks/{i}.png"), mask)
        record = {"image": f"images/{i}.png", "width": 128, "height": 96, "objects": things}
        records.append(record | {"depth_map": f"depth/{i}.png", "mask_map": f"masks/{i}.png"})
    (place / "annotations.json").write_text(json.dumps(records))
    return place


CONFIG = RunConfig(
    "blocks",
    align=AlignConfig(epochs=2, batch=4),
    lora=LoraSettings(4, 8),
    stages=(
        StageConfig("perceive", 6, Recipe(perceive=2, absent=0), batch=2, row_tokens=192),
        StageConfig("reason", 2, Recipe(perceive=1, absent=0, reason=1, direct=1), batch=2, row_tokens=256),
    ),
    compiled=False,
)


def test_a_run_lowers_its_loss_resumes_and_gives_an_adapter_that_answers(folder, tmp_path):
    model = load("default", NO_ADAPTER, device="cpu", dtype="bfloat16")
    data = open_set(folder, model)
    assert len(data.samples) == 8 and data.names == ["blue block", "red block"]
    plain, mirrored = data.samples[:2]
    assert plain.cells.max() == 1 and np.array_equal(mirrored.cells, plain.cells[:, ::-1])
    out = tmp_path / "run"
    trainer = run(CONFIG, data, data, model, out)
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert {line["stage"] for line in lines} == {"align", "perceive", "reason"}
    weights = {k: v.clone() for k, v in trainer.llm.state_dict().items() if "lora_B" in k}
    assert any(v.abs().max() > 0 for v in weights.values())
    adapter = tmp_path / "adapter"
    save(adapter, AdapterInfo("blocks", base_identity()), trainer.projector.state_dict(), trainer.llm)

    # the same command again trains nothing and ends with the same weights
    again = run(CONFIG, data, None, load("default", NO_ADAPTER, device="cpu", dtype="bfloat16"), out)
    for name, value in again.llm.state_dict().items():
        if "lora_B" in name:
            assert torch.equal(value, weights[name])
    assert len((out / "log.jsonl").read_text().splitlines()) == len(lines)

    # trained and asked alike: the trainer's logits for a turn are those the engine reads
    engine = ProximityEngine.load("default", adapter, device="cpu", dtype="float32")
    view = engine.look(np.zeros((96, 128, 3), np.uint8))
    assert 0 <= view.depths(["red block"])[0].depth <= 1


def test_a_stopped_stage_goes_on_where_it_was(folder, tmp_path, monkeypatch):
    def trained(place, stop_after):
        model = load("default", NO_ADAPTER, device="cpu", dtype="bfloat16")
        trainer = Trainer(model, open_set(folder, model), CONFIG.lora, place, seed=3)
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


def test_what_is_trained_is_what_is_asked(folder):
    """The loss of a row equals the cross-entropy of each turn alone behind the image, as the engine runs it."""
    model = load("default", NO_ADAPTER, device="cpu", dtype="bfloat16")
    trainer = Trainer(model, open_set(folder, model), CONFIG.lora, folder / "run", seed=0)
    trainer.dtype = torch.float32
    model.llava.float()
    import random

    stage = StageConfig("perceive", 1, Recipe(perceive=0, absent=0, direct=2), row_tokens=256)
    row = trainer.row(trainer.data.samples[0], stage, random.Random(0))
    whole, _ = trainer.loss([(0, row)], stage)
    boxes = iter(row.boxes.split([s.count(model.prompter.image_token_id) for s in row.suffixes]))
    alone = []
    for suffix, target in zip(row.suffixes, row.targets, strict=True):
        single = type(row)([suffix], next(boxes), [target], [None])
        alone.append(trainer.loss([(0, single)], stage)[0])
    assert whole.item() == pytest.approx(sum(a.item() for a in alone) / len(alone), rel=1e-3)


def test_digit_targets_peak_at_the_digit_said():
    depth = torch.tensor([0.05, 0.32, 0.99])
    targets = digit_targets(depth)
    assert targets.argmax(-1).tolist() == [0, 3, 9] and torch.allclose(targets.sum(-1), torch.ones(3))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: x\nalign: {speed: 3}", "unknown \\['speed'\\]"),
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
    assert main([str(path), "--data", str(tmp_path), "--out", str(tmp_path / "o")]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
