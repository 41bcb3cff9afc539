"""Speed limits: what must hold for whatever objects and motions, and the cases that are easy to get wrong."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from proxqa_core.robot import speed_limits as s
from proxqa_core.robot.speed_limits import (
    ZERO_VELOCITY,
    BadGovernorConfigError,
    GovernorConfig,
    Measure,
    Observation,
    Velocity,
    Zone,
)
from proxqa_core.types import ObjectDepth

RULES = GovernorConfig(
    objects=("person",),
    min_score=0.5,
    slow_distance=2.0,
    stop_distance=0.8,
    distance_hysteresis=0.2,
    use_relative_depth=True,
    slow_depth=0.4,
    stop_depth=0.15,
    depth_hysteresis=0.05,
    sigmas=0.0,
    max_speed=1.0,
    slow_speed=0.3,
    fail_safe_speed=0.1,
    max_turn_rate=1.5,
    slow_turn_rate=0.8,
    stop_turn_rate=0.4,
    fail_safe_turn_rate=0.2,
    limit_reverse=True,
    max_depths_age=1.0,
    command_timeout=0.5,
)
EVERYTHING = replace(RULES, objects=())
SECOND = 10**9


def person(distance=math.nan, depth=0.9, score=0.9, name="person", depth_stddev=0.1, distance_stddev=0.1):
    return ObjectDepth(
        name, depth, depth_stddev, score, "", distance=distance, distance_stddev=distance_stddev
    )  # fmt: skip


any_number = st.floats(allow_nan=True, allow_infinity=True)
zones = st.sampled_from(Zone)
things = st.builds(
    person,
    distance=st.one_of(st.just(math.nan), st.floats(0, 5), any_number),
    depth=st.one_of(st.floats(0, 1), any_number),
    score=st.one_of(st.floats(0, 1), any_number),
    name=st.sampled_from(["person", "chair", "two\nlines"]),
    depth_stddev=st.one_of(st.floats(0, 0.3), any_number),
    distance_stddev=st.one_of(st.floats(0, 0.5), any_number),
)
speeds = st.floats(-1e6, 1e6)
motions = st.builds(Velocity, st.tuples(speeds, speeds, speeds), st.tuples(speeds, speeds, speeds))


@given(st.lists(things, max_size=6), zones, st.floats(0, 3))
def test_deciding_again_changes_nothing(objects, previous, sigmas):
    rules = replace(EVERYTHING, sigmas=sigmas)
    once = s.decide(objects, previous, rules)
    again = s.decide(objects, once.zone, rules)
    # once a fail-safe is over it is over; everything else stays as it is
    assert again.zone == once.zone and again.reason == once.reason and "\n" not in once.reason


@given(st.lists(things, max_size=5), things, zones)
def test_one_more_object_never_makes_it_faster(objects, more, previous):
    assert s.decide([*objects, more], previous, EVERYTHING).zone >= s.decide(objects, previous, EVERYTHING).zone


@given(st.floats(0, 5), st.floats(0, 5), zones, st.booleans())
def test_nearer_is_never_faster(one, other, previous, relative):
    near, far = sorted((one, other))
    kind = "depth" if relative else "distance"
    found = [s.decide([person(**{kind: v})], previous, RULES).zone for v in (near, far)]
    assert found[0] >= found[1]


@given(st.lists(st.floats(0, 5), min_size=1, max_size=30))
def test_a_zone_is_left_only_beyond_its_hysteresis(distances):
    zone = Zone.CLEAR
    for d in distances:
        before, zone = zone, s.decide([person(d)], zone, RULES).zone
        if zone > before:
            assert d <= (RULES.stop_distance if zone == Zone.STOP else RULES.slow_distance)
        if zone < before:
            left = RULES.stop_distance if before == Zone.STOP else RULES.slow_distance
            assert d > left + RULES.distance_hysteresis


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("distance", [3.0, 2.0, 2.1, 2.3, 0.8, 0.9, 1.1, 0.1, 2.1, 2.21], "CLEAR SLOW SLOW CLEAR STOP STOP SLOW STOP"),
        (
            "depth",
            [0.9, 0.4, 0.44, 0.46, 0.15, 0.19, 0.21, 0.0, 0.43, 0.5],
            "CLEAR SLOW SLOW CLEAR STOP STOP SLOW STOP",
        ),
    ],
)
def test_hysteresis_by_either_measure(kind, values, expected):
    zone, found = Zone.CLEAR, []
    for value in values:
        decision = s.decide([person(**{kind: value})], zone, RULES)
        zone = decision.zone
        assert decision.measure is (Measure.METRES if kind == "distance" else Measure.RELATIVE)
        assert ("not metres" in decision.reason) == (kind == "depth")
        found.append(zone.name)
    assert found == [*expected.split(), "SLOW", "CLEAR"]


def test_metres_go_before_relative_depth_of_the_same_object():
    far_in_metres = s.decide([person(distance=4.0, depth=0.0)], Zone.CLEAR, RULES)
    assert (far_in_metres.zone, far_in_metres.measure) == (Zone.CLEAR, Measure.METRES)
    assert s.decide([person(distance=math.inf, depth=0.0)], Zone.CLEAR, RULES).measure is Measure.RELATIVE


def test_the_nearest_one_is_named():
    objects = [person(1.9, name="chair"), person(1.2, name="table"), person(depth=0.3, name="lamp"), person(3.0)]
    assert s.decide(objects, Zone.CLEAR, EVERYTHING).nearest.name == "table"
    assert s.decide([*objects, person(depth=0.1, name="cat")], Zone.CLEAR, EVERYTHING).nearest.name == "cat"


def test_only_objects_that_matter_and_are_in_view_count():
    assert s.decide([person(0.1, score=0.49), person(9.0)], Zone.CLEAR, RULES).zone == Zone.CLEAR
    assert s.decide([person(0.1, score=0.5), person(9.0)], Zone.CLEAR, RULES).zone == Zone.STOP
    assert s.decide([person(0.1, name="chair"), person(9.0)], Zone.CLEAR, RULES).zone == Zone.CLEAR
    assert s.decide([person(0.1, name="PERSON")], Zone.CLEAR, RULES).zone == Zone.STOP
    assert s.decide([], Zone.STOP, EVERYTHING).zone == Zone.CLEAR


def test_what_cannot_be_judged_is_near():
    assert s.decide([person(depth=math.nan)], Zone.CLEAR, RULES).zone == Zone.STOP
    assert s.decide([person(0.1, score=math.nan)], Zone.CLEAR, RULES).zone == Zone.STOP
    assert s.decide([person(1.0)], Zone.CLEAR, replace(RULES, objects=("person", "dog"))).zone == Zone.FAIL_SAFE
    unseen = s.decide([person(9.0, name="chair")], Zone.CLEAR, RULES)
    assert unseen.zone == Zone.FAIL_SAFE and "nobody looks for person" in unseen.reason
    metres_only = replace(RULES, use_relative_depth=False)
    assert s.decide([person(depth=0.9)], Zone.CLEAR, metres_only).zone == Zone.FAIL_SAFE
    assert s.decide([person(9.0)], Zone.CLEAR, metres_only).zone == Zone.CLEAR


def test_an_unsure_reading_counts_as_nearer():
    rules = replace(RULES, sigmas=2.0)
    assert s.decide([person(2.1, distance_stddev=0.04)], Zone.CLEAR, rules).zone == Zone.CLEAR
    assert s.decide([person(2.1, distance_stddev=0.06)], Zone.CLEAR, rules).zone == Zone.SLOW
    assert s.decide([person(2.1, distance_stddev=math.nan)], Zone.CLEAR, rules).zone == Zone.CLEAR
    assert s.decide([person(depth=0.5, depth_stddev=0.06)], Zone.CLEAR, rules).zone == Zone.SLOW


@given(st.floats(-5, 5))
def test_depths_hold_for_their_time_and_not_before_it(age):
    assume(abs(abs(age) - RULES.max_depths_age) > 1e-6)
    now = 1000 * SECOND
    decision = s.assess(Observation(now - round(age * 1e9), (person(9.0),)), now, Zone.CLEAR, RULES)
    assert (decision.zone == Zone.CLEAR) == (abs(age) < RULES.max_depths_age)
    if decision.zone != Zone.CLEAR:
        assert decision.zone == Zone.FAIL_SAFE and ("old" if age > 0 else "ahead") in decision.reason


def test_no_depths_and_no_clock_are_fail_safe():
    assert s.assess(None, SECOND, Zone.CLEAR, RULES).zone == Zone.FAIL_SAFE
    report = Observation(0, (person(9.0),))
    assert "clock" in s.assess(report, 0, Zone.CLEAR, RULES).reason
    assert s.assess(report, SECOND // 2, Zone.CLEAR, RULES).zone == Zone.CLEAR


def test_commands_hold_for_their_time_and_not_before_it():
    assert [s.is_fresh(SECOND, SECOND + d, RULES) for d in (-1, 0, SECOND // 2, SECOND // 2 + 1)] == [
        False,
        True,
        True,
        False,
    ]


@given(motions, zones, st.booleans())
def test_a_limited_motion_is_within_the_limit_and_on_the_same_curve(motion, zone, limit_reverse):
    rules = replace(RULES, limit_reverse=limit_reverse)
    limited = s.limit(motion, zone, rules)
    if limit_reverse or motion.linear[0] >= 0 or zone == Zone.FAIL_SAFE:
        assert math.hypot(*limited.linear) <= rules.speed(zone) * (1 + 1e-9)
        assert math.hypot(*limited.angular) <= rules.turn_rate(zone) * (1 + 1e-9)
    before, after = (*motion.linear, *motion.angular), (*limited.linear, *limited.angular)
    largest = max(range(6), key=lambda n: abs(before[n]))
    factor = after[largest] / before[largest] if before[largest] else 1.0
    assert 0 <= factor <= 1
    assert after == pytest.approx(tuple(v * factor for v in before), rel=1e-9, abs=1e-300)


@given(st.lists(st.floats(-0.17, 0.17), min_size=6, max_size=6))
def test_a_slow_motion_passes_unchanged(numbers):
    motion = Velocity(tuple(numbers[:3]), tuple(numbers[3:]))
    assert s.limit(motion, Zone.SLOW, RULES) == motion


def test_backing_away():
    back = Velocity((-0.5, 0.0, 0.0), (0.0, 0.0, 0.1))
    assert s.limit(back, Zone.STOP, RULES) == ZERO_VELOCITY
    free = replace(RULES, limit_reverse=False)
    assert s.limit(back, Zone.STOP, free) == back
    assert s.limit(back, Zone.FAIL_SAFE, free).linear[0] == pytest.approx(-0.1)
    assert s.limit(Velocity((0.5, 0.0, 0.0), (0.0, 0.0, 0.0)), Zone.STOP, free) == ZERO_VELOCITY


def test_turning_on_the_spot_in_front_of_something():
    assert s.limit(Velocity((0.0, 0.0, 0.0), (0.0, 0.0, -2.0)), Zone.STOP, RULES).angular == (0.0, 0.0, -0.4)


@given(motions, st.integers(0, 5), st.sampled_from([math.nan, math.inf, -math.inf]), zones)
def test_a_command_that_is_no_number_is_a_stop(motion, where, bad, zone):
    numbers = [*motion.linear, *motion.angular]
    numbers[where] = bad
    assert s.limit(Velocity(tuple(numbers[:3]), tuple(numbers[3:])), zone, RULES) == ZERO_VELOCITY


def test_nav2_is_never_told_zero_for_a_stop():
    assert [s.nav2_limit(zone, RULES) for zone in Zone] == [0.0, 0.3, s.NAV2_MIN_SPEED_M_S, 0.1]
    assert s.nav2_limit(Zone.FAIL_SAFE, replace(RULES, fail_safe_speed=0.0)) > 0


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"stop_distance": 2.5}, "stop_distance is 2.5, slow_distance is 2"),
        ({"stop_depth": 0.5}, "stop_depth <= slow_depth"),
        ({"slow_speed": 1.5}, "slow_speed <= max_speed"),
        ({"fail_safe_speed": 0.5}, "fail_safe_speed <= slow_speed"),
        ({"slow_turn_rate": 9.0}, "slow_turn_rate <= max_turn_rate"),
        ({"stop_turn_rate": 1.0}, "stop_turn_rate <= slow_turn_rate"),
        ({"fail_safe_turn_rate": 1.0}, "fail_safe_turn_rate <= slow_turn_rate"),
        ({"max_speed": math.nan}, "max_speed is nan"),
        ({"sigmas": -1.0}, "sigmas is -1"),
        ({"slow_distance": math.inf}, "slow_distance is inf"),
    ],
)
def test_rules_that_contradict_themselves(change, expected):
    with pytest.raises(BadGovernorConfigError, match=expected):
        replace(RULES, **change)
