"""The speed governor over real DDS: limits, hysteresis, what is stale, clocks that jump, nonsense from outside."""

from __future__ import annotations

import math
import runpy
import signal
import sys
import types
import weakref
from unittest.mock import MagicMock

import domain_coordinator
import pytest
import rclpy
from geometry_msgs.msg import Twist, TwistStamped, Vector3
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock as ClockMessage
from sensor_msgs.msg import RegionOfInterest

from proxqa_core.robot.speed_limits import NAV2_MIN_SPEED_M_S, Velocity
from proxqa_ros.governor import node as governor_node
from proxqa_ros.governor import parameters as governor_parameters
from proxqa_ros.governor.node import SpeedGovernor
from proxqa_ros.governor.parameters import SPECS
from proxqa_ros.msg import ImageHealth, ObjectDepth, ObjectDepthArray
from proxqa_ros.testing.process import GOVERNOR_NODE
from proxqa_ros.testing.spinning import SpinThread
from tests.ros.conftest import Graph, check_yaml, own_graph, start_process, wait_until

LIMITS = {"max_speed": 1.0, "slow_speed": 0.3, "fail_safe_speed": 0.1, "sigmas": 0.0}
PATIENT = {"max_depths_age": 30.0, "command_timeout": 30.0}
"""For tests that are not about time."""
HEALTHY = ImageHealth(status=ImageHealth.OK, exposure=0.5, contrast=0.2, sharpness=0.3, change=0.01)


class WatchedGovernor(SpeedGovernor):
    """Counts the messages that it has dealt with, and keeps what it has published."""

    def __init__(self, **kwargs):
        self.depths = self.commands = 0
        self.steady: int | None = None
        """What the steady clock shows, nanoseconds; None = the real one."""
        self.published: list[Velocity] = []
        super().__init__(**kwargs)

    def _steady_ns(self):
        return super()._steady_ns() if self.steady is None else self.steady

    def _on_depths(self, message, info):
        super()._on_depths(message, info)
        self.depths += 1

    def _on_command(self, message, info):
        super()._on_command(message, info)
        self.commands += 1

    def _publish(self, velocity, frame_id):
        super()._publish(velocity, frame_id)
        self.published.append(velocity)


class Robot:
    """A governor with what stands before and behind it: perception, a driver, the base."""

    def __init__(self, graph: Graph, cli: tuple[str, ...] = (), wait_for_depths: bool = True, **params):
        self.graph = graph
        overrides = [Parameter(k, value=v) for k, v in {**LIMITS, **PATIENT, **params}.items()]
        cli_args = ["--ros-args", *cli] if cli else None
        self.node = WatchedGovernor(context=graph.context, parameter_overrides=overrides, cli_args=cli_args)
        if params.get("use_sim_time"):
            self.node.steady = 10**9  # no time passes but what a test says
        self.kind = TwistStamped if params.get("stamped") else Twist
        self.out: list = []
        graph.client.create_subscription(self.kind, "cmd_vel", self.out.append, 100)
        self.depths = graph.client.create_publisher(ObjectDepthArray, "object_depths", 10)
        self.commands = graph.client.create_publisher(self.kind, "cmd_vel_in", 10)
        self.transitions = graph.client.create_client(ChangeState, "speed_governor/change_state")
        graph.add(self.node)
        assert not wait_for_depths or wait_until(lambda: self.depths.get_subscription_count() == 2)  # with the client's
        assert wait_until(lambda: self.commands.get_subscription_count() == 1)
        assert wait_until(lambda: graph.client.count_publishers("cmd_vel") == 1)
        if params.get("autostart", True):
            assert wait_until(lambda: self.node.state == "active")

    def see(self, *objects: ObjectDepth, stamp=None, health=HEALTHY) -> None:
        """Publish depths; the node has dealt with them when this returns."""
        message = ObjectDepthArray(model="fake", objects=list(objects), image_health=health)
        message.header.stamp = stamp or self.graph.now()
        before = self.node.depths
        self.depths.publish(message)
        assert wait_until(lambda: self.node.depths > before)

    def command(self, x: float = 1.0, turn: float = 0.0) -> None:
        """Command a velocity; the node has dealt with it when this returns."""
        twist = Twist(linear=Vector3(x=x), angular=Vector3(z=turn))
        before = self.node.commands
        self.commands.publish(TwistStamped(twist=twist) if self.kind is TwistStamped else twist)
        assert wait_until(lambda: self.node.commands > before)

    def settle(self) -> None:
        """Until everything that the node has published has come."""
        assert wait_until(lambda: len(self.out) == len(self.node.published))

    def drive(self, x: float = 1.0, turn: float = 0.0):
        """Command a velocity; the first that comes out because of it."""
        self.settle()
        before = len(self.out)
        self.command(x, turn)
        self.settle()
        return self.out[before].twist if self.kind is TwistStamped else self.out[before]

    def transition(self, which: int) -> bool:
        return self.graph.call(self.transitions, ChangeState.Request(transition=Transition(id=which))).success

    def status(self, **expected: str) -> dict[str, str]:
        return self.graph.diagnostic(**expected)


