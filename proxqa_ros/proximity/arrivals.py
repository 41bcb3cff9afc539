"""Which of the images that are published arrive, as far as it can be known: by the numbers that publishers give them.

A publisher counts its messages, and the count travels with each (`publication_sequence_number`): a step of more than
one means that those in between were published and did not come. A middleware that does not pass the count on leaves it
open; Fast DDS passes it on.

Promises: nothing is said where it is not certain. Callbacks and diagnostics may call from any thread.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

WINDOW_S = 10.0
"""Over how long arrivals are counted, in seconds."""
MIN_PUBLISHED = 20
"""Fewest images in the window that tell something."""
MIN_SECONDS = 8.0
"""Shortest time of counting that tells something, in seconds: a model that warms up leaves no time to take images."""
MIN_SHARE = 0.5
"""Share of the published images that must arrive, in [0, 1]; the newest alone is used, and a few may be lost."""


@dataclass(frozen=True)
class ArrivalCounts:
    """Images of the last `seconds`.

    Attributes:
        received: How many came.
        published: How many were published from the first of them on; NaN = not known.
        seconds: From the first arrival in the window until now.
        counted_s: From the first arrival of all until now, in seconds.
        silent_s: Since the last arrival, in seconds; NaN = none has come.
        anonymous: The numbers come without the publisher, as an older rclpy gives them: they are right where there is
            only one.
    """

    received: int = 0
    published: float = math.nan
    seconds: float = 0.0
    counted_s: float = 0.0
    silent_s: float = math.nan
    anonymous: bool = False

    @property
    def camera_rate_hz(self) -> float:
        """Images published per second, NaN = not known."""
        return self.published / self.seconds if self.seconds > 0 else math.nan

    def problem(self, topic: str, remedy: str) -> str:
        """One line where fewer than `MIN_SHARE` arrive, else ''.

        Args:
            topic: The topic's full name.
            remedy: What to do about it.
        """
        if (
            self.counted_s < MIN_SECONDS
            or not self.published >= MIN_PUBLISHED
            or self.received >= MIN_SHARE * self.published
        ):
            return ""
        return (
            f"{self.received} of {self.published:.0f} images that were published on {topic} in {self.seconds:.0f} s "
            f"arrived; {remedy}"
        )


class Arrivals:
    """Counts the images of one subscription.

    Args:
        clock: Seconds of a steady clock.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        """Forget everything, as where the subscription has ended."""
        with self._lock:
            self._numbers: dict[Hashable, int] = {}
            self._anonymous = False
            self._steps: deque[tuple[float, float]] = deque()  # when one came, and how many were published with it
            self._first_s = self._last_s = math.nan

    def clear_numbers(self) -> None:
        """Forget how many were published, not when the last one came."""
        with self._lock:
            self._numbers.clear()
            self._steps = deque((at_s, math.nan) for at_s, _ in self._steps)

    def add(self, info: Mapping[str, Any]) -> None:
        """Count an image.

        Args:
            info: rclpy's `MessageInfo`.
        """
        publisher = info.get("publisher_gid")
        key = bytes(publisher["data"]) if publisher else None
        number = info.get("publication_sequence_number")
        with self._lock:
            self._last_s = self._clock()
            self._first_s = self._last_s if math.isnan(self._first_s) else self._first_s
            self._anonymous = key is None and number is not None
            self._steps.append((self._last_s, self._step(key, number)))
            self._drop_old()

    def counts(self) -> ArrivalCounts:
        """What came in the last seconds."""
        with self._lock:
            now_s = self._clock()
            self._drop_old()
            # what was published with the first came before the window
            steps = [step for _, step in self._steps]
            published = sum(steps[1:]) + 1 if steps else math.nan  # NaN as soon as one step is
            seconds = now_s - self._steps[0][0] if steps else 0.0
            counted_s = now_s - self._first_s if steps else 0.0
            return ArrivalCounts(len(steps), published, seconds, counted_s, now_s - self._last_s, self._anonymous)

    def _step(self, publisher: Hashable, number: int | None) -> float:
        """How many images a publisher has published since its last one that came; NaN = not known."""
        if number is None:
            return math.nan
        last = self._numbers.get(publisher)
        self._numbers[publisher] = number
        return 1 if last is None else max(1, number - last)

    def _drop_old(self) -> None:
        while self._steps and self._clock() - self._steps[0][0] > WINDOW_S:
            self._steps.popleft()
