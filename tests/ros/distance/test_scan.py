"""Metres from a laser scan: a small world of walls, cut by the scan's plane wherever the scanner stands."""

from __future__ import annotations

import math

import numpy as np
import pytest
from geometry_msgs.msg import TransformStamped
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, LaserScan, RegionOfInterest
from std_msgs.msg import Header

from proxqa_core.types import Box, ObjectDepth
from proxqa_ros.common.camera import Camera
from proxqa_ros.distance import transforms as transforms_module
from proxqa_ros.distance.calibrator import DistanceCalibrator
from proxqa_ros.distance.known_sizes import KnownSizesSource
from proxqa_ros.distance.scan import MIN_READINGS, ScanSource, from_scan
from proxqa_ros.distance.transforms import BadPoseError, CameraPose, TransformLookup
from tests.ros.conftest import wait_until
from tests.ros.distance.scene import NAMES, frame, true_metres
from tests.ros.distance.tf_scene import FakeBuffer, sensor_to_optical

HEADER = Header(frame_id="camera")
LEVEL = [0.0] * 6


WALLS = [(true_metres(n), 16.0 * i, 16.0 * i + 16) for i, n in enumerate(NAMES)]
"""(metres along the axis, first, last pixel column): across the camera's axis, of any height."""


def info(**fields) -> CameraInfo:
    """Of a lens with its axis in the middle of an image of 64x48, 45° across from there to the right edge."""
    values = dict(header=HEADER, width=64, height=48, k=[32.0, 0.0, 31.5, 0.0, 32.0, 23.5, 0.0, 0.0, 1.0]) | fields
    return CameraInfo(**values)


LENS = Camera(info(), HEADER, 64, 48)


def scan(pose=LEVEL, walls=WALLS, header=HEADER, count=721, **fields) -> LaserScan:
    """What a scanner reads of these walls, with a camera of that pose (level) in its frame."""
    x, y, *_, yaw = pose
    angles = np.linspace(-math.pi, math.pi, count)
    # the scanner's origin and beams in the camera's body frame
    origin = np.array([[math.cos(yaw), math.sin(yaw)], [-math.sin(yaw), math.cos(yaw)]]) @ (-x, -y)
    ahead, left = np.cos(angles - yaw), np.sin(angles - yaw)
    ranges = np.full(count, np.inf)
    for metres, first, last in walls:
        with np.errstate(divide="ignore", invalid="ignore"):
            t = (metres - origin[0]) / ahead
            right = -(origin[1] + t * left)
        hit = (t > 0) & (right >= (first - 32) / 32 * metres) & (right < (last - 32) / 32 * metres)
        ranges[hit] = np.minimum(ranges[hit], t[hit])
    values = dict(header=header, range_min=0.1, range_max=12.0, ranges=ranges.astype(np.float32).tolist())
    values |= dict(angle_min=-math.pi, angle_max=math.pi, angle_increment=2 * math.pi / (count - 1))
    return LaserScan(**(values | fields))


def seen(name, x1, x2, y1=8, y2=40, **fields) -> ObjectDepth:
    return ObjectDepth(name, 0.5, 0.1, 0.9, "", Box(x1, y1, x2, y2), **fields)


def all_seen():
    return [seen(n, first, last) for n, (_, first, last) in zip(NAMES, WALLS, strict=True)]


def measured(message, objects=None, pose=LEVEL, **options):
    found = from_scan(message, CameraPose.of(pose), LENS, objects or all_seen(), **options)
    return {m.object.name: m.distance for m in found}


@pytest.mark.parametrize(
    "pose",
    [
        LEVEL,
        [0.0, 0.0, 0.3, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 0.0, 0.0, 2.5],
        [-0.3, 0.05, -0.2, 0.0, 0.0, -0.7],
        [0.2, -0.05, 0.1, 0.0, 0.0, 3.1],
    ],
)
def test_every_object_is_measured_along_the_axis_wherever_the_camera_is(pose):
    found = measured(scan(pose), pose=pose)
    assert found == pytest.approx({n: true_metres(n) for n in NAMES}, rel=0.01)


