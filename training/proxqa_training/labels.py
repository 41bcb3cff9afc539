"""Labelled folders as training reads them: rendered images and photographs alike, and what is certainly not in them.

Promises: one rule tells which names may be taken for absent where they are not labelled.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from proxqa_core.datasets.folder import LabelledFolder, Record


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


def hash_share(text: str) -> float:
    """A number in [0, 1] that depends on the text alone: which photographs, by their path, are kept for validation."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 0xFFFFFFFF
