"""The pixels of a whole JPEG by libjpeg-turbo straight into an array: what Pillow makes of it, in a third of the time.

Promises: the same pixels as Pillow, or None, where anything at all is odd about the data; who asks lets Pillow decide
then. Knows nothing of messages or files.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

try:
    from simplejpeg import decode_jpeg
except ImportError:  # a ROS installation need not have it: Pillow does all
    decode_jpeg = None

_SPACES = {"RGB": "RGB", "L": "GRAY"}
"""Pillow's modes of JPEGs that are decoded here, and what the library calls them. Others (CMYK) are Pillow's."""


def decode(picture: Image.Image, data: bytes) -> NDArray[np.uint8] | None:
    """Decode a JPEG of three channels or one.

    Args:
        picture: Opened and not loaded: Pillow has read and checked the headers.
        data: What it was opened from, the whole file.

    Returns:
        uint8 [height, width, 3], RGB, or [height, width], grey, as stored (EXIF rotation not applied), of its own
        memory; None = left to Pillow: another format or mode, damaged or cut off, or the library is not installed.
    """
    if decode_jpeg is None or picture.format != "JPEG" or picture.mode not in _SPACES:
        return None
    try:
        pixels: NDArray[np.uint8] = decode_jpeg(data, _SPACES[picture.mode], strict=True)
    except (ValueError, MemoryError):
        return None
    if pixels.shape[1::-1] != picture.size:
        return None
    return pixels[..., 0] if picture.mode == "L" else pixels