def test_the_pose_is_by_rep_103():
    ahead, aside = np.array([[2.0, 0.0, 0.0]]), np.array([[2.0, 1.0, 0.0]])
    (up,) = CameraPose(pitch=0.2).to_optical(
        ahead
    )  # the camera looks down: what is level with it is seen above the axis
    assert up == pytest.approx([0, -2 * math.sin(0.2), 2 * math.cos(0.2)])
    (right,) = CameraPose(yaw=0.5).to_optical(ahead)  # it looks to the left
    assert right == pytest.approx([2 * math.sin(0.5), 0, 2 * math.cos(0.5)])
    (rolled,) = CameraPose(roll=0.3).to_optical(aside)  # its left side is up: what is to the left is seen lower
    assert rolled == pytest.approx([-math.cos(0.3), math.sin(0.3), 2])
    (both,) = CameraPose(pitch=0.2, yaw=math.pi / 2).to_optical(np.array([[0.0, 2.0, 0.0]]))  # down, then to the left
    assert both == pytest.approx([0, -2 * math.sin(0.2), 2 * math.cos(0.2)])
    (all_three,) = CameraPose(roll=0.3, pitch=0.2, yaw=math.pi / 2).to_optical(np.array([[-1.0, 0.0, 0.0]]))
    assert all_three == pytest.approx([-math.cos(0.3), math.sin(0.3), 0])  # its left stays level but for the roll
    (moved,) = CameraPose(x=0.5, y=0.25, z=1.0).to_optical(aside)  # it stands above the scan's plane
    assert moved == pytest.approx([-0.75, 1.0, 1.5])


def test_objects_that_the_plane_does_not_cross_are_not_measured():
    objects = [seen("dog", 0, 16, 2, 20), seen("hat", 16, 32, 30, 44), seen("mug", 32, 48, 23, 25)]
    assert set(measured(scan(), objects)) == {"mug"}  # the row of the horizon is the 24th
    high = [0.0, 0.0, 0.4, 0.0, 0.0, 0.0]
    assert set(measured(scan(high), objects, high)) == {"hat"}  # seen 24 + 32 * 0.4 / 1.32 rows down


def test_objects_without_a_region_and_those_not_named_are_left_out():
    objects = [*all_seen(), ObjectDepth("nowhere", 0.5, 0.1, 0.9, "")]
    assert set(measured(scan(), objects)) == set(NAMES)
    assert set(measured(scan(), objects, names=["Rug", "cup"])) == {"rug"}
    found = ObjectDepth("hat", 0.5, 0.1, 0.9, "", found_at=Box(16, 8, 32, 40))
    assert measured(scan(), [found]) == pytest.approx({"hat": true_metres("hat")}, rel=0.01)


def walls_in(parts):
    """One box of 32 columns whose middle half has these (metres, part of its width), from left to right."""
    walls, x = [], 24.0
    for metres, part in parts:
        walls.append((metres, x, x := x + 16 * part))
    return measured(scan(walls=walls, count=7201), [seen("thing", 16, 48)])


def test_a_background_is_not_taken_for_the_object_and_legs_are_not_taken_for_a_body():
    assert walls_in([(5.0, 0.2), (2.0, 0.6), (5.0, 0.2)]) == pytest.approx({"thing": 2.0}, rel=0.02)
    assert walls_in([(1.0, 0.1), (2.0, 0.9)]) == pytest.approx({"thing": 2.0}, rel=0.02)  # a post before it
    assert walls_in([(2.0, 0.15), (5.0, 0.7), (2.0, 0.15)]) == {}
    assert walls_in([(2.0, 0.4)]) == {}  # beside it nothing, as far as the scanner reaches
    assert walls_in([(2.0, 0.7)]) == pytest.approx({"thing": 2.0}, rel=0.02)


