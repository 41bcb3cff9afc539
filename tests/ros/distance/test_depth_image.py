"""Depth images: which pixels measure which object, which image they belong to, and distances once learned."""

from __future__ import annotations

import math

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from rclpy.parameter import Parameter
from sensor_msgs.msg import CompressedImage, Image, RegionOfInterest
from std_msgs.msg import Header

from proxqa_core.errors import BadImageError
from proxqa_core.robot.calibration import JUMP_IMAGES
from proxqa_core.types import Box, ObjectDepth
from proxqa_ros.common.parameters import BadParameterError
from proxqa_ros.distance.calibrator import DistanceCalibrator
from proxqa_ros.distance.depth_image import DepthImageSource, from_depth_image
from tests.ros.conftest import wait_until
from tests.ros.distance.scene import (
    NAMES,
    REGIONS,
    all_seen,
    compressed_depth_image,
    depth_image,
    frame,
    header,
    relative,
    seen,
    shifted,
    stamp,
    true_metres,
)


@pytest.mark.parametrize("encoding", ["32FC1", "16UC1"])
@pytest.mark.parametrize("scale", [1, 3])
def test_the_middle_of_every_region_is_measured(encoding, scale):
    found = from_depth_image(depth_image(header(), encoding, scale), header(), 64, 48, all_seen())
    assert [m.object.name for m in found] == NAMES and {m.stddev for m in found} == {0.0}
    assert [m.distance for m in found] == pytest.approx([true_metres(n) for n in NAMES], abs=0.001)


def test_an_object_without_a_region_or_without_pixels_is_left_out():
    outside = RegionOfInterest(x_offset=100, y_offset=8, width=9, height=9)
    message, objects = depth_image(header()), all_seen()
    pixels = np.frombuffer(bytes(message.data), np.float32).reshape(48, 64).copy()
    pixels[:, 16:32] = np.nan  # the hat is a hole
    message.data = pixels.tobytes()
    objects = [*objects[:2], seen("mug"), objects[3], seen("x", outside)]
    assert [m.object.name for m in from_depth_image(message, header(), 64, 48, objects)] == ["dog", "rug"]


def test_where_a_model_found_the_object_counts_as_its_region():
    found = ObjectDepth("dog", relative("dog"), 0.01, 0.9, "", found_at=Box(0, 8, 16, 40))
    (measured,) = from_depth_image(depth_image(header()), header(), 64, 48, [found])
    assert measured.distance == pytest.approx(true_metres("dog"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(header=header(frame_id="depth_camera")), "'depth_camera', the image in 'camera'"),
        (dict(width=80), "80x48 pixels, the image 64x48"),
        (dict(encoding="rgb8"), "not a depth image"),
        (dict(data=bytes(7)), "7 bytes"),
    ],
)
def test_a_depth_image_that_cannot_be_used_is_refused_in_one_line(change, said):
    message = depth_image(header())
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(BadImageError, match=said) as error:
        from_depth_image(message, header(), 64, 48, all_seen())
    assert "\n" not in str(error.value)
    calibrator = DistanceCalibrator()
    calibrator.source(DepthImageSource).add(message)
    calibrator.update(frame(header(), all_seen()))
    assert said in calibrator.problem and calibrator.state().samples == 0
    calibrator.source(DepthImageSource).add(depth_image(header(6.0)))
    calibrator.update(frame(header(6.0), all_seen()))
    assert calibrator.problem == "" and calibrator.state().samples == pytest.approx(4)


@pytest.mark.parametrize(
    ("transport", "encoding"),
    [
        ("compressedDepth png", "16UC1"),
        ("compressedDepth png", "32FC1"),
        ("compressedDepth rvl", "16UC1"),
        ("compressedDepth rvl", "32FC1"),
        ("png", "16UC1"),
    ],
)
def test_compressed_depth_measures_as_raw_does(transport, encoding):
    message = compressed_depth_image(header(), transport, encoding)
    found = from_depth_image(message, header(), 64, 48, all_seen())
    assert [m.distance for m in found] == pytest.approx([true_metres(n) for n in NAMES], rel=0.001)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(header=header(frame_id="depth_camera")), "'depth_camera', the image in 'camera'"),
        (dict(data=bytes(7)), "7 bytes"),
        (dict(format="rgb8; jpeg compressed bgr8"), "declared as no depth image"),
    ],
)
def test_compressed_depth_that_cannot_be_used_is_refused_in_one_line(change, said):
    message = compressed_depth_image(header(), "compressedDepth png", "16UC1")
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(BadImageError, match=said) as error:
        from_depth_image(message, header(), 64, 48, all_seen())
    assert "\n" not in str(error.value)


