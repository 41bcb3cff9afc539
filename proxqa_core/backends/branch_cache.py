"""What PyTorch's language model attends to in a pass over branches: a cache of transformers, slow to import.

Promises: prefixes are never changed, and copied for one layer at a time. Knows nothing of what branches are for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache

from proxqa_core.backends.torch_prefix import TorchPrefix


class BranchCache(DynamicCache):
    """What a pass over several branches attends to: their prefixes, and in each layer what the pass itself adds.

    Only one layer's copy of the prefixes exists at a time, so that many branches of a long prefix fit into memory.

    Args:
        prefixes: Of every branch; each is padded at its end to the longest.
        keep: Whether to keep what the pass adds.

    Attributes:
        own: Keys and values [branches, heads, longest, head size] that the pass added, layer by layer, where kept.
    """

    def __init__(self, prefixes: Sequence[TorchPrefix | None], keep: bool):
        super().__init__()
        self._prefixes, self._keep = prefixes, keep
        self._longest = max((p for p in prefixes if p is not None), key=lambda p: p.length, default=None)
        self.own: list[tuple[torch.Tensor, torch.Tensor]] = []

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens of the longest prefix."""
        return 0 if self._longest is None else self._longest.length

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """All that a layer attends to: the prefixes' keys and values, then the given ones."""
        if self._keep:
            self.own.append((key_states, value_states))
        if self._longest is None:
            return key_states, value_states
        keys, values = (self._before(layer_idx, which) for which in (0, 1))
        return torch.cat([keys, key_states], dim=2), torch.cat([values, value_states], dim=2)

    def _before(self, layer: int, which: int) -> torch.Tensor:
        """Keys (which = 0) or values (1) of a layer of all prefixes, [branches, heads, longest, head size]."""
        assert self._longest is not None
        like = self._longest.layers[layer][which]
        if all(p is self._longest for p in self._prefixes):
            return like.expand(len(self._prefixes), -1, -1, -1)
        joint = like.new_zeros(len(self._prefixes), *like.shape[1:])
        for index, prefix in enumerate(self._prefixes):
            if prefix is not None:
                joint[index, :, : prefix.length] = prefix.layers[layer][which][0]
        return joint
