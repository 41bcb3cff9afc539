"""How fast a robot may go, given how far the objects that matter are: frozen values and pure functions.

Promises: whatever cannot be judged (no depths, old ones, an object nobody looks for, numbers that are none) gives the
fail-safe limit or a stop, never a faster one; a limited motion keeps its direction and its curve. Distances are metres
where they are calibrated; relative depth is not metres, is said to be so in every reason, and has thresholds of its
own. Knows nothing of ROS, topics or clocks: it is given the time.

It is no safety device: a camera and a language model see what they see.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import Enum, IntEnum

from proxqa_core.errors import ProxqaError
from proxqa_core.types import ObjectDepth, clean_text

Vector = tuple[float, float, float]

NAV2_LEAST = 0.01
"""Metres per second: Nav2 takes a speed limit of 0 for "no limit", so a stop is said as this."""


class BadGovernorConfigError(ProxqaError, ValueError):
    """Rules that contradict themselves or have a number that is none."""


class Zone(IntEnum):
    """Where the nearest object is; a higher one is more careful."""

    CLEAR = 0
    SLOW = 1
    STOP = 2
    FAIL_SAFE = 3  # it is not known where


class Measure(str, Enum):
    """What a decision was made by."""

    METRES = "metres"
    RELATIVE = "relative depth, not metres"
    NOTHING = "nothing"  # no object in view, or none could be judged


@dataclass(frozen=True)
class GovernorConfig:
    """What to slow down for, and to what. Every number is finite and >= 0.

    objects: names, upper and lower case alike; () = whatever is reported. min_score: in [0, 1], objects below it are
    ignored. slow_distance, stop_distance, distance_hysteresis: metres. slow_depth, stop_depth, depth_hysteresis:
    relative depth, for objects without a distance; use_relative_depth False: these give the fail-safe limit. sigmas: so
    many standard deviations nearer than it was read is where an object is taken to be. *_speed: m/s. *_turn_rate:
    rad/s. limit_reverse: whether backward motion (linear x < 0) is limited by objects too.
    max_depths_age: seconds, of depths, also ahead of the clock. command_timeout: seconds.
    Raises BadRulesError.
    """

    objects: tuple[str, ...]
    min_score: float
    slow_distance: float
    stop_distance: float
    distance_hysteresis: float
    use_relative_depth: bool
    slow_depth: float
    stop_depth: float
    depth_hysteresis: float
    sigmas: float
    max_speed: float
    slow_speed: float
    fail_safe_speed: float
    max_turn_rate: float
    slow_turn_rate: float
    stop_turn_rate: float
    fail_safe_turn_rate: float
    limit_reverse: bool
    max_depths_age: float
    command_timeout: float

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float) and not (math.isfinite(value) and value >= 0):
                raise BadGovernorConfigError(f"{field.name} is {value}; expected a finite number >= 0")
        for small, large in (
            ("stop_distance", "slow_distance"),
            ("stop_depth", "slow_depth"),
            ("slow_speed", "max_speed"),
            ("fail_safe_speed", "slow_speed"),
            ("slow_turn_rate", "max_turn_rate"),
            ("stop_turn_rate", "slow_turn_rate"),
            ("fail_safe_turn_rate", "slow_turn_rate"),
        ):
            if getattr(self, small) > getattr(self, large):
                raise BadGovernorConfigError(
                    f"{small} is {getattr(self, small):g}, {large} is {getattr(self, large):g}; "
                    f"expected {small} <= {large}"
                )

    def speed(self, zone: Zone) -> float:
        """The highest linear speed in a zone, m/s."""
        return (self.max_speed, self.slow_speed, 0.0, self.fail_safe_speed)[zone]

    def turn_rate(self, zone: Zone) -> float:
        """The highest angular speed in a zone, rad/s."""
        return (self.max_turn_rate, self.slow_turn_rate, self.stop_turn_rate, self.fail_safe_turn_rate)[zone]


@dataclass(frozen=True)
class Observation:
    """What was seen, and when: stamp_ns is the image's own stamp in nanoseconds."""

    stamp_ns: int
    objects: tuple[ObjectDepth, ...]


@dataclass(frozen=True)
class Decision:
    """The zone, why (one line), by what measure, and the object that decided it where one did."""

    zone: Zone
    reason: str
    measure: Measure = Measure.NOTHING
    nearest: ObjectDepth | None = None


@dataclass(frozen=True)
class Velocity:
    """A commanded velocity in the robot's frame (REP-103): linear m/s, angular rad/s."""

    linear: Vector
    angular: Vector


ZERO_VELOCITY = Velocity((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))


