"""JPEGs are decoded fast, and to what Pillow makes of them, whatever is wrong with them."""

from __future__ import annotations

import io
import statistics
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from proxqa_core.errors import BadImageError
from proxqa_core.rosbags.image_messages import image_to_rgb
from proxqa_core.vision import jpeg
from proxqa_core.vision.image_file import read_image

RGB: NDArray[np.uint8] = cv2.resize(
    np.random.default_rng(0).integers(0, 255, (12, 16, 3), dtype=np.uint8), (64, 48), interpolation=cv2.INTER_CUBIC
)
KINDS: dict[str, dict[str, Any]] = {
    "4:2:0": {},
    "4:4:4": {"quality": 95, "subsampling": 0},
    "progressive": {"progressive": True},
    "restart markers": {"restart_marker_blocks": 2},
    "grey": {"mode": "L"},
    "RGB inside": {"keep_rgb": True},
}


class Message:
    """The fields of sensor_msgs/CompressedImage."""

    def __init__(self, data: bytes, format: str = "jpeg"):
        self.data, self.format = data, format


def encoded(image: NDArray[np.uint8] = RGB, mode: str = "RGB", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).convert(mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def fast(data: bytes) -> NDArray[np.uint8] | None:
    return jpeg.decode(Image.open(io.BytesIO(data)), data)


def slow(data: bytes) -> NDArray[np.uint8] | None:
    try:
        return np.asarray(Image.open(io.BytesIO(data)))
    except (OSError, SyntaxError, ValueError):
        return None


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_pillows_pixels(kind: str) -> None:
    pytest.importorskip("simplejpeg")
    data = encoded(**KINDS[kind])
    pixels = fast(data)
    assert pixels is not None and pixels.flags.writeable
    np.testing.assert_array_equal(pixels, slow(data))


def test_four_inks_other_formats_and_a_missing_library_are_left_to_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fast(encoded(mode="CMYK")) is None
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, "PNG")
    assert fast(buffer.getvalue()) is None
    monkeypatch.setattr(jpeg, "decode_jpeg", None)
    assert fast(encoded()) is None
    np.testing.assert_array_equal(image_to_rgb(Message(encoded())), slow(encoded()))


@settings(max_examples=300)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    cuts=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 30), st.binary(max_size=6)), min_size=1, max_size=4),
)
def test_damaged_data_are_what_pillow_makes_of_them(kind: str, cuts: list[tuple[float, int, bytes]]) -> None:
    data = encoded(**KINDS[kind])
    for place, removed, put in cuts:
        at = 2 + int(place * (len(data) - 2))
        data = data[:at] + put + data[at + removed :]
    try:
        picture = Image.open(io.BytesIO(data), formats=("JPEG",))
    except OSError:
        return
    pixels = jpeg.decode(picture, data) if picture.width * picture.height < 10**6 else None
    if pixels is not None:
        np.testing.assert_array_equal(pixels, slow(data))


def test_files_are_read_the_same_way(tmp_path: Path) -> None:
    for kind, options in KINDS.items():
        (tmp_path / "a.jpg").write_bytes(encoded(**options))
        np.testing.assert_array_equal(
            read_image(tmp_path / "a.jpg"), np.asarray(Image.open(tmp_path / "a.jpg").convert("RGB")), err_msg=kind
        )
    (tmp_path / "a.jpg").write_bytes(encoded()[:-200])
    with pytest.raises(BadImageError, match="damaged or cut off"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.timing
def test_full_hd_takes_less_than_two_thirds_of_pillows_time() -> None:
    """A third on a machine that does nothing else; see docs/performance.md."""
    pytest.importorskip("simplejpeg")
    data = encoded(cv2.resize(RGB, (1920, 1080), interpolation=cv2.INTER_CUBIC), quality=90)
    message = Message(data)

    def pillow() -> None:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as picture:
            np.array(np.asarray(picture.convert("RGB")), np.uint8, order="C", copy=True)

    def ours() -> None:
        image_to_rgb(message)

    times: dict[Any, list[float]] = {pillow: [], ours: []}
    for _ in range(15):
        for work, seconds in times.items():
            start = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - start)
    assert statistics.median(times[ours]) < statistics.median(times[pillow]) / 1.5
