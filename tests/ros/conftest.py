"""A ROS graph of its own for every test: own context, own domain, an executor spinning in a thread."""

from __future__ import annotations

import contextlib
import gc
import itertools
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

import domain_coordinator
import rclpy
import yaml
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.context import Context
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, Image

from proxqa_core.errors import BadModelError, BadObjectError, NotUnderstoodError
from proxqa_core.ranking import by_depth
from proxqa_core.types import ObjectDepth, ObjectQuery, ProximityAnswer, QuestionKind
from proxqa_ros.common.executor import HandoverExecutor
from proxqa_ros.common.parameters import Spec
from proxqa_ros.governor import node as governor_node
from proxqa_ros.msg import ObjectDepthArray
from proxqa_ros.proximity import node as proximity_node
from proxqa_ros.proximity.node import ProximityNode
from proxqa_ros.srv import ProximityQuery, SetObjects
from proxqa_ros.testing.process import node_command, node_environment
from proxqa_ros.testing.spinning import SpinThread
from proxqa_ros.testing.waiting import TIMEOUT_S, wait_until

HERE = Path(__file__).parent
PICTURE = np.kron(np.random.default_rng(0).integers(0, 255, (12, 16, 3)), np.ones((4, 4, 1))).astype(np.uint8)
"""What a camera sends where it does not matter: something, so that it is not called blind."""


