"""Where the depth of an image comes from: a folder of depth maps, or a depth-estimation model.

Promises: what a map's numbers mean is said by who builds the data set, never guessed: metres, millimetres or disparity;
an 8-bit or palette image is never taken for millimetres. Whatever the source, what comes out is disparity (higher =
nearer, any scale), from which relative depth follows by the one definition in `proxqa_core.depth`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from proxqa_core.depth import disparity_of, same_aspect
from proxqa_core.errors import BadImageError, ProxqaError, reason_of

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
            disparity = to_disparity(read_map(path), self.unit, path)
        except BadImageError as error:
            return str(error)
        (rows, columns), (height, width) = disparity.shape, image.shape[:2]
        if not same_aspect(columns, rows, width, height):
            return (
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


class DepthModel:
    """Any depth-estimation model of Hugging Face; its larger numbers are nearer, or metres where it says so.

    Args:
        source: An id or a folder. unit: What the model predicts: disparity (MiDaS, Depth Anything) or metres.
        device: Of torch. batch_size: Images at once.

    Raises:
        ProxqaError: It cannot be loaded.
    """

    def __init__(
        self, source: str, unit: DepthUnit = DepthUnit.DISPARITY, device: str = "auto", batch_size: int = 8
    ) -> None:
        import torch
        from transformers import AutoImageProcessor, AutoModelForDepthEstimation

        from proxqa_core.model.loading import choose_device

        self.batch_size, self._unit, self._device = batch_size, unit, choose_device(device)
        local = Path(source).exists()
        try:
            self._processor = AutoImageProcessor.from_pretrained(source, local_files_only=local)
            model = AutoModelForDepthEstimation.from_pretrained(
                source, local_files_only=local, use_safetensors=True, trust_remote_code=False
            )
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise ProxqaError(
                f"depth model {source!r} cannot be loaded: {str(error).strip().splitlines()[0]}"
            ) from error
        self._model, self._no_grad = model.to(self._device).eval(), torch.inference_mode

    def disparities(self, images: Sequence[tuple[str, NDArray[np.uint8]]]) -> list[NDArray[np.float64] | str]:
        """See `DepthSource.disparities`."""
        inputs = self._processor(images=[Image.fromarray(image) for _, image in images], return_tensors="pt")
        with self._no_grad():
            predicted = self._model(**inputs.to(self._device)).predicted_depth.float().cpu().numpy()
        return [
            to_disparity(p.squeeze(), self._unit, Path(name)) for p, (name, _) in zip(predicted, images, strict=True)
        ]
