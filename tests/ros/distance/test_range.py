"""A range sensor: what it points at, and how far that is, with and without TF."""

from __future__ import annotations

import math

import pytest
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Range, RegionOfInterest
from std_msgs.msg import Header

from proxqa_ros.common.camera import Camera
from proxqa_ros.distance.calibrator import DistanceCalibrator
from proxqa_ros.distance.range import RangeSource, metres_of_range
from proxqa_ros.distance.transforms import TransformLookup
from tests.ros.conftest import wait_until
from tests.ros.distance.scene import NAMES, frame, header, reading, seen, true_metres
from tests.ros.distance.tf_scene import FakeBuffer, sensor_to_optical


def test_range_readings_follow_rep_117():
    assert metres_of_range(reading(header(), 1.5)) == 1.5
    for none in (0.05, 9.0, math.inf, -math.inf, math.nan):
        assert math.isnan(metres_of_range(reading(header(), none)))


@pytest.mark.parametrize(
    "low, high", [(0.0, 0.0), (0.1, 0.0), (math.nan, 5.0), (-5.0, 5.0), (1.0, 1.0), (0.1, math.nan)]
)
def test_a_sensor_whose_limits_let_nothing_through_is_said(low: float, high: float):
    calibrator, of = DistanceCalibrator(), header()
    calibrator.source(RangeSource).add(Range(header=of, range=1.0, min_range=low, max_range=high))
    calibrator.update(frame(of, [seen("mug", RegionOfInterest(x_offset=24, y_offset=16, width=16, height=16))]))
    assert calibrator.state().samples == 0
    assert calibrator.problem.startswith(f"the range sensor reaches from {low:g} to {high:g} m; expected")


def taught_by_range(calibrator: DistanceCalibrator, objects, frames=30):
    """Show the objects in turn, each at its true distance ahead."""
    for n in range(frames):
        target = n % len(NAMES)
        calibrator.source(RangeSource).add(reading(header(n / 10), true_metres(NAMES[target])))
        calibrator.update(frame(header(n / 10), objects(target)))
    return calibrator.state()


def test_a_range_sensor_points_at_what_is_in_the_middle_or_at_the_object_named():
    middle = RegionOfInterest(x_offset=24, y_offset=16, width=16, height=16)
    around = RegionOfInterest(x_offset=0, y_offset=0, width=64, height=48)
    aside = RegionOfInterest(x_offset=0, y_offset=0, width=8, height=8)

    def in_the_middle(n):
        return [seen("a", around), seen(NAMES[n], middle), seen("z", aside), seen("c")]

    calibrator = DistanceCalibrator()
    assert taught_by_range(calibrator, in_the_middle).trusted, calibrator.problem
    (mug,) = calibrator.annotate(header(3.0), [seen("mug")])
    assert mug.distance == pytest.approx(true_metres("mug"), rel=0.02)


def test_without_an_object_ahead_nothing_is_learned():
    aside = RegionOfInterest(x_offset=0, y_offset=0, width=8, height=8)
    calibrator = DistanceCalibrator()
    assert taught_by_range(calibrator, lambda n: [seen(NAMES[n], aside), seen(NAMES[n])]).samples == 0
    assert calibrator.problem == ""


def test_a_range_object_that_is_no_object_is_said():
    calibrator = DistanceCalibrator()
    calibrator.source(RangeSource).range_object = "Dog"
    assert taught_by_range(calibrator, lambda n: [seen("dog"), seen("hat")], frames=1).samples == 1
    for objects, count in (([seen("hat")], 0), ([seen("dog"), seen("dog")], 2)):
        assert taught_by_range(calibrator, lambda _, objects=objects: objects, frames=1).samples == 1
        assert f"'Dog', the name of {count} objects" in calibrator.problem
    taught_by_range(calibrator, lambda n: [seen("dog", score=0.1)], frames=1)  # not in view: no problem, and no sample
    assert calibrator.problem == "" and calibrator.state().samples == 1


