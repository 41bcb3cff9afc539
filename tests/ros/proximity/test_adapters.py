"""Adapters at run time, over real DDS: swapped between frames, refused whole, never from outside their folder."""

from __future__ import annotations

import json
import os
import shutil
import threading

import numpy as np
import pytest
import torch
from lifecycle_msgs.msg import Transition
from rclpy.parameter import Parameter
from safetensors.torch import load, save_file
from std_msgs.msg import Header

from proxqa_core.types import ObjectDepth
from proxqa_ros.common.parameters import BadParameterError
from proxqa_ros.proximity.adapters import AdaptersFolder, is_name
from proxqa_ros.proximity.queries import RefusedError
from proxqa_ros.srv import ListAdapters, LoadAdapter, ProximityQuery
from tests.ros.conftest import wait_until
from tests.ros.proximity.test_node import settle

R = LoadAdapter.Response


@pytest.fixture
def folder(tmp_path):
    """Adapters "one" and "two" of fake engines, and beside the folder something that is none of its business."""
    place = tmp_path / "adapters"
    for name in ("one", "two"):
        (place / name).mkdir(parents=True)
        (place / name / "title").write_text(f"title of {name}")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/title").write_text("stolen")
    return place


@pytest.fixture
def services(graph):
    """(load_adapter(name), list_adapters())."""
    loading = graph.client.create_client(LoadAdapter, "load_adapter")
    listing = graph.client.create_client(ListAdapters, "list_adapters")
    return (
        lambda name: graph.call(loading, LoadAdapter.Request(adapter=name), 60),
        lambda: graph.call(listing, ListAdapters.Request()),
    )


# -- names and folders, without a node ---------------------------------------------------------------------------------

NO_NAMES = ["", ".", "..", "../outside", "/", "one/", "./one", "one/../two", ".hidden", "a\\b", "two\nlines", "nul\0"]
NO_NAMES += [" one", "one ", "x" * 201, "\ud800", "\u202eeno"]


@pytest.mark.parametrize("name", NO_NAMES)
def test_what_is_no_name_is_forbidden(folder, name):
    assert not is_name(name)
    with pytest.raises(RefusedError) as error:
        AdaptersFolder(str(folder)).find(name)
    assert error.value.code == R.FORBIDDEN and len(str(error.value)) < 300
    with pytest.raises(RefusedError) as error:
        AdaptersFolder(str(folder)).find(str(folder / "one"))  # not even the absolute path of what may be loaded
    assert error.value.code == R.FORBIDDEN


def test_links_may_lead_about_inside_but_not_out(folder, tmp_path):
    os.symlink("one", folder / "newest")
    os.symlink(tmp_path / "outside", folder / "out")
    os.symlink(tmp_path, folder / "above")
    os.symlink("itself", folder / "itself")
    os.symlink("gone", folder / "gone")
    os.symlink(tmp_path / "outside/title", folder / "two/link")
    (folder / "file").write_text("no folder")
    there = AdaptersFolder(str(folder))
    assert there.find("newest") == (folder / "one").resolve()
    codes = dict.fromkeys(("out", "above", "two"), R.FORBIDDEN) | dict.fromkeys(("gone", "file", "no"), R.NOT_FOUND)
    for name, code in (codes | {"itself": R.NOT_FOUND}).items():
        with pytest.raises(RefusedError) as error:
            there.find(name)
        assert error.value.code == code, (name, str(error.value))
    os.symlink(folder, tmp_path / "way in")  # the folder itself may be reached through a link
    assert AdaptersFolder(str(tmp_path / "way in")).find("one") == (folder / "one").resolve()


@pytest.mark.parametrize("place", ["nowhere", "adapters/one/title", "nul\0"])
def test_a_folder_that_is_none_is_refused(folder, place):
    with pytest.raises(BadParameterError, match="adapters_folder"):
        AdaptersFolder(f"{folder.parent}/{place}")


# -- the node, with an engine that is instant, slow or held back ------------------------------------------------------


