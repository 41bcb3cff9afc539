"""The camera model: pixels and distances ⇄ points in the optical frame, by the camera's CameraInfo.

Promises: points in metres in the image's own frame, an optical one by REP 103 (x right, y down, z along the axis);
distortion, binning and a region of interest are applied; a CameraInfo that cannot be used is refused with one line.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NoReturn

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from proxqa_core.errors import ProxqaError
from proxqa_core.frames import same_frame
from proxqa_core.types import Box

Floats = NDArray[np.float64]

DISTORTION_COEFFICIENTS = {"plumb_bob": (4, 5), "rational_polynomial": (8, 12, 14), "equidistant": (4,)}
"""Numbers of coefficients that a distortion model may have, not counting zeros at the end."""
MODEL_NAMES = {
    "radtan": "plumb_bob",
    "brown_conrady": "plumb_bob",
    "fisheye": "equidistant",
    "kannala_brandt": "equidistant",
    "kannala_brandt4": "equidistant",
}
"""Names that drivers and calibration tools give to distortion models, and sensor_msgs' own."""
MAX_REPROJECTION_PX = 1.0
"""Largest distance of a pixel from itself after it went through the lens and back, in pixels: beyond, the lens's model
does not hold there."""


MIN_FOCAL_LENGTH = 0.05
"""Shortest focal length in image widths (heights) that is believed: an equidistant fisheye of 270° has 0.21."""


class BadCameraError(ProxqaError, ValueError):
    """A CameraInfo cannot be used, or not with this image."""


def no_camera() -> NoReturn:
    """Stands for a camera that nothing is known of. Raises BadCameraError."""
    raise BadCameraError("no camera_info has arrived yet")


@dataclass(frozen=True)
class Point:
    """A point in an optical frame, in metres: x to the right, y down, z along the optical axis, > 0."""

    x: float
    y: float
    z: float

    @property
    def azimuth(self) -> float:
        """Bearing to the right of the optical axis, in radians, -π/2 to π/2."""
        return math.atan2(self.x, self.z)

    @property
    def elevation(self) -> float:
        """Bearing upwards of the camera's own horizontal plane, in radians, -π/2 to π/2."""
        return math.atan2(-self.y, math.hypot(self.x, self.z))


