"""The calibrator: what teaches it, what gets a distance, and that a new source of distances is one class."""

from __future__ import annotations

import math
from types import MappingProxyType

import pytest
from geometry_msgs.msg import PointStamped
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_sensor_data
from std_msgs.msg import Header

from proxqa_core.errors import BadObjectError
from proxqa_core.types import ObjectQuery
from proxqa_ros.common.parameters import Spec
from proxqa_ros.distance.calibrator import DistanceCalibrator
from proxqa_ros.distance.depth_image import DepthImageSource
from proxqa_ros.distance.registry import SOURCES
from proxqa_ros.distance.source import Measurement, TopicSource
from proxqa_ros.proximity.node import ProximityNode
from tests.ros.conftest import wait_until
from tests.ros.distance.scene import NAMES, all_seen, depth_image, frame, header, seen, true_metres


def test_objects_not_in_view_teach_nothing_and_get_no_distance():
    calibrator = DistanceCalibrator()
    ghost = seen("ghost", score=0.2)  # asked by name: what is given with a region is in view
    for n in range(10):
        calibrator.source(DepthImageSource).add(depth_image(header(n / 10)))
        calibrator.update(frame(header(n / 10), [*all_seen()[1:], ghost]))
    assert calibrator.state().samples == pytest.approx(30, rel=0.1)
    filled = calibrator.annotate(header(1.0), [*all_seen(), ghost])
    assert all(d.distance == pytest.approx(true_metres(d.name), rel=0.02) for d in filled[:4])
    assert math.isnan(filled[4].distance) and math.isnan(filled[4].distance_stddev)
    calibrator.clear()
    assert math.isnan(calibrator.annotate(header(1.0), all_seen())[0].distance)


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


# -- a fifth source --------------------------------------------------------------------------------------------------


class BeaconSource(TopicSource):
    """All that a new source takes: beacons that say how far the object of their frame's name is."""

    parameters = MappingProxyType(
        {
            "beacon_offset": Spec(0.0, "Metres that beacons are behind their objects' fronts.", 0.0, 1.0, live=True),
            "beacon_ignored": Spec("", "An object to be ignored.", live=True, check=lambda n: n and ObjectQuery(n)),
        }
    )
    message_type = PointStamped
    topic = "beacons"
    counter = "beacons"

    def configure(self, values):
        self.offset, self.ignored = values["beacon_offset"], values["beacon_ignored"]

    def measure_message(self, message, frame):
        if message.point.z < 0:
            raise BadObjectError(f"a beacon is at {message.point.z:g} m;\nexpected 0 or more")
        named = [d for d in frame.visible if d.name == message.header.frame_id != self.ignored]
        return [Measurement(d, message.point.z - self.offset) for d in named]


def test_a_fifth_source_is_one_class(graph, fake):
    """Its parameters, its topic, what it measures and what is wrong with it: the node knows nothing else of it."""
    node = ProximityNode(engine_loader=lambda *_: fake, sources=(*SOURCES, BeaconSource), context=graph.context)
    graph.add(node)
    assert wait_until(lambda: node.state == "active")
    assert graph.set_objects(NAMES).success
    source = node.shared.calibrator.source(BeaconSource)
    camera = graph.camera()
    beacons = graph.client.create_publisher(PointStamped, "beacons", qos_profile_sensor_data)
    assert wait_until(lambda: beacons.get_subscription_count() > 0)

    def frame_with(name: str, metres: float) -> None:
        came, before, now = source.received, len(graph.depths), graph.now()
        message = PointStamped(header=Header(stamp=now, frame_id=name))
        message.point.z = metres
        beacons.publish(message)
        assert wait_until(lambda: source.received == came + 1)
        camera.publish(graph.image(stamp=now))
        assert wait_until(lambda: len(graph.depths) == before + 1)

    frame_with("dog", -1.0)
    said = graph.diagnostic(level=b"\x01", beacons="1")["message"]
    assert said == "no metres learned: a beacon is at -1 m; expected 0 or more"
    result = node.set_parameters([Parameter("beacon_ignored", value="x" * 100)])[0]
    assert not result.successful and "beacon_ignored" in result.reason
    assert not node.set_parameters([Parameter("beacon_offset", value=1.5)])[0].successful
    assert node.set_parameters([Parameter("beacon_offset", value=0.25)])[0].successful
    assert node.describe_parameter("beacon_offset").description.startswith("Metres that beacons")
    for n in range(28):
        frame_with(NAMES[n % 4], true_metres(NAMES[n % 4]) + 0.25)
    for o in graph.depths[-1].objects:
        assert o.distance == pytest.approx(true_metres(o.name), rel=0.05)
    samples = node.shared.calibrator.state().samples
    assert node.set_parameters([Parameter("beacon_ignored", value="dog")])[0].successful
    frame_with("dog", true_metres("dog") + 0.25)
    assert node.shared.calibrator.state().samples <= samples
    with pytest.raises(LookupError, match="TopicSource"):
        DistanceCalibrator(()).source(TopicSource)
