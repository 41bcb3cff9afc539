"""Whether an image shows anything: a blind camera is told from "nothing there".

Promises: a few milliseconds an image, whatever its size; figures that do not depend on the resolution much; one limit a
figure, all in `ImageHealthLimits`. A frozen camera (the same pixels under new stamps) is told only after several such
images, since a rendered or very still scene may give two alike. Knows nothing of ROS, of models or of what is looked
for.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, fields
from enum import IntEnum

import cv2
import numpy as np
from numpy.typing import NDArray

from proxqa_core.errors import ProxqaError

SIDE_PX = 160
"""Longer side of the small grey image that figures are of, in pixels."""
GRAIN = 1.0 / 255
"""Luminance that the noise of a camera reaches anyway: what is finer is no structure."""


class ImageStatus(IntEnum):
    """What is wrong with an image; the numbers are those of ``ImageHealth.msg``."""

    UNKNOWN = 0
    OK = 1
    DARK = 2
    OVEREXPOSED = 3
    LOW_CONTRAST = 4
    BLURRED = 5
    FROZEN = 6


class BadLimitsError(ProxqaError, ValueError):
    """A limit is no number or out of its range."""


@dataclass(frozen=True)
class ImageHealthLimits:
    """From where on an image counts as blind.

    Attributes:
        min_exposure, max_exposure: Mean luminance, in [0, 1].
        min_contrast: Standard deviation of the luminance, in [0, 0.5].
        min_sharpness: See `ImageHealth`.
        frozen_images: Images with the very same pixels in a row, 0 = never told.

    Raises:
        BadLimitsError: A value is out of its range.
    """

    min_exposure: float = 0.02
    max_exposure: float = 0.98
    min_contrast: float = 0.02
    min_sharpness: float = 0.03
    frozen_images: int = 10

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (math.isfinite(value) and value >= 0):
                raise BadLimitsError(f"{field.name} is {value}; expected a number >= 0")
        if not self.min_exposure < self.max_exposure <= 1:
            raise BadLimitsError(
                f"min_exposure is {self.min_exposure:g}, max_exposure {self.max_exposure:g}; "
                "expected min_exposure < max_exposure <= 1"
            )


@dataclass(frozen=True)
class ImageHealth:
    """What an image is like.

    Attributes:
        status: Whether it shows anything.
        exposure: Mean luminance, in [0, 1].
        contrast: Standard deviation of the luminance, in [0, 0.5].
        sharpness: Share of the contrast that is in the finest structure, >= 0; sharp photographs have 0.1 to 0.6.
        change: Mean absolute difference of the luminance from the image before, in [0, 1]; NaN = there was none.
    """

    status: ImageStatus = ImageStatus.UNKNOWN
    exposure: float = math.nan
    contrast: float = math.nan
    sharpness: float = math.nan
    change: float = math.nan

    @property
    def problem(self) -> str:
        """One line on what is wrong; '' where nothing is."""
        texts = {
            ImageStatus.UNKNOWN: "it is not known whether the image shows anything",
            ImageStatus.DARK: f"the image is dark (mean luminance {self.exposure:.3f})",
            ImageStatus.OVEREXPOSED: f"the image is overexposed (mean luminance {self.exposure:.3f})",
            ImageStatus.LOW_CONTRAST: f"the image has no contrast ({self.contrast:.3f}); is the lens covered?",
            ImageStatus.BLURRED: f"the image is blurred (sharpness {self.sharpness:.3f})",
            ImageStatus.FROZEN: "the image is frozen: the same pixels under new stamps",
        }
        return texts.get(self.status, "")


class ImageHealthMonitor:
    """Judges the images of one camera one after the other.

    Args:
        limits: From where on an image counts as blind.
    """

    def __init__(self, limits: ImageHealthLimits | None = None) -> None:
        self.limits = limits or ImageHealthLimits()
        self._before: NDArray[np.float32] | None = None
        self._alike = 1
        """Images with the same pixels in a row."""
        self._digest: tuple[tuple[int, ...], int] = ((), 0)

    def reset(self) -> None:
        """Forget the images before: another camera, or another time, begins."""
        self._before, self._alike, self._digest = None, 1, ((), 0)

    def assess(self, image: NDArray[np.uint8]) -> ImageHealth:
        """Judge the next image, uint8 [height, width, 3], RGB."""
        # 1. a small grey image [rows, columns], in [0, 1]
        small = _small_grey(image)
        # 2. what it is like
        exposure, contrast = float(small.mean()), float(small.std())
        sharpness = _sharpness(small, contrast)
        change = self._change(small)
        self._count_alike(image)
        # 3. the first limit that it exceeds
        return ImageHealth(self._status(exposure, contrast, sharpness), exposure, contrast, sharpness, change)

    def _change(self, small: NDArray[np.float32]) -> float:
        before, self._before = self._before, small
        return math.nan if before is None or before.shape != small.shape else float(np.abs(small - before).mean())

    def _count_alike(self, image: NDArray[np.uint8]) -> None:
        """Every pixel counts: a still scene differs from image to image by the camera's noise."""
        digest = (image.shape, zlib.crc32(np.ascontiguousarray(image).data))
        self._alike = self._alike + 1 if digest == self._digest else 1
        self._digest = digest

    def _status(self, exposure: float, contrast: float, sharpness: float) -> ImageStatus:
        limits = self.limits
        if exposure < limits.min_exposure:
            return ImageStatus.DARK
        if exposure > limits.max_exposure:
            return ImageStatus.OVEREXPOSED
        if contrast < limits.min_contrast:
            return ImageStatus.LOW_CONTRAST
        if sharpness < limits.min_sharpness:
            return ImageStatus.BLURRED
        if limits.frozen_images and self._alike >= limits.frozen_images:
            return ImageStatus.FROZEN
        return ImageStatus.OK


def _small_grey(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Luminance [rows, columns] in [0, 1], longer side SIDE_PX at most; every pixel of the image counts."""
    height, width = image.shape[:2]
    factor = min(1.0, SIDE_PX / max(height, width))
    size = (max(2, round(width * factor)), max(2, round(height * factor)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.float32) / np.float32(255)


def _sharpness(small: NDArray[np.float32], contrast: float) -> float:
    """Mean absolute Laplacian beside the contrast: blur takes the one and leaves the other."""
    fine = float(np.abs(cv2.Laplacian(small, cv2.CV_32F, ksize=1)).mean())
    return max(0.0, fine - GRAIN) / max(contrast, GRAIN)
