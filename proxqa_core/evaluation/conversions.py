"""How images with boxes and measured depth become items of a benchmark: GQA, Make3D, labelled folders.

Promises: deterministic: which objects and pairs are taken, and which of a pair is called A, hangs on the seed and the
item alone, not on the other images. Whatever is left out is counted with its reason. Nothing is asked of which the
truth is not clear. The choices, which the paper leaves open, are those of `ConversionConfig`; docs/benchmarks.md says
why.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proxqa_core.datasets.benchmarks import HowDeep, WhichCloser, coin
from proxqa_core.datasets.depth_source import DepthSource
from proxqa_core.datasets.folder import BadDatasetError, LabelledObject, Record
from proxqa_core.datasets.make3d import C1_LIMIT_M, ON_ITS_SIDE, Make3DImage, lies_on_its_side
from proxqa_core.datasets.reading import ReadReport
from proxqa_core.depth import central_half, relative_depth_map, relative_disparity_map
from proxqa_core.errors import BadImageError, ProxqaError
from proxqa_core.evaluation.metrics import MIN_GAP
from proxqa_core.types import Box
from proxqa_core.vision.image_file import read_image

REGION_NAMES = (
    ("top left region", "top region", "top right region"),
    ("left region", "central region", "right region"),
    ("bottom left region", "bottom region", "bottom right region"),
)
"""What the parts of an image are called where no objects are known: rows from the top, columns from the left."""


class BadConversionError(ProxqaError, ValueError):
    """A benchmark cannot be made so; the message says what came and what was expected."""


@dataclass(frozen=True)
class ConversionConfig:
    """What is asked about.

    Attributes:
        seed: All chance comes from it and the item's id.
        min_gap: Two objects make a pair if their depths differ by at least this (see `gap_of`).
        min_area, max_area: Shares of the image that a box must, and may, cover.
        max_spread: Widest interquartile range of relative depth within the middle of a box.
        max_overlap: Largest share of the smaller box of a pair that the other one may cover.
        min_measured: Least share of the middle of a box whose depth must be known.
        objects_per_image, pairs_per_image: At most so many of an image.

    Raises:
        BadConversionError: A number is out of range.
    """

    seed: int = 0
    min_gap: float = MIN_GAP
    min_area: float = 0.005
    max_area: float = 0.7
    max_spread: float = 0.15
    max_overlap: float = 0.5
    min_measured: float = 0.5
    objects_per_image: int = 5
    pairs_per_image: int = 5

    def __post_init__(self) -> None:
        for name in ("min_gap", "min_area", "max_area", "max_spread", "max_overlap", "min_measured"):
            if not 0 <= (value := getattr(self, name)) <= 1:
                raise BadConversionError(f"{name} is {value}; expected a share in [0, 1]")
        for name in ("objects_per_image", "pairs_per_image"):
            if (value := getattr(self, name)) < 1:
                raise BadConversionError(f"{name} is {value}; expected at least 1")


@dataclass(frozen=True)
class MeasuredObject:
    """An object whose depth is known. depth: relative, in [0, 1]. metres: NaN = not known."""

    name: str
    box: Box
    depth: float
    metres: float = math.nan


@dataclass(frozen=True)
class Measured:
    """An image's objects. objects: those that can be asked about. left_out: (reason, name) of the others."""

    objects: tuple[MeasuredObject, ...]
    left_out: tuple[tuple[str, str], ...]

    def kept(self, image: str, report: ReadReport) -> tuple[MeasuredObject, ...]:
        """The objects; those left out are counted."""
        for reason, name in self.left_out:
            report.add(reason, f"{name} in {image}")
        return self.objects


@dataclass(frozen=True)
class Scene:
    """One image. key: what items call it. objects: those that can be asked about."""

    key: str
    image: Path
    objects: tuple[MeasuredObject, ...]


# -- scenes -----------------------------------------------------------------------------------------------------------


