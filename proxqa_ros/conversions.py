"""Messages ⇄ the core's types: images, depth images, regions, object depths.

Promises: an image message becomes uint8 RGB [height, width, 3] of its own memory, or a BadImageError of one line that
says what came and what was expected; nothing is guessed from sizes. `step` padding and both byte orders are honoured.
Knows nothing of nodes, topics or models. cv_bridge is not needed.
"""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PilImage
from sensor_msgs.msg import CompressedImage, Image, RegionOfInterest
from std_msgs.msg import Header

from proxqa_core.errors import BadImageError, BadObjectError
from proxqa_core.types import MAX_IMAGE_SIDE, MAX_OBJECTS, Box, ObjectDepth, ObjectQuery, check_image
from proxqa_ros import msg as messages

Pixels = NDArray[np.uint8]

_JPEG_START, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB\x60\x82"
_TAIL = 1024
"""Bytes at the end of a compressed image in which its end marker is looked for (some cameras pad)."""


class TooManyObjectsError(BadObjectError):
    """More objects than one request may have."""


def _cv(code: int) -> Callable[[NDArray[np.generic]], NDArray[np.generic]]:
    return lambda a: cv2.cvtColor(np.ascontiguousarray(a), code)


def _cv16(code: int) -> Callable[[NDArray[np.generic]], NDArray[np.generic]]:
    """As `_cv`, then 16 bit to 8 bit over the full range: 65535 becomes 255."""
    return lambda a: ((_cv(code)(a).astype(np.uint32) + 128) // 257).astype(np.uint8)


_mono16 = _cv16(cv2.COLOR_GRAY2RGB)


# encoding -> (bytes per channel, channels, to uint8 RGB). OpenCV names a Bayer pattern by its second row and column.
_COLOUR: dict[str, tuple[int, int, Callable[[NDArray[np.generic]], NDArray[np.generic]]]] = {
    "rgb8": (1, 3, lambda a: a),
    "bgr8": (1, 3, lambda a: a[..., ::-1]),
    "rgba8": (1, 4, lambda a: a[..., :3]),
    "bgra8": (1, 4, lambda a: a[..., 2::-1]),
    "mono8": (1, 1, _cv(cv2.COLOR_GRAY2RGB)),
    "mono16": (2, 1, _mono16),
    "8UC1": (1, 1, _cv(cv2.COLOR_GRAY2RGB)),
    "8UC3": (1, 3, lambda a: a[..., ::-1]),  # OpenCV's order, BGR
    "bayer_rggb8": (1, 1, _cv(cv2.COLOR_BayerBG2RGB)),
    "bayer_bggr8": (1, 1, _cv(cv2.COLOR_BayerRG2RGB)),
    "bayer_gbrg8": (1, 1, _cv(cv2.COLOR_BayerGR2RGB)),
    "bayer_grbg8": (1, 1, _cv(cv2.COLOR_BayerGB2RGB)),
    "bayer_rggb16": (2, 1, _cv16(cv2.COLOR_BayerBG2RGB)),
    "bayer_bggr16": (2, 1, _cv16(cv2.COLOR_BayerRG2RGB)),
    "bayer_gbrg16": (2, 1, _cv16(cv2.COLOR_BayerGR2RGB)),
    "bayer_grbg16": (2, 1, _cv16(cv2.COLOR_BayerGB2RGB)),
    "yuv422": (1, 2, _cv(cv2.COLOR_YUV2RGB_UYVY)),
    "uyvy": (1, 2, _cv(cv2.COLOR_YUV2RGB_UYVY)),
    "yuv422_yuy2": (1, 2, _cv(cv2.COLOR_YUV2RGB_YUY2)),
    "yuyv": (1, 2, _cv(cv2.COLOR_YUV2RGB_YUY2)),
}
_COLOUR_SIZES = {name: (size, channels) for name, (size, channels, _) in _COLOUR.items()}
_DEPTH: dict[str, tuple[int, int]] = {"16UC1": (2, 1), "mono16": (2, 1), "32FC1": (4, 1)}


def _check_raw(message: Image, known: dict[str, tuple[int, int]], wanted: str) -> tuple[int, int]:
    """(bytes per channel, channels) of a raw image whose encoding and sizes agree; BadImageError otherwise."""
    encoding, height, width, step = message.encoding, message.height, message.width, message.step
    if encoding not in known:
        raise BadImageError(f"image encoding {encoding[:40]!r} is not {wanted}; expected one of {', '.join(known)}")
    size, channels = known[encoding]
    if not (0 < height <= MAX_IMAGE_SIDE and 0 < width <= MAX_IMAGE_SIDE):
        raise BadImageError(f"image is {width}x{height} pixels; expected sides of 1 to {MAX_IMAGE_SIDE} pixels")
    row = width * size * channels
    if step < row:
        raise BadImageError(f"image step is {step} bytes; expected at least {row} for {width} pixels of {encoding}")
    if len(message.data) != step * height:
        raise BadImageError(
            f"image has {len(message.data)} bytes of data; expected step*height = {step}*{height} = {step * height}"
        )
    return size, channels


def _check_colour(message: Image) -> tuple[int, int]:
    size, channels = _check_raw(message, _COLOUR_SIZES, "a colour or grey image")
    if message.encoding.startswith("bayer") and (message.width < 2 or message.height < 2):
        raise BadImageError(f"{message.encoding} image is {message.width}x{message.height}; expected 2x2 or more")
    if channels == 2 and message.width % 2:
        raise BadImageError(f"{message.encoding} image is {message.width} pixels wide; expected an even width")
    return size, channels


def _pixels(message: Image, size: int, channels: int, kind: str) -> NDArray[np.generic]:
    """The array inside a checked message, without its padding, in native byte order: a view where possible."""
    rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
    rows = rows[:, : message.width * size * channels]
    if size > 1:
        order = ">" if message.is_bigendian else "<"
        native = np.ascontiguousarray(rows).view(f"{order}{kind}{size}")
        return native.astype(native.dtype.newbyteorder("="), copy=False)
    return rows if channels == 1 else rows.reshape(message.height, message.width, channels)


def check_message(message: Image | CompressedImage) -> None:
    """The checks that cost next to nothing (encoding, sizes, start and end markers), for use on every frame.

    Raises BadImageError. Passing them promises that `image_to_rgb` finds a whole message, not that it can decode it.
    """
    if isinstance(message, CompressedImage):
        _check_compressed(message)
    else:
        _check_colour(message)


def image_to_rgb(message: Image | CompressedImage) -> Pixels:
    """uint8 RGB [height, width, 3], contiguous, of its own memory. Raises BadImageError.

    Raw: the encodings of sensor_msgs/image_encodings with 8 bits per channel, mono16, Bayer (8 and 16 bit), YUV 4:2:2.
    Compressed: JPEG and PNG, decoded whole or refused; a JPEG whose middle is damaged gives a damaged picture, since
    the format has no checksum.
    """
    if isinstance(message, CompressedImage):
        image = _decode_compressed(message)
    else:
        size, channels = _check_colour(message)
        image = _COLOUR[message.encoding][2](_pixels(message, size, channels, "u"))
    image = np.array(image, np.uint8, order="C", copy=True)
    check_image(image)
    return image


def _check_compressed(message: CompressedImage) -> bytes:
    data = bytes(message.data)
    said = f"compressed image (format {message.format[:60]!r}, {len(data)} bytes)"
    if "compressedDepth" in message.format:
        raise BadImageError(f"{said} is a depth image; expected a colour or grey image as JPEG or PNG")
    if not data:
        raise BadImageError(f"{said} is empty; expected JPEG or PNG data")
    for name, start, end in (("JPEG", _JPEG_START, _JPEG_END), ("PNG", _PNG_START, _PNG_END)):
        if data.startswith(start):
            if end not in data[-_TAIL:]:
                raise BadImageError(f"{said} is truncated: the end marker of {name} is missing")
            return data
    raise BadImageError(f"{said} is neither JPEG nor PNG: it starts with {data[:8].hex(' ')}")


def _decode_compressed(message: CompressedImage) -> NDArray[np.generic]:
    """Decode JPEG or PNG with Pillow, which, unlike cv2.imdecode, refuses data that end early."""
    data = _check_compressed(message)
    try:
        with PilImage.open(io.BytesIO(data), formats=("JPEG", "PNG")) as picture:
            if max(picture.size) > MAX_IMAGE_SIDE:
                raise BadImageError(f"compressed image is {picture.size[0]}x{picture.size[1]} pixels; too large")
            picture.load()
            if picture.mode.startswith("I"):
                grey = np.asarray(picture).astype(np.int64).clip(0, 65535).astype(np.uint16)
                return _mono16(grey)
            return np.asarray(picture.convert("RGB"))
    except BadImageError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError, PilImage.DecompressionBombError) as error:
        reason = " ".join(str(error).split())
        raise BadImageError(
            f"compressed image (format {message.format[:60]!r}, {len(data)} bytes) cannot be decoded whole: {reason}"
        ) from error


