"""The benchmarks of `proxqa eval`: from published files to items, and what has been chosen on the way.

Promises: a benchmark is a list of items that hangs on its files, the seed and the options alone; its `description` says
which these were. Knows nothing of models.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from proxqa_core.comparison.sources import items_of_folder
from proxqa_core.datasets.benchmarks import (
    HowDeep,
    Item,
    read_blink,
    read_cv_bench,
    read_da2k,
    read_points,
    unique_items,
    with_points,
)
from proxqa_core.datasets.coco import CocoInstances
from proxqa_core.datasets.depth_source import DepthMaps, DepthModel, DepthSource, DepthUnit
from proxqa_core.datasets.gqa import GqaSceneGraphs
from proxqa_core.datasets.make3d import make3d_images
from proxqa_core.datasets.published import DESCRIPTION, read_items
from proxqa_core.datasets.reading import ReadReport
from proxqa_core.evaluation.conversions import (
    BadConversionError,
    ConversionConfig,
    Scene,
    depth_items,
    pair_items,
    scenes_of_make3d,
    scenes_of_records,
)
from proxqa_core.files import sha256


@dataclass(frozen=True)
class BenchmarkSource:
    """What a benchmark is made from.

    Attributes:
        data: Scene graphs (GQA), folder of images (Make3D), or the benchmark's own file.
        images: Folder of the images, where `data` does not hold them.
        grids: Make3D's folder of laser depths.
        boxes: COCO-format file with boxes of Make3D's images.
        depth_maps, depth_unit: Folder of depth maps, and what their numbers are.
        depth_model, device: Depth-estimation model of Hugging Face, and where it runs.
        points: Where the points of BLINK are (`read_points`).
        limit: Only the first images (GQA, Make3D) or items.
        seed: Of what is drawn, where something is; None = that of `config`.
        config: What is asked about.
        progress: Show on stderr how many images have been gone through.
    """

    data: Path
    images: Path | None = None
    grids: Path | None = None
    boxes: Path | None = None
    depth_maps: Path | None = None
    depth_unit: DepthUnit | None = None
    depth_model: str | None = None
    device: str = "auto"
    points: Path | None = None
    limit: int | None = None
    seed: int | None = None
    config: ConversionConfig = field(default_factory=ConversionConfig)
    progress: bool = False


@dataclass(frozen=True)
class Benchmark:
    """Items to ask about.

    Attributes:
        kind: As on the command line.
        items: All of them.
        images: The folder that their images are named in.
        prompt: How a model is asked unless told otherwise, "name" or "box".
        by_name: Whether asking by name alone makes sense.
        description: What it is made of, as plain values.
        left_out: Lines on what was left out.
    """

    kind: str
    items: tuple[Item, ...]
    images: Path
    prompt: str
    by_name: bool
    description: dict[str, Any]
    left_out: list[str]


def load_benchmark(kind: str, source: BenchmarkSource) -> Benchmark:
    """The items of a benchmark of `KINDS`.

    Raises:
        BadConversionError: Something that this kind needs is not given, or it leaves nothing to ask.
        BadDatasetError: A file cannot be read.
        ProxqaError: A package or the depth model is missing.
    """
    _check(kind, source)
    if source.seed is not None:
        source = replace(source, config=replace(source.config, seed=source.seed))
    report = ReadReport()
    made = KINDS[kind].make(source, report)
    items = tuple(unique_items(made.items, report))
    lines = report.lines()
    if not items:
        raise BadConversionError(
            f"{source.data}: leaves nothing to ask for {kind}" + (f" ({'; '.join(lines)})"[:300] if lines else "")
        )
    description = {"kind": kind, "items": len(items), "data": _identity(source.data), **made.description}
    return Benchmark(kind, items, made.images, made.prompt, made.by_name, description, lines)


def _identity(path: Path) -> str:
    """A file's name with a part of its hash, a folder's name."""
    return f"{path.name}, sha256 {sha256(path)[:16]}" if path.is_file() else path.name


def _check(kind: str, source: BenchmarkSource) -> None:
    """Every option that a kind needs is given, and none that it does not use."""
    needs, takes = KINDS[kind].needs, KINDS[kind].takes
    given = {name for name in OPTIONS if getattr(source, name) is not None}
    for name in needs:
        if name not in given:
            raise BadConversionError(f"{kind} needs {OPTIONS[name]}")
    for name in sorted(given - {*needs, *takes}):
        raise BadConversionError(f"{kind} makes no use of {OPTIONS[name]}")


OPTIONS = {
    "images": "--images, the folder of the images",
    "grids": "--grids, Make3D's folder of depth_sph_corr-NAME.mat",
    "boxes": "--boxes, a COCO-format file with boxes of the images",
    "depth_maps": "--depth-maps, a folder of depth maps",
    "depth_unit": "--depth-unit, what the numbers of the depth maps are",
    "depth_model": "--depth-model, a depth-estimation model",
    "points": "--points, a file that says where points A and B are",
    "seed": "--seed, since nothing is drawn",
}
"""Sources beside the data itself, and how they are given."""


@dataclass(frozen=True)
class _Made:
    """What a kind makes. See `Benchmark`."""

    items: Iterable[Item]
    images: Path
    prompt: str
    by_name: bool = True
    description: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Kind:
    """make: from sources to items. needs, takes: keys of `OPTIONS`."""

    make: Callable[[BenchmarkSource, ReadReport], _Made]
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()


def _shown(images: Iterable[Any], source: BenchmarkSource) -> Iterable[Any]:
    """The images, with a line on stderr that counts them where that is wanted."""
    return tqdm(images, disable=not source.progress, desc="measuring depth", unit=" images")


def _gqa(items_of: Callable[[Scene, ConversionConfig], Iterable[Item]]) -> Callable[..., _Made]:
    def make(source: BenchmarkSource, report: ReadReport) -> _Made:
        depth, said = _depth_source(source)
        assert source.images is not None
        graphs = GqaSceneGraphs(source.data, source.images)
        records = _shown(itertools.islice(graphs, source.limit), source)
        scenes = scenes_of_records(records, depth, source.config, report)
        items = [item for scene in scenes for item in items_of(scene, source.config)]
        report.merge(graphs.report)
        gap = "difference of relative depths"
        return _Made(
            items, source.images, "name", description={"depth": said, "gap": gap, "choices": asdict(source.config)}
        )

    return make


def _depth_source(source: BenchmarkSource) -> tuple[DepthSource, str]:
    """Where depth comes from, and its name for reports: GQA has none of its own."""
    if (source.depth_maps is None) == (source.depth_model is None):
        raise BadConversionError("GQA has no depth: give --depth-maps with --depth-unit, or --depth-model")
    if source.depth_model is not None:
        unit = source.depth_unit or DepthUnit.DISPARITY
        return DepthModel(source.depth_model, unit, source.device), f"{Path(source.depth_model).name} ({unit.value})"
    assert source.depth_maps is not None
    if source.depth_unit is None:
        choices = ", ".join(unit.value for unit in DepthUnit)
        raise BadConversionError(f"--depth-maps needs --depth-unit, what the numbers of the maps are: {choices}")
    if not source.depth_maps.is_dir():
        raise BadConversionError(f"{source.depth_maps}: no such folder; expected depth maps")
    return DepthMaps(source.depth_maps, source.depth_unit), f"maps {source.depth_maps.name} ({source.depth_unit.value})"


def _make3d(source: BenchmarkSource, report: ReadReport) -> _Made:
    assert source.grids is not None
    photos = _shown(itertools.islice(make3d_images(source.data, source.grids, report), source.limit), source)
    coco = None if source.boxes is None else CocoInstances(source.boxes, source.data)
    scenes = scenes_of_make3d(photos, coco, source.config, report)
    items = [item for scene in scenes for item in pair_items(scene, source.config)]
    if coco is not None:
        report.merge(coco.report)
    boxes = "nine regions of each image" if source.boxes is None else _identity(source.boxes)
    description = {"depth": "laser, below 70 m (C1)", "gap": "share of the farther one's metres", "boxes": boxes,
                   "choices": asdict(source.config)}  # fmt: skip
    return _Made(items, source.data, "box" if coco is None else "name", coco is not None, description)


def _blink(source: BenchmarkSource, report: ReadReport) -> _Made:
    points = {} if source.points is None else read_points(source.points)
    items = list(with_points(read_blink(source.data, source.images, report), points))
    if points and items and not any(item.item_id in points for item in items):
        raise BadConversionError(
            f"{source.points}: none of its ids is an item's; expected such as {items[0].item_id!r}"
        )
    return _Made(
        itertools.islice(items, source.limit),
        source.images or source.data.parent,
        "box",
        False,
        {"points": _points_of(source)},
    )


def _points_of(source: BenchmarkSource) -> str:
    return "drawn into the images, their places not known" if source.points is None else source.points.name


def _cv_bench(source: BenchmarkSource, report: ReadReport) -> _Made:
    items = itertools.islice(read_cv_bench(source.data, source.images, report), source.limit)
    return _Made(items, source.images or source.data.parent, "box")


def _da2k(source: BenchmarkSource, report: ReadReport) -> _Made:
    items = itertools.islice(read_da2k(source.data, source.config.seed, report), source.limit)
    return _Made(items, source.data.parent, "box", False, {"seed": source.config.seed})


def _published(source: BenchmarkSource, report: ReadReport) -> _Made:
    folder = source.data if source.data.is_dir() else source.data.parent
    items = list(itertools.islice(read_items(source.data, source.images, report), source.limit))
    by_name = all(_has_names(item) for item in items)
    made_from = _description_of(folder)
    prompt = made_from.get("prompt") if by_name else "box"
    description = {"gap": made_from.get("gap", "not known"), "made_from": made_from}
    return _Made(items, source.images or folder, prompt or "name", by_name, description)


def _description_of(folder: Path) -> dict[str, Any]:
    """What `--export` wrote of how the items were made; {} where there is nothing that can be read."""
    try:
        found = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _has_names(item: Item) -> bool:
    return isinstance(item, HowDeep) or all(item.names)


def _folder(source: BenchmarkSource, report: ReadReport) -> _Made:
    gap = {"gap": "share of the farther one's metres"}
    return _Made(itertools.islice(items_of_folder(source.data), source.limit), source.data, "name", description=gap)


_DEPTH = ("depth_maps", "depth_unit", "depth_model", "seed")
KINDS = {
    "folder": _Kind(_folder),
    "gqa-depth": _Kind(_gqa(depth_items), ("images",), _DEPTH),
    "gqa-proximity": _Kind(_gqa(pair_items), ("images",), _DEPTH),
    "make3d-proximity": _Kind(_make3d, ("grids",), ("boxes", "seed")),
    "blink": _Kind(_blink, takes=("images", "points")),
    "cv-bench": _Kind(_cv_bench, takes=("images",)),
    "da-2k": _Kind(_da2k, takes=("seed",)),
    "items": _Kind(_published, takes=("images",)),
}
"""What `proxqa eval` can measure on."""
