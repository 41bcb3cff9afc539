"""The curves of runs as one picture.

Promises: every figure in `log.jsonl` is drawn against the steps, smoothed, one panel a figure and one line a run. Needs
matplotlib.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from proxqa_training.logs import LOG_FILE

SMOOTHING = 0.9
"""Share of the earlier average that each value keeps."""
MAX_COLUMNS = 4
Curve = tuple[list[int], list[float]]


def read_curves(run: Path) -> dict[str, Curve]:
    """Read a run's log.

    Args:
        run: Folder of the run.

    Returns:
        'stage: figure' → (steps, values), in the order they were logged; of a step that a resumed run saw again, the
        later values.

    Raises:
        ValueError: The log has no steps.
    """
    curves: dict[str, Curve] = defaultdict(lambda: ([], []))
    for line in (run / LOG_FILE).read_text().splitlines():
        values = json.loads(line)
        if "step" in values:
            for key, value in values.items():
                if key not in ("stage", "step") and isinstance(value, int | float):
                    steps, figures = curves[f"{values['stage']}: {key}"]
                    while steps and steps[-1] >= values["step"]:  # seen again by a run that was resumed
                        steps.pop(), figures.pop()
                    steps.append(values["step"])
                    figures.append(float(value))
    if not curves:
        raise ValueError(f"{run / 'log.jsonl'} has no steps to draw")
    return dict(curves)


def smoothed(values: list[float], momentum: float = SMOOTHING) -> list[float]:
    """Exponential moving average, from the first value on."""
    out: list[float] = []
    for value in values:
        out.append(value if not out else momentum * out[-1] + (1 - momentum) * value)
    return out


def draw(runs: Sequence[Path], png: Path) -> None:
    """Draw the curves of runs.

    Args:
        runs: Their folders.
        png: The picture to write.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: A log has no steps.
    """
    curves_of = {run.name: read_curves(run) for run in runs}
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    titles = list(dict.fromkeys(title for curves in curves_of.values() for title in curves))
    columns = min(MAX_COLUMNS, len(titles))
    rows = -(-len(titles) // columns)
    figure, axes = pyplot.subplots(rows, columns, figsize=(3.6 * columns, 2.4 * rows), squeeze=False)
    for axis, title in zip(axes.flat, titles, strict=False):
        for name, curves in curves_of.items():
            if title in curves:
                axis.plot(curves[title][0], smoothed(curves[title][1]), label=name, linewidth=1)
        axis.set_title(title, fontsize=9)
        axis.tick_params(labelsize=7)
    for axis in list(axes.flat)[len(titles) :]:
        axis.axis("off")
    if len(runs) > 1:
        axes.flat[0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(png, dpi=110)