def depth_to_metres(message: Image) -> NDArray[np.float32]:
    """float32 [height, width] in metres along the optical axis (REP 118); NaN where there is no measurement.

    16UC1 (and mono16) is millimetres with 0 = none; 32FC1 is metres, where not finite or <= 0 = none (REP 117).
    Raises BadImageError.
    """
    size, channels = _check_raw(message, _DEPTH, "a depth image")
    if message.encoding == "32FC1":
        metres = np.array(_pixels(message, size, channels, "f"), np.float32)
    else:
        metres = _pixels(message, size, channels, "u").astype(np.float32) / np.float32(1000)
    metres[~(np.isfinite(metres) & (metres > 0))] = np.nan
    return metres


def rgb_to_image(image: Pixels, header: Header) -> Image:
    """An rgb8 message of a uint8 RGB image, with the given header."""
    check_image(image)
    height, width = image.shape[:2]
    message = Image(header=header, height=height, width=width, encoding="rgb8", step=3 * width, is_bigendian=0)
    message.data = np.ascontiguousarray(image).tobytes()
    return message


def region_to_box(region: RegionOfInterest) -> Box | None:
    """The region in pixels, None where all four numbers are zero. BadObjectError where only one side is zero."""
    if region.width == 0 and region.height == 0 and region.x_offset == 0 and region.y_offset == 0:
        return None
    x, y = float(region.x_offset), float(region.y_offset)
    return Box(x, y, x + region.width, y + region.height)