@pytest.mark.parametrize("none", [math.nan, math.inf, -math.inf, 0.0, 0.05, 13.0])
def test_readings_that_are_none_measure_nothing(none):
    message = scan()
    message.ranges = [none] * len(message.ranges)
    assert measured(message) == {}


def test_readings_by_rep_117():
    whole = scan()
    every_other = list(whole.ranges)
    every_other[::2] = [math.nan] * len(every_other[::2])  # unknown: as if it had not been read
    whole.ranges = every_other
    assert measured(whole) == pytest.approx({n: true_metres(n) for n in NAMES}, rel=0.01)
    few = scan(count=91)  # 4° apart: at most 3 in the middle half of a region, fewer at the sides
    assert all(d == pytest.approx(true_metres(n), rel=0.02) for n, d in measured(few).items())
    assert set(measured(scan(count=37))) == set() and MIN_READINGS == 3


def test_a_scanner_that_turns_the_other_way():
    message = scan()
    turned = scan(angle_min=math.pi, angle_max=-math.pi, angle_increment=-message.angle_increment)
    turned.ranges = message.ranges[::-1]
    assert measured(turned) == pytest.approx(measured(message))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(ranges=[]), "no readings"),
        (dict(angle_increment=0.0), "steps of 0"),
        (dict(angle_min=-180.0, angle_increment=0.5), "begins at -180 rad and covers 360 rad"),
        (dict(angle_increment=1.0), "covers 720 rad; expected at most one turn"),
        (dict(angle_min=math.nan), "begins at nan"),
        (dict(range_min=math.nan), "from nan"),
        (dict(range_max=0.0), "to 0 m"),
    ],
)
def test_a_scan_that_cannot_be_used_is_refused_in_one_line(change, said):
    calibrator = DistanceCalibrator()
    calibrator.source(ScanSource).add(scan(**change))
    calibrator.update(frame(HEADER, all_seen(), camera=lambda: LENS))
    assert said in calibrator.problem and "\n" not in calibrator.problem and calibrator.state().samples == 0
    calibrator.source(ScanSource).add(scan())
    calibrator.update(frame(HEADER, all_seen(), camera=lambda: LENS))


def test_a_scanner_without_limits_is_used():
    assert set(measured(scan(range_min=0.0, range_max=math.inf))) == set(NAMES)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([], "0 numbers"),
        ([0.0] * 7, "7 numbers"),
        ([0.0, math.nan, 0.0, 0.0, 0.0, 0.0], "nan"),
        ([0.0, 0.0, 101.0, 0.0, 0.0, 0.0], "101"),
        ([0.0, 0.0, 0.0, 0.0, 0.0, 90.0], "radians"),
    ],
)
def test_a_pose_that_is_none_is_refused(values, said):
    with pytest.raises(BadPoseError, match=said):
        CameraPose.of(values)


def test_a_scan_without_a_lens_is_said_and_the_other_sources_teach_on():
    calibrator = DistanceCalibrator()
    calibrator.source(KnownSizesSource).sizes = {"mug": 1.0}
    calibrator.source(ScanSource).add(scan())
    calibrator.update(frame(HEADER, all_seen()))
    assert calibrator.problem == "no camera_info has arrived yet" and calibrator.state().samples == 0
    broken = scan(angle_increment=0.0)
    calibrator.clear()
    calibrator.source(ScanSource).add(broken)
    calibrator.update(frame(HEADER, [seen("mug", 30, 40, 10, 30)], camera=lambda: LENS))
    assert "steps of 0" in calibrator.problem and calibrator.state().samples == 1


