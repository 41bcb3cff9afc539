"""Metres: true distances beside the camera, paired by stamp; distances in messages and answers once learned."""

from __future__ import annotations

import math

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image, Range, RegionOfInterest
from std_msgs.msg import Header

from proxqa_core.errors import BadImageError
from proxqa_core.types import Box, ObjectDepth
from proxqa_ros.common.stamps import StampedBuffer, nanoseconds
from proxqa_ros.distance.calibrator import (
    DistanceCalibrator,
    from_depth_image,
    metres_of_range,
)
from tests.ros.conftest import wait_until

NAMES = ["dog", "hat", "mug", "rug"]
"""Relative depths of 3, 7, 12 and 17 in 26, side by side in the image."""
REGIONS = [RegionOfInterest(x_offset=16 * n, y_offset=8, width=16, height=32) for n in range(4)]


def relative(name):
    return (ord(name[0]) - 97) / 26


def true_metres(name):
    return 1 / (1.0 - 0.9 * relative(name))


def stamp(seconds: float) -> Time:
    return Time(sec=int(seconds // 1), nanosec=round(seconds % 1 * 1e9))


def header(seconds: float = 5.0, frame_id: str = "camera") -> Header:
    return Header(stamp=stamp(seconds), frame_id=frame_id)


def depth_image(of: Header, encoding: str = "32FC1", scale: int = 1) -> Image:
    """The objects' true metres in their regions, nothing elsewhere; a quarter of every region is a hole."""
    metres = np.full((48 * scale, 64 * scale), np.nan, np.float32)
    for name, r in zip(NAMES, REGIONS, strict=True):
        x, y = scale * r.x_offset, scale * r.y_offset
        metres[y : y + scale * r.height, x : x + scale * r.width] = true_metres(name)
        metres[y : y + scale * r.height // 2, x : x + scale * r.width // 2] = np.nan
    if encoding == "16UC1":
        metres = np.nan_to_num(metres * 1000).round().astype("<u2")
    message = Image(header=of, height=metres.shape[0], width=metres.shape[1], encoding=encoding)
    message.step, message.data = metres.strides[0], metres.tobytes()
    return message


def reading(of: Header, metres: float) -> Range:
    return Range(header=of, radiation_type=Range.INFRARED, min_range=0.1, max_range=8.0, range=metres)


def seen(name: str, region: RegionOfInterest | None = None, score: float = 0.9) -> ObjectDepth:
    r = region
    box = r and Box(r.x_offset, r.y_offset, r.x_offset + r.width, r.y_offset + r.height)
    return ObjectDepth(name, relative(name), 0.01, score, "", box)


def all_seen():
    return [seen(n, r) for n, r in zip(NAMES, REGIONS, strict=True)]


@pytest.mark.parametrize("encoding", ["32FC1", "16UC1"])
@pytest.mark.parametrize("scale", [1, 3])
def test_the_middle_of_every_region_is_measured(encoding, scale):
    found = from_depth_image(depth_image(header(), encoding, scale), header(), 64, 48, all_seen())
    assert [d.name for d, _ in found] == NAMES
    assert [m for _, m in found] == pytest.approx([true_metres(n) for n in NAMES], abs=0.001)


def test_an_object_without_a_region_or_without_pixels_is_left_out():
    outside = RegionOfInterest(x_offset=100, y_offset=8, width=9, height=9)
    message, objects = depth_image(header()), all_seen()
    pixels = np.frombuffer(bytes(message.data), np.float32).reshape(48, 64).copy()
    pixels[:, 16:32] = np.nan  # the hat is a hole
    message.data = pixels.tobytes()
    objects = [*objects[:2], seen("mug"), objects[3], seen("x", outside)]
    assert [d.name for d, _ in from_depth_image(message, header(), 64, 48, objects)] == ["dog", "rug"]


def test_where_a_model_found_the_object_counts_as_its_region():
    found = ObjectDepth("dog", relative("dog"), 0.01, 0.9, "", found_at=Box(0, 8, 16, 40))
    ((_, metres),) = from_depth_image(depth_image(header()), header(), 64, 48, [found])
    assert metres == pytest.approx(true_metres("dog"))


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
    metres = DistanceCalibrator()
    metres.add_depth_image(message)
    metres.learn(header(), 64, 48, all_seen())
    assert said in metres.problem and metres.state().samples == 0
    metres.add_depth_image(depth_image(header(6.0)))
    metres.learn(header(6.0), 64, 48, all_seen())
    assert metres.problem == "" and metres.state().samples == pytest.approx(4)


def test_range_readings_follow_rep_117():
    assert metres_of_range(reading(header(), 1.5)) == 1.5
    for none in (0.05, 9.0, math.inf, -math.inf, math.nan):
        assert math.isnan(metres_of_range(reading(header(), none)))


def test_the_message_nearest_in_time_is_taken():
    beside = StampedBuffer(3)
    for t in (1.0, 1.1, 1.2, 1.3):
        beside.add(reading(header(t), 1.0))
    nearest = beside.nearest(stamp(1.16), 0.05)
    assert nanoseconds(nearest.header.stamp) == 1_200_000_000
    assert beside.nearest(stamp(1.0), 0.05) is None  # no longer kept
    assert beside.nearest(stamp(1.35), 0.04) is None and beside.nearest(stamp(1.35), 0.051) is not None
    beside.clear()
    assert beside.nearest(stamp(1.2), 9.0) is None


@pytest.mark.parametrize("first", [True, False], ids=["before the frame", "after the frame"])
def test_what_belongs_to_a_frame_is_kept_while_the_frame_is_looked_at(first):
    beside = StampedBuffer(3)
    if first:
        beside.add(reading(header(1.0), 1.0))
    beside.expect(stamp(1.01))
    for n in range(0 if first else -1, 50):
        beside.add(reading(header(1.1 + n / 10), 1.0))
    assert nanoseconds(beside.nearest(stamp(1.01), 0.05).header.stamp) == 1_000_000_000
    beside.expect(stamp(9.0))
    beside.add(reading(header(9.0), 1.0))
    assert beside.nearest(stamp(1.01), 0.05) is None


def taught_by_range(metres: DistanceCalibrator, objects, frames=30):
    """Show the objects in turn, each at its true distance ahead."""
    for n in range(frames):
        target = n % len(NAMES)
        metres.add_range(reading(header(n / 10), true_metres(NAMES[target])))
        metres.learn(header(n / 10), 64, 48, objects(target))
    return metres.state()


def test_a_range_sensor_points_at_what_is_in_the_middle_or_at_the_object_named():
    middle = RegionOfInterest(x_offset=24, y_offset=16, width=16, height=16)
    around = RegionOfInterest(x_offset=0, y_offset=0, width=64, height=48)
    aside = RegionOfInterest(x_offset=0, y_offset=0, width=8, height=8)

    def in_the_middle(n):
        return [seen("a", around), seen(NAMES[n], middle), seen("z", aside), seen("c")]

    metres = DistanceCalibrator()
    assert taught_by_range(metres, in_the_middle).trusted, metres.problem
    (mug,) = metres.fill(header(3.0), [seen("mug")])
    assert mug.distance == pytest.approx(true_metres("mug"), rel=0.02)


def test_without_an_object_ahead_nothing_is_learned():
    aside = RegionOfInterest(x_offset=0, y_offset=0, width=8, height=8)
    metres = DistanceCalibrator()
    assert taught_by_range(metres, lambda n: [seen(NAMES[n], aside), seen(NAMES[n])]).samples == 0
    assert metres.problem == ""


def test_a_range_object_that_is_no_object_is_said():
    metres = DistanceCalibrator()
    metres.range_object = "Dog"
    assert taught_by_range(metres, lambda n: [seen("dog"), seen("hat")], frames=1).samples == 1
    for objects, count in (([seen("hat")], 0), ([seen("dog"), seen("dog")], 2)):
        assert taught_by_range(metres, lambda _, objects=objects: objects, frames=1).samples == 1
        assert f"'Dog', the name of {count} objects" in metres.problem
    taught_by_range(metres, lambda n: [seen("dog", score=0.1)], frames=1)  # not in view: no problem, and no sample
    assert metres.problem == "" and metres.state().samples == 1


def test_objects_not_in_view_teach_nothing_and_get_no_distance():
    metres = DistanceCalibrator()
    ghost = seen("ghost", REGIONS[0], score=0.2)
    for n in range(10):
        metres.add_depth_image(depth_image(header(n / 10)))
        metres.learn(header(n / 10), 64, 48, [*all_seen()[1:], ghost])
    assert metres.state().samples == pytest.approx(30, rel=0.1)
    filled = metres.fill(header(1.0), [*all_seen(), ghost])
    assert all(d.distance == pytest.approx(true_metres(d.name), rel=0.02) for d in filled[:4])
    assert math.isnan(filled[4].distance) and math.isnan(filled[4].distance_stddev)
    metres.reset()
    assert math.isnan(metres.fill(header(1.0), all_seen())[0].distance)


def shifted(now: Time, offset: float) -> Header:
    """A header of that many seconds later, at most 1."""
    ns = nanoseconds(now) + round(offset * 1e9)
    return Header(stamp=Time(sec=ns // 10**9, nanosec=ns % 10**9), frame_id="camera")


def run_frames(graph, node, camera, depth, count, offset=0.0):
    """Publish pairs of depth image and image, one pair after the other has been answered."""
    for _ in range(count):
        before, came, now = len(graph.depths), node._metres.depth_images, graph.now()
        depth.publish(depth_image(shifted(now, offset)))
        assert wait_until(lambda came=came: node._metres.depth_images == came + 1)
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
    camera.publish(graph.image(stamp=stamp(1.0)))  # the bag starts again
    assert wait_until(lambda: len(graph.depths) == 10) and math.isnan(graph.depths[-1].objects[0].distance)
    assert node._metres.state().samples == 0


def test_depth_images_of_another_moment_are_not_used_until_they_are_allowed(graph, fake):
    node = graph.start(lambda *_: fake)
    assert graph.set_objects(NAMES, REGIONS).success
    camera, depth = graph.camera(), graph.camera(Image, "depth")
    run_frames(graph, node, camera, depth, 3, offset=0.3)
    values = graph.diagnostic(depth_images="3")
    assert values["calibration"] == "not trusted: no true distances yet" and values["level"] == b"\x00"
    assert node.set_parameters([Parameter("sync_tolerance", value=0.4)])[0].successful
    run_frames(graph, node, camera, depth, 1, offset=0.3)
    assert node._metres.state().samples == pytest.approx(4, abs=0.1)


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
        assert wait_until(lambda n=n: node._metres.depth_images == n + 1)
    fake.gate.set()
    assert wait_until(lambda: graph.depths) and node._metres.state().samples == pytest.approx(4)


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


def test_a_range_sensor_teaches_over_dds(graph, fake):
    node = graph.start(lambda *_: fake, range_object="dog", objects=["dog"], calibration_memory=5.0)
    assert node._metres.range_object == "dog" and node._metres._calibration.memory == 5.0
    camera = graph.camera()
    ahead = graph.client.create_publisher(Range, "range", qos_profile_sensor_data)
    assert wait_until(lambda: ahead.get_subscription_count() > 0)
    for n in range(32):
        name, before, now = NAMES[n % 4], len(graph.depths), graph.now()
        assert node.set_parameters([Parameter("objects", value=[name]), Parameter("range_object", value=name)])
        ahead.publish(reading(Header(stamp=now, frame_id="sonar"), true_metres(name)))
        assert wait_until(lambda n=n: node._metres.range_readings == n + 1)
        camera.publish(graph.image(stamp=now))
        assert wait_until(lambda before=before: len(graph.depths) == before + 1)
    assert graph.depths[-1].objects[0].distance == pytest.approx(true_metres("rug"), rel=0.05)


def test_the_parameters_are_checked(graph, fake):
    node = graph.start(lambda *_: fake)
    for name, value in (
        ("sync_tolerance", -0.1),
        ("sync_tolerance", math.nan),
        ("calibration_memory", 0.0),
        ("calibration_memory", math.inf),
        ("range_object", "x" * 100),
        ("range_object", "\n"),
    ):
        result = node.set_parameters([Parameter(name, value=value)])[0]
        assert not result.successful and result.reason, (name, value)
    assert node.set_parameters([Parameter("range_object", value="")])[0].successful
