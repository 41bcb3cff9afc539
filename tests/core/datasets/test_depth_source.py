"""Depth from models of several kinds, from grids and from labelled folders: aligned, in the unit that was said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from proxqa_core.datasets.depth_source import DepthMaps, DepthModel, DepthUnit, FolderMaps, Make3DGrids
from proxqa_core.datasets.folder import BadDatasetError
from proxqa_core.datasets.folder_records import FolderRecords
from proxqa_core.errors import ProxqaError
from tests.core.tiny_depth import save_depth_anything, save_glpn

SHAPES = ((48, 64, 3), (64, 48, 3), (48, 64, 3))


@pytest.fixture(scope="module")
def images() -> list[tuple[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [(f"{i}.png", rng.integers(0, 255, shape, dtype=np.uint8)) for i, shape in enumerate(SHAPES)]


@pytest.mark.parametrize(("save", "unit"), [(save_depth_anything, "disparity"), (save_glpn, "m")])
def test_images_of_several_sizes_go_through_a_model_alike_alone_and_together(
    save: object, unit: str, images: list[tuple[str, np.ndarray]], tmp_path: Path
) -> None:
    assert callable(save)
    model = DepthModel(str(save(tmp_path / "model")), DepthUnit(unit), "cpu")
    together = model.disparities(images)
    for (_, image), found, one in zip(images, together, images, strict=True):
        assert isinstance(found, np.ndarray) and found.shape == image.shape[:2] and np.isfinite(found).any()
        np.testing.assert_allclose(found, model.disparities([one])[0], rtol=1e-4, atol=1e-6)


def test_a_unit_that_the_model_contradicts_is_refused(tmp_path: Path) -> None:
    relative, metric = str(save_depth_anything(tmp_path / "a")), str(save_glpn(tmp_path / "b"))
    for source, unit in ((relative, "m"), (metric, "disparity"), (relative, "mm")):
        with pytest.raises(BadDatasetError, match=f"by its configuration; said was {unit}"):
            DepthModel(source, DepthUnit(unit), "cpu")
    with pytest.raises(ProxqaError, match="cannot be loaded"):
        DepthModel(str(tmp_path), DepthUnit.METRES, "cpu")


def test_an_image_that_a_model_fails_on_does_not_take_others_with_it(
    images: list[tuple[str, np.ndarray]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = DepthModel(str(save_depth_anything(tmp_path / "model")), device="cpu")
    whole = model._predicted

    def failing(given: list[np.ndarray], size: tuple[int, ...]) -> list[np.ndarray]:
        if any(image is images[2][1] for image in given):
            raise ValueError("no such shape\nat all")
        return whole(given, size)

    monkeypatch.setattr(model, "_predicted", failing)
    found = model.disparities(images)
    assert [isinstance(f, str) for f in found] == [False, False, True]
    assert found[2] == "2.png: depth model cannot predict it (no such shape at all)"


def test_a_model_leaves_the_number_of_threads_as_it_was(images: list[tuple[str, np.ndarray]], tmp_path: Path) -> None:
    model, before = DepthModel(str(save_depth_anything(tmp_path / "model")), device="cpu"), torch.get_num_threads()
    model.disparities(images[:1])
    assert torch.get_num_threads() == before


def test_the_maps_of_a_labelled_folder_in_its_own_unit(tmp_path: Path) -> None:
    raw = np.full((24, 32), 5000, np.uint16)
    Image.fromarray(raw).save(tmp_path / "d.png")
    Image.fromarray(raw.astype(np.uint8)).save(tmp_path / "eight.png")
    record = {"image": "a.png", "width": 64, "height": 48, "objects": [], "depth_map": "d.png"}
    other_unit, none = {"image": "b.png", "metres_per_count": 0.0002}, {"image": "c.png", "depth_map": None}
    eight_bits = {"image": "e.png", "depth_map": "eight.png"}
    rows = [record, {**record, **other_unit}, {"image": 3}, {**record, **none}, {**record, **eight_bits}]
    (tmp_path / "annotations.json").write_text(json.dumps(rows))
    image, other = np.zeros((48, 64, 3), np.uint8), np.zeros((64, 48, 3), np.uint8)
    source = FolderMaps(tmp_path)
    a, b, c, e, turned = source.disparities([*((f"{n}.png", image) for n in "abce"), ("a.png", other)])
    np.testing.assert_allclose([np.mean(a), np.mean(b)], [0.2, 1.0], rtol=1e-5)  # type: ignore[arg-type]
    assert c == "no depth map" and isinstance(e, str) and "8 bit" in e
    assert isinstance(turned, str) and "aspect ratio" in turned
    records = FolderRecords(tmp_path)
    assert len(list(records)) == 4 and records.report.counts == {"record that cannot be used": 1}


def test_make3ds_grid_covers_the_whole_image(tmp_path: Path) -> None:
    savemat = pytest.importorskip("scipy.io", reason="scipy is not installed: pip install scipy").savemat
    grid = np.zeros((55, 305, 4))
    grid[..., 3] = np.repeat([10.0, 5.0, 81.0, 0.0, 75.0], 11)[:, None]  # from the top; the last three are not known
    savemat(tmp_path / "depth_sph_corr-a.mat", {"Position3DGrid": grid})
    found, missing = Make3DGrids(tmp_path).disparities([("img-a.jpg", np.zeros((400, 300, 3), np.uint8))] * 1 + [
        ("img-b.jpg", np.zeros((400, 300, 3), np.uint8))])  # fmt: skip
    assert isinstance(found, np.ndarray) and found.shape == (100, 75) and missing == "no grid of depths"
    np.testing.assert_allclose(found[[5, 25], 40], [0.1, 0.2], rtol=1e-6)
    assert np.isnan(found[41:]).all()
    (turned,) = Make3DGrids(tmp_path).disparities([("img-a.jpg", np.zeros((300, 400, 3), np.uint8))])
    assert isinstance(turned, str) and "lies on its side" in turned  # its depths would be those of other places


def test_a_map_of_another_aspect_ratio_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((10, 10)))
    (found,) = DepthMaps(tmp_path, DepthUnit.METRES).disparities([("a.jpg", np.zeros((10, 20, 3), np.uint8))])
    assert isinstance(found, str) and "aspect ratio" in found
