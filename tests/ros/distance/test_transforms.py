"""Where a sensor is: quaternions give the same points as the pose of six numbers, and look-ups end in one line."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from geometry_msgs.msg import Quaternion, Transform, TransformStamped, Vector3
from hypothesis import given
from hypothesis import strategies as st

import proxqa_ros.distance
from proxqa_ros.distance import transforms as module
from proxqa_ros.distance.transforms import (
    WARMUP_S,
    BadPoseError,
    CameraPose,
    NoTransformYetError,
    RigidTransform,
    TransformLookup,
)
from tests.ros.conftest import wait_until
from tests.ros.distance.scene import stamp
from tests.ros.distance.tf_scene import FakeBuffer, sensor_to_optical

needs_tf2 = pytest.mark.skipif(module.tf2_ros is None, reason="tf2_ros has no wheel; this runs in a ROS distro")
POSE = [-0.3, 0.05, 0.4, 0.1, 0.2, -0.7]
POINTS = np.array([[2.0, 0.0, 0.0], [1.0, -3.0, 0.0], [0.5, 0.2, 0.7]])
metres, angles = st.floats(-100, 100), st.floats(-math.pi, math.pi)


@given(st.tuples(metres, metres, metres, angles, angles, angles))
def test_a_quaternion_and_six_numbers_give_the_same_points(pose):
    transform = RigidTransform.of(sensor_to_optical(pose))
    assert transform.to_optical(POINTS) == pytest.approx(CameraPose.of(pose).to_optical(POINTS), abs=1e-9)


def test_the_optical_frame_is_by_rep_103():
    ahead = RigidTransform.of(Transform(rotation=Quaternion(x=0.5, y=-0.5, z=0.5, w=0.5)))
    ((x, y, z),) = ahead.to_optical(np.array([[3.0, 1.0, 2.0]]))  # 3 ahead, 1 to the left, 2 up
    assert (x, y, z) == pytest.approx((-1.0, -2.0, 3.0))


def test_a_quaternion_is_normalised():
    q = Quaternion(x=1.0, y=-1.0, z=1.0, w=1.0)
    assert np.allclose(RigidTransform.of(Transform(rotation=q)).rotation @ np.ones(3), [-1, -1, 1])


@pytest.mark.parametrize(
    "change",
    [
        dict(rotation=Quaternion(x=0.0, y=0.0, z=0.0, w=0.0)),
        dict(rotation=Quaternion(w=math.nan)),
        dict(translation=Vector3(x=math.inf)),
    ],
)
def test_a_transform_that_is_none_is_refused_in_one_line(change):
    with pytest.raises(BadPoseError, match="expected finite numbers") as error:
        RigidTransform.of(Transform(**change))
    assert "\n" not in str(error.value)


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def tf():
    """(look-up, its buffer, its clock), the warm-up over."""
    buffer, clock = FakeBuffer(), Clock()
    lookup = TransformLookup(lambda: buffer, clock)
    with pytest.raises(NoTransformYetError):
        lookup.find("camera", "laser", stamp(5.0), 0.05)
    clock.now_s += WARMUP_S
    return lookup, buffer, clock


def test_a_static_transform_holds_at_every_stamp(tf):
    lookup, buffer, _ = tf
    buffer.set("camera", "laser", sensor_to_optical(POSE))
    for t in (0.0, 5.0, 5.3):
        found = lookup.find("camera", "laser", stamp(t), 0.05)
        assert found.to_optical(POINTS) == pytest.approx(CameraPose.of(POSE).to_optical(POINTS))
    assert lookup.status == "transform from 'laser' to 'camera': by TF"


def test_a_moving_one_is_taken_at_the_stamp_or_the_latest_one_near_enough(tf):
    lookup, buffer, _ = tf
    buffer.set("camera", "laser", sensor_to_optical(POSE), stamp_s=5.0)
    assert lookup.find("camera", "laser", stamp(5.0), 0.05) is not None
    assert buffer.asked[-1] == 5_000_000_000
    assert lookup.find("camera", "laser", stamp(5.04), 0.05) is not None
    assert lookup.find("camera", "laser", stamp(5.06), 0.05) is None
    assert "extrapolation" in lookup.status
    assert lookup.find("camera", "laser", stamp(5.0), 0.05) is not None and "by TF" in lookup.status


def test_what_tf_does_not_know_is_said_in_one_line_once_it_had_time(tf):
    lookup, buffer, _ = tf
    assert lookup.find("camera", "laser", stamp(5.0), 0.05) is None
    said = lookup.status
    assert said.startswith("no transform from 'laser' to 'camera': ") and "does not exist" in said and "\n" not in said
    buffer.set("camera", "sonar", Transform(rotation=Quaternion(w=math.nan)))
    with pytest.raises(BadPoseError):
        lookup.find("camera", "sonar", stamp(5.0), 0.05)
    assert lookup.status.startswith(said + "; transform from 'sonar' to 'camera': the transform has")
    assert lookup.find("camera", "", stamp(-5.0), 0.05) is None  # a stamp that is none


def test_a_sensor_that_says_it_is_in_the_optical_frame_is_not_taken_at_its_word(tf):
    """tf2 answers that with an identity, even for frames that it has never heard of."""
    lookup, buffer, _ = tf
    buffer.set("camera", "camera", Transform(rotation=Quaternion(w=1.0)))
    assert lookup.find("camera", "camera", stamp(5.0), 0.05) is None


def test_a_leading_slash_is_no_difference(tf):
    """Drivers that come from ROS 1 write it; tf2 looks up no name that has one."""
    lookup, buffer, _ = tf
    buffer.set("camera", "laser", sensor_to_optical(POSE))
    found = lookup.find("/camera", "/laser", stamp(5.0), 0.05)
    assert found.to_optical(POINTS) == pytest.approx(CameraPose.of(POSE).to_optical(POINTS))
    assert lookup.find("/camera", "camera", stamp(5.0), 0.05) is None


def test_tf_is_listened_to_only_when_it_is_needed():
    made = []
    lookup = TransformLookup(lambda: made.append(FakeBuffer()) or made[-1])
    assert lookup.status == "" and not made
    for _ in range(2):
        with pytest.raises(NoTransformYetError, match="from 'laser' to 'camera' yet"):
            lookup.find("camera", "laser", stamp(5.0), 0.05)
    assert len(made) == 1


def test_a_jump_back_in_time_clears_the_buffer(tf):
    lookup, buffer, _ = tf
    buffer.set("camera", "laser", sensor_to_optical(POSE))
    for t in (9.0, 8.5, 9.1):
        lookup.find("camera", "laser", stamp(t), 0.05)
    assert buffer.cleared == 0
    lookup.find("camera", "laser", stamp(2.0), 0.05)
    lookup.find("camera", "laser", stamp(2.1), 0.05)
    assert buffer.cleared == 1


def test_without_tf2_there_is_no_transform_and_it_is_said():
    lookup = TransformLookup(None)
    assert lookup.find("camera", "laser", stamp(5.0), 0.05) is None
    assert lookup.status.startswith("TF not used: tf2_ros is not installed; ") and "\n" not in lookup.status


def test_without_the_package_the_module_can_be_imported(monkeypatch):
    """As on a machine that has only what is required."""
    monkeypatch.setattr(proxqa_ros.distance, "transforms", module)  # which the import below replaces
    monkeypatch.setitem(sys.modules, "tf2_ros", None)
    monkeypatch.delitem(sys.modules, "proxqa_ros.distance.transforms")
    import proxqa_ros.distance.transforms as without

    assert without.tf2_ros is None
    assert without.TransformLookup.of_node(None).status == without.NOT_INSTALLED


@needs_tf2
def test_the_real_package_finds_what_is_broadcast(graph):
    import tf2_ros

    lookup = TransformLookup.of_node(graph.client)
    with pytest.raises(NoTransformYetError):
        lookup.find("camera", "laser", stamp(5.0), 0.05)
    message = TransformStamped(child_frame_id="laser", transform=sensor_to_optical(POSE))
    message.header.frame_id = "camera"
    broadcaster = tf2_ros.StaticTransformBroadcaster(graph.client)
    broadcaster.sendTransform(message)

    def found():
        try:
            return lookup.find("camera", "laser", stamp(5.0), 0.05)
        except NoTransformYetError:
            return None

    assert wait_until(found).to_optical(POINTS) == pytest.approx(CameraPose.of(POSE).to_optical(POINTS))
    moving = TransformStamped(child_frame_id="head", transform=sensor_to_optical(POSE))
    moving.header.frame_id, moving.header.stamp = "camera", stamp(5.0)
    tf2_ros.TransformBroadcaster(graph.client).sendTransform(moving)

    def at(seconds):
        try:
            return lookup.find("camera", "head", stamp(seconds), 0.05)
        except NoTransformYetError:
            return None

    assert wait_until(lambda: at(5.0)) and at(5.04) is not None
    assert wait_until(lambda: at(7.0) is None and "extrapolation" in lookup.status)
