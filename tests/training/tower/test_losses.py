"""Targets of words, and the loss of boxes."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from proxqa_core.model.loading import LoadedModel
from proxqa_training.labels import read_images
from proxqa_training.tower.config import TowerConfig
from proxqa_training.tower.losses import giou_loss, rarity_weights
from proxqa_training.tower.run import TowerRun
from proxqa_training.tower.words import means, unsure

CONFIG = TowerConfig(start="current", num_samples=32, batch_size=4, unfrozen_blocks=1, val_fraction=0)


def test_a_patch_shows_what_any_of_its_objects_is_called(blocks: Path, fresh_model: Callable[[], LoadedModel]) -> None:
    run = TowerRun(fresh_model(), [blocks], CONFIG, blocks / "run")
    samples = [run.dataset.sample(image, None) for image in run.rendered]
    right, wrong = run.losses.word_targets(run.collate(samples, random.Random(0)), len(samples))
    for i, sample in enumerate(samples):
        for w, word in enumerate(run.vocabulary.words):
            called = [m for m, n in zip(sample.masks, sample.names, strict=True) if means(word, n)]
            none = torch.zeros(run.dataset.side**2)
            cover = torch.stack(called).amax(0) if called else none
            may = [m for m, n in zip(sample.masks, sample.names, strict=True) if unsure(word, n)]
            doubt = torch.stack(may).amax(0) > 0.05 if may else none.bool()
            assert torch.equal(right[i, :, w].bool(), cover > 0.5)
            assert torch.equal(wrong[i, :, w].bool(), (cover <= 0.05) & ~doubt)


def test_boxes() -> None:
    same, apart = torch.tensor([[0.1, 0.1, 0.4, 0.4]]), torch.tensor([[0.6, 0.6, 0.9, 0.9]])
    assert giou_loss(same, same).item() == pytest.approx(0, abs=1e-5) and giou_loss(same, apart).item() > 1


def test_rare_labels_count_more(blocks: Path, photographs: Path) -> None:
    images = [*read_images(blocks), *read_images(photographs)]  # 4, 4, 1 and 1 objects
    weights = rarity_weights(["blue block", "dog", "unknown"], images)
    assert weights == [1.0, 2.0, 1.0]
