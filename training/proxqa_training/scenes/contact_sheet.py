"""`python -m proxqa_training.scenes.contact_sheet DIR`: many images of a data set in one PNG, with boxes, names and depths.

Knows only the folder format, not how the images were made.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from PIL import Image, ImageDraw

from proxqa_training.scenes import dataset

CELL = (300, 240)


def draw(folder: Path, record: dict) -> Image.Image:
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
    out = Image.new("RGB", (CELL[0] * columns, CELL[1] * rows))
    for i, record in enumerate(records):
        picture = draw(folder, record)
        picture.thumbnail((CELL[0] - 4, CELL[1] - 4))
        out.paste(picture, (i % columns * CELL[0], i // columns * CELL[1]))
    return out


def main() -> int:
    p = argparse.ArgumentParser(
        prog="python -m proxqa_training.scenes.contact_sheet", description=__doc__.splitlines()[0]
    )
    p.add_argument("folder", type=Path)
    p.add_argument("--count", type=int, default=30)
    p.add_argument("--columns", type=int, default=6)
    p.add_argument("--png", type=Path, help="where it is written (default: contact_sheet.png in the folder)")
    args = p.parse_args()
    if not (args.folder / "annotations.json").is_file():
        print(f"contact_sheet: no annotations.json in {args.folder}", file=sys.stderr)
        return 2
    png = args.png or args.folder / "contact_sheet.png"
    sheet(args.folder, args.count, args.columns).save(png)
    print(png, json.dumps(dataset.shares(json.loads((args.folder / "annotations.json").read_text()))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
