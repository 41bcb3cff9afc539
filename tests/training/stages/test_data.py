"""Labelled folders as samples, and where training finds names."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from proxqa_core.datasets.folder import LabelledFolder
from proxqa_core.model.loading import LoadedModel
from proxqa_training.stages.data import grounder, open_dataset


def test_samples_know_what_is_absent_and_are_flipped(
    blocks: Path, photographs: Path, tmp_path: Path, pristine: LoadedModel
) -> None:
    data = open_dataset([blocks, photographs], pristine, tmp_path / "cache")
    assert len(data.samples) == 12 and [len(f) for f in data.features] == [8, 4]
    plain, flipped = data.samples[:2]
    assert plain.objects[0].box.x1 == pytest.approx(1 - flipped.objects[0].box.x2)
    assert plain.absent == ("cat", "dog") or set(plain.absent) >= {"cat", "dog"}
    photo = data.samples[8]
    assert [o.name for o in photo.objects] == ["dog"] and photo.objects[0].depth is None
    assert photo.absent == ("cat",)  # of its own classes; nothing is known of blocks
    assert np.array_equal(data[8], data.features[1][0])
    with pytest.raises(IndexError):
        data[12]
    side = pristine.patches_per_side
    seen, turned = (data.patch_colours(i).reshape(side, side, 3) for i in (0, 1))
    assert np.abs(seen[:, ::-1] - turned).max() < 0.02
    assert seen[round(side * 70 / 96), round(side * 30 / 128)] * 255 == pytest.approx([200, 30, 30], abs=2)
    again = open_dataset([blocks, photographs], pristine, tmp_path / "cache")
    assert np.array_equal(again[3], data[3]) and np.array_equal(again.patch_colours(3), data.patch_colours(3))


def test_folders_of_one_name_have_features_of_their_own(blocks: Path, tmp_path: Path, pristine: LoadedModel) -> None:
    other = tmp_path / "other" / "blocks"
    shutil.copytree(blocks, other)
    for file in (other / "images").iterdir():
        cv2.imwrite(str(file), np.full((96, 128, 3), 200, np.uint8))
    data = open_dataset([blocks, other], pristine, tmp_path / "cache")
    assert len(data.samples) == 16 and not np.array_equal(data[0], data[8])


def test_training_finds_names_where_the_engine_does(blocks: Path, feature_cache: Path, exact: Any) -> None:
    data = open_dataset(blocks, exact.model, feature_cache)
    image = LabelledFolder(blocks).records[0].load_image()
    encoded, words = exact.encode_image(image), exact.model.llava.get_input_embeddings().weight.float()
    seen = (torch.from_numpy(part) for part in (data[0], data.patch_colours(0)))
    ground = grounder(exact.model.grounding_head, words, exact.model, *seen)
    for phrase in ("block", "red block", "blue block", "leftmost block", "rightmost blue block"):
        expected = encoded.depths([phrase])[0].found_at
        found = exact.model.preprocessing.in_pixels(ground(phrase), image.shape[1], image.shape[0])
        assert found.xyxy == pytest.approx(expected.xyxy, abs=1.0)
