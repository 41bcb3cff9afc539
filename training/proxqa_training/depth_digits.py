"""Relative depth as the first digit that a language model would write: soft targets, and the depth that logits mean.

Promises: near misses cost less than far ones, as the mass of a target lies around the true value.
"""

from __future__ import annotations

import torch

NUM_BINS = 10
"""Tenths of the relative depth, one a digit."""


def soft_digits(depth: torch.Tensor, std: float = 0.04) -> torch.Tensor:
    """Soft first digits: a normal distribution around the true depth, cut into tenths.

    Args:
        depth: Relative depths [...], in [0, 1].
        std: Standard deviation of the normal distribution, in relative depth.

    Returns:
        Probabilities [..., 10] that sum to 1.
    """
    edges = torch.linspace(0, 1, NUM_BINS + 1, device=depth.device)
    below = torch.special.ndtr((edges - depth[..., None]) / std)
    mass = (below[..., 1:] - below[..., :-1]).clamp_min(0) + 1e-6
    return mass / mass.sum(-1, keepdim=True)


def expected_depth(logits: torch.Tensor) -> torch.Tensor:
    """The mean of a distribution over tenths.

    Args:
        logits: [..., 10].

    Returns:
        Relative depths [...], in (0, 1).
    """
    return logits.float().softmax(-1) @ (torch.arange(NUM_BINS, device=logits.device) / NUM_BINS + 0.05)
