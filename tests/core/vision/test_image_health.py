"""Image health: blind images are told from good ones, made here and, where they are at hand, real ones."""

from __future__ import annotations

import math
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from proxqa_core.vision.image_file import read_image
from proxqa_core.vision.image_health import BadLimitsError, ImageHealthLimits, ImageHealthMonitor, ImageStatus

REAL = Path(os.environ.get("PROXQA_REAL_DATA", "/nonexistent")) / "eval_public/images"


def scene(seed: int = 0, width: int = 320, height: int = 240) -> np.ndarray:
    """Boxes of all sizes and colours, as sharp as pixels are, with a camera's noise."""
    rng = np.random.default_rng(seed)
    image = np.full((height, width, 3), 120, np.float64)
    for _ in range(60):
        x, y = rng.integers(0, width), rng.integers(0, height)
        w, h = rng.integers(5, width // 3), rng.integers(5, height // 3)
        image[y : y + h, x : x + w] = rng.integers(20, 235, 3)
    return np.clip(image + rng.normal(0, 2, image.shape), 0, 255).astype(np.uint8)


def covered(image: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(1).normal(0, 3, image.shape)
    return np.clip(noise + np.array([90, 60, 50]), 0, 255).astype(np.uint8)


BLIND = {
    ImageStatus.DARK: lambda i: (i * 0.02).astype(np.uint8),
    ImageStatus.OVEREXPOSED: lambda i: np.full_like(i, 254),
    ImageStatus.LOW_CONTRAST: covered,
    ImageStatus.BLURRED: lambda i: cv2.GaussianBlur(i, (0, 0), 0.04 * max(i.shape)),
}


@pytest.mark.parametrize("status", BLIND)
@pytest.mark.parametrize("width", [320, 1280])
def test_a_blind_image_is_told_from_a_good_one(status: ImageStatus, width: int) -> None:
    image = scene(width=width, height=width * 3 // 4)
    good = ImageHealthMonitor().assess(image)
    assert good.status is ImageStatus.OK and not good.problem and math.isnan(good.change)
    bad = ImageHealthMonitor().assess(BLIND[status](image))
    assert bad.status is status and bad.problem and "\n" not in bad.problem


def test_the_same_pixels_again_and_again_are_a_frozen_camera() -> None:
    monitor = ImageHealthMonitor(ImageHealthLimits(frozen_images=4))
    image = scene()
    found = [monitor.assess(image) for _ in range(5)]
    assert [h.status.name for h in found] == ["OK", "OK", "OK", "FROZEN", "FROZEN"] and found[1].change == 0
    moved = monitor.assess(scene(1))
    assert moved.status is ImageStatus.OK and moved.change > 0.01
    image[3, 4, 0] ^= 1  # a camera's noise
    assert [monitor.assess(scene(1)).status, monitor.assess(image).status] == [ImageStatus.OK] * 2
    for _ in range(3):
        monitor.assess(image)
    monitor.reset()
    assert monitor.assess(image).status is ImageStatus.OK


def test_frozen_images_can_be_left_alone() -> None:
    monitor = ImageHealthMonitor(ImageHealthLimits(frozen_images=0))
    assert {monitor.assess(scene()).status for _ in range(30)} == {ImageStatus.OK}


def test_an_image_of_another_size_has_no_change() -> None:
    monitor = ImageHealthMonitor()
    monitor.assess(scene())
    assert math.isnan(monitor.assess(scene(width=200, height=200)).change)


@pytest.mark.parametrize("limits", [{"min_contrast": math.nan}, {"min_exposure": -1.0}, {"max_exposure": 0.01}])
def test_limits_that_cannot_be_are_one_line(limits: dict[str, float]) -> None:
    with pytest.raises(BadLimitsError, match="expected"):
        ImageHealthLimits(**limits)  # type: ignore[arg-type]


@pytest.mark.skipif(not REAL.is_dir(), reason="PROXQA_REAL_DATA names no folder with eval_public/")
def test_real_photographs() -> None:
    images = [read_image(path) for path in sorted(REAL.iterdir())]
    good = [ImageHealthMonitor().assess(image).status for image in images]
    assert good.count(ImageStatus.OK) == len(images)
    for status, spoil in BLIND.items():
        caught = [ImageHealthMonitor().assess(spoil(image)).status is status for image in images]
        assert sum(caught) >= 0.95 * len(images), status
