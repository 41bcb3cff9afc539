"""Many images of a data set in one PNG, with boxes, names and depths.

Knows only the folder format, not how the images were made.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from proxqa_training.scenes import dataset

CELL_PX = (300, 240)


def draw(folder: Path, record: dict[str, Any]) -> Image.Image:
    """One image with what its record says."""
    picture = Image.open(folder / record["image"]).convert("RGB")
    pen = ImageDraw.Draw(picture)
    for o in record["objects"]:
        near = int(255 * (1 - o.get("depth", 0.5)))
        pen.rectangle([o["box"][0], o["box"][1], o["box"][2] - 1, o["box"][3] - 1], outline=(near, 255 - near, 255))
    for o in record["objects"]:
        pen.text(
            (o["box"][0] + 1, o["box"][1]), f"{o['ref'] or '?' + o['name']} {o['depth_m']:.1f}", fill=(255, 255, 0)
        )
    return picture


def sheet(folder: Path, count: int, columns: int) -> Image.Image:
    """`count` images of the data set, evenly spread over it."""
    records = json.loads((folder / "annotations.json").read_text())
    records = records[:: max(1, len(records) // count)][:count]
    rows = -(-len(records) // columns)
    out = Image.new("RGB", (CELL_PX[0] * columns, CELL_PX[1] * rows))
    for i, record in enumerate(records):
        picture = draw(folder, record)
        picture.thumbnail((CELL_PX[0] - 4, CELL_PX[1] - 4))
        out.paste(picture, (i % columns * CELL_PX[0], i // columns * CELL_PX[1]))
    return out


def write(folder: Path, count: int = 30, columns: int = 6, png: Path | None = None) -> dict[str, Any]:
    """Write a contact sheet.

    Args:
        folder: Of the data set.
        count: Images on the sheet.
        columns: Images in a row.
        png: The file (default: contact_sheet.png in the folder).

    Returns:
        `png`, and the figures of `dataset.shares`.

    Raises:
        ValueError: The folder is no data set.
    """
    annotations = folder / "annotations.json"
    if not annotations.is_file():
        raise ValueError(f"{folder}: has no annotations.json; expected a rendered data set")
    png = png or folder / "contact_sheet.png"
    sheet(folder, count, columns).save(png)
    return {"png": str(png), **dataset.shares(json.loads(annotations.read_text()))}
