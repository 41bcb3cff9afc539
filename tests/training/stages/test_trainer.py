"""Stop and resume; what is trained is what is asked."""

from __future__ import annotations

import dataclasses
import json
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from proxqa_core.language.templates import BoxForm
from proxqa_core.model.adapter import read_lora
from proxqa_core.model.loading import DEFAULT_ADAPTER, LoadedModel
from proxqa_core.vision.box_embedding import BoxEmbedding
from proxqa_training.instructions.build import Recipe
from proxqa_training.stages.config import LoraSettings, StageConfig
from proxqa_training.stages.data import open_dataset
from proxqa_training.stages.trainer import MasterAdamW, PackedSample, Trainer

LORA = LoraSettings(4, 8)
PERCEIVE = StageConfig(
    "perceive", 2, Recipe(perceive=2, absent=1, present=1), batch_size=1, max_seq_len=192, real_fraction=0.5
)
Fresh = Callable[[], LoadedModel]


def no_metrics(**_: Any) -> None:
    pass


def test_a_stopped_stage_goes_on_where_it_was(
    blocks: Path, tmp_path: Path, feature_cache: Path, monkeypatch: pytest.MonkeyPatch, fresh_model: Fresh
) -> None:
    def trainer(place: Path) -> Trainer:
        model = fresh_model()
        return Trainer(model, open_dataset(blocks, model, feature_cache), LORA, place, seed=3)

    def trained(place: Path) -> list[torch.Tensor]:
        whole = trainer(place)
        whole.run(PERCEIVE, no_metrics)
        return [p.detach().float() for p in whole.lora]

    def interrupted(place: Path, stop_after: int) -> None:
        stopped, calls = trainer(place), []
        real = stopped.loss

        def loss(*args: Any) -> Any:
            calls.append(1)
            if len(calls) > stop_after:
                raise KeyboardInterrupt
            return real(*args)

        monkeypatch.setattr(stopped, "loss", loss)
        with pytest.raises(KeyboardInterrupt):
            stopped.run(PERCEIVE, no_metrics, minutes_between_checkpoints=0)

    interrupted(tmp_path / "broken", 1)
    resumed, unbroken = trained(tmp_path / "broken"), trained(tmp_path / "whole")
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(resumed, unbroken, strict=True))