def scenes_of_records(
    records: Iterable[Record], depth: DepthSource, config: ConversionConfig, report: ReadReport
) -> Iterator[Scene]:
    """Images with named boxes, such as GQA's, with depth from maps or from a depth-estimation model.

    Args:
        records: The images.
        depth: Where their depth comes from.
        config: What can be asked about.
        report: Counts what is left out.
    """
    records = iter(records)
    while batch := list(itertools.islice(records, depth.batch_size)):
        loaded = [(record, image) for record in batch if (image := _loaded(record, report)) is not None]
        found = depth.disparities([(record.image, image) for record, image in loaded]) if loaded else []
        for (record, _), disparity in zip(loaded, found, strict=True):
            if isinstance(disparity, str):
                report.add(*_reason_and_example(disparity, record.image))
            else:
                relative = relative_disparity_map(disparity)
                objects = measured_objects(record.objects, relative, None, _size(record), config)
                yield Scene(record.image, record.folder / record.image, objects.kept(record.image, report))


def _reason_and_example(problem: str, image: str) -> tuple[str, str]:
    """Why an image has no depth, for counting, and the image with what was wrong."""
    what = problem.rpartition(": ")[2]
    return "image without depth", image if problem == what else f"{image} ({what})"


def _loaded(record: Record, report: ReadReport) -> NDArray[np.uint8] | None:
    try:
        return record.load_image()
    except BadImageError as error:
        report.add("image that cannot be used", f"{record.image} ({str(error).rpartition(': ')[2]})")
        return None


def _size(record: Record) -> tuple[int, int]:
    return record.width, record.height


def scenes_of_make3d(
    images: Iterable[Make3DImage], boxes: Iterable[Record] | None, config: ConversionConfig, report: ReadReport
) -> Iterator[Scene]:
    """Make3D's photographs; depths of 70 m and more, and where there was no return, are not known (protocol C1).

    Args:
        images: The photographs.
        boxes: Named boxes of the images by file name; None = ask about the nine regions of each image instead.
        config: What can be asked about.
        report: Counts what is left out.
    """
    boxed = None if boxes is None else {Path(r.image).name: r for r in boxes if Path(r.image).stem.startswith("img-")}
    for photo in images:
        try:
            pixels, metres = read_image(photo.image), photo.load_depth().astype(np.float64)
        except (BadImageError, BadDatasetError) as error:
            report.add("image or grid that cannot be used", f"{photo.name} ({str(error).rpartition(': ')[2]})")
            continue
        size = (pixels.shape[1], pixels.shape[0])
        if lies_on_its_side(*size):
            report.add(ON_ITS_SIDE, f"{photo.image.name} ({size[0]}x{size[1]})")
            continue
        objects = regions_of(*size) if boxed is None else _boxes_of(photo, boxed, size, report)
        metres[~(metres < C1_LIMIT_M)] = np.nan
        found = measured_objects(objects, relative_depth_map(metres), metres, size, config)
        yield Scene(photo.image.name, photo.image, found.kept(photo.image.name, report))


def _boxes_of(
    photo: Make3DImage, boxed: dict[str, Record], size: tuple[int, int], report: ReadReport
) -> Sequence[LabelledObject]:
    record = boxed.get(photo.image.name)
    if record is None:
        report.add("image without boxes in the COCO file", photo.image.name)
        return ()
    if _size(record) != size:
        stated = f"{record.width}x{record.height}"
        report.add("boxes for another size of the image", f"{photo.image.name} ({stated}, is {size[0]}x{size[1]})")
        return ()
    return record.objects


def regions_of(width: int, height: int) -> tuple[LabelledObject, ...]:
    """The nine equal parts of an image of width x height pixels, named by where they are."""
    found = []
    for row, names in enumerate(REGION_NAMES):
        for column, name in enumerate(names):
            corners = (column * width / 3, row * height / 3, (column + 1) * width / 3, (row + 1) * height / 3)
            found.append(LabelledObject(name, Box(*corners), ref=name, unique=True))
    return tuple(found)


def measured_objects(
    objects: Iterable[LabelledObject],
    relative: NDArray[np.float32],
    metres: NDArray[np.float64] | None,
    size: tuple[int, int],
    config: ConversionConfig,
) -> Measured:
    """Those of an image's objects that can be asked about, with their depths.

    Args:
        objects: With names and boxes.
        relative: Relative depth, [rows, columns], NaN = not known.
        metres: Metres, [rows, columns], NaN = not known; None where there are no metres.
        size: (width, height) of the image, pixels.
        config: What can be asked about.
    """
    found, left_out = [], []
    for o in objects:
        reason = _why_not_asked(o, size, config)
        values = np.empty(0)
        if not reason:
            # 1. the middle of the box, as in the definition of an object's depth
            middle = _middle(o.box, size, relative.shape)
            known = np.isfinite(relative[middle])
            values = relative[middle][known].astype(np.float64)
            # 2. whether it has one depth
            reason = _why_not_known(values, known, config)
        if reason:
            left_out.append((reason, o.name))
            continue
        depth = round(float(np.median(values)), 4)
        far = math.nan if metres is None else round(float(np.median(metres[middle][known])), 4)
        found.append(MeasuredObject(o.name, Box(*(round(v, 2) for v in o.box.xyxy)), depth, far))
    return Measured(tuple(found), tuple(left_out))