def test_compressed_depth_of_another_shape_is_not_aligned():
    message = compressed_depth_image(header(), "compressedDepth png", "16UC1")
    with pytest.raises(BadImageError, match="64x48 pixels, the image 64x60"):
        from_depth_image(message, header(), 64, 60, all_seen())


@pytest.mark.parametrize(
    ("transport", "topic", "format_"),
    [
        ("compressedDepth", "depth/compressedDepth", "compressedDepth png"),
        ("compressedDepth", "depth/compressedDepth", "compressedDepth rvl"),
        ("compressed", "depth/compressed", "png"),
    ],
)
def test_the_node_learns_metres_from_compressed_depth(graph, fake, transport, topic, format_):
    node = graph.start(lambda *_: fake, depth_transport=transport)
    assert graph.set_objects(NAMES, REGIONS).success
    camera, depth = graph.camera(), graph.camera(CompressedImage, topic)
    for n in range(8):
        now = graph.now()
        depth.publish(compressed_depth_image(Header(stamp=now, frame_id="camera"), format_, "16UC1"))
        source = node.shared.calibrator.source(DepthImageSource)
        assert wait_until(lambda n=n, source=source: source.received == n + 1)
        camera.publish(graph.image(stamp=now))
        assert wait_until(lambda n=n: len(graph.depths) == n + 1)
    for o in graph.depths[-1].objects:
        assert o.distance == pytest.approx(true_metres(o.name), rel=0.05)
    graph.diagnostic(depth_images="8")


def test_another_transport_is_refused(graph, fake):
    node = graph.start(lambda *_: fake)
    said = node.set_parameters([Parameter("depth_transport", value="theora")])[0]
    assert not said.successful and "clean the node up" in said.reason
    with pytest.raises(BadParameterError, match="'theora'; expected one of raw, compressed, compressedDepth"):
        DepthImageSource.parameters["depth_transport"].check("theora")


@pytest.mark.parametrize(("offset", "said"), [(0.7, "0.700 s after"), (-4000.0, "4000.000 s before")])
def test_stamps_that_never_meet_are_said(offset, said):
    """A depth camera with a clock of its own: nothing is learned, and that has a reason that can be read."""
    calibrator = DistanceCalibrator()
    source = calibrator.source(DepthImageSource)
    for n in range(5):
        source.add(depth_image(header(5000.0 + 2 * n + offset)))
        calibrator.update(frame(header(5000.0 + 2 * n), all_seen()))
        assert bool(calibrator.problem) == (n >= 2)
    assert "on depth is " + said in calibrator.problem and "sync_tolerance" in calibrator.problem
    assert calibrator.state().samples == 0
    source.add(depth_image(header(5020.0)))
    calibrator.update(frame(header(5020.0), all_seen()))
    assert calibrator.problem == ""


def test_a_message_that_is_missing_now_and_then_is_no_matter():
    calibrator = DistanceCalibrator()
    for n in range(20):
        if n % 3 == 0:
            calibrator.source(DepthImageSource).add(depth_image(header(5.0 + n)))
        calibrator.update(frame(header(5.0 + n), all_seen()))
        assert calibrator.problem == ""


def shifted_far(now: Time, seconds: int) -> Time:
    return Time(sec=now.sec + seconds, nanosec=now.nanosec)


def run_frames(graph, node, camera, depth, count, offset=0.0):
    """Publish pairs of depth image and image, one pair after the other has been answered."""
    for _ in range(count):
        before, came, now = len(graph.depths), node.shared.calibrator.source(DepthImageSource).received, graph.now()
        depth.publish(depth_image(shifted(now, offset)))
        assert wait_until(lambda came=came: node.shared.calibrator.source(DepthImageSource).received == came + 1)
        camera.publish(graph.image(stamp=now))
        assert wait_until(lambda before=before: len(graph.depths) == before + 1)


