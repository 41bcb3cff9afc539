"""Stop and resume; what is trained is what is asked."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from proxqa_core.model.adapter import read_lora
from proxqa_core.model.loading import DEFAULT_ADAPTER, LoadedModel
from proxqa_training.instructions.build import Recipe
from proxqa_training.stages.config import LoraSettings, StageConfig
from proxqa_training.stages.data import open_dataset
from proxqa_training.stages.trainer import PackedSample, Trainer

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