def assess(report: Observation | None, now_ns: int, previous: Zone, rules: GovernorConfig) -> Decision:
    """The decision on the newest report at now_ns (0 = the clock has not started), coming from the zone `previous`."""
    if now_ns == 0:
        return Decision(Zone.FAIL_SAFE, "the clock has not started; is /clock published?")
    if report is None:
        return Decision(Zone.FAIL_SAFE, "no object_depths yet")
    age = (now_ns - report.stamp_ns) / 1e9
    if age > rules.max_depths_age:
        return Decision(Zone.FAIL_SAFE, f"the newest object_depths are {age:.2f} s old")
    if age < -rules.max_depths_age:
        return Decision(Zone.FAIL_SAFE, f"the newest object_depths are {-age:.2f} s ahead of the clock")
    return decide(report.objects, previous, rules)


def decide(objects: Sequence[ObjectDepth], previous: Zone, rules: GovernorConfig) -> Decision:
    """The decision on objects that are up to date.

    A zone is entered at its threshold and left only beyond threshold + hysteresis (FAIL_SAFE is left as STOP is);
    deciding again on the same objects changes nothing.
    """
    reported = {o.name.casefold() for o in objects}
    if missing := [name for name in rules.objects if name.casefold() not in reported]:
        return Decision(
            Zone.FAIL_SAFE, f"nobody looks for {', '.join(missing)}: not among the objects of object_depths"
        )
    wanted = {name.casefold() for name in rules.objects} or reported
    seen = [o for o in objects if o.name.casefold() in wanted and not o.score < rules.min_score]
    if not seen:
        return Decision(Zone.CLEAR, "no object that matters is in view")
    # the most careful zone decides; in it metres go before relative depths, near before far
    return max(
        (_judge(o, previous, rules) for o in seen),
        key=lambda d: (d.zone, d.measure is Measure.METRES, -_nearness(d.nearest, rules)),
    )


def _nearness(o: ObjectDepth | None, rules: GovernorConfig) -> float:
    """Where an object is taken to be, in its own measure: metres or relative depth; -inf where it has neither."""
    assert o is not None
    value, stddev = (o.distance, o.distance_stddev) if math.isfinite(o.distance) else (o.depth, o.depth_stddev)
    if not math.isfinite(value):
        return -math.inf
    return value - rules.sigmas * (stddev if math.isfinite(stddev) else 0.0)


def _judge(o: ObjectDepth, previous: Zone, rules: GovernorConfig) -> Decision:
    value, name = _nearness(o, rules), clean_text(o.name)
    if math.isfinite(o.distance):
        measure, reason = Measure.METRES, f"{name} at {o.distance:.2f} m (stddev {o.distance_stddev:.2f} m)"
        stop, slow, hysteresis = rules.stop_distance, rules.slow_distance, rules.distance_hysteresis
    elif not rules.use_relative_depth:
        return Decision(Zone.FAIL_SAFE, f"{name} has no distance in metres (not calibrated)", Measure.NOTHING, o)
    else:
        measure = Measure.RELATIVE
        reason = f"{name} at relative depth {o.depth:.2f} (stddev {o.depth_stddev:.2f}; not metres)"
        stop, slow, hysteresis = rules.stop_depth, rules.slow_depth, rules.depth_hysteresis
    zone = Zone.CLEAR
    for candidate, threshold in ((Zone.SLOW, slow), (Zone.STOP, stop)):
        if value <= threshold + (hysteresis if previous >= candidate else 0.0):
            zone = candidate
    return Decision(zone, reason, measure, o)


def is_fresh(received_ns: int, now_ns: int, rules: GovernorConfig) -> bool:
    """Whether a command received then still holds now; one from the future does not (the clock was set back)."""
    return 0 <= now_ns - received_ns <= rules.command_timeout * 1e9


def limit(motion: Velocity, zone: Zone, rules: GovernorConfig) -> Velocity:
    """The motion, slowed down as a whole to what the zone allows; STILL where one of its numbers is none.

    Linear and angular are scaled by the same factor: the robot drives the same curve, only slower.
    """
    numbers = (*motion.linear, *motion.angular)
    if not all(math.isfinite(v) for v in numbers):
        return ZERO_VELOCITY
    if motion.linear[0] < 0 and not rules.limit_reverse and zone < Zone.FAIL_SAFE:
        zone = Zone.CLEAR
    factor = 1.0
    for length, highest in (
        (math.hypot(*motion.linear), rules.speed(zone)),
        (math.hypot(*motion.angular), rules.turn_rate(zone)),
    ):
        if length > highest:
            factor = min(factor, highest / length)
    x, y, z, roll, pitch, yaw = (v * factor for v in numbers)
    return Velocity((x, y, z), (roll, pitch, yaw))


def nav2_limit(zone: Zone, rules: GovernorConfig) -> float:
    """The speed limit for Nav2, m/s: 0 = none (its own NO_SPEED_LIMIT) where the way is clear, else > 0."""
    return 0.0 if zone == Zone.CLEAR else max(rules.speed(zone), NAV2_LEAST)
