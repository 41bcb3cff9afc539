"""What the page needs of a running node. `proxqa_ros.page_bridge` has it; this package knows nothing of ROS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from proxqa_core.types import ObjectDepth, ObjectQuery, ProximityAnswer


@dataclass(frozen=True)
class LiveFrame:
    """What the node said of one image.

    Attributes:
        stamp_ns: Of the image, in nanoseconds.
        age_s: Since it came, in seconds.
        model: That answered.
        objects: With their depths.
        jpeg: The image with the objects drawn in; b"" = none has come.
    """

    stamp_ns: int
    age_s: float
    model: str
    objects: tuple[ObjectDepth, ...]
    jpeg: bytes = b""


class LiveSource(Protocol):
    """A running node."""

    def newest(self) -> LiveFrame | None:
        """The newest frame; None = nothing has come."""
        ...

    def problem(self) -> str:
        """One line on what is missing and what to do; '' = nothing is."""
        ...

    def ask(self, question: str, objects: Sequence[ObjectQuery]) -> ProximityAnswer:
        """Ask the node about its newest image; ApiError where it does not answer."""
        ...

    def close(self) -> None:
        """Leave ROS."""
        ...
