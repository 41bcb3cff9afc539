"""Where the depth of an image comes from: depth maps, the grids of Make3D, or a depth-estimation model.

Promises: what a map's numbers mean is said by who builds the data set, never guessed: metres, millimetres or disparity;
an 8-bit or palette image is never taken for millimetres. Whatever the source, what comes out is disparity (higher =
nearer, any scale), from which relative depth follows by the one definition in `proxqa_core.depth`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from proxqa_core.datasets.folder import BadDatasetError, Record
from proxqa_core.datasets.folder_records import FolderRecords
from proxqa_core.datasets.make3d import C1_LIMIT_M, ON_ITS_SIDE, Make3DImage, lies_on_its_side
from proxqa_core.depth import disparity_of, same_aspect
from proxqa_core.errors import BadImageError, ProxqaError, first_line_of, reason_of
from proxqa_core.memory import is_out_of_memory

SUFFIXES = (".png", ".npy", ".tif", ".tiff")
FAR_MM = 65535
"""In 16-bit maps in millimetres: beyond every range (sky)."""


class DepthUnit(str, Enum):
    """What the numbers of a depth map are."""

    MILLIMETRES = "mm"  # 16 bits or more, 0 = not measured, 65535 = beyond range
    METRES = "m"  # floating point; NaN and 0 = not measured, infinity = beyond range
    DISPARITY = "disparity"  # any type, higher = nearer, any scale and offset


class DepthSource(Protocol):
    """Gives the disparity of images."""

    @property
    def batch_size(self) -> int:
        """How many images it takes at once."""
        ...

    def disparities(self, images: Sequence[tuple[str, NDArray[np.uint8]]]) -> list[NDArray[np.float64] | str]:
        """Of (name, uint8 [h, w, 3] RGB) images: disparity [rows, columns], NaN = not known; or why there is none."""
        ...


@dataclass(frozen=True)
class DepthMaps:
    """A folder with a map for every image, of the image's path with another ending.

    Args:
        folder: Of the maps.
        unit: What their numbers are.
    """

    folder: Path
    unit: DepthUnit
    batch_size: int = 8

    def disparities(self, images: Sequence[tuple[str, NDArray[np.uint8]]]) -> list[NDArray[np.float64] | str]:
        """See `DepthSource.disparities`."""
        return [self._one(name, image) for name, image in images]

    def _one(self, name: str, image: NDArray[np.uint8]) -> NDArray[np.float64] | str:
        path = next((p for s in SUFFIXES if (p := (self.folder / name).with_suffix(s)).is_file()), None)
        if path is None:
            return "no depth map"
        try:
            return _aligned(to_disparity(read_map(path), self.unit, path), image, path)
        except BadImageError as error:
            return str(error)


def _aligned(disparity: NDArray[np.float64], image: NDArray[np.uint8], path: Path) -> NDArray[np.float64]:
    """The disparity of a map, which may be of another resolution than the image.

    Raises:
        BadImageError: It has another aspect ratio, and so shows something else.
    """
    (rows, columns), (height, width) = disparity.shape, image.shape[:2]
    if not same_aspect(columns, rows, width, height):
        raise BadImageError(
            f"{path}: is {columns}x{rows}, the image {width}x{height}; expected a map of the image's aspect ratio"
        )
    return disparity


def read_map(path: Path) -> NDArray[Any]:
    """The numbers of a map, [rows, columns], as they are stored.

    Raises:
        BadImageError: It cannot be read, is in colour, or has a palette, whose numbers are no depths.
    """
    try:
        if path.suffix == ".npy":
            values = np.load(path, allow_pickle=False)
        else:
            with Image.open(path) as file:
                if file.mode == "P":
                    raise BadImageError(f"{path}: has a palette, whose numbers are no depths; expected plain numbers")
                values = np.asarray(file)
    except BadImageError:
        raise
    except (OSError, ValueError, EOFError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise BadImageError(f"{path}: cannot be read ({reason_of(error)[:80]})") from error
    if values.ndim != 2 or values.dtype.kind not in "uif":
        raise BadImageError(f"{path}: is {values.dtype} {list(values.shape)}; expected numbers [rows, columns]")
    return values


def to_disparity(values: NDArray[Any], unit: DepthUnit, path: Path) -> NDArray[np.float64]:
    """A map's numbers as disparity, NaN = not known.

    Raises:
        BadImageError: The numbers cannot be what they are said to be.
    """
    if unit is DepthUnit.DISPARITY:
        return np.where(np.isfinite(values), values, np.nan).astype(np.float64)
    if unit is DepthUnit.MILLIMETRES:
        if values.dtype.kind not in "ui" or values.dtype.itemsize < 2:
            raise BadImageError(f"{path}: is {values.dtype}; millimetres need whole numbers of 16 bits or more")
        metres = np.where(values == FAR_MM, np.inf, values / 1000.0)
        return disparity_of(metres)
    if values.dtype.kind != "f":
        raise BadImageError(f"{path}: is {values.dtype}; metres need floating-point numbers")
    return disparity_of(values)


@dataclass(frozen=True)
class FolderMaps:
    """The depth maps that a labelled folder's records name, in their own unit (`Record.load_depth`).

    Args:
        folder: With annotations.json, which is read once, as a stream; the maps' names are kept.
    """

    folder: Path
    batch_size: int = 8

    def disparities(self, images: Sequence[tuple[str, NDArray[np.uint8]]]) -> list[NDArray[np.float64] | str]:
        """See `DepthSource.disparities`."""
        return [self._one(name, image) for name, image in images]

    def _one(self, name: str, image: NDArray[np.uint8]) -> NDArray[np.float64] | str:
        depth_map, metres_per_count = self._maps.get(name, (None, None))
        if depth_map is None:
            return "no depth map"
        height, width = image.shape[:2]
        record = Record(self.folder, name, width, height, (), depth_map, metres_per_count=metres_per_count)
        try:
            return _aligned(disparity_of(record.load_depth()), image, self.folder / depth_map)
        except BadImageError as error:
            return str(error)

    @cached_property
    def _maps(self) -> dict[str, tuple[str | None, float | None]]:
        return {r.image: (r.depth_map, r.metres_per_count) for r in FolderRecords(self.folder)}


@dataclass(frozen=True)
class Make3DGrids:
    """Make3D's laser depths below 70 m (protocol C1), ``depth_sph_corr-NAME.mat`` for ``img-NAME.jpg``.

    Args:
        folder: Of the grids.
    """

    folder: Path
    batch_size: int = 8

    def disparities(self, images: Sequence[tuple[str, NDArray[np.uint8]]]) -> list[NDArray[np.float64] | str]:
        """See `DepthSource.disparities`; of a quarter of each image's resolution."""
        sizes = [(name, image.shape[1], image.shape[0]) for name, image in images]
        return [
            ON_ITS_SIDE if lies_on_its_side(width, height) else self._one(name, width // 4, height // 4)
            for name, width, height in sizes
        ]

    def _one(self, name: str, columns: int, rows: int) -> NDArray[np.float64] | str:
        grid = self.folder / f"depth_sph_corr-{Path(name).stem.removeprefix('img-')}.mat"
        if not grid.is_file():
            return "no grid of depths"
        try:
            metres = Make3DImage(name, Path(name), grid).load_depth()
        except BadDatasetError as error:
            return str(error)
        metres[~(metres < C1_LIMIT_M)] = np.nan
        # the grid covers the whole image, with cells that are not square: every pixel takes that of its cell
        down = np.arange(rows) * metres.shape[0] // max(1, rows)
        across = np.arange(columns) * metres.shape[1] // max(1, columns)
        return disparity_of(metres[np.ix_(down, across)])


class DepthModel:
    """Any depth-estimation model of Hugging Face; its larger numbers are nearer, or metres where it is said so.

    On a CPU it computes in one thread, so that the numbers do not hang on how many processes share the machine.

    Args:
        source: An id or a folder.
        unit: What it predicts: disparity (MiDaS, Depth Anything) or metres (ZoeDepth, Depth Pro).
        device: Of torch.
        batch_size: Images at once; only images of one size go through it together.

    Raises:
        ProxqaError: It cannot be loaded, or by its own configuration predicts something else.
    """

    def __init__(
        self, source: str, unit: DepthUnit = DepthUnit.DISPARITY, device: str = "auto", batch_size: int = 8
    ) -> None:
        from transformers import AutoImageProcessor, AutoModelForDepthEstimation
        from transformers.utils import logging as hf_logging

        from proxqa_core.model.loading import choose_device

        self.batch_size, self._unit, self._device = batch_size, unit, choose_device(device)
        local, bars = Path(source).exists(), hf_logging.is_progress_bar_enabled()
        hf_logging.disable_progress_bar()  # one for each process that labels
        try:
            self._processor = AutoImageProcessor.from_pretrained(source, local_files_only=local)
            model = AutoModelForDepthEstimation.from_pretrained(
                source, local_files_only=local, use_safetensors=True, trust_remote_code=False
            )
        except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
            raise ProxqaError(f"depth model {source!r} cannot be loaded: {first_line_of(error)}") from error
        finally:
            if bars:
                hf_logging.enable_progress_bar()
        _check_unit(source, model.config, unit)
        self._model = model.to(self._device).eval()

    def disparities(self, images: Sequence[tuple[str, NDArray[np.uint8]]]) -> list[NDArray[np.float64] | str]:
        """See `DepthSource.disparities`; of the images' own resolution."""
        found: dict[int, NDArray[np.float64] | str] = {}
        sizes = [image.shape[:2] for _, image in images]
        for size in dict.fromkeys(sizes):  # others would not be resized to one shape by models that keep the ratio
            alike = [i for i, other in enumerate(sizes) if other == size]
            found |= zip(alike, self._of_one_size([images[i] for i in alike], size), strict=True)
        return [found[i] for i in range(len(images))]

    def _of_one_size(
        self, images: Sequence[tuple[str, NDArray[np.uint8]]], size: tuple[int, ...]
    ) -> list[NDArray[np.float64] | str]:
        """Disparities of images of one size; where a model fails on them together, of each alone."""
        try:
            predicted = self._predicted([image for _, image in images], size)
        except Exception as error:  # models and their processors raise whatever an odd image leads them into
            if is_out_of_memory(error):
                raise
            if len(images) == 1:
                return [f"{images[0][0]}: depth model cannot predict it ({reason_of(error)[:80]})"]
            return [self._of_one_size([image], size)[0] for image in images]
        pairs = zip(predicted, images, strict=True)
        return [to_disparity(depth, self._unit, Path(name)) for depth, (name, _) in pairs]

    def _predicted(self, images: list[NDArray[np.uint8]], size: tuple[int, ...]) -> list[NDArray[Any]]:
        """What the model says of images of one size, by its own processor: without its padding, and never inverted."""
        import torch

        inputs = self._processor(images=[Image.fromarray(image) for image in images], return_tensors="pt")
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with torch.inference_mode():
                outputs = self._model(**inputs.to(self._device))
                # by position, as transformers' own pipeline does: source_sizes in ZoeDepth, target_sizes elsewhere
                made = self._processor.post_process_depth_estimation(outputs, [size] * len(images))
        finally:
            torch.set_num_threads(threads)
        return [one["predicted_depth"].float().cpu().numpy() for one in made]


METRIC_MODELS = ("zoedepth", "depth_pro", "glpn")
"""Types of models whose predictions are metres."""


def _check_unit(source: str, config: Any, unit: DepthUnit) -> None:
    """The unit that was said is not another than that of the model, where its configuration tells."""
    kind = getattr(config, "depth_estimation_type", "metric" if config.model_type in METRIC_MODELS else None)
    stated = {"metric": DepthUnit.METRES, "relative": DepthUnit.DISPARITY}.get(str(kind))
    if unit is DepthUnit.MILLIMETRES or (stated is not None and stated is not unit):
        expected = "m or disparity" if stated is None else stated.value
        raise BadDatasetError(f"depth model {source!r} predicts {expected} by its configuration; said was {unit.value}")
