"""How fast a robot may go, given how far the objects that matter are: frozen values and pure functions.

Promises: whatever cannot be judged (no depths, old ones, an object nobody looks for, NaN) gives the fail-safe limit or
a stop, never a faster one; a limited velocity keeps its direction and its curvature. Distances are metres where they
are calibrated; relative depth is not metres, every reason says so, and it has thresholds of its own. Knows nothing of
ROS, topics or clocks: it is given the time.

It is no safety device: a camera and a language model may miss any object.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import Enum, IntEnum

from proxqa_core.errors import ProxqaError
from proxqa_core.stamps import NS_PER_S
from proxqa_core.types import ObjectDepth, clean_text

Vector = tuple[float, float, float]

NAV2_MIN_SPEED_M_S = 0.01
"""In m/s: Nav2 takes a speed limit of 0 as "no limit", so a stop is sent as this."""


class BadGovernorConfigError(ProxqaError, ValueError):
    """A configuration that contradicts itself or has a value outside its range."""


class Zone(IntEnum):
    """Where the nearest object is; a higher value is stricter."""

    CLEAR = 0
    SLOW = 1
    STOP = 2
    FAIL_SAFE = 3  # it is not known where


class Measure(str, Enum):
    """The quantity that a decision is based on."""

    METRES = "metres"
    RELATIVE = "relative depth, not metres"
    NOTHING = "nothing"  # no object in view, or none could be judged


@dataclass(frozen=True)
class GovernorConfig:
    """What to slow down for, and to what. Every number is finite and >= 0.

    Attributes:
        objects: Names, case-insensitive; () = whatever is reported.
        min_score: Objects with a score below this are ignored, in [0, 1].
        slow_distance: Slow down for objects within this, in metres.
        stop_distance: Stop for objects within this, in metres.
        distance_hysteresis: A zone is left only beyond its threshold plus this, in metres.
        use_relative_depth: Whether objects without a distance are judged by relative depth; else they give the
            fail-safe limit.
        slow_depth: As `slow_distance`, relative depth.
        stop_depth: As `stop_distance`, relative depth.
        depth_hysteresis: As `distance_hysteresis`, relative depth.
        sigmas: An object is assumed to be this many standard deviations nearer than predicted.
        max_speed: Linear speed where the way is clear, in m/s.
        slow_speed: Linear speed in the slow zone, in m/s.
        fail_safe_speed: Linear speed where it is not known how far the objects are, in m/s.
        max_turn_rate: Angular speed where the way is clear, in rad/s.
        slow_turn_rate: Angular speed in the slow zone, in rad/s.
        stop_turn_rate: Angular speed in the stop zone, in rad/s.
        fail_safe_turn_rate: Angular speed where it is not known how far the objects are, in rad/s.
        limit_reverse: Whether backward motion (linear x < 0) is limited by objects too.
        max_depths_age: Largest age of depths, also ahead of the clock, in seconds.
        command_timeout: Largest age of a command, in seconds.

    Raises:
        BadGovernorConfigError: A number is not finite or negative, or a stricter zone has a looser value.
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
        """The largest linear speed in a zone, in m/s."""
        return (self.max_speed, self.slow_speed, 0.0, self.fail_safe_speed)[zone]

    def turn_rate(self, zone: Zone) -> float:
        """The largest angular speed in a zone, in rad/s."""
        return (self.max_turn_rate, self.slow_turn_rate, self.stop_turn_rate, self.fail_safe_turn_rate)[zone]


@dataclass(frozen=True)
class Observation:
    """The objects of one image.

    Attributes:
        stamp_ns: The image's own stamp, in nanoseconds.
        objects: The objects with their depths.
    """

    stamp_ns: int
    objects: tuple[ObjectDepth, ...]


@dataclass(frozen=True)
class Decision:
    """The outcome of `assess`.

    Attributes:
        zone: The zone.
        reason: Why, in one line.
        measure: The quantity that it is based on.
        nearest: The object that decided it, None = no object did.
    """

    zone: Zone
    reason: str
    measure: Measure = Measure.NOTHING
    nearest: ObjectDepth | None = None


@dataclass(frozen=True)
class Velocity:
    """A commanded velocity in the robot's frame (REP 103).

    Attributes:
        linear: x, y, z in m/s.
        angular: Around x, y, z in rad/s.
    """

    linear: Vector
    angular: Vector


ZERO_VELOCITY = Velocity((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))


