"""Where a box is, as something that is added to its region token.

Promises: a model that has a `BoxEmbedding` learns where a region token's box is without coordinates in words, which
take thirteen tokens for every object. Knows nothing of pixels, of prompts or of the tower.

Source: Fourier features of coordinates as of Segment Anything's boxes, Kirillov et al. 2023, arXiv 2304.02643.
"""

from __future__ import annotations

import math

import torch
from torch import nn

OCTAVES = 6
"""Waves of each coordinate: 1, 2, 4 … half waves across the image."""


class BoxEmbedding(nn.Module):
    """A small network from a box to an embedding. New, it gives 0: a region token is then as if there were none.

    Args:
        words: Channels of a word embedding.
        inner: Channels of the hidden layer.
    """

    frequencies: torch.Tensor

    def __init__(self, words: int, inner: int = 96):
        super().__init__()
        self.register_buffer("frequencies", math.pi * 2.0 ** torch.arange(OCTAVES), persistent=False)
        self.inner = nn.Linear(4 * 2 * OCTAVES, inner)
        self.out = nn.Linear(inner, words)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    @classmethod
    def from_weights(cls, weights: dict[str, torch.Tensor]) -> BoxEmbedding:
        """A box embedding of the sizes that its weights have.

        Args:
            weights: A whole state dict.

        Raises:
            KeyError: A weight is missing.
            RuntimeError: A weight has another shape or is not known.
        """
        embedding = cls(*weights["out.weight"].shape)
        embedding.load_state_dict(weights)
        return embedding

    def forward(self, boxes: torch.Tensor) -> torch.Tensor:
        """Boxes [n, 4] as (x1, y1, x2, y2) in [0, 1] of the square input → [n, words]."""
        # 1. [n, 4, OCTAVES] angles; 2. their sines and cosines, [n, 8 · OCTAVES]; 3. two layers.
        angles = boxes[..., None] * self.frequencies
        waves = torch.cat([angles.sin(), angles.cos()], -1).flatten(1)
        embedded: torch.Tensor = self.out(nn.functional.gelu(self.inner(waves)))
        return embedded
