"""Coordinate frames by their names, as in `header.frame_id`.

Promises: one rule for every place that compares them. Knows nothing of transforms.
"""

from __future__ import annotations


def in_tf(frame_id: str) -> str:
    """A frame_id as tf2 names frames: without a leading "/", with which it looks up none."""
    return frame_id.removeprefix("/")


def same_frame(one: str, other: str) -> bool:
    """Whether two frame_ids name one frame.

    A leading "/" is no difference: tf2 has names without, drivers that come from ROS 1 still write it.

    Args:
        one: A frame_id.
        other: Another.
    """
    return in_tf(one) == in_tf(other)