def _why_not_asked(o: LabelledObject, size: tuple[int, int], config: ConversionConfig) -> str:
    """Why an object cannot be asked about, '' = it can."""
    share = o.box.area / (size[0] * size[1])
    if o.ref is None:
        return "object that shares its name with another one of its image"
    if not config.min_area <= share <= config.max_area:
        return "object whose box is too small or too large"
    return ""


def _why_not_known(values: NDArray[np.float64], known: NDArray[np.bool_], config: ConversionConfig) -> str:
    """Why the depth of an object is not known, '' = it is. values: relative depths. known: where there are any."""
    if not values.size or values.size < config.min_measured * known.size:
        return "object of whose middle too little is measured"
    low, high = np.percentile(values, [25, 75])
    return "object that has no one depth" if high - low > config.max_spread else ""


def _middle(box: Box, size: tuple[int, int], shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Rows and columns of a depth map [rows, columns] under the central half of a box of the image."""
    across, down = shape[1] / size[0], shape[0] / size[1]
    return central_half(Box(box.x1 * across, box.y1 * down, box.x2 * across, box.y2 * down), shape[1], shape[0])


# -- items ------------------------------------------------------------------------------------------------------------


def depth_items(scene: Scene, config: ConversionConfig) -> list[HowDeep]:
    """How far away things of one image are, at most `objects_per_image` of them, in the order of the labels."""
    items = [HowDeep(f"{scene.key}#{i}", scene.image, o.name, o.box, o.depth) for i, o in enumerate(scene.objects)]
    return _some(items, config.objects_per_image, config.seed, lambda item: item.item_id)


def pair_items(scene: Scene, config: ConversionConfig) -> list[WhichCloser]:
    """Which of two things of one image is closer, at most `pairs_per_image` pairs."""
    items = []
    for (i, a), (j, b) in itertools.combinations(enumerate(scene.objects), 2):
        gap = gap_of(a, b)
        if gap < config.min_gap or overlap(a.box, b.box) > config.max_overlap:
            continue
        item_id = f"{scene.key}#{i}-{j}"
        first, second = (b, a) if coin(f"{config.seed}/{item_id}") else (a, b)
        items.append(
            WhichCloser(
                item_id,
                scene.image,
                "A" if _distance(first) < _distance(second) else "B",
                names=(first.name, second.name),
                boxes=(first.box, second.box),
                gap=round(gap, 4),
                depths=(first.depth, second.depth),
            )
        )
    return _some(items, config.pairs_per_image, config.seed, lambda item: item.item_id)


def gap_of(a: MeasuredObject, b: MeasuredObject) -> float:
    """How much two depths differ, in [0, 1]: as a share of the farther one's metres; else in relative depth."""
    if not (math.isfinite(a.metres) and math.isfinite(b.metres)):
        return abs(a.depth - b.depth)
    farther = max(a.metres, b.metres)
    return abs(a.metres - b.metres) / farther if farther > 0 else 0.0


def _distance(o: MeasuredObject) -> float:
    return o.metres if math.isfinite(o.metres) else o.depth


def overlap(a: Box, b: Box) -> float:
    """The share of the smaller of two boxes that is also in the other, in [0, 1]."""
    width = min(a.x2, b.x2) - max(a.x1, b.x1)
    height = min(a.y2, b.y2) - max(a.y1, b.y1)
    return max(0.0, width) * max(0.0, height) / min(a.area, b.area)


def _some(items: list[Any], count: int, seed: int, key: Callable[[Any], str]) -> list[Any]:
    """At most so many items, drawn by their names, in the order given."""
    drawn = sorted(items, key=lambda item: hashlib.sha256(f"{seed}/draw/{key(item)}".encode()).digest())[:count]
    kept = {key(item) for item in drawn}
    return [item for item in items if key(item) in kept]