def test_load_list_and_unload(graph, fake, folder, services):
    take, listed = services
    (folder / "broken").mkdir()
    (folder / ".hidden").mkdir()
    os.symlink("../outside", folder / "out")
    graph.start(lambda *_: fake, adapters_folder=str(folder), objects=["cup"])
    camera = graph.camera()

    def said():
        camera.publish(graph.image())
        before = len(graph.depths)
        assert wait_until(lambda: len(graph.depths) > before)
        return graph.depths[-1].model, graph.depths[-1].objects[0].text

    assert said() == ("fake", "fake")
    answer = listed()
    assert answer.success and answer.error_code == R.NONE and not answer.message and not answer.in_use
    assert [(a.name, a.title, a.loadable, a.in_use) for a in answer.adapters] == [
        ("broken", "", False, False),
        ("one", "title of one", True, False),
        ("out", "", False, False),
        ("two", "title of two", True, False),
    ]
    assert "lacks title" in answer.adapters[0].problem and "leads out" in answer.adapters[2].problem
    for name in ("one", "two", "two"):
        answer = take(name)
        assert answer.success and (answer.error_code, answer.message) == (R.NONE, "")
        assert (answer.adapter, answer.model) == (name, f"fake+title of {name}") and 0 < answer.seconds < 30
        assert said() == (answer.model,) * 2
        assert [a.name for a in listed().adapters if a.in_use] == [listed().in_use] == [name]
        graph.diagnostic(model=answer.model, adapter=f"title of {name}", adapter_loaded=name)
    for name, code in (("broken", R.BAD_ADAPTER), ("none", R.NOT_FOUND), ("../outside", R.FORBIDDEN)):
        answer = take(name)
        assert not answer.success and answer.error_code == code and answer.message and "\n" not in answer.message
        assert (answer.adapter, answer.model) == ("two", "fake+title of two") and said() == (answer.model,) * 2
    assert "there are: broken, one, out, two" in take("none").message
    answer = take("")
    assert answer.success and (answer.adapter, answer.model) == ("", "fake") and said() == ("fake", "fake")
    graph.diagnostic(model="fake", adapter="of the box", adapter_loaded="")
    assert len(fake.threads) == 1


def test_nothing_may_be_loaded_unless_a_folder_is_set(graph, fake, services):
    graph.start(lambda *_: fake)
    for call in (lambda: services[0]("one"), lambda: services[0](""), services[1]):
        answer = call()
        assert not answer.success and answer.error_code == R.FORBIDDEN and "adapters_folder" in answer.message
    assert fake.steps == 0


def test_before_the_model_is_loaded_and_over_a_lifecycle(graph, folder, services):
    take, listed = services
    loads = []

    def loader(model, adapter, *_):
        from tests.ros.conftest import FakeEngine

        loads.append(adapter)
        return FakeEngine(adapter="own" if adapter else "")

    node = graph.start(loader, autostart=False, adapters_folder=str(folder / "nowhere"), adapter="/configured")
    for call in (lambda: take("one"), listed):
        assert call().error_code == R.MODEL_NOT_LOADED
    assert not graph.transition(Transition.TRANSITION_CONFIGURE)
    assert "adapters_folder" in take("one").message and loads == []
    assert node.set_parameters([Parameter("adapters_folder", value=str(folder))])[0].successful
    assert graph.transition(Transition.TRANSITION_CONFIGURE)
    answer = take("one")  # not active yet: there is a model, and that is enough
    assert answer.success and answer.model == "fake+title of one"
    result = node.set_parameters([Parameter("adapters_folder", value="")])[0]
    assert not result.successful and "configure" in result.reason
    result = node.set_parameters([Parameter("adapter", value="one")])[0]
    assert not result.successful and "load_adapter" in result.reason
    assert graph.transition(Transition.TRANSITION_CLEANUP)
    answer = take("one")
    assert answer.error_code == R.MODEL_NOT_LOADED and (answer.adapter, answer.model) == ("", "")
    assert graph.transition(Transition.TRANSITION_CONFIGURE)
    assert listed().in_use == "" and loads == ["/configured"] * 2


def test_unloading_goes_back_to_the_configured_adapter(graph, fake, folder, services, monkeypatch):
    taken = []
    take = type(fake).with_adapter
    monkeypatch.setattr(type(fake), "with_adapter", lambda self, a: taken.append(a) or take(self, a))
    graph.start(lambda *_: fake, adapters_folder=str(folder), adapter=str(folder / "two"))
    monkeypatch.setattr(type(fake), "check_adapter", lambda self, folder: str(folder))
    assert services[0]("one").success and services[0]("").success
    assert taken == [folder.resolve() / "one", str(folder / "two")]


