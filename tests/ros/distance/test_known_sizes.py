"""Metres from objects of known height: only those seen entirely, with the doubt that goes with it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, RegionOfInterest
from std_msgs.msg import Header

from proxqa_core.errors import BadObjectError
from proxqa_core.types import Box, ObjectDepth
from proxqa_ros.common.camera import Camera
from proxqa_ros.distance.known_sizes import SIZE_STDDEV, KnownSizesSource, from_known_sizes, measurable, parse
from tests.ros.conftest import wait_until

HEADER = Header(frame_id="camera")
K = [400.0, 0.0, 319.5, 0.0, 500.0, 239.5, 0.0, 0.0, 1.0]


def info(**fields) -> CameraInfo:
    return CameraInfo(**(dict(header=HEADER, width=640, height=480, k=K) | fields))


def seen(name, x1=100.0, y1=100.0, x2=200.0, y2=300.0, **fields) -> ObjectDepth:
    return ObjectDepth(name, 0.5, 0.1, 0.9, "", **({"box": Box(x1, y1, x2, y2)} | fields))


def test_sizes_are_read():
    assert parse(["door: 2.0", " Tall  Person:1.9", "a:b: 0.5"]) == {"door": 2.0, "tall person": 1.9, "a:b": 0.5}
    assert parse([""]) == parse([]) == {}


NONE = ["door", "door:", ": 2", "door: 0", "door: -1", "door: nan", "door: inf", "door: 200", "door: 2 m", "\n: 1"]


@pytest.mark.parametrize("entry", NONE)
def test_a_size_that_is_none_is_refused_in_one_line(entry):
    with pytest.raises(BadObjectError) as error:
        parse(["mug: 0.1", entry])
    assert "\n" not in str(error.value)


def test_a_name_that_comes_twice_is_refused():
    with pytest.raises(BadObjectError, match="twice"):
        parse(["door: 2.0", "Door: 2.1"])


def test_only_what_is_seen_entirely_is_measured():
    sizes = {"door": 2.0}
    whole = seen("Door")
    beyond = [
        seen("door", x1=0.0),
        seen("door", y1=4.0),
        seen("door", x2=636.0),
        seen("door", y2=480.0),
        seen("window"),
        seen("door", box=None),
        seen("door", box=None, found_at=Box(100, 100, 200, 300)),
    ]
    assert measurable(sizes, 640, 480, [*beyond, whole]) == [whole]


def test_the_height_of_the_box_says_how_far():
    camera = Camera(info(), HEADER, 640, 480)
    ((d, metres, stddev),) = from_known_sizes({"door": 2.0}, camera, [seen("door")])
    assert d.name == "door" and metres == pytest.approx(2.0 * 500 / 200)  # 200 pixels, focal length 500
    assert SIZE_STDDEV * metres < stddev < 1.1 * SIZE_STDDEV * metres
    ((_, far, doubt),) = from_known_sizes({"door": 2.0}, camera, [seen("door", y1=240, y2=255)])
    assert far == pytest.approx(2.0 * 500 / 15) and doubt > 0.2 * far
    assert from_known_sizes({"door": 2.0}, camera, [seen("door", y1=240, y2=246)]) == []  # 6 pixels: too small to say


def test_a_lens_that_bends_is_undone():
    """A door 5 m ahead, 2 m high, its middle 1 m aside: where OpenCV's lens shows its ends."""
    bent = Camera(info(distortion_model="plumb_bob", d=[-0.25, 0.08, 0.0, 0.0, 0.0]), HEADER, 640, 480)
    (u, top), (_, bottom) = bent.project(np.array([[1.0, -1.0, 5.0], [1.0, 1.0, 5.0]]))
    ((_, metres, _),) = from_known_sizes({"door": 2.0}, bent, [seen("door", u - 40, top, u + 40, bottom)])
    assert metres == pytest.approx(5.0, rel=0.005)


def test_a_known_size_teaches_over_dds_and_its_doubt_is_said(graph, fake):
    """The fake engine's depths of these are 3, 7, 12 and 17 in 26: 1.12 to 2.43 m by the line below."""
    names = ["dog", "hat", "mug", "rug"]
    true = {n: 1 / (1.0 - 0.9 * (ord(n[0]) - 97) / 26) for n in names}
    heights = [round(32 * 1.2 / true[n]) for n in names]  # pixels of what is 1.2 m high
    regions = [RegionOfInterest(x_offset=2 + 15 * i, y_offset=5, width=14, height=h) for i, h in enumerate(heights)]
    sizes = [f"{n}: 1.2" for n in names]
    node = graph.start(lambda *_: fake, known_sizes=sizes)
    assert graph.set_objects(names, regions).success
    camera, lens = graph.camera(), graph.camera(CameraInfo, "camera_info")

    def frame():
        before = len(graph.depths)
        camera.publish(graph.image())
        assert wait_until(lambda: len(graph.depths) == before + 1)

    frame()
    assert graph.diagnostic(level=b"\x01")["message"] == "no metres learned: no camera_info has arrived yet"
    lens.publish(info(width=64, height=48, k=[32.0, 0.0, 31.5, 0.0, 32.0, 23.5, 0.0, 0.0, 1.0]))
    assert wait_until(lambda: node.shared.camera_info.info)
    for _ in range(8):
        frame()
    for o in graph.depths[-1].objects:
        assert o.distance == pytest.approx(true[o.name], rel=0.06) and o.distance_stddev > SIZE_STDDEV * o.distance
    for value in (["door"], ["door: 0.0"], ["a: 1.0", "A: 2.0"]):
        result = node.set_parameters([Parameter("known_sizes", value=value)])[0]
        assert not result.successful and "known_sizes" in result.reason
    assert node.set_parameters([Parameter("known_sizes", value=[""])])[0].successful
    samples = node.shared.calibrator.state().samples
    frame()
    assert node.shared.calibrator.state().samples <= samples and not math.isnan(graph.depths[-1].objects[0].distance)


def test_sizes_that_cannot_be_used_are_said_at_configure_and_can_be_mended(graph, fake):
    node = graph.start(lambda *_: fake, autostart=False, known_sizes=["door"])
    assert node.set_parameters([Parameter("rate", value=5.0)])[0].successful
    node.trigger_configure()
    assert node.state == "unconfigured"
    assert "known_sizes" in graph.diagnostic(level=b"\x02")["message"]
    assert node.set_parameters([Parameter("known_sizes", value=["door: 2.0"])])[0].successful
    node.trigger_configure()
    assert node.state == "inactive" and node.shared.calibrator.source(KnownSizesSource).sizes == {"door": 2.0}
