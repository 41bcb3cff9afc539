"""ProximityClient over real DDS: every error as its class, every executor, no call that waits for itself."""

from __future__ import annotations

import importlib.util
import re
import threading
import time
from pathlib import Path

import pytest
import rclpy
from geometry_msgs.msg import Twist
from lifecycle_msgs.msg import Transition
from rclpy.executors import MultiThreadedExecutor, SingleThreadedExecutor
from rclpy.experimental import EventsExecutor
from rclpy.parameter import Parameter
from sensor_msgs.msg import RegionOfInterest

from proxqa_ros import client as c
from proxqa_ros.srv import ProximityQuery
from tests.ros.conftest import Graph, start_process, wait_until

ROOT = Path(__file__).resolve().parents[2]
CLOSER = "which is closer?"


@pytest.fixture
def seeing(graph, fake):
    """A graph whose node has seen an image."""
    graph.start(lambda *_: fake, objects=[""])
    graph.camera().publish(graph.image())
    values = graph.diagnostic(frames_received="1")
    assert values["level"] == b"\x00"
    return graph


class Spun:
    """A node of its own, spun by an executor in a thread."""

    def __init__(self, graph: Graph, executor):
        self.node = rclpy.create_node("asker", context=graph.context)
        self.executor, self.stop = executor, threading.Event()
        executor.add_node(self.node)
        self.thread = threading.Thread(target=self.spin, daemon=True)
        self.thread.start()

    def spin(self) -> None:
        while not self.stop.is_set():
            self.executor.spin_once(0.05)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join(10)
        assert not self.thread.is_alive()
        self.executor.shutdown()
        self.node.destroy_node()


EXECUTORS = [SingleThreadedExecutor, MultiThreadedExecutor, EventsExecutor]


@pytest.mark.parametrize("kind", EXECUTORS)
def test_both_ways_of_asking_in_every_executor(seeing, kind):
    with Spun(seeing, kind(context=seeing.context)) as spun:
        client = c.ProximityClient(spun.node)
        response = client.ask(CLOSER, ["table", "chair"], max_image_age=600.0)
        assert (response.closer, response.farther) == ("chair", "table")
        future = client.ask_async(objects=["zebra", "apple"], max_image_age=600.0)
        assert wait_until(future.done)
        assert [o.name for o in future.result().objects] == ["apple", "zebra"]
        with pytest.raises(c.QuestionNotUnderstoodError, match="not understood"):
            client.ask("sing!", max_image_age=600.0)


def test_regions_reach_the_node(seeing):
    client = c.ProximityClient(seeing.client)
    regions = [RegionOfInterest(width=9, height=9), RegionOfInterest(x_offset=9, width=9, height=9)]
    assert len(client.ask(objects=["chair", "chair"], regions=regions, max_image_age=600.0).objects) == 2
    with pytest.raises(c.BadRequestError, match="2 times"):
        client.ask(objects=["chair", "chair"], max_image_age=600.0)


def test_a_node_in_no_executor_is_spun_while_it_waits(seeing):
    node = rclpy.create_node("script", context=seeing.context)
    try:
        client = c.ProximityClient(node)
        for _ in range(3):
            assert client.ask(CLOSER, ["table", "chair"], max_image_age=600.0).closer == "chair"
            assert node.executor is None
    finally:
        node.destroy_node()


def test_every_error_code_has_a_class_of_its_own(root):
    constants = re.findall(r"^uint8 (\w+)=(\d+)", (root / "srv/ProximityQuery.srv").read_text(), re.MULTILINE)
    assert {int(value) for name, value in constants if name != "NONE"} == set(c.ERRORS)
    assert len(set(c.ERRORS.values())) == len(c.ERRORS) == len(constants) - 1


def failure(client, *args, **kwargs) -> c.ProximityError:
    with pytest.raises(c.ProximityError) as caught:
        client.ask(*args, **kwargs)
    error = caught.value
    assert type(error) is c.ERRORS[error.error_code] and "\n" not in error.message and str(error) == error.message
    assert error.response.error_code == error.error_code and error.response.message == error.message
    return error


