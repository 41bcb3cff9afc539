"""Two small labelled folders to train on."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest


@pytest.fixture
def blocks(tmp_path):
    """Rendered, so to say: four pictures of two coloured blocks, the lower one nearer or farther by turns."""
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
def photographs(tmp_path):
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