def test_a_scanner_teaches_over_dds(graph, fake):
    pose = [-0.1, 0.0, 0.3, 0.0, 0.0, 0.5]
    node = graph.start(lambda *_: fake, scan_objects=["dog", "hat", "rug"])
    regions = [RegionOfInterest(x_offset=16 * n, y_offset=8, width=16, height=32) for n in range(4)]
    assert graph.set_objects(NAMES, regions).success
    camera, lens = graph.camera(), graph.camera(CameraInfo, "camera_info")
    scanner = graph.client.create_publisher(LaserScan, "scan", qos_profile_sensor_data)
    assert wait_until(lambda: scanner.get_subscription_count() > 0)

    def frame():
        before, came, now = len(graph.depths), node.shared.calibrator.source(ScanSource).received, graph.now()
        scanner.publish(scan(pose, header=Header(stamp=now, frame_id="laser")))
        assert wait_until(lambda: node.shared.calibrator.source(ScanSource).received == came + 1)
        camera.publish(graph.image(stamp=now))
        assert wait_until(lambda: len(graph.depths) == before + 1)

    frame()
    said = graph.diagnostic(scans="1", level=b"\x01")["message"]
    assert said == "no metres learned: no camera_info has arrived yet"
    lens.publish(info())
    assert wait_until(lambda: node.shared.camera_info.info)
    frame()  # the pose is not known yet: the scan looks elsewhere
    wrong = node.shared.calibrator.state().samples
    assert node.set_parameters([Parameter("camera_in_scan", value=pose)])[0].successful
    node.shared.calibrator.clear()
    for _ in range(9):
        frame()
    assert wrong < 3 and node.shared.calibrator.state().samples == pytest.approx(27, rel=0.1)
    for o in graph.depths[-1].objects:
        assert o.distance == pytest.approx(true_metres(o.name), rel=0.05) and 0 < o.distance_stddev < o.distance
    assert graph.diagnostic(level=b"\x00")["calibration"].startswith("trusted")
    for name, value in (
        ("camera_in_scan", [0.0, 1.0]),
        ("camera_in_scan", [math.inf] * 6),
        ("scan_objects", ["a", "a"]),
        ("scan_objects", ["x" * 100]),
    ):
        result = node.set_parameters([Parameter(name, value=value)])[0]
        assert not result.successful and name in result.reason, (name, value)
    assert node.set_parameters([Parameter("scan_objects", value=[""])])[0].successful
    assert node.shared.calibrator.source(ScanSource).object_names == () and node.shared.calibrator.source(
        ScanSource
    ).camera_pose == CameraPose.of(pose)


# -- with TF ---------------------------------------------------------------------------------------------------------

POSE = [-0.1, 0.0, 0.3, 0.0, 0.0, 0.5]


def measured_by(source, lookup, pose=POSE):
    message = scan(pose, header=Header(frame_id="laser"))
    source.clear()
    source.add(message)
    found = source.measure(frame(HEADER, all_seen(), camera=lambda: LENS, transforms=lookup))
    return {m.object.name: m.distance for m in found}


def test_where_the_scanner_is_comes_from_tf_unless_it_is_set():
    buffer, source = FakeBuffer(), ScanSource()
    lookup, everywhere = TransformLookup(lambda: buffer, clock=iter([0.0, *[9.0] * 99]).__next__), [""]
    buffer.set("camera", "laser", sensor_to_optical(POSE))
    expected = pytest.approx({n: true_metres(n) for n in NAMES}, rel=0.01)
    source.configure({"camera_in_scan": LEVEL, "scan_objects": everywhere})
    assert measured_by(source, lookup) == expected
    other = [0.2, -0.05, 0.1, 0.0, 0.0, 3.1]
    source.configure({"camera_in_scan": other, "scan_objects": everywhere})  # set: it holds
    assert measured_by(source, lookup, other) == expected
    buffer.known.clear()
    source.configure({"camera_in_scan": LEVEL, "scan_objects": everywhere})
    assert measured_by(source, lookup, LEVEL) == expected  # unknown to TF: at the scanner's place, as without TF
    assert "no transform from 'laser' to 'camera'" in lookup.status
    assert measured_by(source, TransformLookup(None), LEVEL) == expected


class FakeTf2:
    """A module tf2_ros whose listener has heard one static transform."""

    def __init__(self, *known) -> None:
        self.known, self.nodes = known, []

    def Buffer(self):  # noqa: N802 (a class in tf2_ros)
        return FakeBuffer()

    def TransformListener(self, buffer, node):  # noqa: N802 (a class in tf2_ros)
        self.nodes.append(node)
        buffer.set(*self.known)
        return object()


