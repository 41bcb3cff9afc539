"""Labelled folders: images with named, boxed objects and, where there is one, measured depth.

Promises: a record that is handed out is valid; what is wrong is reported in one line that names the file, the record
and the field. Records are checked as they are reached and images are read only when asked for. Knows nothing of models
or metrics.

The format is `annotations.json`, a list of
`{image, width, height, objects: [{name, box: [x1, y1, x2, y2], depth_m?, depth?, ref?, unique?, visible?, colour?,
mask_id?}], depth_map?, metres_per_count?, mask_map?, source?, visible_names?}`: paths are relative to the folder, boxes
in pixels, depth_m in metres along the optical axis, depth relative in [0, 1]. ref is a phrase that means the object
alone in its image, null where there is none; where the field is left out, the name serves if no other object has it.
depth_map is a 16-bit PNG in millimetres, 0 = not measured, 65535 = sky; metres_per_count is the metres of one count
where they are not 0.001 (0.0002 in TUM's images, 0.00390625 in KITTI's), and a map of 8 bits or of floats needs it;
mask_map an 8-bit PNG of each object's mask_id. visible_names are the names of everything in view, labelled or not;
where the field is left out, other things may be in view. Other fields are left alone.
"""

from __future__ import annotations

import copy
import json
import math
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proxqa_core.depth import disparity_of, disparity_percentiles, object_relative_depth, relative_of_disparity
from proxqa_core.errors import BadImageError, BadObjectError, ProxqaError, reason_of
from proxqa_core.types import Box, ObjectQuery, clean_text
from proxqa_core.vision.image_file import read_image, read_raw

ANNOTATIONS = "annotations.json"
NUMBERED_BOXES = "boxes.json"
"""Boxes drawn in numbered images, by their numbers: {"12": [{"name": "chair", "box": [x1, y1, x2, y2]}]}."""
SKY = 65535
"""Value in a depth map that means beyond every range."""
METRES_PER_MM = 0.001
"""Metres of one count of a depth map, where its record does not say otherwise."""


class BadDatasetError(ProxqaError, ValueError):
    """A labelled folder cannot be used; the message names the file, the record and the field."""


@dataclass(frozen=True)
class LabelledObject:
    """One object of an image, as labelled.

    Attributes:
        name: What it is called.
        box: In pixels of the image.
        depth_m: Metres along the optical axis, None = not given.
        depth: Relative depth in [0, 1], None = not given.
        ref: A phrase that means it alone, None = ambiguous.
        unique: No other object of the image has its name.
        visible: Share of it that is not hidden, in [0, 1], NaN = not given.
        colour: '' = not given.
        mask_id: Its number in the mask map, None = not given.
    """

    name: str
    box: Box
    depth_m: float | None = None
    depth: float | None = None
    ref: str | None = None
    unique: bool = False
    visible: float = math.nan
    colour: str = ""
    mask_id: int | None = None