class SimulatedTime:
    """The clock of a robot with use_sim_time: nothing grows old while a test waits."""

    def __init__(self, robot: Robot, seconds: float = 0.0):
        self.robot = robot
        self.publisher = robot.graph.client.create_publisher(ClockMessage, "/clock", 10)
        assert wait_until(lambda: self.publisher.get_subscription_count() > 0)
        if seconds:
            self.set(seconds)

    def stamp(self, seconds: float):
        return type(self.robot.graph.now())(sec=int(seconds), nanosec=round(seconds % 1 * 1e9))

    def set(self, seconds: float) -> None:
        stamp = self.stamp(seconds)

        def there() -> bool:
            self.publisher.publish(ClockMessage(clock=stamp))
            return self.robot.node.get_clock().now().to_msg() == stamp

        assert wait_until(there)


def person(distance=math.nan, depth=0.9, score=0.9, name="person") -> ObjectDepth:
    return ObjectDepth(
        name=name,
        depth=depth,
        depth_stddev=0.05,
        score=score,
        distance=distance,
        distance_stddev=math.nan if math.isnan(distance) else 0.1,
        text="fake",
    )


def test_nothing_of_a_closed_graph_is_seen_by_the_next_one():
    with own_graph() as graph:
        node = weakref.ref(Robot(graph).node)
    assert node() is None


def test_the_nearest_object_limits_the_speed_in_metres(graph):
    robot = Robot(graph)
    for distance, zone, speed in ((9.0, "clear", 1.0), (1.9, "slow", 0.3), (0.5, "stop", 0.0)):
        robot.see(person(distance), person(0.1, name="chair"), person(0.1, score=0.1))
        assert robot.drive(1.5).linear.x == pytest.approx(speed)
        values = robot.status(zone=zone, measure="metres", level=b"\x00")
        assert values["nearest"] == "person"
        assert float(values["speed_limit_m_s"]) == pytest.approx(speed)
        assert float(values["distance_m"]) == pytest.approx(distance, abs=1e-3)
    assert robot.drive(0.0, 2.0).angular.z == pytest.approx(0.3)  # stop_turn_rate
    robot.see(person(9.0))
    assert robot.drive(-0.2, 0.4) == Twist(linear=Vector3(x=-0.2), angular=Vector3(z=0.4))
    curve = robot.drive(2.0, 1.0)
    assert (curve.linear.x, curve.angular.z) == pytest.approx((1.0, 0.5))


def test_relative_depth_has_hysteresis_and_is_marked_as_no_metres(graph):
    robot = Robot(graph)
    for depth, zone in (
        (0.9, "clear"),
        (0.39, "slow"),
        (0.44, "slow"),
        (0.46, "clear"),
        (0.14, "stop"),
        (0.19, "stop"),
    ):
        robot.see(person(depth=depth))
        robot.drive()
        values = robot.status(zone=zone, measure="relative depth, not metres")
        assert "not metres" in values["message"] and values["distance_m"] == "nan"
        assert float(values["relative_depth"]) == pytest.approx(depth, abs=1e-3)
    assert robot.node._warned_relative
    assert robot.node.set_parameters([Parameter("use_relative_depth", value=False)])[0].successful
    assert robot.drive().linear.x == pytest.approx(0.1)
    assert "not calibrated" in robot.status(zone="fail-safe", level=b"\x01")["message"]


