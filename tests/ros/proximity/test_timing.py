"""How long things take: what the three numbers mean, and that nobody is bothered where nobody listens."""

from __future__ import annotations

import time

import pytest
from lifecycle_msgs.msg import Transition
from std_msgs.msg import Float64
from std_srvs.srv import SetBool

from proxqa_ros.proximity.timing import CYCLIC_TIME, NAMES, PIPELINE_LATENCY, PROCESSING_TIME, Timing
from tests.ros.conftest import wait_until


class Recorder:
    """A publisher with so many subscribers."""

    def __init__(self, listeners):
        self.listeners, self.sent = listeners, []

    def get_subscription_count(self):
        return self.listeners

    def publish(self, message):
        self.sent.append(message.data)


def test_what_nobody_listens_to_is_not_computed():
    made = {}
    timing = Timing(lambda topic: made.setdefault(topic, Recorder(0)))
    assert list(made) == [f"~/debug/{n}" for n in ("pipeline_latency_ms", "processing_time_ms", "cyclic_time_ms")]
    for _ in range(2):
        timing.record(5, 0.1, lambda: 1 / 0)
    assert not any(r.sent for r in made.values())


def test_the_three_numbers():
    made, clock = {}, iter([10.0, 10.05, 10.05, 20.0])
    timing = Timing(lambda topic: made.setdefault(topic.rpartition("/")[2], Recorder(1)), clock=clock.__next__)
    timing.record(1_000_000_000, 0.25, lambda: 1_400_000_000)
    assert (made[PIPELINE_LATENCY].sent, made[PROCESSING_TIME].sent, made[CYCLIC_TIME].sent) == ([400.0], [250.0], [])
    timing.record(0, 0.5, lambda: 1_600_000_000)  # an image without a stamp
    assert made[PIPELINE_LATENCY].sent == [400.0] and made[PROCESSING_TIME].sent == [250.0, 500.0]
    assert made[CYCLIC_TIME].sent == [pytest.approx(50.0)]
    timing.pause()
    timing.record(0, 0.5, lambda: 0)
    assert len(made[CYCLIC_TIME].sent) == 1


def test_they_come_with_the_depths_while_someone_listens(graph, fake):
    fake.delay = 0.1  # per step: one to look, one for the depths
    node = graph.start(lambda *_: fake)
    got: dict[str, list[float]] = {name: [] for name in NAMES}

    def frame(age=0):
        before, stamp = len(graph.depths), graph.now()
        stamp.sec -= age
        camera.publish(graph.image(stamp=stamp))
        assert wait_until(lambda: len(graph.depths) == before + 1)

    camera = graph.camera()
    frame()
    for name in NAMES:
        topic = f"/proximity/debug/{name}"
        graph.client.create_subscription(Float64, topic, lambda m, n=name: got[n].append(m.data), 10)
    assert wait_until(lambda: all(p.get_subscription_count() == 1 for p in node.pipeline.outputs.timing.publishers))
    started = time.perf_counter()
    frame(age=3)
    assert wait_until(lambda: all(got.values()))
    elapsed = 1e3 * (time.perf_counter() - started)
    assert 3200 <= got[PIPELINE_LATENCY][0] < 3000 + elapsed
    assert 200 <= got[PROCESSING_TIME][0] < elapsed
    assert got[CYCLIC_TIME][0] >= got[PROCESSING_TIME][0]
    graph.query(objects=["cup"])
    enable = graph.client.create_client(SetBool, "/proximity/enable")
    for on in (False, True):
        assert graph.call(enable, SetBool.Request(data=on)).success
    frame()
    assert wait_until(lambda: len(got[PROCESSING_TIME]) == 2)
    assert graph.transition(Transition.TRANSITION_DEACTIVATE) and graph.transition(Transition.TRANSITION_ACTIVATE)
    camera = graph.camera()
    frame()
    assert wait_until(lambda: len(got[PROCESSING_TIME]) == 3) and len(got[CYCLIC_TIME]) == 1
    assert [n for n in NAMES if len(got[n]) == 3] == [PIPELINE_LATENCY, PROCESSING_TIME]


def test_what_the_model_runs_on_is_in_the_diagnostics(graph, fake):
    graph.start(lambda *_: fake)
    values = graph.diagnostic(model="fake")
    assert (values["device"], values["dtype"], values["adapter"]) == ("nowhere", "float32", "of the box")
    for key in ("rate_hz", "frames_dropped", "image_age_s", "last_error", "calibration"):
        assert key in values
    assert values["image_age_s"] == pytest.approx(float("nan"), nan_ok=True) or values["image_age_s"] == "nan"
