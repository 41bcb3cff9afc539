"""Learning-rate schedules.

Source: cosine annealing, Loshchilov and Hutter 2017, arXiv 1608.03983 (one period, with a linear warm-up).
"""

from __future__ import annotations

import math


def cosine_with_warmup(step: int, num_steps: int, warmup_ratio: float, floor: float) -> float:
    """Factor on the peak learning rate.

    Args:
        step: Number of the step, from 0.
        num_steps: Steps in all.
        warmup_ratio: Share of the steps over which the rate rises linearly, in [0, 1].
        floor: Share of the peak that is left at the end, in [0, 1].

    Returns:
        A factor in (0, 1].
    """
    warm = min(1.0, (step + 1) / max(1, warmup_ratio * num_steps))
    return warm * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * step / num_steps)))
