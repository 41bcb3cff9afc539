"""How long things take: three numbers about every message on `object_depths`, for rqt_plot and the like.

- `pipeline_latency_ms`: the node's clock when the message goes out, minus the image's stamp; not where it has none.
- `processing_time_ms`: the work on that image, waiting left out: decoding and encoding it, depths, metres.
- `cyclic_time_ms`: from the message before to this one; not for the first since the node was activated or resumed.

Promises: a number that nobody listens to is neither computed nor published. Durations are of a steady clock, so that
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
    """The three publishers. make: name of a topic → its publisher of std_msgs/Float64."""

    def __init__(self, make: Callable[[str], Any]) -> None:
        self._publishers = {name: make(f"~/debug/{name}") for name in NAMES}
        self._before: float | None = None

    @property
    def publishers(self) -> list[Any]:
        return list(self._publishers.values())

    def pause(self) -> None:
        """What comes next is not of the same run of messages."""
        self._before = None

    def published(self, stamp: int, worked: float, now: Callable[[], int]) -> None:
        """A message went out.

        stamp: of its image, nanoseconds, 0 = none. worked: seconds of work on it. now: the node's clock, nanoseconds.
        """
        before, self._before = self._before, time.perf_counter()
        if stamp:
            self._say(PIPELINE_LATENCY, lambda: (now() - stamp) / 1e6)
        self._say(PROCESSING_TIME, lambda: 1e3 * worked)
        if before is not None:
            self._say(CYCLIC_TIME, lambda: 1e3 * (time.perf_counter() - before))

    def _say(self, name: str, value: Callable[[], float]) -> None:
        publisher = self._publishers[name]
        if publisher.get_subscription_count() > 0:
            publisher.publish(Float64(data=float(value())))
