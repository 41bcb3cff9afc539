"""One bad image, depth map or mask map never ends a training: it is left out, counted and named."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from proxqa_core.datasets.folder import LabelledFolder
from proxqa_core.errors import BadImageError
from proxqa_core.model.loading import LoadedModel
from proxqa_core.types import ObjectQuery
from proxqa_training.bad_images import MAX_REASONS, BadImages
from proxqa_training.labels import read_images
from proxqa_training.stages import calibrate
from proxqa_training.stages.data import NOTHING, open_dataset
from proxqa_training.stages.finetune import summary
from proxqa_training.tower.colours import read_dataset
from proxqa_training.tower.config import TowerConfig
from proxqa_training.tower.data import TowerDataset
from proxqa_training.tower.run import TowerRun

CONFIG = TowerConfig(start="current", num_samples=8, batch_size=4, unfrozen_blocks=1, val_fraction=0)
Damage = Callable[[Path], object]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


def other_size(path: Path) -> None:
    cv2.imwrite(str(path), np.zeros((20, 30), np.uint8))


def in_colour(path: Path) -> None:
    cv2.imwrite(str(path), np.zeros((96, 128, 3), np.uint8))


DAMAGES: list[tuple[str, Damage, str]] = [
    ("images/0.png", cut, "images/0.png"),
    ("images/0.png", Path.unlink, "images/0.png"),
    ("images/0.png", other_size, "is 30x20 pixels"),
    ("depth/0.png", cut, "depth/0.png"),
    ("depth/0.png", Path.unlink, "depth/0.png"),
    ("depth/0.png", other_size, "8 bit"),
    ("depth/0.png", in_colour, "depth/0.png"),
    ("masks/0.png", cut, "masks/0.png"),
    ("masks/0.png", other_size, "expected the same"),
]


def test_each_is_noted_once_and_the_first_are_named(caplog: pytest.LogCaptureFixture) -> None:
    bad = BadImages()
    with caplog.at_level(logging.WARNING):
        for number in [*range(9), *range(9)]:
            bad.add(f"{number}.png", f"{number}.png is cut")
    assert bad.report() == {"count": 9, "reasons": [f"{n}.png is cut" for n in range(MAX_REASONS)]}
    assert len(caplog.records) == MAX_REASONS + 1 and "0.png is cut" in caplog.text and "8.png" in bad


def test_the_tower_trains_on_without_them(blocks: Path, tmp_path: Path, fresh_model: Callable[[], LoadedModel]) -> None:
    cut(blocks / "images/0.png")
    cut(blocks / "depth/1.png")
    run = TowerRun(fresh_model(), [blocks], CONFIG, tmp_path / "run", num_workers=1)
    lines: list[dict[str, Any]] = []
    run.train(lambda **values: lines.append(values))
    assert lines and np.isfinite([v for v in lines[0].values() if isinstance(v, float)]).all()
    assert run.bad.report()["count"] == 2
    assert {name for name in ("images/0.png", "depth/1.png") if name in " ".join(run.bad.reasons)} == {
        "images/0.png",
        "depth/1.png",
    }
    figures = run.validate(run.rendered)
    assert figures["names"] == 4 and len(run.bad) == 2


@pytest.mark.parametrize(("file", "damage", "said"), DAMAGES)
def test_every_damage_is_one_line_that_names_the_file(
    blocks: Path, tmp_path: Path, pristine: LoadedModel, file: str, damage: Damage, said: str
) -> None:
    damage(blocks / file)
    images = read_images(blocks)
    dataset = TowerDataset(pristine, 0.5)
    with pytest.raises(BadImageError, match=said) as error:
        dataset.sample(images[0], None)
    assert "\n" not in str(error.value) and dataset.sample(images[1], None).names


def test_where_no_image_can_be_used_the_tower_says_so(
    blocks: Path, tmp_path: Path, fresh_model: Callable[[], LoadedModel]
) -> None:
    for path in (blocks / "images").iterdir():
        cut(path)
    run = TowerRun(fresh_model(), [blocks], CONFIG, tmp_path / "run")
    with pytest.raises(BadImageError, match=r"50 images in turn cannot be used, the last: .*images/"):
        run.batch(0)


def test_features_are_made_without_them_and_remembered(blocks: Path, tmp_path: Path, pristine: LoadedModel) -> None:
    cut(blocks / "images/2.png")
    for _ in range(2):  # made, then read again
        data = open_dataset([blocks], pristine, tmp_path / "cache")
        assert [s is NOTHING for s in data.samples] == [False] * 4 + [True] * 2 + [False] * 2
        assert data.bad.report()["count"] == 1 and "images/2.png" in data.bad.report()["reasons"][0]
        assert summary(data).startswith("3 images, 6 objects") and "1 images cannot be used" in summary(data)


def test_where_no_image_can_be_used_features_are_refused(blocks: Path, tmp_path: Path, pristine: LoadedModel) -> None:
    for path in (blocks / "images").iterdir():
        cut(path)
    with pytest.raises(BadImageError, match=r"none of 4 images can be used, the first: .*images/0.png"):
        open_dataset([blocks], pristine, tmp_path / "cache")


class Encoded:
    """What an engine would tell of an image, without a model."""

    def digit_trees(self, queries: Sequence[ObjectQuery], hundredths: bool = True) -> list[Any]:
        return [None for _ in queries]

    def depths(self, queries: Sequence[ObjectQuery]) -> list[Any]:
        return [SimpleNamespace(found_at=None) for _ in queries]

    def box_order(self, boxes: Sequence[Any]) -> None:
        return None

    def choice_odds(self, pairs: Sequence[Any], _: Sequence[Any]) -> np.ndarray:
        return np.zeros((len(pairs), 2))


def test_calibration_goes_on_without_them(blocks: Path) -> None:
    cut(blocks / "images/1.png")
    bad = BadImages()
    engine: Any = SimpleNamespace(encode_image=lambda _: Encoded(), model=SimpleNamespace(grounding_head=None))
    data = calibrate.collect(engine, LabelledFolder(blocks), 2, bad)
    assert len(data.depths) == 4 and bad.report()["count"] == 1 and "images/1.png" in next(iter(bad.reasons))


def test_the_reader_of_colours_learns_without_them(blocks: Path) -> None:
    file = blocks / "annotations.json"
    records = json.loads(file.read_text())
    for record in records:
        for thing, colour in zip(record["objects"], ("red", "blue"), strict=True):
            thing["colour"] = colour
    file.write_text(json.dumps(records))
    cut(blocks / "masks/3.png")
    bad = BadImages()
    data = read_dataset([blocks], bad)
    assert len(data.terms) == 6 and bad.report()["count"] == 1
    assert dataclasses.is_dataclass(data)
