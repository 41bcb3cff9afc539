"""COCO instances: ``instances_*.json`` beside a folder of images, also without ``info`` and ``licenses``.

Promises: the file is read as a stream, three times (categories, images, annotations), and kept as a few numbers an
annotation: 900,000 annotations take about 50 MB. Crowds (RLE over many things) are left out, boxes are cut at the
image, whatever else cannot be used is counted.

Source: Microsoft COCO, Lin et al. 2014; the format as documented at cocodataset.org.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from proxqa_core.datasets.folder import BadDatasetError, Record
from proxqa_core.datasets.reading import (
    ReadReport,
    clipped_box,
    size_of,
    stream_list,
    top_level_keys,
    usable_name,
    with_refs,
)

SOURCE = "coco"


class CocoInstances:
    """The images of an instances file with their named boxes, in the file's order; images without boxes too.

    Args:
        annotations: The JSON file, or a ``.gz`` of it.
        images: Folder that the ``file_name`` of its images is in.

    Raises:
        BadDatasetError: The file is no COCO instances file (when it is iterated: it is no whole JSON).
    """

    def __init__(self, annotations: Path, images: Path) -> None:
        self.annotations, self.images = Path(annotations), Path(images)
        self.report = ReadReport()
        missing = {"images", "annotations", "categories"} - set(top_level_keys(self.annotations))
        if missing:
            raise BadDatasetError(
                f"{self.annotations}: has no {', '.join(sorted(missing))}; expected a COCO instances file "
                "with images, annotations and categories"
            )

    def __iter__(self) -> Iterator[Record]:
        self.report = ReadReport()
        names = self._categories()
        rows = list(self._image_rows())
        of, category, boxes = self._annotation_columns(names, {row[0]: i for i, row in enumerate(rows)})
        order = np.argsort(of, kind="stable")
        starts = np.searchsorted(of[order], np.arange(len(rows) + 1))
        labels = list(names.values())
        for i, (_, file_name, width, height) in enumerate(rows):
            things = []
            for row in order[starts[i] : starts[i + 1]]:
                box = clipped_box(boxes[row].tolist(), (width, height))
                if box is None:
                    self.report.add("box without area in the image", f"an annotation of {file_name}")
                else:
                    things.append((labels[category[row]], box, ""))
            yield Record(self.images, file_name, width, height, with_refs(things), source=SOURCE)

    def category_names(self) -> tuple[str, ...]:
        """All classes of the file: what of these is not labelled in an image is not in it."""
        return tuple(self._categories().values())

    def _categories(self) -> dict[int, str]:
        names = {}
        for raw in stream_list(self.annotations, "categories.item"):
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
        for raw in stream_list(self.annotations, "images.item"):
            row = _image_row(raw)
            if row is None:
                self.report.add("image without id, file_name, width, height", str(raw)[:60])
            elif row[0] in seen:
                self.report.add("image listed twice", row[1])
            else:
                seen.add(row[0])
                yield row

    def _annotation_columns(
        self, names: dict[int, str], image_of: dict[int, int]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of all usable annotations: index of the image [n], of the category [n], and x, y, w, h [n, 4]."""
        of, category, corners = array("q"), array("q"), array("d")
        index = {key: i for i, key in enumerate(names)}
        for raw in stream_list(self.annotations, "annotations.item"):
            reason = _why_not(raw, index, image_of)
            if reason:
                self.report.add(reason, f"annotation {raw.get('id') if isinstance(raw, dict) else raw}")
                continue
            of.append(image_of[raw["image_id"]])
            category.append(index[raw["category_id"]])
            corners.extend(float(v) for v in raw["bbox"])
        return np.array(of), np.array(category), np.array(corners).reshape(-1, 4)


def _image_row(raw: Any) -> tuple[int, str, int, int] | None:
    """(id, file name, width, height) where all are there and the name stays inside the folder."""
    if not isinstance(raw, dict):
        return None
    name = raw.get("file_name")
    if not isinstance(name, str) or not name or Path(name).is_absolute() or ".." in Path(name).parts:
        return None
    whole = [v for v in (raw.get("id"), *size_of(raw)) if isinstance(v, int) and not isinstance(v, bool)]
    return (whole[0], name, whole[1], whole[2]) if len(whole) == 3 else None


def _why_not(raw: Any, categories: dict[int, int], images: dict[int, int]) -> str:
    """Why an annotation cannot be used; '' where it can."""
    if not isinstance(raw, dict):
        return "annotation that is no object"
    if raw.get("iscrowd"):
        return "crowd"
    if raw.get("image_id") not in images:
        return "annotation of an image that is not listed"
    if raw.get("category_id") not in categories:
        return "annotation of a category that is not listed"
    box = raw.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(isinstance(v, int | float) for v in box):
        return "annotation without bbox"
    return ""
