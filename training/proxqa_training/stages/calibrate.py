"""Make an adapter as sure as it is right: what is fitted on a validation set, saved with the adapter.

The depth temperature is the one with which σ holds as many errors as a normal distribution's would (68.3 %). Which is
closer is left to stage 2 where it puts more pairs in the right order than the perceived depths do, else to them
(`reasons`); the choice temperature is the one that makes the true choices likeliest.

`python -m proxqa_training.stages.calibrate ADAPTER --data DIR`

What is asked for is there if the language model and the grounding head together say so; what either's word weighs (by name
`visibility`, by box `visibility_in_box`) is fitted on what is there and on names that are not, as many of one kind as of
the other.

Promises: only these five change: no choice becomes another by its temperature, and a depth, the mean over the digit
tree, moves only as far as the tree widens. Never run it on a set that figures are reported on. Knows nothing of
training.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import sys
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from proxqa_core.datasets.folder import LabelledFolder
from proxqa_core.engine import ProximityEngine
from proxqa_core.errors import ProxqaError
from proxqa_core.evaluation.metrics import MIN_GAP, expected_calibration_error
from proxqa_core.evaluation.runner import absent_names
from proxqa_core.llm.readout import DigitTree, compare_depths, read_choice, read_depth, read_visibility
from proxqa_core.model.adapter import INFO, read_info
from proxqa_core.types import ObjectQuery

TEMPERATURES = np.geomspace(0.25, 16, 145)
ABSENT = 3
"""Names that are not there, asked for in every image."""
CHOICES = 8
"""Pairs asked for in every image by either prompt, drawn where there are more: each is asked in both orders."""
RIDGE = 1e-4
"""Pull of the presence weights to 0: classes that part without error would pull them to infinity."""
WITHIN = 0.683
"""Share of a normal distribution within one standard deviation."""


@dataclass(frozen=True)
class Seen:
    """What the model said of a set, raw, and what is true: trees with depths, odds [pairs, 2] with first-is-closer.

    pairs: [pairs, 2], indices of the trees of the first and of the second object. there, absent: evidence
    (`readout.visibility_evidence`) for what was asked by name and for what was asked by box, [n, 2] each; empty where the
    adapter has no grounding head.
    """

    trees: list[DigitTree]
    depths: NDArray[np.float64]
    odds: NDArray[np.float64]
    first: NDArray[np.bool_]
    pairs: NDArray[np.int64]
    there: tuple[NDArray[np.float64], NDArray[np.float64]]
    absent: tuple[NDArray[np.float64], NDArray[np.float64]]


def encode_image(engine: ProximityEngine, folder: LabelledFolder, limit: int | None = None) -> Seen:
    """Ask everything by name (where a phrase means one object) and by box. limit: only the first images."""
    trees, depths, odds, first, compared = [], [], [], [], []
    there: tuple[list[NDArray[np.float64]], ...] = ([], [])
    absent: tuple[list[NDArray[np.float64]], ...] = ([], [])
    names = sorted({o.name for record in folder.records for o in record.objects})
    for record in tqdm(folder.records[:limit], desc="calibrate", unit="image"):
        things = [o for o in record.objects if o.ref is not None and o.depth is not None and o.depth_m is not None]
        if not things:
            continue
        view = engine.encode_image(record.load_image())
        for by_box in (False, True):
            queries = [ObjectQuery(o.ref, o.box if by_box else None) for o in things]
            start = len(trees)
            trees += view.digit_trees(queries)
            if engine.model.grounding_head is not None:
                there[by_box].extend(map(view.visibility_evidence, queries, trees[start:]))
                elsewhere = zip(absent_names(record, names, ABSENT), cycle(things), strict=False)
                missing = [ObjectQuery(name, o.box if by_box else None) for name, o in elsewhere]
                absent[by_box].extend(
                    map(view.visibility_evidence, missing, view.digit_trees(missing) if missing else [])
                )
            depths += [o.depth for o in things]
            found = dict(zip(queries, view.depths(queries), strict=True))
            pairs = [
                (i, j)
                for i in range(len(things))
                for j in range(i)
                if abs(things[i].depth_m - things[j].depth_m) >= MIN_GAP * max(things[i].depth_m, things[j].depth_m)
            ]
            pairs = random.Random(record.image).sample(pairs, min(CHOICES, len(pairs)))
            asked = [(queries[i], queries[j]) for i, j in pairs]
            odds.append(view.choice_odds(asked, [(found[a], found[b]) for a, b in asked]))
            first += [things[i].depth_m < things[j].depth_m for i, j in pairs]
            compared += [(start + i, start + j) for i, j in pairs]
    at = np.array(compared, np.int64).reshape(-1, 2)
    present, missed = (tuple(np.array(e, float).reshape(-1, 2) for e in both) for both in (there, absent))
    return Seen(trees, np.array(depths, float), np.concatenate(odds), np.array(first, bool), at, present, missed)


def presence_weights(there: NDArray[np.float64], absent: NDArray[np.float64]) -> tuple[float, float, float]:
    """Weights of both log-odds and a constant by logistic regression (Newton), both kinds of equal weight."""
    x = np.concatenate([there, absent])
    x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    y = np.arange(len(x)) < len(there)
    w = np.where(y, 0.5 / len(there), 0.5 / len(absent))
    b = np.zeros(3)
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(x @ b, -30, 30)))
        slope = x.T @ (w * (y - p)) - RIDGE * b
        b += np.linalg.solve((x * (w * p * (1 - p))[:, None]).T @ x + RIDGE * np.eye(3), slope)
    found = [round(float(v), 4) for v in b]
    return found[0], found[1], found[2]


def within_sigma(seen: Seen, temperature: float) -> float:
    """Share of the depths whose error is at most the stated σ."""
    reads = [read_depth(tree, temperature) for tree in seen.trees]
    error = np.array([r.mean for r in reads]) - seen.depths
    return float((abs(error) <= np.array([r.stddev for r in reads])).mean())


def depth_temperature(seen: Seen) -> float:
    """The lowest temperature with which σ holds its share of the errors; the nearest to it where none does.

    Not the nearest of all: flat trees put every mean in the middle, and a wide σ around a wrong mean can hold as many.
    """
    shares = np.array([within_sigma(seen, t) for t in TEMPERATURES])
    enough = np.flatnonzero(shares >= WITHIN)
    upto = int(enough[0]) + 1 if len(enough) else len(shares)
    return float(TEMPERATURES[np.abs(shares[:upto] - WITHIN).argmin()])


def chosen(seen: Seen, temperature: float) -> NDArray[np.float64]:
    """Probability [pairs] by stage 2 that the first is closer."""
    return read_choice(seen.odds, temperature)


def compared(seen: Seen, depth_temperature: float, temperature: float) -> NDArray[np.float64]:
    """Probability [pairs] by the perceived depths that the first is closer."""
    reads = [read_depth(tree, depth_temperature) for tree in seen.trees]
    spread = [(reads[i].mean, reads[i].stddev, reads[j].mean, reads[j].stddev) for i, j in seen.pairs]
    return np.array([compare_depths(*values, temperature) for values in spread])


def share_right(p: NDArray[np.float64], first: NDArray[np.bool_]) -> float:
    return float(((p >= 0.5) == first).mean())


def choice_loss(p: NDArray[np.float64], first: NDArray[np.bool_]) -> float:
    """Mean negative log-likelihood of the true choices."""
    p = np.clip(p, 1e-6, 1 - 1e-6)
    return float(-np.log(np.where(first, p, 1 - p)).mean())


def choice_error(p: NDArray[np.float64], first: NDArray[np.bool_]) -> float:
    """Expected calibration error of the choices."""
    right = np.where(p >= 0.5, first, ~first).astype(np.float64)
    return expected_calibration_error(np.maximum(p, 1 - p), right)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m proxqa_training.stages.calibrate", description=__doc__.splitlines()[0]
    )
    parser.add_argument("adapter", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="labelled folder that no figure is reported on")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N images")
    args = parser.parse_args(argv)
    try:
        info = read_info(args.adapter)
        seen = encode_image(ProximityEngine.load(adapter=args.adapter), LabelledFolder(args.data), args.limit)
        if not len(seen.depths) or not len(seen.first):
            raise ValueError(f"{str(args.data)!r} has no pairs of objects with depths to calibrate on")
        depth = depth_temperature(seen)
        by_stage_2, by_depths = (share_right(p, seen.first) for p in (chosen(seen, 1), compared(seen, depth, 1)))
        reasons = by_stage_2 >= by_depths

        def said(temperature: float) -> NDArray[np.float64]:
            return chosen(seen, temperature) if reasons else compared(seen, depth, temperature)

        choice = float(min(TEMPERATURES, key=lambda t: choice_loss(said(t), seen.first)))
        print(
            f"depth temperature {depth:.3f}: within one σ {within_sigma(seen, 1):.1%} → {within_sigma(seen, depth):.1%}"
        )
        who = "stage 2" if reasons else "the depths"
        print(f"right order: stage 2 {by_stage_2:.1%}, perceived depths {by_depths:.1%}: {who} will decide")
        for name, figure in (("loss", choice_loss), ("calibration error", choice_error)):
            before, after = (figure(said(t), seen.first) for t in (1.0, choice))
            print(f"choice temperature {choice:.3f}: {name} {before:.4f} → {after:.4f}")
        print(f"{len(seen.depths)} depths and {len(seen.first)} choices, by name and by box")
        found: dict[str, Any] = {
            "depth_temperature": round(depth, 3),
            "choice_temperature": round(choice, 3),
            "reasons": reasons,
        }
        for key, there, absent in zip(("visibility", "visibility_in_box"), seen.there, seen.absent, strict=True):
            if not (len(there) and len(absent)):
                continue
            found[key] = weights = presence_weights(there, absent)
            is_there, is_not = ([read_visibility(e, weights) for e in es] for es in (there, absent))
            print(
                f"{key} {weights}: {np.mean(np.array(is_there) >= 0.5):.1%} of {len(is_there)} that are there and "
                f"{np.mean(np.array(is_not) < 0.5):.1%} of {len(is_not)} absent ones told right"
            )
        part = args.adapter / (INFO + ".part")
        part.write_text(json.dumps(dataclasses.asdict(dataclasses.replace(info, **found)), indent=1) + "\n")
        os.replace(part, args.adapter / INFO)
    except (ProxqaError, ValueError, OSError) as error:
        print(f"calibrate: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
