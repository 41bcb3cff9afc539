"""What is drawn is true."""

from __future__ import annotations

import random
from pathlib import Path

import torch

from proxqa_core.model.loading import LoadedModel
from proxqa_training.labels import read_images
from proxqa_training.tower.data import TowerDataset


def test_drawn_views_are_true(blocks: Path, photographs: Path, pristine: LoadedModel) -> None:
    dataset = TowerDataset(pristine, 0.6)
    size, side = dataset.size, dataset.side
    for image in (*read_images(blocks), *read_images(photographs)):
        for seed in (None, *range(12)):
            sample = dataset.sample(image, None if seed is None else random.Random(seed))
            assert sample.pixels.shape == (3, size, size) and sample.depth.shape == (side, side)
            assert len(sample.names) == len(sample.boxes) == len(sample.depths) == len(sample.masks)
            for name, box, cover in zip(sample.names, sample.boxes, sample.masks, strict=True):
                x1, y1, x2, y2 = box.tolist()
                assert 0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1
                rows, columns = (cover.reshape(side, side) > 0.5).nonzero(as_tuple=True)
                assert columns.min() / side >= x1 - 0.07 and (columns.max() + 1) / side <= x2 + 0.07
                assert rows.min() / side >= y1 - 0.07 and (rows.max() + 1) / side <= y2 + 0.07
                inside = sample.pixels[:, round(size * (y1 + y2) / 2), round(size * (x1 + x2) / 2)]
                if name == "red block" and seed is None:
                    assert inside[0] > inside[2]
            known = torch.isfinite(sample.depth)
            assert bool(known.all()) == image.rendered
            if image.rendered:
                assert float(sample.depth.min()) >= 0 and float(sample.depth.max()) <= 1
