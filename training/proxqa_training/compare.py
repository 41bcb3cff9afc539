"""Two adapters asked the same: how much better the first one is, and how sure that is.

`python -m proxqa_training.compare ADAPTER OTHER --data FOLDER [--prompt box] [--limit N] [--json FILE]`

Promises: both are asked about the same images in the same words; every difference is the first one's figure minus the
other's, on the same pairs and objects, with a 95 % interval by bootstrap over images. Knows nothing of training.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

from proxqa_core.engine import ProximityEngine
from proxqa_core.errors import ProxqaError
from proxqa_core.evaluation.metrics import Measurements, interval
from proxqa_core.evaluation.runner import PROMPTS, measure


def difference(first: Measurements, other: Measurements) -> dict[str, Any]:
    """Figures of both and their differences: {figure: {first, other, difference, interval_95, cases}}.

    ValueError where they were not asked the same.
    """
    asked = [(p.image, p.near_box, p.far_box) for p in first.pairs], [(o.image, o.name) for o in first.objects]
    if asked != ([(p.image, p.near_box, p.far_box) for p in other.pairs], [(o.image, o.name) for o in other.objects]):
        raise ValueError("the two were not asked the same pairs and objects; expected one folder and one prompt")
    pairs, objects = (
        list(zip(first.pairs, other.pairs, strict=True)),
        list(zip(first.objects, other.objects, strict=True)),
    )
    measured = [(a, b) for a, b in objects if all(math.isfinite(v) for v in (a.truth, a.depth, b.depth))]
    figures = {
        "pair_accuracy": [(a.image, a.correct, b.correct) for a, b in pairs],
        "pair_accuracy_breaking": [(a.image, a.correct, b.correct) for a, b in pairs if a.counter_heuristic],
        "pair_accuracy_from_depths": [(a.image, a.from_depths, b.from_depths) for a, b in pairs],
        "mae": [(a.image, abs(a.depth - a.truth), abs(b.depth - b.truth)) for a, b in measured],
    }
    return {name: _figure(cases) for name, cases in figures.items() if cases}


def _figure(cases: list[tuple[int, float, float]]) -> dict[str, Any]:
    image = np.array([c[0] for c in cases], dtype=np.int64)
    both = np.array([c[1:] for c in cases], dtype=np.float64)
    gain = both[:, 0] - both[:, 1]
    return {
        "first": float(both[:, 0].mean()),
        "other": float(both[:, 1].mean()),
        "difference": float(gain.mean()),
        "interval_95": interval(image, lambda i: float(gain[i].mean())),
        "cases": len(cases),
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m proxqa_training.compare", description=__doc__.splitlines()[0])
    parser.add_argument("adapter", type=Path)
    parser.add_argument("other", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="labelled folder with depths")
    parser.add_argument("--prompt", choices=PROMPTS, default="box")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N images")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON too")
    args = parser.parse_args(argv)
    try:
        said = [
            measure(ProximityEngine.load(adapter=adapter), args.data, args.prompt, args.limit)
            for adapter in (args.adapter, args.other)
        ]
        figures = difference(*said)
        for name, f in figures.items():
            low, high = f["interval_95"]
            values = f"{f['first']:.4f} - {f['other']:.4f} = {f['difference']:+.4f}"
            print(f"{name} ({f['cases']}): {values} [{low:+.4f}, {high:+.4f}]")
        if args.json:
            args.json.write_text(json.dumps(figures, indent=1) + "\n")
    except (ProxqaError, ValueError, OSError) as error:
        print(f"compare: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
