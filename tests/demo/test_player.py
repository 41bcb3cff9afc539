"""The player behaves as a camera and a clock do."""

import threading
import time
from collections.abc import Iterator

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

import domain_coordinator
import rclpy
from builtin_interfaces.msg import Time
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from demo.bags import Frame, ImageTopic, stamp_of
from demo.player import Player


class Listener:
    """A player and someone who hears it, in a domain of their own."""

    def __init__(self, context: Context) -> None:
        self.node = rclpy.create_node("listener", context=context)
        self.player = Player(self.node, ImageTopic("/camera/image_raw", Image, 0))
        self.images: list[Image] = []
        self.clock: list[int] = []
        self.node.create_subscription(Image, "/camera/image_raw", self.images.append, 50)
        self.node.create_subscription(Clock, "/clock", lambda m: self.clock.append(stamp_of(m.clock)), 500)
        self.executor = SingleThreadedExecutor(context=context)
        self.executor.add_node(self.node)
        self.thread = threading.Thread(target=self.executor.spin, daemon=True)
        self.thread.start()

    def wait(self, condition, seconds: float = 20.0) -> bool:
        end = time.monotonic() + seconds
        while not condition() and time.monotonic() < end:
            time.sleep(0.01)
        return condition()


@pytest.fixture
def listener() -> Iterator[Listener]:
    with domain_coordinator.domain_id() as domain:
        context = Context()
        rclpy.init(context=context, domain_id=int(domain))
        found = Listener(context)
        assert found.wait(found.player.has_listeners)
        yield found
        found.executor.shutdown(timeout_sec=5)
        rclpy.try_shutdown(context=context)
        found.thread.join(5)


def frame(milliseconds: int, stamp_ms: int) -> Frame:
    header = Header(stamp=Time(sec=stamp_ms // 1000, nanosec=stamp_ms % 1000 * 10**6), frame_id="camera")
    return Frame(milliseconds * 10**6, Image(header=header, height=1, width=1, encoding="mono8", step=1, data=b"\7"))


def test_frames_arrive_unchanged_at_their_own_pace_with_the_clock(listener):
    frames = [frame(i * 100, 5_000 + i * 100) for i in range(6)]
    started = time.monotonic()
    assert list(listener.player.play(frames)) == frames
    assert time.monotonic() - started >= 0.5
    assert listener.wait(lambda: len(listener.images) == 6 and listener.clock[-1:] == [5_500 * 10**6])
    assert listener.images == [f.message for f in frames]
    assert listener.clock[0] == 5_000 * 10**6
    assert listener.clock == sorted(listener.clock)
    assert len(listener.clock) > 12  # ticks between the frames too


def test_clock_never_runs_backwards(listener):
    frames = [frame(0, 1_000), frame(50, 900), frame(100, 1_200)]
    list(listener.player.play(frames))
    assert listener.wait(lambda: listener.clock[-1:] == [1_200 * 10**6])
    assert listener.clock == sorted(listener.clock)


def test_nothing_to_play_is_no_error(listener):
    assert list(listener.player.play([])) == []
