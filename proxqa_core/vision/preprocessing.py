"""Pixels in, normalised tensors out, and boxes into the same frame.

Promises: the whole image is seen (nothing is cropped away), and a box is mapped by the very geometry that the pixels
were; pixels are resized the way that the model's tower was trained with. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from proxqa_core.errors import BadModelError
from proxqa_core.types import Box, check_image

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the model's square input.

    Attributes:
        size: Side of the square, in pixels.
        geometry: 'stretch' to the square, or 'pad' with the mean colour, rounded down (as LLaVA-1.5 was trained).
        mean: Subtracted from values in [0, 1], per channel R, G, B.
        std: Divided by, per channel.
        resample: Pillow's filter, as Hugging Face's processors resize; None = OpenCV's, by area where an image shrinks
            (as the default tower was trained). Bicubic and by area differ by up to 27 of 255 levels.

    Raises:
        ValueError: A value is out of its range.
    """

    size: int
    geometry: Literal["stretch", "pad"] = "stretch"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    resample: Image.Resampling | None = None

    def __post_init__(self) -> None:
        if self.size < 14:
            raise ValueError(f"size {self.size} is too small; expected at least 14 pixels")
        if self.geometry not in ("stretch", "pad"):
            raise ValueError(f"geometry {self.geometry!r} is unknown; expected 'stretch' or 'pad'")
        if len(self.mean) != 3 or len(self.std) != 3:
            raise ValueError(f"mean {self.mean} and std {self.std} are not of three channels; expected R, G, B")
        if min(self.std) <= 0:
            raise ValueError(f"std {self.std} has a value that is not positive")

    @classmethod
    def of_processor(cls, processor: Any) -> Preprocessing:
        """What a Hugging Face image processor does, but padded instead of cropped.

        Args:
            processor: A `BaseImageProcessor` of CLIP, SigLIP or LLaVA.

        Returns:
            The same pixels as the processor's for square images; for others those of the image padded to a square (as
            LLaVA-1.5 was trained) where the processor crops or pads, and the processor's own where it stretches.

        Raises:
            BadModelError: It makes something else of an image.
        """
        size = dict(processor.size)
        crops = bool(getattr(processor, "do_center_crop", False)) and getattr(processor, "crop_size", None)
        side = dict(processor.crop_size) if crops else size
        height = int(side.get("height") or side.get("shortest_edge") or 0)
        width = int(side.get("width") or height)
        factor = float(getattr(processor, "rescale_factor", 1 / 255))
        if not height or height != width or not processor.do_resize or abs(255 * factor - 1) > 1e-6:
            raise BadModelError(
                f"its image processor makes {width}x{height} pixels of levels times {factor:.6g}; expected one that "
                "resizes to a square, of levels divided by 255"
            )
        stretches = not crops and {"height", "width"} <= size.keys() and not getattr(processor, "do_pad", False)
        normalises = bool(processor.do_normalize)
        return cls(
            height,
            "stretch" if stretches else "pad",
            tuple(processor.image_mean) if normalises else (0.0, 0.0, 0.0),
            tuple(processor.image_std) if normalises else (1.0, 1.0, 1.0),
            _resampling(getattr(processor, "resample", None)),
        )

    def pixels(self, images: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
        """Images as the model's input.

        Args:
            images: n images, uint8 [height, width, 3], RGB, of any sizes.

        Returns:
            float32 [n, 3, size, size], normalised.

        Raises:
            BadImageError: One of them is anything else.
        """
        return torch.stack([self._one(image) for image in images])

    def _one(self, image: NDArray[np.uint8]) -> torch.Tensor:
        check_image(image)
        small = self._resized(self._padded(image) if self.geometry == "pad" else image)
        values: NDArray[Any] = small.astype(np.float32) / 255.0
        values = (values - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)
        return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))

    def _padded(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """An image in the middle of a square of the mean colour."""
        height, width = image.shape[:2]
        side = max(height, width)
        square = np.empty((side, side, 3), np.uint8)
        square[:] = [int(255 * m) for m in self.mean]
        top, left = (side - height) // 2, (side - width) // 2
        square[top : top + height, left : left + width] = image
        return square

    def _resized(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        side = (self.size, self.size)
        if self.resample is not None:
            return np.asarray(Image.fromarray(image).resize(side, self.resample))
        shrinks = max(image.shape[:2]) > self.size
        return np.asarray(cv2.resize(image, side, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC))

    def as_seen(self, pixels: torch.Tensor) -> torch.Tensor:
        """The inverse of the normalisation: from `pixels`, [..., 3, size, size] → R, G, B in [0, 1]."""
        mean, std = (torch.tensor(v, dtype=pixels.dtype)[:, None, None] for v in (self.mean, self.std))
        return (pixels * std + mean).clamp(0, 1)

    def normalised(self, box: Box, width: int, height: int) -> tuple[float, float, float, float]:
        """A box of an image in the model's square input.

        Args:
            box: In pixels of the image.
            width: Of the image, in pixels.
            height: Of the image, in pixels.

        Returns:
            (x1, y1, x2, y2) in [0, 1] of the square.

        Raises:
            BadObjectError: The box lies outside the image.
        """
        b = box.clipped(width, height)
        if self.geometry == "stretch":
            return (b.x1 / width, b.y1 / height, b.x2 / width, b.y2 / height)
        side = max(width, height)
        left, top = (side - width) // 2, (side - height) // 2
        return ((b.x1 + left) / side, (b.y1 + top) / side, (b.x2 + left) / side, (b.y2 + top) / side)

    def in_pixels(self, box: Box, width: int, height: int) -> Box:
        """The inverse of `normalised`.

        Args:
            box: In [0, 1] of the square input.
            width: Of the image, in pixels.
            height: Of the image, in pixels.

        Returns:
            The box in pixels of the image, inside it, at least one pixel wide and high.
        """
        left = top = 0
        wide, high = width, height
        if self.geometry == "pad":
            wide = high = max(width, height)
            left, top = (wide - width) // 2, (high - height) // 2
        x1, x2 = _inside(box.x1 * wide - left, box.x2 * wide - left, width)
        y1, y2 = _inside(box.y1 * high - top, box.y2 * high - top, height)
        return Box(x1, y1, x2, y2)


def _resampling(value: Any) -> Image.Resampling:
    """Pillow's filter by its number, or by its name as torchvision has it; bicubic where a processor has none."""
    if value is None:
        return Image.Resampling.BICUBIC
    name = getattr(value, "value", value)
    try:
        return Image.Resampling[name.upper()] if isinstance(name, str) else Image.Resampling(int(name))
    except (KeyError, ValueError, TypeError) as error:
        raise BadModelError(f"its image processor resizes by {value!r}; expected one of Pillow's filters") from error


def _inside(low: float, high: float, size: int) -> tuple[float, float]:
    """An interval cut to [0, size], at least 1 long."""
    low = min(max(low, 0.0), size - 1.0)
    return low, min(max(high, low + 1.0), float(size))
