"""The lifecycle node `speed_governor`: a commanded velocity in, one limited by the nearest object out.

Promises: nothing faster than the limit of the moment leaves on `cmd_vel`; depths that are old, missing, of another
time, of a blind camera or with numbers that cannot be true give the fail-safe limit, at once; commands that stop
coming, or that waited somewhere on their way, give one zero command and then silence. Both timeouts hold on the steady
clock too.
Every decision is made by `proxqa_core.robot.speed_limits`; this is its topics, parameters and clocks.

One thread: every callback is in the node's default, mutually exclusive group.
"""

from __future__ import annotations

import copy
import importlib
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import Twist, TwistStamped, Vector3
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import JumpThreshold
from rclpy.duration import Duration
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.exceptions import ParameterException
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import QoSHistoryPolicy, QoSLivelinessPolicy, QoSProfile, QoSReliabilityPolicy
from rclpy.signals import SignalHandlerOptions

from proxqa_core.robot import speed_limits
from proxqa_core.robot.speed_limits import ZERO_VELOCITY, Command, Decision, GovernorConfig, Measure, Velocity, Zone
from proxqa_core.stamps import nanoseconds
from proxqa_ros.common import shared_memory, systemd
from proxqa_ros.common.bond import LifecycleBond
from proxqa_ros.common.executor import LOG_THROTTLE_S, spin
from proxqa_ros.common.lifecycle import AutostartNode
from proxqa_ros.common.parameters import (
    BadParameterError,
    declare,
    refusal_of_locked,
    warn_of_unknown,
)
from proxqa_ros.common.qos import NEWEST_BEST_EFFORT, Endpoint, incompatible_endpoints
from proxqa_ros.common.remaps import warn_of_unmatched
from proxqa_ros.common.start import CANNOT_START, init_ros, refuse, said_at_start
from proxqa_ros.governor import parameters as governor_parameters
from proxqa_ros.governor.sent_times import SentTimes
from proxqa_ros.governor.sources import Sources, doubled_nodes, gid_of, publishers_of
from proxqa_ros.msg import ObjectDepthArray

NEWEST_RELIABLE = QoSProfile(history=QoSHistoryPolicy.KEEP_LAST, depth=1, reliability=QoSReliabilityPolicy.RELIABLE)
CHECK_PERIOD_S = 0.05
"""Seconds between two checks whether depths and command still hold."""
DIAGNOSTICS_PERIOD_S = 1.0
"""Seconds between two diagnostics, and two repetitions of the speed limit."""
DEPTHS = "object_depths"
NAMES = (DEPTHS, "cmd_vel_in", "cmd_vel", "speed_limit", "/diagnostics")
"""Topics of the node, which may be remapped."""
LOOKS = 3
"""Looks at the graph in a row that must find two nodes of one name before that is said."""
HALT_TIMEOUT_S = 0.2
"""Longest wait for the last zero command to arrive, in seconds, when the node stops."""
BAD_PARAMETERS = 2
"""Exit code where a parameter is out of range."""

Success = TransitionCallbackReturn.SUCCESS
Failure = TransitionCallbackReturn.FAILURE


def nav2_speed_limit() -> Any:
    """The class nav2_msgs/SpeedLimit, None where nav2_msgs is not installed."""
    try:
        return importlib.import_module("nav2_msgs.msg").SpeedLimit
    except ImportError:
        return None


ABOUT = "Limits the speed of a robot by what object_depths says is near."
"""What --help says."""


