"""How long things take: three numbers about every message on `object_depths`, for rqt_plot and the like.

- `pipeline_latency_ms`: the node's clock when the message goes out, minus the image's stamp; not where it has none.
- `processing_time_ms`: the work on that image without waiting: decoding and encoding it, depths, metres.
- `cyclic_time_ms`: from the message before to this one; not for the first since the node was activated or resumed.

Promises: a number that nobody subscribes to is neither computed nor published. Durations are of a steady clock, so that
they are real ones in simulated time too; the latency alone is in the node's time, as stamps are.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from std_msgs.msg import Float64

PIPELINE_LATENCY, PROCESSING_TIME, CYCLIC_TIME = "pipeline_latency_ms", "processing_time_ms", "cyclic_time_ms"
NAMES = (PIPELINE_LATENCY, PROCESSING_TIME, CYCLIC_TIME)


class Timing:
    """The three publishers.

    Args:
        create: Makes the publisher of std_msgs/Float64 of a topic.
        clock: Seconds of a steady clock.
    """

    def __init__(self, create: Callable[[str], Any], clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._publishers = {name: create(f"~/debug/{name}") for name in NAMES}
        self._previous_s: float | None = None

    @property
    def publishers(self) -> list[Any]:
        """The three, in the order of `NAMES`."""
        return list(self._publishers.values())

    def pause(self) -> None:
        """The next message begins a new run: it has no cyclic time."""
        self._previous_s = None

    def record(self, stamp_ns: int, processing_s: float, now_ns: Callable[[], int]) -> None:
        """A message went out.

        Args:
            stamp_ns: Stamp of its image in nanoseconds, 0 = none.
            processing_s: Work on that image in seconds.
            now_ns: The node's clock in nanoseconds.
        """
        previous_s, self._previous_s = self._previous_s, self._clock()
        if stamp_ns:
            self._publish(PIPELINE_LATENCY, lambda: (now_ns() - stamp_ns) / 1e6)
        self._publish(PROCESSING_TIME, lambda: 1e3 * processing_s)
        if previous_s is not None:
            self._publish(CYCLIC_TIME, lambda: 1e3 * (self._clock() - previous_s))

    def _publish(self, name: str, value_ms: Callable[[], float]) -> None:
        publisher = self._publishers[name]
        if publisher.get_subscription_count() > 0:
            publisher.publish(Float64(data=float(value_ms())))
