"""A governor that cannot be fooled: what cannot be true, who publishes, frozen time, blind cameras, broken links."""

from __future__ import annotations

import math
import os
import random
import signal
import socket
import sys
import time
import types
from pathlib import Path

import pytest
import rclpy
from geometry_msgs.msg import Twist, TwistStamped, Vector3
from rclpy.context import Context
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile

from proxqa_ros.common import systemd
from proxqa_ros.governor.sent_times import SETTLE_COUNT, SentTimes
from proxqa_ros.governor.sources import MAX_SOURCES, Sources
from proxqa_ros.msg import ImageHealth, ObjectDepth, ObjectDepthArray
from tests.ros.conftest import Graph, start_process, wait_until
from tests.ros.governor.test_node import HEALTHY, Robot, SimulatedTime, person

FAIL_SAFE = pytest.approx(0.1)
BAD = {
    "distance 0.5 m, deviation -50": {"distance": 0.5, "distance_stddev": -50.0},
    "relative depth 7": {"depth": 7.0},
    "depth 0.05, deviation -5": {"depth": 0.05, "depth_stddev": -5.0},
    "3 m with infinite deviation": {"distance": 3.0, "distance_stddev": math.inf},
    "distance without deviation": {"distance": 3.0, "distance_stddev": math.nan},
    "negative distance": {"distance": -1.0, "distance_stddev": 0.1},
    "score 1.5": {"score": 1.5},
    "score NaN": {"score": math.nan},
    "name": {"name": ""},
}


def changed(message: ObjectDepth, **fields) -> ObjectDepth:
    for field, value in fields.items():
        setattr(message, field, value)
    return message


def test_numbers_that_cannot_be_true_are_fail_safe_at_once(graph: Graph) -> None:
    robot = Robot(graph)
    for what, fields in BAD.items():
        robot.see(person(9.0))
        assert robot.drive().linear.x == 1.0
        robot.see(person(9.0), changed(person(9.0, name="chair"), **fields))
        assert wait_until(lambda: robot.out[-1].linear.x == FAIL_SAFE), what  # without another command
        assert "cannot be used" in robot.status(zone="fail-safe", level=b"\x01")["message"], what


RANDOM_REPORTS = int(os.environ.get("PROXQA_RANDOM_REPORTS", "300"))


@pytest.mark.slow
def test_random_reports_over_dds(graph: Graph) -> None:
    """Never faster than fail-safe unless every number is possible, and than slow unless all is clear."""
    robot, rng = Robot(graph), random.Random(1)
    odd = (math.nan, math.inf, -math.inf, -1.0, 7.0)

    def number(low: float, high: float) -> float:
        return rng.choice(odd) if rng.random() < 0.08 else rng.uniform(low, high)

    for _ in range(RANDOM_REPORTS):
        o = person()
        o.depth, o.depth_stddev, o.score = number(0, 1), number(0, 0.3), number(0, 1)
        if rng.random() < 0.6:
            o.distance, o.distance_stddev = number(0.1, 5), number(0, 0.5)
        blind = rng.random() < 0.05
        robot.see(o, health=ImageHealth(status=ImageHealth.DARK) if blind else HEALTHY)
        speed = robot.drive().linear.x
        unknown = math.isnan(o.distance) and math.isnan(o.distance_stddev)
        known = 0 < o.distance < math.inf and 0 <= o.distance_stddev < math.inf
        possible = all(0 <= v <= 1 for v in (o.depth, o.depth_stddev, o.score)) and (unknown or known)
        near = o.distance <= 0.8 if known else o.depth <= 0.15
        slow = o.distance <= 2.0 if known else o.depth <= 0.4
        far = o.distance > 2.2 if known else o.depth > 0.45  # beyond the hysteresis
        if blind or not possible or (near and o.score >= 0.5):
            assert speed <= 0.1 + 1e-9, o
        elif slow and o.score >= 0.2:
            assert speed <= 0.3 + 1e-9, o
        elif far or o.score < 0.2:
            assert speed == 1.0, o


