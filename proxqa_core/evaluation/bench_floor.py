"""What the arithmetic of an answer would take at the rates that this machine reaches, measured in the same run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from proxqa_core.engine import ProximityEngine

MATRIX_SIDE = 1536
"""Of the square matrices whose product is timed."""
COPIED_BYTES = 2**28
MEASURED_S = 1.0
"""Time that each rate is measured for, in seconds."""


def floor(engine: ProximityEngine, image: NDArray[np.uint8], names: Sequence[str]) -> dict[str, float]:
    """The least time of an image with some objects.

    Args:
        engine: Whose model and type count.
        image: uint8 RGB [height, width, 3].
        names: The objects.

    Returns:
        `gflop` of multiplications and additions in matrix products, counted while PyTorch runs the same prompts;
        `gflops` per second and `gbytes` per second that the device reaches; `image_ms`, the quotient of the first two.
    """
    gflop = _counted(engine, image, names) / 1e9
    rate = matmul_rate(engine.model.device, engine.model.dtype) / 1e9
    return {
        "gflop": gflop,
        "gflops": rate,
        "gbytes": bandwidth(engine.model.device) / 1e9,
        "image_ms": 1000 * gflop / rate,
    }


def _counted(engine: ProximityEngine, image: NDArray[np.uint8], names: Sequence[str]) -> float:
    """Operations of matrix products, by PyTorch's own counter."""
    reference = ProximityEngine(engine.model)
    reference.encode_image(image).depths(names[:1])  # what is read once for all images
    with FlopCounterMode(display=False) as counter:
        reference.encode_image(image).depths(names)
    return float(counter.get_total_flops())


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Operations per second of a large matrix product."""
    a, b = (torch.randn(MATRIX_SIDE, MATRIX_SIDE).to(device, dtype) for _ in range(2))
    return 2 * MATRIX_SIDE**3 / _seconds(lambda: a @ b, device)


def bandwidth(device: torch.device) -> float:
    """Bytes per second that are read and written when memory is copied."""
    source = torch.zeros(COPIED_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * COPIED_BYTES / _seconds(lambda: target.copy_(source), device)


def _seconds(run: Callable[[], Any], device: torch.device) -> float:
    """Least time that something takes, in seconds."""

    def once() -> float:
        before = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - before

    once()
    until = time.perf_counter() + MEASURED_S
    spans = [once()]
    while time.perf_counter() < until:
        spans.append(once())
    return min(spans)
