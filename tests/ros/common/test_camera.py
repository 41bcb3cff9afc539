"""Pixels and distances → points in the optical frame, through every lens that CameraInfo can describe."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from proxqa_core.types import Box
from proxqa_ros.common.camera import BadCameraError, Camera, Point

HEADER = Header(frame_id="camera_optical")
K = [500.0, 0.0, 310.0, 0.0, 480.0, 250.0, 0.0, 0.0, 1.0]
LENSES = {
    "": [],
    "plumb_bob": [-0.25, 0.08, 0.001, -0.002, 0.0],
    "rational_polynomial": [0.3, -0.1, 0.001, 0.002, 0.02, 0.5, -0.05, 0.01],
    "equidistant": [-0.02, 0.005, -0.001, 0.0005],
}


def info(model="", **fields) -> CameraInfo:
    m = CameraInfo(header=HEADER, width=640, height=480, distortion_model=model, d=LENSES[model], k=K)
    for name, value in fields.items():
        setattr(m, name, value)
    return m


def project(model, point) -> tuple[float, float]:
    """The pixel that OpenCV says the point is seen at."""
    at, still, k = np.array([[point]], float), np.zeros(3), np.array(K).reshape(3, 3)
    if model == "equidistant":
        return tuple(cv2.fisheye.projectPoints(at, still, still, k, np.array(LENSES[model]))[0].ravel())
    return tuple(cv2.projectPoints(at, still, still, k, np.array(LENSES[model]))[0].ravel())


def around(u, v, half=5.0) -> Box:
    """A box whose middle is the middle of pixel (u, v)."""
    return Box(u + 0.5 - half, v + 0.5 - half, u + 0.5 + half, v + 0.5 + half)


@given(st.sampled_from(sorted(LENSES)), st.floats(-0.5, 0.5), st.floats(-0.4, 0.4), st.floats(0.2, 50))
def test_a_point_is_found_again_from_its_pixel_and_distance(model, x, y, z):
    camera = Camera(info(model), HEADER, 640, 480)
    found = camera.point(around(*project(model, (x * z, y * z, z))), z)
    assert (found.x, found.y, found.z) == pytest.approx((x * z, y * z, z), abs=0.005 * z)


def test_bearings_are_right_and_up():
    ahead, right, up = Point(0, 0, 2), Point(2, 0, 2), Point(0, -2, 2)
    assert (ahead.azimuth, ahead.elevation) == (0, 0)
    assert right.azimuth == pytest.approx(math.pi / 4) and right.elevation == 0
    assert up.elevation == pytest.approx(math.pi / 4) and up.azimuth == 0


def test_a_rectified_image_is_seen_through_p():
    p = [400.0, 0.0, 300.0, -40.0, 0.0, 400.0, 200.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    camera = Camera(info("plumb_bob", p=p), HEADER, 640, 480, rectified=True)
    found = camera.point(around(500, 100), 4.0)
    assert (found.x, found.y, found.z) == pytest.approx((2.0, -1.0, 4.0))


def test_binning_and_a_region_of_interest_are_undone():
    whole = Camera(info("plumb_bob"), HEADER, 640, 480).point(Box(200, 100, 300, 240), 3.0)
    m = info("plumb_bob", binning_x=2, binning_y=4)
    m.roi.x_offset, m.roi.y_offset, m.roi.width, m.roi.height = 100, 40, 400, 320
    part = Camera(m, HEADER, 200, 80).point(Box(50, 15, 100, 50), 3.0)
    assert (part.x, part.y, part.z) == pytest.approx((whole.x, whole.y, whole.z))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(header=Header(frame_id="other")), "frame 'other', the image of 'camera_optical'"),
        (dict(width=320), "320x480 pixels, the image has 640x480"),
        (dict(binning_x=2), "320x480 pixels, the image has 640x480"),
        (dict(k=[0.0] * 9), "focal lengths 0 and 0 in K"),
        (dict(k=[math.nan] * 9), "focal lengths nan"),
        (
            dict(k=[300.0, 0.0, math.nan, 0.0, 300.0, 120.0, 0.0, 0.0, 1.0]),
            "[300, 0, nan, 0, 300, 120, 0, 0, 1] in K; expected finite numbers",
        ),
        (dict(distortion_model="barrel"), "'barrel'; expected one of plumb_bob"),
        (dict(d=[0.1, 0.2]), "2 distortion coefficients for plumb_bob; expected 4 or 5"),
        (dict(d=[0.1, 0.2, math.inf, 0.0]), "all finite"),
        (dict(d=[0.1, 0.2, 0.0, 0.0, 0.0, 0.3, 0.0, 0.0]), "8 distortion coefficients for plumb_bob; expected 4 or 5"),
        (dict(k=[0.0] * 9, width=0, height=0, d=[]), "focal lengths 0 and 0 in K"),
        (dict(distortion_model=""), "distortion model ''; expected one of plumb_bob"),
    ],
)
def test_a_camera_info_that_cannot_be_used_is_refused_in_one_line(change, said):
    with pytest.raises(BadCameraError) as error:
        Camera(info("plumb_bob", **change), HEADER, 640, 480)
    assert said in str(error.value) and "\n" not in str(error.value) and "expected" in str(error.value)


@pytest.mark.parametrize(
    ("model", "change"),
    [
        ("plumb_bob", dict(d=[*LENSES["plumb_bob"], 0.0, 0.0, 0.0])),
        ("plumb_bob", dict(d=[*LENSES["plumb_bob"][:4]])),
        ("plumb_bob", dict(d=[*LENSES["plumb_bob"], *[0.0] * 9])),
        ("plumb_bob", dict(distortion_model="Brown Conrady")),
        ("rational_polynomial", dict(d=[*LENSES["rational_polynomial"], 0.0, 0.0])),
        ("rational_polynomial", dict(d=[*LENSES["rational_polynomial"], *[0.0] * 6])),
        ("equidistant", dict(distortion_model="fisheye")),
        ("equidistant", dict(distortion_model="Kannala Brandt4", d=[*LENSES["equidistant"], 0.0])),
        ("", dict(d=[0.0] * 5)),
        ("", dict(distortion_model="plumb_bob", d=[])),
        ("plumb_bob", dict(header=Header())),
        ("plumb_bob", dict(header=Header(frame_id="/camera_optical"))),
    ],
)
def test_what_drivers_write_is_the_same_lens(model, change):
    """Zeros at the end, other names of the model, no frame: each is the lens as sensor_msgs describes it."""
    same, written = Camera(info(model), HEADER, 640, 480), Camera(info(model, **change), HEADER, 640, 480)
    for u, v in ((320.0, 240.0), (40.0, 30.0), (600.0, 450.0)):
        assert written.ray(u, v) == pytest.approx(same.ray(u, v), abs=1e-9)
    point = np.array([[0.3, -0.2, 2.0]])
    assert written.project(point) == pytest.approx(same.project(point), abs=1e-9)


def test_where_the_lens_is_not_described_there_is_no_point():
    """Barrel distortion folds back beyond some angle: no ray is seen at such a pixel."""
    camera = Camera(info("plumb_bob", d=[-0.9, 0.0, 0.0, 0.0, 0.0]), HEADER, 640, 480)
    assert camera.point(around(320, 240), 2.0) is not None
    assert camera.point(around(639, 479), 2.0) is None


@given(st.sampled_from(sorted(LENSES)), st.floats(-0.5, 0.5), st.floats(-0.4, 0.4), st.floats(0.2, 50))
def test_a_place_is_where_a_ray_comes_from(model, x, y, z):
    camera = Camera(info(model, binning_x=2, binning_y=2), HEADER, 320, 240)
    ((u, v),) = camera.project(np.array([[x * z, y * z, z]]))
    assert (2 * u - 0.5, 2 * v - 0.5) == pytest.approx(project(model, (x * z, y * z, z)), abs=1e-6)
    assert camera.ray(u, v) == pytest.approx((x, y), abs=0.005)


def test_what_is_behind_or_beyond_the_lens_is_nowhere():
    """At 63° from the axis this lens's polynomial has turned back: the pixel it gives is that of a nearer ray."""
    points = np.array([[0.0, 0.0, -1.0], [0.0, 0.0, 0.0], [4.0, 0.0, 2.0], [0.2, 0.0, 2.0]])
    lens, still = [-0.3, 0.02, 0.0, 0.0, 0.0], np.zeros(3)
    u = cv2.projectPoints(points[2:3, None], still, still, np.array(K).reshape(3, 3), np.array(lens))[0].ravel()[0]
    assert 0 < u < 640
    found = Camera(info("plumb_bob", d=lens), HEADER, 640, 480).project(points)
    assert np.isnan(found[:3]).all() and np.isfinite(found[3]).all()
    assert Camera(info(), HEADER, 640, 480).project(np.zeros((0, 3))).shape == (0, 2)


def test_a_matrix_that_no_lens_has_is_no_calibration():
    """Drivers of cameras without a calibration send the identity as K, which would be a lens of 180 degrees."""
    with pytest.raises(BadCameraError, match="no lens has so short a one"):
        Camera(info(k=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]), HEADER, 640, 480)
