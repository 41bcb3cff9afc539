"""A small labelled folder that several tests read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Three images of 64x48: one with a depth map (two objects named "cup"), one with labelled depth, one with none."""
    folder = tmp_path / "labelled"
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(3):
        Image.fromarray(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)).save(folder / f"images/{i}.png")
    depth = np.linspace(1000, 3000, 48, dtype=np.uint16)[::-1, None].repeat(64, 1)
    depth[:4] = 65535
    depth[:, :2] = 0
    Image.fromarray(depth).save(folder / "depth.png")
    records: list[dict[str, Any]] = [
        {
            "image": "images/0.png", "width": 64, "height": 48, "source": "made", "depth_map": "depth.png",
            "objects": [
                {"name": "cup", "box": [4, 30, 14, 46], "depth_m": 1.2, "unique": False, "ref": "left cup"},
                {"name": "cup", "box": [40, 20, 50, 30], "depth_m": 2.0, "unique": False, "ref": "right cup"},
                {"name": "cup", "box": [20, 20, 30, 30], "depth_m": 1.9, "unique": False, "ref": None},
                {"name": "lamp", "box": [30, 4, 40, 34], "depth_m": 1.5, "unique": True, "ref": "lamp"},
            ],
        },
        {
            "image": "images/1.png", "width": 64, "height": 48,
            "objects": [
                {"name": "chair", "box": [0, 0, 20, 40], "depth_m": 2.0, "depth": 0.25, "visible": 0.5,
                 "colour": "red"},
                {"name": "table", "box": [20, 0, 60, 44], "depth_m": 4.0, "depth": 0.75, "mask_id": 3},
            ],
        },
        {
            "image": "images/2.png", "width": 64, "height": 48,
            "objects": [{"name": "dog", "box": [1.5, 2.5, 20, 40]}, {"name": "cat", "box": [30, 2, 60, 40]}],
        },
    ]  # fmt: skip
    (folder / "annotations.json").write_text(json.dumps(records))
    return folder
