"""Items of a benchmark as a file that others can use: JSON lines, one item each, without images.

Promises: what is written is read back equal, and the same items give the same bytes; images are named by their paths in
the data set's own folder, since most data sets may not be handed on. A bad line is counted and named, never fatal.

A line is ``{"id", "task": "closer", "image", "answer": "A", "names": [a, b], "boxes": [[x1, y1, x2, y2], …] or null,
"points": [[x, y], …] or null, "gap": number or null, "depths": [a, b] or null, "question"}`` or
``{"id", "task": "depth", "image", "name", "box", "depth"}``: pixels, relative depths in [0, 1].
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from proxqa_core.datasets.benchmarks import HowDeep, Item, WhichCloser, letter
from proxqa_core.datasets.folder import BadDatasetError, is_finite
from proxqa_core.datasets.json_stream import opened
from proxqa_core.datasets.reading import ReadReport, usable_name
from proxqa_core.errors import BadObjectError, reason_of
from proxqa_core.files import atomic_write
from proxqa_core.types import Box

ITEMS, DESCRIPTION = "items.jsonl", "benchmark.json"
COUNTED = "line that is no item"


def write_items(path: Path, items: Iterable[Item], images: Path) -> int:
    """Write items; returns their number.

    Args:
        path: The file.
        items: Their images are files.
        images: The folder that images are named in.

    Raises:
        OSError: It cannot be written.
    """
    count = 0
    with atomic_write(path) as work, work.open("w", encoding="utf-8") as file:
        for item in items:
            file.write(json.dumps(to_json(item, images), ensure_ascii=False) + "\n")
            count += 1
    return count


def to_json(item: Item, images: Path) -> dict[str, Any]:
    """An item as a line of the file has it. Its image must be a file."""
    assert isinstance(item.image, Path)
    image = item.image.relative_to(images).as_posix()
    if isinstance(item, HowDeep):
        return {"id": item.item_id, "task": "depth", "image": image, "name": item.name, "box": list(item.box.xyxy),
                "depth": item.depth}  # fmt: skip
    return {
        "id": item.item_id,
        "task": "closer",
        "image": image,
        "answer": item.answer,
        "names": list(item.names),
        "boxes": None if item.boxes is None else [list(b.xyxy) for b in item.boxes],
        "points": None if item.points is None else [list(p) for p in item.points],
        "gap": item.gap if math.isfinite(item.gap) else None,
        "depths": None if item.depths is None else list(item.depths),
        "question": item.question,
    }


def read_items(path: Path, images: Path | None = None, report: ReadReport | None = None) -> Iterator[Item]:
    """The items of a file, in its order.

    Args:
        path: The file, or the folder that it is in.
        images: Folder that images are named in, None = that of the file.
        report: Counts the lines that are no items.

    Raises:
        BadDatasetError: The file cannot be read.
    """
    file = path / ITEMS if path.is_dir() else path
    with opened(file) as lines:
        for number, line in enumerate(lines):
            if not line.strip():
                continue
            try:
                yield from_json(json.loads(line), images or file.parent)
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
                if report is not None:
                    report.add(COUNTED, f"line {number + 1} ({reason_of(error)[:40]})")


def from_json(raw: dict[str, Any], images: Path) -> Item:
    """A line as an item.

    Raises:
        ValueError: It is none (`KeyError`, `TypeError`, `AttributeError` where it is of another shape).
    """
    name = raw["image"]
    if not Path(name).name or Path(name).is_absolute() or ".." in Path(name).parts or "\x00" in name:
        raise BadDatasetError(f"image is {name[:60]!r}; expected a path inside the folder of images")
    item_id, image = _text(raw["id"]), images / name
    if raw["task"] == "depth":
        return HowDeep(item_id, image, _name(raw["name"]), Box(*map(_number, raw["box"])), _share(raw["depth"]))
    if raw["task"] != "closer":
        raise BadDatasetError(f"task is {str(raw['task'])[:40]!r}; expected 'closer' or 'depth'")
    answer = letter(raw["answer"])
    if answer is None and raw["answer"] is not None:
        raise BadDatasetError("answer is neither A nor B")
    return WhichCloser(
        item_id,
        image,
        answer,
        _text(raw.get("question") or ""),
        _two(raw.get("names") or ("", ""), lambda n: _name(n) if n else ""),
        None if raw.get("boxes") is None else _two(raw["boxes"], lambda b: Box(*map(_number, b))),
        None if raw.get("points") is None else _two(raw["points"], lambda p: _two(p, _number)),
        math.nan if raw.get("gap") is None else _share(raw["gap"]),
        None if raw.get("depths") is None else _two(raw["depths"], _share),
    )


def _two(values: Any, made: Any) -> tuple[Any, Any]:
    first, second = values
    return made(first), made(second)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise BadDatasetError(f"{str(value)[:40]!r} is no text")
    return value


def _name(value: Any) -> str:
    name = usable_name(value)
    if name is None:
        raise BadObjectError(f"{str(value)[:40]!r} is no name")
    return name


def _number(value: Any) -> float:
    if not is_finite(value):
        raise BadDatasetError(f"{str(value)[:40]} is no number")
    return float(value)


def _share(value: Any) -> float:
    number = _number(value)
    if not 0 <= number <= 1:
        raise BadDatasetError(f"{number} is outside [0, 1]")
    return number
