"""Reading labelled folders: what is there, and the errors of folders that are wrong."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from proxqa_core.datasets.folder import BadDatasetError, LabelledFolder
from proxqa_core.depth import object_relative_depth, relative_depth_map
from proxqa_core.errors import BadImageError

REAL = Path(os.environ.get("PROXQA_REAL_DATA", "/nonexistent"))


def test_records(labelled: Path) -> None:
    folder = LabelledFolder(labelled)
    assert len(folder) == 3
    cups, room, pets = folder.records
    assert [o.ref for o in cups.objects] == ["left cup", "right cup", None, "lamp"]
    assert (cups.width, cups.height, cups.source, cups.depth_map) == (64, 48, "made", "depth.png")
    chair, table = room.objects
    assert (chair.depth, chair.depth_m, chair.visible, chair.colour) == (0.25, 2.0, 0.5, "red")
    assert math.isnan(table.visible) and table.mask_id == 3
    # No ref in the file: a name that only one object has means it alone.
    assert [o.ref for o in pets.objects] == ["dog", "cat"] and pets.objects[0].unique
    assert pets.objects[0].depth_m is None and pets.depth_map is None and pets.load_masks() is None


def test_what_is_in_view(labelled: Path) -> None:
    assert LabelledFolder(labelled).records[0].visible_names is None
    file = labelled / "annotations.json"
    records = json.loads(file.read_text())
    records[0]["visible_names"], records[1]["visible_names"] = ["cup", "lamp", "wall shelf"], []
    file.write_text(json.dumps(records))
    assert [r.visible_names for r in LabelledFolder(labelled)] == [("cup", "lamp", "wall shelf"), (), None]


def test_fields_of_others_are_left_alone(labelled: Path) -> None:
    """Folders that exist, the renderer's among them, say units in words, of depth_m and of the map."""
    file = labelled / "annotations.json"
    records = json.loads(file.read_text())
    records[0] |= {
        "depth_unit": "m",
        "depth_map_unit": "mm, 0 = invalid",
        "licence": "CC0",
        "intrinsics": [1.0, 1.0, 0.0, 0.0],
    }
    file.write_text(json.dumps(records))
    assert LabelledFolder(labelled).records[0].metres_per_count is None


@pytest.mark.skipif(not REAL.is_dir(), reason="PROXQA_REAL_DATA names no folder")
def test_labelled_folders_that_exist_can_be_read() -> None:
    files = sorted(REAL.rglob("annotations.json"))
    assert files
    for file in files:
        for record in list(LabelledFolder(file.parent))[::25]:
            assert record.load_image().ndim == 3
            assert record.depth_map is None or record.load_depth().ndim == 2


def test_images_and_maps(labelled: Path) -> None:
    record = LabelledFolder(labelled).records[0]
    image = record.load_image()
    assert image.dtype == np.uint8 and image.shape == (48, 64, 3)
    metres = record.load_depth()
    assert np.isinf(metres[0, 10]) and np.isnan(metres[20, 0]) and metres[47, 10] == pytest.approx(1.0)
    relative = relative_depth_map(metres)
    assert relative[0, 10] == 1.0 and relative[47, 10] == 0.0 and np.isnan(relative[20, 0])


def test_true_depths_by_the_best_that_is_known(labelled: Path) -> None:
    cups, room, pets = LabelledFolder(labelled).records
    assert room.relative_depths() == (0.25, 0.75)
    assert all(math.isnan(d) for d in pets.relative_depths())
    near, far, middle, lamp = cups.relative_depths()
    assert 0 <= near < lamp < middle < far <= 1
    # An object at the depth of a row of the map has that row's relative depth.
    metres = cups.load_depth()
    relative = relative_depth_map(metres)
    row = int(np.argmin(np.abs(metres[:, 10] - 2.0)))
    assert far == pytest.approx(float(relative[row, 10]), abs=0.02)


def test_without_metres_the_box_is_read_from_the_map(labelled: Path) -> None:
    file = labelled / "annotations.json"
    records = json.loads(file.read_text())
    for o in records[0]["objects"]:
        del o["depth_m"]
    file.write_text(json.dumps(records))
    record = LabelledFolder(labelled).records[0]
    expected = [object_relative_depth(relative_depth_map(record.load_depth()), o.box) for o in record.objects]
    assert record.relative_depths() == pytest.approx(expected)