def test_an_older_report_does_not_override_a_newer_stop(graph: Graph) -> None:
    robot = Robot(graph)
    now = graph.now()
    earlier = type(now)(sec=now.sec - 1, nanosec=now.nanosec)
    robot.see(person(0.5), stamp=now)
    assert robot.drive().linear.x == 0.0
    robot.see(person(9.0), stamp=earlier)
    later = type(now)(sec=now.sec, nanosec=now.nanosec)
    robot.see(person(0.4), stamp=later)  # of the same image: what was sent before has come
    assert robot.drive().linear.x == 0.0 and robot.status(zone="stop")["nearest"] == "person"


def test_of_two_publishers_the_nearest_counts_and_both_are_named(graph: Graph) -> None:
    robot = Robot(graph)
    other = Node("other_eyes", context=graph.context)
    graph.add(other)
    second = other.create_publisher(ObjectDepthArray, "object_depths", 10)
    assert wait_until(lambda: second.get_subscription_count() == 2)
    near = ObjectDepthArray(objects=[person(0.5)], image_health=HEALTHY)
    near.header.stamp = graph.now()
    second.publish(near)
    assert wait_until(lambda: robot.node._sources.observations)
    robot.see(person(9.0))  # newer, from the first one
    assert robot.drive().linear.x == 0.0
    status = robot.status(zone="stop", level=b"\x01")
    assert "/other_eyes" in status["warnings"] and "2 publishers" in status["message"]
    graph.executor.remove_node(other)
    graph.nodes.remove(other)
    other.destroy_node()
    assert wait_until(lambda: "2 publishers" not in robot.status()["warnings"])


def test_more_publishers_than_can_be_heeded_are_fail_safe_while_they_publish() -> None:
    sources = Sources()
    message = ObjectDepthArray(objects=[person(9.0)], image_health=HEALTHY)
    for n in range(MAX_SOURCES):
        assert sources.add(bytes([n]), message, 0, 0, 1.0) == ""
    assert not any(o.problem for o in sources.observations)
    assert "more than 32 publishers" in sources.add(b"one more", message, 0, 0, 1.0)
    assert [o.problem for o in sources.observations if o.problem] == ["more than 32 publishers"]
    assert sources.add(bytes([0]), message, 0, 0, 1.0) == ""  # the others are heeded as before
    sources.drop_gone({bytes([n]): "/eyes" for n in range(MAX_SOURCES)}, 2 * 10**9, 1.0)
    assert len(sources.observations) == MAX_SOURCES and not any(o.problem for o in sources.observations)


def test_two_nodes_of_one_name_and_a_frame_that_changes_are_named(graph: Graph) -> None:
    robot = Robot(graph)
    context = Context()  # of another process, as it were: one participant has each name once
    rclpy.init(context=context, domain_id=graph.context.get_domain_id())
    try:
        twin = Node("speed_governor", context=context)
        assert wait_until(lambda: "nodes are called /speed_governor" in robot.status()["warnings"])
        twin.destroy_node()
    finally:
        context.shutdown()
    for frame in ("front", "rear"):
        message = ObjectDepthArray(objects=[person(9.0)], image_health=HEALTHY)
        message.header.stamp, message.header.frame_id = graph.now(), frame
        robot.depths.publish(message)
        assert wait_until(lambda frame=frame: frame in str(robot.node._sources._frames.values()))
    assert wait_until(lambda: "frame_id from 'front' to 'rear'" in robot.status()["warnings"])


def test_a_frozen_clock_stops_nothing_but_the_robot(graph: Graph) -> None:
    robot = Robot(graph, use_sim_time=True, max_depths_age=1.0, command_timeout=0.5)
    clock = SimulatedTime(robot, 1000.0)
    robot.see(person(9.0), stamp=clock.stamp(1000.0))
    assert robot.drive().linear.x == 1.0
    robot.node.steady += 600_000_000
    assert wait_until(lambda: robot.out[-1] == Twist())  # commands have stopped: one zero
    assert robot.drive().linear.x == 1.0
    robot.node.steady += 450_000_000
    assert robot.drive().linear.x == FAIL_SAFE  # a driver that goes on commanding after depths have stopped
    assert "stands still" in robot.status(zone="fail-safe")["message"]
    refused = robot.node.set_parameters([Parameter("use_sim_time", value=False)])[0]
    assert not refused.successful and "fixed at start" in refused.reason


