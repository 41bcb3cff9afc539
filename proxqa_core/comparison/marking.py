"""Pictures for models that take no boxes: A is marked red, B blue.

Promises: the same item gives the same picture, byte for byte. Knows nothing of models.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from proxqa_core.datasets.benchmarks import WhichCloser
from proxqa_core.types import Box

RED, BLUE = (255, 0, 0), (0, 0, 255)
JPEG_QUALITY = 95


def marked(item: WhichCloser, flipped: bool = False) -> NDArray[np.uint8]:
    """The image of a pair with A in a red, B in a blue box or circle, where it is known where they are.

    Args:
        item: The pair.
        flipped: Whether its B is called A.

    Returns:
        uint8 [height, width, 3], RGB.

    Raises:
        BadImageError: The image is missing or damaged.
    """
    image = item.load_image()
    regions = item.regions(image.shape[1], image.shape[0])
    if regions is None:
        return image
    canvas = Image.fromarray(image)
    # points carry their letters in the image and are asked about in one order
    points = item.boxes is None
    first, second = regions[::-1] if flipped and not points else regions
    for region, colour, letter in ((first, RED, "A"), (second, BLUE, "B")):
        _mark(canvas, region, colour, letter if points else "")
    return np.asarray(canvas)


def _mark(canvas: Image.Image, region: Box, colour: tuple[int, int, int], letter: str) -> None:
    draw, width = ImageDraw.Draw(canvas), max(2, round(min(canvas.size) / 160))
    if letter:
        draw.ellipse(region.xyxy, outline=colour, width=width)
        draw.text((region.x2, region.y1), letter, fill=colour)
    else:
        draw.rectangle(region.xyxy, outline=colour, width=width)


def jpeg_bytes(image: NDArray[np.uint8]) -> bytes:
    """An image, uint8 [height, width, 3] RGB, as JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()
