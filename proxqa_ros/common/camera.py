"""Where objects are in space: pixels and distances ⇄ points in the optical frame, by the camera's CameraInfo.

Promises: points in metres in the image's own frame, an optical one by REP 103 (x right, y down, z along the axis);
distortion, binning and a region of interest are honoured; a CameraInfo that cannot be used is refused with one line.
Knows nothing of nodes, topics or models.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from proxqa_core.errors import ProxqaError
from proxqa_core.types import Box

Floats = NDArray[np.float64]

_COEFFICIENTS = {"plumb_bob": (4, 5), "rational_polynomial": (8, 12, 14), "equidistant": (4,)}
_AGREES = 1.0
"""Pixels within which a pixel must come back through the lens: beyond, the lens's model does not hold there."""


class BadCameraError(ProxqaError, ValueError):
    """A CameraInfo cannot be used, or not with this image."""


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
    """The lens that an image was taken through.

    info: of the same camera. header, width, height: of the image. rectified: the image is, so that P holds and the
    distortion is gone. Raises BadCameraError.
    """

    def __init__(self, info: CameraInfo, header: Header, width: int, height: int, rectified: bool = False) -> None:
        if info.header.frame_id != header.frame_id:
            raise BadCameraError(
                f"camera_info is of frame {info.header.frame_id[:60]!r}, the image of {header.frame_id[:60]!r}; "
                "expected the same"
            )
        self._binning = np.array([max(1, info.binning_x), max(1, info.binning_y)])
        self._offset = np.array([info.roi.x_offset, info.roi.y_offset])
        size = tuple(
            int(n // b)
            for n, b in zip((info.roi.width or info.width, info.roi.height or info.height), self._binning, strict=True)
        )
        if size != (width, height):
            raise BadCameraError(
                f"camera_info is for images of {size[0]}x{size[1]} pixels, the image has {width}x{height}; "
                "expected the same"
            )
        matrix = np.array(info.p if rectified else info.k, float).reshape(3, -1)[:, :3]
        if not (np.isfinite(matrix).all() and matrix[0, 0] > 0 and matrix[1, 1] > 0):
            raise BadCameraError(
                f"camera_info has focal lengths {matrix[0, 0]:g} and {matrix[1, 1]:g} in {'P' if rectified else 'K'}; "
                "expected both > 0 (the camera is not calibrated)"
            )
        self._matrix = matrix
        self._distortion = np.zeros(0) if rectified else np.array(info.d, float)
        self._fisheye = info.distortion_model == "equidistant"
        if self._distortion.any():
            counts = _COEFFICIENTS.get(info.distortion_model)
            if counts is None:
                raise BadCameraError(
                    f"camera_info has distortion model {info.distortion_model[:40]!r}; "
                    f"expected one of {', '.join(_COEFFICIENTS)}"
                )
            if len(self._distortion) not in counts or not np.isfinite(self._distortion).all():
                raise BadCameraError(
                    f"camera_info has {len(self._distortion)} distortion coefficients for {info.distortion_model}; "
                    f"expected {' or '.join(map(str, counts))}, all finite"
                )

    def point(self, region: Box, distance: float) -> Point | None:
        """The middle of a region (pixels) at this distance along the optical axis (metres, > 0).

        None where the lens's model does not hold there.
        """
        x, y = self.ray((region.x1 + region.x2) / 2, (region.y1 + region.y2) / 2)
        if not (math.isfinite(x) and math.isfinite(y)):
            return None
        return Point(x * distance, y * distance, distance)

    def ray(self, x: float, y: float) -> tuple[float, float]:
        """x/z and y/z of the points that are seen at this place of the image; NaN where the lens's model does not hold.

        Places are as in a Box: 0, 0 is the upper left corner of the first pixel.
        """
        # edges of pixels → full resolution → centres of pixels, which are the whole numbers for CameraInfo
        pixel = np.array([[x, y]]) * self._binning + self._offset - 0.5
        ((across, down),) = self._rays(pixel)
        return float(across), float(down)

    def places(self, points: Floats) -> Floats:
        """Where in the image, or beside it, points [n, 3] of the optical frame are seen: places [n, 2] as of `ray`.

        NaN for those behind the camera and where the lens's model does not hold.
        """
        found = np.full((len(points), 2), np.nan)
        ahead = points[:, 2] > 0
        rays = points[ahead, :2] / points[ahead, 2:]
        if len(rays):
            pixels = self._pixels(rays)
            if self._distortion.any():
                # far aside a lens's polynomial comes back into the image: such a pixel is another ray's
                off = np.abs(self._rays(pixels) - rays) * self._matrix.diagonal()[:2]
                pixels[~(off.max(axis=1) <= _AGREES)] = np.nan
            found[ahead] = (pixels + 0.5 - self._offset) / self._binning
        return found

    def _rays(self, pixels: Floats) -> Floats:
        """x/z and y/z of the points that are seen at these pixels of full resolution, both [n, 2], n > 0.

        NaN where there are none.
        """
        if not self._distortion.any():
            return (pixels - self._matrix[:2, 2]) / self._matrix.diagonal()[:2]
        model = cv2.fisheye if self._fisheye else cv2
        rays = np.array(model.undistortPoints(pixels[:, None], self._matrix, self._distortion)).reshape(-1, 2)
        off = np.hypot(*(self._pixels(rays) - pixels).T)
        rays[~(off <= _AGREES)] = np.nan
        return rays

    def _pixels(self, rays: Floats) -> Floats:
        """The reverse of `_rays`."""
        if not self._distortion.any():
            return rays * self._matrix.diagonal()[:2] + self._matrix[:2, 2]
        ahead, still = np.column_stack([rays, np.ones(len(rays))])[:, None], np.zeros(3)
        model = cv2.fisheye if self._fisheye else cv2
        return np.array(model.projectPoints(ahead, still, still, self._matrix, self._distortion)[0]).reshape(-1, 2)
