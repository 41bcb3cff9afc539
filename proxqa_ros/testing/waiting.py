"""Wait for a condition: every wait here has an end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

TIMEOUT_S = 30.0
"""Seconds after which something that should have happened has not happened: generous, for a busy machine."""


def wait_until(condition: Callable[[], T], timeout_s: float = TIMEOUT_S, period_s: float = 0.01) -> T:
    """Call a condition again and again until it is true or the time is up.

    Args:
        condition: Called at least once, the last time when the time is up.
        timeout_s: Longest wait, in seconds.
        period_s: Pause between two calls, in seconds.

    Returns:
        The condition's first true value, else its last one.
    """
    end = time.monotonic() + timeout_s
    while True:
        late = time.monotonic() >= end  # asked before the condition: one that came true meanwhile counts
        if (value := condition()) or late:
            return value
        time.sleep(period_s)