def pictures() -> Iterator[np.ndarray]:
    """The picture again and again, never the very same pixels: such a camera would be called frozen."""
    for number in itertools.count():
        picture = PICTURE.copy()
        picture[0, :3] = [[number % 256, number // 256 % 256, 0]] * 3
        yield picture


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test in this folder is of ROS."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker("ros")


def in_yaml(root: Path, name: str) -> dict[str, Any]:
    """The parameters in config/<name>.yaml."""
    return yaml.safe_load((root / f"config/{name}.yaml").read_text())["/**"]["ros__parameters"]


def check_yaml(root: Path, name: str, specs: Mapping[str, Spec]) -> None:
    """The YAML is the tutorial: the parameters declared, with their defaults, ranges and when a change applies."""
    values, text = in_yaml(root, name), (root / f"config/{name}.yaml").read_text()
    assert list(values) == list(specs)
    for parameter, spec in specs.items():
        assert values[parameter] == spec.default and type(values[parameter]) is type(spec.default), parameter
        comment = re.search(rf"((?:    #.*\n)+)    {parameter}:", text)
        assert comment, f"{parameter} has no comment"
        words = " ".join(comment.group(1).replace("#", " ").split())
        when = (
            "locked"
            if spec.locked
            else "applies"
            if spec.live
            else "read at start only"
            if spec.read_only
            else "read at configure"
        )
        assert words.endswith(f"Run time: {when}."), parameter
        if spec.high is not None:
            assert f"{spec.low:g} to {spec.high:g}" in words, f"{parameter}: expected its range in the comment"


def start_process(
    root: Path, module: str, domain: int, *params: str, namespace: str = "", code: str = ""
) -> subprocess.Popen[str]:
    """main() of that module of proxqa_ros, or other code, as a process; both of its outputs come as one.

    The modules are those of the checkout `root`, whose own they are anyway.
    """
    command = node_command(module, namespace=namespace, code=code)
    command += [x for p in params for x in ("-p", p)]
    env = node_environment(domain)
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


class FakeEncodedImage:
    """Depth of an object = position of its name's first letter in the alphabet / 26; 'ghost…' is not in view.

    What is said is the name of the engine that looked.
    """

    def __init__(self, engine: FakeEngine, image: np.ndarray):
        self.engine, self.image = engine, image

    def depths(self, objects):
        self.engine.work()
        return tuple(self.depth(ObjectQuery(o) if isinstance(o, str) else o) for o in objects)

    def ranking(self, objects):
        return by_depth([self.depth(ObjectQuery(o) if isinstance(o, str) else o) for o in objects])

    def depth(self, query):
        depth, score = (ord(query.name[0].lower()) - 97) % 26 / 26, 0.1 if query.name.startswith("ghost") else 0.9
        return ObjectDepth(query.name, depth, 0.1, score, self.engine.model_name, query.box)

    def ask(self, question, objects=()):
        self.engine.work()
        if question == "boom":
            raise RuntimeError("the engine\nbroke")
        if "closer" not in question:
            raise NotUnderstoodError(f"question {question[:20]!r} is not understood")
        if len(objects) != 2:
            raise BadObjectError("expected two objects")
        near, far = sorted(self.depths(objects), key=lambda o: o.depth)
        return ProximityAnswer(question, QuestionKind.CLOSER, f"{near.name}.", (near, far), near.name, far.name, 0.8)


class FakeEngine:
    """Counts what it is asked; `delay` seconds per step; `gate` holds it back while cleared.

    An adapter is a folder with a file `title`; taking it is a step. The engines share gate and threads.
    """

    def __init__(self, delay: float = 0.0, adapter: str = ""):
        self.delay, self.gate = delay, threading.Event()
        self.gate.set()
        self.adapter, self.model_name = adapter or "of the box", f"fake+{adapter}" if adapter else "fake"
        self.looks, self.steps, self.threads = 0, 0, set()

    def check_adapter(self, folder):
        if not (folder / "title").is_file():
            raise BadModelError(f"adapter folder {folder.name!r} lacks title")
        return (folder / "title").read_text()

    def with_adapter(self, adapter):
        self.work()
        other = FakeEngine(self.delay, self.check_adapter(adapter) if adapter else "")
        other.gate, other.threads = self.gate, self.threads
        return other

    def work(self):
        self.steps += 1
        self.threads.add(threading.get_ident())
        assert self.gate.wait(TIMEOUT_S)
        time.sleep(self.delay)

    def info(self):
        return {"model": self.model_name, "device": "nowhere", "dtype": "float32", "adapter": self.adapter}

    def encode_image(self, image):
        self.looks += 1
        self.work()
        return FakeEncodedImage(self, image)


class Graph:
    """A node under test and a client beside it."""

    def __init__(self, context: Context):
        self.pictures = pictures()
        self.context = context
        self.executor = HandoverExecutor(24, context=context)
        self.nodes: list[Any] = []
        self.spinning = SpinThread(self.executor)
        self.client = rclpy.create_node("client", context=context)
        self.add(self.client)
        self.depths: list[ObjectDepthArray] = []
        self.diagnostics: list[Any] = []
        self.client.create_subscription(ObjectDepthArray, "object_depths", self.depths.append, 100)
        self.client.create_subscription(
            DiagnosticArray, "/diagnostics", lambda m: self.diagnostics.append(m.status[0]), 10
        )
        self.query_client = self.client.create_client(ProximityQuery, "proximity_query")
        self.spinning.start()

    def add(self, node: Any) -> None:
        self.nodes.append(node)
        self.executor.add_node(node)

    def start(self, loader: Callable[..., Any], cli: tuple[str, ...] = (), **params: Any) -> ProximityNode:
        """A proximity node; waits until it is active unless autostart=False."""
        overrides = [Parameter(k, value=v) for k, v in params.items()]
        cli_args = ["--ros-args", *cli] if cli else None
        node = ProximityNode(
            engine_loader=loader, context=self.context, parameter_overrides=overrides, cli_args=cli_args
        )
        self.add(node)
        if params.get("autostart", True):
            assert wait_until(lambda: node.state == "active"), node.state
        assert self.query_client.wait_for_service(TIMEOUT_S)
        return node

    def call(self, client: Any, request: Any, seconds: float = TIMEOUT_S) -> Any:
        assert client.wait_for_service(TIMEOUT_S), f"{client.srv_name} is not there"
        future = client.call_async(request)
        assert wait_until(future.done, seconds), "no response"
        return future.result()

    def query(self, question: str = "", objects: Any = (), **fields: Any) -> Any:
        request = ProximityQuery.Request(question=question, objects=list(objects), **fields)
        return self.call(self.query_client, request)

    def set_objects(self, objects: Any, regions: Any = ()) -> Any:
        client = self.client.create_client(SetObjects, "set_objects")
        return self.call(client, SetObjects.Request(objects=list(objects), regions=list(regions)))

    def transition(self, which: int) -> bool:
        client = self.client.create_client(ChangeState, "/proximity/change_state")
        return self.call(client, ChangeState.Request(transition=Transition(id=which)), 60).success

    def camera(self, kind: Any = Image, topic: str = "image") -> Any:
        """A publisher that someone listens to."""
        publisher = self.client.create_publisher(kind, topic, qos_profile_sensor_data)
        assert wait_until(lambda: publisher.get_subscription_count() > 0)
        return publisher

    def now(self) -> Any:
        return self.client.get_clock().now().to_msg()

    def image(self, image: np.ndarray | None = None, stamp: Any = None, frame_id: str = "camera") -> Image:
        image = next(self.pictures) if image is None else image
        message = Image(height=image.shape[0], width=image.shape[1], encoding="rgb8", step=3 * image.shape[1])
        message.header.stamp, message.header.frame_id = stamp or self.now(), frame_id
        message.data = np.ascontiguousarray(image).tobytes()
        return message

    def compressed(self, data: bytes, format_: str = "jpeg") -> CompressedImage:
        message = CompressedImage(format=format_, data=data)
        message.header.stamp, message.header.frame_id = self.now(), "camera"
        return message

    def diagnostic(self, **expected: str) -> dict[str, str]:
        """The first diagnostic status, from now on, whose values are as expected; fails where none comes."""
        seen = len(self.diagnostics)

        def found() -> Any:
            for status in self.diagnostics[seen:]:
                values = {v.key: v.value for v in status.values} | {"message": status.message, "level": status.level}
                if all(values.get(k) == v for k, v in expected.items()):
                    return values
            return None

        values = wait_until(found)
        assert values, f"expected {expected}, last: {self.diagnostics[-1] if self.diagnostics else None}"
        return values

    def close(self) -> None:
        for node in self.nodes:
            if isinstance(node, ProximityNode):
                node.release()
        assert self.spinning.stop()
        del node  # while a name here is one's, it is not collected
        while self.nodes:
            self.nodes.pop(0).destroy_node()
        rclpy.try_shutdown(context=self.context)
        gc.collect()  # nodes are in cycles; until they are collected they stay in the domain, which the next test uses
        assert self.spinning.error is None, self.spinning.error


@pytest.fixture(scope="session", autouse=True)
def old_objects_are_set_aside() -> None:
    """What was there before the tests is not looked at in every collection that `Graph.close` asks for."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def diagnostics_come_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The nodes of this process publish their diagnostics ten times a second; tests wait for them again and again."""
    for module in (proximity_node, governor_node):
        assert module.DIAGNOSTICS_PERIOD_S == 1.0
        monkeypatch.setattr(module, "DIAGNOSTICS_PERIOD_S", 0.1)


@contextlib.contextmanager
def own_graph() -> Iterator[Graph]:
    """A graph in a domain of its own."""
    with domain_coordinator.domain_id() as domain:
        context = Context()
        rclpy.init(context=context, domain_id=int(domain))
        graph = Graph(context)
        yield graph
        graph.close()


@pytest.fixture
def graph() -> Iterator[Graph]:
    with own_graph() as graph:
        yield graph


@pytest.fixture
def fake() -> FakeEngine:
    return FakeEngine()


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return Path(__file__).resolve().parents[2]
