"""What a run writes about itself: figures as JSON lines, and a progress bar for whoever watches a terminal.

Promises: every call appends one whole line, so that a run that was stopped leaves a log that can be read. Messages for
people go through `logging`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tqdm import tqdm

LOG_FILE = "log.jsonl"
"""Name of the log inside the folder of a run."""
DECIMALS = 5
"""To which floating-point figures are rounded."""


class MetricsLogger:
    """Appends figures to a file of JSON lines.

    Args:
        path: The file; made by the first call.
    """

    def __init__(self, path: Path):
        self.path = path

    def __call__(self, **values: Any) -> None:
        """Append one line.

        Args:
            **values: Figures and what they belong to (`stage`, `step`); floats are rounded to five decimals.
        """
        rounded = {k: round(v, DECIMALS) if isinstance(v, float) else v for k, v in values.items()}
        with self.path.open("a") as file:
            file.write(json.dumps(rounded) + "\n")


class RunningMean:
    """Exponential moving averages of the figures of the steps, for the progress bar.

    Args:
        momentum: Share of the earlier average that is kept by a step, in [0, 1).
    """

    def __init__(self, momentum: float):
        self.momentum = momentum
        self.values: dict[str, float] = {}

    def update(self, figures: dict[str, float]) -> None:
        """Take in the figures of a step; the first value of each is taken as it is."""
        for key, value in figures.items():
            earlier = self.values.get(key, value)
            self.values[key] = self.momentum * earlier + (1 - self.momentum) * value

    def as_text(self) -> dict[str, str]:
        """The averages with three decimals."""
        return {k: f"{v:.3f}" for k, v in self.values.items()}


def progress(items: Iterable[Any] | None = None, **options: Any) -> tqdm:
    """A progress bar that is shown on a terminal only, and not where just errors are wanted.

    Args:
        items: What to iterate over; None for a bar that is moved by `update`.
        **options: As of `tqdm.tqdm`.
    """
    quiet = logging.getLogger("proxqa_training").getEffectiveLevel() >= logging.ERROR
    return tqdm(items, disable=True if quiet else None, **options)
