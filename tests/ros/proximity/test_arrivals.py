"""Images that are published and do not come are counted, and said."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxqa_ros.proximity import arrivals as module
from proxqa_ros.proximity import node as proximity_node
from proxqa_ros.proximity import pipeline
from proxqa_ros.proximity.arrivals import MIN_PUBLISHED, WINDOW_S, Arrivals
from tests.ros.conftest import wait_until


@pytest.fixture(autouse=True, scope="module")
def soon() -> Iterator[None]:
    """What is lost is said at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MIN_SECONDS", 0.0)
        yield


class Clock:
    """A steady clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def info(number, publisher=b"camera"):
    return {"publication_sequence_number": number, "publisher_gid": publisher and {"data": publisher}}


@given(st.lists(st.booleans(), min_size=1, max_size=90))
def test_what_did_not_come_is_counted(came):
    """Ten images a second, of which some come: all from the first to the last that came were published."""
    clock = Clock()
    arrivals = Arrivals(clock)
    for number, arrived in enumerate(came):
        clock.now_s = number / 10
        if arrived:
            arrivals.add(info(number + 7))
    counts, numbers = arrivals.counts(), [i for i, arrived in enumerate(came) if arrived]
    assert counts.received == len(numbers)
    if numbers:
        assert counts.published == numbers[-1] - numbers[0] + 1
    lost = bool(numbers) and counts.published >= MIN_PUBLISHED and counts.received < counts.published / 2
    assert bool(counts.problem("/image", "do this")) == lost


def test_what_is_said():
    clock = Clock()
    arrivals = Arrivals(clock)
    assert math.isnan(arrivals.counts().silent_s) and not arrivals.counts().problem("/image", "")
    for number in range(0, 100, 10):
        clock.now_s = number / 30
        arrivals.add(info(number))
    clock.now_s = 3.1
    counts = arrivals.counts()
    assert counts.problem("/image", "do this") == (
        "10 of 91 images that were published on /image in 3 s arrived; do this"
    )
    assert counts.silent_s == pytest.approx(0.1) and counts.camera_rate_hz == pytest.approx(91 / 3.1)
    clock.now_s += WINDOW_S
    assert arrivals.counts().received == 0 and arrivals.counts().silent_s == pytest.approx(10.1)


def test_nothing_is_said_at_once(monkeypatch):
    monkeypatch.setattr(module, "MIN_SECONDS", 8.0)
    clock = Clock()
    arrivals = Arrivals(clock)
    for number in range(0, 100, 10):
        clock.now_s = number / 10
        arrivals.add(info(number))
        assert bool(arrivals.counts().problem("/image", "")) == (clock.now_s >= 8)


def test_what_is_lost_is_said_on_and_on_where_hardly_any_comes(monkeypatch):
    """One of 90 every three seconds: what is left in the window is soon younger than what must have been counted."""
    monkeypatch.setattr(module, "MIN_SECONDS", 8.0)
    clock = Clock()
    arrivals = Arrivals(clock)
    for number in range(20):
        clock.now_s = number * 3.0
        arrivals.add(info(number * 90))
        clock.now_s += 1.5
        assert bool(arrivals.counts().problem("/image", "")) == (clock.now_s >= 8)


def test_nothing_is_said_that_is_not_known():
    arrivals = Arrivals(Clock())
    for number in range(60):  # two publishers, of whose images none is lost
        arrivals.add(info(number, b"left"))
        arrivals.add(info(500 + number, b"right"))
    assert arrivals.counts().received == 120 and not arrivals.counts().problem("/image", "")
    arrivals.clear()
    for number in range(0, 900, 10):  # numbers without their publisher, as an older rclpy gives them
        arrivals.add(info(number, None))
    assert arrivals.counts().anonymous and arrivals.counts().problem("/image", "")
    arrivals.clear_numbers()  # where there are several
    arrivals.add(info(7, None))
    assert arrivals.counts().received == 91 and not arrivals.counts().problem("/image", "")
    arrivals.clear()
    for number in (900, 3, 4, 5):  # a camera that was started again
        arrivals.add(info(number, b"one"))
    assert arrivals.counts().published == 4
    arrivals.clear()
    for _ in range(60):
        arrivals.add({})  # a middleware that passes no numbers on
    assert math.isnan(arrivals.counts().published) and not arrivals.counts().problem("/image", "")


@pytest.mark.parametrize("anonymous", [False, True])
def test_a_node_says_that_images_are_lost_and_then_that_none_come(graph, fake, monkeypatch, anonymous):
    if anonymous:
        real = Arrivals.add
        monkeypatch.setattr(Arrivals, "add", lambda self, about: real(self, dict(about) | {"publisher_gid": None}))
    going, held = threading.Event(), threading.Event()

    def slow(message):
        held.set()
        assert going.wait(20)

    monkeypatch.setattr(pipeline, "check_message", slow)  # the one slot of the subscription is overwritten meanwhile
    monkeypatch.setattr(proximity_node, "SILENCE_S", 0.5)
    graph.start(lambda *_: fake, max_image_age=0.5)
    camera = graph.camera()
    camera.publish(graph.image())
    assert held.wait(20)
    for _ in range(40):
        camera.publish(graph.image())
    going.set()
    said = "of 41 images that were published on /image in "
    assert wait_until(lambda: any(said in d.message for d in graph.diagnostics))
    status = next(d for d in graph.diagnostics if said in d.message)
    values = {v.key: v.value for v in status.values}
    assert " of 41 published in " in values["images_arrived"] and "are large images lost?" in status.message
    if anonymous:  # whose number is whose is not known with a second camera
        graph.camera()
        assert wait_until(lambda: graph.diagnostic()["images_arrived"].endswith("is not known"))
    # and when the camera stops
    publishers = "2 publishers" if anonymous else "1 publisher"
    stopped = f"s old: /image has {publishers}, but no image comes; does the camera run? are large images lost?"
    assert wait_until(lambda: stopped in graph.diagnostic(level=b"\x01")["message"])
