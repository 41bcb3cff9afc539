"""One prefix, many branches: how questions about images are laid out, whatever runs them.

Promises: branches do not see one another, and the tails of a branch (the leaves of the digit tree) do not see one
another. All branches that continue the same prefix share its keys and values. `lay_out` lets every branch attend to its
own prefix and itself only, so that attention grows with the branches' number, not with its square; `pack` puts branches
into one row, as training does. Knows nothing of words, of images or of backends.

Source: tree attention as in SpecInfer, Miao et al. 2024, arXiv 2305.09781.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

T = TypeVar("T")
MAX_PASS_TOKENS = 2048
"""Most tokens in one pass, padding included: more make nothing faster, and take memory."""
MAX_PADDING_RATIO = 1.25
"""Most tokens, padding included, for each one that is asked for, before a pass is cut."""


@dataclass(frozen=True, eq=False)
class Branch:
    """One continuation of a prefix.

    Attributes:
        after: The prefix that it continues, a backend's handle; None = it begins the prompt.
        embeddings: [tokens, hidden], one after the other.
        tails: [tails, hidden], side by side after them; None = none.
    """

    after: Any
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

    def rows(self) -> torch.Tensor:
        """All of its embeddings, [size, hidden]."""
        return self.embeddings if self.tails is None else torch.cat([self.embeddings, self.tails])


@dataclass(frozen=True, eq=False)
class Layout:
    """Branches side by side, as a batch.

    Attributes:
        position: Of every token in its prompt, [branches, longest].
        allowed: Whether a token may attend to another, [branches, longest, prefix + longest], the longest prefix first.
    """

    position: NDArray[np.int64]
    allowed: NDArray[np.bool_]


def lay_out(sizes: Sequence[tuple[int, int]], prefixes: Sequence[int]) -> Layout:
    """Lay branches side by side, each padded at its end to the longest.

    Args:
        sizes: Of every branch (tokens, tails).
        prefixes: Tokens of the prefix that it continues.

    Returns:
        Positions and who may attend to whom. Padding attends to itself, so that nothing is divided by 0.
    """
    longest, longest_prefix = max(t + n for t, n in sizes), max(prefixes)
    position = np.zeros((len(sizes), longest), np.int64)
    allowed = np.zeros((len(sizes), longest, longest_prefix + longest), np.bool_)
    allowed[:, np.arange(longest), longest_prefix + np.arange(longest)] = True
    for index, ((tokens, tails), before) in enumerate(zip(sizes, prefixes, strict=True)):
        size = tokens + tails
        own_position, own_allowed = pack([(tokens, tails)])
        position[index, :size] = before + own_position
        allowed[index, :size, :before] = True
        allowed[index, :size, longest_prefix : longest_prefix + size] = own_allowed
    return Layout(position, allowed)


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


def split_into_passes(sizes: Sequence[int]) -> Iterator[list[int]]:
    """Cut a request into passes of branches of about the same size.

    Args:
        sizes: Tokens of every branch.

    Yields:
        Indices of the branches of a pass, which takes at most MAX_PASS_TOKENS with its padding; a longer branch has a
        pass of its own.
    """
    some: list[int] = []
    asked = 0
    for index in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        padded = sizes[some[0] if some else index] * (len(some) + 1)
        if some and (padded > MAX_PASS_TOKENS or padded > MAX_PADDING_RATIO * (asked + sizes[index])):
            yield some
            some, asked = [], 0
        some.append(index)
        asked += sizes[index]
    if some:
        yield some


def in_passes(branches: Sequence[Branch], run: Callable[[list[Branch]], list[T]]) -> list[T]:
    """What `run` gives for every branch, pass by pass, in the order of the branches."""
    found: dict[int, T] = {}
    for some in split_into_passes([b.size for b in branches]):
        found |= dict(zip(some, run([branches[i] for i in some]), strict=True))
    return [found[i] for i in range(len(branches))]


def common_length(rows: Sequence[Sequence[Hashable]]) -> int:
    """How many tokens all of several sequences begin with alike."""
    return next((n for n, tokens in enumerate(zip(*rows, strict=False)) if len(set(tokens)) > 1), min(map(len, rows)))


def common_starts(rows: Sequence[Sequence[Hashable]], groups: Sequence[Hashable]) -> list[int]:
    """How many tokens each sequence begins with as all of its group do.

    Args:
        rows: The sequences.
        groups: Of each sequence, what it is likely to have in common with others.

    Returns:
        For every sequence a number less than its length; 0 for one that is alone in its group.
    """
    members: dict[Hashable, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    shared = [0] * len(rows)
    for indices in members.values():
        together = [rows[i] for i in indices]
        if len(together) > 1:
            length = min(common_length(together), min(map(len, together)) - 1)
            shared = [length if i in indices else n for i, n in enumerate(shared)]
    return shared
