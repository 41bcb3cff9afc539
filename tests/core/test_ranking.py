"""Orders of several things out of decisions about two."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxqa_core.ranking import by_depth, pairs_of, rank
from proxqa_core.types import Box, ObjectDepth

Decisions = tuple[int, dict[tuple[int, int], float]]


@st.composite
def decisions(draw: Callable[..., float]) -> Decisions:
    """Any, with circles, undecided ones and ones as sure as others."""
    number = int(draw(st.integers(0, 7)))
    probability = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.2, 0.5, 0.8, 1.0]))
    return number, {pair: draw(probability) for pair in pairs_of(number)}


@given(decisions())
def test_every_two_that_follow_one_another_are_as_decided(made: Decisions) -> None:
    number, closer = made
    order = rank(number, closer)
    assert sorted(order) == list(range(number))
    for near, far in itertools.pairwise(order):
        assert closer[near, far] >= 0.5 if near < far else closer[far, near] <= 0.5


@given(st.permutations(range(7)), st.lists(st.floats(0.51, 1), min_size=21, max_size=21))
def test_without_a_circle_every_two_are_as_decided_however_sure(order: list[int], sure: list[float]) -> None:
    closer = {
        (i, j): p if order.index(i) < order.index(j) else 1 - p for (i, j), p in zip(pairs_of(7), sure, strict=True)
    }
    assert rank(7, closer) == order


@given(st.floats(0, 1))
def test_two_are_as_decided_and_the_first_is_taken_where_nothing_is(first: float) -> None:
    assert rank(2, {(0, 1): first}) == ([0, 1] if first >= 0.5 else [1, 0])


def test_of_a_circle_the_least_sure_decision_is_given_up() -> None:
    # 0 before 1, 1 before 2, 2 before 0
    assert rank(3, {(0, 1): 0.9, (1, 2): 0.8, (0, 2): 0.4}) == [0, 1, 2]
    assert rank(3, {(0, 1): 0.6, (1, 2): 0.8, (0, 2): 0.1}) == [1, 2, 0]


def test_many_sure_decisions_do_not_outweigh_the_one_between_two() -> None:
    """0 is hardly closer than 1, and 1 very surely closer than the others: added up, 1 would be the nearest."""
    closer = {(0, 1): 0.55} | {(0, j): 0.6 for j in (2, 3, 4)} | {(1, j): 0.999 for j in (2, 3, 4)}
    assert rank(5, closer | {(2, 3): 0.7, (3, 4): 0.7, (2, 4): 0.7}) == [0, 1, 2, 3, 4]


def test_most_objects_of_a_request_in_a_moment_of_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the 63 things that are put behind another is written down once for every one before it."""
    import proxqa_core.ranking as ranking

    steps: list[int] = []
    settle = ranking._settle
    monkeypatch.setattr(ranking, "_settle", lambda *a: steps.append(1) or settle(*a))
    order = [(i * 37) % 64 for i in range(64)]
    closer = {(i, j): 0.9 if order[i] < order[j] else 0.1 for i, j in pairs_of(64)}
    assert [order[i] for i in rank(64, closer)] == list(range(64))
    assert len(steps) == 64 * 63 // 2


def test_by_depth_what_is_not_seen_comes_last() -> None:
    seen, unseen = ObjectDepth("a", 0.6, 0.1, 0.9, ""), ObjectDepth("b", 0.2, 0.1, 0.1, "")
    nearer, outside = ObjectDepth("c", 0.3, 0.1, 0.9, ""), ObjectDepth("d", math.nan, math.nan, 0.0, "")
    doubted = ObjectDepth("e", 0.4, 0.1, 0.1, "", Box(0, 0, 9, 9))
    assert by_depth([outside, unseen, seen, nearer, doubted]) == [3, 4, 2, 1, 0]
    assert by_depth([]) == []
