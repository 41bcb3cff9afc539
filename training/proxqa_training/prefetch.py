"""Preparing the data of coming steps in other processes, while the present one is trained on.

Promises: steps come in order, each as `make` makes it, however many processes there are. `make` may not touch a GPU.
Knows nothing of what is prepared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import cv2
from torch.utils.data import DataLoader, Dataset

T = TypeVar("T")
WAITING = 4
"""Steps that each process has ready at most."""


class _Steps(Dataset[Any]):
    def __init__(self, make: Callable[[int], Any], steps: range):
        self.make, self.steps = make, steps

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int) -> Any:
        return self.make(self.steps[index])


def _as_it_is(value: Any) -> Any:
    return value


def _one_thread(_: int) -> None:
    """Torch sees to its own threads in a worker; OpenCV's are to be told."""
    cv2.setNumThreads(0)


def prepared(make: Callable[[int], T], steps: range, workers: int) -> Iterator[T]:
    """`make(step)` for each of steps. workers: processes that work ahead; 0 = here, when it is asked for."""
    if workers < 0:
        raise ValueError(f"workers is {workers}; expected 0 or more")
    if workers == 0:
        yield from map(make, steps)
        return
    yield from DataLoader(
        _Steps(make, steps),
        batch_size=None,
        num_workers=workers,
        collate_fn=_as_it_is,
        worker_init_fn=_one_thread,
        prefetch_factor=WAITING,
        multiprocessing_context="fork",
    )
