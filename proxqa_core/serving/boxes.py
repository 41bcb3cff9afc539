"""A labelled folder that is being labelled: its images, and the boxes that people draw in them.

Promises: what is written is a labelled folder (`proxqa_core.datasets.folder`), whole or not at all; what a record and
an object hold beside name and box stays as long as both stay; a change that somebody else made meanwhile is not
overwritten; no file outside the folder is read. Knows nothing of HTTP.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from proxqa_core.datasets.folder import ANNOTATIONS, BadDatasetError
from proxqa_core.errors import BadObjectError, reason_of
from proxqa_core.files import write_text
from proxqa_core.jsontext import to_json
from proxqa_core.serving.errors import CONFLICT, NOT_FOUND, ApiError
from proxqa_core.types import ObjectQuery
from proxqa_core.vision.image_file import read_image

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
MAX_IMAGES = 20_000
MEDIA_TYPES = {".png": "image/png", ".webp": "image/webp", ".bmp": "image/bmp"}
MAPS = ("depth_map", "mask_map")


class BoxesFolder:
    """The images of a folder and their boxes.

    Args:
        path: The folder; its `annotations.json` may be missing.

    Raises:
        BadDatasetError: It is no folder, holds no images, or its `annotations.json` is none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        if not path.is_dir():
            raise BadDatasetError(f"{path}: is no folder; expected one with images")
        if not self.images():
            raise BadDatasetError(f"{path}: holds no images ({', '.join(SUFFIXES)}); expected some to draw boxes in")

    def images(self) -> list[dict[str, Any]]:
        """Every image with how many boxes it has, sorted by name: [{image, boxes}]; boxes: None = not looked at yet."""
        records = self._records()
        maps = {r[key] for r in records if isinstance(r, dict) for key in MAPS if isinstance(r.get(key), str)}
        counts = {r["image"]: len(r.get("objects") or []) for r in records}
        found = sorted(
            p.relative_to(self.path).as_posix()
            for p in self.path.rglob("*")
            if p.suffix.lower() in SUFFIXES and not any(q.startswith(".") for q in p.relative_to(self.path).parts)
        )
        return [{"image": name, "boxes": counts.get(name)} for name in found if name not in maps][:MAX_IMAGES]

    def file(self, image: str) -> Path:
        """The file of an image.

        Raises:
            ApiError: The folder has no such image.
        """
        if not any(entry["image"] == image for entry in self.images()):
            raise ApiError(NOT_FOUND, "image_not_found", f"{self.path} has no image {image[:80]!r}", "image")
        file = (self.path / image).resolve()
        if not file.is_relative_to(self.path.resolve()):
            raise ApiError(NOT_FOUND, "image_not_found", f"image {image[:80]!r} lies outside the folder", "image")
        return file

    def read(self, image: str) -> dict[str, Any]:
        """An image's size and boxes: {image, width, height, objects: [{name, box}], revision}.

        Raises:
            ApiError: The folder has no such image.
            BadImageError: The image cannot be read.
        """
        height, width = read_image(self.file(image)).shape[:2]
        record = self._record(self._records(), image)
        objects = [{"name": o["name"], "box": o["box"]} for o in (record or {}).get("objects") or []]
        size = {"width": width, "height": height}
        return {"image": image, **size, "objects": objects, "revision": _revision(record)}

    def write(self, image: str, objects: Sequence[ObjectQuery], revision: str) -> dict[str, Any]:
        """Replace an image's boxes; what `read` gives then.

        Args:
            image: Its name.
            objects: All of its objects, with boxes.
            revision: Of what was read before they were changed.

        Raises:
            ApiError: The folder has no such image, or its boxes changed meanwhile.
            BadObjectError: An object has no box, or one outside the image.
            BadImageError: The image cannot be read.
            WriteError: There is no room, or no right to write.
        """
        height, width = read_image(self.file(image)).shape[:2]
        boxed = [_boxed(o, width, height) for o in objects]
        with self._lock:
            records = self._records()
            record = self._record(records, image)
            if _revision(record) != revision:
                raise ApiError(
                    CONFLICT, "changed_meanwhile", f"the boxes of {image!r} were changed meanwhile; load them again"
                )
            if record is None:
                record = {"image": image, "width": width, "height": height, "objects": []}
                records.append(record)
            record["objects"] = _kept(record.get("objects") or [], boxed)
            write_text(self.path / ANNOTATIONS, to_json(records) + "\n")
        return self.read(image)

    def _records(self) -> list[dict[str, Any]]:
        file = self.path / ANNOTATIONS
        try:
            raw = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
        except (OSError, ValueError, RecursionError) as error:
            raise BadDatasetError(f"{file}: is no JSON ({reason_of(error)[:100]})") from error
        if not isinstance(raw, list) or not all(isinstance(r, dict) and isinstance(r.get("image"), str) for r in raw):
            raise BadDatasetError(f"{file}: expected a list of records with 'image'")
        for record in raw:
            if not all(isinstance(o, dict) and {"name", "box"} <= o.keys() for o in record.get("objects") or []):
                raise BadDatasetError(f"{file}: {record['image']}: expected objects with 'name' and 'box'")
        return raw

    @staticmethod
    def _record(records: Sequence[dict[str, Any]], image: str) -> dict[str, Any] | None:
        return next((r for r in records if r["image"] == image), None)


def _boxed(thing: ObjectQuery, width: int, height: int) -> dict[str, Any]:
    """An object as it is stored: its box inside the image, to a tenth of a pixel."""
    if thing.box is None:
        raise BadObjectError(f"object {thing.name!r} has no box; expected [x1, y1, x2, y2] in pixels")
    return {"name": thing.name, "box": [round(v, 1) for v in thing.box.clipped(width, height).xyxy]}


def _kept(old: Sequence[dict[str, Any]], new: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The new objects, each with all that the old one of its name and box held: what was measured there."""
    left = list(old)
    kept = []
    for thing in new:
        same = next((o for o in left if o["name"] == thing["name"] and o["box"] == thing["box"]), None)
        if same is not None:
            left.remove(same)
        kept.append(same or thing)
    return kept


def _revision(record: dict[str, Any] | None) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]
