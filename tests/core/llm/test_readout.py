"""Numbers out of probabilities."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from proxqa_core.llm.readout import (
    DigitTree,
    Standing,
    closer_evidence,
    compare_depths,
    doubted,
    greedy,
    read_choice,
    read_closer,
    read_depth,
    read_depths,
    read_visibility,
    visibility_evidence,
)

logits = lambda shape: arrays(np.float64, shape, elements=st.floats(-30, 30))  # noqa: E731


def test_a_sure_tree_is_that_number():
    tenths, hundredths = np.full(10, -50.0), np.full((10, 10), -50.0)
    tenths[3], hundredths[3, 2] = 50, 50
    read = read_depth(DigitTree(np.array([9.0, -9.0]), tenths, hundredths))
    assert read.mean == pytest.approx(0.32, abs=1e-6) and read.text == "0.32"
    assert read.stddev == pytest.approx(0.01 / 12**0.5, rel=1e-3) and read.visible > 0.999


def test_two_leaves_weigh_against_each_other():
    tenths, hundredths = np.full(10, -50.0), np.full((10, 10), -50.0)
    tenths[[2, 8]], hundredths[:, 0] = np.log([3.0, 1.0]), 50
    read = read_depth(DigitTree(np.array([-2.0, 2.0]), tenths, hundredths))
    assert read.mean == pytest.approx(0.75 * 0.2 + 0.25 * 0.8)
    assert read.stddev == pytest.approx((0.75 * 0.15**2 + 0.25 * 0.45**2) ** 0.5, rel=1e-3)
    assert read.text == "not visible"


@given(logits(10), st.floats(0.2, 5))
def test_hundredths_that_were_not_asked_for_are_equally_likely(tenths, temperature):
    known, even = (DigitTree(np.array([2.0, -2.0]), tenths, h) for h in (None, np.zeros((10, 10))))
    ours, theirs = read_depth(known, temperature), read_depth(even, temperature)
    assert ours.mean == pytest.approx(theirs.mean) and ours.stddev == pytest.approx(theirs.stddev)
    assert ours.stddev >= 0.1 / 12**0.5 - 1e-9  # a tenth is as wide as that
    assert float(ours.text) == pytest.approx(ours.mean, abs=0.0051)


@given(logits(2), logits(10), logits((10, 10)), st.floats(0.2, 5))
def test_readings_stay_in_range(visible, tenths, hundredths, temperature):
    read = read_depth(DigitTree(visible, tenths, hundredths), temperature)
    assert 0 <= read.mean <= 0.99 + 1e-9 and 0 < read.stddev <= 0.5 and 0 <= read.visible <= 1


@pytest.mark.parametrize("known", [True, False])
def test_many_are_read_at_once_as_one_by_one(known):
    rng = np.random.default_rng(0)
    trees = []
    for _ in range(20):
        hundredths = rng.normal(0, 3, (10, 10)) if known else None
        trees.append(DigitTree(rng.normal(0, 3, 2), rng.normal(0, 3, 10), hundredths))
    mean, stddev = read_depths(trees, 1.7)
    alone = [read_depth(tree, 1.7) for tree in trees]
    assert mean.tolist() == pytest.approx([r.mean for r in alone], abs=1e-12)
    assert stddev.tolist() == pytest.approx([r.stddev for r in alone], abs=1e-12)
    assert [len(part) for part in read_depths([])] == [0, 0]
    with pytest.raises(ValueError, match="of 21 digit trees have hundredths"):
        read_depths(
            [*trees, DigitTree(rng.normal(0, 3, 2), rng.normal(0, 3, 10), None if known else np.zeros((10, 10)))]
        )


@given(logits((7, 2)), st.floats(0.2, 5))
def test_a_choice_and_its_opposite_share_one(odds, temperature):
    assert read_choice(odds, temperature) + read_choice(-odds, temperature) == pytest.approx(np.ones(7))


def test_orders_that_disagree_are_averaged_and_heat_makes_less_sure():
    assert read_choice(np.array([[2.0, -2.0]]))[0] == pytest.approx(0.5)
    cold, hot = (read_choice(np.array([[2.0, 1.0]]), t)[0] for t in (1, 3))
    assert 0.5 < hot < cold < 1


def test_depths_are_compared_by_their_deviations():
    assert compare_depths(0.3, 0.1, 0.3, 0.2) == 0.5
    assert compare_depths(0.2, 0.03, 0.6, 0.04) > 0.999
    assert compare_depths(0.5, 0.3, 0.4, 0.4) == pytest.approx(1 - compare_depths(0.4, 0.4, 0.5, 0.3))
    assert compare_depths(0.4, 0.06, 0.5, 0.08) == pytest.approx(0.8413, abs=1e-3)  # one standard deviation apart


def test_greedy_takes_the_likeliest_digit_first():
    """Many likely numbers that begin with 3, and one with 6 that is likelier than each of them."""
    hundredths = np.zeros((10, 10))
    hundredths[6, 1], hundredths[3, 4] = 9, 0.1
    tenths = np.full(10, -9.0)
    tenths[[3, 6]] = 1.0, 0.0
    tree = DigitTree(np.array([1.0, -1.0]), tenths, hundredths)
    assert greedy(tree) == "0.34" and read_depth(tree).text == "0.61"
    assert greedy(DigitTree(np.array([-1.0, 1.0]), tenths, hundredths)) == "not visible"


def test_visibility_weighs_the_models_word_and_the_grounding_heads():
    tree = DigitTree(np.array([1.0, -1.0]), np.zeros(10), np.zeros((10, 10)))
    evidence = visibility_evidence(tree, 0.5)
    assert evidence == pytest.approx([2.0, 0.0])
    assert read_visibility(evidence, (1, 0, 0)) == pytest.approx(1 / (1 + np.exp(-2)))
    assert read_visibility(visibility_evidence(tree, 0.01), (0, 1, 0)) == pytest.approx(0.01)
    assert read_visibility(evidence, (0, 1, 3)) > 0.95
    assert np.isfinite(visibility_evidence(tree, 0.0)).all() and np.isfinite(visibility_evidence(tree, 1.0)).all()


def test_what_is_not_in_view_reads_not_visible():
    tree = DigitTree(np.array([9.0, -9.0]), np.arange(10.0), np.zeros((10, 10)))
    assert read_depth(tree).text.startswith("0.")
    read = read_depth(tree, visible=0.2)
    assert read.visible == 0.2 and read.text == "not visible" and read.mean == read_depth(tree).mean


def test_differences_of_one_images_depths_may_be_surer_or_less_sure():
    sure, unsure = (compare_depths(0.2, 0.1, 0.4, 0.1, t) for t in (0.5, 2.0))
    assert 0.5 < unsure < compare_depths(0.2, 0.1, 0.4, 0.1) < sure < 1


standings = st.builds(Standing, st.floats(0, 1), st.floats(0.03, 0.5), st.floats(0, 1))


@given(standings, standings, st.floats(0.01, 20), st.floats(0, 20))
def test_which_is_closer_does_not_depend_on_who_is_named_first(a, b, of_depths, of_ground):
    weights = of_depths, of_ground
    first = read_closer(closer_evidence(a, b), weights)
    assert 0 <= first <= 1 and first + read_closer(closer_evidence(b, a), weights) == pytest.approx(1)


def test_the_ground_decides_within_the_deviations_alone():
    near, far = Standing(0.40, 0.1, 0.5), Standing(0.43, 0.1, 0.6)
    assert read_closer(closer_evidence(near, far), (2.8, 0.0)) > 0.5  # by the depths
    assert read_closer(closer_evidence(near, far), (2.8, 1.25)) < 0.4  # the farther one ends lower
    surely_far = Standing(0.8, 0.1, 0.6)
    assert read_closer(closer_evidence(near, surely_far), (2.8, 1.25)) > 0.9  # there it does not count
    much_lower = Standing(0.43, 0.1, 0.99)
    assert read_closer(closer_evidence(near, much_lower), (2.8, 1.25)) == pytest.approx(
        read_closer(closer_evidence(near, far), (2.8, 1.25)), abs=1e-3
    )


@given(st.floats(0, 1), st.lists(st.floats(0, 1), max_size=2), st.floats(0, 5))
def test_doubt_brings_a_choice_nearer_to_a_coins_and_never_across(probability, in_view, doubt):
    p = doubted(probability, in_view, doubt)
    assert abs(p - 0.5) <= abs(probability - 0.5) + 1e-12 and (p - 0.5) * (probability - 0.5) >= 0
    assert p + doubted(1 - probability, in_view, doubt) == pytest.approx(1)


def test_doubt_grows_with_every_thing_that_may_not_be_in_view():
    assert doubted(0.9, [], 2.0) == doubted(0.9, [0.1, 0.1], 0.0) == 0.9
    assert doubted(0.9, [0.5], 1.0) == pytest.approx(0.7) and doubted(0.1, [0.5, 0.5], 1.0) == pytest.approx(0.4)
    assert doubted(0.9, [0.25], 0.5) == pytest.approx(0.7)