def test_swaps_while_frames_and_queries_flow(graph, fake, folder, services):
    """No query is lost, none answered by half of one and half of another, no frame published by an older engine."""
    fake.delay = 0.005
    node = graph.start(lambda *_: fake, adapters_folder=str(folder), objects=["cup", "dog"])
    camera, stop, answers, trouble = graph.camera(), threading.Event(), [], []

    def stream():
        while not stop.wait(1 / 60):
            camera.publish(graph.image())

    def asker(number):
        client = graph.client.create_client(ProximityQuery, "proximity_query")
        while not stop.wait(0.1):
            future = client.call_async(ProximityQuery.Request(question="closer?", objects=["table", "chair"]))
            if not wait_until(future.done):
                trouble.append(number)
                return
            answers.append(future.result())

    threads = [threading.Thread(target=stream), *(threading.Thread(target=asker, args=(n,)) for n in range(3))]
    camera.publish(graph.image())
    assert wait_until(lambda: graph.depths)
    for thread in threads:
        thread.start()
    models = []
    try:
        for name in ("one", "missing", "two", "", "one", "../outside", "two", ""):
            enough = len(answers) + 3
            assert wait_until(lambda e=enough: len(answers) >= e)
            answer = services[0](name)
            assert answer.success == (name in ("one", "two", ""))
            models.append(answer.model)
            first = graph.query(objects=["cup"])  # asked after the response: by the new one
            assert first.success and first.objects[0].text == answer.model
            assert wait_until(lambda m=answer.model: graph.depths[-1].model == m)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not trouble
    assert len(answers) >= 24 and all(a.success for a in answers), {a.message for a in answers}
    assert all(a.objects[0].text == a.objects[1].text for a in answers)
    order = [d.model for d in graph.depths]
    changes = [m for n, m in enumerate(order) if n == 0 or m != order[n - 1]]
    expected = ["fake", *(m for n, m in enumerate(models) if m != ["fake", *models][n])]
    assert changes == expected
    assert all(o.text == d.model for d in graph.depths for o in d.objects)
    assert wait_until(lambda: node.shared.worker.queued() == 0)
    assert len(fake.threads) == 1


def test_the_frame_in_hand_is_looked_at_again(graph, fake, folder, services):
    node = graph.start(lambda *_: fake, adapters_folder=str(folder))
    message = graph.image()
    graph.camera().publish(message)
    assert wait_until(lambda: graph.depths)
    assert graph.query(objects=["cup"], max_image_age=600.0).objects[0].text == "fake" and fake.looks == 1
    assert services[0]("one").success
    answer = graph.query(objects=["cup"], max_image_age=600.0)
    assert answer.image_stamp == message.header.stamp and answer.objects[0].text == "fake+title of one"
    settle(node)
    assert node.shared.worker.counts().published == len(graph.depths) == 1  # one message a frame, as always


def test_one_that_takes_too_long_is_given_up_and_never_comes_late(graph, fake, folder, services):
    node = graph.start(lambda *_: fake, adapters_folder=str(folder), objects=[""], adapter_timeout=0.4)
    camera = graph.camera()
    camera.publish(graph.image())
    assert wait_until(lambda: node.shared.worker.counts().received == 1)
    fake.gate.clear()
    held = graph.query_client.call_async(ProximityQuery.Request(objects=["a"], max_image_age=600.0))
    assert wait_until(lambda: fake.steps == 1)
    answer = services[0]("one")  # behind a query that is in work
    assert answer.error_code == R.TIMEOUT and "0.4 s" in answer.message and answer.model == "fake"
    graph.diagnostic(queries_waiting="1")  # everything else goes on
    fake.gate.set()
    assert wait_until(held.done) and held.result().success
    steps = fake.steps
    fake.gate.clear()
    answer = services[0]("one")  # in the middle of its own loading
    assert answer.error_code == R.TIMEOUT and fake.steps == steps + 1
    fake.gate.set()
    camera.publish(graph.image())  # the frame in hand has a view of the old engine's anyway
    assert wait_until(lambda: node.shared.worker.counts().received == 2)
    assert graph.query(objects=["a"], max_image_age=600.0).objects[0].text == "fake"
    assert services[1]().in_use == ""
    assert node.set_parameters([Parameter("adapter_timeout", value=30.0)])[0].successful
    assert services[0]("one").success


def test_cleaning_up_ends_what_waits(graph, fake, folder, services):
    node = graph.start(lambda *_: fake, adapters_folder=str(folder), objects=[""])
    graph.camera().publish(graph.image())
    assert wait_until(lambda: node.shared.worker.counts().received == 1)
    fake.gate.clear()
    held = graph.query_client.call_async(ProximityQuery.Request(objects=["a"], max_image_age=600.0))
    assert wait_until(lambda: fake.steps == 1)
    client = graph.client.create_client(LoadAdapter, "load_adapter")
    assert client.wait_for_service(30)
    waiting = client.call_async(LoadAdapter.Request(adapter="one"))
    assert wait_until(lambda: node.shared.worker._engine_tasks)
    assert graph.transition(Transition.TRANSITION_DEACTIVATE)
    threading.Timer(0.5, fake.gate.set).start()
    assert graph.transition(Transition.TRANSITION_CLEANUP)
    assert wait_until(waiting.done) and waiting.result().error_code == R.MODEL_NOT_LOADED
    assert "shut down or cleaned up" in waiting.result().message and wait_until(held.done)


