"""Visual Genome: ``objects.json`` beside folders of images, with ``image_data.json`` for their sizes.

Promises: read as a stream; the size of an image is that of its file where the file is there (the published metadata is
wrong for some), else what ``image_data.json`` says; boxes that leave the image are cut. `names` (a list) and `name` (a
string) both occur and are both read.

Source: Visual Genome, Krishna et al. 2016; versions 1.2 and 1.4 of its files.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from proxqa_core.datasets.folder import Record
from proxqa_core.datasets.json_stream import stream_list
from proxqa_core.datasets.reading import ReadReport, brief, clipped_box, size_of, usable_name, with_refs
from proxqa_core.types import Box

SOURCE = "visual_genome"
OBJECTS = "Visual Genome's list of images, with image_id and objects of each"
SIZES = "Visual Genome's list of images, with image_id, width and height of each"


class VisualGenome:
    """The images of an objects file with their named boxes, in the file's order.

    Args:
        objects: ``objects.json``, or a ``.gz`` of it.
        images: Folder with the images, ``ID.jpg``, or with the published folders ``VG_100K`` and ``VG_100K_2``.
        image_data: ``image_data.json``, for images that are not there (yet).
    """

    def __init__(self, objects: Path, images: Path, image_data: Path | None = None) -> None:
        self.objects, self.images, self.image_data = Path(objects), Path(images), image_data
        self.report = ReadReport()

    def __iter__(self) -> Iterator[Record]:
        self.report = ReadReport()
        sizes = {} if self.image_data is None else dict(self._sizes(self.image_data))
        for raw in stream_list(self.objects, OBJECTS):
            key = raw.get("image_id", raw.get("id")) if isinstance(raw, dict) else None
            if not isinstance(key, int) or not isinstance(raw.get("objects"), list):
                self.report.add("record without image_id and objects", brief(raw))
                continue
            image = self._file_of(key)
            size = self._size_of(image, sizes.get(key))
            if size is None:
                self.report.add("image of unknown size (no file, and not in image_data)", f"image {key}")
                continue
            things = self._things(raw["objects"], key, size)
            yield Record(self.images, image, *size, with_refs(things), source=SOURCE)

    def _sizes(self, path: Path) -> Iterator[tuple[int, tuple[int, int]]]:
        for raw in stream_list(path, SIZES):
            if not isinstance(raw, dict):
                self.report.add("entry of image_data that is no object", brief(raw))
                continue
            key, size = raw.get("image_id", raw.get("id")), size_of(raw)
            if isinstance(key, int) and size:
                yield key, size
            else:
                self.report.add("entry of image_data without image_id, width and height", brief(raw))

    def _file_of(self, key: int) -> str:
        names = (f"{key}.jpg", f"VG_100K/{key}.jpg", f"VG_100K_2/{key}.jpg")
        return next((name for name in names if (self.images / name).is_file()), names[0])

    def _size_of(self, image: str, annotated: tuple[int, int] | None) -> tuple[int, int] | None:
        try:
            with Image.open(self.images / image) as file:
                real: tuple[int, int] | None = file.size  # the header alone is read
        except (OSError, UnidentifiedImageError, ValueError):
            real = None
        if real is not None and annotated is not None and real != annotated:
            self.report.add("size in image_data is not the file's (the file's is used)", image)
        return real or annotated

    def _things(self, raws: list[Any], key: int, size: tuple[int, int]) -> list[tuple[str, Box, str]]:
        things = []
        for raw in raws:
            name = _name_of(raw)
            box = None if name is None else clipped_box([raw.get(k) for k in ("x", "y", "w", "h")], size)
            if name is None:
                self.report.add("object without a name", f"image {key}")
            elif box is None:
                self.report.add("box without area in the image", f"{name} in image {key}")
            else:
                things.append((name, box, ""))
        return things


def _name_of(raw: Any) -> str | None:
    """The first usable name of an object: `names` is a list in most files, `name` a string in others."""
    if not isinstance(raw, dict):
        return None
    names = raw.get("names")
    candidates = names if isinstance(names, list) else [raw.get("name")]
    return next((name for name in map(usable_name, candidates) if name is not None), None)
