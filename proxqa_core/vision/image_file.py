"""Image files to arrays.

Promises: what comes back is uint8 RGB the way a person sees it (EXIF rotation applied), or a BadImageError of one line
that names the file. Knows nothing of what the image is for.
"""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from proxqa_core.errors import BadImageError, reason_of
from proxqa_core.types import check_image
from proxqa_core.vision import jpeg

ImageLike = NDArray[np.uint8] | str | os.PathLike[str] | Image.Image
"""An image as an array, a file's path or a PIL image."""
_ORIENTATION, _UPRIGHT = 0x0112, 1
"""Tag of EXIF that says how the camera was turned, and its value for not at all."""


def read_image(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """An image file as an array.

    Args:
        path: JPEG, PNG or the like.

    Returns:
        uint8 [height, width, 3], RGB, upright.

    Raises:
        BadImageError: The file is missing, truncated, no image, of more than 8 bits a channel (mostly a depth image),
            or of a size that cannot be used.
    """
    return _upright(*_opened(path), path)


def decode_image(content: bytes, name: str) -> NDArray[np.uint8]:
    """The content of an image file as an array.

    Args:
        content: JPEG, PNG or the like.
        name: What messages call it.

    Returns:
        As of `read_image`.

    Raises:
        BadImageError: As of `read_image`.
    """
    return _upright(*_loaded(content, name), name)


def _upright(picture: Image.Image, pixels: NDArray[np.uint8] | None, path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """The picture in RGB the way a person sees it. pixels: where they are known. path: what messages call it."""
    if picture.mode.startswith(("I", "F")):
        raise BadImageError(
            f"{path}: is a {picture.mode} image, one channel of more than 8 bit; expected a colour image"
        )
    try:
        if pixels is None:
            image = np.array(ImageOps.exif_transpose(picture).convert("RGB"))
        else:
            image = pixels if pixels.ndim == 3 else np.stack([pixels] * 3, axis=-1)
    except (OSError, SyntaxError, ValueError) as error:
        raise _damaged(path, error) from error
    try:
        check_image(image)
    except BadImageError as error:
        raise BadImageError(f"{path}: {error}") from error
    return image


def as_image(image: ImageLike) -> NDArray[np.uint8]:
    """An image of whatever kind people have at hand.

    Args:
        image: A file's path, a PIL image, or an array, uint8 [height, width, 3], RGB. Text is a path: images are never
            fetched from URLs.

    Returns:
        uint8 [height, width, 3], RGB, upright.

    Raises:
        BadImageError: It is none of these, or cannot be used.
    """
    if isinstance(image, str | os.PathLike):
        return read_image(image)
    if isinstance(image, Image.Image):
        return _upright(image, None, "the PIL image")
    check_image(image)
    return image


def read_raw(path: str | os.PathLike[str], palette: bool = True) -> NDArray[Any]:
    """A map of depths or masks as it is stored.

    Args:
        path: A PNG of one channel.
        palette: An image with a palette is taken as the numbers of its colours, as masks are stored; False: it is
            refused, since what it shows is colours.

    Returns:
        [height, width], of the type stored.

    Raises:
        BadImageError: The file is missing, truncated, no image, or has several channels or a palette.
    """
    picture, _ = _opened(path)
    if picture.mode == "P" and not palette:
        raise BadImageError(f"{path}: has a palette of colours; expected one channel that holds the numbers themselves")
    try:
        raw = np.array(picture)
    except (OSError, SyntaxError, ValueError) as error:
        raise _damaged(path, error) from error
    if raw.ndim != 2:
        raise BadImageError(f"{path}: has shape {list(raw.shape)}; expected one channel [height, width]")
    return raw


def _opened(path: str | os.PathLike[str]) -> tuple[Image.Image, NDArray[np.uint8] | None]:
    """A picture, loaded, and None; or not loaded, and the pixels of the faultless upright JPEG that it is."""
    if not Path(path).exists():
        raise BadImageError(f"{path}: no such file; expected an image file")
    if Path(path).is_dir():
        raise BadImageError(f"{path}: is a folder; expected an image file")
    return _loaded(Path(path), path)


def _loaded(source: Path | bytes, path: str | os.PathLike[str]) -> tuple[Image.Image, NDArray[np.uint8] | None]:
    """As of `_opened`. source: the file, or its content. path: what messages call it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(source if isinstance(source, Path) else io.BytesIO(source))
            upright = picture.format == "JPEG" and picture.getexif().get(_ORIENTATION, _UPRIGHT) == _UPRIGHT
            pixels = (
                jpeg.decode(picture, source.read_bytes() if isinstance(source, Path) else source) if upright else None
            )
            if pixels is None:
                picture.load()
            return picture, pixels
    except UnidentifiedImageError as error:
        raise BadImageError(f"{path}: is no image that can be read; expected JPEG, PNG or the like") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadImageError(f"{path}: has too many pixels to be read safely") from error
    except PermissionError as error:
        raise BadImageError(f"{path}: may not be read (permission denied)") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise _damaged(path, error) from error


def _damaged(path: str | os.PathLike[str], error: Exception) -> BadImageError:
    why = reason_of(error)[:100] or type(error).__name__
    return BadImageError(f"{path}: is damaged or cut off ({why}); expected a whole image file")