def test_an_engine_that_breaks_over_an_adapter_is_an_internal_fault(graph, fake, folder, services):
    graph.start(lambda *_: fake, adapters_folder=str(folder))

    def broken(adapter):
        raise MemoryError("no room\nfor it")

    fake.with_adapter = broken
    answer = services[0]("one")
    assert answer.error_code == R.INTERNAL and "MemoryError: no room for it" in answer.message
    assert answer.model == "fake"
    shutil.rmtree(folder)
    answer = services[1]()
    assert answer.error_code == R.INTERNAL and "cannot be read" in answer.message


def test_metres_of_another_model_are_learned_anew(graph, fake, folder, services):
    node = graph.start(lambda *_: fake, adapters_folder=str(folder))
    header = Header(stamp=graph.now())
    for n in range(40):
        depth = (n % 10) / 10
        node.shared.calibrator._calibration.add(header.stamp.sec + n / 100, depth, 0.01, 1 / (1 - 0.8 * depth))
    cup = ObjectDepth("cup", 0.5, 0.01, 0.9, "")
    assert np.isfinite(node.shared.calibrator.annotate(header, [cup])[0].distance)
    assert not services[0]("missing").success
    assert np.isfinite(node.shared.calibrator.annotate(header, [cup])[0].distance)
    assert services[0]("one").success
    assert np.isnan(node.shared.calibrator.annotate(header, [cup])[0].distance)


# -- the real model --------------------------------------------------------------------------------------------------


@pytest.mark.model
@pytest.mark.slow
def test_the_real_model_takes_one_refuses_bad_ones_and_goes_back(graph, engine, tmp_path):
    from proxqa_core.model.loading import DEFAULT_ADAPTER

    names, folder = ["chair", "table"], tmp_path / "adapters"
    bad = ("truncated", "pickle", "bin", "shapes", "base")
    for name in ("half", *bad):
        shutil.copytree(DEFAULT_ADAPTER, folder / name)
    weights = load((DEFAULT_ADAPTER / "adapter_model.safetensors").read_bytes())
    save_file({k: v / 2 for k, v in weights.items()}, folder / "half/adapter_model.safetensors")
    save_file({k: v[:, :8].contiguous() for k, v in weights.items()}, folder / "shapes/adapter_model.safetensors")
    cut = folder / "truncated/adapter_model.safetensors"
    cut.write_bytes(cut.read_bytes()[:-1000])
    torch.save(weights, folder / "pickle/adapter_model.safetensors")
    os.rename(folder / "bin/adapter_model.safetensors", folder / "bin/adapter_model.bin")
    for name, change in (("half", {"name": "halved"}), ("base", {"base": "another"})):
        info = json.loads((folder / name / "proxqa.json").read_text()) | change
        (folder / name / "proxqa.json").write_text(json.dumps(info))

    patient = {"adapter_timeout": 600.0, "query_timeout": 600.0, "max_image_age": 0.0}
    graph.start(lambda *_: engine, adapters_folder=str(folder), objects=names, **patient)
    loading = graph.client.create_client(LoadAdapter, "load_adapter")
    listing = graph.client.create_client(ListAdapters, "list_adapters")
    image = np.random.default_rng(1).integers(0, 255, (120, 160, 3), np.uint8)
    graph.camera().publish(graph.image(image))
    assert wait_until(lambda: graph.depths, 300)

    def said():
        answer = graph.query(objects=names)
        return answer.answer, [(o.name, o.depth, o.depth_stddev, o.score, o.text) for o in answer.objects]

    before = said()
    listed = graph.call(listing, ListAdapters.Request(), 300)
    assert listed.success and {a.name for a in listed.adapters if a.loadable} == {"half"}
    said_of = {
        "truncated": "not a whole safetensors file",
        "pickle": "not a whole safetensors file",
        "bin": "lacks adapter_model.safetensors",
        "shapes": "does not fit the model",
        "base": "made for base 'another'",
    }
    for name in bad:
        answer = graph.call(loading, LoadAdapter.Request(adapter=name), 300)
        assert answer.error_code == R.BAD_ADAPTER and said_of[name] in answer.message, answer.message
        assert said_of[name] in next(a.problem for a in listed.adapters if a.name == name)
        assert answer.model == engine.model_name
    assert said() == before
    answer = graph.call(loading, LoadAdapter.Request(adapter="half"), 300)
    assert answer.success and answer.model == "default+halved", answer.message
    assert said() != before
    answer = graph.call(loading, LoadAdapter.Request(adapter=""), 300)
    assert answer.success and answer.model == engine.model_name and said() == before
