"""A folder of images that people draw boxes in.

Promises: what is written is a labelled folder, or the file that `proxqa record --boxes` reads (`boxes_files`), whole or
not at all; what is known of an object stays as long as its name and box do; a change that somebody else made meanwhile
is not overwritten; no file outside the folder is read. Knows nothing of HTTP.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Sequence
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from proxqa_core.datasets.folder import BadDatasetError
from proxqa_core.errors import BadObjectError
from proxqa_core.serving.boxes_files import Objects, boxes_file
from proxqa_core.serving.errors import CONFLICT, NOT_FOUND, ApiError
from proxqa_core.types import ObjectQuery
from proxqa_core.vision.image_file import read_image

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
MAX_IMAGES = 20_000
MEDIA_TYPES = {".png": "image/png", ".webp": "image/webp", ".bmp": "image/bmp"}


class BoxesFolder:
    """The images of a folder and their boxes.

    Args:
        path: The folder; without a file of boxes it becomes a labelled folder.

    Raises:
        BadDatasetError: It is no folder, holds no images, or its file of boxes is none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        if not path.is_dir():
            raise BadDatasetError(f"{path}: is no folder; expected one with images")
        self._file = boxes_file(path)
        if not self.images():
            raise BadDatasetError(f"{path}: holds no images ({', '.join(SUFFIXES)}); expected some to draw boxes in")

    def images(self) -> list[dict[str, Any]]:
        """Every image with how many boxes it has, sorted by name: [{image, boxes}]; boxes: None = not looked at yet."""
        maps, counts = self._file.maps(), self._file.counts()
        found = sorted(
            p.relative_to(self.path).as_posix() for p in self.path.rglob("*") if _is_image(p.relative_to(self.path))
        )
        return [{"image": name, "boxes": counts.get(name)} for name in found if name not in maps][:MAX_IMAGES]

    def file(self, image: str) -> Path:
        """The file of an image.

        Raises:
            ApiError: The folder has no such image.
        """
        named = PurePosixPath(image)
        known = named.as_posix() == image and _is_image(named) and "\0" not in image and image not in self._file.maps()
        if not (known and (self.path / image).is_file()):
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
        return self._entry(image, width, height)

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
            known = self._file.objects(image)
            if _revision(known) != revision:
                raise ApiError(
                    CONFLICT, "changed_meanwhile", f"the boxes of {image!r} were changed meanwhile; load them again"
                )
            self._file.save(image, width, height, _kept(known or [], boxed))
        return self._entry(image, width, height)

    def _entry(self, image: str, width: int, height: int) -> dict[str, Any]:
        """What is known of an image of so many pixels, as `read` gives it."""
        known = self._file.objects(image)
        objects = [{"name": o["name"], "box": o["box"]} for o in known or []]
        return {"image": image, "width": width, "height": height, "objects": objects, "revision": _revision(known)}


def _boxed(thing: ObjectQuery, width: int, height: int) -> dict[str, Any]:
    """An object as it is stored: its box inside the image, to a tenth of a pixel."""
    if thing.box is None:
        raise BadObjectError(f"object {thing.name!r} has no box; expected [x1, y1, x2, y2] in pixels")
    return {"name": thing.name, "box": [round(v, 1) for v in thing.box.clipped(width, height).xyxy]}


def _is_image(inside: PurePath) -> bool:
    """Whether a path inside the folder is named as an image that is shown: none that is hidden, none of above it."""
    return inside.suffix.lower() in SUFFIXES and not any(part.startswith((".", "/")) for part in inside.parts)


def _kept(old: Objects, new: Objects) -> Objects:
    """The new objects, each with all that the old one of its name and box held: what was measured there."""
    left = list(old)
    kept = []
    for thing in new:
        same = next((o for o in left if o["name"] == thing["name"] and o["box"] == thing["box"]), None)
        if same is not None:
            left.remove(same)
        kept.append(same or thing)
    return kept


def _revision(objects: Objects | None) -> str:
    return hashlib.sha256(json.dumps(objects, sort_keys=True).encode()).hexdigest()[:16]
