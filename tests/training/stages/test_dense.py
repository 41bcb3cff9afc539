"""Boxes on images that have depth and no labels."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest

from proxqa_core.datasets.folder import LabelledObject, Record
from proxqa_core.types import Box
from proxqa_training.stages.dense import BOXES_PER_IMAGE, with_boxes


@pytest.fixture
def half(tmp_path: Path) -> Record:
    """A wall at 2 m on the left, one at 4 m on the right, a strip in between that nobody measured."""
    depth = np.full((60, 80), 2000, np.uint16)
    depth[:, 40:] = 4000
    depth[:, 36:44] = 0
    cv2.imwrite(str(tmp_path / "depth.png"), depth)
    return Record(tmp_path, "image.png", 160, 120, (), "depth.png")


def test_each_box_is_at_one_depth(half: Record) -> None:
    objects = with_boxes(half).objects
    assert len(objects) == BOXES_PER_IMAGE and with_boxes(half).objects == objects
    for thing in objects:
        middle = (thing.box.x1 + thing.box.x2) / 2
        assert thing.depth_m in (2.0, 4.0) and thing.depth == (0.0 if thing.depth_m == 2.0 else 1.0)
        assert (thing.depth_m == 2.0) == (middle < 80)
        assert thing.ref is None and 0 <= thing.box.x1 < thing.box.x2 <= 160


def test_what_is_labelled_stays_and_what_is_flat_gets_none(half: Record) -> None:
    labelled = dataclasses.replace(half, objects=(LabelledObject("wall", Box(0, 0, 20, 20), 2.0),))
    assert with_boxes(labelled) is labelled
    assert with_boxes(dataclasses.replace(half, depth_map=None)).objects == ()
    cv2.imwrite(str(half.folder / "flat.png"), np.full((60, 80), 2000, np.uint16))
    assert with_boxes(dataclasses.replace(half, depth_map="flat.png")).objects == ()  # no nearest, no farthest
