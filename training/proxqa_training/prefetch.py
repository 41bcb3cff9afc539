"""Preparing the data of coming steps in other processes, while the present one is trained on.

Promises: steps come in order, each as `make` makes it, however many processes there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import cv2
from torch.utils.data import DataLoader, Dataset

T = TypeVar("T")
STEPS_AHEAD = 4
"""Steps that each process has ready at most."""


class _Steps(Dataset[Any]):
    """The steps of a range as a map-style dataset."""

    def __init__(self, make: Callable[[int], Any], steps: range):
        self.make, self.steps = make, steps

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int) -> Any:
        return self.make(self.steps[index])


def _identity(value: Any) -> Any:
    return value


def _one_thread(_: int) -> None:
    """Torch sees to its own threads in a worker; OpenCV must be told."""
    cv2.setNumThreads(0)


def prefetch(make: Callable[[int], T], steps: range, num_workers: int) -> Iterator[T]:
    """Make the data of steps ahead of time.

    Args:
        make: Makes the data of a step; may not touch a GPU.
        steps: Numbers of the steps.
        num_workers: Processes that work ahead; 0 = this one, when a step is asked for.

    Yields:
        `make(step)` for each step, in order.

    Raises:
        ValueError: num_workers is negative.
    """
    if num_workers < 0:
        raise ValueError(f"workers is {num_workers}; expected 0 or more")
    if num_workers == 0:
        yield from map(make, steps)
        return
    yield from DataLoader(
        _Steps(make, steps),
        batch_size=None,
        num_workers=num_workers,
        collate_fn=_identity,
        worker_init_fn=_one_thread,
        prefetch_factor=STEPS_AHEAD,
        multiprocessing_context="fork",
    )