def test_a_stamped_command_that_is_of_another_time_is_not_passed_on_and_named(graph: Graph) -> None:
    robot = Robot(graph, stamped=True, command_timeout=0.5)
    robot.see(person(9.0))
    for age_s, passes in ((0.0, True), (5.0, False), (-5.0, False), (0.1, True), (-0.1, True)):
        command = TwistStamped(twist=Twist(linear=Vector3(x=1.0)))
        command.header.stamp = (robot.node.get_clock().now() - Duration(seconds=age_s)).to_msg()
        before = len(robot.out)
        robot.commands.publish(command)
        assert wait_until(lambda before=before: len(robot.out) > before)
        assert robot.out[-1].twist.linear.x == (1.0 if passes else 0.0), age_s
        if not passes:
            where = "before the clock" if age_s > 0 else "ahead of the clock"
            assert wait_until(lambda where=where: where in robot.status(level=b"\x01")["warnings"])
        robot.see(person(9.0))
    assert wait_until(lambda: not robot.status()["warnings"])  # what passes ends it
    assert robot.drive().linear.x == 1.0  # without a stamp: when it came counts


def test_a_command_that_waited_while_the_process_was_paused_is_not_passed_on(graph: Graph, root: Path) -> None:
    out: list[Twist] = []
    graph.client.create_subscription(Twist, "cmd_vel", out.append, 100)
    commands = graph.client.create_publisher(Twist, "cmd_vel_in", 10)
    depths = graph.client.create_publisher(ObjectDepthArray, "object_depths", 10)
    limits = ("max_depths_age:=60.0", "command_timeout:=1.0", "max_speed:=1.0")
    with start_process(root, "governor.node", graph.context.get_domain_id(), *limits) as process:
        try:
            assert wait_until(lambda: commands.get_subscription_count() == 1)

            def drive() -> bool:
                message = ObjectDepthArray(objects=[person(9.0)], image_health=HEALTHY)
                message.header.stamp = graph.now()
                depths.publish(message)
                commands.publish(Twist(linear=Vector3(x=0.7)))
                time.sleep(0.05)
                return bool(out) and out[-1].linear.x == pytest.approx(0.7)

            assert wait_until(drive)
            process.send_signal(signal.SIGSTOP)
            commands.publish(Twist(linear=Vector3(x=0.6)))
            time.sleep(2.0)  # longer than the command holds
            process.send_signal(signal.SIGCONT)
            assert wait_until(lambda: out[-1] == Twist())
            assert wait_until(drive)  # a new one is
            assert not any(t.linear.x == pytest.approx(0.6) for t in out)
        finally:
            process.send_signal(signal.SIGCONT)
            process.send_signal(signal.SIGINT)  # killed, it would stay in the graph of the tests after this one
            process.wait(30)


