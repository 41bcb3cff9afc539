"""Finding what is named: separate things, whole boxes, damaged weights."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from proxqa_core.errors import BadModelError
from proxqa_core.model.adapter import GROUNDING_HEAD, read_grounding_head
from proxqa_core.types import Box
from proxqa_core.vision.grounding_head import (
    GroundingHead,
    _separate,
    centres,
    encode_patches,
    ground,
    iou,
    score_in_box,
    to_boxes,
)


def test_two_things_of_a_name_are_two():
    """Patches of two squares, each giving its square's box with a little error, and some unlikely ones."""
    likely = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.1, 0.02], np.float32)
    left, right = np.float32([0.1, 0.1, 0.4, 0.5]), np.float32([0.6, 0.1, 0.9, 0.5])
    boxes = np.stack([left, left + 0.01, right, right - 0.01, right + 0.01, left, right])
    found = _separate(likely, boxes, 8)
    assert len(found) == 2
    assert found[0].score == pytest.approx(0.9) and found[1].score == pytest.approx(0.7)
    assert found[0].box.xyxy == pytest.approx((0.105, 0.105, 0.405, 0.505), abs=0.01)
    assert found[1].box.xyxy == pytest.approx((0.6, 0.1, 0.9, 0.5), abs=0.01)
    assert len(_separate(likely, boxes, 1)) == 1


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 4), st.floats(0, 50))
def test_every_name_is_found_somewhere(seed, side, names, size):
    torch.manual_seed(seed)
    grounding_head = GroundingHead(6, 5, 8, 12)
    patches = encode_patches(grounding_head, size * torch.randn(side, side, 6))
    found = ground(grounding_head, patches, size * torch.randn(names, 5))
    assert len(found) == names
    for things in found:
        assert 1 <= len(things) <= 8
        for thing in things:
            assert 0 <= thing.score <= 1
            assert 0 <= thing.box.x1 < thing.box.x2 <= 1 and 0 <= thing.box.y1 < thing.box.y2 <= 1


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6), st.floats(0, 0.99), st.floats(0, 0.99), st.floats(0.001, 1))
def test_a_box_is_as_likely_as_its_likeliest_patch(seed, side, x1, y1, size):
    torch.manual_seed(seed)
    grounding_head, words = GroundingHead(6, 5, 8, 12), torch.randn(5)
    reading = encode_patches(grounding_head, 5 * torch.randn(side, side, 6))
    box = Box(x1, y1, min(1.0, x1 + size), min(1.0, y1 + size))
    with torch.inference_mode():
        likely = (
            grounding_head.similarity(reading.vectors, grounding_head.name_vectors(words[None]))
            .sigmoid()[:, 0]
            .tolist()
        )
    score = score_in_box(grounding_head, reading, words, box)
    assert score == pytest.approx(min(likely, key=lambda v: abs(v - score)), abs=1e-5)
    inside = [
        v
        for v, (x, y) in zip(likely, centres(side).tolist(), strict=True)
        if box.x1 <= x <= box.x2 and box.y1 <= y <= box.y2
    ]
    assert not inside or score == pytest.approx(max(inside), abs=1e-5)
    assert score_in_box(grounding_head, reading, words, Box(0, 0, 1, 1)) == pytest.approx(max(likely), abs=1e-5)


def test_centres_and_edges_make_boxes():
    assert torch.allclose(centres(2), torch.tensor([[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]))
    box = to_boxes(torch.tensor([0.5, 0.5]), torch.tensor([0.1, 0.2, 0.9, 0.1]))
    assert torch.allclose(box, torch.tensor([0.4, 0.3, 1.0, 0.6]))
    assert iou(box.numpy(), torch.stack([box, box + 2]).numpy()).tolist() == pytest.approx([1, 0])


def test_a_grounding_head_survives_its_file_and_a_damaged_one_is_one_line(tmp_path):
    grounding_head = GroundingHead(6, 5, 8, 12)
    save_file(grounding_head.state_dict(), tmp_path / GROUNDING_HEAD)
    patches, words = torch.randn(4, 4, 6), torch.randn(2, 5)
    again = read_grounding_head(tmp_path)
    assert ground(again, encode_patches(again, patches), words) == ground(
        grounding_head, encode_patches(grounding_head, patches), words
    )
    save_file({"patch.1.weight": torch.zeros(3, 3)}, tmp_path / GROUNDING_HEAD)
    with pytest.raises(BadModelError, match="does not hold a grounding head") as error:
        read_grounding_head(tmp_path)
    assert "\n" not in str(error.value)
    (tmp_path / GROUNDING_HEAD).write_bytes(b"nonsense")
    with pytest.raises(BadModelError, match="not a whole safetensors file"):
        read_grounding_head(tmp_path)