def test_what_the_node_refuses_is_raised(graph, fake):
    node = graph.start(lambda *_: fake, autostart=False, objects=[""], max_queued_queries=1)
    client = c.ProximityClient(graph.client)
    assert type(failure(client, objects=["chair"])) is c.ModelNotLoadedError
    assert graph.transition(Transition.TRANSITION_CONFIGURE)
    assert type(failure(client, objects=["chair"])) is c.NotActiveError
    assert graph.transition(Transition.TRANSITION_ACTIVATE)
    assert type(failure(client, objects=["chair"])) is c.NoImageError
    stamp = graph.now()
    stamp.sec -= 60
    graph.camera().publish(graph.image(stamp=stamp))
    assert wait_until(lambda: node.shared.worker.counts().received == 1)
    assert type(failure(client, objects=["chair"])) is c.ImageTooOldError
    hour = {"max_image_age": 3600.0}
    assert client.ask(objects=["chair"], **hour).success
    error = failure(client, objects=["ghost"], **hour)
    assert type(error) is c.NotVisibleError and [o.name for o in error.response.objects] == ["ghost"]
    assert type(failure(client, "sing!", **hour)) is c.QuestionNotUnderstoodError
    assert type(failure(client, objects=["chair"], max_image_age=-1.0)) is c.BadRequestError
    assert type(failure(client, objects=[f"object {n}" for n in range(65)], **hour)) is c.TooManyObjectsError
    assert type(failure(client, "boom", **hour)) is c.InternalError
    assert node.set_parameters([Parameter("query_timeout", value=1.0)])[0].successful
    fake.gate.clear()
    held = client.ask_async(objects=["chair"], **hour)
    assert wait_until(lambda: node.shared.worker.queued() == 1)
    assert type(failure(client, objects=["table"], **hour)) is c.BusyError
    assert wait_until(held.done) and type(held.exception()) is c.QueryTimeoutError
    assert held.exception().response.error_code == ProximityQuery.Response.TIMEOUT
    fake.gate.set()


def test_a_code_of_a_newer_node_is_an_error_too():
    error = c._outcome(ProximityQuery.Response(error_code=200, message="new"))
    assert type(error) is c.ProximityError and (error.error_code, error.message) == (200, "new")


def test_no_service_is_an_error_of_its_own(graph):
    client = c.ProximityClient(graph.client, "nobody/proximity_query")
    assert not client.is_ready()
    started = time.monotonic()
    with pytest.raises(c.NoServiceError, match=r"/nobody/proximity_query.*running") as caught:
        client.ask("hello", timeout=0.5)
    assert 0.5 <= time.monotonic() - started < 5
    assert caught.value.error_code == ProximityQuery.Response.TIMEOUT and caught.value.response is None
    future = client.ask_async("hello")
    assert future.done() and type(future.exception()) is c.NoServiceError


def test_ask_waits_for_a_service_that_is_about_to_come(graph, fake):
    client = c.ProximityClient(graph.client)
    answers = []
    thread = threading.Thread(target=lambda: answers.append(failure(client, objects=["chair"], timeout=30)))
    thread.start()
    graph.start(lambda *_: fake)
    thread.join(30)
    # the service is there before the model, and answers while it is being configured
    assert type(answers[0]) in (c.ModelNotLoadedError, c.NotActiveError, c.NoImageError)


@pytest.mark.timing
def test_both_ways_end_after_their_timeout(seeing, fake):
    client = c.ProximityClient(seeing.client)
    fake.gate.clear()
    started = time.monotonic()
    with pytest.raises(c.QueryTimeoutError, match=r"within 0\.5 s") as caught:
        client.ask(objects=["chair"], max_image_age=600.0, timeout=0.5)
    assert caught.value.response is None
    future = client.ask_async(objects=["chair"], max_image_age=600.0, timeout=0.5)
    assert wait_until(future.done, 5) and type(future.exception()) is c.QueryTimeoutError
    assert time.monotonic() - started < 5
    assert not client._client._pending_requests  # nothing is kept for answers that come too late
    fake.gate.set()
    assert client.ask(objects=["chair"], max_image_age=600.0).success


def in_callback(node, call):
    """What `call` returned or raised when it ran as a timer's callback of the node."""
    got = []

    def run():
        timer.cancel()
        try:
            got.append(call())
        except Exception as error:
            got.append(error)

    timer = node.create_timer(0.01, run)
    assert wait_until(lambda: got)
    return got[0]


def test_a_callback_that_would_wait_for_itself_is_refused_at_once(seeing):
    with Spun(seeing, SingleThreadedExecutor(context=seeing.context)) as spun:
        client = c.ProximityClient(spun.node)
        started = time.monotonic()
        error = in_callback(spun.node, lambda: client.ask(objects=["chair"], max_image_age=600.0))
        assert type(error) is c.WouldBlockError and "ask_async" in str(error)
        assert time.monotonic() - started < 5
        assert client.ask(objects=["chair"], max_image_age=600.0).success  # the executor spins on


