"""Stamps of messages as numbers.

Promises: exact in nanoseconds. Any object with the fields `sec` and `nanosec` of builtin_interfaces/Time will do, so
messages of rclpy and of a bag alike. Knows nothing of ROS beyond these two fields.
"""

from __future__ import annotations

from typing import Protocol

NS_PER_S = 1_000_000_000


class Time(Protocol):
    """The fields of builtin_interfaces/Time."""

    @property
    def sec(self) -> int:
        """Whole seconds."""
        ...

    @property
    def nanosec(self) -> int:
        """Nanoseconds since then, below 10⁹."""
        ...


def nanoseconds(stamp: Time) -> int:
    """A stamp in nanoseconds."""
    return int(stamp.sec) * NS_PER_S + int(stamp.nanosec)


def seconds(stamp: Time) -> float:
    """A stamp in seconds."""
    return stamp.sec + stamp.nanosec / NS_PER_S


def is_too_soon(stamp_ns: int, last_ns: int | None, least_s: float) -> bool:
    """Whether an image comes less than so many seconds after the last one that was taken.

    Args:
        stamp_ns: Of the image, nanoseconds.
        last_ns: Of the last one taken; None = there is none.
        least_s: Least seconds between two. A stamp that goes back is another take: a bag that was played twice.
    """
    return last_ns is not None and 0 <= stamp_ns - last_ns < least_s * NS_PER_S
