"""The two files that boxes drawn on the page are kept in.

`annotations.json` makes a folder a labelled folder (`proxqa_core.datasets.folder`). `boxes.json` is what
`proxqa record --boxes` reads: `{"12": [{"name", "box"}]}` by an image's number in its topic; images of such a folder
are called by their numbers (`000012.jpg`).

Promises: what a file holds beside what was drawn stays. Knows nothing of pixels, of HTTP or of who writes at once.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from proxqa_core.datasets.folder import ANNOTATIONS, NUMBERED_BOXES, BadDatasetError
from proxqa_core.errors import reason_of
from proxqa_core.files import write_text
from proxqa_core.jsontext import to_json

MAPS = ("depth_map", "mask_map")
Objects = list[dict[str, Any]]


class BoxesFile(Protocol):
    """Where the boxes of a folder's images are kept; read anew in every call."""

    def maps(self) -> set[str]:
        """Files of the folder that are no images to draw boxes in."""
        ...

    def counts(self) -> dict[str, int]:
        """How many boxes each image has that was looked at."""
        ...

    def objects(self, image: str) -> Objects | None:
        """The objects of an image with all that is known of them; None = it was not looked at yet."""
        ...

    def save(self, image: str, width: int, height: int, objects: Objects) -> None:
        """Replace the objects of an image of so many pixels."""
        ...


def boxes_file(folder: Path) -> BoxesFile:
    """The file that a folder has: `boxes.json` where that is there alone, else `annotations.json`."""
    if (folder / NUMBERED_BOXES).exists() and not (folder / ANNOTATIONS).exists():
        return NumberedBoxes(folder / NUMBERED_BOXES)
    return Annotations(folder / ANNOTATIONS)


class Annotations:
    """`annotations.json`, which may be missing.

    Args:
        file: Where it is.

    Raises (all methods):
        BadDatasetError: It is none.
        WriteError: It cannot be written.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def maps(self) -> set[str]:
        """See `BoxesFile`."""
        return {r[key] for r in self._records() for key in MAPS if isinstance(r.get(key), str)}

    def counts(self) -> dict[str, int]:
        """See `BoxesFile`."""
        return {r["image"]: len(r.get("objects") or []) for r in self._records()}

    def objects(self, image: str) -> Objects | None:
        """See `BoxesFile`."""
        return next((r.get("objects") or [] for r in self._records() if r["image"] == image), None)

    def save(self, image: str, width: int, height: int, objects: Objects) -> None:
        """See `BoxesFile`."""
        records = self._records()
        record = next((r for r in records if r["image"] == image), None)
        if record is None:
            record = {"image": image, "width": width, "height": height}
            records.append(record)
        record["objects"] = objects
        write_text(self._file, to_json(records) + "\n")

    def _records(self) -> Objects:
        records = _read(self._file, [])
        if not isinstance(records, list) or not all(
            isinstance(r, dict) and isinstance(r.get("image"), str) for r in records
        ):
            raise BadDatasetError(f"{self._file}: expected a list of records with 'image'")
        for record in records:
            _check(record.get("objects") or [], f"{self._file}: {record['image']}")
        return records


class NumberedBoxes:
    """`boxes.json`: objects by the number of their image.

    Args:
        file: Where it is.

    Raises (all methods):
        BadDatasetError: It is none.
        WriteError: It cannot be written.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def maps(self) -> set[str]:
        """See `BoxesFile`."""
        return set()

    def counts(self) -> dict[str, int]:
        """See `BoxesFile`."""
        boxes = self._boxes()
        images = (p.name for p in self._file.parent.iterdir())
        return {name: len(boxes[key]) for name in images if (key := _number(name)) in boxes}

    def objects(self, image: str) -> Objects | None:
        """See `BoxesFile`."""
        return self._boxes().get(_number(image))

    def save(self, image: str, width: int, height: int, objects: Objects) -> None:
        """See `BoxesFile`."""
        number = _number(image)
        if not number:
            raise BadDatasetError(f"{image!r} has no number as its name, by which {NUMBERED_BOXES} keeps its boxes")
        write_text(self._file, to_json(self._boxes() | {number: objects}) + "\n")

    def _boxes(self) -> dict[str, Objects]:
        boxes = _read(self._file, {})
        if not isinstance(boxes, dict) or not all(isinstance(v, list) for v in boxes.values()):
            raise BadDatasetError(f"{self._file}: expected lists of boxes by the numbers of their images")
        for key, objects in boxes.items():
            _check(objects, f"{self._file}: {key!r}")
        return boxes


def _number(image: str) -> str:
    """The number that an image is called by, as it is written in the file; '' = it has none."""
    stem = PurePosixPath(image).stem
    return str(int(stem)) if stem.isdecimal() and stem.isascii() else ""


def _read(file: Path, missing: Any) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else missing
    except (OSError, ValueError, RecursionError) as error:
        raise BadDatasetError(f"{file}: is no JSON ({reason_of(error)[:100]})") from error


def _check(objects: Sequence[Any], where: str) -> None:
    if not all(isinstance(o, dict) and {"name", "box"} <= o.keys() for o in objects):
        raise BadDatasetError(f"{where}: expected objects with 'name' and 'box'")
