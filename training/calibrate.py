"""Make an adapter as sure as it is right: two temperatures fitted on a validation set, saved with the adapter.

The depth temperature is the one with which σ holds as many errors as a normal distribution's would (68.3 %), the choice
temperature the one that makes the true choices likeliest.

`python -m training.calibrate ADAPTER --data DIR`

Promises: only the two temperatures change: no choice becomes another, and a depth, the mean over the digit tree, moves
only as far as the tree widens. Never run it on a set that figures are reported on. Knows nothing of training.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from proxqa_core.adapter import INFO, read_info
from proxqa_core.engine import ProximityEngine
from proxqa_core.errors import ProxqaError
from proxqa_core.evaluation.folder import LabelledFolder
from proxqa_core.evaluation.metrics import MIN_GAP, expected_calibration_error
from proxqa_core.llm.readout import DigitTree, read_choice, read_depth
from proxqa_core.types import ObjectQuery

TEMPERATURES = np.geomspace(0.25, 16, 145)
WITHIN = 0.683
"""Share of a normal distribution within one standard deviation."""


@dataclass(frozen=True)
class Seen:
    """What the model said of a set, raw, and what is true: trees with depths, odds [pairs, 2] with first-is-closer."""

    trees: list[DigitTree]
    depths: NDArray[np.float64]
    odds: NDArray[np.float64]
    first: NDArray[np.bool_]


def look(engine: ProximityEngine, folder: LabelledFolder, limit: int | None = None) -> Seen:
    """Ask everything by name (where a phrase means one object) and by box. limit: only the first images."""
    trees, depths, odds, first = [], [], [], []
    for record in tqdm(folder.records[:limit], desc="calibrate", unit="image"):
        things = [o for o in record.objects if o.ref is not None and o.depth is not None and o.depth_m is not None]
        if not things:
            continue
        view = engine.look(record.load_image())
        for by_box in (False, True):
            queries = [ObjectQuery(o.ref, o.box if by_box else None) for o in things]
            trees += view.digit_trees(queries)
            depths += [o.depth for o in things]
            found = dict(zip(queries, view.depths(queries), strict=True))
            pairs = [
                (i, j)
                for i in range(len(things))
                for j in range(i)
                if abs(things[i].depth_m - things[j].depth_m) >= MIN_GAP * max(things[i].depth_m, things[j].depth_m)
            ]
            asked = [(queries[i], queries[j]) for i, j in pairs]
            odds.append(view.choice_odds(asked, [(found[a], found[b]) for a, b in asked]))
            first += [things[i].depth_m < things[j].depth_m for i, j in pairs]
    return Seen(trees, np.array(depths, float), np.concatenate(odds), np.array(first, bool))


def within_sigma(seen: Seen, temperature: float) -> float:
    """Share of the depths whose error is at most the stated σ."""
    reads = [read_depth(tree, temperature) for tree in seen.trees]
    error = np.array([r.mean for r in reads]) - seen.depths
    return float((abs(error) <= np.array([r.stddev for r in reads])).mean())


def choice_loss(seen: Seen, temperature: float) -> float:
    """Mean negative log-likelihood of the true choices."""
    p = np.clip(read_choice(seen.odds, temperature), 1e-6, 1 - 1e-6)
    return float(-np.log(np.where(seen.first, p, 1 - p)).mean())


def choice_error(seen: Seen, temperature: float) -> float:
    """Expected calibration error of the choices."""
    p = read_choice(seen.odds, temperature)
    right = np.where(p >= 0.5, seen.first, ~seen.first).astype(np.float64)
    return expected_calibration_error(np.maximum(p, 1 - p), right)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m training.calibrate", description=__doc__.splitlines()[0])
    parser.add_argument("adapter", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="labelled folder that no figure is reported on")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N images")
    args = parser.parse_args(argv)
    try:
        info = read_info(args.adapter)
        seen = look(ProximityEngine.load(adapter=args.adapter), LabelledFolder(args.data), args.limit)
        if not len(seen.depths) or not len(seen.first):
            raise ValueError(f"{str(args.data)!r} has no pairs of objects with depths to calibrate on")
        depth = min(TEMPERATURES, key=lambda t: abs(within_sigma(seen, t) - WITHIN))
        choice = min(TEMPERATURES, key=lambda t: choice_loss(seen, t))
        before, after = within_sigma(seen, 1.0), within_sigma(seen, depth)
        print(f"depth temperature {depth:.3f}: within one σ {100 * before:.1f} % → {100 * after:.1f} %")
        print(f"choice temperature {choice:.3f}: loss {choice_loss(seen, 1.0):.4f} → {choice_loss(seen, choice):.4f}")
        print(f"calibration error {choice_error(seen, 1.0):.4f} → {choice_error(seen, choice):.4f}")
        print(f"{len(seen.depths)} depths and {len(seen.first)} choices, by name and by box")
        temperatures = {"depth_temperature": round(float(depth), 3), "choice_temperature": round(float(choice), 3)}
        part = args.adapter / (INFO + ".part")
        part.write_text(json.dumps(dataclasses.asdict(dataclasses.replace(info, **temperatures)), indent=1) + "\n")
        os.replace(part, args.adapter / INFO)
    except (ProxqaError, ValueError, OSError) as error:
        print(f"calibrate: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
