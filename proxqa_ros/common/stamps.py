"""Buffers of messages that are looked up by stamp."""

from __future__ import annotations

from collections import deque
from typing import Any

from builtin_interfaces.msg import Time

from proxqa_core.stamps import NS_PER_S, nanoseconds, seconds

__all__ = ["NS_PER_S", "StampedBuffer", "nanoseconds", "seconds"]


class StampedBuffer:
    """The newest messages of a topic, looked up by stamp. Not thread-safe.

    Processing a frame can take seconds, in which more messages arrive than are kept: `expect` holds on to the one that
    will be asked for.

    Args:
        size: Number of messages that are kept.
    """

    def __init__(self, size: int) -> None:
        self._messages: deque[Any] = deque(maxlen=size)
        self._expected: Time | None = None
        self._held: Any = None

    def add(self, message: Any) -> None:
        """Append a message that has a header."""
        self._messages.append(message)
        if self._expected is not None:
            self._held = self._nearest(self._expected)

    def expect(self, stamp: Time) -> None:
        """Hold on to the message nearest to this stamp, now and as messages arrive, until the next call."""
        self._held = self._nearest(stamp)
        self._expected = stamp

    def nearest(self, stamp: Time, tolerance_s: float) -> Any:
        """The message nearest to a stamp.

        Args:
            stamp: The stamp.
            tolerance_s: Largest difference, in seconds.

        Returns:
            The message, None where none is near enough.
        """
        found = self._nearest(stamp)
        if found is None or abs(nanoseconds(found.header.stamp) - nanoseconds(stamp)) > tolerance_s * NS_PER_S:
            return None
        return found

    def clear(self) -> None:
        """Drop all messages, and what was expected."""
        self._messages.clear()
        self._expected = self._held = None

    def _nearest(self, stamp: Time) -> Any:
        candidates = [*self._messages, *([self._held] if self._held is not None else [])]
        wanted_ns = nanoseconds(stamp)
        return min(candidates, key=lambda m: abs(nanoseconds(m.header.stamp) - wanted_ns), default=None)
