"""Two small labelled folders to train on, and the default model to train."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from proxqa_core.model.loading import LoadedModel
from proxqa_core.model.parts import Whole


@pytest.fixture(scope="session")
def pristine() -> LoadedModel:
    """The default model without an adapter, loaded once. Not to be trained: see `fresh_model`."""
    from proxqa_core.model.loading import NO_ADAPTER, load

    return load("default", NO_ADAPTER, device="cpu", dtype="float32")


@pytest.fixture
def fresh_model(pristine: LoadedModel) -> Callable[[], LoadedModel]:
    """Gives a copy of the default model without an adapter at every call, as if it had been loaded anew."""
    return lambda: dataclasses.replace(pristine, parts=Whole(copy.deepcopy(pristine.llava)))


@pytest.fixture(scope="session")
def feature_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features of the default tower that tests share: files are named after the tower and the images."""
    return tmp_path_factory.mktemp("features")


@pytest.fixture
def train(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs `proxqa train …`; gives its exit code, what it printed and what it complained of."""
    from proxqa_core.cli import main

    def run(*arguments: Any) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["train", *map(str, arguments)])
        output = capsys.readouterr()
        return code, output.out, output.err

    return run


@pytest.fixture
def blocks(tmp_path: Path) -> Path:
    """Four pictures of two coloured blocks, as if rendered, the lower one nearer or farther by turns."""
    place = tmp_path / "blocks"
    for name in ("images", "depth", "masks"):
        (place / name).mkdir(parents=True)
    records = []
    for i in range(4):
        image = np.full((96, 128, 3), 90, np.uint8)
        depth = np.full((96, 128), 9000, np.uint16)
        mask = np.zeros((96, 128), np.uint8)
        things = []
        for k, (name, box, metres) in enumerate(
            [("red block", (10, 50, 50, 90), 1.0 + i), ("blue block", (70, 10, 110, 50), 4.0 - i)]
        ):
            x1, y1, x2, y2 = box
            image[y1:y2, x1:x2] = (200, 30, 30) if k == 0 else (30, 30, 200)
            depth[y1:y2, x1:x2] = int(metres * 1000)
            mask[y1:y2, x1:x2] = k + 1
            relative = float(np.clip(1 - (1 / metres - 1 / 9) / (1 - 1 / 9), 0, 1))
            things.append(
                {"name": name, "box": box, "depth_m": metres, "depth": relative, "ref": name, "mask_id": k + 1}
            )
        cv2.imwrite(str(place / f"images/{i}.png"), image[:, :, ::-1])
        cv2.imwrite(str(place / f"depth/{i}.png"), depth)
        cv2.imwrite(str(place / f"masks/{i}.png"), mask)
        record = {"image": f"images/{i}.png", "width": 128, "height": 96, "objects": things}
        records.append(record | {"depth_map": f"depth/{i}.png", "mask_map": f"masks/{i}.png"})
    (place / "annotations.json").write_text(json.dumps(records))
    return place


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Two pictures with a named box each, no depth, and all of their classes labelled."""
    place = tmp_path / "photographs"
    (place / "images").mkdir(parents=True)
    records = []
    for i, (name, colour) in enumerate([("dog", 250), ("cat", 20)]):
        image = np.full((80, 120, 3), 120, np.uint8)
        image[20:60, 30:70] = colour
        cv2.imwrite(str(place / f"images/{i}.jpg"), image)
        record = {"image": f"images/{i}.jpg", "width": 120, "height": 80, "exhaustive_for_source_classes": True}
        records.append(record | {"objects": [{"name": name, "box": [30, 20, 70, 60]}]})
    (place / "annotations.json").write_text(json.dumps(records))
    return place
