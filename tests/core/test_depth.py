"""The relative-depth convention: its range, its invariances and its edge cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from proxqa_core.depth import (
    central_half,
    disparity_of,
    disparity_percentiles,
    object_relative_depth,
    relative_depth_map,
    relative_disparity_map,
    relative_of_disparity,
)
from proxqa_core.errors import BadImageError, BadObjectError
from proxqa_core.types import Box

METRES = hnp.arrays(
    np.float64,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=12),
    elements=st.one_of(st.floats(0.2, 80.0), st.sampled_from([0.0, np.nan, np.inf])),
)


@given(METRES)
def test_range_and_holes(depth_m: NDArray[np.float64]) -> None:
    relative = relative_depth_map(depth_m)
    assert relative.dtype == np.float32 and relative.shape == depth_m.shape
    unmeasured = np.isnan(depth_m) | (depth_m == 0)
    assert np.array_equal(np.isnan(relative), unmeasured)
    values = relative[~unmeasured]
    assert ((values >= 0) & (values <= 1)).all()


@given(METRES)
def test_farther_is_never_nearer(depth_m: NDArray[np.float64]) -> None:
    relative = relative_depth_map(depth_m)
    measured = ~np.isnan(relative)
    order = np.argsort(depth_m[measured], kind="stable")
    assert (np.diff(relative[measured][order]) >= 0).all()


@given(METRES, st.floats(0.1, 10.0))
def test_scaling_the_metres_changes_nothing(depth_m: NDArray[np.float64], scale: float) -> None:
    disparity = disparity_of(depth_m)
    low, high = disparity_percentiles(disparity)
    if np.isfinite(low) and 0 < high - low < 1e-6:
        return  # a spread within rounding error
    np.testing.assert_allclose(relative_depth_map(depth_m), relative_depth_map(depth_m * scale), atol=1e-5)


@given(METRES, st.floats(0.5, 2.0), st.floats(-5.0, 5.0))
def test_disparity_maps_of_any_scale_and_offset_agree(
    depth_m: NDArray[np.float64], scale: float, offset: float
) -> None:
    disparity = disparity_of(depth_m)
    low, high = disparity_percentiles(disparity)
    if not np.isfinite(low) or high - low < 1e-3:
        return
    np.testing.assert_allclose(
        relative_depth_map(depth_m), relative_disparity_map(disparity * scale + offset), atol=1e-4
    )


def test_by_hand() -> None:
    # 101 disparities 0, 0.01 … 1: the percentiles are 0.02 and 0.98.
    disparity = np.linspace(0, 1, 101).reshape(1, -1)
    assert disparity_percentiles(disparity) == pytest.approx((0.02, 0.98))
    relative = relative_disparity_map(disparity)
    assert relative[0, 0] == 1.0 and relative[0, -1] == 0.0
    assert relative[0, 50] == pytest.approx(0.5)
    assert relative[0, 26] == pytest.approx(0.75)


def test_infinity_is_the_farthest_and_a_flat_view_has_a_limit() -> None:
    depth = np.full((10, 10), np.inf)
    depth[0, 0] = 2.0
    relative = relative_depth_map(depth)
    assert relative[5, 5] == 1.0 and relative[0, 0] == 0.0
    assert (relative_depth_map(np.full((3, 3), 2.0)) == 1.0).all()
    assert np.isnan(relative_depth_map(np.zeros((3, 3)))).all()


def test_one_value_agrees_with_the_map() -> None:
    depth = np.random.default_rng(0).uniform(1, 9, (20, 30))
    low, high = disparity_percentiles(1 / depth)
    assert relative_of_disparity(1 / depth[3, 4], low, high) == pytest.approx(relative_depth_map(depth)[3, 4])


@pytest.mark.parametrize("bad", [np.ones((4, 4), np.uint16), np.ones((4, 4, 1)), np.ones(4), np.array([["a"]])])
def test_bad_maps(bad: NDArray[np.float64]) -> None:
    with pytest.raises(BadImageError, match="expected float metres"):
        relative_depth_map(bad)


def test_object_depth_over_mask_and_box() -> None:
    relative = np.full((40, 40), 0.9, np.float32)
    relative[15:25, 15:25] = 0.3
    box = Box(10, 10, 30, 30)
    assert object_relative_depth(relative, box=box) == pytest.approx(0.3)  # its central half is the near square
    mask = np.zeros((40, 40), bool)
    mask[0:5] = True
    assert object_relative_depth(relative, mask=mask) == pytest.approx(0.9)
    assert object_relative_depth(relative, box=box, mask=mask) == pytest.approx(0.9)
    relative[15:25, 15:25] = np.nan
    assert np.isnan(object_relative_depth(relative, box=box))
    relative[16, 16] = 0.2
    assert object_relative_depth(relative, box=box) == pytest.approx(0.2)


def test_object_depth_refuses() -> None:
    relative = np.zeros((10, 10), np.float32)
    with pytest.raises(ValueError, match="neither"):
        object_relative_depth(relative)
    with pytest.raises(ValueError, match="mask is"):
        object_relative_depth(relative, mask=np.ones((2, 2), bool))
    with pytest.raises(BadObjectError, match="outside"):
        object_relative_depth(relative, box=Box(20, 20, 30, 30))


@given(
    st.floats(-20, 60), st.floats(-20, 60), st.floats(1, 80), st.floats(1, 80),
    st.integers(1, 50), st.integers(1, 50),
)  # fmt: skip
def test_central_half_is_inside_and_not_empty(x: float, y: float, w: float, h: float, width: int, height: int) -> None:
    box = Box(x, y, x + w, y + h)
    try:
        rows, columns = central_half(box, width, height)
    except BadObjectError:
        return
    assert 0 <= rows.start < rows.stop <= height and 0 <= columns.start < columns.stop <= width
    clipped = box.clipped(width, height)
    assert rows.stop - rows.start <= (clipped.y2 - clipped.y1) / 2 + 2
