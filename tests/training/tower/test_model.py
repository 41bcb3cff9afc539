"""Regions are pooled as the engine pools them."""

from __future__ import annotations

import torch

from proxqa_core.vision.grid import merge_grid
from proxqa_core.vision.regions import region_tokens
from proxqa_training.tower.model import region_pool


def test_regions_are_those_of_the_engine() -> None:
    grid = torch.randn(2, 16, 16, 5)
    boxes = torch.tensor([[0.1, 0.2, 0.5, 0.4], [0.0, 0.0, 1.0, 1.0]])
    pooled = region_pool(grid, boxes, 2)
    for i in range(2):
        tokens = merge_grid(grid[i].reshape(1, 256, 5), 2)[0]
        assert torch.allclose(region_tokens(tokens, boxes[i : i + 1], 2)[0], pooled[i], atol=1e-5)
