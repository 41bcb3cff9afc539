"""One prefix, many branches: how questions about images are laid out, whatever runs them.

Promises: branches do not see one another, and the tails of a branch (the leaves of the digit tree) do not see one
another. All branches that continue the same prefix share its keys and values. `lay_out` lets every branch attend to its
own prefix and itself only, so that attention grows with the branches' number, not with its square; `pack` puts branches
into one row, as training does, and as a `Tree` is read: a prefix and its first branches in one pass, which reads the
weights once. Knows nothing of words, of images or of backends.

Source: tree attention as in SpecInfer, Miao et al. 2024, arXiv 2305.09781.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

T = TypeVar("T")
MAX_TREE_TOKENS = 256
"""Most tokens of a tree's branches: every one of them is held against all others, which costs more than another pass
over the weights where they are many."""
MAX_PASS_TOKENS = 2048
"""Most tokens in one pass, padding included: more make nothing faster, and take memory."""
MAX_PADDING_RATIO = 1.25
"""Most tokens, padding included, for each one that is asked for, before a pass is cut."""


class Row(Protocol):
    """What is one row of a pass: a branch, or a tree."""

    @property
    def after(self) -> Any:
        """The prefix that it continues, a backend's handle; None = it begins the prompt."""
        ...

    @property
    def size(self) -> int:
        """All of its tokens."""
        ...

    def rows(self) -> torch.Tensor:
        """All of its embeddings, [size, hidden]."""
        ...

    def packed(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Positions [size] from the end of its prefix, and who may attend to whom within it, [size, size]."""
        ...


RowT = TypeVar("RowT", bound=Row)


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

    def packed(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """See `Row.packed`."""
        return pack([(self.tokens, self.size - self.tokens)])


@dataclass(frozen=True, eq=False)
class Tree:
    """A prefix that is read, and what continues it in the same pass.

    Attributes:
        trunk: What is read; no tails.
        branches: They continue the trunk, whatever prefix they name.
    """

    trunk: Branch
    branches: tuple[Branch, ...]

    @property
    def after(self) -> Any:
        """What the trunk continues."""
        return self.trunk.after

    @property
    def size(self) -> int:
        """All tokens."""
        return self.trunk.size + sum(b.size for b in self.branches)

    def rows(self) -> torch.Tensor:
        """The trunk's embeddings, then the branches', [size, hidden]."""
        return torch.cat([self.trunk.rows(), *(b.rows() for b in self.branches)])

    def packed(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """See `Row.packed`."""
        # 1. Trunk and branches side by side, none of which sees another.
        trunk = self.trunk.tokens
        position, allowed = pack([(trunk, 0), *((b.tokens, b.size - b.tokens) for b in self.branches)])
        # 2. The branches see the whole trunk and stand behind it.
        position[trunk:] += trunk
        allowed[trunk:, :trunk] = True
        return position, allowed

    def split(self, states: torch.Tensor) -> list[torch.Tensor]:
        """What came out of a pass, [size or more, hidden] → that of each branch, [branch.size, hidden]."""
        own = states[self.trunk.tokens : self.size]
        return list(own.split([b.size for b in self.branches]))


@dataclass(frozen=True, eq=False)
class Layout:
    """Branches or trees side by side, as a batch.

    Attributes:
        position: Of every token in its prompt, [rows, longest].
        allowed: Whether a token may attend to another, [rows, longest, prefix + longest], the longest prefix first.
    """

    position: NDArray[np.int64]
    allowed: NDArray[np.bool_]


def lay_out(rows: Sequence[Row], prefixes: Sequence[int], least: int = 0) -> Layout:
    """Lay rows side by side, each padded at its end to the longest.

    Args:
        rows: The branches or trees.
        prefixes: Tokens of the prefix that each continues.
        least: Tokens that all are padded to where they have fewer.

    Returns:
        Positions and who may attend to whom. Padding attends to itself, so that nothing is divided by 0.
    """
    longest, longest_prefix = max(least, *(r.size for r in rows)), max(prefixes)
    position = np.zeros((len(rows), longest), np.int64)
    allowed = np.zeros((len(rows), longest, longest_prefix + longest), np.bool_)
    allowed[:, np.arange(longest), longest_prefix + np.arange(longest)] = True
    for index, (row, before) in enumerate(zip(rows, prefixes, strict=True)):
        own_position, own_allowed = row.packed()
        position[index, : row.size] = before + own_position
        allowed[index, : row.size, :before] = True
        allowed[index, : row.size, longest_prefix : longest_prefix + row.size] = own_allowed
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


def in_passes(rows: Sequence[RowT], run: Callable[[list[RowT]], list[T]]) -> list[T]:
    """What `run` gives for every branch or tree, pass by pass, in their order."""
    found: dict[int, T] = {}
    for some in split_into_passes([r.size for r in rows]):
        found |= dict(zip(some, run([rows[i] for i in some]), strict=True))
    return [found[i] for i in range(len(rows))]


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
