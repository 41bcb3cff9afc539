"""Labelled folders as training reads them: rendered images and photographs alike, and what is certainly not in them.

Promises: one rule tells which names may be taken for absent where they are not labelled, and one that nothing is judged
on what it was trained on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from proxqa_core.datasets.folder import BadDatasetError, LabelledFolder, Record


@dataclass(frozen=True)
class LabelledImage:
    """One labelled image.

    Attributes:
        record: Its labels and files.
        rendered: Depth and masks are exact and every visible name is known.
        present: Names of what is in it.
        absent_known: Names that may be taken for absent where they are not labelled; None = all of them.
    """

    record: Record
    rendered: bool
    present: frozenset[str]
    absent_known: frozenset[str] | None


def read_images(folder: Path | LabelledFolder) -> list[LabelledImage]:
    """All images of a folder that have labels or depth.

    Args:
        folder: In the format of `proxqa_core.datasets.folder`.

    Raises:
        BadDatasetError: The folder is at fault.
    """
    labelled = folder if isinstance(folder, LabelledFolder) else LabelledFolder(folder)
    records = labelled.records
    classes = frozenset(o.name for r in records for o in r.objects)
    images = []
    for record, fields in zip(records, labelled.raw, strict=True):
        rendered = record.mask_map is not None
        present = frozenset(fields.get("visible_names", [])) | {o.name for o in record.objects}
        known: frozenset[str] | None = frozenset()
        if rendered:
            known = None
        elif fields.get("exhaustive_for_source_classes"):
            known = classes
        if record.objects or record.depth_map is not None:
            images.append(LabelledImage(record, rendered, present, known))
    return images


def require_apart(trained: Sequence[Path | LabelledFolder], judged: Sequence[Path]) -> None:
    """Check that nothing is judged on what it was trained on, by whatever name the folder goes.

    Args:
        trained: Labelled folders that are trained on.
        judged: Labelled folders that are judged on.

    Raises:
        BadDatasetError: A folder is at fault, or one of `judged` has images that are trained on.
    """
    known = {file for folder in trained for file in _image_files(folder)} if judged else set()
    for folder in judged:
        files = _image_files(folder)
        if shared := [file for file in files if file in known]:
            raise BadDatasetError(
                f"{folder}: {len(shared)} of its {len(files)} images are trained on too, such as {shared[0]}; expected "
                "others to judge on"
            )


def _image_files(folder: Path | LabelledFolder) -> list[Path]:
    """The images of a folder, where they lie."""
    labelled = folder if isinstance(folder, LabelledFolder) else LabelledFolder(folder)
    return [(record.folder / record.image).resolve() for record in labelled]


def hash_share(text: str) -> float:
    """A number in [0, 1] that depends on the text alone: which photographs, by their path, are kept for validation."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 0xFFFFFFFF
