"""Images of every encoding, size, step and byte order; regions; object depths."""

from __future__ import annotations

import io
import math
import struct

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as PilImage
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage, Image, RegionOfInterest
from std_msgs.msg import Header

from proxqa_core.errors import BadImageError, BadObjectError
from proxqa_core.rosbags import image_messages as imagemessage
from proxqa_core.types import Box, ObjectDepth
from proxqa_ros.common import conversions as c
from proxqa_ros.msg import ObjectDepth as ObjectDepthMessage

sizes = st.tuples(st.integers(16, 40), st.integers(8, 20).map(lambda n: 2 * n))
quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def random(shape, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def message(rows: np.ndarray, encoding: str, width: int, padding: int = 0, big: bool = False) -> Image:
    """A message of rows [height, …] whose rows are followed by `padding` bytes of rubbish."""
    height = rows.shape[0]
    flat = np.ascontiguousarray(rows).view(np.uint8).reshape(height, -1)
    rubbish = random((height, padding), seed=99)
    flat = np.concatenate([flat, rubbish], axis=1)
    m = Image(height=height, width=width, encoding=encoding, step=flat.shape[1], is_bigendian=int(big))
    m.data = flat.tobytes()
    return m


@quick
@given(sizes, st.integers(0, 9), st.sampled_from(["rgb8", "bgr8", "rgba8", "bgra8", "8UC3"]), st.integers(0, 1000))
def test_colour(size, padding, encoding, seed):
    height, width = size
    rgb = random((height, width, 3), seed=seed)
    order = rgb if encoding.startswith("rgb") else rgb[..., ::-1]
    if encoding.endswith("a8"):
        order = np.concatenate([order, random((height, width, 1), seed=7)], axis=2)
    image = c.image_to_rgb(message(order, encoding, width, padding))
    assert image.dtype == np.uint8 and image.flags.c_contiguous and image.flags.owndata
    np.testing.assert_array_equal(image, rgb)


@quick
@given(sizes, st.integers(0, 9), st.booleans(), st.sampled_from(["mono8", "8UC1", "mono16"]), st.integers(0, 1000))
def test_grey(size, padding, big, encoding, seed):
    grey = random(size, np.uint16 if encoding == "mono16" else np.uint8, seed)
    rows = grey.astype(">u2" if big else "<u2") if encoding == "mono16" else grey
    image = c.image_to_rgb(message(rows, encoding, size[1], padding, big))
    np.testing.assert_array_equal(image, np.repeat(image[..., :1], 3, axis=2))
    if encoding == "mono16":  # by its own range, but for a thousandth of the pixels
        assert np.abs(image[..., 0] - 255.0 * (grey - float(grey.min())) / np.ptp(grey)).max() <= 2
    else:
        np.testing.assert_array_equal(image[..., 0], grey)


@pytest.mark.parametrize("raw", [True, False])
def test_a_thermal_image_is_stretched_by_its_own_range(raw):
    """14 bit of raw counts, a room of 600 of them, with a dead and a hot pixel: black all over by the full range."""
    room = np.tile(np.linspace(7400, 8000, 160).astype(np.uint16), (120, 1))
    counts = room.copy()
    counts[3, 3], counts[50, 60] = 0, 16383
    m = message(counts, "mono16", 160) if raw else CompressedImage(format="png", data=compressed("PNG", counts))
    grey = c.image_to_rgb(m)[..., 0].astype(int)
    assert grey[3, 3] == 0 and grey[50, 60] == 255
    off = np.abs(grey - 255 * (room - 7400.0) / 600)
    off[3, 3] = off[50, 60] = 0
    assert off.max() <= 2


def test_noise_of_16_bits_is_not_blown_up():
    noise = np.random.default_rng(0).integers(0, 20, (60, 80)).astype(np.uint16)
    assert c.image_to_rgb(message(noise, "mono16", 80)).max() <= 20
    assert (c.image_to_rgb(message(noise * 0 + 51400, "mono16", 80)) == 200).all()
    assert abs(c.image_to_rgb(message(noise + 51400, "mono16", 80)).mean() - 200) < 2


@quick
@given(
    sizes, st.integers(0, 9), st.booleans(), st.sampled_from(["rgb16", "bgr16", "rgba16", "bgra16", "16UC3", "16UC4"])
)
def test_colour_of_16_bits(size, padding, big, encoding):
    rgb = random((*size, 3), np.uint16, seed=3)
    stored = rgb if encoding.startswith("rgb") else rgb[..., ::-1]
    if encoding.endswith(("a16", "C4")):
        stored = np.concatenate([stored, random((*size, 1), np.uint16, seed=7)], axis=2)
    image = c.image_to_rgb(message(stored.astype(">u2" if big else "<u2"), encoding, size[1], padding, big))
    np.testing.assert_array_equal(image, np.round(rgb / 257))


def test_8uc4_is_opencvs_bgra():
    bgra = random((20, 30, 4))
    np.testing.assert_array_equal(c.image_to_rgb(message(bgra, "8UC4", 30)), bgra[..., 2::-1])


YUV = [(81, 90, 240, (255, 0, 0)), (145, 54, 34, (0, 255, 0)), (41, 240, 110, (0, 0, 255)), (126, 128, 128, (128,) * 3)]
"""Luma, U and V of BT.601's limited range, and the colours they are."""


@pytest.mark.parametrize("encoding", ["nv12", "nv21", "nv24", "NV12"])
@pytest.mark.parametrize("padding", [0, 6])
def test_semi_planar(encoding, padding):
    """Two blocks by two, each of a colour of its own."""
    block = 1 if encoding == "nv24" else 2
    height, width = 32, 40
    luma, colour = np.zeros((height, width), np.uint8), np.zeros((height // block, width // block, 2), np.uint8)
    expected = np.zeros((height, width, 3), int)
    for n, (y, u, v, rgb) in enumerate(YUV):
        down, across = slice(n // 2 * 16, n // 2 * 16 + 16), slice(n % 2 * 20, n % 2 * 20 + 20)
        luma[down, across], expected[down, across] = y, rgb
        small = slice(down.start // block, down.stop // block), slice(across.start // block, across.stop // block)
        colour[small] = (v, u) if encoding == "nv21" else (u, v)
    pitch = padding * 2 // block
    rows = np.pad(colour.reshape(height // block, -1), ((0, 0), (0, pitch)), constant_values=7)
    data = np.pad(luma, ((0, 0), (0, padding)), constant_values=9).tobytes() + rows.tobytes()
    m = Image(encoding=encoding, height=height, width=width, step=width + padding, data=data)
    c.check_message(m)
    assert np.abs(c.image_to_rgb(m).astype(int) - expected).max() <= 2
    if not padding:
        m.step = len(data) // height
        assert np.abs(c.image_to_rgb(m).astype(int) - expected).max() <= 2


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (dict(encoding="nv12", width=20, height=20, step=20, data=bytes(599)), "599 bytes of data; expected 600"),
        (dict(encoding="nv12", width=21, height=20, step=21, data=bytes(630)), "even sides"),
        (dict(encoding="nv24", width=20, height=20, step=19, data=bytes(1200)), "at least 20"),
        (dict(encoding="nv21", width=2**31, height=20, step=2**31), "sides of 1 to"),
        (dict(encoding="8UC2", width=20, height=20, step=40, data=bytes(800)), "'8UC2' is not a colour or grey image"),
    ],
)
def test_bad_semi_planar_images(fields, said):
    for check in (c.image_to_rgb, c.check_message):
        with pytest.raises(BadImageError) as error:
            check(Image(**fields))
        assert said in str(error.value) and "expected" in str(error.value)


def test_names_of_encodings_in_capitals():
    rgb = random((20, 30, 3))
    np.testing.assert_array_equal(c.image_to_rgb(message(rgb, "RGB8", 30)), rgb)


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
@pytest.mark.parametrize(("bits", "big"), [(8, False), (16, False), (16, True)])
def test_bayer(pattern, bits, big):
    """A mosaic of a smooth picture gives the picture back: the pattern's name is its upper left four pixels."""
    row, column = np.mgrid[0:24, 0:28]
    picture = np.stack([100 + 5 * column, 60 + 4 * row, 20 + 2 * row + 2 * column], axis=-1)  # even steps
    mosaic = np.empty((24, 28), np.uint8 if bits == 8 else f"{'>' if big else '<'}u2")
    for n, colour in enumerate(pattern):
        y, x = divmod(n, 2)
        mosaic[y::2, x::2] = picture[y::2, x::2, "rgb".index(colour)] * (1 if bits == 8 else 257)
    image = c.image_to_rgb(message(mosaic, f"bayer_{pattern}{bits}", 28, padding=3, big=big))
    assert image.shape == (24, 28, 3)
    assert np.abs(image.astype(int) - picture)[1:-1, 1:-1].max() <= 1


@pytest.mark.parametrize("encoding", ["yuv422", "uyvy", "yuv422_yuy2", "yuyv"])
@pytest.mark.parametrize("colour", [(200, 40, 40), (40, 200, 40), (40, 40, 200), (128, 128, 128)])
def test_yuv(encoding, colour):
    # BT.601 limited range, by hand
    r, g, b = colour
    y = round(16 + 0.257 * r + 0.504 * g + 0.098 * b)
    u = round(128 - 0.148 * r - 0.291 * g + 0.439 * b)
    v = round(128 + 0.439 * r - 0.368 * g - 0.071 * b)
    two = [u, y, v, y] if encoding in ("yuv422", "uyvy") else [y, u, y, v]
    image = c.image_to_rgb(message(np.tile(np.array(two, np.uint8), (20, 12)), encoding, 24, padding=5))
    assert image.shape == (20, 24, 3)
    assert np.abs(image.astype(int) - colour).max() <= 4


BAD = [
    (dict(encoding="rgb8"), "0x0"),
    (dict(encoding=""), "encoding ''"),
    (dict(encoding="nonsense", width=20, height=20, step=20, data=bytes(400)), "'nonsense'"),
    (dict(encoding="16UC1", width=20, height=20, step=40, data=bytes(800)), "'16UC1'"),
    (dict(encoding="rgb8", width=20, height=20, step=59, data=bytes(59 * 20)), "at least 60"),
    (dict(encoding="rgb8", width=20, height=20, step=60, data=bytes(60 * 20 - 1)), "1199 bytes"),
    (dict(encoding="rgb8", width=20, height=20, step=60, data=bytes(60 * 20 + 1)), "1201 bytes"),
    (dict(encoding="rgb8", width=20, height=20, step=60), "0 bytes"),
    (dict(encoding="rgb8", width=2**32 - 1, height=2**32 - 1, step=2**32 - 1), "4294967295"),
    (dict(encoding="mono16", width=20, height=20, step=20, data=bytes(400)), "at least 40"),
    (dict(encoding="uyvy", width=21, height=20, step=42, data=bytes(840)), "even width"),
    (dict(encoding="bayer_rggb8", width=20, height=1, step=20, data=bytes(20)), "2x2"),
    (dict(encoding="rgb8", width=4, height=4, step=12, data=bytes(48)), "4x4"),
]


@pytest.mark.parametrize(("fields", "said"), BAD)
def test_bad_images_get_one_line(fields, said):
    with pytest.raises(BadImageError) as error:
        c.image_to_rgb(Image(**fields))
    assert said in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 300
    assert "expected" in str(error.value)


@quick
@given(
    encoding=st.sampled_from([*imagemessage._COLOUR, *imagemessage._PLANAR, "32FC1", "", "jpeg"]),
    width=st.integers(0, 40),
    height=st.integers(0, 40),
    step=st.integers(0, 200),
    data=st.integers(0, 9000).map(bytes),
    big=st.integers(0, 1),
)
def test_nothing_but_a_bad_image_error(encoding, width, height, step, data, big):
    m = Image(encoding=encoding, width=width, height=height, step=step, data=data, is_bigendian=big)
    try:
        assert c.image_to_rgb(m).shape == (height, width, 3)
        c.check_message(m)
    except BadImageError as error:
        assert "\n" not in str(error)


def compressed(format_: str, array: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    PilImage.fromarray(array).save(buffer, format_, **options)
    return buffer.getvalue()


def test_png_is_exact_and_jpeg_close():
    rgb = cv2.resize(random((6, 8, 3)), (64, 48), interpolation=cv2.INTER_LINEAR)
    exact = c.image_to_rgb(CompressedImage(format="rgb8; png compressed bgr8", data=compressed("PNG", rgb)))
    np.testing.assert_array_equal(exact, rgb)
    close = c.image_to_rgb(CompressedImage(format="jpeg", data=compressed("JPEG", rgb, quality=95)))
    assert np.abs(close.astype(int) - rgb).mean() < 5


@pytest.mark.parametrize("kind", ["grey", "grey16", "alpha", "cmyk", "progressive", "opencv"])
def test_other_pictures(kind):
    rgb = np.full((20, 30, 3), (200, 100, 50), np.uint8)
    data, expected = {
        "grey": lambda: (compressed("JPEG", rgb[..., 0]), [200] * 3),
        "grey16": lambda: (compressed("PNG", rgb[..., 0].astype(np.uint16) * 257), [200] * 3),
        "alpha": lambda: (compressed("PNG", np.dstack([rgb, rgb[..., 0]])), [200, 100, 50]),
        "cmyk": lambda: (_cmyk(rgb), [200, 100, 50]),
        "progressive": lambda: (compressed("JPEG", rgb, progressive=True), [200, 100, 50]),
        "opencv": lambda: (cv2.imencode(".jpg", rgb[..., ::-1])[1].tobytes(), [200, 100, 50]),
    }[kind]()
    image = c.image_to_rgb(CompressedImage(format="", data=data))
    assert image.shape == rgb.shape and np.abs(image.astype(int) - expected).max() <= 6


def _cmyk(rgb):
    buffer = io.BytesIO()
    PilImage.fromarray(rgb).convert("CMYK").save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
@pytest.mark.parametrize(("bits", "kind"), [(8, "png"), (16, "png"), (8, "jpeg")])
def test_a_mosaic_in_a_compressed_image_keeps_its_colours(pattern, bits, kind):
    """image_transport's compressed publisher stores a Bayer image as it is and names its encoding first."""
    true = np.full((32, 48, 3), (200, 60, 20), np.uint8)
    mosaic = np.empty((32, 48), np.uint8 if bits == 8 else np.uint16)
    for n, colour in enumerate(pattern):
        y, x = divmod(n, 2)
        mosaic[y::2, x::2] = true[y::2, x::2, "rgb".index(colour)].astype(int) * (1 if bits == 8 else 257)
    data = compressed(kind.upper(), mosaic, **({"quality": 95} if kind == "jpeg" else {}))
    image = c.image_to_rgb(CompressedImage(format=f"bayer_{pattern}{bits}; {kind} compressed ", data=data))
    assert np.abs(image.astype(int) - true)[1:-1, 1:-1].max() <= (25 if kind == "jpeg" else 1)


def test_a_picture_made_of_a_mosaic_is_left_as_it_is():
    rgb = np.full((32, 48, 3), (200, 60, 20), np.uint8)
    m = CompressedImage(format="bayer_rggb8; png compressed bgr8", data=compressed("PNG", rgb))
    np.testing.assert_array_equal(c.image_to_rgb(m), rgb)
    with pytest.raises(BadImageError, match=r"bayer_xxxx8.*expected bayer_rggb8"):
        c.image_to_rgb(CompressedImage(format="bayer_xxxx8; png compressed ", data=compressed("PNG", rgb[..., 0])))


@quick
@given(st.sampled_from(["JPEG", "PNG"]), st.floats(0, 1))
def test_truncated_pictures_are_refused_wherever_they_end(format_, part):
    data = compressed(format_, random((48, 64, 3)))
    cut = data[: int(part * (len(data) - 1))]
    with pytest.raises(BadImageError) as error:
        c.image_to_rgb(CompressedImage(format="x", data=cut))
    assert "\n" not in str(error.value)


def test_a_png_with_a_hole_is_refused():
    """The end marker is there, the middle is not. JPEG has no checksum that would tell."""
    data = compressed("PNG", random((48, 64, 3)))
    for keep in (30, 200, len(data) // 2):
        with pytest.raises(BadImageError):
            c.image_to_rgb(CompressedImage(data=data[:keep] + data[-16:]))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (dict(format="jpeg"), "empty"),
        (dict(format="jpeg", data=b"GIF89a" + bytes(90)), "neither JPEG, PNG, TIFF nor WebP"),
        (dict(format="16UC1; compressedDepth png", data=bytes(90)), "depth image"),
        (dict(format="png", data=b"\x89PNG\r\n\x1a\n" + bytes(30) + b"IEND\xaeB\x60\x82"), "decoded"),
    ],
)
def test_bad_pictures(fields, said):
    with pytest.raises(BadImageError, match=said):
        c.image_to_rgb(CompressedImage(**fields))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("padding", [1, 500, 1100, 30_000, 600_000])
def test_padding_after_the_end_of_a_picture_is_allowed(kind, padding):
    """Drivers that send a buffer of fixed size send what is behind the picture too."""
    rgb = np.full((20, 20, 3), 90, np.uint8)
    for rubbish in (bytes(padding), b"\xff" * padding):
        m = CompressedImage(data=compressed(kind, rgb) + rubbish)
        c.check_message(m)
        assert np.abs(c.image_to_rgb(m).astype(int) - 90).max() <= 2


@pytest.mark.parametrize("format_", ["compressedDepth png", "", "; compressedDepth png"])
def test_inverse_depth_is_never_read_as_millimetres(format_):
    """A format that does not say what was compressed, and a header that does: millimetres would be wrong in silence."""
    stored = np.full((20, 30), 6667, np.uint16)
    data = struct.pack("<iff", 0, 10000.0, 1.0) + compressed("PNG", stored)
    with pytest.raises(BadImageError, match="does not say whether it was 16UC1 or 32FC1"):
        c.depth_to_metres(CompressedImage(format=format_, data=data))
    plain = struct.pack("<iff", 0, 0.0, 0.0) + compressed("PNG", np.full((20, 30), 1500, np.uint16))
    assert (c.depth_to_metres(CompressedImage(format="16UC1; compressedDepth", data=plain)) == np.float32(1.5)).all()


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf])
def test_inverse_depth_without_a_scale_is_refused(scale):
    data = struct.pack("<iff", 0, scale, 1.0) + compressed("PNG", np.full((20, 30), 6667, np.uint16))
    with pytest.raises(BadImageError, match="as the scale of its inverse depth"):
        c.depth_to_metres(CompressedImage(format="32FC1; compressedDepth png", data=data))


def test_a_jpeg_with_a_hole_in_its_header_is_damaged_and_not_truncated():
    data = compressed("JPEG", random((48, 64, 3)))
    hole = data[:200] + bytes(30) + data[230:]
    with pytest.raises(BadImageError, match="is damaged: byte 210 of its header is 0x00; expected a marker, 0xff"):
        c.check_message(CompressedImage(format="jpeg", data=hole))
    with pytest.raises(BadImageError, match="is truncated: the end of the JPEG is missing"):
        c.check_message(CompressedImage(format="jpeg", data=data[:300]))


def test_a_cut_jpeg_is_refused_though_its_preview_has_an_end():
    picture = PilImage.fromarray(random((96, 128, 3)))
    preview = compressed("JPEG", random((16, 16, 3)))
    header = b"Exif\x00\x00" + preview
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", exif=header)
    data = buffer.getvalue()
    assert c.image_to_rgb(CompressedImage(data=data)).shape == (96, 128, 3)
    with pytest.raises(BadImageError, match="truncated"):
        c.check_message(CompressedImage(data=data[: len(data) * 2 // 3] + bytes(5000)))


@pytest.mark.parametrize(("kind", "options"), [("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("WEBP", {})])
def test_tiff_and_webp(kind, options):
    rgb = cv2.resize(random((6, 8, 3)), (64, 48), interpolation=cv2.INTER_LINEAR)
    data = compressed(kind, rgb, **(options or ({"lossless": True} if kind == "WEBP" else {})))
    m = CompressedImage(format=f"rgb8; {kind.lower()} compressed bgr8", data=data)
    c.check_message(m)
    np.testing.assert_array_equal(c.image_to_rgb(m), rgb)
    for keep in (12, 40, len(data) // 2, len(data) - 200):
        with pytest.raises(BadImageError) as error:
            c.image_to_rgb(CompressedImage(format=kind, data=data[:keep]))
        assert "\n" not in str(error.value) and "expected" in str(error.value)


def test_a_compressed_depth_image_is_no_picture():
    data = compressed("PNG", np.full((20, 30), 1500, np.uint16))
    with pytest.raises(BadImageError, match="is a depth image"):
        c.image_to_rgb(CompressedImage(format="16UC1; png compressed ", data=data))


@quick
@given(sizes, st.integers(0, 9), st.booleans(), st.sampled_from(["16UC1", "mono16", "32FC1"]))
def test_depth(size, padding, big, encoding):
    order = ">" if big else "<"
    if encoding == "32FC1":
        values = np.random.default_rng(1).uniform(0.1, 9, size).astype(np.float32)
        values.flat[:5] = [0, -1, np.nan, np.inf, -np.inf]
        rows, expected = values.astype(f"{order}f4"), values.copy()
    else:
        values = random(size, np.uint16).clip(1, 65534)
        values.flat[:5] = [0, 0, 65535, 65535, 0]
        rows, expected = values.astype(f"{order}u2"), (values / 1000).astype(np.float32)
    expected.flat[:5] = np.nan
    metres = c.depth_to_metres(message(rows, encoding, size[1], padding, big))
    assert metres.dtype == np.float32 and metres.shape == size
    np.testing.assert_allclose(metres, expected, rtol=1e-6)


def test_bad_depth():
    with pytest.raises(BadImageError, match="not a depth image"):
        c.depth_to_metres(Image(encoding="rgb8", width=20, height=20, step=60, data=bytes(1200)))
    with pytest.raises(BadImageError, match="at least 80"):
        c.depth_to_metres(Image(encoding="32FC1", width=20, height=20, step=40, data=bytes(800)))


# -- compressed depth -------------------------------------------------------------------------------------------------


def rvl(depth: np.ndarray) -> bytes:
    """RVL by its paper: runs of zeros and of depths, differences in nibbles of three bits, words of 32."""
    nibbles: list[int] = []

    def write(value: int) -> None:
        while True:
            value, low = value >> 3, value & 7
            nibbles.append(low | (8 if value else 0))
            if not value:
                return

    flat, at, before = [int(v) for v in depth.ravel()], 0, 0
    while at < len(flat):
        for zero in (True, False):
            end = at
            while end < len(flat) and (flat[end] == 0) == zero:
                end += 1
            write(end - at)
            for v in () if zero else flat[at:end]:
                write(2 * (v - before) if v >= before else -2 * (v - before) - 1)
                before = v
            at = end
    nibbles += [0] * (-len(nibbles) % 8)
    words = ["".join(f"{n:x}" for n in nibbles[i : i + 8]) for i in range(0, len(nibbles), 8)]
    height, width = depth.shape
    return struct.pack("<II", width, height) + b"".join(struct.pack("<I", int(w, 16)) for w in words)


def depth_of(values: np.ndarray) -> np.ndarray:
    return np.where((values > 0) & (values < 65535), values / 1000, np.nan).astype(np.float32)


@quick
@given(sizes, st.integers(0, 1000), st.floats(0, 1))
def test_rvl(size, seed, holes):
    """Any depths, jumps over the whole range and holes anywhere, an image of nothing too."""
    values = random(size, np.uint16, seed)
    values[np.random.default_rng(seed).random(size) < holes] = 0
    m = CompressedImage(format="16UC1; compressedDepth rvl", data=bytes(12) + rvl(values))
    np.testing.assert_array_equal(c.depth_to_metres(m), depth_of(values))


def test_inverse_depth_in_png_and_rvl():
    """32FC1 is stored as A / depth + B (compressed_depth_image_transport), A and B in its header."""
    metres = np.linspace(0.5, 8, 20 * 30).astype(np.float32).reshape(20, 30)
    a, b = 5050.0, 49.5
    stored = np.round(a / metres + b).astype(np.uint16)
    stored[:2] = 0
    header = struct.pack("<iff", 0, a, b)
    for kind, data in (("png", compressed("PNG", stored)), ("rvl", rvl(stored))):
        found = c.depth_to_metres(CompressedImage(format=f"32FC1; compressedDepth {kind}", data=header + data))
        assert np.isnan(found[:2]).all()
        np.testing.assert_allclose(found[2:], metres[2:], rtol=0.01)


@pytest.mark.parametrize(
    "format_", ["16UC1; compressedDepth", "16UC1; compressedDepth png", "mono16; compressedDepth png"]
)
@pytest.mark.parametrize("trailing", [0, 5000])
def test_png_behind_the_header(format_, trailing):
    values = random((20, 30), np.uint16)
    data = bytes(12) + compressed("PNG", values) + bytes(trailing)
    np.testing.assert_array_equal(c.depth_to_metres(CompressedImage(format=format_, data=data)), depth_of(values))


@pytest.mark.parametrize(
    "format_", ["16UC1; png compressed ", "mono16; png compressed ", "png", "16UC1; tiff compressed "]
)
def test_depth_in_a_picture(format_):
    values = random((20, 30), np.uint16)
    data = compressed("TIFF" if "tiff" in format_ else "PNG", values)
    np.testing.assert_array_equal(c.depth_to_metres(CompressedImage(format=format_, data=data)), depth_of(values))


def test_metres_in_a_tiff():
    metres = np.linspace(0, 8, 20 * 30).astype(np.float32).reshape(20, 30)
    found = c.depth_to_metres(CompressedImage(format="32FC1; tiff compressed ", data=compressed("TIFF", metres)))
    np.testing.assert_array_equal(found, np.where(metres > 0, metres, np.nan))


GREY = np.arange(600, dtype=np.uint16).reshape(20, 30)


@pytest.mark.parametrize(
    ("format_", "data", "said"),
    [
        ("mono8; png compressed ", compressed("PNG", GREY.astype(np.uint8)), "declared as no depth"),
        ("png", compressed("PNG", GREY.astype(np.uint8)), "mode L, expected one channel of 16 bit"),
        ("png", compressed("PNG", np.zeros((20, 30, 3), np.uint8)), "mode RGB"),
        ("8UC1; compressedDepth png", bytes(12) + compressed("PNG", GREY.astype(np.uint8)), "mode L"),
        ("rgb8; png compressed bgr8", compressed("PNG", np.zeros((20, 30, 3), np.uint8)), "declared as no depth"),
        ("jpeg", compressed("JPEG", np.zeros((20, 30, 3), np.uint8)), "holds no depth"),
        ("rgb8; jpeg compressed bgr8", compressed("JPEG", np.zeros((20, 30, 3), np.uint8)), "declared as no depth"),
        ("16UC1; compressedDepth png", b"", "holds no depth"),
        ("16UC1; compressedDepth png", bytes(12) + compressed("PNG", GREY)[:-30], "truncated"),
        ("32FC1; png compressed ", compressed("PNG", GREY), "no scale of its inverse depth"),
        ("16UC1; compressedDepth rvl", bytes(12), "no size"),
        ("16UC1; compressedDepth rvl", bytes(12) + rvl(GREY)[:-40], "truncated"),
        ("16UC1; compressedDepth rvl", bytes(12) + struct.pack("<II", 2**31, 2**31) + bytes(40), "expected sides"),
        ("16UC1; compressedDepth rvl", bytes(12) + struct.pack("<II", 8000, 8000) + bytes(40), "at most 16777216"),
        ("16UC1; compressedDepth rvl", bytes(12) + struct.pack("<II", 600, 400) + bytes(400), "damaged"),
        ("16UC1; compressedDepth rvl", bytes(12) + struct.pack("<II", 600, 400) + b"\xff" * 400, "damaged"),
    ],
)
def test_bad_compressed_depth(format_, data, said):
    with pytest.raises(BadImageError) as error:
        c.depth_to_metres(CompressedImage(format=format_, data=data))
    assert said in str(error.value) and "expected" in str(error.value) and "\n" not in str(error.value)


@quick
@given(st.data())
def test_damaged_depth_is_depth_or_refused(data):
    good = data.draw(
        st.sampled_from(
            [
                ("rvl", bytes(12) + rvl(GREY)),
                ("png", bytes(12) + compressed("PNG", GREY)),
                ("png", compressed("TIFF", GREY)),
            ]
        )
    )
    damaged = bytearray(good[1])
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        metres = c.depth_to_metres(CompressedImage(format=f"16UC1; compressedDepth {good[0]}", data=bytes(damaged)))
        assert metres.dtype == np.float32 and metres.ndim == 2
    except BadImageError as error:
        assert "\n" not in str(error)


def test_a_topic_that_is_called_depth_may_be_grey_of_16_bits():
    may = imagemessage.may_be_depth
    assert may(message(GREY, "mono16", 30)) and may(CompressedImage(format="png", data=compressed("PNG", GREY)))
    assert not may(message(GREY.astype(np.uint8), "mono8", 30))
    assert not may(CompressedImage(format="png", data=compressed("PNG", GREY.astype(np.uint8))))
    assert not imagemessage.is_depth(message(GREY, "mono16", 30))


def test_image_to_message_and_back():
    rgb = random((20, 31, 3))
    header = Header(frame_id="camera")
    header.stamp.sec = 5
    made = c.rgb_to_image(rgb[:, ::-1], header)
    assert made.header == header and made.encoding == "rgb8" and made.step == 93
    np.testing.assert_array_equal(c.image_to_rgb(made), rgb[:, ::-1])
    with pytest.raises(BadImageError):
        c.rgb_to_image(rgb[..., 0], header)


@given(st.integers(0, 5000), st.integers(0, 5000), st.integers(1, 5000), st.integers(1, 5000))
def test_regions_and_back(x, y, width, height):
    region = RegionOfInterest(x_offset=x, y_offset=y, width=width, height=height)
    box = c.region_to_box(region)
    assert box.xyxy == (x, y, x + width, y + height)
    assert c.box_to_region(box) == region


def test_regions_at_their_edges():
    assert c.region_to_box(RegionOfInterest()) is None and c.box_to_region(None) == RegionOfInterest()
    assert c.box_to_region(Box(1.5, 2.5, 3.2, 4.0)) == RegionOfInterest(x_offset=1, y_offset=2, width=3, height=2)
    assert c.box_to_region(Box(-5, -5, 3, 4)) == RegionOfInterest(width=3, height=4)
    for region in (RegionOfInterest(width=5), RegionOfInterest(x_offset=5)):
        with pytest.raises(BadObjectError):
            c.region_to_box(region)


def test_millimetres_as_floats_are_no_metres():
    def message(*values):
        metres = np.full((16, 16), values[0], np.float32)
        metres[0, : len(values)] = values
        return Image(height=16, width=16, encoding="32FC1", step=64, data=metres.tobytes())

    with pytest.raises(BadImageError, match=r"nothing nearer than 850 m; expected metres .* are these millimetres"):
        c.depth_to_metres(message(1500.0, 850.0, np.nan, 0.0))
    assert c.depth_to_metres(message(1500.0, 1.5))[0, 1] == 1.5  # a far background, and something near
    assert np.isnan(c.depth_to_metres(message(0.0))).all()


def test_object_depths_and_back():
    known = ObjectDepth("Stuhl 🪑", 0.25, 0.125, 0.5, "0.25", Box(1, 2, 30, 40), 1.5, 0.5)
    wire = deserialize_message(serialize_message(c.object_to_message(known)), ObjectDepthMessage)
    assert c.message_to_object(wire) == known
    bare = c.message_to_object(c.object_to_message(ObjectDepth("x", 0.5, 0.5, 0.5, "")))
    assert bare.box is None and math.isnan(bare.distance) and math.isnan(bare.distance_stddev)


def test_what_was_not_read_counts_as_read_for_nobody():
    nan = math.nan
    outside = c.object_to_message(ObjectDepth("x", nan, nan, 0.0, "its box lies outside", Box(900, 0, 950, 9)))
    assert (outside.depth, outside.depth_stddev, outside.score, outside.region.width) == (0.5, 0.5, 0, 0)
    assert not c.message_to_object(outside).is_answered and not c.message_to_object(outside, {"x"}).is_answered
    doubted = c.object_to_message(ObjectDepth("x", 0.2, 0.1, 0.3, "0.20", Box(0, 0, 9, 9)))
    assert c.message_to_object(doubted, {"x"}).is_doubted
    assert not c.message_to_object(doubted, ()).is_answered


def test_object_queries():
    two = [RegionOfInterest(width=5, height=5), RegionOfInterest(x_offset=9, width=5, height=5)]
    assert [q.box.x1 for q in c.object_queries(["chair", "Chair"], two)] == [0, 9]
    assert c.object_queries([]) == ()
    with pytest.raises(BadObjectError, match="named 2 times"):
        c.object_queries(["chair", "Chair "])
    with pytest.raises(BadObjectError, match="1 regions for 2"):
        c.object_queries(["a", "b"], two[:1])
    with pytest.raises(c.TooManyObjectsError, match="at most 64"):
        c.object_queries([f"o{n}" for n in range(65)])