def test_waiting_is_told_whatever_the_senders_clock_shows() -> None:
    second = 10**9
    for offset in (0, 3600 * second, -3600 * second):
        times = SentTimes()
        now = 10**18
        for i in range(20):
            assert times.waited_ns(now + offset, now + 1_000_000, i * second // 10) == 0
            now += second // 10
        late = times.waited_ns(now + offset - 2 * second, now + 1_000_000, 5 * second)
        assert late == pytest.approx(2 * second, abs=second // 10)
        # the sender's clock is set back by a minute: it is believed again after a while
        waits = [
            times.waited_ns(
                now + offset - 60 * second + i * second // 5, now + i * second // 5, 6 * second + i * second // 5
            )
            for i in range(SETTLE_COUNT + 5)
        ]
        assert waits[0] > 50 * second and waits[-1] == 0
    assert SentTimes().waited_ns(0, 5, 5) == 0


@pytest.mark.parametrize("status", [0, 2, 3, 4, 5, 6, 200])
def test_a_blind_camera_is_no_free_road(graph: Graph, status: int) -> None:
    robot = Robot(graph)
    robot.see(person(9.0))
    assert robot.drive().linear.x == 1.0
    robot.see(person(9.0), health=ImageHealth(status=status))
    assert wait_until(lambda: robot.out[-1].linear.x == FAIL_SAFE)
    assert robot.node.set_parameters([Parameter("require_image_health", value=False)])[0].successful
    robot.see(person(9.0), health=ImageHealth(status=status))
    assert robot.drive().linear.x == (1.0 if status < 7 else FAIL_SAFE)


def test_a_person_who_is_possibly_there_slows_the_robot(graph: Graph) -> None:
    robot = Robot(graph)
    robot.see(person(0.3, score=0.49))
    assert robot.drive().linear.x == pytest.approx(0.3)
    assert "possibly person" in robot.status(zone="slow")["message"]


@pytest.mark.parametrize("x, y", [(-0.5, 0.0), (0.0, 0.5), (0.0, -0.5), (-0.5, 0.5), (0.5, 0.0)])
def test_a_stop_stops_every_direction(graph: Graph, x: float, y: float) -> None:
    robot = Robot(graph, limit_reverse=False)
    robot.see(person(0.5))
    robot.commands.publish(Twist(linear=Vector3(x=x, y=y)))
    assert wait_until(lambda: robot.out)
    assert robot.out[-1] == Twist()


def test_a_missed_deadline_is_fail_safe_at_once_and_who_offers_none_is_named(graph: Graph) -> None:
    other = Node("punctual", context=graph.context)
    graph.add(other)
    qos = QoSProfile(depth=1, deadline=Duration(seconds=0.3))
    punctual = other.create_publisher(ObjectDepthArray, "object_depths", qos)
    # the fixture's own publisher offers none: it cannot be heard, and is named
    robot = Robot(graph, autostart=False, depths_deadline=0.4, wait_for_depths=False)
    from lifecycle_msgs.msg import Transition

    assert robot.transition(Transition.TRANSITION_CONFIGURE) and robot.transition(Transition.TRANSITION_ACTIVATE)
    assert wait_until(lambda: "incompatible quality of service" in robot.status()["warnings"])

    def see() -> None:
        message = ObjectDepthArray(objects=[person(9.0)], image_health=HEALTHY)
        message.header.stamp = graph.now()
        punctual.publish(message)

    def clear() -> bool:
        see()
        time.sleep(0.05)
        return robot.node._decision.zone.name == "CLEAR"

    assert wait_until(clear)
    assert wait_until(lambda: "deadline of 0.4 s" in robot.node._decision.reason)  # though max_depths_age is 30 s
    assert wait_until(clear)


def test_a_bond_where_bondpy_is_there(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    robot = Robot(graph, bond_heartbeat_period=0.1)
    assert "bondpy is not installed" in robot.status(zone="fail-safe")["bond"]
    made: list = []

    class Bond:
        def __init__(self, node, topic, name):
            self.said = [(node.get_name(), topic, name)]
            made.append(self)

        def __getattr__(self, method):
            return lambda *arguments: self.said.append((method, *arguments))

    module = types.ModuleType("bondpy.bondpy")
    module.Bond = Bond
    monkeypatch.setitem(sys.modules, "bondpy", types.ModuleType("bondpy"))
    monkeypatch.setitem(sys.modules, "bondpy.bondpy", module)
    from lifecycle_msgs.msg import Transition

    assert robot.transition(Transition.TRANSITION_DEACTIVATE) and robot.transition(Transition.TRANSITION_ACTIVATE)
    assert made[0].said == [("speed_governor", "bond", "speed_governor"), ("set_heartbeat_period", 0.1), ("start",)]
    assert robot.transition(Transition.TRANSITION_DEACTIVATE) and made[0].said[-1] == ("shutdown",)


def test_systemd_is_told_that_it_lives(graph: Graph, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert not systemd.notify("READY=1")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        Robot(graph)
        assert manager.recv(100) == b"WATCHDOG=1"
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
        assert not systemd.notify("READY=1")
    assert os.environ["NOTIFY_SOCKET"]