def assess(observation: Observation | None, now_ns: int, previous: Zone, config: GovernorConfig) -> Decision:
    """Decide on the newest observation.

    Args:
        observation: The newest one, None = there is none yet.
        now_ns: The time, in nanoseconds; 0 = the clock has not started.
        previous: The zone before.
        config: What to slow down for.
    """
    if now_ns == 0:
        return Decision(Zone.FAIL_SAFE, "the clock has not started; is /clock published?")
    if observation is None:
        return Decision(Zone.FAIL_SAFE, "no object_depths yet")
    age = (now_ns - observation.stamp_ns) / NS_PER_S
    if age > config.max_depths_age:
        return Decision(Zone.FAIL_SAFE, f"the newest object_depths are {age:.2f} s old")
    if age < -config.max_depths_age:
        return Decision(Zone.FAIL_SAFE, f"the newest object_depths are {-age:.2f} s ahead of the clock")
    return decide(observation.objects, previous, config)


def decide(objects: Sequence[ObjectDepth], previous: Zone, config: GovernorConfig) -> Decision:
    """Decide on objects that are up to date.

    A zone is entered at its threshold and left only beyond threshold + hysteresis (FAIL_SAFE is left as STOP is);
    deciding again on the same objects changes nothing.

    Args:
        objects: The objects reported.
        previous: The zone before.
        config: What to slow down for.
    """
    reported = {o.name.casefold() for o in objects}
    if missing := [name for name in config.objects if name.casefold() not in reported]:
        return Decision(
            Zone.FAIL_SAFE, f"nobody looks for {', '.join(missing)}: not among the objects of object_depths"
        )
    wanted = {name.casefold() for name in config.objects} or reported
    seen = [o for o in objects if o.name.casefold() in wanted and not o.score < config.min_score]
    if not seen:
        return Decision(Zone.CLEAR, "no object that matters is in view")
    # the strictest zone decides; in it metres come before relative depths, near before far
    return max(
        (_judge(o, previous, config) for o in seen),
        key=lambda d: (d.zone, d.measure is Measure.METRES, -_nearness(d.nearest, config)),
    )


def _nearness(o: ObjectDepth | None, config: GovernorConfig) -> float:
    """How far an object is assumed to be, in metres or as relative depth; -inf where it has neither."""
    assert o is not None
    value, stddev = (o.distance, o.distance_stddev) if math.isfinite(o.distance) else (o.depth, o.depth_stddev)
    if not math.isfinite(value):
        return -math.inf
    return value - config.sigmas * (stddev if math.isfinite(stddev) else 0.0)


def _judge(o: ObjectDepth, previous: Zone, config: GovernorConfig) -> Decision:
    value, name = _nearness(o, config), clean_text(o.name)
    if math.isfinite(o.distance):
        measure, reason = Measure.METRES, f"{name} at {o.distance:.2f} m (stddev {o.distance_stddev:.2f} m)"
        stop, slow, hysteresis = config.stop_distance, config.slow_distance, config.distance_hysteresis
    elif not config.use_relative_depth:
        return Decision(Zone.FAIL_SAFE, f"{name} has no distance in metres (not calibrated)", Measure.NOTHING, o)
    else:
        measure = Measure.RELATIVE
        reason = f"{name} at relative depth {o.depth:.2f} (stddev {o.depth_stddev:.2f}; not metres)"
        stop, slow, hysteresis = config.stop_depth, config.slow_depth, config.depth_hysteresis
    zone = Zone.CLEAR
    for candidate, threshold in ((Zone.SLOW, slow), (Zone.STOP, stop)):
        if value <= threshold + (hysteresis if previous >= candidate else 0.0):
            zone = candidate
    return Decision(zone, reason, measure, o)


def is_fresh(received_ns: int, now_ns: int, config: GovernorConfig) -> bool:
    """Whether a command is recent enough; one from the future is not (the clock was set back).

    Args:
        received_ns: When it was received, in nanoseconds.
        now_ns: The time, in nanoseconds.
        config: Its `command_timeout` is used.
    """
    return 0 <= now_ns - received_ns <= config.command_timeout * NS_PER_S


def limit(velocity: Velocity, zone: Zone, config: GovernorConfig) -> Velocity:
    """Scale a velocity down to what the zone allows.

    Linear and angular are scaled by the same factor: the robot drives the same curve, only slower.

    Args:
        velocity: As commanded.
        zone: The current zone.
        config: The limits.

    Returns:
        The limited velocity; ZERO_VELOCITY where one of the numbers is not finite.
    """
    numbers = (*velocity.linear, *velocity.angular)
    if not all(math.isfinite(v) for v in numbers):
        return ZERO_VELOCITY
    if velocity.linear[0] < 0 and not config.limit_reverse and zone < Zone.FAIL_SAFE:
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
    """The speed limit for Nav2, in m/s: 0 = none (Nav2's NO_SPEED_LIMIT) where the way is clear, else > 0."""
    return 0.0 if zone == Zone.CLEAR else max(config.speed(zone), NAV2_MIN_SPEED_M_S)
