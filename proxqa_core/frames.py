"""Coordinate frames by their names, as in `header.frame_id`.

Promises: one rule for every place that compares them. Knows nothing of transforms.
"""

from __future__ import annotations


def same_frame(one: str, other: str) -> bool:
    """Whether two frame_ids name one frame.

    A leading "/" is no difference: tf2 has names without, drivers that come from ROS 1 still write it.

    Args:
        one: A frame_id.
        other: Another.
    """
    return one.removeprefix("/") == other.removeprefix("/")
