"""The worker without a node: in which order queries and the stream get the model."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from proxqa_core.types import ObjectQuery
from proxqa_ros.proximity.worker import Stream, Worker
from tests.ros.conftest import TIMEOUT_S, FakeEngine, wait_until

CHAIR = (ObjectQuery("chair"),)
FRAMES = 4


@pytest.mark.parametrize(
    ("stream", "order", "looks"),
    [
        # neither starves the other; the frames of the queries will do for the stream until no query waits
        (Stream(CHAIR, enabled=True), "sqsqsqsqs", 6),
        (Stream(CHAIR, rate_hz=0.001, enabled=True), "sqqqq", 5),  # the stream is due once in a thousand seconds
        (Stream(CHAIR, enabled=False), "qqqq", 4),
        (Stream(enabled=True), "qqqq", 4),
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
