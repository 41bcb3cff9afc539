"""How well the default model finds what it was taught, name by name: writes `names.json` beside its adapter.

For a sample of labelled photographs, every name that an image has is asked for, and two names of others that are
certainly not in it. Found: counted as in view, and in a place that overlaps a labelled box of that name. The
photographs are those that the model learned from, so that the figures are the best that can be expected.

    python scripts/names_found.py FOLDER [FOLDER ...] --per-name 5
"""

from __future__ import annotations

import argparse
import json
import random
from collections import defaultdict
from pathlib import Path

from proxqa_core.datasets.folder import LabelledFolder, Record
from proxqa_core.engine import ProximityEngine
from proxqa_core.model.taught_names import NAMES_FILE
from proxqa_core.types import VISIBLE, Box

MIN_OVERLAP = 0.25
"""Least share of the union of two boxes that they have in common to be of one thing."""


def overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes."""
    width = min(a.x2, b.x2) - max(a.x1, b.x1)
    height = min(a.y2, b.y2) - max(a.y1, b.y1)
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / ((a.x2 - a.x1) * (a.y2 - a.y1) + (b.x2 - b.x1) * (b.y2 - b.y1) - both)


def sample(folders: list[Path], per_name: int) -> list[tuple[Record, frozenset[str], tuple[str, ...]]]:
    """Images in which every name comes at least `per_name` times where there are so many.

    Returns:
        Record, the names of its folder, and the names to ask for.
    """
    chosen = []
    for folder in folders:
        records = LabelledFolder(folder).records
        names = frozenset(o.name for record in records for o in record.objects)
        wanted = dict.fromkeys(names, per_name)
        for record in random.Random(1).sample(list(records), len(records)):
            here = {o.name for o in record.objects}
            if any(wanted[name] > 0 for name in here):
                for name in here:
                    wanted[name] -= 1
                chosen.append((record, names, tuple(sorted(here))))
    return chosen


def measure(engine: ProximityEngine, folders: list[Path], per_name: int, absent: int) -> dict[str, list[int]]:
    """Counts of every name: asked, found, asked where absent, mistaken."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    images = sample(folders, per_name)
    draw = random.Random(2)
    for number, (record, names, here) in enumerate(images):
        others = draw.sample(sorted(names - set(here)), min(absent, len(names) - len(here)))
        seen = engine.encode_image(record.load_image()).depths([*here, *others])
        for o in seen:
            boxes = [b.box for b in record.objects if b.name == o.name]
            there = o.score >= VISIBLE
            right = there and o.found_at is not None and any(overlap(o.found_at, b) >= MIN_OVERLAP for b in boxes)
            row = counts[o.name]
            row[0 if boxes else 2] += 1
            row[1 if boxes else 3] += right if boxes else there
        print(f"{number + 1} of {len(images)} images", end="\r", flush=True)
    return dict(sorted(counts.items()))


def main() -> None:
    """Measure, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--per-name", type=int, default=5, help="images that have a name, at least (5)")
    parser.add_argument("--absent", type=int, default=2, help="names an image that are not in it (2)")
    parser.add_argument("--out", type=Path, default=NAMES_FILE)
    options = parser.parse_args()
    engine = ProximityEngine.load()
    counts = measure(engine, options.folders, options.per_name, options.absent)
    report = {
        "adapter": engine.info()["adapter"],
        "measured_on": "labelled photographs that the model learned from: the best that can be expected",
        "names": counts,
    }
    options.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
