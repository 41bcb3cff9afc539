"""Labelled folders as training reads them: rendered images and photographs alike, and what is surely not in them.

Promises: one rule says which names may be taken for absent where they are not labelled. Knows nothing of models.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from proxqa_core.datasets.folder import LabelledFolder, Record


@dataclass(frozen=True)
class LabelledImage:
    """One labelled image. rendered: depth and masks are exact and every visible name is known.

    present: names of what is in it. absent_known: names that may be taken for absent where they are not labelled;
    None = all of them.
    """

    record: Record
    rendered: bool
    present: frozenset[str]
    absent_known: frozenset[str] | None


def read_images(folder: Path) -> list[LabelledImage]:
    """All images of a folder that have labels or depth. BadDatasetError where the folder is at fault."""
    records = LabelledFolder(folder).records
    raw = json.loads((folder / "annotations.json").read_text(encoding="utf-8"))
    classes = frozenset(o.name for r in records for o in r.objects)
    images = []
    for record, fields in zip(records, raw, strict=True):
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
