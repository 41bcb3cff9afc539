"""How often a client may come. Knows nothing of HTTP."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

MAX_CLIENTS = 4096
"""Clients that are remembered; beyond, those that came longest ago are forgotten."""


class RateLimit:
    """A token bucket for each client: a burst of a minute's requests, then as many a minute as are allowed.

    Args:
        per_minute: Requests allowed to a client, 0 = any number.
        clock: Seconds that never run back.
    """

    def __init__(self, per_minute: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s, self._burst, self._clock = per_minute / 60, max(1.0, per_minute), clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, and when there were so many

    def allows(self, client: str) -> bool:
        """Whether a client may come now; if so, that it came is counted."""
        if self._per_s == 0:
            return True
        now = self._clock()
        tokens, at = self._buckets.pop(client, (self._burst, now))
        tokens = min(self._burst, tokens + (now - at) * self._per_s)
        self._buckets[client] = (tokens - 1 if tokens >= 1 else tokens, now)
        if len(self._buckets) > MAX_CLIENTS:
            self._buckets.popitem(last=False)
        return tokens >= 1
