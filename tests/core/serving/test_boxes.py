"""Folders of images in which boxes are drawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the extra [serve] is not installed")

from proxqa_core.datasets.folder import BadDatasetError, LabelledFolder
from proxqa_core.errors import BadObjectError
from proxqa_core.serving.boxes import BoxesFolder
from proxqa_core.serving.errors import ApiError
from proxqa_core.types import Box, ObjectQuery


@pytest.fixture
def plain_folder(tmp_path: Path) -> Path:
    for name in ("b.jpg", "a.png", ".hidden.png"):
        Image.new("RGB", (64, 48)).save(tmp_path / name)
    return tmp_path


def save(folder: BoxesFolder, image: str, *objects: ObjectQuery) -> dict[str, Any]:
    return folder.write(image, objects, folder.read(image)["revision"])


def test_what_is_written_is_a_labelled_folder(plain_folder: Path) -> None:
    folder = BoxesFolder(plain_folder)
    assert folder.images() == [{"image": "a.png", "boxes": None}, {"image": "b.jpg", "boxes": None}]
    save(folder, "b.jpg", ObjectQuery("chair", Box(1, 2, 30, 40)), ObjectQuery("lamp", Box(-5, 2, 30.04, 400)))
    (record,) = LabelledFolder(plain_folder)
    assert (record.image, record.width, record.height) == ("b.jpg", 64, 48)
    assert [(o.name, o.box.xyxy) for o in record.objects] == [("chair", (1, 2, 30, 40)), ("lamp", (0, 2, 30, 48))]
    save(folder, "b.jpg")
    assert [len(r.objects) for r in LabelledFolder(plain_folder)] == [0]


def test_what_was_measured_stays_with_its_box_only(labelled: Path) -> None:
    folder = BoxesFolder(labelled)
    found = folder.read("images/0.png")["objects"]
    objects = [ObjectQuery(o["name"], Box(*o["box"])) for o in found]
    moved = [*objects[:3], ObjectQuery("lamp", Box(0, 4, 40, 34))]
    save(folder, "images/0.png", *moved)
    raw = json.loads((labelled / "annotations.json").read_text())
    assert raw[0]["objects"][0]["depth_m"] == 1.2 and raw[0]["objects"][1]["ref"] == "right cup"
    assert raw[0]["objects"][3] == {"name": "lamp", "box": [0, 4, 40, 34]}
    assert raw[0]["depth_map"] == "depth.png" and len(raw) == 3
    assert len(LabelledFolder(labelled).records) == 3


def test_maps_are_no_images_to_label(labelled: Path) -> None:
    assert [i["image"] for i in BoxesFolder(labelled).images()] == ["images/0.png", "images/1.png", "images/2.png"]


@pytest.mark.parametrize("name", ["../outside.png", "/etc/passwd", "none.png", ""])
def test_other_files_are_not_read(plain_folder: Path, name: str) -> None:
    Image.new("RGB", (64, 48)).save(plain_folder.parent / "outside.png")
    with pytest.raises(ApiError, match="no image"):
        BoxesFolder(plain_folder).file(name)


def test_one_image_is_taken_without_a_look_through_the_folder(
    plain_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = BoxesFolder(plain_folder)
    first = folder.images()[0]["image"]
    monkeypatch.setattr(Path, "rglob", lambda *_: pytest.fail("the folder was looked through"))
    assert folder.file(first) == (plain_folder / first).resolve()


def test_a_link_out_of_the_folder_is_not_followed(plain_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "secret.png"
    Image.new("RGB", (64, 48)).save(outside)
    (plain_folder / "link.png").symlink_to(outside)
    with pytest.raises(ApiError, match="outside the folder"):
        BoxesFolder(plain_folder).file("link.png")


def test_boxes_that_cannot_be_stored(plain_folder: Path) -> None:
    folder = BoxesFolder(plain_folder)
    with pytest.raises(BadObjectError, match="has no box"):
        save(folder, "a.png", ObjectQuery("chair"))
    with pytest.raises(BadObjectError, match="outside the image"):
        save(folder, "a.png", ObjectQuery("chair", Box(100, 100, 120, 120)))
    assert not (plain_folder / "annotations.json").exists()


@pytest.mark.parametrize("text", ["{", "{}", '[{"image": 3}]', '[{"image": "a.png", "objects": [{}]}]'])
def test_annotations_that_are_none(plain_folder: Path, text: str) -> None:
    (plain_folder / "annotations.json").write_text(text)
    with pytest.raises(BadDatasetError, match=r"annotations\.json"):
        BoxesFolder(plain_folder)


def test_a_folder_without_images(tmp_path: Path) -> None:
    with pytest.raises(BadDatasetError, match="holds no images"):
        BoxesFolder(tmp_path)


def test_boxes_by_number_are_those_that_record_reads(tmp_path: Path) -> None:
    from proxqa_core.rosbags.boxes import BoxFile

    for number in (3, 12):
        Image.new("RGB", (64, 48)).save(tmp_path / f"{number:06d}.jpg")
    (tmp_path / "boxes.json").write_text("{}")
    folder = BoxesFolder(tmp_path)
    save(folder, "000012.jpg", ObjectQuery("chair", Box(1, 2, 30, 40)))
    assert folder.images() == [{"image": "000003.jpg", "boxes": None}, {"image": "000012.jpg", "boxes": 1}]
    assert json.loads((tmp_path / "boxes.json").read_text()) == {"12": [{"name": "chair", "box": [1, 2, 30, 40]}]}
    assert not (tmp_path / "annotations.json").exists()
    (read,) = BoxFile(tmp_path / "boxes.json", range(20)).at(12, 0)
    assert "chair" in repr(read)


@pytest.mark.parametrize("text", ["[]", '{"1": 3}', '{"1": [{"name": "x"}]}'])
def test_boxes_by_number_that_are_none(plain_folder: Path, text: str) -> None:
    (plain_folder / "boxes.json").write_text(text)
    with pytest.raises(BadDatasetError, match=r"boxes\.json"):
        BoxesFolder(plain_folder)


def test_an_image_without_a_number_has_no_boxes_by_number(plain_folder: Path) -> None:
    (plain_folder / "boxes.json").write_text("{}")
    with pytest.raises(BadDatasetError, match="has no number"):
        save(BoxesFolder(plain_folder), "a.png", ObjectQuery("chair", Box(1, 2, 30, 40)))
