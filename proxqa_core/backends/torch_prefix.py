"""A prefix that PyTorch has read.

Promises: keys and values that nobody changes. Knows nothing of what made them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, eq=False)
class TorchPrefix:
    """Keys and values of a prefix, never changed.

    Attributes:
        layers: One pair (keys, values) per layer, each [1, heads, length, head size].
        length: Tokens in the prefix.
    """

    layers: tuple[tuple[torch.Tensor, torch.Tensor], ...]
    length: int

    def first(self, length: int) -> TorchPrefix:
        """Its first tokens alone, sharing their memory."""
        return TorchPrefix(tuple((k[:, :, :length], v[:, :, :length]) for k, v in self.layers), length)