class SpeedGovernor(AutostartNode):
    """See the module.

    Args:
        arguments: The process's command line, whose remappings are checked.
        **kwargs: As of rclpy's LifecycleNode.
    """

    def __init__(self, arguments: Sequence[str] | None = None, **kwargs: Any) -> None:
        super().__init__("speed_governor", **kwargs)
        self._jumped = False
        self._jump_handle = self.get_clock().create_jump_callback(
            JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1)), post_callback=self._on_jump
        )
        declare(self, governor_parameters.SPECS)
        self._unknown_parameters = warn_of_unknown(self)
        self._unmatched_remaps = warn_of_unmatched(self, NAMES, [*(arguments or ()), *(kwargs.get("cli_args") or ())])
        self._config: GovernorConfig | None = None  # None = not configured
        self._configure_error = ""
        self._active = False
        self._warned_relative = False
        self._commands_in = self._commands_out = self._commands_slowed = 0
        self._sources, self._sent_times = Sources(), SentTimes()
        self._depth_publishers: dict[bytes, str] = {}
        """Who publishes object_depths, as the graph knew it at the last diagnostics."""
        self._doubled: list[str] = []
        self._times_doubled = 0
        self._link_problem = ""
        """What QoS says of the publisher of object_depths, '' = nothing."""
        self._bond = LifecycleBond(self, float(self.get_parameter("bond_heartbeat_period").value))
        self._reset()

        self._stamped = bool(self.get_parameter("stamped").value)
        kind: Any = TwistStamped if self._stamped else Twist
        self._velocities = self.create_lifecycle_publisher(kind, "cmd_vel", NEWEST_RELIABLE)
        self._limit_type = nav2_speed_limit()
        if self._limit_type is None:
            self._limits = None
            self.get_logger().info("nav2_msgs is not installed: no `speed_limit` is published; `cmd_vel` is limited")
        else:
            self._limits = self.create_lifecycle_publisher(self._limit_type, "speed_limit", NEWEST_RELIABLE)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        depths = self._subscribe_depths()
        commands = self.create_subscription(kind, "cmd_vel_in", self._on_command, NEWEST_BEST_EFFORT)
        self._endpoints = [Endpoint.of(depths, subscribes=True), Endpoint.of(commands, subscribes=True),
                           Endpoint.of(self._velocities, subscribes=False)]  # fmt: skip
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self.add_post_set_parameters_callback(self._on_parameters_were_set)
        self.create_timer(CHECK_PERIOD_S, self._on_check, clock=self.steady_clock)
        self.create_timer(DIAGNOSTICS_PERIOD_S, self._on_diagnostics_due, clock=self.steady_clock)
        self.autostart()

    def _subscribe_depths(self) -> Any:
        """The subscription, with the deadline and the liveliness that the parameters ask publishers for."""
        deadline_s = float(self.get_parameter("depths_deadline").value)
        lease_s = float(self.get_parameter("depths_lease").value)
        qos = copy.copy(NEWEST_BEST_EFFORT)
        if deadline_s > 0:
            qos.deadline = Duration(seconds=deadline_s)
        if lease_s > 0:
            qos.liveliness = QoSLivelinessPolicy.AUTOMATIC
            qos.liveliness_lease_duration = Duration(seconds=lease_s)
        events = SubscriptionEventCallbacks(
            deadline=self._on_deadline_missed if deadline_s > 0 else None,
            liveliness=self._on_liveliness_changed if lease_s > 0 else None,
        )
        return self.create_subscription(ObjectDepthArray, DEPTHS, self._on_depths, qos, event_callbacks=events)

    # -- lifecycle ---------------------------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Read the parameters. FAILURE with one line logged where they contradict each other."""
        try:
            self._config = governor_parameters.read(self)
        except BadParameterError as error:
            self._configure_error = str(error)
            self.get_logger().error(f"cannot configure: {error}")
            return Failure
        self._configure_error = ""
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start to pass commands on, at the fail-safe limit until depths come."""
        result = super().on_activate(state)
        self._reset()
        self._active = True
        self._bond.start()
        self._publish_limit()
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop the robot with one zero command where it was commanded, and pass nothing on any more."""
        self.halt()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Drop the configuration; the parameters are read again at configure."""
        self._config = None
        return Success

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """As deactivate and cleanup."""
        self.halt()
        self._config = None
        return Success

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """As shutdown; the node can be configured again."""
        return self.on_shutdown(state)

    def halt(self) -> None:
        """Publish one zero command where a command was in effect, and take no more. Repeatable."""
        if self._active and self._command is not None:
            self._publish(ZERO_VELOCITY, self._command.frame_id)
            self._velocities.wait_for_all_acked(Duration(seconds=HALT_TIMEOUT_S))
        self._active = False
        self._bond.stop()
        self._reset()

    def _reset(self) -> None:
        self._sources.clear()
        self._link_problem = ""
        self._command: Command | None = None
        self._command_problem = ""
        """Why the newest command was not passed on, '' = it was."""
        self._decision = Decision(Zone.FAIL_SAFE, speed_limits.NO_DEPTHS)

    def destroy_node(self) -> None:
        """Stop listening to the clock, then as any node."""
        self._jump_handle.unregister()
        super().destroy_node()

    # -- topics ------------------------------------------------------------------------------------------------------

    def _on_depths(self, message: ObjectDepthArray, info: Mapping[str, Any]) -> None:
        if not self._active:
            return
        self._handle_clock_jump()
        self._link_problem = ""
        config, now_ns = self._config, self.get_clock().now().nanoseconds
        assert config is not None
        if problem := self._sources.add(gid_of(info), message, now_ns, self._steady_ns(), config.max_depths_age):
            self.get_logger().error(f"object_depths cannot be used: {problem}", throttle_duration_sec=LOG_THROTTLE_S)
        self._step()

    def _on_deadline_missed(self, _: Any) -> None:
        self._lose_link(f"no object_depths within the deadline of {self.get_parameter('depths_deadline').value:g} s")

    def _on_liveliness_changed(self, event: Any) -> None:
        if event.alive_count == 0 and event.not_alive_count_change > 0:
            self._lose_link("the publisher of object_depths is not alive any more")

    def _lose_link(self, problem: str) -> None:
        """Take the fail-safe limit at once, until the next depths come."""
        if self._active:
            self._link_problem = problem
            self._step()

    def _on_command(self, message: Twist | TwistStamped, info: Mapping[str, Any]) -> None:
        if not self._active:
            return
        twist, frame_id, stamp_ns = message, "", 0
        if self._stamped:
            twist, frame_id, stamp_ns = message.twist, message.header.frame_id, nanoseconds(message.header.stamp)
        steady_ns = self._steady_ns()
        waited_ns = self._sent_times.waited_ns(int(info.get("source_timestamp") or 0), time.time_ns(), steady_ns)
        velocity = Velocity(_vector(twist.linear), _vector(twist.angular))
        now_ns = self.get_clock().now().nanoseconds
        self._command = Command(velocity, now_ns, steady_ns - waited_ns, stamp_ns, frame_id)
        self._commands_in += 1
        self._step(renew=True)

    def _on_check(self) -> None:
        systemd.notify("WATCHDOG=1")
        if self._active:
            self._step()

    def _on_jump(self, jump: Any) -> None:
        """The clock was set back or changed: on whatever thread does that."""
        self._jumped = True

    def _handle_clock_jump(self) -> None:
        """After a jump back the depths in hand are of another time, though they may look new again later."""
        if self._jumped:
            self._jumped = False
            self._sources.clear()

    def _step(self, renew: bool = False) -> None:
        """Decide anew on the newest depths and command.

        The command is passed on where the zone has changed, and ended where it is stale.

        Args:
            renew: Whether to pass the command on in any case: it is new, or the limits are.
        """
        self._handle_clock_jump()
        config = self._config
        assert config is not None
        now, steady_ns = self.get_clock().now().nanoseconds, self._steady_ns()
        previous = self._decision.zone
        self._decision = self._decide(now, steady_ns, previous, config)
        changed = self._decision.zone != previous
        if changed:
            self._log()
            self._publish_limit()
        command = self._command
        if command is None:
            return
        if problem := speed_limits.why_stale(command, now, steady_ns, config):
            self._command = None
            if renew:  # else it has held until now
                self._refuse_command(problem)
            self._publish(ZERO_VELOCITY, command.frame_id)
        elif renew or changed:
            self._command_problem = ""
            allowed = speed_limits.limit(command.velocity, self._decision.zone, config)
            self._commands_slowed += allowed != command.velocity
            self._publish(allowed, command.frame_id)

    def _refuse_command(self, problem: str) -> None:
        self._command_problem = f"a command is not passed on: {problem}"
        self.get_logger().warning(self._command_problem, throttle_duration_sec=LOG_THROTTLE_S)

    def _decide(self, now_ns: int, steady_ns: int, previous: Zone, config: GovernorConfig) -> Decision:
        if self._link_problem:
            return Decision(Zone.FAIL_SAFE, self._link_problem)
        return speed_limits.assess(self._sources.observations, now_ns, steady_ns, previous, config)

    def _publish(self, velocity: Velocity, frame_id: str) -> None:
        self._commands_out += 1
        twist = Twist(linear=Vector3(**_fields(velocity.linear)), angular=Vector3(**_fields(velocity.angular)))
        if self._stamped:
            stamped = TwistStamped(twist=twist)
            stamped.header.stamp, stamped.header.frame_id = self.get_clock().now().to_msg(), frame_id
            self._velocities.publish(stamped)
        else:
            self._velocities.publish(twist)

    def _publish_limit(self) -> None:
        if self._limits is None or self._config is None:
            return
        message = self._limit_type(
            percentage=False, speed_limit=speed_limits.nav2_limit(self._decision.zone, self._config)
        )
        message.header.stamp = self.get_clock().now().to_msg()
        self._limits.publish(message)

    def _log(self) -> None:
        decision = self._decision
        text = f"{_name(decision.zone)}: {decision.reason}"
        if decision.zone == Zone.FAIL_SAFE:
            self.get_logger().warning(text)
        else:
            self.get_logger().info(text)
        if decision.measure is Measure.RELATIVE and not self._warned_relative:
            self._warned_relative = True
            self.get_logger().warning(
                "object_depths has no distances in metres: limits follow relative depth, which tells near from far in "
                "the picture but is not metres; never use it for a costmap"
            )

    # -- parameters --------------------------------------------------------------------------------------------------

    def _on_set_parameters(self, changes: Sequence[Parameter]) -> SetParametersResult:
        if reason := refusal_of_locked(changes, governor_parameters.SPECS, allowed=False):
            return SetParametersResult(successful=False, reason=reason)
        if self._config is not None:  # before, configure will judge the parameters together
            try:
                governor_parameters.read(self, changes)
            except BadParameterError as error:
                return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _on_parameters_were_set(self, changes: Sequence[Parameter]) -> None:
        if self._config is None:
            return
        self._config = governor_parameters.read(self)
        if self._active:
            self._step(renew=True)
            self._publish_limit()

    # -- diagnostics -------------------------------------------------------------------------------------------------

    def _on_diagnostics_due(self) -> None:
        self._look_around()
        array = DiagnosticArray(status=[self._status()])
        array.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(array)
        if self._active:
            self._publish_limit()  # for a controller that has started since

    def _steady_ns(self) -> int:
        """The steady clock, nanoseconds."""
        return time.monotonic_ns()

    def _look_around(self) -> None:
        """Who is on the topics; once a second, as the graph is slow."""
        self._depth_publishers = publishers_of(self, DEPTHS)
        # a node that has just left stays in the graph for a moment: it must be seen several times in a row
        doubled = doubled_nodes(self)
        self._times_doubled = self._times_doubled + 1 if doubled else 0
        self._doubled = doubled if self._times_doubled >= LOOKS else []
        if self._config is not None:
            self._sources.drop_gone(self._depth_publishers, self._steady_ns(), self._config.max_depths_age)

    def _warnings(self) -> list[str]:
        """What is odd on the topics, a line each."""
        return [
            *filter(None, [self._command_problem]),
            *self._sources.warnings(self._depth_publishers),
            *self._doubled,
            *incompatible_endpoints(self, self._endpoints),
            *self._unknown_parameters,
            *self._unmatched_remaps,
        ]

    def _status(self) -> DiagnosticStatus:
        level, message = self._summary()
        values: dict[str, Any] = {
            "state": self.state,
            "commands_in": self._commands_in,
            "commands_out": self._commands_out,
            "commands_slowed": self._commands_slowed,
        }
        if self._active and self._config is not None:
            values |= self._limits_in_effect(self._config)
        values["warnings"] = "; ".join(self._warnings())
        values["unknown_parameters"] = "; ".join(self._unknown_parameters)
        values["unmatched_remaps"] = "; ".join(self._unmatched_remaps)
        values["shared_memory"] = shared_memory.state().text
        values["bond"] = self._bond.state
        values["nav2_speed_limit"] = "published" if self._limits is not None else "nav2_msgs is not installed"
        return DiagnosticStatus(
            level=level,
            name=f"{self.get_fully_qualified_name().lstrip('/')}: speed limit",
            message=message,
            values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
        )

    def _summary(self) -> tuple[bytes, str]:
        """The level and the message of the diagnostics."""
        if self._configure_error:
            return DiagnosticStatus.ERROR, f"cannot configure: {self._configure_error}"
        if not self._active:
            return DiagnosticStatus.WARN, f"{self.state}: no command is passed on"
        text, warnings = f"{_name(self._decision.zone)}: {self._decision.reason}", self._warnings()
        if self._decision.zone == Zone.FAIL_SAFE or warnings:
            return DiagnosticStatus.WARN, "; ".join([text, *warnings[:1]])
        return DiagnosticStatus.OK, text

    def _limits_in_effect(self, config: GovernorConfig) -> dict[str, str]:
        """What the diagnostics say of the decision."""
        decision, nearest = self._decision, self._decision.nearest
        return {
            "zone": _name(decision.zone),
            "measure": decision.measure.value,
            "nearest": nearest.name if nearest else "",
            "distance_m": f"{nearest.distance:.3f}" if nearest else "nan",
            "relative_depth": f"{nearest.depth:.3f}" if nearest else "nan",
            "speed_limit_m_s": f"{config.speed(decision.zone):g}",
            "turn_rate_limit_rad_s": f"{config.turn_rate(decision.zone):g}",
            "depths_age_s": f"{self._depths_age():.3f}",
            "commanded": str(self._command is not None).lower(),
        }

    def _depths_age(self) -> float:
        """Seconds, NaN where there are none."""
        stamp_ns = self._sources.newest_stamp_ns
        return float("nan") if stamp_ns is None else (self.get_clock().now().nanoseconds - stamp_ns) / 1e9


def _vector(vector: Vector3) -> speed_limits.Vector:
    return (vector.x, vector.y, vector.z)


def _fields(vector: speed_limits.Vector) -> dict[str, float]:
    return dict(zip("xyz", vector, strict=True))


def _name(zone: Zone) -> str:
    return zone.name.lower().replace("_", "-")


def main(args: Sequence[str] | None = None) -> int:
    """Run the node until it is interrupted, then stop the robot. Exit code: 0, or 2 for parameters out of range."""
    if said_at_start("speed_governor", ABOUT, args, NAMES, governor_parameters.SPECS):
        return 0
    interrupted = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: interrupted.set())
    removed = shared_memory.remove_leftovers()
    # rclpy's own handlers would end the context before the last zero command can be sent
    if not init_ros("speed_governor", args, signal_handler_options=SignalHandlerOptions.NO):
        return CANNOT_START
    try:
        node = SpeedGovernor(arguments=sys.argv if args is None else args)
    except ParameterException as error:
        refuse("speed_governor", error)
        return BAD_PARAMETERS
    shared_memory.log_state(node.get_logger(), removed)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    systemd.notify("READY=1")
    spin(executor, node, interrupted.is_set, CHECK_PERIOD_S)
    systemd.notify("STOPPING=1")
    node.halt()
    executor.shutdown()
    node.destroy_node()
    rclpy.try_shutdown()
    return 0
