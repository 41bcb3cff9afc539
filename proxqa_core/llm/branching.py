"""One prefix, many branches: how questions about one image are packed, whatever runs them.

Promises: branches laid side by side by `pack` do not see one another, and the tails of a branch (the leaves of the
digit tree) do not see one another; `split_into_passes` cuts long requests. All branches of a request share one copy of
the prefix's keys and values, so that nothing is repeated per branch. Knows nothing of words, of images or of backends.

Source: tree attention as in SpecInfer, Miao et al. 2024, arXiv 2305.09781.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

MAX_PACKED_TOKENS = 768
"""Most tokens packed into one pass: attention grows with the square of it, so longer requests are cut into several."""


@dataclass(frozen=True)
class Branch:
    """One continuation of the prefix.

    Attributes:
        embeddings: [tokens, hidden], one after the other.
        tails: [tails, hidden], side by side after them; None = none.
    """

    embeddings: torch.Tensor
    tails: torch.Tensor | None = None

    @property
    def tokens(self) -> int:
        """Tokens that follow one another."""
        return len(self.embeddings)

    @property
    def size(self) -> int:
        """All tokens, tails included."""
        return self.tokens + (0 if self.tails is None else len(self.tails))


def pack(sizes: Sequence[tuple[int, int]]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Lay branches side by side in one row of n tokens.

    Args:
        sizes: Of every branch (tokens, tails).

    Returns:
        Positions [n], counted from the end of the prefix, and a mask [n, n]: whether a row may attend to a column.
    """
    # 1. Of every token in the row, [n]: its branch, its position, and which tail it is (-1 = none).
    branch, position, tail = [], [], []
    for index, (tokens, tails) in enumerate(sizes):
        branch += [index] * (tokens + tails)
        position += [*range(tokens), *[tokens] * tails]
        tail += [*[-1] * tokens, *range(tails)]
    b, t = np.asarray(branch), np.asarray(tail)
    order = np.arange(len(b))
    # 2. A token attends to its own branch, not to what comes later, and to no other tail, [n, n].
    same_branch = b[:, None] == b[None]
    not_later = order[None] <= order[:, None]
    no_other_tail = (t[None] < 0) | (t[None] == t[:, None])
    return np.asarray(position), same_branch & not_later & no_other_tail


def split_into_passes(branches: Sequence[Branch]) -> Iterator[list[Branch]]:
    """Cut a request into passes of at most MAX_PACKED_TOKENS tokens; a longer branch has one of its own."""
    some: list[Branch] = []
    total = 0
    for branch in branches:
        if some and total + branch.size > MAX_PACKED_TOKENS:
            yield some
            some, total = [], 0
        some.append(branch)
        total += branch.size
    if some:
        yield some
