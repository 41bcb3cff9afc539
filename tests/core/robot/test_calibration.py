"""Relative depth → metres: recovered under outliers, honest about its deviation, silent until it can be trusted."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxqa_core.depth import disparity_of, disparity_percentiles, object_relative_depth, relative_depth_map
from proxqa_core.robot.calibration import (
    JUMP_IMAGES,
    MAX_DISORDER_S,
    MAX_DISTANCE_M,
    MIN_SAMPLES,
    MIN_SPREAD,
    Calibration,
)
from proxqa_core.types import Box

quick = settings(max_examples=60, deadline=None)


def taught(depths, metres, stddev=0.02, step=0.1, **options) -> Calibration:
    """A calibration that saw these, one every `step` seconds from 0 on."""
    calibration = Calibration(**options)
    for n, (depth, distance) in enumerate(zip(depths, metres, strict=True)):
        calibration.add(n * step, float(depth), stddev, float(distance))
    return calibration


@quick
@given(
    nearest=st.floats(0.3, 5.0),
    farther=st.floats(1.5, 20.0),
    noise=st.sampled_from([0.0, 0.02]),
    seed=st.integers(0, 99),
)
def test_a_line_is_recovered_with_three_outliers_in_ten(nearest, farther, noise, seed):
    """Outliers are other surfaces: anything from the nearest to twice the farthest."""
    random = np.random.default_rng(seed)
    near, far = 1 / nearest, 1 / (nearest * farther)
    depth = random.uniform(0, 1, 150)
    metres = 1 / (near - (near - far) * depth)
    wrong = random.permutation(150) < 45
    metres[wrong] = random.uniform(nearest, 2 * nearest * farther, 45)
    calibration = taught((depth + random.normal(0, noise, 150)).clip(0, 1), metres)
    assert calibration.state().trusted, calibration.state()
    tolerance = 0.02 if not noise else 0.1
    for d in (0.0, 0.3, 0.6):
        distance, stddev = calibration.distance(15.0, d, 0.02)
        true = 1 / (near - (near - far) * d)
        assert abs(distance - true) <= tolerance * true and 0 < stddev < true


@quick
@given(
    st.lists(
        st.tuples(
            st.one_of(st.floats(0, 500), st.floats()),
            st.one_of(st.floats(0, 1), st.floats()),
            st.one_of(st.floats(0, 1), st.floats()),
            st.one_of(st.floats(0.05, 100), st.floats()),
        ),
        max_size=60,
    ),
    st.floats(0.02, 50),
    st.floats(0.5, 1.5),
)
def test_metres_are_positive_and_finite_or_nan_whatever_comes(samples, nearest, fall):
    """A line as good as can be, which may reach infinity within [0, 1], then anything at all."""
    depth = np.tile(np.linspace(0, min(1.0, 0.9 / fall), 15), 4)
    calibration = taught(depth, nearest / (1 - fall * depth))
    assert calibration.state().trusted
    for time, *sample in [(6.0, 0.5, 0.1, 1.0), *samples]:
        calibration.add(time, *sample)
        for d in (sample[0], 0.0, 0.5, 1.0, 1.5):
            distance, deviation = calibration.distance(time, d, sample[1])
            assert math.isnan(distance) == math.isnan(deviation)
            assert math.isnan(distance) or (0 < distance <= MAX_DISTANCE_M and 0 <= deviation < distance)


@quick
@given(st.floats(0, 1 - MIN_SPREAD), st.integers(3, 400), st.integers(0, 99))
def test_never_trusted_with_too_little_spread(lowest, count, seed):
    random = np.random.default_rng(seed)
    depth = lowest + random.uniform(0, 0.95 * MIN_SPREAD, count)
    calibration = taught(depth, 1 / (1.1 - depth), stddev=0.0)
    state = calibration.state()
    assert not state.trusted and state.reason
    assert all(math.isnan(v) for v in calibration.distance(count / 10, 0.5, 0.1))


def test_trusted_once_there_are_enough_samples():
    depth = np.tile([0.1, 0.5, 0.9], 10)
    assert not taught(depth[:19], 1 / (1.1 - depth[:19]), memory=1e6).state().trusted
    state = taught(depth[:21], 1 / (1.1 - depth[:21]), memory=1e6).state()
    assert state.trusted and state.samples == pytest.approx(21, abs=0.01) and state.inliers == 1
    assert state.spread == pytest.approx(0.8) and state.error < 1e-6 and "21 samples" in state.reason


def test_where_nothing_agrees_nothing_is_trusted():
    random = np.random.default_rng(0)
    calibration = taught(random.uniform(0, 1, 200), random.uniform(0.5, 20, 200))
    assert not calibration.state().trusted and math.isnan(calibration.distance(20.0, 0.5, 0.1)[0])
    backwards = np.linspace(0.1, 0.9, 50)
    assert not taught(backwards, 1 / (0.1 + backwards)).state().trusted


@quick
@given(st.floats(0.02, 0.15), st.integers(0, 99))
def test_the_deviation_is_what_the_distances_miss_by(noise, seed):
    """In units of its own deviation the error of the disparity is about 1, with a model that knows its deviation."""
    random = np.random.default_rng(seed)
    true = random.uniform(0, 0.8, 600)
    read = (true + random.normal(0, noise, 600)).clip(0, 1)
    metres = 1 / (0.5 - 0.45 * true)
    calibration = taught(read[:300], metres[:300], stddev=noise)
    answers = [(*calibration.distance(30.0, d, noise), m) for d, m in zip(read[300:], metres[300:], strict=True)]
    misses = [(1 / d - 1 / m) / (sd / d**2) for d, sd, m in answers if not math.isnan(d)]
    assert len(misses) > 150 and 0.6 < np.std(misses) < 1.4


def test_more_doubt_about_the_depth_is_more_doubt_about_the_distance():
    depth = np.tile([0.1, 0.3, 0.5, 0.7], 20)
    calibration = taught(depth, 1 / (1.1 - depth))
    (distance, small), (same, large) = calibration.distance(8, 0.5, 0.01), calibration.distance(8, 0.5, 0.1)
    assert distance == same == pytest.approx(1 / 0.6, rel=1e-3)
    assert large == pytest.approx(0.1 / 0.6**2, rel=0.01) and small == pytest.approx(large / 10, rel=0.1)


def test_a_scene_that_scatters_is_in_the_deviation_though_the_model_is_sure():
    random = np.random.default_rng(0)
    depth = random.uniform(0, 0.8, 200)
    steady = taught(depth, 1 / (1.1 - depth), stddev=0.0).distance(20, 0.4, 0.0)
    shaken = taught(depth, 1 / (1.1 - depth + random.normal(0, 0.05, 200)), stddev=0.0).distance(20, 0.4, 0.0)
    assert shaken[0] == pytest.approx(steady[0], rel=0.05)
    assert shaken[1] / shaken[0] ** 2 == pytest.approx(0.05, rel=0.2) and steady[1] < 0.01


def test_too_far_to_tell_is_nan():
    depth = np.tile([0.1, 0.5, 0.9], 20)
    calibration = taught(depth, 1 / (1.0 - depth))
    assert calibration.distance(6, 0.5, 0.1)[0] == pytest.approx(2, rel=1e-3)
    for far in (0.95, 1.0, 1.5):
        assert all(math.isnan(v) for v in calibration.distance(6, far, 0.1))


def test_it_forgets_slowly_and_follows_a_new_scene():
    depth = np.tile([0.1, 0.3, 0.5, 0.7], 20)
    calibration = taught(depth, 1 / (1.1 - depth), memory=10.0)
    end = 8.0
    assert calibration.distance(end + 3, 0.5, 0.01)[0] == pytest.approx(1 / 0.6, rel=1e-3)
    for n in range(JUMP_IMAGES):  # a minute later the camera is back
        assert math.isnan(calibration.distance(end + 60 + n / 10, 0.5, 0.01)[0])
    assert calibration.state().samples < MIN_SAMPLES and "recent samples" in calibration.state().reason
    for n, d in enumerate(np.tile(depth, 4)):
        calibration.add(end + 61 + n / 10, d, 0.02, 1 / (0.55 - 0.5 * d))
    assert calibration.distance(end + 98, 0.5, 0.01)[0] == pytest.approx(1 / 0.3, rel=1e-3)


@pytest.mark.parametrize("how", ["add", "distance"])
def test_a_jump_back_in_time_starts_anew_and_a_little_disorder_does_not(how):
    depth = np.tile([0.1, 0.3, 0.5, 0.7], 20)
    calibration = taught(depth, 1 / (1.1 - depth))
    assert not math.isnan(calibration.distance(8.0 - MAX_DISORDER_S / 2, 0.5, 0.1)[0])
    times = [1.0 + n / 10 for n in range(JUMP_IMAGES)]
    if how == "add":
        assert [calibration.add(time, 0.5, 0.1, 2.0) for time in times] == [False] * (JUMP_IMAGES - 1) + [True]
        assert calibration.state().samples == 1
    else:
        assert all(math.isnan(calibration.distance(time, 0.5, 0.1)[0]) for time in times)
        assert calibration.state().reason == "no true distances yet"
    assert not calibration.state().trusted and math.isnan(calibration.distance(1.0, 0.5, 0.1)[0])


@pytest.mark.parametrize("odd", [-1e9, 0.0, 60.0, 3600.0, 1e9])
def test_one_image_with_an_odd_stamp_costs_nothing(odd):
    depth = np.tile([0.1, 0.3, 0.5, 0.7], 20)
    calibration = taught(depth, 1 / (1.1 - depth))
    before = calibration.state()
    for n in range(20):  # one in four is odd
        assert not calibration.add(8.0 + odd, 0.5, 0.1, 2.0) or odd == 0.0
        assert math.isnan(calibration.distance(8.0 + odd, 0.5, 0.1)[0]) == (odd != 0.0)
        for k in range(3):
            assert not math.isnan(calibration.distance(8.0 + (3 * n + k) / 100, 0.5, 0.1)[0])
    assert calibration.state().trusted and calibration.state().samples >= 0.98 * before.samples


def test_what_is_not_a_sample_is_not_taken():
    calibration = Calibration()
    for bad in (
        (math.nan, 0.5, 0.1, 1.0),
        (0.0, math.nan, 0.1, 1.0),
        (0.0, 1.1, 0.1, 1.0),
        (0.0, 0.5, -0.1, 1.0),
        (0.0, 0.5, 0.1, math.inf),
        (0.0, 0.5, 0.1, math.nan),
        (0.0, 0.5, 0.1, 0.0),
        (0.0, 0.5, 0.1, -3.0),
    ):
        assert not calibration.add(*bad)
    assert calibration.state().samples == 0 and calibration.add(0.0, 0.5, 0.1, 1.0)
    for memory in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="memory"):
            Calibration(memory)


def test_the_line_of_a_real_view_is_that_of_its_percentiles():
    """Depths by the convention itself: the objects of one rendered view give back its metres."""
    random = np.random.default_rng(0)
    metres = np.linspace(1.0, 12.0, 120)[:, None].repeat(160, axis=1)
    relative = relative_depth_map(metres)
    low, high = disparity_percentiles(disparity_of(metres))
    calibration = Calibration()
    for n in range(60):
        x, y = random.uniform(0, 120), random.uniform(5, 100)
        box = Box(x, y, x + 20, y + 10)
        calibration.add(n / 10, object_relative_depth(relative, box), 0.02, object_relative_depth(metres, box))
    for d in (0.0, 0.4, 0.8):
        assert calibration.distance(6.0, d, 0.01)[0] == pytest.approx(1 / (high - (high - low) * d), rel=0.02)


def test_uncertain_distances_are_learned_from_and_their_doubt_is_passed_on():
    depth = np.tile([0.1, 0.3, 0.5, 0.7], 20)
    metres = 1 / (1.1 - depth)
    sure, unsure = Calibration(), Calibration()
    for n, (d, m) in enumerate(zip(depth, metres, strict=True)):
        assert sure.add(n / 10, d, 0.0, m) and unsure.add(n / 10, d, 0.0, m, 0.1 * m)
    (distance, small), (same, large) = (c.distance(8.0, 0.5, 0.0) for c in (sure, unsure))
    assert distance == pytest.approx(same) == pytest.approx(1 / 0.6, rel=1e-3)
    assert small < 0.02 * distance and large == pytest.approx(0.1 * distance, rel=0.2)


def test_among_sure_distances_uncertain_ones_count_little():
    """Half of the samples are known heights, all 12 % too far: alone they shift the line, beside a sensor hardly."""
    depth = np.tile([0.1, 0.3, 0.5, 0.7], 40)
    calibration = Calibration()
    for n, d in enumerate(depth):
        true = 1 / (1.1 - d)
        calibration.add(n / 20, d, 0.0, *((1.12 * true, 0.3 * true) if n // 4 % 2 else (true, 0.0)))
    assert calibration.state().trusted
    for d in (0.2, 0.4, 0.6):
        distance, stddev = calibration.distance(8.0, d, 0.0)
        assert distance == pytest.approx(1 / (1.1 - d), rel=0.02) and stddev < 0.1 * distance


@pytest.mark.parametrize("stddev", [-0.1, math.nan, math.inf, 2.0, 3.0])
def test_a_doubt_that_is_no_number_or_as_large_as_the_distance_is_not_taken(stddev):
    calibration = Calibration()
    assert not calibration.add(0.0, 0.5, 0.1, 2.0, stddev) and calibration.state().samples == 0
    assert calibration.add(0.0, 0.5, 0.1, 2.0, 1.9)
