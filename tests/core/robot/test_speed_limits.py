"""Speed limits: what must hold for whatever objects and motions, and the cases that are easy to get wrong."""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from proxqa_core.robot import speed_limits as s
from proxqa_core.robot.speed_limits import (
    ZERO_VELOCITY,
    BadGovernorConfigError,
    Command,
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
    possible_score=0.2,
    slow_distance=2.0,
    stop_distance=0.8,
    distance_hysteresis=0.2,
    use_relative_depth=True,
    require_image_health=True,
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


def person(distance=math.nan, depth=0.9, score=0.9, name="person", depth_stddev=0.1, distance_stddev=None):
    if distance_stddev is None:
        distance_stddev = math.nan if math.isnan(distance) else 0.1
    return ObjectDepth(
        name, depth, depth_stddev, score, "", distance=distance, distance_stddev=distance_stddev
    )  # fmt: skip


any_number = st.floats(allow_nan=True, allow_infinity=True)
zones = st.sampled_from(Zone)
anything = st.builds(
    person,
    distance=st.one_of(st.just(math.nan), st.floats(0, 5), any_number),
    depth=st.one_of(st.floats(0, 1), any_number),
    score=st.one_of(st.floats(0, 1), any_number),
    name=st.sampled_from(["person", "chair", "two\nlines"]),
    depth_stddev=st.one_of(st.floats(0, 0.3), any_number),
    distance_stddev=st.one_of(st.none(), st.floats(0, 0.5), any_number),
)
"""Also numbers that cannot be true."""
things = st.builds(
    person,
    distance=st.one_of(st.just(math.nan), st.floats(0.01, 5)),
    depth=st.floats(0, 1),
    score=st.floats(0, 1),
    name=st.sampled_from(["person", "chair", "two\nlines"]),
    depth_stddev=st.floats(0, 0.3),
)
speeds = st.floats(-1e6, 1e6)
motions = st.builds(Velocity, st.tuples(speeds, speeds, speeds), st.tuples(speeds, speeds, speeds))


@given(st.lists(things, max_size=6), zones, st.floats(0, 3))
def test_deciding_again_changes_nothing(objects, previous, sigmas):
    rules = replace(EVERYTHING, sigmas=sigmas)
    once = s.decide(objects, previous, rules)
    again = s.decide(objects, once.zone, rules)
    # the reason may: within the hysteresis of the zone another object may be the one to name
    assert again.zone == once.zone and "\n" not in once.reason


@given(st.lists(things, max_size=5), things, zones)
def test_one_more_object_never_makes_it_faster(objects, more, previous):
    assert s.decide([*objects, more], previous, EVERYTHING).zone >= s.decide(objects, previous, EVERYTHING).zone


@given(st.floats(0.01, 5), st.floats(0.01, 5), zones, st.booleans(), st.floats(0, 1), st.floats(0, 1))
def test_nearer_or_surer_is_never_faster(one, other, previous, relative, score, higher):
    near, far = sorted((one / 5 if relative else one, other / 5 if relative else other))
    low, high = sorted((score, higher))
    kind = "depth" if relative else "distance"
    cases = ((near, high), (near, low), (far, low))
    found = [s.decide([person(**{kind: v}, score=p)], previous, RULES).zone for v, p in cases]
    assert found[0] >= found[1] >= found[2]
    found = [s.decide([person(**{kind: v})], previous, RULES).zone for v in (near, far)]
    assert found[0] >= found[1]


@given(st.lists(st.floats(0.01, 5), min_size=1, max_size=30))
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
    not_known = person(distance=math.nan, distance_stddev=math.nan, depth=0.0)
    assert s.decide([not_known], Zone.CLEAR, RULES).measure is Measure.RELATIVE


def test_the_nearest_one_is_named():
    objects = [person(1.9, name="chair"), person(1.2, name="table"), person(depth=0.3, name="lamp"), person(3.0)]
    assert s.decide(objects, Zone.CLEAR, EVERYTHING).nearest.name == "table"
    assert s.decide([*objects, person(depth=0.1, name="cat")], Zone.CLEAR, EVERYTHING).nearest.name == "cat"


def test_only_objects_that_matter_and_are_in_view_count():
    assert s.decide([person(0.1, score=0.19), person(9.0)], Zone.CLEAR, RULES).zone == Zone.CLEAR
    assert s.decide([person(0.1, score=0.5), person(9.0)], Zone.CLEAR, RULES).zone == Zone.STOP
    assert s.decide([person(0.1, name="chair"), person(9.0)], Zone.CLEAR, RULES).zone == Zone.CLEAR
    assert s.decide([person(0.1, name="PERSON")], Zone.CLEAR, RULES).zone == Zone.STOP
    assert s.decide([], Zone.STOP, EVERYTHING).zone == Zone.CLEAR


def test_what_is_possibly_there_slows_down():
    near = s.decide([person(0.3, score=0.49)], Zone.CLEAR, RULES)
    assert near.zone == Zone.SLOW and "possibly person (score 0.49)" in near.reason
    assert s.decide([person(9.0, score=0.49)], Zone.CLEAR, RULES).zone == Zone.CLEAR
    assert s.decide([person(depth=0.0, score=0.2)], Zone.CLEAR, RULES).zone == Zone.SLOW
    metres_only = replace(RULES, use_relative_depth=False)
    assert s.decide([person(score=0.49)], Zone.CLEAR, metres_only).zone == Zone.SLOW


IMPOSSIBLE = [
    {"distance": 0.5, "distance_stddev": -50.0},
    {"depth": 7.0},
    {"depth": 0.05, "depth_stddev": -5.0},
    {"distance": 3.0, "distance_stddev": math.inf},
    {"distance": 3.0, "distance_stddev": math.nan},
    {"distance": math.nan, "distance_stddev": 0.1},
    {"distance": math.inf},
    {"distance": 0.0},
    {"distance": -1.0},
    {"depth": math.nan},
    {"depth": -0.01},
    {"depth_stddev": math.nan},
    {"depth_stddev": math.inf},
    {"score": 1.01},
    {"score": -0.1},
    {"score": math.nan},
]


@pytest.mark.parametrize("numbers", IMPOSSIBLE)
@pytest.mark.parametrize("name", ["person", "chair"])
def test_numbers_that_cannot_be_true_are_never_clear(numbers, name):
    bad = person(**{"name": name, **numbers})
    decision = s.decide([person(9.0), bad], Zone.CLEAR, RULES)
    field = next(iter(reversed(numbers)))
    assert decision.zone == Zone.FAIL_SAFE and name in decision.reason and "expected" in decision.reason
    assert field.split("_")[0] in decision.reason and "\n" not in decision.reason


@given(anything)
def test_a_problem_is_named_exactly_where_a_number_cannot_be_true(o):
    in_unit = all(0 <= v <= 1 for v in (o.depth, o.depth_stddev, o.score))
    unknown = math.isnan(o.distance) and math.isnan(o.distance_stddev)
    known = 0 < o.distance < math.inf and 0 <= o.distance_stddev < math.inf
    assert (s.problem_of(o) == "") == (in_unit and (unknown or known))


def test_what_cannot_be_judged_is_near():
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
    assert s.decide([person(depth=0.5, depth_stddev=0.06)], Zone.CLEAR, rules).zone == Zone.SLOW


NOW = 1000 * SECOND


def assess(*observations, now=NOW, steady=NOW, previous=Zone.CLEAR, config=RULES):
    return s.assess(observations, now, steady, previous, config)


def seen(*objects, age=0.0, waited=0.0, **more):
    """What was seen `age` seconds ago and came `waited` seconds ago."""
    return Observation(NOW - round(age * 1e9), objects or (person(9.0),), NOW - round(waited * 1e9), **more)


@given(st.floats(-5, 5), st.floats(0, 5))
def test_depths_hold_for_their_time_on_either_clock(age, waited):
    assume(all(abs(abs(v) - RULES.max_depths_age) > 1e-6 for v in (age, waited)))
    decision = assess(seen(age=age, waited=waited))
    assert (decision.zone == Zone.CLEAR) == (abs(age) < RULES.max_depths_age and waited < RULES.max_depths_age)
    if decision.zone != Zone.CLEAR:
        assert decision.zone == Zone.FAIL_SAFE and any(w in decision.reason for w in ("old", "ahead", "stands still"))


def test_no_depths_and_no_clock_are_fail_safe():
    assert assess().zone == Zone.FAIL_SAFE
    assert "clock" in assess(seen(), now=0).reason
    assert assess(Observation(0, (person(9.0),), NOW), now=SECOND // 2).zone == Zone.CLEAR


def test_a_blind_camera_and_a_report_that_cannot_be_used_are_fail_safe():
    assert assess(seen(unhealthy="dark")).zone == Zone.FAIL_SAFE
    assert assess(seen(unhealthy="dark"), config=replace(RULES, require_image_health=False)).zone == Zone.CLEAR
    assert assess(seen(problem="depth is 7")).zone == Zone.FAIL_SAFE


def test_of_several_publishers_the_most_careful_counts():
    assert assess(seen(), seen(person(0.5))).zone == Zone.STOP
    assert assess(seen(), seen(age=2.0)).zone == Zone.FAIL_SAFE
    assert assess(seen(person(1.9)), seen(person(1.2))).nearest.distance == 1.2


def test_an_older_stamp_never_takes_the_place_of_a_newer_one():
    stop, late = seen(person(0.5)), seen(age=0.1)
    assert s.merge(stop, late) == stop and s.merge(None, late) == late
    newer = Observation(stop.stamp_ns + 1, (person(9.0),), NOW)
    assert s.merge(stop, newer) == newer
    # of one stamp both count
    assert assess(s.merge(stop, seen())).zone == Zone.STOP == assess(s.merge(seen(), stop)).zone
    assert s.merge(seen(unhealthy="dark"), seen()).unhealthy == "dark"
    # what cannot be used is never overlooked
    assert s.merge(stop, seen(age=0.5, problem="x")).problem == "x"
    assert s.merge(seen(age=-0.5, problem="x"), stop) == stop  # its stamp holds nothing up
    held = seen()
    for _ in range(s.MAX_OBJECTS_OF_A_STAMP):
        held = s.merge(held, seen())
    assert held.problem and len(held.objects) <= s.MAX_OBJECTS_OF_A_STAMP


CONFIGS = [RULES, EVERYTHING, replace(RULES, sigmas=2.0), replace(EVERYTHING, use_relative_depth=False)]


def check_the_rule(observations, previous, config):
    """Never faster than fail-safe unless all is valid, fresh and clear: a model that shares nothing with the code."""

    def is_clear(o):
        wanted = not config.objects or o.name.casefold() in ("person",)
        if not wanted or o.score < config.possible_score:
            return True
        if math.isfinite(o.distance):
            return o.distance - config.sigmas * o.distance_stddev > config.stop_distance
        return config.use_relative_depth and o.depth - config.sigmas * o.depth_stddev > config.stop_depth

    def is_valid(o):
        if not all(v >= 0 and v <= 1 for v in (o.depth, o.depth_stddev, o.score)):
            return False
        if o.distance != o.distance and o.distance_stddev != o.distance_stddev:
            return True
        return o.distance > 0 and o.distance < math.inf and o.distance_stddev >= 0 and o.distance_stddev < math.inf

    def is_fresh(o):
        return abs(NOW - o.stamp_ns) <= SECOND and NOW - o.received_ns <= SECOND and not o.unhealthy

    def names_all(o):
        return not config.objects or any(x.name.casefold() == "person" for x in o.objects)

    decision = s.assess(observations, NOW, NOW, previous, config)
    good = bool(observations) and all(
        is_fresh(o) and names_all(o) and all(is_valid(x) for x in o.objects) for o in observations
    )
    everything = [x for o in observations for x in o.objects]
    if not good or not all(is_clear(x) for x in everything if not x.score < config.min_score):
        assert config.speed(decision.zone) <= config.fail_safe_speed, decision
    if not good or not all(is_clear(x) for x in everything if x.score < config.min_score):
        assert config.speed(decision.zone) <= config.slow_speed, decision
    assert "\n" not in decision.reason
    return decision.zone


@given(
    st.lists(
        st.builds(
            lambda objects, age, waited, unhealthy: seen(*objects, age=age, waited=waited, unhealthy=unhealthy),
            st.lists(st.one_of(anything, things), min_size=1, max_size=3),
            st.one_of(st.floats(0, 0.9), st.floats(-3, 3)),
            st.one_of(st.floats(0, 0.9), st.floats(0, 3)),
            st.sampled_from(["", "", "", "dark"]),
        ),
        max_size=3,
    ),
    zones,
    st.sampled_from(CONFIGS),
)
@settings(max_examples=300, deadline=None)
def test_never_faster_than_fail_safe_unless_everything_is_valid_fresh_and_clear(observations, previous, config):
    check_the_rule(observations, previous, config)


def test_the_rule_on_ten_thousand_random_reports():
    rng = random.Random(0)
    odd = (math.nan, math.inf, -math.inf, -1.0, 0.0, 1.0, 7.0, 1e-300, 1e300)

    def number(low, high):
        return rng.choice(odd) if rng.random() < 0.05 else rng.uniform(low, high)

    def thing():
        known = rng.random() < 0.6
        distance, stddev = (number(0.1, 5), number(0, 0.5)) if known else (math.nan, math.nan)
        return person(distance, number(0, 1), number(0, 1), rng.choice(["person", "chair"]), number(0, 0.3), stddev)

    zones_seen = Counter()
    for _ in range(10_000):
        observations = [
            seen(
                *(thing() for _ in range(rng.randint(1, 3))),
                age=rng.choice([0.0, 0.5, 0.5, 2.0, -2.0]) if rng.random() < 0.2 else 0.3,
                waited=rng.choice([0.0, 5.0]) if rng.random() < 0.1 else 0.1,
                unhealthy="dark" if rng.random() < 0.05 else "",
            )
            for _ in range(rng.choice([0, 1, 1, 1, 1, 2]))
        ]
        zones_seen[check_the_rule(observations, rng.choice(list(Zone)), rng.choice(CONFIGS))] += 1
    assert min(zones_seen[zone] for zone in Zone) > 300, zones_seen  # every zone is really reached


def test_commands_hold_for_their_time_on_every_clock():
    still = Velocity((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    half = SECOND // 2

    def fresh(received=NOW, steady=NOW, stamp=0):
        return not s.why_stale(Command(still, received, steady, stamp), NOW, NOW, RULES)

    assert fresh() and fresh(NOW - half, NOW - half, NOW - half)
    assert not fresh(received=NOW + 1) and not fresh(received=NOW - half - 1)
    assert not fresh(steady=NOW - half - 1)  # the clock stood still
    assert not fresh(stamp=NOW - half - 1) and not fresh(stamp=NOW + SECOND)
    assert fresh(stamp=NOW + 1)  # the sender's clock is a little ahead


@given(motions, zones, st.booleans())
def test_a_limited_motion_is_within_the_limit_and_on_the_same_curve(motion, zone, limit_reverse):
    rules = replace(RULES, limit_reverse=limit_reverse)
    limited = s.limit(motion, zone, rules)
    x, y, z = motion.linear
    if zone != Zone.SLOW or limit_reverse or not (x < 0 and y == z == 0):
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
    free = replace(RULES, limit_reverse=False)
    assert s.limit(back, Zone.SLOW, RULES).linear[0] == pytest.approx(-0.3)
    assert s.limit(back, Zone.SLOW, free) == back
    # a stop stops every direction
    assert s.limit(back, Zone.STOP, RULES) == ZERO_VELOCITY == s.limit(back, Zone.STOP, free)
    for x, y in ((0.5, 0.0), (0.0, 0.5), (0.0, -0.5), (-0.5, 0.5)):
        assert s.limit(Velocity((x, y, 0.0), (0.0, 0.0, 0.0)), Zone.STOP, free) == ZERO_VELOCITY
    sideways = s.limit(Velocity((-0.5, 0.5, 0.0), (0.0, 0.0, 0.0)), Zone.SLOW, free)
    assert math.hypot(*sideways.linear) == pytest.approx(0.3)
    assert s.limit(back, Zone.FAIL_SAFE, free).linear[0] == pytest.approx(-0.1)


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
    ("change", "said"),
    [
        ({"stop_distance": 2.5}, "stop_distance is 2.5, slow_distance is 2"),
        ({"stop_depth": 0.5}, "stop_depth <= slow_depth"),
        ({"slow_speed": 1.5}, "slow_speed <= max_speed"),
        ({"fail_safe_speed": 0.5}, "fail_safe_speed <= slow_speed"),
        ({"slow_turn_rate": 9.0}, "slow_turn_rate <= max_turn_rate"),
        ({"stop_turn_rate": 1.0}, "stop_turn_rate <= slow_turn_rate"),
        ({"fail_safe_turn_rate": 1.0}, "fail_safe_turn_rate <= slow_turn_rate"),
        ({"possible_score": 0.6}, "possible_score <= min_score"),
        ({"min_score": 1.1}, "min_score is 1.1"),
        ({"max_speed": math.nan}, "max_speed is nan"),
        ({"sigmas": -1.0}, "sigmas is -1"),
        ({"slow_distance": math.inf}, "slow_distance is inf"),
    ],
)
def test_configurations_that_contradict_themselves(change, said):
    with pytest.raises(BadGovernorConfigError, match=said):
        replace(RULES, **change)
