"""COCO instances: ``instances_*.json`` beside a folder of images, also without ``info`` and ``licenses``.

Promises: the file is read as a stream, three times (categories, images, annotations), and kept as a few numbers an
annotation: 900,000 annotations take about 50 MB. Crowds (RLE over many things) are left out, boxes are cut at the
image, whatever else cannot be used is counted.

Source: Microsoft COCO, Lin et al. 2014; the format as documented at cocodataset.org.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from proxqa_core.datasets.folder import BadDatasetError, Record, is_finite
from proxqa_core.datasets.json_stream import KINDS, stream_list_at, top_level_kinds
from proxqa_core.datasets.reading import ReadReport, brief, clipped_box, is_inside, size_of, usable_name, with_refs

SOURCE = "coco"
PARTS = ("images", "annotations", "categories")
EXPECTED = "a COCO instances file with images, annotations and categories"
CROWD = "crowd"
"""Why an annotation of many things at once is left out."""


class CocoInstances:
    """The images of an instances file with their named boxes, in the file's order; images without boxes too.

    Args:
        annotations: The JSON file, or a ``.gz`` of it.
        images: Folder that the ``file_name`` of its images is in.

    Raises:
        BadDatasetError: The file is no COCO instances file, or no whole JSON.
    """

    def __init__(self, annotations: Path, images: Path) -> None:
        self.annotations, self.images = Path(annotations), Path(images)
        self.report = ReadReport()
        self._crowds: dict[int, set[str]] = {}
        kinds = top_level_kinds(self.annotations, EXPECTED)
        if missing := sorted(set(PARTS) - set(kinds)):
            raise BadDatasetError(f"{self.annotations}: has no {', '.join(missing)}; expected {EXPECTED}")
        for part in PARTS:
            if kinds[part] != KINDS[b"["]:
                raise BadDatasetError(f"{self.annotations}: {part} is {kinds[part]}; expected a list")

    def __iter__(self) -> Iterator[Record]:
        self.report = ReadReport()
        names = self._categories()
        rows = list(self._image_rows())
        found = self._annotations(names, {row[0]: i for i, row in enumerate(rows)})
        order = np.argsort(found.image, kind="stable")
        starts = np.searchsorted(found.image[order], np.arange(len(rows) + 1))
        labels = list(names.values())
        for i, (_, file_name, width, height) in enumerate(rows):
            things, unboxed = [], set(found.crowds.get(i, ()))
            for row in order[starts[i] : starts[i + 1]]:
                name, box = labels[found.category[row]], clipped_box(found.boxes[row].tolist(), (width, height))
                if box is None:
                    self.report.add("box without area in the image", f"an annotation of {file_name}")
                    unboxed.add(name)
                else:
                    things.append((name, box, ""))
            objects, others = with_refs(things, unboxed), tuple(sorted(unboxed))
            yield Record(self.images, file_name, width, height, objects, source=SOURCE, unboxed_names=others)

    def category_names(self) -> tuple[str, ...]:
        """All classes of the file: what of these is not labelled in an image is not in it."""
        return tuple(self._categories().values())

    def _categories(self) -> dict[int, str]:
        names = {}
        for raw in stream_list_at(self.annotations, "categories"):
            name = usable_name(raw.get("name")) if isinstance(raw, dict) else None
            if name is None or not isinstance(raw.get("id"), int):
                self.report.add("category without id and name", raw)
            else:
                names[raw["id"]] = name
        if not names:
            raise BadDatasetError(f"{self.annotations}: has no usable category; expected id and name of each")
        return names

    def _image_rows(self) -> Iterator[tuple[int, str, int, int]]:
        seen = set()
        for raw in stream_list_at(self.annotations, "images"):
            row = _image_row(raw)
            if row is None:
                self.report.add("image without id, file_name, width, height", brief(raw))
            elif row[0] in seen:
                self.report.add("image listed twice", row[1])
            else:
                seen.add(row[0])
                yield row

    def _annotations(self, names: dict[int, str], image_of: dict[int, int]) -> _Annotations:
        image, category, corners = array("q"), array("q"), array("d")
        crowds: dict[int, set[str]] = {}
        index = {key: i for i, key in enumerate(names)}
        for raw in stream_list_at(self.annotations, "annotations"):
            reason = _why_not(raw, index, image_of)
            if reason:
                self.report.add(reason, f"annotation {brief(raw.get('id') if isinstance(raw, dict) else raw)}")
                if reason == CROWD:
                    crowds.setdefault(image_of[raw["image_id"]], set()).add(names[raw["category_id"]])
                continue
            image.append(image_of[raw["image_id"]])
            category.append(index[raw["category_id"]])
            corners.extend(float(v) for v in raw["bbox"])
        return _Annotations(np.array(image), np.array(category), np.array(corners).reshape(-1, 4), crowds)


@dataclass(frozen=True)
class _Annotations:
    """All annotations of a file as a few numbers each.

    Attributes:
        image, category: Index of each one's image and category, [n].
        boxes: x, y, width, height, pixels, [n, 4].
        crowds: Names of the crowds of an image, which have no box but are in view.
    """

    image: np.ndarray
    category: np.ndarray
    boxes: np.ndarray
    crowds: dict[int, set[str]]


def _image_row(raw: Any) -> tuple[int, str, int, int] | None:
    """(id, file name, width, height) where all are there and the name stays inside the folder."""
    if not isinstance(raw, dict):
        return None
    name = raw.get("file_name")
    if not isinstance(name, str) or not is_inside(name):
        return None
    whole = [v for v in (raw.get("id"), *size_of(raw)) if isinstance(v, int) and not isinstance(v, bool)]
    return (whole[0], name, whole[1], whole[2]) if len(whole) == 3 else None


def _why_not(raw: Any, categories: dict[int, int], images: dict[int, int]) -> str:
    """Why an annotation cannot be used; '' where it can."""
    if not isinstance(raw, dict):
        return "annotation that is no object"
    if not _is_key(raw.get("image_id"), images):
        return "annotation of an image that is not listed"
    if not _is_key(raw.get("category_id"), categories):
        return "annotation of a category that is not listed"
    if raw.get("iscrowd"):
        return CROWD
    box = raw.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_finite, box)):
        return "annotation without bbox"
    return ""


def _is_key(value: Any, known: dict[int, int]) -> bool:
    return isinstance(value, int) and value in known
