"""Two adapters asked the same: how much better the first one is, and how sure that is.

Promises: both are asked about the same images in the same words; every difference is the first one's figure minus the
other's, on the same pairs and objects, with a 95 % interval by bootstrap over images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from proxqa_core.engine import ProximityEngine
from proxqa_core.evaluation.metrics import Measurements, interval
from proxqa_core.evaluation.runner import measure

Case = tuple[int, float, float]
"""Image, the first one's figure, the other's."""


def compare(
    adapters: tuple[Path, Path],
    folder: Path,
    prompt: str = "box",
    limit: int | None = None,
    device: str = "auto",
    dtype: str = "auto",
) -> dict[str, Any]:
    """Ask two adapters the same.

    Args:
        adapters: Their folders.
        folder: A labelled folder with depths.
        prompt: 'name' or 'box', see `proxqa_core.evaluation.runner`.
        limit: Only the first images.
        device: As of `ProximityEngine.load`.
        dtype: As of `ProximityEngine.load`.

    Returns:
        As of `difference`.

    Raises:
        ProxqaError: An adapter or the folder is at fault.
    """
    first, other = (
        measure(ProximityEngine.load(adapter=a, device=device, dtype=dtype), folder, prompt, limit) for a in adapters
    )
    return difference(first, other)


def difference(first: Measurements, other: Measurements) -> dict[str, Any]:
    """Figures of both and their differences.

    Returns:
        {figure: {first, other, difference, interval_95, cases}}.

    Raises:
        ValueError: They were not asked the same.
    """
    if _asked(first) != _asked(other):
        raise ValueError("the two were not asked the same pairs and objects; expected one folder and one prompt")
    pairs = list(zip(first.pairs, other.pairs, strict=True))
    objects = zip(first.objects, other.objects, strict=True)
    measured = [(a, b) for a, b in objects if all(math.isfinite(v) for v in (a.truth, a.depth, b.depth))]
    figures: dict[str, list[Case]] = {
        "pair_accuracy": [(a.image, a.correct, b.correct) for a, b in pairs],
        "pair_accuracy_breaking": [(a.image, a.correct, b.correct) for a, b in pairs if a.counter_heuristic],
        "pair_accuracy_from_depths": [(a.image, a.from_depths, b.from_depths) for a, b in pairs],
        "mae": [(a.image, abs(a.depth - a.truth), abs(b.depth - b.truth)) for a, b in measured],
    }
    return {name: _figure(cases) for name, cases in figures.items() if cases}


def as_text(figures: dict[str, Any]) -> str:
    """What `difference` returned, for people: a line a figure."""
    lines = []
    for name, f in figures.items():
        low, high = f["interval_95"]
        values = f"{f['first']:.4f} - {f['other']:.4f} = {f['difference']:+.4f}"
        lines.append(f"{name} ({f['cases']}): {values} [{low:+.4f}, {high:+.4f}]")
    return "\n".join(lines)


def _asked(measurements: Measurements) -> tuple[list[Any], list[Any]]:
    return (
        [(p.image, p.near_box, p.far_box) for p in measurements.pairs],
        [(o.image, o.name) for o in measurements.objects],
    )


def _figure(cases: Sequence[Case]) -> dict[str, Any]:
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