def test_ctrl_c_saves_after_the_step(
    blocks: Path,
    tmp_path: Path,
    feature_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    fresh_model: Fresh,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def trainer() -> Trainer:
        model = fresh_model()
        return Trainer(model, open_dataset(blocks, model, feature_cache), LORA, tmp_path / "run", seed=3)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background process may ignore it
    stopped = trainer()
    real = stopped.loss

    def loss(*args: Any) -> Any:
        signal.raise_signal(signal.SIGINT)  # in the middle of a step
        return real(*args)

    monkeypatch.setattr(stopped, "loss", loss)
    with caplog.at_level("INFO"):
        with pytest.raises(KeyboardInterrupt):
            stopped.run(PERCEIVE, no_metrics)
        assert "saved after step 1" in caplog.text
        trainer().run(PERCEIVE, no_metrics)
    assert "resumed at step 1" in caplog.text
    assert signal.signal(signal.SIGINT, before) is signal.default_int_handler


@torch.no_grad()
def test_what_is_trained_is_what_is_asked(
    blocks: Path, tmp_path: Path, feature_cache: Path, fresh_model: Fresh
) -> None:
    """The loss of a sample equals the cross-entropy of each turn alone behind the image, as the engine runs it."""
    model = fresh_model()
    trainer = Trainer(model, open_dataset(blocks, model, feature_cache), LORA, tmp_path / "run", seed=0)
    trainer.dtype = torch.float32
    model.llava.float()
    stage = StageConfig("perceive", 1, Recipe(perceive=0, absent=0, direct=2), max_seq_len=256)
    sample = trainer.pack_sample(0, stage, random.Random(0))
    whole, _ = trainer.loss([(0, sample)], stage)
    boxes = iter(sample.boxes.split([s.count(model.prompter.image_token_id) for s in sample.suffixes]))
    alone = []
    for suffix, target in zip(sample.suffixes, sample.targets, strict=True):
        single = PackedSample([suffix], next(boxes), [target], [None], [None])
        alone.append(trainer.loss([(0, single)], stage)[0])
    assert whole.item() == pytest.approx(sum(a.item() for a in alone) / len(alone), rel=1e-3)

    # an image of which nothing is asked beside it changes nothing
    empty = PackedSample([], torch.zeros(0, 4), [], [], [])
    assert trainer.loss([(0, sample), (1, empty)], stage)[0].item() == pytest.approx(whole.item(), rel=1e-3)


def test_parts_of_a_step_train_what_the_whole_step_does(
    blocks: Path, tmp_path: Path, feature_cache: Path, fresh_model: Fresh
) -> None:
    """Of three images that are asked unlike things: a mean of their means would be another."""
    model = fresh_model()
    data = open_dataset(blocks, model, feature_cache)
    trainer = Trainer(model, data, LORA, tmp_path / "run", seed=0, dtype="float32")
    whole = StageConfig("perceive", 3, batch_size=3, max_seq_len=192, real_fraction=0, order_weight=0.5)
    batch = []
    for i, counts in enumerate(({"perceive": 3}, {"perceive": 2, "direct": 1}, {"direct": 3})):
        asked = Recipe(**({"perceive": 0, "absent": 0, "box_fraction": 1.0} | counts))
        batch.append((i, trainer.pack_sample(i, dataclasses.replace(whole, recipe=asked), random.Random(i))))

    def steps(at_once: int | None) -> tuple[list[torch.Tensor], list[torch.Tensor], dict[str, float]]:
        optimizer = MasterAdamW([(trainer.lora, 2e-3), (trainer.beside, 2e-3)])
        begun = [m.clone() for m in optimizer.masters]
        stage = dataclasses.replace(whole, per_device_batch_size=at_once)
        figures = trainer.backward(batch, stage, optimizer)
        gradients = [m.grad.clone() for m in optimizer.masters if m.grad is not None]
        optimizer.step(1.0)
        moved = [m - b for m, b in zip(optimizer.masters, begun, strict=True)]
        for master, before in zip(optimizer.masters, begun, strict=True):
            master.copy_(before)
        optimizer.write_back()
        return gradients, moved, figures

    gradients, moved, figures = steps(None)
    assert {"mae", "choice", "order", "loss"} == figures.keys()
    others, theirs, same = steps(2)
    assert same == pytest.approx(figures, rel=1e-4)
    for one, other, within in ((gradients, others, 2e-3), (moved, theirs, 2e-2)):  # AdamW steps by signs at first
        apart = torch.cat([(a - b).flatten() for a, b in zip(one, other, strict=True)]).norm()
        assert apart < within * torch.cat([a.flatten() for a in one]).norm()


def test_a_step_of_which_nothing_is_asked_changes_nothing(
    blocks: Path, tmp_path: Path, feature_cache: Path, fresh_model: Fresh
) -> None:
    model = fresh_model()
    trainer = Trainer(model, open_dataset(blocks, model, feature_cache), LORA, tmp_path / "run", seed=0)
    optimizer = MasterAdamW([(trainer.lora, 2e-3), (trainer.beside, 2e-3)])
    before = [m.clone() for m in optimizer.masters]
    empty = PackedSample([], torch.zeros(0, 4), [], [], [])
    assert trainer.backward([(0, empty)], PERCEIVE, optimizer) == {"loss": 0.0}  # not 0 / 0
    optimizer.step(1.0)
    assert all(torch.equal(a, b) for a, b in zip(optimizer.masters, before, strict=True))


def test_training_begins_with_the_weights_of_the_start(
    blocks: Path, tmp_path: Path, feature_cache: Path, fresh_model: Fresh
) -> None:
    model, lora = fresh_model(), read_lora(DEFAULT_ADAPTER)
    trainer = Trainer(model, open_dataset(blocks, model, feature_cache), lora, tmp_path / "run", seed=0)
    begun = dict(trainer.llm.named_parameters())
    assert len(lora.weights) == len(trainer.lora)
    for name, value in lora.weights.items():
        assert torch.equal(begun[name.replace(".weight", ".default.weight")].float(), value.to(trainer.dtype).float())
    assert trainer.llm.peft_config["default"].r == lora.rank
    assert all(p.requires_grad for p in trainer.lora)


def test_things_in_the_wrong_order_cost_more(
    blocks: Path, tmp_path: Path, feature_cache: Path, fresh_model: Fresh
) -> None:
    """Where only distances are known, the order alone teaches: it falls with every step."""
    records = json.loads((blocks / "annotations.json").read_text())
    for record in records:
        del record["depth_map"], record["mask_map"]
        for thing in record["objects"]:
            del thing["depth"]
    (blocks / "annotations.json").write_text(json.dumps(records))
    model = fresh_model()
    data = open_dataset(blocks, model, feature_cache)
    trainer = Trainer(
        model,
        data,
        LORA,
        tmp_path / "run",
        seed=0,
        box_embedding=BoxEmbedding(model.spec.word),
        box_form=BoxForm(coordinates=False),
    )
    assert trainer.measured == trainer.measured_photos and not trainer.renders
    recipe = Recipe(perceive=4, absent=0, box_fraction=1.0)
    stage = StageConfig("perceive", 4, recipe, max_seq_len=192, real_fraction=0, order_weight=1.0, batch_size=2)
    optimizer = MasterAdamW([(trainer.lora, 2e-3), (trainer.beside, 2e-3)])
    losses = []
    for _ in range(4):
        loss, figures = trainer.loss(trainer.batch(stage, 0), stage)
        loss.backward()
        optimizer.step(1.0)
        losses.append(figures["loss"])
        assert 0 <= figures["order"] <= 1
    assert losses[-1] < 0.9 * losses[0], losses
    assert trainer.box_embedding is not None and trainer.box_embedding.out.weight.abs().max() > 0