@dataclass(frozen=True)
class Record:
    """One image with its objects.

    Attributes:
        folder: The folder of the data set.
        image: Path of the image, relative to `folder`.
        width: In pixels.
        height: In pixels.
        objects: The labelled objects.
        depth_map: Path of the depth map, relative to `folder`; None = there is none.
        metres_per_count: Metres of one count of the depth map; None = not given: millimetres.
        mask_map: Path of the mask map, relative to `folder`; None = there is none.
        source: Where the image is from, '' = not given.
        visible_names: Names of everything in view, labelled or not; None = not given.
        unboxed_names: Names of what is in view too without a box that can be used, such as COCO's crowds.
    """

    folder: Path
    image: str
    width: int
    height: int
    objects: tuple[LabelledObject, ...]
    depth_map: str | None = None
    mask_map: str | None = None
    source: str = ""
    visible_names: tuple[str, ...] | None = None
    metres_per_count: float | None = None
    unboxed_names: tuple[str, ...] = ()

    def load_image(self) -> NDArray[np.uint8]:
        """Read the image.

        Returns:
            uint8 [height, width, 3], RGB.

        Raises:
            BadImageError: The file is missing, damaged or of another size.
        """
        image = read_image(self.folder / self.image)
        if image.shape[:2] != (self.height, self.width):
            raise BadImageError(
                f"{self.folder / self.image}: is {image.shape[1]}x{image.shape[0]} pixels, but its record says "
                f"{self.width}x{self.height}"
            )
        return image

    def load_depth(self) -> NDArray[np.float32]:
        """Read the depth map.

        Returns:
            Metres along the optical axis, float32 [rows, columns]: NaN = not measured, infinity = sky.

        Raises:
            BadDatasetError: The record has none.
            BadImageError: The file is missing or damaged, holds colours, or has 8 bits or floats and no
                `metres_per_count` says what they mean: such a map is mostly a disparity, or a picture of one.
        """
        if self.depth_map is None:
            raise BadDatasetError(f"{self.folder / ANNOTATIONS}: {self.image} has no depth_map")
        file = self.folder / self.depth_map
        raw = read_raw(file, palette=False)
        counted = raw.dtype.kind in "ui" and raw.dtype.itemsize > 1
        if raw.dtype.kind == "b" or not (counted or self.metres_per_count):
            what = "8 bit, as pictures of disparity are" if raw.dtype == np.uint8 else raw.dtype
            raise BadImageError(
                f"{file}: is {what}; expected a 16-bit PNG in millimetres, or 'metres_per_count' in its record: the "
                "metres of one count"
            )
        return metres_of(raw, self.metres_per_count or METRES_PER_MM)

    def load_masks(self) -> NDArray[Any] | None:
        """Read the mask map.

        Returns:
            The mask_id of every pixel, [rows, columns], 0 = no object; None where the record has none.

        Raises:
            BadImageError: The file is missing or damaged.
        """
        return None if self.mask_map is None else read_raw(self.folder / self.mask_map)

    def relative_depths(self) -> tuple[float, ...]:
        """Each object's relative depth by the best that is known of it.

        That is its labelled `depth`; else its `depth_m` on the scale of the depth map; else the depth map within its
        box. depth_m comes before the box since it was measured on the object, while a box may show what is behind.

        Returns:
            One value in [0, 1] for every object, NaN where nothing is known.

        Raises:
            BadImageError: The depth map is needed, and is missing or damaged.
        """
        if self.depth_map is None or all(o.depth is not None for o in self.objects):
            return tuple(math.nan if o.depth is None else o.depth for o in self.objects)
        disparity = disparity_of(self.load_depth())
        low, high = disparity_percentiles(disparity)
        relative = relative_of_disparity(disparity, low, high)
        return tuple(self._relative_depth(o, relative, low, high) for o in self.objects)

    def _relative_depth(self, o: LabelledObject, relative: NDArray[np.float32], low: float, high: float) -> float:
        """One object's. relative: the depth map as relative depth. low, high: percentiles of its disparity."""
        if o.depth is not None:
            return o.depth
        if o.depth_m is not None and math.isfinite(low):
            return float(relative_of_disparity(1 / o.depth_m, low, high))
        rows, columns = relative.shape
        across, down = columns / self.width, rows / self.height
        x1, y1, x2, y2 = o.box.xyxy
        try:
            return object_relative_depth(relative, Box(x1 * across, y1 * down, x2 * across, y2 * down))
        except BadObjectError:  # less than a pixel of a small depth map
            return math.nan


def metres_of(raw: NDArray[Any], unit: float = METRES_PER_MM) -> NDArray[np.float32]:
    """A stored depth map in metres.

    Args:
        raw: Numbers [rows, columns]: 0, below or not finite = not measured, SKY = beyond every range.
        unit: Metres of one count.

    Returns:
        float32 [rows, columns]: NaN = not measured, infinity = sky.
    """
    if unit == METRES_PER_MM:  # exact to the last bit, unlike a product with 0.001
        metres: NDArray[np.float32] = raw.astype(np.float32) / np.float32(1000)
    else:
        metres = (raw.astype(np.float64) * unit).astype(np.float32)
    metres[~(np.isfinite(raw) & (raw > 0))] = np.nan
    metres[raw == SKY] = np.inf
    return metres


