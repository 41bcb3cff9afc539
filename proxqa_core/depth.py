"""The relative-depth convention: from metres or disparity to numbers in [0, 1].

Promises: one definition for every source of depth. Relative depth is clip(1 - (s - s2) / (s98 - s2), 0, 1) with
disparity s = 1 / metres and its 2nd and 98th percentiles s2, s98 over the measured pixels of the image: 0 is nearest
in view, 1 farthest. It does not change when all metres are scaled, so metric sensors and relative estimators give the
same labels. Knows nothing of models, files or names.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from proxqa_core.errors import BadImageError, BadObjectError
from proxqa_core.types import Box

LOW_PERCENTILE = 2.0
HIGH_PERCENTILE = 98.0
ASPECT_TOLERANCE = 0.02
"""Largest relative difference of the aspect ratios of an image and a depth image aligned with it."""
MIN_DEPTH_M = 1e-300
"""Below this the reciprocal overflows: as good as zero, so not measured either."""


def disparity_of(depth_m: NDArray[Any]) -> NDArray[np.float64]:
    """Disparity of a depth map.

    Args:
        depth_m: Float [height, width], metres. NaN, zero and negative values mean "not measured", infinity "beyond
            range" (the convention of REP 117).

    Returns:
        1/z in 1/m, [height, width]; NaN where not measured, 0 beyond range.

    Raises:
        BadImageError: It is no two-dimensional float array: integer maps are mostly millimetres.
    """
    depth_m = np.asarray(depth_m)
    _check_map(depth_m, "depth map", "metres")
    z = depth_m.astype(np.float64)
    measured = z > MIN_DEPTH_M
    disparity = np.full(z.shape, np.nan)
    disparity[measured] = 1.0 / z[measured]
    return disparity


def disparity_percentiles(disparity: NDArray[Any]) -> tuple[float, float]:
    """The 2nd and 98th percentiles (s2, s98) of the finite values; (NaN, NaN) where there are none."""
    values = np.asarray(disparity, dtype=np.float64)
    values = values[np.isfinite(values)]
    if not values.size:
        return (float("nan"), float("nan"))
    low, high = np.percentile(values, [LOW_PERCENTILE, HIGH_PERCENTILE])
    return (float(low), float(high))


def relative_of_disparity(disparity: NDArray[Any] | float, low: float, high: float) -> NDArray[np.float32]:
    """Relative depth of disparities, given the percentiles of their image.

    Where low == high (a flat wall, a sky that fills the view) the limit of the formula holds: 1 up to that disparity, 0
    beyond it.

    Args:
        disparity: Of any shape.
        low: The image's 2nd percentile.
        high: The image's 98th percentile.

    Returns:
        float32 in [0, 1] of the same shape; NaN where the disparity is not finite.
    """
    s = np.asarray(disparity, dtype=np.float64)
    s = np.where(np.isfinite(s), s, np.nan)
    span = high - low
    nearness = np.clip((s - low) / span, 0.0, 1.0) if span > 0 else np.where(np.isnan(s), np.nan, 1.0 * (s > low))
    return np.asarray(1.0 - nearness, dtype=np.float32)


def relative_disparity_map(disparity: NDArray[Any]) -> NDArray[np.float32]:
    """Relative depth of a disparity map.

    Args:
        disparity: [height, width], higher = nearer, of any scale and offset.

    Returns:
        float32 [height, width] in [0, 1]; NaN where the disparity is not finite.

    Raises:
        BadImageError: It is no two-dimensional array of numbers.
    """
    disparity = np.asarray(disparity)
    _check_map(disparity, "disparity map", "", integers=True)
    low, high = disparity_percentiles(disparity)
    return relative_of_disparity(disparity, low, high)


def relative_depth_map(depth_m: NDArray[Any]) -> NDArray[np.float32]:
    """Relative depth of a depth map.

    Args:
        depth_m: See `disparity_of`.

    Returns:
        float32 [height, width] in [0, 1]; NaN where not measured.

    Raises:
        BadImageError: See `disparity_of`.
    """
    return relative_disparity_map(disparity_of(depth_m))


def object_relative_depth(
    relative: NDArray[Any], box: Box | None = None, mask: NDArray[np.bool_] | None = None
) -> float:
    """One object's relative depth: the median over its visible mask, or over the central half of its box.

    Args:
        relative: [height, width] as the functions above return it.
        box: In pixels; its central half is the middle 50 % in each direction of the part inside the image.
        mask: bool [height, width], preferred where both are given.

    Returns:
        A number in [0, 1]; NaN where nothing was measured there.

    Raises:
        ValueError: Neither is given, or the mask has another shape.
        BadObjectError: The box lies outside the image.
    """
    relative = np.asarray(relative)
    if mask is not None:
        mask = np.asarray(mask)
        if mask.shape != relative.shape or mask.dtype != np.bool_:
            raise ValueError(f"mask is {mask.dtype} {list(mask.shape)}; expected bool {list(relative.shape)}")
        values = relative[mask]
    elif box is not None:
        rows, columns = central_half(box, relative.shape[1], relative.shape[0])
        values = relative[rows, columns]
    else:
        raise ValueError("neither a box nor a mask was given; expected one of them")
    values = values[np.isfinite(values)]
    return float(np.median(values)) if values.size else float("nan")


def central_half(box: Box, width: int, height: int) -> tuple[slice, slice]:
    """The middle half of a box, in each direction, at least one pixel.

    Args:
        box: In pixels.
        width: Of the image, in pixels.
        height: Of the image, in pixels.

    Returns:
        Its rows and its columns.

    Raises:
        BadObjectError: The box lies outside the image.
    """
    b = box.clipped(width, height)

    def middle(low: float, high: float, size: int) -> slice:
        quarter = (high - low) / 4
        start = min(int(np.floor(low + quarter)), size - 1)
        return slice(start, max(start + 1, min(size, int(np.ceil(high - quarter)))))

    return middle(b.y1, b.y2, height), middle(b.x1, b.x2, width)


def median_in_box(depth: NDArray[Any], box: Box, width: int, height: int, min_measured: float) -> float:
    """How far what a box shows is, by a depth image aligned with the image: the median over the box's central half.

    The caller chooses `min_measured` by what a wrong value costs: a label or a truth to judge by is kept for good and
    asks for 0.5 of the pixels; a sample for the calibration is one of many, outliers among them are rejected, and the
    cheap sensors that need it have many holes, so that 0.25 will do.

    Args:
        depth: Float [rows, columns] in any unit; NaN = not measured. Of any resolution, with the image's aspect ratio.
        box: In pixels of the image.
        width: Of the image, in pixels.
        height: Of the image, in pixels.
        min_measured: Smallest share of the central half that must be measured, in [0, 1].

    Returns:
        The median in the unit of `depth`; NaN where too little is measured, or where the box lies outside or covers
        less than a pixel of the depth image.
    """
    rows, columns = depth.shape
    across, down = columns / width, rows / height
    scaled = Box(box.x1 * across, box.y1 * down, box.x2 * across, box.y2 * down)
    try:
        middle = depth[central_half(scaled, columns, rows)]
    except BadObjectError:
        return float("nan")
    measured = middle[~np.isnan(middle)]
    if not measured.size or measured.size < min_measured * middle.size:
        return float("nan")
    return float(np.median(measured))


def same_aspect(columns: int, rows: int, width: int, height: int) -> bool:
    """Whether a depth image of columns x rows pixels has the aspect ratio of an image of width x height pixels."""
    return abs(columns * height - rows * width) <= ASPECT_TOLERANCE * rows * width


def _check_map(values: NDArray[Any], what: str, unit: str, integers: bool = False) -> None:
    allowed = "fiu" if integers else "f"
    if values.ndim != 2 or values.dtype.kind not in allowed:
        expected = "numbers" if integers else f"float {unit}"
        raise BadImageError(
            f"{what} is {values.dtype} of shape {list(values.shape)}; expected {expected} [height, width]"
            + ("" if integers else " (divide millimetres by 1000)")
        )