def test_a_command_in_effect_is_slowed_down_when_something_comes_near(graph):
    robot = Robot(graph)
    robot.see(person(9.0))
    assert robot.drive().linear.x == 1.0
    robot.see(person(1.5))
    assert wait_until(lambda: robot.out[-1].linear.x == pytest.approx(0.3))  # without another command
    assert robot.node.set_parameters([Parameter("slow_speed", value=0.2)])[0].successful
    assert wait_until(lambda: robot.out[-1].linear.x == pytest.approx(0.2))


def test_no_depths_and_old_ones_give_the_fail_safe_limit(graph):
    robot = Robot(graph, max_depths_age=0.5, use_sim_time=True)
    clock = SimulatedTime(robot, 1000.0)
    assert robot.drive().linear.x == pytest.approx(0.1)
    assert "no object_depths" in robot.status(zone="fail-safe", level=b"\x01")["message"]
    robot.see(person(9.0), stamp=clock.stamp(1000.0))
    assert robot.drive().linear.x == 1.0
    clock.set(1000.6)
    assert wait_until(lambda: robot.out[-1].linear.x == pytest.approx(0.1))  # nothing new is seen: it is taken back
    assert " s old" in robot.status(zone="fail-safe")["message"]
    robot.see(person(9.0), stamp=clock.stamp(940.0))  # of an old image, however new the message
    assert robot.drive().linear.x == pytest.approx(0.1)
    robot.see(person(9.0), stamp=clock.stamp(1060.0))
    assert robot.drive().linear.x == pytest.approx(0.1)
    assert "ahead of the clock" in robot.status(zone="fail-safe")["message"]
    robot.see(person(9.0), stamp=clock.stamp(1000.6))
    assert robot.drive().linear.x == 1.0  # one that is far ahead holds up nothing


def test_an_object_nobody_looks_for_is_fail_safe(graph):
    robot = Robot(graph, objects=["person", "Dog"])
    robot.see(person(9.0))
    assert robot.drive().linear.x == pytest.approx(0.1)
    assert "nobody looks for Dog" in robot.status(zone="fail-safe", level=b"\x01")["message"]
    robot.see(person(9.0), person(score=0.1, name="dog"))
    assert robot.drive().linear.x == 1.0
    assert robot.node.set_parameters([Parameter("objects", value=[""])])[0].successful
    robot.see(person(0.5, name="lamp"))
    assert robot.drive().linear.x == 0.0


def test_a_command_that_is_not_renewed_ends_in_one_zero(graph):
    robot = Robot(graph, command_timeout=0.3, use_sim_time=True)
    clock = SimulatedTime(robot, 1000.0)
    robot.see(person(9.0), stamp=clock.stamp(1000.0))
    assert robot.drive().linear.x == 1.0
    clock.set(1000.4)
    assert wait_until(lambda: robot.out[-1].linear.x == 0.0)
    count = len(robot.out)
    for _ in range(3):  # many checks later
        assert robot.status(commanded="false")
    robot.see(person(9.0), stamp=clock.stamp(1000.4))
    assert robot.drive().linear.x == 1.0
    assert robot.out[count].linear.x == 1.0  # nothing came between


def test_nonsense_from_outside_is_no_motion(graph):
    robot = Robot(graph, max_depths_age=2.0, use_sim_time=True)
    clock = SimulatedTime(robot, 1000.0)
    robot.see(person(9.0), stamp=clock.stamp(1000.0))
    for bad in (math.nan, math.inf):
        assert robot.drive(bad) == Twist()
    assert robot.drive().linear.x == 1.0
    wrong = person(9.0)
    wrong.region = RegionOfInterest(width=5)
    for bad in (wrong, person(depth=math.nan)):
        robot.see(bad, stamp=clock.stamp(1000.0))  # the fail-safe limit at once, whatever was there before
        assert robot.drive().linear.x == pytest.approx(0.1)
        assert "cannot be used" in robot.status(zone="fail-safe")["message"]
        robot.see(person(9.0), stamp=clock.stamp(1000.0))
        assert robot.drive().linear.x == 1.0