def test_a_range_sensor_teaches_over_dds(graph, fake):
    node = graph.start(lambda *_: fake, range_object="dog", objects=["dog"], calibration_memory=50.0)
    source = node.shared.calibrator.source(RangeSource)
    assert source.range_object == "dog" and node.shared.calibrator._calibration.memory == 50.0
    camera = graph.camera()
    ahead = graph.client.create_publisher(Range, "range", qos_profile_sensor_data)
    assert wait_until(lambda: ahead.get_subscription_count() > 0)
    for n in range(32):
        name, before, now = NAMES[n % 4], len(graph.depths), graph.now()
        assert node.set_parameters([Parameter("objects", value=[name]), Parameter("range_object", value=name)])
        ahead.publish(reading(Header(stamp=now, frame_id="sonar"), true_metres(name)))
        assert wait_until(lambda n=n: source.received == n + 1)
        camera.publish(graph.image(stamp=now))
        assert wait_until(lambda before=before: len(graph.depths) == before + 1)
    assert graph.depths[-1].objects[0].distance == pytest.approx(true_metres("rug"), rel=0.05)


# -- with TF ---------------------------------------------------------------------------------------------------------

K = [32.0, 0.0, 31.5, 0.0, 32.0, 23.5, 0.0, 0.0, 1.0]
"""A lens with its axis in the middle of an image of 64x48, 45° across from there to the right edge."""
CENTRE = RegionOfInterest(x_offset=28, y_offset=20, width=8, height=8)
LEFT = RegionOfInterest(x_offset=8, y_offset=20, width=16, height=8)


def camera_of(of: Header) -> Camera:
    return Camera(CameraInfo(header=of, width=64, height=48, k=K), of, 64, 48)


def measured(pose, metres, with_lens=True, name="", tf=True):
    """[(object, distance)] of a reading, with the camera of that pose in the sensor's frame."""
    buffer, source, of = FakeBuffer(), RangeSource(), header()
    buffer.set("camera", "sonar", sensor_to_optical(pose))
    source.configure({"range_object": name})
    source.add(reading(header(frame_id="sonar"), metres))
    options = {"camera": lambda: camera_of(of)} if with_lens else {}
    objects = [seen("dog", CENTRE), seen("mug", LEFT)]
    found = source.measure(frame(of, objects, transforms=TransformLookup((lambda: buffer) if tf else None), **options))
    return [(m.object.name, m.distance) for m in found]


BESIDE = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
AHEAD_OF_IT = [-0.5, 0.0, 0.0, 0.0, 0.0, 0.0]
"""The camera is half a metre behind the sensor."""
TO_THE_RIGHT = [0.0, 0.0, 0.0, 0.0, 0.0, -math.atan(0.5)]
"""The camera looks to the right of the sensor's axis: what that hits is seen 16 px left of the middle."""


def test_a_reading_is_taken_along_the_sensors_own_axis():
    assert measured(BESIDE, 2.0) == [("dog", pytest.approx(2.0))]
    assert measured(AHEAD_OF_IT, 2.0) == [("dog", pytest.approx(2.5))]
    assert measured(TO_THE_RIGHT, 2.0) == [("mug", pytest.approx(2 / math.hypot(1, 0.5)))]
    assert measured(TO_THE_RIGHT, 2.0, tf=False) == [("dog", 2.0)]  # as if it looked along the optical axis


def test_where_the_sensors_axis_hits_the_image_takes_the_lens():
    assert measured(TO_THE_RIGHT, 2.0, with_lens=False) == [("dog", pytest.approx(2 / math.hypot(1, 0.5)))]
    assert measured([0.0, -0.9, 0.0, 0.0, 0.0, 0.0], 2.0) == [("mug", pytest.approx(2.0))]  # 0.9 m to the left at 2 m
    assert measured([0.0, -0.9, 0.0, 0.0, 0.0, 0.0], 7.9) == [("dog", pytest.approx(7.9))]  # farther: in the middle
    assert measured([0.0, -3.0, 0.0, 0.0, 0.0, 0.0], 2.0) == []  # beside the image


def test_a_named_object_is_measured_along_the_sensors_axis_too():
    assert measured(TO_THE_RIGHT, 2.0, name="dog") == [("dog", pytest.approx(2 / math.hypot(1, 0.5)))]


@pytest.mark.parametrize("none", [0.05, 9.0, math.inf, math.nan])
def test_nothing_there_and_what_is_behind_the_camera_measures_nothing(none):
    assert measured(BESIDE, none) == []
    assert measured([0.0, 0.0, 0.0, 0.0, 0.0, math.pi], 2.0) == []
    ((_, distance),) = measured(BESIDE, none, name="dog")
    assert math.isnan(distance)  # which teaches nothing
