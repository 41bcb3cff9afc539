"""The player behaves as a camera and a clock do."""

import time
from collections.abc import Iterator

import domain_coordinator
import pytest
import rclpy
from builtin_interfaces.msg import Time
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.serialization import deserialize_message, serialize_message
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from proxqa_core.rosbags.bag import RAW, Recorded
from proxqa_core.stamps import nanoseconds
from proxqa_ros.replay.player import Channel, Player
from proxqa_ros.testing.spinning import SpinThread
from proxqa_ros.testing.waiting import wait_until


class Listener:
    """A player and someone who hears it, in a domain of their own."""

    def __init__(self, context: Context) -> None:
        self.node = rclpy.create_node("listener", context=context)
        self.player = Player(self.node, {"/bag/image": Channel("/camera/image_raw", Image)})
        self.images: list[Image] = []
        self.clock: list[int] = []
        self.node.create_subscription(Image, "/camera/image_raw", self.images.append, 50)
        self.node.create_subscription(Clock, "/clock", lambda m: self.clock.append(nanoseconds(m.clock)), 500)
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(self.node)
        self.spinning = SpinThread(executor)


@pytest.fixture
def listener() -> Iterator[Listener]:
    with domain_coordinator.domain_id() as domain:
        context = Context()
        rclpy.init(context=context, domain_id=int(domain))
        found = Listener(context)
        with found.spinning:
            assert wait_until(found.player.has_listeners)
            yield found
        rclpy.try_shutdown(context=context)


def frame(milliseconds: int, stamp_ms: int) -> Recorded:
    header = Header(stamp=Time(sec=stamp_ms // 1000, nanosec=stamp_ms % 1000 * 10**6), frame_id="camera")
    image = Image(header=header, height=1, width=1, encoding="mono8", step=1, data=b"\7")
    return Recorded(milliseconds * 10**6, "/bag/image", RAW, serialize_message(image))


@pytest.mark.timing
def test_frames_arrive_unchanged_at_their_own_pace_with_the_clock(listener):
    frames = [frame(i * 100, 5_000 + i * 100) for i in range(6)]
    started = time.monotonic()
    assert list(listener.player.play(frames)) == frames
    assert time.monotonic() - started >= 0.5
    assert wait_until(lambda: len(listener.images) == 6 and listener.clock[-1:] == [5_500 * 10**6])
    assert listener.images == [deserialize_message(f.raw, Image) for f in frames]
    assert listener.clock[0] == 5_000 * 10**6
    assert listener.clock == sorted(listener.clock)
    assert len(listener.clock) > 12  # ticks between the frames too


def test_clock_never_runs_backwards(listener):
    frames = [frame(0, 1_000), frame(50, 900), frame(100, 1_200)]
    list(listener.player.play(frames))
    assert wait_until(lambda: listener.clock[-1:] == [1_200 * 10**6])
    assert listener.clock == sorted(listener.clock)


def test_nothing_to_play_is_no_error(listener):
    assert list(listener.player.play([])) == []


@pytest.mark.timing
def test_faster_than_recorded(listener):
    frames = [frame(i * 4_000, 5_000 + i * 4_000) for i in range(6)]
    started = time.monotonic()
    list(listener.player.play(frames, rate=100.0))
    assert 0.2 <= time.monotonic() - started < 20.0  # seconds recorded
    assert wait_until(lambda: listener.clock[-1:] == [25_000 * 10**6])
    assert listener.clock == sorted(listener.clock) and len(listener.clock) > 8


def test_played_again_the_clock_jumps_back(listener):
    frames = [frame(0, 1_000), frame(100, 1_100)]
    for _ in range(2):
        list(listener.player.play(frames))
    assert wait_until(lambda: len(listener.images) == 4)
    assert wait_until(lambda: listener.clock[-1:] == [1_100 * 10**6])
    falls = [b - a for a, b in zip(listener.clock, listener.clock[1:], strict=False) if b < a]
    assert falls == [-100 * 10**6]


def test_ended_before_its_end(listener):
    played = []
    frames = [frame(0, 1_000), frame(60_000, 61_000)]
    for f in listener.player.play(frames, canceled=lambda: len(played) == 1):
        played.append(f)
    assert played == frames[:1]
