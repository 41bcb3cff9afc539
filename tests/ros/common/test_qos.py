"""Quality of service: who is heard by default, what overrides change, and that ends that do not fit are named."""

from __future__ import annotations

import pytest
import rclpy
from lifecycle_msgs.msg import Transition
from rclpy.context import Context
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from proxqa_ros.common import qos
from proxqa_ros.msg import ObjectDepthArray
from tests.ros.conftest import wait_until

BEST_EFFORT = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
RELIABLE = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
OVERRIDE = "qos_overrides./image.subscription."


def test_every_camera_is_heard_by_default(graph, fake):
    graph.start(lambda *_: fake)
    for n, profile in enumerate((BEST_EFFORT, RELIABLE, LATCHED), 1):
        camera = graph.client.create_publisher(Image, "image", profile)
        assert wait_until(lambda c=camera: c.get_subscription_count() > 0)
        camera.publish(graph.image())
        assert wait_until(lambda n=n: len(graph.depths) == n)
    graph.diagnostic(qos_problems="", level=b"\x00", frames_answered="3")


def test_an_override_applies_in_every_life_and_who_does_not_fit_is_named_until_it_leaves(graph, fake):
    node = graph.start(lambda *_: fake, **{OVERRIDE + "reliability": "reliable", OVERRIDE + "depth": 7})
    expected = "/client publishes /image with an incompatible quality of service: "
    for _ in range(2):
        ours = node.inputs.subscriptions[0].qos_profile
        assert ours.reliability == ReliabilityPolicy.RELIABLE and ours.depth == 7
        camera = graph.client.create_publisher(Image, "image", BEST_EFFORT)
        graph.diagnostics.clear()
        said = complaint(graph)
        assert said.startswith(expected) and "reliable" in said.lower() and "\n" not in said
        graph.diagnostic(message=said, qos_problems=said, level=b"\x01", frames_received="0")
        graph.client.destroy_publisher(camera)
        graph.diagnostic(qos_problems="")
        assert graph.transition(Transition.TRANSITION_DEACTIVATE) and graph.transition(Transition.TRANSITION_ACTIVATE)
    reliable = graph.client.create_publisher(Image, "image", RELIABLE)
    assert wait_until(lambda: reliable.get_subscription_count() > 0)
    reliable.publish(graph.image())
    assert wait_until(lambda: graph.depths)
    assert qos.NEWEST_BEST_EFFORT.reliability == ReliabilityPolicy.BEST_EFFORT and qos.NEWEST_BEST_EFFORT.depth == 1


def complaint(graph):
    """The first complaint about quality of service in the diagnostics, once the other node's name is known."""

    def found():
        said = [v.value for d in graph.diagnostics for v in d.values if v.key == "qos_problems"]
        return next((line for line in said if line and "_NODE_NAME_UNKNOWN_" not in line), "")

    return wait_until(found)


def test_another_type_on_the_topic_is_named(graph, fake):
    graph.start(lambda *_: fake)
    other = Context()  # Fast DDS allows one type per topic and process context
    rclpy.init(context=other, domain_id=graph.context.get_domain_id())
    node = rclpy.create_node("driver", namespace="/front", context=other)
    node.create_publisher(CompressedImage, "/image", BEST_EFFORT)
    try:
        line = "/front/driver publishes /image as sensor_msgs/msg/CompressedImage; expected sensor_msgs/msg/Image"
        graph.diagnostic(qos_problems=line)  # the graph may know of the publisher before it knows the node's name
    finally:
        node.destroy_node()
        rclpy.try_shutdown(context=other)


def test_a_subscriber_that_cannot_hear_the_node_is_named(graph, fake):
    graph.start(lambda *_: fake)
    graph.client.create_subscription(ObjectDepthArray, "object_depths", lambda _: None, LATCHED)
    said = complaint(graph)
    assert said.startswith("/client subscribes to /object_depths with an incompatible quality of service")
    assert "transient local" in said.lower()


@pytest.mark.parametrize("policy", ["reliability", "history"])
def test_an_override_that_cannot_be_used_fails_the_activation_with_the_reason(graph, fake, policy):
    node = graph.start(lambda *_: fake, autostart=False, **{OVERRIDE + policy: "sometimes"})
    assert graph.transition(Transition.TRANSITION_CONFIGURE)
    assert not graph.transition(Transition.TRANSITION_ACTIVATE)
    assert node.state == "inactive"
    values = graph.diagnostic(level=b"\x02")
    assert "cannot activate" in values["message"] and policy in values["message"] and "\n" not in values["message"]
    assert "cannot activate" in graph.query(objects=["x"]).message
    assert graph.transition(Transition.TRANSITION_CLEANUP)
