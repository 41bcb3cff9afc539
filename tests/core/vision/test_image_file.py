"""Image files to arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from proxqa_core.errors import BadImageError
from proxqa_core.vision.image_file import as_image, read_image, read_raw


def picture(width: int = 40, height: int = 30) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8))


def test_exif_rotation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90° to show
    picture().save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape == (40, 30, 3)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_other_colour_modes(tmp_path: Path, mode: str) -> None:
    file = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    picture().convert(mode).save(file)
    image = read_image(file)
    assert image.dtype == np.uint8 and image.shape == (30, 40, 3)


def test_cut_off(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png"):
        picture(200, 200).save(tmp_path / name)
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(BadImageError, match="damaged or cut off"):
            read_image(tmp_path / name)


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"])
def test_no_image(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(BadImageError, match=r"a\.png"):
        read_image(tmp_path / "a.png")


def test_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadImageError, match="no such file"):
        read_image(tmp_path / "a.png")
    with pytest.raises(BadImageError, match="is a folder"):
        read_image(tmp_path)


def test_depth_images_are_no_colour_images(tmp_path: Path) -> None:
    Image.fromarray(np.full((30, 40), 1500, np.uint16)).save(tmp_path / "d.png")
    with pytest.raises(BadImageError, match="colour image"):
        read_image(tmp_path / "d.png")
    raw = read_raw(tmp_path / "d.png")
    assert raw.shape == (30, 40) and (raw == 1500).all()
    picture().save(tmp_path / "c.png")
    with pytest.raises(BadImageError, match="one channel"):
        read_raw(tmp_path / "c.png")


def test_too_small_or_too_many_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(8, 30).save(tmp_path / "small.png")
    with pytest.raises(BadImageError, match="8x30"):
        read_image(tmp_path / "small.png")
    picture().save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(BadImageError, match="too many pixels"):
        read_image(tmp_path / "bomb.png")


def test_a_pil_image_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    """PIL reads the pixels of a file only when they are asked for."""
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 90, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:9000])
    for given, said in (
        (Image.open(tmp_path / "a.png"), r"^the PIL image: is damaged or cut off"),
        (Image.new("I;16", (32, 32)), r"^the PIL image: is a I;16 image"),
        (Image.new("RGB", (3, 32)), r"^the PIL image: image is 3x32 pixels"),
    ):
        with pytest.raises(BadImageError, match=said):
            as_image(given)


def test_an_image_may_be_a_path_a_pil_image_or_an_array(tmp_path: Path) -> None:
    pixels = np.arange(32 * 24 * 3, dtype=np.uint8).reshape(24, 32, 3)
    picture = Image.fromarray(pixels)
    picture.save(tmp_path / "a.png")
    for given in (pixels, picture, tmp_path / "a.png", str(tmp_path / "a.png"), picture.convert("RGBA")):
        assert (as_image(given) == pixels).all()
    turned = Image.fromarray(pixels)
    turned.getexif()[0x0112] = 6
    assert as_image(turned).shape == (32, 24, 3)
    for bad in (picture.convert("I"), [[0]], None, "https://example.org/a.png", np.zeros((4, 4))):
        with pytest.raises(BadImageError):
            as_image(bad)  # type: ignore[arg-type]
