"""Buffers of messages that are looked up by stamp."""

from __future__ import annotations

import pytest

from proxqa_ros.common.stamps import StampedBuffer, nanoseconds
from tests.ros.distance.scene import header, reading, stamp


def test_the_message_nearest_in_time_is_taken():
    buffer = StampedBuffer(3)
    for t in (1.0, 1.1, 1.2, 1.3):
        buffer.add(reading(header(t), 1.0))
    nearest = buffer.nearest(stamp(1.16), 0.05)
    assert nanoseconds(nearest.header.stamp) == 1_200_000_000
    assert buffer.nearest(stamp(1.0), 0.05) is None  # no longer kept
    assert buffer.nearest(stamp(1.35), 0.04) is None and buffer.nearest(stamp(1.35), 0.051) is not None
    buffer.clear()
    assert buffer.nearest(stamp(1.2), 9.0) is None


@pytest.mark.parametrize("first", [True, False], ids=["before the frame", "after the frame"])
def test_what_belongs_to_a_frame_is_kept_while_the_frame_is_looked_at(first):
    buffer = StampedBuffer(3)
    if first:
        buffer.add(reading(header(1.0), 1.0))
    buffer.expect(stamp(1.01))
    for n in range(0 if first else -1, 50):
        buffer.add(reading(header(1.1 + n / 10), 1.0))
    assert nanoseconds(buffer.nearest(stamp(1.01), 0.05).header.stamp) == 1_000_000_000
    buffer.expect(stamp(9.0))
    buffer.add(reading(header(9.0), 1.0))
    assert buffer.nearest(stamp(1.01), 0.05) is None