def test_simulated_time_and_a_clock_that_jumps_back(graph):
    robot = Robot(graph, use_sim_time=True, max_depths_age=0.5, command_timeout=0.5)
    assert robot.drive().linear.x == pytest.approx(0.1)
    assert "clock has not started" in robot.status(zone="fail-safe")["message"]
    clock = SimulatedTime(robot, 1000.0)
    robot.see(person(9.0), stamp=clock.stamp(999.8))
    assert robot.drive().linear.x == 1.0
    clock.set(999.7)  # back, by so little that the depths would still do
    assert wait_until(lambda: robot.out[-1].linear.x == 0.0)  # the command is of another time: one zero
    assert robot.drive().linear.x == pytest.approx(0.1)
    assert "no object_depths yet" in robot.status(zone="fail-safe")["message"]
    robot.see(person(9.0), stamp=clock.stamp(999.7))
    assert robot.drive().linear.x == 1.0
    clock.set(1005.0)  # forward: what was seen and commanded is old
    assert wait_until(lambda: robot.out[-1].linear.x == 0.0)
    robot.status(zone="fail-safe")
    for _ in range(3):  # a bag that loops
        for now in (10.0, 11.0):
            clock.set(now)
            robot.see(person(9.0), stamp=clock.stamp(now))
            assert robot.drive().linear.x == 1.0


def test_stamped_commands_keep_their_frame(graph):
    robot = Robot(graph, stamped=True)
    robot.see(person(1.5))
    message = TwistStamped()
    message.header.frame_id, message.twist.linear.x = "base_link", 1.0
    robot.commands.publish(message)
    assert wait_until(lambda: robot.out)
    assert robot.out[0].twist.linear.x == pytest.approx(0.3) and robot.out[0].header.frame_id == "base_link"
    assert robot.out[0].header.stamp.sec > 0


def test_lifecycle(graph):
    robot = Robot(graph, autostart=False)
    robot.command()
    robot.status(level=b"\x01", state="unconfigured")
    assert not robot.out and not robot.node.published
    for _ in range(2):
        assert robot.transition(Transition.TRANSITION_CONFIGURE)
        assert robot.transition(Transition.TRANSITION_ACTIVATE)
        robot.see(person(9.0))
        assert robot.drive().linear.x == 1.0
        assert robot.transition(Transition.TRANSITION_DEACTIVATE)
        assert wait_until(lambda: robot.out[-1] == Twist())  # the robot stands
        count = len(robot.out)
        robot.command()
        robot.status(level=b"\x01", state="inactive")
        assert len(robot.out) == count == len(robot.node.published)
        assert robot.transition(Transition.TRANSITION_ACTIVATE)
        assert robot.drive().linear.x == pytest.approx(0.1)  # nothing of the earlier life is believed
        assert robot.out[count].linear.x == pytest.approx(0.1)
        assert robot.transition(Transition.TRANSITION_DEACTIVATE)
        assert robot.transition(Transition.TRANSITION_CLEANUP)
    assert robot.transition(Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)


NONSENSE = [
    ("stop_distance", 5.0, "stop_distance <= slow_distance"),
    ("slow_speed", 2.0, "slow_speed <= max_speed"),
    ("fail_safe_speed", 0.5, "fail_safe_speed <= slow_speed"),
    ("stop_depth", 0.5, "stop_depth <= slow_depth"),
    ("max_speed", -1.0, "max_speed"),
    ("max_speed", math.nan, "max_speed"),
    ("max_speed", "fast", "type"),
    ("min_score", 1.5, "min_score"),
    ("max_depths_age", 0.0, "max_depths_age"),
    ("command_timeout", math.inf, "command_timeout"),
    ("objects", ["x" * 100], "too long"),
    ("objects", ["a", ""], "empty"),
    ("stamped", True, "read-only"),
    ("autostart", False, "read-only"),
]


def test_parameters_that_are_nonsense_are_refused_with_the_reason(graph):
    robot = Robot(graph)
    robot.see(person(1.5))
    for name, value, reason in NONSENSE:
        result = robot.node.set_parameters([Parameter(name, value=value)])[0]
        assert not result.successful and reason in result.reason, (name, value, result.reason)
        assert "\n" not in result.reason
    assert robot.drive().linear.x == pytest.approx(0.3)
    both = [Parameter("stop_distance", value=5.0), Parameter("slow_distance", value=6.0)]
    assert robot.node.set_parameters_atomically(both).successful
    assert robot.drive().linear.x == 0.0