def test_records_are_checked_as_they_are_reached(labelled: Path) -> None:
    file = labelled / "annotations.json"
    records = json.loads(file.read_text())
    records[2]["objects"][0]["box"] = [1, 2]
    file.write_text(json.dumps(records))
    reached = []
    with pytest.raises(BadDatasetError, match="record 2"):
        for record in LabelledFolder(labelled):
            reached.append(record.image)
    assert reached == ["images/0.png", "images/1.png"]


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("image", None, "'image'"),
        ("image", "../secret.png", "inside the folder"),
        ("image", "/etc/passwd", "inside the folder"),
        ("image", 7, "text"),
        ("width", 0, "'width'"),
        ("height", "48", "'height'"),
        ("height", 1.5, "whole number"),
        ("objects", {}, "a list"),
        ("objects", [7], "objects[0]"),
        ("depth_map", "../../x.png", "inside the folder"),
        ("metres_per_count", 0, "metres of one count"),
        ("metres_per_count", "mm", "a finite number"),
        ("visible_names", "cup", "a list of names"),
        ("visible_names", ["cup", 3], "a list of names"),
        ("visible_names", ["cup", " "], "a list of names"),
    ],
)
def test_bad_records(labelled: Path, field: str, value: Any, says: str) -> None:
    _expect(labelled, 0, lambda record: record.__setitem__(field, value), says)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("name", "", "'name'"),
        ("name", "x" * 200, "too long"),
        ("name", None, "'name'"),
        ("ref", 3, "'ref'"),
        ("ref", " ", "'ref'"),
        ("box", [0, 0, 10], "'box'"),
        ("box", [10, 0, 0, 10], "'box'"),
        ("box", [0, 0, 1e400, 10], "'box'"),
        ("box", [500, 500, 510, 510], "inside the image"),
        ("box", [0, 0, "10", 10], "'box'"),
        ("depth_m", -1, "above 0"),
        ("depth_m", "near", "'depth_m'"),
        ("depth", 1.2, "[0, 1]"),
        ("depth", True, "'depth'"),
        ("mask_id", -2, "whole number"),
    ],
)
def test_bad_objects(labelled: Path, field: str, value: Any, says: str) -> None:
    _expect(labelled, 1, lambda record: record["objects"][1].__setitem__(field, value), says)


def _expect(folder: Path, index: int, spoil: Any, says: str) -> None:
    file = folder / "annotations.json"
    records = json.loads(file.read_text())
    spoil(records[index])
    file.write_text(json.dumps(records))
    with pytest.raises(BadDatasetError) as error:
        _ = LabelledFolder(folder).records
    message = str(error.value)
    assert says in message and f"record {index}" in message and "annotations.json" in message
    assert "\n" not in message and "expected" in message


@pytest.mark.parametrize(
    ("content", "says"), [("", "no JSON"), ("{}", "a list"), ("[1]", "record 0"), ("[" * 99999, "no JSON")]
)
def test_bad_files(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "annotations.json").write_text(content)
    with pytest.raises(BadDatasetError, match=says):
        _ = LabelledFolder(tmp_path).records


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(BadDatasetError, match="no such file"):
        LabelledFolder(tmp_path / "nowhere")


def test_damaged_pictures(labelled: Path) -> None:
    record = LabelledFolder(labelled).records[0]
    (labelled / "depth.png").write_bytes((labelled / "depth.png").read_bytes()[:60])
    with pytest.raises(BadImageError, match=r"depth\.png"):
        record.load_depth()
    (labelled / "images/0.png").unlink()
    with pytest.raises(BadImageError, match="no such file"):
        record.load_image()


def test_an_image_of_another_size_than_said(labelled: Path) -> None:
    file = labelled / "annotations.json"
    records = json.loads(file.read_text())
    records[1]["width"] = 640
    file.write_text(json.dumps(records))
    with pytest.raises(BadImageError, match="640x48"):
        LabelledFolder(labelled).records[1].load_image()


def _with_depth(folder: Path, array: np.ndarray, mode: str | None = None, **fields: Any) -> Any:
    """The first record, with another depth map."""
    picture = Image.fromarray(array)
    (picture.convert(mode) if mode else picture).save(folder / "other.tif")
    records = json.loads((folder / "annotations.json").read_text())
    records[0] |= {"depth_map": "other.tif", **fields}
    (folder / "annotations.json").write_text(json.dumps(records))
    return LabelledFolder(folder).records[0]


def test_eight_bits_are_no_millimetres(labelled: Path) -> None:
    """A disparity of 8 bits is brighter where it is nearer: as millimetres it would flip near and far."""
    disparity = np.linspace(0, 255, 48).astype(np.uint8)[:, None].repeat(64, 1)
    for array, mode in ((disparity, None), (disparity, "1"), (disparity.astype(np.float32), None)):
        with pytest.raises(BadImageError, match=r"other\.tif: is .*16-bit PNG in millimetres, or 'metres_per_count'"):
            _with_depth(labelled, array, mode).load_depth()


@pytest.mark.parametrize("unit", [None, 0.001])
def test_colours_of_a_palette_are_no_depth(labelled: Path, unit: float | None) -> None:
    array = np.arange(48, dtype=np.uint8)[:, None].repeat(64, 1)
    with pytest.raises(BadImageError, match="palette"):
        _with_depth(labelled, array, "P", **({"metres_per_count": unit} if unit else {})).load_depth()


@pytest.mark.parametrize(("dtype", "unit"), [(np.uint8, 0.05), (np.uint16, 0.0002), (np.float32, 1.0)])
def test_the_unit_of_a_depth_map_can_be_said(labelled: Path, dtype: type, unit: float) -> None:
    array = np.arange(48, dtype=dtype)[:, None].repeat(64, 1)
    metres = _with_depth(labelled, array, metres_per_count=unit).load_depth()
    assert np.isnan(metres[0]).all()
    np.testing.assert_allclose(metres[1:, 0], unit * np.arange(1, 48), rtol=1e-6)