class LabelledFolder:
    """A folder with `annotations.json`. Iterating reads records one by one; `records` is all of them.

    Args:
        path: The folder.

    Attributes:
        raw: The list of the JSON file, unchecked.

    Raises:
        BadDatasetError: The folder or its annotations cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._file = self.path / ANNOTATIONS
        try:
            raw = json.loads(self._file.read_text(encoding="utf-8-sig"))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise BadDatasetError(f"{self._file}: no such file; expected a folder with {ANNOTATIONS}") from error
        except OSError as error:
            raise BadDatasetError(f"{self._file}: cannot be read ({error.strerror})") from error
        except (ValueError, RecursionError) as error:
            raise BadDatasetError(f"{self._file}: is no JSON ({reason_of(error)[:100]})") from error
        if not isinstance(raw, list):
            raise BadDatasetError(f"{self._file}: holds a {type(raw).__name__}; expected a list of records")
        self.raw: list[Any] = raw

    def __len__(self) -> int:
        return len(self.raw)

    def __iter__(self) -> Iterator[Record]:
        for i, raw in enumerate(self.raw):
            yield record_of(self.path, f"{self._file}: record {i}", raw)

    @cached_property
    def records(self) -> tuple[Record, ...]:
        """All records, checked."""
        return tuple(self)

    def subset(self, numbers: Sequence[int]) -> LabelledFolder:
        """The same folder with some of its records.

        Args:
            numbers: Which, counted from 0, in the order wanted.
        """
        part = copy.copy(self)
        part.__dict__.pop("records", None)
        part.raw = [self.raw[i] for i in numbers]
        return part


def record_of(folder: Path, where: str, raw: Any) -> Record:
    """A record of a labelled folder.

    Args:
        folder: The folder of the data set.
        where: Which object of which file it is, for messages.
        raw: The object of the JSON file.

    Raises:
        BadDatasetError: A field cannot be used.
    """
    return _RecordReader(folder, where, raw).record()


@dataclass(frozen=True)
class _RecordReader:
    """One JSON object being read.

    Attributes:
        folder: The folder of the data set.
        where: Which object of which file it is, for messages.
        raw: The object.
    """

    folder: Path
    where: str
    raw: Any

    def __post_init__(self) -> None:
        if not isinstance(self.raw, dict):
            raise BadDatasetError(f"{self.where}: is {_short(self.raw)}; expected an object with fields")

    def fail(self, name: str, expected: str) -> BadDatasetError:
        came = f"is {_short(self.raw[name])}" if name in self.raw else "is missing"
        return BadDatasetError(f"{self.where}: field {name!r} {came}; expected {expected}")

    def record(self) -> Record:
        image = self.path("image")
        if image is None:
            raise self.fail("image", "a path in the folder")
        named = _RecordReader(self.folder, f"{self.where} ({image})", self.raw)
        width, height = named.whole("width"), named.whole("height")
        if not width or not height:
            raise named.fail("height" if width else "width", "a size in pixels")
        raws = self.raw.get("objects", [])
        if not isinstance(raws, list):
            raise named.fail("objects", "a list")
        readers = [_RecordReader(self.folder, f"{named.where} objects[{i}]", raw) for i, raw in enumerate(raws)]
        names = Counter(r.text("name") for r in readers)
        objects = tuple(r.object(names, width, height) for r in readers)
        return Record(
            self.folder,
            image,
            width,
            height,
            objects,
            named.path("depth_map"),
            named.path("mask_map"),
            named.text("source") or "",
            named.names("visible_names"),
            named.metres_per_count(),
        )

    def metres_per_count(self) -> float | None:
        unit = self.number("metres_per_count")
        if unit is not None and unit <= 0:
            raise self.fail("metres_per_count", "the metres of one count, above 0, such as 0.001 for millimetres")
        return unit

    def object(self, names: Counter[str | None], width: int, height: int) -> LabelledObject:
        name = self.text("name")
        if not name:
            raise self.fail("name", "a name such as 'chair'")
        depth_m, depth = self.number("depth_m"), self.number("depth")
        if depth_m is not None and depth_m <= 0:
            raise self.fail("depth_m", "metres above 0")
        if depth is not None and not 0 <= depth <= 1:
            raise self.fail("depth", "a relative depth in [0, 1]")
        unique = names[name] == 1
        ref = self.text("ref") if "ref" in self.raw else (name if unique else None)
        self._check_name("name", name)
        if ref is not None:
            self._check_name("ref", ref)
        visible = self.number("visible")
        return LabelledObject(
            name,
            self.box(width, height),
            depth_m,
            depth,
            ref,
            bool(self.raw.get("unique", unique)),
            math.nan if visible is None else visible,
            self.text("colour") or "",
            self.whole("mask_id"),
        )

    def _check_name(self, field: str, value: str) -> None:
        try:
            ObjectQuery(value)
        except BadObjectError as error:
            raise self.fail(field, f"an object name ({error})") from error

    def box(self, width: int, height: int) -> Box:
        expected = "[x1, y1, x2, y2] in pixels, x1 < x2, y1 < y2, inside the image"
        raw = self.raw.get("box")
        if not isinstance(raw, list) or len(raw) != 4 or not all(map(is_finite, raw)):
            raise self.fail("box", expected)
        try:
            box = Box(*(float(v) for v in raw))
            box.clipped(width, height)
        except BadObjectError as error:
            raise self.fail("box", expected) from error
        return box

    def text(self, name: str) -> str | None:
        value = self.raw.get(name)
        if value is not None and not isinstance(value, str):
            raise self.fail(name, "text")
        return value

    def names(self, name: str) -> tuple[str, ...] | None:
        value = self.raw.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(v, str) and clean_text(v) for v in value):
            raise self.fail(name, "a list of names")
        return tuple(value)

    def number(self, name: str) -> float | None:
        value = self.raw.get(name)
        if value is None:
            return None
        if not is_finite(value):
            raise self.fail(name, "a finite number")
        return float(value)

    def whole(self, name: str) -> int | None:
        value = self.number(name)
        if value is not None and (value < 0 or value != int(value)):
            raise self.fail(name, "a whole number from 0")
        return None if value is None else int(value)

    def path(self, name: str) -> str | None:
        """A path inside the folder: annotations are data from outside and may not point elsewhere."""
        value = self.text(name)
        if value is None:
            return None
        parts = Path(value).parts
        if not parts or "\x00" in value or Path(value).is_absolute() or ".." in parts:
            raise self.fail(name, "a path inside the folder")
        return value


def is_finite(value: object) -> bool:
    """Whether it is a number that a float can be, of which whole numbers of 400 digits are none."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return abs(value) <= sys.float_info.max


def _short(value: object) -> str:
    try:
        text = repr(value)
    except RecursionError:  # nested too deep to be written
        text = type(value).__name__
    return text if len(text) <= 60 else text[:57] + "…"
