"""Make3D: photographs with a coarse grid of laser depths.

Promises: images are paired with their grids by name, whatever is missing is counted; a grid comes as metres along each
ray, infinity where the laser had no return, NaN where nothing was measured; v5 and v7.3 files, whose axes differ, give
the same array. Knows nothing of objects: Make3D has none.

Source: Make3D, Saxena et al. 2009: ``img-NAME.jpg`` and ``depth_sph_corr-NAME.mat``, variable ``Position3DGrid``
[55, 305, 4], whose last channel is the depth along the ray. The usual protocol (C1) leaves out depths of 70 m and more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proxqa_core.datasets.folder import BadDatasetError
from proxqa_core.datasets.reading import ReadReport
from proxqa_core.errors import ProxqaError, reason_of

VARIABLE = "Position3DGrid"
ON_ITS_SIDE = "image that lies on its side, wider than high; the grids are of upright ones"
ROWS, COLUMNS = 55, 305
"""Of the grid: rows over the image's height, columns over its width."""
NO_RETURN_M = 80.0
"""Depths from here on mean that the laser had no return (about 81 m in the files)."""
C1_LIMIT_M = 70.0
"""The usual protocol judges depths below this only."""


@dataclass(frozen=True)
class Make3DImage:
    """One photograph. name: what image and grid share. image, grid: their files."""

    name: str
    image: Path
    grid: Path

    def load_depth(self) -> NDArray[np.float32]:
        """The grid, float32 [55, 305], metres along the ray: infinity = no return, NaN = not measured.

        Raises:
            BadDatasetError: The file is damaged, has no such variable, or one of another shape.
            ProxqaError: The library that reads it is not installed.
        """
        grid = read_position_grid(self.grid)
        depth = grid[..., 3].astype(np.float32)
        depth[~(depth > 0)] = np.nan
        depth[depth >= NO_RETURN_M] = np.inf
        return depth


def make3d_images(images: Path, grids: Path, report: ReadReport | None = None) -> Iterator[Make3DImage]:
    """The photographs of a folder that have a grid, by name.

    Args:
        images: Folder such as ``Test134``.
        grids: Folder such as ``Gridlaserdata``.
        report: Counts images without a grid and grids without an image.

    Raises:
        BadDatasetError: A folder does not exist, or no image has a grid.
    """
    for folder in (images, grids):
        if not folder.is_dir():
            raise BadDatasetError(f"{folder}: no such folder; expected Make3D's images and its grids of depth")
    named = {p.stem.removeprefix("img-"): p for p in sorted(images.glob("img-*.jpg"))}
    measured = {p.stem.removeprefix("depth_sph_corr-"): p for p in sorted(grids.glob("depth_sph_corr-*.mat"))}
    if not named.keys() & measured.keys():
        raise BadDatasetError(f"{images}: no img-NAME.jpg has a depth_sph_corr-NAME.mat in {grids}")
    for name in sorted(named.keys() | measured.keys()):
        if name in named and name in measured:
            yield Make3DImage(name, named[name], measured[name])
        elif report is not None:
            report.add("image without a grid" if name in named else "grid without an image", name)


def read_position_grid(path: Path) -> NDArray[np.float64]:
    """``Position3DGrid`` of a .mat file of either version, [55, 305, 4].

    Raises:
        BadDatasetError: See `Make3DImage.load_depth`.
        ProxqaError: scipy, or h5py for a v7.3 file, is not installed.
    """
    try:
        grid = _read_hdf5(path) if _is_hdf5(path) else _read_v5(path)
    except ImportError as error:
        raise ProxqaError(f"{path}: needs {error.name}; pip install scipy h5py") from error
    except ProxqaError:
        raise
    except Exception as error:  # the readers raise whatever a damaged file leads them into
        raise BadDatasetError(f"{path}: cannot be read as a .mat file ({reason_of(error)[:80]})") from error
    if grid.shape != (ROWS, COLUMNS, 4) or grid.dtype.kind != "f":
        raise BadDatasetError(
            f"{path}: {VARIABLE} is {grid.dtype} {list(grid.shape)}; expected numbers [{ROWS}, {COLUMNS}, 4]"
        )
    return grid.astype(np.float64)


def _is_hdf5(path: Path) -> bool:
    """A v7.3 file is HDF5 behind a header of 512 bytes."""
    try:
        with path.open("rb") as file:
            return b"MATLAB 7.3" in file.read(128)
    except OSError as error:
        raise BadDatasetError(f"{path}: cannot be read ({error.strerror})") from error


def _read_v5(path: Path) -> NDArray[Any]:
    from scipy.io import loadmat

    found = loadmat(path, variable_names=[VARIABLE])
    if VARIABLE not in found:
        raise BadDatasetError(f"{path}: has no variable {VARIABLE}")
    return np.asarray(found[VARIABLE])


def _read_hdf5(path: Path) -> NDArray[Any]:
    import h5py

    with h5py.File(path, "r") as file:
        if VARIABLE not in file:
            raise BadDatasetError(f"{path}: has no variable {VARIABLE}")
        return np.asarray(file[VARIABLE]).T  # MATLAB counts columns first


def lies_on_its_side(width: int, height: int) -> bool:
    """Whether an image of width x height is none that a grid can be laid over: those are upright, higher than wide.

    A copy that was turned would get the depths of other places, without a word.
    """
    return width > height


def cells_of_box(box: tuple[float, float, float, float], width: int, height: int) -> tuple[slice, slice]:
    """Rows and columns of the grid under a box (x1, y1, x2, y2, pixels) of an image of width x height, one at least."""
    x1, y1, x2, y2 = box

    def span(low: float, high: float, size: int, cells: int) -> slice:
        start = min(max(0, math.floor(low / size * cells)), cells - 1)
        return slice(start, max(start + 1, min(cells, math.ceil(high / size * cells))))

    return span(y1, y2, height, ROWS), span(x1, x2, width, COLUMNS)
