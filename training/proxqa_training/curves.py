"""The curves of a run as one picture: `python -m proxqa_training.curves RUN … [--png FILE]`.

Promises: every figure in `log.jsonl` is drawn against images seen, smoothed, one panel a figure and one line a run.
Needs matplotlib (`pip install matplotlib`). Knows nothing of training.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path

SMOOTH = 0.9
Curve = tuple[list[int], list[float]]


def read_curves(run: Path) -> dict[str, Curve]:
    """'stage: figure' → (steps, values) of a run's log, in the order they were logged. ValueError on an empty log."""
    curves: dict[str, Curve] = defaultdict(lambda: ([], []))
    for line in (run / "log.jsonl").read_text().splitlines():
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


def smoothed(values: list[float], by: float = SMOOTH) -> list[float]:
    """Exponential moving average, from the first value on."""
    out: list[float] = []
    for value in values:
        out.append(value if not out else by * out[-1] + (1 - by) * value)
    return out


def draw(runs: list[Path], png: Path) -> None:
    """Write the picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    read = {run.name: read_curves(run) for run in runs}
    titles = list(dict.fromkeys(title for curves in read.values() for title in curves))
    columns = min(4, len(titles))
    rows = -(-len(titles) // columns)
    figure, axes = pyplot.subplots(rows, columns, figsize=(3.6 * columns, 2.4 * rows), squeeze=False)
    for axis, title in zip(axes.flat, titles, strict=False):
        for name, curves in read.items():
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


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m proxqa_training.curves", description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--png", type=Path, help="where to write it (default: RUN/curves.png of the first)")
    args = parser.parse_args(argv)
    png = args.png or args.runs[0] / "curves.png"
    try:
        draw(args.runs, png)
    except ImportError:
        print("curves: matplotlib is not installed; run: pip install matplotlib", file=sys.stderr)
        return 2
    except (OSError, ValueError) as error:
        print(f"curves: {error}", file=sys.stderr)
        return 2
    print(f"wrote {png}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
