"""The page's way to a running node, over real DDS."""

from __future__ import annotations

import io
import time

import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the extra [serve] is not installed")

from proxqa_core.errors import ProxqaError
from proxqa_core.serving.errors import ApiError
from proxqa_core.types import Box, ObjectQuery
from proxqa_ros import page_bridge
from proxqa_ros.page_bridge import PageBridge
from tests.ros.conftest import wait_until


@pytest.fixture
def bridge(graph):
    made = PageBridge("proximity", context=graph.context)
    yield made
    made.close()


def test_depths_and_image_belong_together(graph, fake, bridge, monkeypatch):
    monkeypatch.setattr(page_bridge, "LOOKED_AT_S", 1.0)
    node = graph.start(lambda *_: fake, objects=["chair", "ghost"])
    assert "yet" in bridge.problem() and bridge.newest() is None
    camera = graph.camera()

    def has_image():
        camera.publish(graph.image())
        time.sleep(0.05)
        frame = bridge.newest()
        return frame is not None and frame.jpeg

    assert wait_until(has_image)
    frame = bridge.newest()
    assert bridge.problem() == "" and frame.model == "fake" and [o.name for o in frame.objects] == ["chair", "ghost"]
    assert Image.open(io.BytesIO(frame.jpeg)).format == "JPEG" and frame.age_s < 60
    debug_image = node.resolve_topic_name("proximity/debug/image")
    assert wait_until(lambda: node.count_subscribers(debug_image) == 0)  # nobody looks any more


def test_questions_and_what_they_fail_with(graph, fake, bridge):
    with pytest.raises(ApiError, match="no service") as caught:
        bridge._client.ask = lambda *a, **k: page_bridge.client.ProximityClient.ask(bridge._client, *a, timeout=0.5)
        bridge.ask("which is closer?", [])
    assert caught.value.status == 503
    assert "is the proximity node running" in bridge.problem()
    graph.start(lambda *_: fake, objects=[""], max_image_age=0.0)
    del bridge._client.ask
    graph.camera().publish(graph.image())
    assert graph.diagnostic(frames_received="1")["level"] == b"\x00"
    answer = bridge.ask("which is closer?", [ObjectQuery("table"), ObjectQuery("chair", Box(1, 2, 30, 40))])
    assert (answer.closer, answer.farther) == ("chair", "table") and answer.probability == pytest.approx(0.8)
    assert answer.objects[0].box == Box(1, 2, 30, 40)
    with pytest.raises(ApiError, match="not understood") as caught:
        bridge.ask("sing!", [])
    assert caught.value.status == 422
    unseen = bridge.ask("", [ObjectQuery("ghost")])
    assert [o.name for o in unseen.objects] == ["ghost"] and unseen.answer


@pytest.mark.parametrize("name", ["ns 1/proximity", "a b", ""])
def test_a_name_that_is_none(name):
    with pytest.raises(ProxqaError, match=f"cannot listen to node '{name}'"):
        page_bridge.connect(name)
