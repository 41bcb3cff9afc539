"""Image messages to arrays: what a camera driver publishes, live or in a bag.

Promises: an image message becomes uint8 RGB [height, width, 3] of its own memory, a depth image float32 metres, or a
BadImageError of one line that says what came and what was expected; nothing is guessed from sizes. `step` padding and
both byte orders are handled. Imports no ROS: any object with the fields of sensor_msgs/Image or
sensor_msgs/CompressedImage will do.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PilImage

from proxqa_core.errors import BadImageError, reason_of
from proxqa_core.types import MAX_IMAGE_SIDE, check_image
from proxqa_core.vision import jpeg

Pixels = NDArray[np.uint8]


class RawImage(Protocol):
    """The fields of sensor_msgs/Image that are used here."""

    encoding: str
    height: int
    width: int
    step: int
    is_bigendian: Any
    data: Any


@runtime_checkable
class Compressed(Protocol):
    """The fields of sensor_msgs/CompressedImage that are used here."""

    format: str
    data: Any


SATURATED_MM = 65535
"""Largest number of 16 bits: what cameras write where there is nothing within their range."""
DEPTH_ENCODINGS = ("16UC1", "32FC1")

_JPEG_END = b"\xff\xd9"
_START_OF_SCAN, _FILL = 0xDA, 0xFF
"""Second bytes of the JPEG marker before the compressed pixels, and of the bytes that may precede any marker."""
_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB\x60\x82"
_PNG_TYPE_AT, _PNG_GREY_16 = 26, bytes((16, 0))
"""Where a PNG's bit depth and type of colour end, and those of 16 bits of grey."""
MAX_COMPRESSED_PIXELS = 89_478_485
"""Most pixels of a compressed image, Pillow's own limit: a few kilobytes can claim, and hold, any number of them."""
_DEPTH_HEADER_BYTES = 12
"""Bytes before the PNG or RVL of a compressedDepth image: its format, then two numbers that scale inverse depth."""
_TIFF_STARTS = (b"II*\x00", b"MM\x00*")
_RVL_SIZE_BYTES = 8
MAX_RVL_PIXELS = 2**24
"""Most pixels of a depth image in RVL, more than any depth camera has: a few bytes can claim any number of zeros."""
_RVL_GOES_ON = 8
"""Nibbles from here on are followed by another one of the same integer."""
_RVL_MAX_NIBBLES = 11
"""More nibbles of one integer than 32 bits can need."""
NEAR_M = 200.0
"""A depth image in metres has something that is nearer."""


def is_depth(message: RawImage | Compressed) -> bool:
    """Whether a message is declared as a depth image: 16UC1, 32FC1 or compressedDepth."""
    if isinstance(message, Compressed):
        return "compressedDepth" in message.format or message.format.startswith(DEPTH_ENCODINGS)
    return _name(message.encoding) in DEPTH_ENCODINGS


def may_be_depth(message: RawImage | Compressed) -> bool:
    """Whether a message that somebody calls a depth image can be one: grey of 16 bits is no contradiction."""
    if is_depth(message):
        return True
    if isinstance(message, Compressed):
        data = bytes(message.data[:_PNG_TYPE_AT])
        return data.startswith(_PNG_START) and data[_PNG_TYPE_AT - 2 :] == _PNG_GREY_16
    return _name(message.encoding) in _DEPTH


def _cv(code: int) -> Callable[[NDArray[np.generic]], NDArray[np.generic]]:
    """One conversion, padded rows and all, into memory of its own."""
    return lambda a: cv2.cvtColor(np.asarray(a), code)