def test_distances_come_once_depth_images_have_taught_them(graph, fake):
    node = graph.start(lambda *_: fake)
    assert graph.set_objects(NAMES, REGIONS).success
    camera, depth = graph.camera(), graph.camera(Image, "depth")
    run_frames(graph, node, camera, depth, 1)
    assert all(math.isnan(o.distance) and math.isnan(o.distance_stddev) for o in graph.depths[-1].objects)
    run_frames(graph, node, camera, depth, 8)
    for o in graph.depths[-1].objects:
        assert o.distance == pytest.approx(true_metres(o.name), rel=0.05) and 0 < o.distance_stddev < o.distance
    answer = graph.query("which is closer?", ["mug", "dog"])
    assert [o.distance for o in answer.objects] == pytest.approx([true_metres("dog"), true_metres("mug")], rel=0.05)
    assert math.isnan(graph.query(objects=["ghost", "dog"]).objects[1].distance)
    values = graph.diagnostic(depth_images="9", range_readings="0")
    assert values["calibration"].startswith("trusted: from 3") and float(values["calibration_error"]) < 0.05
    assert float(values["calibration_inliers"]) == 1 and float(values["calibration_spread"]) > 0.5
    for n in range(JUMP_IMAGES):  # the bag starts again: believed once several images say so
        camera.publish(graph.image(stamp=stamp(1.0 + n / 10)))
        assert wait_until(lambda n=n: len(graph.depths) == 10 + n) and math.isnan(graph.depths[-1].objects[0].distance)
    assert node.shared.calibrator.state().samples == 0


def test_one_image_with_a_stamp_far_ahead_keeps_the_metres(graph, fake):
    node = graph.start(lambda *_: fake)
    assert graph.set_objects(NAMES, REGIONS).success
    camera, depth = graph.camera(), graph.camera(Image, "depth")
    run_frames(graph, node, camera, depth, 9)
    assert not any(math.isnan(o.distance) for o in graph.depths[-1].objects)
    samples = node.shared.calibrator.state().samples
    camera.publish(graph.image(stamp=shifted_far(graph.now(), 86_400)))
    assert wait_until(lambda: len(graph.depths) == 10)
    run_frames(graph, node, camera, depth, 1)
    for o in graph.depths[-1].objects:
        assert o.distance == pytest.approx(true_metres(o.name), rel=0.05)
    assert node.shared.calibrator.state().samples >= 0.9 * samples


def test_depth_images_of_another_moment_are_not_used_until_they_are_allowed(graph, fake):
    node = graph.start(lambda *_: fake)
    assert graph.set_objects(NAMES, REGIONS).success
    camera, depth = graph.camera(), graph.camera(Image, "depth")
    run_frames(graph, node, camera, depth, 3, offset=0.3)
    values = graph.diagnostic(depth_images="3")
    assert values["calibration"] == "not trusted: no true distances yet" and values["level"] == b"\x00"
    assert node.set_parameters([Parameter("sync_tolerance", value=0.4)])[0].successful
    run_frames(graph, node, camera, depth, 1, offset=0.3)
    assert node.shared.calibrator.state().samples == pytest.approx(4, abs=0.1)


def test_a_depth_image_may_come_after_its_image_and_be_followed_by_others(graph, fake):
    node = graph.start(lambda *_: fake)
    assert graph.set_objects(NAMES, REGIONS).success
    camera, depth = graph.camera(), graph.camera(Image, "depth")
    fake.gate.clear()
    now = graph.now()
    camera.publish(graph.image(stamp=now))
    assert wait_until(lambda: fake.looks == 1)  # held inside the engine
    for n in range(30):
        depth.publish(depth_image(shifted(now, n / 30)))
        assert wait_until(lambda n=n: node.shared.calibrator.source(DepthImageSource).received == n + 1)
    fake.gate.set()
    assert wait_until(lambda: graph.depths) and node.shared.calibrator.state().samples == pytest.approx(4)


def test_a_depth_image_that_is_not_aligned_is_in_the_diagnostics(graph, fake):
    graph.start(lambda *_: fake)
    assert graph.set_objects(NAMES, REGIONS).success
    camera, depth = graph.camera(), graph.camera(Image, "depth")
    now = graph.now()
    depth.publish(depth_image(Header(stamp=now, frame_id="elsewhere")))
    graph.diagnostic(depth_images="1")
    camera.publish(graph.image(stamp=now))
    values = graph.diagnostic(level=b"\x01", frames_answered="1")
    assert "no metres learned" in values["message"] and "'elsewhere'" in values["message"]