def test_a_callback_of_an_events_executor_waits_no_longer_than_its_timeout(seeing):
    with Spun(seeing, EventsExecutor(context=seeing.context)) as spun:
        client = c.ProximityClient(spun.node)
        error = in_callback(spun.node, lambda: client.ask(objects=["chair"], max_image_age=600.0, timeout=0.5))
        assert type(error) is c.QueryTimeoutError and "executor" in error.message


def test_a_callback_of_a_multi_threaded_executor_may_wait(seeing):
    with Spun(seeing, MultiThreadedExecutor(2, context=seeing.context)) as spun:
        client = c.ProximityClient(spun.node)
        response = in_callback(spun.node, lambda: client.ask(CLOSER, ["table", "chair"], max_image_age=600.0))
        assert response.closer == "chair"


SILENT = """
import time, rclpy
from proxqa_ros.srv import ProximityQuery
rclpy.init()
node = rclpy.create_node("silent")
service = node.create_service(ProximityQuery, "silent_query", lambda request, response: time.sleep(600))
print("ready", flush=True)
rclpy.spin(node)
"""


def test_it_ends_in_every_executor_where_a_node_in_another_process_keeps_silent(graph):
    """Its timeout, however the asking node is spun; the executor then spins on."""
    process = start_process(ROOT, "", graph.context.get_domain_id(), code=SILENT)
    try:
        assert process.stdout.readline() == "ready\n"
        for kind in EXECUTORS:
            with Spun(graph, kind(context=graph.context)) as spun:
                client = c.ProximityClient(spun.node, "silent_query")
                for _ in range(2):
                    with pytest.raises(c.QueryTimeoutError, match="silent_query"):
                        client.ask(objects=["chair"], timeout=1.0)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("kind", EXECUTORS)
def test_a_coroutine_gets_the_answer_or_the_error(seeing, fake, kind):
    with Spun(seeing, kind(context=seeing.context)) as spun:
        client = c.ProximityClient(spun.node)
        got = []

        async def run():
            timer.cancel()
            got.append((await client.ask_async(CLOSER, ["table", "chair"], max_image_age=600.0)).closer)
            fake.gate.clear()
            try:
                await client.ask_async(objects=["chair"], max_image_age=600.0, timeout=0.3)
            except c.QueryTimeoutError as error:
                got.append(error.error_code)

        timer = spun.node.create_timer(0.01, run)
        assert wait_until(lambda: len(got) == 2, 10)
        fake.gate.set()
    assert got == ["chair", ProximityQuery.Response.TIMEOUT]


@pytest.mark.parametrize(
    ("kwargs", "error", "said"),
    [
        ({"objects": "chair"}, TypeError, "'chair'"),
        ({"objects": [1]}, TypeError, "1 is not text"),
        ({"question": None}, TypeError, "None is not text"),
        ({"objects": ["a"], "regions": [(0, 0, 1, 1)]}, TypeError, "RegionOfInterest"),
        ({"timeout": 0.0}, ValueError, "timeout is 0"),
        ({"timeout": float("nan")}, ValueError, "timeout is nan"),
        ({"timeout": float("inf")}, ValueError, "timeout is inf"),
    ],
)
def test_arguments_that_no_request_can_be_made_of(graph, kwargs, error, said):
    client = c.ProximityClient(graph.client)
    for ask in (client.ask, client.ask_async):
        with pytest.raises(error, match=said):
            ask(**kwargs)


def test_the_example_moves_only_while_the_goal_is_closer(root, graph, fake):
    spec = importlib.util.spec_from_file_location("ask_before_moving", root / "examples/ask_before_moving.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    graph.start(lambda *_: fake, objects=[""])
    camera = graph.camera()
    speeds: list[float] = []
    graph.client.create_subscription(Twist, "cmd_vel_in", lambda m: speeds.append(m.linear.x), 10)
    node = example.AskBeforeMoving(
        context=graph.context, parameter_overrides=[Parameter("goal", value="ball"), Parameter("obstacle", value="cat")]
    )
    graph.add(node)
    assert wait_until(lambda: len(speeds) > 5) and set(speeds) == {0.0}  # no image: no answer, no motion

    def moves() -> bool:
        camera.publish(graph.image())
        return speeds[-1] == example.SPEED_M_PER_S

    assert wait_until(moves)  # the fake node's objects are as far as their first letter
    node.goal = "dog"
    assert wait_until(lambda: not moves())
    node.goal = "ball"
    assert wait_until(moves)
    assert wait_until(lambda: speeds[-1] == 0.0)  # no image any more: too old, no motion
