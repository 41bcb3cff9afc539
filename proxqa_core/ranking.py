"""Several things in order, nearest first, from decisions about two of them.

Promises: two things come in the order that "which is closer" tells; of more, any two that follow one another do, and
all do where the decisions contradict each other nowhere. Where they go in a circle (A before B, B before C, C before
A), the least sure decision of the circle is given up.

Why this rule: to add up how sure the decisions are would be simpler, but where many decisions against others make a
thing look near it comes before one that is closer, although no decision contradicts another. Knows nothing of images or
of models.

Source: ranked pairs, Tideman 1987, Independence of clones as a criterion for voting rules.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from proxqa_core.types import ObjectDepth

EVEN = 0.5
"""Probability at which it is undecided which of two is closer; then the one named first is taken."""


def rank(number: int, closer: Mapping[tuple[int, int], float]) -> list[int]:
    """Things in order.

    Args:
        number: How many things there are; they are numbered from 0.
        closer: For every i < j the probability in [0, 1] that thing i is closer than thing j.

    Returns:
        Their numbers, the nearest first.
    """
    # 1. Who is known to be closer than whom: bit j of row i. Of each alone nothing is known.
    before = [0] * number
    # 2. The surest decision first, each as long as it contradicts none before it.
    for i, j in sorted(closer, key=lambda pair: -abs(closer[pair] - EVEN)):
        near, far = (i, j) if closer[i, j] >= EVEN else (j, i)
        if not before[far] >> near & 1:
            _settle(before, near, far)
    # 3. All are settled now, directly or by others: who is closer than most is nearest.
    return sorted(range(number), key=lambda i: -before[i].bit_count())


def _settle(before: list[int], near: int, far: int) -> None:
    """Write down that one thing is closer than another, and what follows from that."""
    if before[near] >> far & 1:
        return
    beyond = before[far] | 1 << far
    for i, known in enumerate(before):
        if i == near or known >> near & 1:
            before[i] |= beyond


def pairs_of(number: int) -> list[tuple[int, int]]:
    """Every two of some things, (i, j) with i < j."""
    return [(i, j) for i in range(number) for j in range(i + 1, number)]


def by_depth(found: Sequence[ObjectDepth]) -> list[int]:
    """The numbers of objects in the order of their depths alone, the nearest first; what is not seen last."""

    def key(i: int) -> tuple[bool, bool, float]:
        return not found[i].is_answered, math.isnan(found[i].depth), found[i].depth

    return sorted(range(len(found)), key=key)