def test_parameters_that_contradict_each_other_at_start_can_be_mended(graph):
    robot = Robot(graph, autostart=False, stop_distance=3.0, stop_depth=0.9)
    assert not robot.transition(Transition.TRANSITION_CONFIGURE)
    values = robot.status(level=b"\x02")
    assert "stop_distance is 3, slow_distance is 2" in values["message"]
    for name, value in (("stop_distance", 1.0), ("stop_depth", 0.1)):
        assert robot.node.set_parameters([Parameter(name, value=value)])[0].successful
    assert robot.transition(Transition.TRANSITION_CONFIGURE) and robot.transition(Transition.TRANSITION_ACTIVATE)
    robot.status(zone="fail-safe")


def test_nav2_is_told_where_its_messages_are_installed(graph, monkeypatch):
    """nav2_msgs has no wheel: a stand-in for the message's class, and its publisher's publish() is recorded."""

    class SpeedLimit:
        def __init__(self, percentage: bool, speed_limit: float):
            self.header, self.percentage, self.speed_limit = types.SimpleNamespace(), percentage, speed_limit

    published: list[SpeedLimit] = []
    create = LifecycleNode.create_lifecycle_publisher

    def create_lifecycle_publisher(self, kind, topic, *args, **kwargs):
        if kind is not SpeedLimit:
            return create(self, kind, topic, *args, **kwargs)
        assert topic == "speed_limit"
        return types.SimpleNamespace(publish=published.append)

    monkeypatch.setitem(sys.modules, "nav2_msgs", types.ModuleType("nav2_msgs"))
    monkeypatch.setitem(sys.modules, "nav2_msgs.msg", types.SimpleNamespace(SpeedLimit=SpeedLimit))
    monkeypatch.setattr(LifecycleNode, "create_lifecycle_publisher", create_lifecycle_publisher)
    robot = Robot(graph)
    assert wait_until(lambda: published) and published[0].speed_limit == pytest.approx(0.1)
    for distance, speed in ((9.0, 0.0), (1.5, 0.3), (0.5, NAV2_MIN_SPEED_M_S)):  # 0 = no limit, in Nav2's own words
        robot.see(person(distance))
        assert wait_until(lambda speed=speed: published[-1].speed_limit == pytest.approx(speed))
        assert not published[-1].percentage and published[-1].header.stamp.sec > 0
    robot.status(nav2_speed_limit="published")


def test_a_remapping_that_matches_nothing_is_named(graph):
    arguments = ["--ros-args", "-r", "cmd_vel_inn:=/a", "-r", "cmd_vel:=/b", "-r", "speed_limit:=/c"]
    graph.add(SpeedGovernor(context=graph.context, cli_args=arguments))
    line = (
        "remapping 'cmd_vel_inn:=/a' matches no topic or service of this node and has no effect; "
        "did you mean 'cmd_vel_in'?"
    )
    assert line in graph.diagnostic(unmatched_remaps=line)["warnings"]


def test_without_nav2_the_diagnostics_tell(graph):
    if governor_node.nav2_speed_limit() is not None:
        pytest.skip("nav2_msgs is installed here")
    Robot(graph).status(nav2_speed_limit="nav2_msgs is not installed")


# -- the YAML is the tutorial ------------------------------------------------------------------------------------------


FIXED = ("depths_deadline", "depths_lease", "bond_heartbeat_period", "stamped", "autostart")


def test_yaml_and_declarations_agree(root):
    check_yaml(root, "speed_governor", SPECS)
    assert list(SPECS) == [*governor_parameters.CONFIG_NAMES, *FIXED]


def test_the_file_is_read_and_descriptions_and_ranges_are_declared(root, graph, tmp_path):
    file = tmp_path / "my.yaml"
    file.write_text((root / "config/speed_governor.yaml").read_text().replace("slow_speed: 0.2", "slow_speed: 0.25"))
    node = SpeedGovernor(context=graph.context, cli_args=["--ros-args", "--params-file", str(file)])
    graph.add(node)
    assert wait_until(lambda: node.state == "active")
    assert node._config.slow_speed == 0.25 and node._config.objects == ("person",)
    for name, spec in SPECS.items():
        described = node.describe_parameter(name)
        assert described.description == spec.description
        assert len(described.floating_point_range) == (spec.high is not None)


# -- a process of its own ----------------------------------------------------------------------------------------------


class Base:
    """What a governor process of that namespace drives."""

    def __init__(self, node, namespace: str):
        self.out: list[Twist] = []
        node.create_subscription(Twist, f"{namespace}/cmd_vel", self.out.append, 10)
        self.commands = node.create_publisher(Twist, f"{namespace}/cmd_vel_in", 1)

    def drives(self) -> bool:
        self.commands.publish(Twist(linear=Vector3(x=1.0)))
        return bool(self.out)


