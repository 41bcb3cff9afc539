"""Objects in space: markers of those whose region and distance are known, where the lens says they are."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo, Image, RegionOfInterest
from std_msgs.msg import Header

import proxqa_ros.proximity
from proxqa_core.types import Box, ObjectDepth
from proxqa_ros.common.camera import Camera, Point
from proxqa_ros.distance.depth_image import DepthImageSource
from proxqa_ros.proximity.markers import MarkerArray, label, place, to_markers
from tests.ros.conftest import wait_until

needs_markers = pytest.mark.skipif(MarkerArray is None, reason="visualization_msgs is not installed")
HEADER = Header(frame_id="camera")


def info(**fields) -> CameraInfo:
    """Of a lens with its axis in the middle of an image of 64x48, 45° across from there to the right edge."""
    values = dict(header=HEADER, width=64, height=48, k=[32.0, 0.0, 31.5, 0.0, 32.0, 23.5, 0.0, 0.0, 1.0]) | fields
    return CameraInfo(**values)


def known(name, box, distance, stddev=0.1, **fields):
    return ObjectDepth(name, 0.5, 0.1, 0.9, "", box, distance, stddev, **fields)


def test_objects_with_region_and_distance_are_placed():
    objects = [
        known("mug", Box(44, 20, 52, 28), 2.0),  # 16 px right of the axis: half as far right as it is away
        known("ball", None, 4.0, found_at=Box(28, 4, 36, 12)),
        known("nowhere", None, 4.0),
        known("unknown", Box(0, 0, 9, 9), math.nan, math.nan),
    ]
    placed = place(Camera(info(), HEADER, 64, 48), objects)
    assert [d.name for d, _ in placed] == ["mug", "ball"]
    assert [(p.x, p.y, p.z) for _, p in placed] == [pytest.approx((1, 0, 2)), pytest.approx((0, -2, 4))]
    assert label(*placed[0]) == "mug 2.00 ± 0.10 m, 27° right, 0° up"
    assert label(*placed[1]) == "ball 4.00 ± 0.10 m, 0° right, 27° up"
    assert label(objects[0], Point(-2, 1, 2)) == "mug 2.00 ± 0.10 m, 45° left, 19° down"


@needs_markers
def test_markers_replace_those_before_and_show_the_deviation():
    header = Header(frame_id="camera")
    header.stamp.sec = 7
    first, ray, doubt, name = to_markers(header, [(known("mug", None, 2.0, 0.5), Point(1, 0, 2))]).markers
    assert first.action == first.DELETEALL
    assert all(m.header == header for m in (first, ray, doubt, name))
    assert len({(m.ns, m.id) for m in (ray, doubt, name)}) == 3
    assert [(p.x, p.y, p.z) for p in ray.points] == [(0, 0, 0), (1, 0, 2)] and ray.type == ray.ARROW
    assert [p.z for p in doubt.points] == [1.5, 2.5] and [p.x for p in doubt.points] == [0.75, 1.25]
    assert name.text.startswith("mug 2.00") and name.pose.position.z == 2
    assert all(m.color.a == 1 and m.pose.orientation.w == 1 for m in (ray, doubt, name))
    assert len(to_markers(header, []).markers) == 1


def test_the_node_runs_without_visualization_msgs(graph, fake, monkeypatch):
    monkeypatch.setattr("proxqa_ros.proximity.markers.MarkerArray", None)
    graph.start(lambda *_: fake)
    graph.camera().publish(graph.image())
    assert wait_until(lambda: graph.depths)
    assert graph.diagnostic(markers="visualization_msgs is not installed", level=b"\x00")
    assert "/markers" not in dict(graph.client.get_topic_names_and_types())


@needs_markers
def test_markers_come_with_camera_info_and_metres_while_someone_looks(graph, fake):
    node = graph.start(lambda *_: fake)
    names = ["dog", "hat", "mug", "rug"]
    regions = [RegionOfInterest(x_offset=16 * n, y_offset=20, width=16, height=8) for n in range(4)]
    assert graph.set_objects(names, regions).success
    camera, depth, lens = graph.camera(), graph.camera(Image, "depth"), graph.camera(CameraInfo, "camera_info")
    metres = np.repeat(np.array([[1.2, 1.5, 2.0, 3.0]], np.float32), 16, axis=1).repeat(48, axis=0)
    got: list[MarkerArray] = []

    def frame():
        before, arrays, came, now = (
            len(graph.depths),
            len(got),
            node.shared.calibrator.source(DepthImageSource).received,
            graph.now(),
        )
        header = Header(stamp=now, frame_id="camera")
        depth.publish(Image(header=header, height=48, width=64, encoding="32FC1", step=256, data=metres.tobytes()))
        assert wait_until(lambda: node.shared.calibrator.source(DepthImageSource).received == came + 1)
        camera.publish(graph.image(stamp=now))
        assert wait_until(lambda: len(graph.depths) == before + 1)
        return (wait_until(lambda: len(got) > arrays) and got[-1].markers) if looked_at else None

    looked_at = False
    for _ in range(7):
        frame()
    assert not got
    graph.client.create_subscription(MarkerArray, "markers", got.append, 10)
    assert wait_until(lambda: node.pipeline.outputs.markers.get_subscription_count() == 1)
    looked_at = True
    assert len(frame()) == 1  # nothing known of the lens
    assert graph.diagnostic(markers="no camera_info has arrived yet", level=b"\x01")
    lens.publish(info(header=Header(frame_id="elsewhere")))
    assert wait_until(lambda: node.shared.camera_info.info)
    assert len(frame()) == 1
    values = graph.diagnostic(level=b"\x01")
    values = values if "elsewhere" in values["message"] else graph.diagnostic(markers=node.shared.camera_problem)
    assert "no markers: camera_info is of frame 'elsewhere'" in values["message"]
    lens.publish(info())
    assert wait_until(lambda: node.shared.camera_info.info.header.frame_id == "camera")
    markers = frame()
    assert len(markers) == 1 + 3 * 4 and markers[1].header == graph.depths[-1].header
    for o, ray in zip(graph.depths[-1].objects, [m for m in markers if m.ns == "bearing"], strict=True):
        tip, middle = ray.points[1], o.region.x_offset + 8
        assert tip.z == pytest.approx(o.distance, rel=1e-5) and 1 < o.distance < 4
        assert tip.x / tip.z == pytest.approx((middle - 32) / 32) and tip.y == pytest.approx(0, abs=1e-6)
    assert graph.diagnostic(markers="", level=b"\x00")


def test_without_the_package_there_is_no_marker_array(monkeypatch):
    """As on a machine that has only what is required."""
    monkeypatch.setattr(
        proxqa_ros.proximity, "markers", proxqa_ros.proximity.markers
    )  # which the import below replaces
    monkeypatch.setitem(sys.modules, "visualization_msgs", None)
    monkeypatch.setitem(sys.modules, "visualization_msgs.msg", None)
    monkeypatch.delitem(sys.modules, "proxqa_ros.proximity.markers")
    import proxqa_ros.proximity.markers as without

    assert without.MarkerArray is None
    assert len(without.place(Camera(info(), HEADER, 64, 48), [known("mug", Box(40, 20, 60, 28), 2.0)])) == 1