class Camera:
    """The camera model of an image.

    Args:
        info: The CameraInfo of the camera.
        header: The image's header.
        width: The image's width in pixels.
        height: The image's height in pixels.
        rectified: The image is rectified: `info.P` applies, without distortion, instead of `info.K` and `info.D`.

    Raises:
        BadCameraError: The CameraInfo is broken, or of another frame or image size.
    """

    def __init__(self, info: CameraInfo, header: Header, width: int, height: int, rectified: bool = False) -> None:
        if info.header.frame_id and not same_frame(info.header.frame_id, header.frame_id):  # drivers leave it empty
            raise BadCameraError(
                f"camera_info is of frame {info.header.frame_id[:60]!r}, the image of {header.frame_id[:60]!r}; "
                "expected the same"
            )
        self._binning = np.array([max(1, info.binning_x), max(1, info.binning_y)])
        self._offset = np.array([info.roi.x_offset, info.roi.y_offset])
        self._matrix = _matrix(info, rectified)  # before the size, which of an uncalibrated camera is 0 as well
        self._check_size(info, width, height)
        self._distortion = np.zeros(0) if rectified else _distortion(info)
        self._fisheye = _model_name(info) == "equidistant"

    def _check_size(self, info: CameraInfo, width: int, height: int) -> None:
        full = (info.roi.width or info.width, info.roi.height or info.height)
        size = tuple(int(n // b) for n, b in zip(full, self._binning, strict=True))
        if size != (width, height):
            raise BadCameraError(
                f"camera_info is for images of {size[0]}x{size[1]} pixels, the image has {width}x{height}; "
                "expected the same"
            )

    def point(self, region: Box, distance: float) -> Point | None:
        """The middle of a region at a distance.

        Args:
            region: The region in pixels.
            distance: The distance along the optical axis in metres, > 0.

        Returns:
            The point; None where the lens's model does not hold there.
        """
        x, y = self.ray((region.x1 + region.x2) / 2, (region.y1 + region.y2) / 2)
        if not (math.isfinite(x) and math.isfinite(y)):
            return None
        return Point(x * distance, y * distance, distance)

    def ray(self, x: float, y: float) -> tuple[float, float]:
        """The ray of the points that are seen at a place of the image.

        Args:
            x: The place in pixels, as in a Box: 0, 0 is the upper left corner of the first pixel.
            y: The same, downwards.

        Returns:
            x/z and y/z of these points; NaN where the lens's model does not hold.
        """
        # edges of pixels → full resolution → centres of pixels, which are the whole numbers for CameraInfo
        pixel = np.array([[x, y]]) * self._binning + self._offset - 0.5
        ((across, down),) = self._rays(pixel)
        return float(across), float(down)

    def project(self, points: Floats) -> Floats:
        """Where in the image, or beside it, points are seen.

        Args:
            points: Points of the optical frame [n, 3], in metres.

        Returns:
            Places [n, 2] in pixels, as of `ray`; NaN for points behind the camera and where the lens's model does not
            hold.
        """
        found = np.full((len(points), 2), np.nan)
        ahead = points[:, 2] > 0
        rays = points[ahead, :2] / points[ahead, 2:]
        if len(rays):
            pixels = self._pixels(rays)
            if self._distortion.any():
                # far aside a lens's polynomial comes back into the image: such a pixel is another ray's
                off = np.abs(self._rays(pixels) - rays) * self._matrix.diagonal()[:2]
                pixels[~(off.max(axis=1) <= MAX_REPROJECTION_PX)] = np.nan
            found[ahead] = (pixels + 0.5 - self._offset) / self._binning
        return found

    def _rays(self, pixels: Floats) -> Floats:
        """Pixels of full resolution [n, 2], n > 0 → x/z and y/z of the points seen there [n, 2], NaN = none."""
        if not self._distortion.any():
            return (pixels - self._matrix[:2, 2]) / self._matrix.diagonal()[:2]
        model = cv2.fisheye if self._fisheye else cv2
        rays = np.array(model.undistortPoints(pixels[:, None], self._matrix, self._distortion)).reshape(-1, 2)
        off = np.hypot(*(self._pixels(rays) - pixels).T)
        rays[~(off <= MAX_REPROJECTION_PX)] = np.nan
        return rays

    def _pixels(self, rays: Floats) -> Floats:
        """The inverse of `_rays`: rays [n, 2] → pixels of full resolution [n, 2]."""
        if not self._distortion.any():
            return rays * self._matrix.diagonal()[:2] + self._matrix[:2, 2]
        ahead, still = np.column_stack([rays, np.ones(len(rays))])[:, None], np.zeros(3)
        model = cv2.fisheye if self._fisheye else cv2
        return np.array(model.projectPoints(ahead, still, still, self._matrix, self._distortion)[0]).reshape(-1, 2)


def _matrix(info: CameraInfo, rectified: bool) -> Floats:
    """The camera matrix [3, 3]."""
    name = "P" if rectified else "K"
    matrix = np.array(info.p if rectified else info.k, float).reshape(3, -1)[:, :3]
    if not (matrix[0, 0] > 0 and matrix[1, 1] > 0):
        raise BadCameraError(
            f"camera_info has focal lengths {matrix[0, 0]:g} and {matrix[1, 1]:g} in {name}; "
            "expected both > 0 (the camera is not calibrated)"
        )
    if not np.isfinite(matrix).all():
        shown = ", ".join(f"{value:g}" for value in matrix.flat)
        raise BadCameraError(f"camera_info has [{shown}] in {name}; expected finite numbers")
    if min(matrix[0, 0] / max(1, info.width), matrix[1, 1] / max(1, info.height)) < MIN_FOCAL_LENGTH:
        raise BadCameraError(
            f"camera_info has focal lengths {matrix[0, 0]:g} and {matrix[1, 1]:g} px in {name} "
            f"for {info.width}x{info.height} pixels; no lens has so short a one (the camera is not calibrated)"
        )
    return matrix


def _model_name(info: CameraInfo) -> str:
    """The distortion model as sensor_msgs/distortion_models.hpp names it."""
    name = info.distortion_model.strip().lower().replace(" ", "_").replace("-", "_")
    return MODEL_NAMES.get(name, name)


def _distortion(info: CameraInfo) -> Floats:
    """The distortion's coefficients, all 0 or of a known model.

    Many drivers send more numbers than the model has, with zeros at the end, which change nothing: in OpenCV's models,
    as here, each coefficient that is left out is 0.
    """
    coefficients = np.array(info.d, float)
    if not coefficients.any():
        return np.zeros(0)
    counts = DISTORTION_COEFFICIENTS.get(_model_name(info))
    if counts is None:
        raise BadCameraError(
            f"camera_info has distortion model {info.distortion_model[:40]!r}; "
            f"expected one of {', '.join(DISTORTION_COEFFICIENTS)}"
        )
    used = int(np.flatnonzero(coefficients)[-1]) + 1
    if len(coefficients) < counts[0] or used > counts[-1] or not np.isfinite(coefficients).all():
        raise BadCameraError(
            f"camera_info has {len(coefficients)} distortion coefficients for {info.distortion_model}; "
            f"expected {' or '.join(map(str, counts))}, all finite"
        )
    full = np.zeros(next(count for count in counts if count >= used))
    full[:used] = coefficients[:used]
    return full


class LatestCameraInfo:
    """The newest CameraInfo of a topic. Any thread may call any method."""

    def __init__(self) -> None:
        self._info: CameraInfo | None = None

    @property
    def info(self) -> CameraInfo | None:
        """The message, None before the first."""
        return self._info

    def add(self, message: CameraInfo) -> None:
        """Take a message."""
        self._info = message

    def clear(self) -> None:
        """Drop the message."""
        self._info = None

    def model(self, header: Header, width: int, height: int, rectified: bool) -> Camera:
        """The camera model of an image. Arguments and errors as of `Camera`; BadCameraError too before a message."""
        info = self._info
        return no_camera() if info is None else Camera(info, header, width, height, rectified)