def test_an_interrupted_governor_stops_the_robot_first(root):
    signals = {"/sigint": signal.SIGINT, "/sigterm": signal.SIGTERM}
    with domain_coordinator.domain_id() as domain:
        params = ("command_timeout:=60.0", "fail_safe_speed:=0.1")
        processes = {name: start_process(root, GOVERNOR_NODE, int(domain), *params, namespace=name) for name in signals}
        context = Context()
        rclpy.init(context=context, domain_id=int(domain))
        node = rclpy.create_node("base", context=context)
        bases = {name: Base(node, name) for name in signals}
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(node)
        try:
            with SpinThread(executor):
                for name, process in processes.items():
                    base = bases[name]
                    assert wait_until(base.drives) and base.out[-1].linear.x == pytest.approx(0.1)
                    process.send_signal(signals[name])
                    assert wait_until(lambda base=base: base.out[-1] == Twist())
                outputs = {name: process.communicate(timeout=60)[0] for name, process in processes.items()}
        finally:
            for process in processes.values():
                process.kill()
            node.destroy_node()
            rclpy.try_shutdown(context=context)
    for name, process in processes.items():
        output = outputs[name]
        assert process.returncode == 0 and "Traceback" not in output and "rror" not in output, output


def test_a_parameter_that_cannot_be_used_is_one_line(root):
    wrong = (("max_speed:=-1.0", "max_speed"), ("sigmas:=many", "sigmas"))
    processes = [start_process(root, GOVERNOR_NODE, 0, parameter, "autostart:=false") for parameter, _ in wrong]
    for process, (_, name) in zip(processes, wrong, strict=True):
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 2
        lines = [x for x in output.splitlines() if "nav2_msgs" not in x]
        assert name in output and "Traceback" not in output and len(lines) == 1, output


# -- the launch file ---------------------------------------------------------------------------------------------------


def test_the_launch_file_starts_the_node_with_its_topics(root, monkeypatch):
    """With a stand-in for `launch`, which has no wheel."""
    mocks = {name: MagicMock() for name in ("launch", "launch_ros")}
    for name in ("launch.actions", "launch.substitutions", "launch_ros.actions", "launch_ros.parameter_descriptions"):
        mocks[name] = getattr(mocks[name.split(".")[0]], name.split(".")[1])
    mocks["ament_index_python.packages"] = MagicMock()
    mocks["ament_index_python.packages"].get_package_share_directory.return_value = str(root)
    mocks["launch"].substitutions.LaunchConfiguration = lambda name: f"${name}"
    for name, mock in mocks.items():
        monkeypatch.setitem(sys.modules, name, mock)
    module = runpy.run_path(str(root / "launch/speed_governor.launch.py"))
    module["generate_launch_description"]()
    declared = {c.args[0]: c.kwargs for c in mocks["launch"].actions.DeclareLaunchArgument.call_args_list}
    topics = {"object_depths", "cmd_vel_in", "cmd_vel"}
    assert set(declared) == topics | {"params_file", "namespace", "use_sim_time", "log_level"}
    assert all(c["description"] for c in declared.values())
    assert declared["params_file"]["default_value"] == str(root / "config/speed_governor.yaml")
    (node,) = mocks["launch_ros"].actions.LifecycleNode.call_args_list
    assert node.kwargs["executable"] == node.kwargs["name"] == "speed_governor"
    assert node.kwargs["remappings"] == [(name, f"${name}") for name in module["TOPICS"]] and len(topics) == 3
    assert node.kwargs["parameters"][0] == "$params_file"


def test_the_launch_file_runs_in_launch(root):
    pytest.importorskip("launch_ros", reason="launch_ros has no wheel; this runs in a ROS distro")
    import launch
    from launch.launch_description_sources import get_launch_description_from_python_launch_file

    description = get_launch_description_from_python_launch_file(str(root / "launch/speed_governor.launch.py"))
    context = launch.LaunchContext()
    for argument in description.get_launch_arguments():
        argument.execute(context)
    (node,) = (e for e in description.entities if type(e).__name__ == "LifecycleNode")
    node._perform_substitutions(context)
    assert node.node_name == "/speed_governor"