def box_to_region(box: Box | None) -> RegionOfInterest:
    """The smallest whole-pixel region that holds the box, cut at the image's upper and left edge; zeros for None."""
    if box is None:
        return RegionOfInterest()
    x, y = max(0, math.floor(box.x1)), max(0, math.floor(box.y1))
    return RegionOfInterest(
        x_offset=x, y_offset=y, width=max(0, math.ceil(box.x2) - x), height=max(0, math.ceil(box.y2) - y)
    )


def object_queries(names: Sequence[str], regions: Sequence[RegionOfInterest] = ()) -> tuple[ObjectQuery, ...]:
    """The objects that names and regions (none, or one per name) speak of, in order.

    Raises TooManyObjectsError, or BadObjectError on a name or region that cannot be used, on numbers that differ and
    on a name that comes twice without a region to tell the two apart.
    """
    if len(names) > MAX_OBJECTS:
        raise TooManyObjectsError(f"{len(names)} objects asked for; at most {MAX_OBJECTS}")
    if regions and len(regions) != len(names):
        raise BadObjectError(f"{len(regions)} regions for {len(names)} objects; expected none, or one per object")
    boxes = [region_to_box(region) for region in regions] or [None] * len(names)
    queries = tuple(ObjectQuery(name, box) for name, box in zip(names, boxes, strict=True))
    counts = Counter(query.name.casefold() for query in queries)
    for query in queries:
        if query.box is None and counts[query.name.casefold()] > 1:
            raise BadObjectError(
                f"object {query.name!r} is named {counts[query.name.casefold()]} times; "
                "give each its own region, or say which ('leftmost', 'rightmost')"
            )
    return queries


def object_to_message(depth: ObjectDepth) -> messages.ObjectDepth:
    """proxqa_ros/ObjectDepth of one object; `message_to_object` reads it back."""
    return messages.ObjectDepth(
        name=depth.name,
        region=box_to_region(depth.box or depth.found_at),
        depth=float(depth.depth),
        depth_stddev=float(depth.depth_stddev),
        distance=float(depth.distance),
        distance_stddev=float(depth.distance_stddev),
        score=float(depth.score),
        text=depth.text,
    )


def message_to_object(message: messages.ObjectDepth) -> ObjectDepth:
    """The core's ObjectDepth of a message."""
    return ObjectDepth(
        name=message.name,
        depth=message.depth,
        depth_stddev=message.depth_stddev,
        score=message.score,
        text=message.text,
        box=region_to_box(message.region),
        distance=message.distance,
        distance_stddev=message.distance_stddev,
    )


def depths_to_message(header: Header, model: str, depths: Sequence[ObjectDepth]) -> messages.ObjectDepthArray:
    """proxqa_ros/ObjectDepthArray with the image's own header."""
    return messages.ObjectDepthArray(header=header, model=model, objects=[object_to_message(d) for d in depths])
