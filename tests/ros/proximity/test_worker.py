"""The worker without a node: in which order queries and the stream get the model."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np
import pytest

from proxqa_core.types import ObjectQuery
from proxqa_ros.proximity.worker import StoppedError, Stream, Worker
from tests.ros.conftest import TIMEOUT_S, FakeEncodedImage, FakeEngine, wait_until

CHAIR = (ObjectQuery("chair"),)
FRAMES = 4


@pytest.mark.parametrize(
    ("stream", "order", "looks"),
    [
        # neither starves the other; queries that wait together are one step, about one frame
        (Stream(CHAIR, enabled=True), "sqqqqs", 3),
        (Stream(CHAIR, rate_hz=0.001, enabled=True), "sqqqq", 2),  # the stream is due once in a thousand seconds
        (Stream(CHAIR, enabled=False), "qqqq", 1),
        (Stream(enabled=True), "qqqq", 1),
    ],
)
def test_queries_and_the_stream_take_turns(stream, order, looks):
    engine, steps = FakeEngine(), []
    engine.gate.clear()
    worker = Worker(
        load=lambda: engine,
        decode=lambda message: np.full((48, 64, 3), message.value, np.uint8),
        publish=lambda frame, depths, engine: publish(),
        report=lambda line: steps.append(line),
        max_queries=FRAMES,
        batch_window_s=TIMEOUT_S,  # until all have come: as many as may wait
    )

    def new_frame() -> SimpleNamespace:
        return SimpleNamespace(header=object(), value=127)

    def publish() -> None:
        steps.append("s")
        if steps.count("q") < FRAMES:
            worker.push_frame(new_frame())  # as a camera would meanwhile

    def query(frame, engine) -> None:
        worker.encoded_image(frame, engine).depths(["table"])
        steps.append("q")
        worker.push_frame(new_frame())

    worker.start()
    try:
        worker.set_stream(stream)
        worker.push_frame(new_frame())
        if "s" in order:  # the first step is the stream's, held back until all queries wait
            assert wait_until(lambda: engine.steps == 1)
        futures = [worker.submit(query) for _ in range(FRAMES)]
        engine.gate.set()
        for future in futures:
            future.result(TIMEOUT_S)
        assert wait_until(lambda: "".join(steps) == order), (steps, order)
        assert engine.looks == looks
    finally:
        engine.gate.set()
        assert worker.stop(TIMEOUT_S)


@pytest.mark.parametrize("held", ["decode", "depths"])
def test_an_image_of_before_a_flush_is_neither_published_nor_asked_about_after_it(held):
    """As where the node is deactivated and activated again while it decodes, or computes."""
    engine, inside, go_on, published = FakeEngine(), threading.Event(), threading.Event(), []

    def decode(message):
        if held == "decode":
            inside.set()
            assert go_on.wait(TIMEOUT_S)
        return np.full((48, 64, 3), 127, np.uint8)

    worker = Worker(lambda: engine, decode, lambda frame, *_: published.append(frame), published.append, 1)
    worker.start()
    try:
        if held == "depths":
            engine.gate.clear()
        worker.set_stream(Stream(CHAIR, enabled=True))
        worker.push_frame(SimpleNamespace(header=object()))
        assert wait_until(lambda: engine.steps == 1 if held == "depths" else inside.is_set())
        worker.set_stream(Stream(CHAIR))
        worker.flush("deactivated")
        worker.set_stream(Stream(CHAIR, enabled=True))
        go_on.set()
        engine.gate.set()
        assert worker.submit(lambda frame, _: frame).result(TIMEOUT_S) is None
        assert not published and worker.counts().dropped == worker.counts().received == 1
    finally:
        go_on.set()
        engine.gate.set()
        assert worker.stop(TIMEOUT_S)


@pytest.mark.parametrize(
    ("stream", "order"), [(Stream(enabled=False), "xqqxx"), (Stream(CHAIR, rate_hz=0.001, enabled=True), "xqqxsx")]
)
def test_engines_that_are_swapped_again_and_again_keep_nobody_waiting(stream, order):
    """A swap goes before what waits, the next one after one step of it."""
    engine, steps = FakeEngine(), []
    loaded = threading.Event()
    worker = Worker(
        load=lambda: loaded.wait(TIMEOUT_S) and engine,
        decode=lambda message: np.full((48, 64, 3), 127, np.uint8),
        publish=lambda *_: steps.append("s"),
        report=steps.append,
        max_queries=2,
    )
    worker.start()
    try:
        worker.set_stream(stream)
        worker.push_frame(SimpleNamespace(header=object()))
        swaps = [worker.swap_engine(lambda engine: engine, lambda _: steps.append("x")) for _ in range(3)]
        queries = [worker.submit(lambda *_: steps.append("q")) for _ in range(2)]
        loaded.set()
        for future in (*swaps, *queries):
            future.result(TIMEOUT_S)
        assert "".join(steps) == order
    finally:
        loaded.set()
        assert worker.stop(TIMEOUT_S)


class PreparedImage(FakeEncodedImage):
    """Notes what is asked of it at once."""

    def prepare(self, questions):
        self.engine.prepared.append([text for text, _ in questions])
        if "boom" in self.engine.prepared[-1]:
            raise RuntimeError("the engine broke")


class PreparingEngine(FakeEngine):
    def __init__(self) -> None:
        super().__init__()
        self.prepared: list[list[str]] = []

    def encode_image(self, image):
        super().encode_image(image)
        return PreparedImage(self, image)


@pytest.mark.parametrize("texts", [["a", "b", "c", "d"], ["a", "boom", "c", "d"]])
def test_queries_that_come_together_are_prepared_at_once_and_answered_each(texts):
    engine = PreparingEngine()
    worker = quiet_worker(engine, batch_window_s=TIMEOUT_S)
    try:
        worker.push_frame(SimpleNamespace(header=object(), value=127))
        futures = [worker.submit(lambda f, e, t=t: (t, worker.encoded_image(f, e)), asks=(t, ())) for t in texts]
        assert [f.result(TIMEOUT_S)[0] for f in futures] == texts
        assert engine.prepared == [texts] and engine.looks == 1
    finally:
        assert worker.stop(TIMEOUT_S)


def test_a_query_that_waits_is_refused_though_it_was_prepared():
    engine = PreparingEngine()
    worker = quiet_worker(engine, batch_window_s=TIMEOUT_S)
    try:
        worker.push_frame(SimpleNamespace(header=object(), value=127))
        first = worker.submit(lambda f, e: worker.flush("it is over"), asks=("a", ()))
        others = [worker.submit(lambda f, e: 1, asks=("b", ())) for _ in range(FRAMES - 1)]
        assert first.result(TIMEOUT_S) is None
        for other in others:
            with pytest.raises(StoppedError, match="it is over"):
                other.result(TIMEOUT_S)
        assert worker.queued() == 0
    finally:
        assert worker.stop(TIMEOUT_S)


def test_one_query_alone_waits_its_window_only():
    engine = PreparingEngine()
    worker = quiet_worker(engine, batch_window_s=0.01)
    try:
        worker.push_frame(SimpleNamespace(header=object(), value=127))
        assert worker.submit(lambda f, e: 1, asks=("a", ())).result(TIMEOUT_S) == 1
        assert engine.prepared == []
    finally:
        assert worker.stop(TIMEOUT_S)


def quiet_worker(engine: FakeEngine, batch_window_s: float) -> Worker:
    worker = Worker(
        load=lambda: engine,
        decode=lambda message: np.full((48, 64, 3), message.value, np.uint8),
        publish=lambda frame, depths, engine: None,
        report=lambda line: None,
        max_queries=FRAMES,
        batch_window_s=batch_window_s,
    )
    worker.start()
    worker.loaded.result(TIMEOUT_S)
    return worker
