"""Soft digits and the depth that they mean."""

from __future__ import annotations

import torch

from proxqa_training.depth_digits import expected_depth, soft_digits


def test_digits() -> None:
    depth = torch.tensor([0.05, 0.32, 0.99])
    targets = soft_digits(depth)
    assert targets.argmax(-1).tolist() == [0, 3, 9] and torch.allclose(targets.sum(-1), torch.ones(3))
    assert torch.allclose(expected_depth(targets.log()), depth, atol=0.06)
