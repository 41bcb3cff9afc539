"""One prefix, many branches: the language model reads the image once and every question from there.

Promises: `run_branches` gives each branch the hidden states that it would have alone after the prefix; branches do not
see one another, and the tails of a branch (the leaves of the digit tree) do not see one another. All branches of
a request are packed into one row behind one copy of the prefix's keys and values (tree attention, as in SpecInfer,
Miao et al. 2024), so that nothing is repeated per branch. Knows nothing of words or of images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

MAX_PACKED = 768
"""Most tokens packed into one pass: attention grows with the square of it, so longer requests are cut into several."""


@dataclass(frozen=True)
class Prefix:
    """Keys and values of the shared prefix, one pair [1, heads, length, size] per layer; never changed."""

    layers: tuple[tuple[torch.Tensor, torch.Tensor], ...]
    length: int

    def cache(self) -> DynamicCache:
        """A cache to continue from; growing it leaves the prefix as it is (appending makes new tensors)."""
        cache = DynamicCache()
        for index, (keys, values) in enumerate(self.layers):
            cache.update(keys, values, index)
        return cache


@dataclass(frozen=True)
class Branch:
    """One continuation of the prefix: embeddings [tokens, hidden], then tails [tails, hidden] side by side after it."""

    embeddings: torch.Tensor
    tails: torch.Tensor | None = None

    @property
    def tokens(self) -> int:
        return len(self.embeddings)

    @property
    def size(self) -> int:
        return self.tokens + (0 if self.tails is None else len(self.tails))


@torch.inference_mode()
def run_prefix(language_model: Any, embeddings: torch.Tensor) -> Prefix:
    """Read the prefix's embeddings [length, hidden] once."""
    cache = DynamicCache()
    language_model(inputs_embeds=embeddings[None], past_key_values=cache, use_cache=True)
    layers = tuple((layer.keys, layer.values) for layer in cache.layers)
    return Prefix(layers, len(embeddings))


def pack(sizes: Sequence[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Lay branches of (tokens, tails) side by side in one row.

    Returns positions [n], counted from the end of the prefix, and allowed [n, n]: whether row may look at column.
    """
    branch, position, tail = [], [], []
    for index, (tokens, tails) in enumerate(sizes):
        branch += [index] * (tokens + tails)
        position += [*range(tokens), *[tokens] * tails]
        tail += [*[-1] * tokens, *range(tails)]
    b, t = np.asarray(branch), np.asarray(tail)
    order = np.arange(len(b))
    allowed = (b[:, None] == b[None]) & (order[None] <= order[:, None]) & ((t[None] < 0) | (t[None] == t[:, None]))
    return np.asarray(position), allowed


@torch.inference_mode()
def run_branches(language_model: Any, prefix: Prefix, branches: Sequence[Branch]) -> Iterator[torch.Tensor]:
    """Hidden states after the last layer's norm, [branch.size, hidden], for every branch in order."""
    for chunk in _chunks(branches):
        rows = torch.cat([p for b in chunk for p in ((b.embeddings,) if b.tails is None else (b.embeddings, b.tails))])
        position, allowed = pack([(b.tokens, b.size - b.tokens) for b in chunk])
        mask = torch.zeros(1, 1, len(rows), prefix.length + len(rows), dtype=rows.dtype, device=rows.device)
        blocked = torch.from_numpy(~allowed).to(rows.device)
        mask[0, 0, :, prefix.length :].masked_fill_(blocked, torch.finfo(rows.dtype).min)
        out = language_model(
            inputs_embeds=rows[None],
            attention_mask=mask,
            position_ids=torch.from_numpy(position + prefix.length)[None].to(rows.device),
            past_key_values=prefix.cache(),
            use_cache=True,
        ).last_hidden_state[0]
        yield from torch.split(out, [b.size for b in chunk])


def _chunks(branches: Sequence[Branch]) -> Iterator[list[Branch]]:
    chunk: list[Branch] = []
    total = 0
    for branch in branches:
        if chunk and total + branch.size > MAX_PACKED:
            yield chunk
            chunk, total = [], 0
        chunk.append(branch)
        total += branch.size
    if chunk:
        yield chunk