def test_a_scanner_teaches_by_tf_over_dds(graph, fake, monkeypatch):
    tf2 = FakeTf2("camera", "laser", sensor_to_optical(POSE))
    monkeypatch.setattr(transforms_module, "tf2_ros", tf2)
    node = graph.start(lambda *_: fake)
    regions = [RegionOfInterest(x_offset=16 * n, y_offset=8, width=16, height=32) for n in range(4)]
    assert graph.set_objects(NAMES, regions).success
    camera, lens = graph.camera(), graph.camera(CameraInfo, "camera_info")
    scanner = graph.client.create_publisher(LaserScan, "scan", qos_profile_sensor_data)
    assert wait_until(lambda: scanner.get_subscription_count() > 0)
    lens.publish(info())
    assert wait_until(lambda: node.shared.camera_info.info)
    assert tf2.nodes == []  # nobody needed it
    source = node.shared.calibrator.source(ScanSource)
    for n in range(8):
        now = graph.now()
        scanner.publish(scan(POSE, header=Header(stamp=now, frame_id="laser")))
        assert wait_until(lambda n=n: source.received == n + 1)
        camera.publish(graph.image(stamp=now))
        assert wait_until(lambda n=n: len(graph.depths) == n + 1)
    assert tf2.nodes == [node]
    for o in graph.depths[-1].objects:
        assert o.distance == pytest.approx(true_metres(o.name), rel=0.05)
    assert graph.diagnostic(level=b"\x00")["transforms"] == "transform from 'laser' to 'camera': by TF"


def test_without_tf2_a_scanner_is_used_as_before_and_the_diagnostics_say_so(graph, fake, monkeypatch):
    monkeypatch.setattr(transforms_module, "tf2_ros", None)
    graph.start(lambda *_: fake)
    graph.camera().publish(graph.image())
    assert wait_until(lambda: graph.depths)
    values = graph.diagnostic(level=b"\x00", frames_answered="1")
    assert values["transforms"] == transforms_module.NOT_INSTALLED and values["transforms"].startswith("TF not used: ")


@pytest.mark.skipif(transforms_module.tf2_ros is None, reason="tf2_ros has no wheel; this runs in a ROS distro")
def test_a_scanner_teaches_by_the_real_tf2(graph, fake):
    import tf2_ros

    message = TransformStamped(child_frame_id="laser", transform=sensor_to_optical(POSE))
    message.header.frame_id = "camera"
    broadcaster = tf2_ros.StaticTransformBroadcaster(graph.client)
    broadcaster.sendTransform(message)
    node = graph.start(lambda *_: fake)
    regions = [RegionOfInterest(x_offset=16 * n, y_offset=8, width=16, height=32) for n in range(4)]
    assert graph.set_objects(NAMES, regions).success
    camera, lens = graph.camera(), graph.camera(CameraInfo, "camera_info")
    scanner = graph.client.create_publisher(LaserScan, "scan", qos_profile_sensor_data)
    assert wait_until(lambda: scanner.get_subscription_count() > 0)
    lens.publish(info())
    assert wait_until(lambda: node.shared.camera_info.info)
    source = node.shared.calibrator.source(ScanSource)

    def learned() -> bool:
        came, before, now = source.received, len(graph.depths), graph.now()
        scanner.publish(scan(POSE, header=Header(stamp=now, frame_id="laser")))
        assert wait_until(lambda: source.received > came)
        camera.publish(graph.image(stamp=now))
        assert wait_until(lambda: len(graph.depths) > before)
        return math.isfinite(graph.depths[-1].objects[0].distance)

    assert wait_until(learned)  # some of the first frames come before the transform
    for o in graph.depths[-1].objects:
        assert o.distance == pytest.approx(true_metres(o.name), rel=0.05)
