"""Pixels, grids and regions."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from proxqa_core.types import Box
from proxqa_core.vision.grid import merge_grid, split_grid
from proxqa_core.vision.preprocessing import Preprocessing
from proxqa_core.vision.regions import region_tokens
from proxqa_core.vision.tower import MergedDinov2Config


def test_splitting_undoes_merging():
    patches = torch.arange(2 * 36 * 3, dtype=torch.float32).reshape(2, 36, 3)
    merged = merge_grid(patches, 2)
    assert merged.shape == (2, 9, 12)
    assert torch.equal(split_grid(merged, 2), patches.reshape(2, 6, 6, 3))
    # the first token holds the four patches of the upper left corner, row by row
    assert torch.equal(merged[0, 0].reshape(4, 3), patches[0, [0, 1, 6, 7]])


def test_a_box_of_one_token_is_that_token():
    tokens = merge_grid(torch.randn(1, 16 * 16, 5), 2)[0]
    box = torch.tensor([[3 / 8, 2 / 8, 4 / 8, 3 / 8]])
    assert torch.allclose(region_tokens(tokens, box, 2)[0], tokens[2 * 8 + 3], atol=1e-5)


@given(
    st.floats(0, 0.99), st.floats(0, 0.99), st.floats(0.001, 1), st.floats(0.001, 1), st.sampled_from([1, 2]),
)  # fmt: skip
def test_regions_are_averages_of_what_is_inside(x, y, w, h, spatial_merge_size):
    box = torch.tensor([[x, y, min(1.0, x + w), min(1.0, y + h)]])
    same = torch.full((64, 4 * spatial_merge_size**2), 2.5)
    assert torch.allclose(
        region_tokens(same, box, spatial_merge_size), torch.full((1, 4 * spatial_merge_size**2), 2.5), atol=1e-4
    )
    tokens = torch.rand(64, 4 * spatial_merge_size**2)
    pooled = region_tokens(tokens, box, spatial_merge_size)
    assert pooled.min() >= tokens.min() - 1e-4 and pooled.max() <= tokens.max() + 1e-4


@pytest.mark.parametrize("geometry", ["stretch", "pad"])
def test_boxes_follow_the_pixels(geometry):
    image = np.zeros((100, 200, 3), np.uint8)
    image[20:40, 50:100] = 255
    p = Preprocessing(224, geometry, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    bright = p.pixels([image])[0, 0] > 0.5
    rows, cols = bright.nonzero(as_tuple=True)
    found = np.array([cols.min(), rows.min(), cols.max() + 1, rows.max() + 1]) / 224
    assert np.allclose(found, p.normalised(Box(50, 20, 100, 40), 200, 100), atol=0.01)


@pytest.mark.parametrize("values", [{"size": 3}, {"geometry": "crop"}, {"std": (0.0, 1.0, 1.0)}])
def test_bad_preprocessing_is_refused(values):
    with pytest.raises(ValueError, match=str(next(iter(values)))):
        Preprocessing(**{"size": 224} | values)


def test_bad_tower_size_is_refused():
    with pytest.raises(ValueError, match="230"):
        MergedDinov2Config({"hidden_size": 32, "patch_size": 14}, spatial_merge_size=2, image_size=230)