def _cv16(code: int) -> Callable[[NDArray[np.generic]], NDArray[np.generic]]:
    """As `_cv`, then 16 bit to 8 bit over the full range: 65535 becomes 255."""
    return lambda a: ((_cv(code)(a).astype(np.uint32) + 128) // 257).astype(np.uint8)


def _stretched(grey: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Grey of 16 to 8 bit by its own range: cameras fill 10, 12 or 14 of the bits, thermal ones a few hundred counts.

    `_OUTLIERS` of the pixels on either side may saturate. One count is at most one grey level, so that a picture of
    nothing but noise stays flat; such a picture stays about where it is between black and white.
    """
    counts = np.bincount(grey.ravel(), minlength=_LEVELS_16)
    below = np.cumsum(counts)
    low = int(np.searchsorted(below, _OUTLIERS * grey.size, side="right"))
    high = int(np.searchsorted(below, (1 - _OUTLIERS) * grey.size))
    span, middle = max(0, high - low), (low + high) / 2
    scale = 255 / max(span, 255)
    centre = float(np.clip(middle / 257, scale * span / 2, 255 - scale * span / 2))
    levels = np.rint(centre + scale * (np.arange(_LEVELS_16) - middle)).clip(0, 255).astype(np.uint8)
    stretched: NDArray[np.uint8] = levels[grey]
    return stretched


def _mono16(grey: NDArray[np.generic]) -> NDArray[np.generic]:
    return _cv(cv2.COLOR_GRAY2RGB)(_stretched(grey))


def _eight_bits(a: NDArray[np.generic]) -> NDArray[np.uint8]:
    """16 bit to 8 bit over the full range: 65535 becomes 255."""
    eight: NDArray[np.uint8] = ((a.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return eight


_LEVELS_16 = 65536
_OUTLIERS = 0.001
"""Part of the pixels of a 16 bit grey image, on either side, that do not count for its range: dead and hot pixels."""

# encoding -> (bytes per channel, channels, to uint8 RGB). OpenCV names a Bayer pattern by its second row and column.
_COLOUR: dict[str, tuple[int, int, Callable[[NDArray[np.generic]], NDArray[np.generic]]]] = {
    "rgb8": (1, 3, lambda a: a),
    "bgr8": (1, 3, _cv(cv2.COLOR_BGR2RGB)),
    "rgba8": (1, 4, _cv(cv2.COLOR_RGBA2RGB)),
    "bgra8": (1, 4, _cv(cv2.COLOR_BGRA2RGB)),
    "rgb16": (2, 3, _eight_bits),
    "bgr16": (2, 3, lambda a: _eight_bits(a[..., ::-1])),
    "rgba16": (2, 4, lambda a: _eight_bits(a[..., :3])),
    "bgra16": (2, 4, lambda a: _eight_bits(a[..., 2::-1])),
    "mono8": (1, 1, _cv(cv2.COLOR_GRAY2RGB)),
    "mono16": (2, 1, _mono16),
    "8UC1": (1, 1, _cv(cv2.COLOR_GRAY2RGB)),
    "8UC3": (1, 3, _cv(cv2.COLOR_BGR2RGB)),  # OpenCV's order, BGR, here and in the next three
    "8UC4": (1, 4, _cv(cv2.COLOR_BGRA2RGB)),
    "16UC3": (2, 3, lambda a: _eight_bits(a[..., ::-1])),
    "16UC4": (2, 4, lambda a: _eight_bits(a[..., 2::-1])),
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
# encoding -> (rows and columns of pixels that share a colour, V comes before U). A plane of luma, then one of colour.
_PLANAR: dict[str, tuple[int, bool]] = {"nv12": (2, False), "nv21": (2, True), "nv24": (1, False)}
_COLOUR_NAMES = (
    "rgb, bgr, rgba or bgra with 8 or 16, mono8, mono16, bayer_*8, bayer_*16, 8UC1, 8UC3, 8UC4, 16UC3, 16UC4, yuv422, "
    "uyvy, yuv422_yuy2, yuyv, nv12, nv21 or nv24"
)
_NAMES = {name.lower(): name for name in (*_COLOUR, *_PLANAR, "16UC1", "32FC1")}
_DEPTH: dict[str, tuple[int, int]] = {"16UC1": (2, 1), "mono16": (2, 1), "32FC1": (4, 1)}


def _name(encoding: str) -> str:
    """The encoding as sensor_msgs spells it: drivers write NV12, YUYV or RGB8 as well."""
    return _NAMES.get(encoding.lower(), encoding)


def _check_raw(message: RawImage, known: dict[str, tuple[int, int]], wanted: str) -> tuple[int, int]:
    """(bytes per channel, channels) of a raw image whose encoding and sizes agree; BadImageError otherwise."""
    encoding, height, width, step = _name(message.encoding), message.height, message.width, message.step
    if encoding not in known:
        names = _COLOUR_NAMES if known is _COLOUR_SIZES else f"one of {', '.join(known)}"
        raise BadImageError(f"image encoding {encoding[:40]!r} is not {wanted}; expected {names}")
    size, channels = known[encoding]
    _check_sides(width, height)
    row = width * size * channels
    if step < row:
        raise BadImageError(f"image step is {step} bytes; expected at least {row} for {width} pixels of {encoding}")
    if len(message.data) != step * height:
        raise BadImageError(
            f"image has {len(message.data)} bytes of data; expected step*height = {step}*{height} = {step * height}"
        )
    return size, channels


def _check_sides(width: int, height: int) -> None:
    if not (0 < height <= MAX_IMAGE_SIDE and 0 < width <= MAX_IMAGE_SIDE):
        raise BadImageError(f"image is {width}x{height} pixels; expected sides of 1 to {MAX_IMAGE_SIDE} pixels")


def _check_colour(message: RawImage) -> tuple[int, int]:
    size, channels = _check_raw(message, _COLOUR_SIZES, "a colour or grey image")
    if _name(message.encoding).startswith("bayer") and (message.width < 2 or message.height < 2):
        raise BadImageError(f"{message.encoding} image is {message.width}x{message.height}; expected 2x2 or more")
    if channels == 2 and message.width % 2:
        raise BadImageError(f"{message.encoding} image is {message.width} pixels wide; expected an even width")
    return size, channels


def _pixels(message: RawImage, size: int, channels: int, kind: str) -> NDArray[np.generic]:
    """The array inside a checked message, without its padding, in native byte order: a view where possible."""
    rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
    rows = rows[:, : message.width * size * channels]
    if size > 1:
        order = ">" if message.is_bigendian else "<"
        native = np.ascontiguousarray(rows).view(f"{order}{kind}{size}")
        rows = native.astype(native.dtype.newbyteorder("="), copy=False)
    return rows if channels == 1 else rows.reshape(message.height, message.width, channels)


def _planes(message: RawImage) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Luma [height, width] and colour [rows, columns, 2] of a semi-planar image, sizes checked: views.

    `step` is of the rows of luma, as of V4L2's bytesperline, or, without padding, that of all planes together.
    """
    block, _ = _PLANAR[_name(message.encoding)]
    height, width, step = message.height, message.width, message.step
    _check_sides(width, height)
    if width % block or height % block:
        raise BadImageError(f"{message.encoding} image is {width}x{height} pixels; expected even sides")
    rows, columns = height // block, width // block
    if step < width:
        raise BadImageError(f"image step is {step} bytes; expected at least {width} for {width} pixels of luma")
    pitch = 2 * step // block
    if len(message.data) != step * height + pitch * rows or 2 * step % block:
        whole = width * height + 2 * columns * rows
        if not len(message.data) == step * height == whole:
            raise BadImageError(
                f"image has {len(message.data)} bytes of data; expected {step * height + pitch * rows}: {height} rows "
                f"of {step} bytes of luma and {rows} of colour of {message.encoding}"
            )
        step, pitch = width, 2 * columns
    data = np.frombuffer(message.data, np.uint8)
    luma = data[: step * height].reshape(height, step)[:, :width]
    colour = data[step * height :].reshape(rows, pitch)[:, : 2 * columns].reshape(rows, columns, 2)
    return luma, colour


def _planar_to_rgb(message: RawImage) -> NDArray[np.uint8]:
    """Semi-planar YUV (V4L2's NV12, NV21, NV24) by BT.601 with limited range, like OpenCV's of YUV 4:2:2."""
    luma, colour = _planes(message)
    block, v_first = _PLANAR[_name(message.encoding)]
    full = colour.repeat(block, axis=0).repeat(block, axis=1).astype(np.float32) - 128
    y = 1.164 * (luma.astype(np.float32) - 16)
    u, v = (full[..., 1], full[..., 0]) if v_first else (full[..., 0], full[..., 1])
    rgb = np.stack([y + 1.596 * v, y - 0.813 * v - 0.391 * u, y + 2.018 * u], axis=-1)
    eight: NDArray[np.uint8] = np.rint(rgb).clip(0, 255).astype(np.uint8)
    return eight


def check_message(message: RawImage | Compressed) -> None:
    """The checks that cost next to nothing (encoding, sizes, start and end markers), for use on every frame.

    A message that passes is whole; it may still fail to decode in `image_to_rgb`.

    Args:
        message: A colour or grey image.

    Raises:
        BadImageError: The message is not whole, or of an encoding that is not supported.
    """
    if isinstance(message, Compressed):
        _check_compressed(message)
    elif _name(message.encoding) in _PLANAR:
        _planes(message)
    else:
        _check_colour(message)


def image_to_rgb(message: RawImage | Compressed) -> Pixels:
    """Decode an image message.

    Args:
        message: Raw, in the encodings of sensor_msgs/image_encodings of 8 and 16 bits: colour, grey (16 bits are
            stretched by the image's own range), Bayer, YUV 4:2:2, NV12, NV21, NV24. Or compressed, JPEG, PNG, TIFF or
            WebP, decoded whole or refused, whatever follows its end; a JPEG whose middle is damaged gives a damaged
            picture, since the format has no checksum.

    Returns:
        uint8 RGB [height, width, 3], contiguous, of its own memory.

    Raises:
        BadImageError: The message is damaged, or of an encoding or a size that is not supported.
    """
    if isinstance(message, Compressed):
        image = _decode_compressed(message)
    elif _name(message.encoding) in _PLANAR:
        image = _planar_to_rgb(message)
    else:
        size, channels = _check_colour(message)
        image = _COLOUR[_name(message.encoding)][2](_pixels(message, size, channels, "u"))
    rgb = _own(image)
    check_image(rgb)
    return rgb


def _own(image: NDArray[np.generic]) -> Pixels:
    """The image in memory that is its alone, contiguous and writeable: a copy where it is not yet."""
    ours = image.base is None and image.dtype == np.uint8 and image.flags.carray
    return np.array(image, np.uint8, order="C", copy=not ours or None)


def _check_compressed(message: Compressed) -> bytes:
    data = bytes(message.data)
    label = _label("compressed image", message, data)
    if is_depth(message):
        raise BadImageError(f"{label} is a depth image; expected a colour or grey image as {_KINDS}")
    _check_whole(data, label)
    return data


def _label(kind: str, message: Compressed, data: bytes) -> str:
    return f"{kind} (format {message.format[:60]!r}, {len(data)} bytes)"


def _check_whole(data: bytes, label: str) -> None:
    """Raise BadImageError where data are no picture, or one whose end is missing. Anything may follow the end."""
    if not data:
        raise BadImageError(f"{label} is empty; expected {_KINDS} data")
    for name, starts, is_whole in _FILE_KINDS:
        if data.startswith(starts) and (name != "WebP" or data[8:12] == b"WEBP"):
            if not is_whole(data):
                raise BadImageError(f"{label} is truncated: the end of the {name} is missing; expected a whole {name}")
            if name == "JPEG" and (at := _no_marker_at(data)) >= 0:
                raise BadImageError(
                    f"{label} is damaged: byte {at} of its header is {data[at]:#04x}; expected a marker, 0xff"
                )
            return
    raise BadImageError(f"{label} is neither {_KINDS.replace(' or ', ' nor ')}: it starts with {data[:8].hex(' ')}")


def _jpeg_header_end(data: bytes) -> tuple[int, bool]:
    """Where a JPEG's header ends, and whether that is where its pixels begin (ITU T.81, B.1.1.3).

    Else there is no marker where one must be, or the data end before.
    """
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == _FILL:
            at += 1
            continue
        at += 2 + length
        if marker == _START_OF_SCAN:
            return at, True
    return at, False


def _jpeg_is_whole(data: bytes) -> bool:
    """Whether the image's own end marker is there; a preview in its header has one too.

    Of a header that is damaged, so that nothing tells where it ends, any end marker behind the damage counts.
    """
    at, _ = _jpeg_header_end(data)
    return data.find(_JPEG_END, at) >= 0


def _no_marker_at(data: bytes) -> int:
    """The byte of a JPEG's header that should be a marker and is none, -1 = there is none."""
    at, complete = _jpeg_header_end(data)
    return -1 if complete or at >= len(data) or data[at] == 0xFF else at


def _webp_is_whole(data: bytes) -> bool:
    return len(data) >= 8 + int.from_bytes(data[4:8], "little")


def _tiff_is_whole(data: bytes) -> bool:
    """Whether its directory is within it; strips that are not are noticed as they are decoded."""
    return 8 <= int.from_bytes(data[4:8], "little" if data[:2] == b"II" else "big") < len(data)


_KINDS = "JPEG, PNG, TIFF or WebP"
# name, what it starts with, whether it is whole
_FILE_KINDS: tuple[tuple[str, bytes | tuple[bytes, ...], Callable[[bytes], bool]], ...] = (
    ("JPEG", b"\xff\xd8\xff", _jpeg_is_whole),
    ("PNG", _PNG_START, lambda data: _PNG_END in data),
    ("TIFF", _TIFF_STARTS, _tiff_is_whole),
    ("WebP", b"RIFF", _webp_is_whole),
)


def _decode_compressed(message: Compressed) -> NDArray[np.generic]:
    """Decode by Pillow, or a faultless JPEG faster: unlike cv2.imdecode, both refuse data that end early."""
    data = _check_compressed(message)
    try:
        with PilImage.open(io.BytesIO(data), formats=("JPEG", "PNG", "TIFF", "WEBP")) as picture:
            _check_pixels(*picture.size)
            pixels = jpeg.decode(picture, data)
            if pixels is not None:
                return pixels if pixels.ndim == 3 else _rgb_of_grey(pixels, _stored_encoding(message))
            picture.load()
            return _rgb_of_picture(picture, _stored_encoding(message))
    except BadImageError:
        raise
    except Exception as error:  # Pillow's readers raise nearly anything on damaged data
        reason = reason_of(error)
        label = _label("compressed image", message, data)
        raise BadImageError(f"{label} cannot be decoded whole: {reason}; expected {_KINDS}") from error


def _stored_encoding(message: Compressed) -> str:
    """The encoding before compression, which image_transport writes first: "bayer_rggb8; png compressed "."""
    return message.format.split(";")[0].strip()


def _rgb_of_picture(picture: PilImage.Image, encoding: str) -> NDArray[np.generic]:
    """A picture decoded by Pillow as uint8 RGB."""
    if picture.mode == "F":
        raise BadImageError("compressed image is of floating point numbers; expected a colour or grey image")
    if picture.mode.startswith("I"):
        grey: NDArray[np.generic] = np.asarray(picture).astype(np.int64).clip(0, 65535).astype(np.uint16)
    elif picture.mode == "L":
        grey = np.asarray(picture)
    else:
        return np.asarray(picture.convert("RGB"))
    return _rgb_of_grey(grey, encoding)


def _rgb_of_grey(grey: NDArray[np.generic], encoding: str) -> NDArray[np.generic]:
    """One channel of 8 or 16 bits as uint8 RGB.

    image_transport stores a Bayer image as the mosaic that it is, in a picture of one channel; one of three channels
    was made a colour image before it was compressed.
    """
    if not encoding.startswith("bayer_"):
        return _mono16(grey) if grey.itemsize == 2 else _COLOUR["mono8"][2](grey)
    pattern = f"{encoding[:10]}{8 * grey.itemsize}"
    if pattern not in _COLOUR or min(grey.shape) < 2:
        raise BadImageError(
            f"compressed image of encoding {encoding[:40]!r}, {grey.shape[1]}x{grey.shape[0]} pixels, cannot be "
            "demosaiced; expected bayer_rggb8, bggr8, gbrg8 or grbg8, or 16, of 2x2 or more"
        )
    return _COLOUR[pattern][2](grey)


def depth_to_metres(message: RawImage | Compressed) -> NDArray[np.float32]:
    """Decode a depth image (REP 118).

    Args:
        message: 16UC1 (or mono16): millimetres, 0 = not measured, 65535 = not measured or beyond what 16 bits can say.
            32FC1: metres, not finite or <= 0 = not measured (REP 117). Or compressed: compressedDepth of either with
            PNG or RVL inside; a PNG of one channel of 16 bit, millimetres; a TIFF, millimetres of 16 bit or metres of
            32 bit. 8 bits are refused: they are a picture of a disparity.

    Returns:
        Metres along the optical axis, float32 [height, width]; NaN = not measured.

    Raises:
        BadImageError: The message is damaged, or of another encoding.
    """
    if isinstance(message, Compressed):
        return _compressed_depth(message)
    size, channels = _check_raw(message, _DEPTH, "a depth image")
    if _name(message.encoding) == "32FC1":
        return _not_millimetres(_measured(np.array(_pixels(message, size, channels, "f"), np.float32)))
    return _of_millimetres(_pixels(message, size, channels, "u"))


def _of_millimetres(values: NDArray[np.generic]) -> NDArray[np.float32]:
    """Metres of millimetres of 16 bits, where saturation is no distance."""
    metres = values.astype(np.float32) / np.float32(1000)
    metres[values == SATURATED_MM] = np.nan
    return _measured(metres)


def _measured(metres: NDArray[np.float32]) -> NDArray[np.float32]:
    metres[~(np.isfinite(metres) & (metres > 0))] = np.nan
    return metres


def _not_millimetres(metres: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same depth; refused where nothing is near: millimetres as floats would be hundreds of metres."""
    measured = metres[np.isfinite(metres)]
    if measured.size and measured.min() >= NEAR_M:
        raise BadImageError(
            f"depth image of floats has nothing nearer than {measured.min():g} m; expected metres (REP 118): are these "
            "millimetres? they are 16UC1"
        )
    return metres


def _compressed_depth(message: Compressed) -> NDArray[np.float32]:
    """Behind compressed_depth_image_transport's header, or a picture alone (compressed_image_transport)."""
    data = bytes(message.data)
    label = _label("compressed depth image", message, data)
    encoding = _name(_stored_encoding(message))
    if not is_depth(message) and encoding in _COLOUR and encoding != "mono16":
        raise BadImageError(
            f"{label} is declared as no depth image; expected a format that begins with 16UC1, 32FC1 or mono16"
        )
    starts = (_PNG_START, *_TIFF_STARTS)
    behind = 0 if data.startswith(starts) else _DEPTH_HEADER_BYTES
    if "rvl" in message.format.lower() and behind:
        stored: NDArray[np.generic] = decode_rvl(data[behind:], label)
    else:
        stored = _depth_picture(data[behind:], starts, label)
    if stored.dtype == np.float32:
        return _not_millimetres(_measured(stored.astype(np.float32)))
    scale, offset = struct.unpack_from("<ff", data, 4) if behind else (0.0, 0.0)
    if encoding not in _DEPTH and scale:
        raise BadImageError(
            f"{label} does not say whether it was 16UC1 or 32FC1, and its header scales inverse depth; expected a "
            "format such as '32FC1; compressedDepth png'"
        )
    if encoding != "32FC1":
        return _of_millimetres(stored)
    if not behind:
        raise BadImageError(f"{label} has no scale of its inverse depth; expected compressedDepth's header")
    if not (np.isfinite([scale, offset]).all() and scale > 0):
        raise BadImageError(f"{label} has {scale:g} as the scale of its inverse depth; expected a number above 0")
    inverse = stored.astype(np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        metres = np.where(inverse > 0, scale / (inverse - np.float32(offset)), np.nan)
    return _measured(metres.astype(np.float32))


def _depth_picture(data: bytes, starts: tuple[bytes, ...], label: str) -> NDArray[np.generic]:
    """Depth as it is stored in a picture: uint16 or float32 [height, width]."""
    if not data.startswith(starts):
        raise BadImageError(f"{label} holds no depth; expected PNG or TIFF, or compressedDepth with PNG or RVL inside")
    if data.startswith(_PNG_START) and _PNG_END not in data:
        raise BadImageError(f"{label} is truncated: the end marker of PNG is missing; expected a whole PNG")
    try:
        with PilImage.open(io.BytesIO(data), formats=("PNG", "TIFF")) as picture:
            _check_pixels(*picture.size)
            picture.load()
            mode, stored = picture.mode, np.asarray(picture)
    except BadImageError:
        raise
    except Exception as error:  # Pillow's readers raise nearly anything on damaged data
        reason = reason_of(error)[:100]
        raise BadImageError(f"{label} cannot be decoded whole: {reason}; expected a whole PNG or TIFF") from error
    if mode == "F":
        return stored.astype(np.float32)
    if not mode.startswith("I"):
        raise BadImageError(f"{label} cannot be decoded; it is of mode {mode}, expected one channel of 16 bit")
    return stored.astype(np.int64).clip(0, 65535).astype(np.uint16)


def decode_rvl(data: bytes, label: str) -> NDArray[np.uint16]:
    """Decode RVL, as compressed_depth_image_transport writes it.

    It is a run length and variable length code of depth: Wilson, "Fast Lossless Depth Image Compression", 2017.

    Args:
        data: Width and height as 32 bit integers, then the code.
        label: What it is of, for errors.

    Returns:
        uint16 [height, width].

    Raises:
        BadImageError: It is cut or damaged.
    """
    if len(data) < _RVL_SIZE_BYTES:
        raise BadImageError(f"{label} is truncated: it holds no size; expected RVL")
    width, height = struct.unpack_from("<II", data)
    _check_pixels(width, height)
    if width * height > MAX_RVL_PIXELS:
        raise BadImageError(f"{label} is {width}x{height} pixels; expected at most {MAX_RVL_PIXELS} in all of RVL")
    # 1. words of 32 bit, little endian → nibbles, the highest of a word first → integers of 3 bits a nibble, the lowest
    #    first; a nibble's 4th bit says that its integer goes on
    whole = (len(data) - _RVL_SIZE_BYTES) // 4 * 4
    high_first = np.frombuffer(data, np.uint8, whole, _RVL_SIZE_BYTES).reshape(-1, 4)[:, ::-1].ravel()
    nibbles = np.stack([high_first >> 4, high_first & 15], axis=-1).ravel()
    ends = np.flatnonzero(nibbles < _RVL_GOES_ON)
    begins = np.concatenate([[0], ends[:-1] + 1]).astype(np.int64)
    if not len(ends) or int((ends - begins).max()) > _RVL_MAX_NIBBLES:
        raise BadImageError(f"{label} is damaged or truncated; expected RVL of {width}x{height} pixels")
    place = np.arange(ends[-1] + 1) - np.repeat(begins, ends - begins + 1)
    parts = (nibbles[: ends[-1] + 1].astype(np.int64) & 7) << (3 * place)
    values = np.add.reduceat(parts, begins)
    # 2. in turns: a number of zeros, a number of depths, that many differences from the depth before
    differences, at, pixel, total = np.zeros(width * height, np.int64), 0, 0, width * height
    valid = np.zeros(total, bool)
    while pixel < total:
        if at + 2 > len(values):
            raise BadImageError(f"{label} is truncated at pixel {pixel} of {total}; expected RVL of all of them")
        zeros, depths = int(values[at]), int(values[at + 1])
        at, pixel = at + 2, pixel + zeros
        if pixel + depths > total or at + depths > len(values) or not zeros + depths:
            raise BadImageError(f"{label} is damaged or truncated at pixel {pixel} of {total}; expected whole RVL")
        differences[pixel : pixel + depths] = values[at : at + depths]
        valid[pixel : pixel + depths] = True
        at, pixel = at + depths, pixel + depths
    # 3. even integers are differences >= 0, odd ones below
    depth = np.cumsum((differences >> 1) ^ -(differences & 1))
    stored: NDArray[np.uint16] = np.where(valid, depth, 0).astype(np.uint16).reshape(height, width)
    return stored


def _check_pixels(width: int, height: int) -> None:
    if min(width, height) < 1 or max(width, height) > MAX_IMAGE_SIDE or width * height > MAX_COMPRESSED_PIXELS:
        raise BadImageError(
            f"compressed image is {width}x{height} pixels; expected sides of at most {MAX_IMAGE_SIDE} and "
            f"{MAX_COMPRESSED_PIXELS} pixels in all"
        )
