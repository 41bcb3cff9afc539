"""How long ago a command was sent, by the sender's own clock, whatever that clock shows.

Promises: commands that waited in a queue (this process was paused, the network hung) are told from new ones, also where
the two machines' clocks differ: only how much later than usual a command comes counts. A sender whose clock was set is
believed again after a while of steady commands.
"""

from __future__ import annotations

SETTLE_COUNT = 10
"""Commands in a row that must be late alike before a sender's clock is taken to have been set."""
SETTLE_S = 1.0
"""Seconds that they must span."""
ALIKE_NS = 50_000_000
"""Nanoseconds by which they may differ."""


class SentTimes:
    """Of one topic."""

    def __init__(self) -> None:
        self._least_ns: int | None = None
        self._late: list[tuple[int, int]] = []
        """(steady time, delay) of commands that came late, in a row."""

    def waited_ns(self, source_ns: int, system_ns: int, steady_ns: int) -> int:
        """How much longer than usual a command was under way, nanoseconds, >= 0.

        Args:
            source_ns: When it was sent, on the sender's clock; 0 = not told.
            system_ns: Now, on this machine's clock of the same kind.
            steady_ns: Now, on the steady clock.
        """
        if source_ns <= 0:
            return 0
        delay = system_ns - source_ns
        if self._least_ns is None or delay < self._least_ns:
            self._least_ns, self._late = delay, []
            return 0
        waited = delay - self._least_ns
        if waited <= ALIKE_NS:
            self._late = []
            return waited
        if self._late and abs(delay - self._late[0][1]) > ALIKE_NS:
            self._late = []
        self._late.append((steady_ns, delay))
        if len(self._late) >= SETTLE_COUNT and steady_ns - self._late[0][0] >= SETTLE_S * 1e9:
            self._least_ns, self._late = delay, []
            return 0
        return waited
