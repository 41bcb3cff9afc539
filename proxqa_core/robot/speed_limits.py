"""How fast a robot may go, given how far the objects that matter are: frozen values and pure functions.

Promises: never faster than the fail-safe limit unless every number of every report is possible, fresh and clear.
Whatever cannot be judged (no depths, old ones, an object nobody looks for, a blind camera, numbers that cannot be true)
gives the fail-safe limit or a stop; a limited velocity keeps its direction and its curve. A nearer object, or one that
is more surely there, never makes it faster. Distances are metres where they are calibrated; relative depth is not
metres, is called so in every reason, and has thresholds of its own. Knows nothing of ROS, topics or clocks: it is given
the time.

It is no safety device: a camera and a language model see what they see.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from enum import Enum, IntEnum

from proxqa_core.errors import ProxqaError
from proxqa_core.types import ObjectDepth, clean_text

Vector = tuple[float, float, float]

NO_DEPTHS = "no object_depths yet"
MAX_OBJECTS_OF_A_STAMP = 1024
"""More than that is no report: a publisher that repeats one stamp for ever must not fill the memory."""
NAV2_MIN_SPEED_M_S = 0.01
"""Metres per second: Nav2 takes a speed limit of 0 for "no limit", so a stop is said as this."""


class BadGovernorConfigError(ProxqaError, ValueError):
    """A configuration that contradicts itself or has a number that is none."""


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

    Attributes:
        objects: Names, upper and lower case alike; () = whatever is reported.
        min_score: In [0, 1]: objects from this score on are there.
        possible_score: In [0, min_score]: objects from this score on may be there, and slow the robot down where they
            would be near enough; those below are ignored.
        slow_distance, stop_distance, distance_hysteresis: Metres.
        slow_depth, stop_depth, depth_hysteresis: Relative depth, for objects without a distance.
        use_relative_depth: False: objects without a distance give the fail-safe limit.
        require_image_health: Depths of an image that is not known to be a good one give the fail-safe limit.
        sigmas: So many standard deviations nearer than it was read is where an object is taken to be.
        max_speed, slow_speed, fail_safe_speed: Metres per second.
        max_turn_rate, slow_turn_rate, stop_turn_rate, fail_safe_turn_rate: Radians per second.
        limit_reverse: Whether straight backward motion is limited by objects in the slow zone too; a stop stops every
            direction.
        max_depths_age: Seconds, of depths, also ahead of the clock.
        command_timeout: Seconds.

    Raises:
        BadGovernorConfigError: A number is none, or two contradict each other.
    """

    objects: tuple[str, ...]
    min_score: float
    possible_score: float
    slow_distance: float
    stop_distance: float
    distance_hysteresis: float
    use_relative_depth: bool
    require_image_health: bool
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
        if self.min_score > 1:
            raise BadGovernorConfigError(f"min_score is {self.min_score:g}; expected a number in [0, 1]")
        for small, large in (
            ("possible_score", "min_score"),
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
    """What one publisher saw, and when.

    Attributes:
        stamp_ns: The image's own stamp, nanoseconds.
        objects: What was looked for.
        received_ns: When it came, on a steady clock, nanoseconds.
        problem: Why it cannot be used (a number that cannot be true, a blind camera), one line; '' = it can.
        unhealthy: Why the image is not known to be a good one, one line; '' = it is.
    """

    stamp_ns: int
    objects: tuple[ObjectDepth, ...]
    received_ns: int = 0
    problem: str = ""
    unhealthy: str = ""


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


@dataclass(frozen=True)
class Command:
    """The newest command.

    Attributes:
        velocity: What is commanded.
        received_ns: When it came, on the clock that stamps are of, nanoseconds.
        steady_ns: When it came, on the steady clock, nanoseconds; when it was sent, where the middleware tells.
        stamp_ns: Its own stamp, 0 = it has none.
        frame_id: Of a stamped command.
    """

    velocity: Velocity
    received_ns: int
    steady_ns: int
    stamp_ns: int = 0
    frame_id: str = ""


ZERO_VELOCITY = Velocity((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))


def merge(held: Observation | None, new: Observation) -> Observation:
    """What is known of one publisher after another report of its came.

    An older stamp never takes the place of a newer one. Of two reports with one stamp both count: the objects of both
    are kept, so that the nearest decides. A report that cannot be used takes the place of whatever there was, until the
    next one: its stamp means no more than its numbers.
    """
    if held is None or held.problem or new.problem or new.stamp_ns > held.stamp_ns:
        return new
    if new.stamp_ns < held.stamp_ns:
        return held
    objects, problem = held.objects + new.objects, ""
    if len(objects) > MAX_OBJECTS_OF_A_STAMP:
        objects, problem = held.objects, f"more than {MAX_OBJECTS_OF_A_STAMP} objects under one stamp"
    return replace(new, objects=objects, problem=problem, unhealthy=held.unhealthy or new.unhealthy)


def assess(
    observations: Iterable[Observation], now_ns: int, steady_ns: int, previous: Zone, config: GovernorConfig
) -> Decision:
    """The decision on the newest observation of every publisher: the most careful one counts.

    Args:
        observations: One a publisher; none = none has come.
        now_ns: The clock that stamps are of, nanoseconds; 0 = it has not started.
        steady_ns: The steady clock of `Observation.received_ns`; it goes on where the other stands still.
        previous: The zone before.
        config: What to slow down for.
    """
    if now_ns == 0:
        return Decision(Zone.FAIL_SAFE, "the clock has not started; is /clock published?")
    decisions = [_assess_one(o, now_ns, steady_ns, previous, config) for o in observations]
    return max(decisions, key=lambda d: _rank(d, config)) if decisions else Decision(Zone.FAIL_SAFE, NO_DEPTHS)


def _assess_one(
    observation: Observation, now_ns: int, steady_ns: int, previous: Zone, config: GovernorConfig
) -> Decision:
    if observation.problem:
        return Decision(Zone.FAIL_SAFE, f"object_depths cannot be used: {observation.problem}")
    age_s, waited_s = (now_ns - observation.stamp_ns) / 1e9, (steady_ns - observation.received_ns) / 1e9
    if age_s > config.max_depths_age:
        return Decision(Zone.FAIL_SAFE, f"the newest object_depths are {age_s:.2f} s old")
    if age_s < -config.max_depths_age:
        return Decision(Zone.FAIL_SAFE, f"the newest object_depths are {-age_s:.2f} s ahead of the clock")
    if waited_s > config.max_depths_age:
        return Decision(Zone.FAIL_SAFE, f"no object_depths for {waited_s:.2f} s, though the clock stands still")
    if observation.unhealthy and config.require_image_health:
        return Decision(Zone.FAIL_SAFE, f"the camera may be blind: {observation.unhealthy}")
    return decide(observation.objects, previous, config)


def problem_of(o: ObjectDepth) -> str:
    """Why an object's numbers cannot be true, one line that quotes them; '' where they can.

    What is not known is NaN: a distance and its deviation, both together. Everything else is always known.
    """
    name = clean_text(o.name)[:40]
    for field, value in (("depth", o.depth), ("depth_stddev", o.depth_stddev), ("score", o.score)):
        if not 0 <= value <= 1:  # also NaN
            return f"{field} of {name!r} is {value:g}; expected a number in [0, 1]"
    if math.isnan(o.distance) and math.isnan(o.distance_stddev):
        return ""
    if not (math.isfinite(o.distance) and o.distance > 0):
        return f"distance of {name!r} is {o.distance:g} m; expected more than 0, or NaN where it is not known"
    if not (math.isfinite(o.distance_stddev) and o.distance_stddev >= 0):
        return f"distance_stddev of {name!r} is {o.distance_stddev:g} m; expected 0 or more beside a distance"
    return ""


def decide(objects: Sequence[ObjectDepth], previous: Zone, config: GovernorConfig) -> Decision:
    """The decision on objects that are up to date.

    A zone is entered at its threshold and left only beyond threshold + hysteresis (FAIL_SAFE is left as STOP is);
    deciding again on the same objects changes nothing. An object that is only possibly there (its score is below
    min_score, but not below possible_score) counts at most as SLOW.
    """
    # 1. numbers that cannot be true mean that nothing is known
    if problem := next((text for o in objects if (text := problem_of(o))), ""):
        return Decision(Zone.FAIL_SAFE, f"object_depths cannot be used: {problem}")
    # 2. what is to be heeded must be looked for
    reported = {o.name.casefold() for o in objects}
    if missing := [name for name in config.objects if name.casefold() not in reported]:
        return Decision(
            Zone.FAIL_SAFE, f"nobody looks for {', '.join(missing)}: not among the objects of object_depths"
        )
    # 3. the most careful zone of what is, or may be, there decides
    wanted = {name.casefold() for name in config.objects} or reported
    there = [o for o in objects if o.name.casefold() in wanted and o.score >= config.possible_score]
    if not there:
        return Decision(Zone.CLEAR, "no object that matters is in view")
    return max((_judge(o, previous, config) for o in there), key=lambda d: _rank(d, config))


def _rank(decision: Decision, config: GovernorConfig) -> tuple[Zone, bool, float]:
    """The more careful decision has the higher one; in a zone metres go before relative depths, near before far."""
    nearness = -_nearness(decision.nearest, config) if decision.nearest is not None else math.inf
    return (decision.zone, decision.measure is Measure.METRES, nearness)


def _nearness(o: ObjectDepth, config: GovernorConfig) -> float:
    """Where an object is taken to be, in its own measure: metres or relative depth."""
    value, stddev = (o.distance, o.distance_stddev) if math.isfinite(o.distance) else (o.depth, o.depth_stddev)
    return value - config.sigmas * stddev


def _judge(o: ObjectDepth, previous: Zone, config: GovernorConfig) -> Decision:
    """The zone of one object whose numbers are possible."""
    sure = o.score >= config.min_score
    name = clean_text(o.name) if sure else f"possibly {clean_text(o.name)} (score {o.score:.2f})"
    highest = Zone.FAIL_SAFE if sure else Zone.SLOW
    if math.isfinite(o.distance):
        measure, reason = Measure.METRES, f"{name} at {o.distance:.2f} m (stddev {o.distance_stddev:.2f} m)"
        stop, slow, hysteresis = config.stop_distance, config.slow_distance, config.distance_hysteresis
    elif not config.use_relative_depth:
        zone = min(Zone.FAIL_SAFE, highest)
        return Decision(zone, f"{name} has no distance in metres (not calibrated)", Measure.NOTHING, o)
    else:
        measure = Measure.RELATIVE
        reason = f"{name} at relative depth {o.depth:.2f} (stddev {o.depth_stddev:.2f}; not metres)"
        stop, slow, hysteresis = config.stop_depth, config.slow_depth, config.depth_hysteresis
    value, zone = _nearness(o, config), Zone.CLEAR
    for candidate, threshold in ((Zone.SLOW, slow), (Zone.STOP, stop)):
        if value <= threshold + (hysteresis if previous >= candidate else 0.0):
            zone = candidate
    return Decision(min(zone, highest), reason, measure, o)


def why_stale(command: Command, now_ns: int, steady_ns: int, config: GovernorConfig) -> str:
    """Why a command does not hold: by its own clock, by the steady one, or by its own stamp where it has one.

    One that came later than now does not hold: the clock was set back. A stamp may be ahead by `command_timeout`: it is
    of another machine's clock, or /clock came to the sender a moment earlier; when it came still ends it.

    Returns:
        One line; '' where it holds.
    """
    longest_s = config.command_timeout
    for age_ns in (now_ns - command.received_ns, steady_ns - command.steady_ns):
        if not 0 <= age_ns <= longest_s * 1e9:
            return f"it is {age_ns / 1e9:.3f} s old; expected 0 to {longest_s:g} s (command_timeout)"
    if command.stamp_ns and abs(age_ns := now_ns - command.stamp_ns) > longest_s * 1e9:
        off = "before" if age_ns > 0 else "ahead of"
        return (
            f"it is stamped {abs(age_ns) / 1e9:.3f} s {off} the clock; expected at most {longest_s:g} s "
            "(command_timeout) and one clock"
        )
    return ""


def limit(velocity: Velocity, zone: Zone, config: GovernorConfig) -> Velocity:
    """The velocity, slowed down as a whole to what the zone allows; ZERO_VELOCITY where one of its numbers is none.

    Linear and angular are scaled by the same factor: the robot drives the same curve, only slower. A stop stops every
    direction. In the slow zone straight backward motion is free where the configuration says so.
    """
    numbers = (*velocity.linear, *velocity.angular)
    if not all(math.isfinite(v) for v in numbers):
        return ZERO_VELOCITY
    x, y, z = velocity.linear
    if zone == Zone.SLOW and not config.limit_reverse and x < 0 and y == 0 and z == 0:
        zone = Zone.CLEAR
    factor = 1.0
    for length, highest in (
        (math.hypot(*velocity.linear), config.speed(zone)),
        (math.hypot(*velocity.angular), config.turn_rate(zone)),
    ):
        if length > highest:
            factor = min(factor, highest / length)
    x, y, z, roll, pitch, yaw = (v * factor for v in numbers)
    return Velocity((x, y, z), (roll, pitch, yaw))


def nav2_limit(zone: Zone, config: GovernorConfig) -> float:
    """The speed limit for Nav2, m/s: 0 = none (its own NO_SPEED_LIMIT) where the way is clear, else > 0."""
    return 0.0 if zone == Zone.CLEAR else max(config.speed(zone), NAV2_MIN_SPEED_M_S)
