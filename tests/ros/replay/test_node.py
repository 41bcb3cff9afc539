"""A bag played to the real node over DDS and judged: in one go, as an action, as a process; and what can go wrong."""

from __future__ import annotations

import json
import re
import runpy
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import rclpy
from action_msgs.msg import GoalStatus
from builtin_interfaces.msg import Time
from domain_coordinator import domain_id
from rclpy.action import ActionClient
from rclpy.context import Context
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_sensor_data
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from std_srvs.srv import SetBool

from proxqa_core.rosbags.bag import BadBagError
from proxqa_core.types import ObjectQuery
from proxqa_ros.action import EvaluateBag
from proxqa_ros.common.parameters import BadParameterError
from proxqa_ros.distance.depth_image import DepthImageSource
from proxqa_ros.replay.evaluation import NoAnswerError, NoNodeError, RefusedError
from proxqa_ros.replay.node import ReplayEvaluation, summary_line
from proxqa_ros.replay.parameters import SPECS, ReplayRequest, request_of_goal
from proxqa_ros.testing.process import REPLAY_NODE
from tests import made_bag as made
from tests.ros.conftest import FakeEngine, check_yaml, in_yaml, own_graph, start_process, wait_until
from tests.ros.distance.scene import compressed_depth_image

NAMES = ["chair", "lamp", "table"]
"""By the fake engine's depths, which follow the alphabet: the lamp before the table, which is wrong."""


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    """Six images of 0.6 s."""
    return made.write(tmp_path / "bags" / "drive", made.drive())


def evaluator(graph: Any, **params: Any) -> ReplayEvaluation:
    overrides = [Parameter(name, value=value) for name, value in params.items()]
    node = ReplayEvaluation(context=graph.context, parameter_overrides=overrides)
    graph.add(node)
    return node


def node_under_test(graph: Any, engine: FakeEngine, **params: Any) -> Any:
    return graph.start(lambda *_: engine, use_sim_time=True, objects=["person"], **params)


@pytest.fixture(autouse=True)
def bags_folder(tmp_path: Path) -> None:
    (tmp_path / "bags").mkdir(exist_ok=True)
    (tmp_path / "reports").mkdir()


# -- one evaluation ---------------------------------------------------------------------------------------------------


@pytest.mark.timing
def test_over_loops_and_faster_than_recorded(graph, fake, drive, tmp_path):
    node = node_under_test(graph, fake)
    file, page, seen = tmp_path / "r.json", tmp_path / "r.html", []
    request = ReplayRequest(drive, rate=2.0, loops=3, json=file, html=page)
    outcome = evaluator(graph)._replay.play(request, seen.append)
    found = outcome.report
    assert [q.name for q in node.shared.objects] == NAMES
    assert not outcome.canceled and found["model"] == "fake" and found["truth"]["kind"] == "labels"
    frames = found["frames"]
    assert frames["asked"] == 18 and frames["passes"] == 3 and frames["bad"] == 0
    assert frames["answered"] + frames["dropped"] == 18 and frames["answered"] >= 9
    # Every loop has answers, each at the right frame: the clock's jumps back disturb nothing.
    assert {a.pass_number for a in outcome.run.answers} == {0, 1, 2}
    assert all(outcome.run.stamps[a.image] == a.stamp for a in outcome.run.answers)
    assert found["pair_accuracy"] == pytest.approx(2 / 3) and found["pairs"] == 3 * frames["answered"]
    assert found["by_object"]["chair"]["mae"] == pytest.approx(0.1 - 2 / 26, abs=1e-3)
    assert 0 < found["latency_seconds"]["p50"] <= found["latency_seconds"]["p95"] < 10
    assert found["temporal"]["depth_change"] == 0 == found["temporal"]["flip_rate"]
    assert found["node"]["stray_answers"] == 0
    assert found["node"]["frames_received"] <= 18 and found["node"]["frames_answered"] >= frames["answered"] - 1
    assert json.loads(file.read_text())["pairs"] == found["pairs"]
    assert "18 images in 3 passes over the 6 on" in page.read_text() and "data:image/jpeg" in page.read_text()
    assert [p.frames_done for p in seen] == [*range(1, 19), 18] and seen[-1].figures["frames_answered"] >= 9
    assert "18 images" in summary_line(outcome)
    # Its publishers are gone, so that a camera may take their place.
    assert wait_until(lambda: graph.client.count_publishers("/image") == 0 == graph.client.count_publishers("/clock"))


def test_compressed_images(graph, fake, tmp_path):
    messages: list[Any] = []
    for i in range(4):
        stamp = made.START + i * made.PERIOD
        messages += [
            ("/cam/compressed", stamp, made.compressed(stamp)),
            (made.TRUTH, stamp, made.truth(stamp, {"chair": (0.1, 1.0), "table": (0.6, 2.0)})),
        ]
    node_under_test(graph, fake, image_transport="compressed")
    outcome = evaluator(graph)._replay.play(ReplayRequest(made.write(tmp_path / "bag", messages, "mcap")))
    assert outcome.report["frames"]["answered"] >= 2 and outcome.report["pair_accuracy"] == 1.0


@pytest.mark.timing
def test_a_slow_node_drops_and_is_late(graph, fake, drive):
    fake.delay = 0.2  # twice a frame
    node_under_test(graph, fake)
    found = evaluator(graph)._replay.play(ReplayRequest(drive)).report
    frames = found["frames"]
    assert frames["asked"] == 6 and frames["dropped"] >= 2 and frames["answered"] + frames["dropped"] == 6
    assert found["latency_seconds"]["p50"] >= 0.4 and found["frames"]["drop_rate"] == pytest.approx(
        frames["dropped"] / 6
    )


def test_what_the_node_cannot_read_is_bad(graph, fake, tmp_path):
    messages = made.drive(5)
    for i in (1, 3):
        stamp = made.START + i * made.PERIOD
        messages = [m for m in messages if m[:2] != (made.IMAGES, stamp)]
        messages.append((made.IMAGES, stamp, made.raw(stamp, encoding="nonsense")))
    node_under_test(graph, fake)
    found = evaluator(graph)._replay.play(ReplayRequest(made.write(tmp_path / "bag", messages))).report
    assert found["frames"]["asked"] == 5 and found["frames"]["bad"] == 2 == found["node"]["frames_bad"]
    assert found["frames"]["answered"] + found["frames"]["dropped"] == 3


def test_without_labels_the_node_keeps_its_objects(graph, fake, tmp_path):
    messages = [m for m in made.drive() if m[0] != made.TRUTH]
    path = made.write(tmp_path / "bag", [m for m in messages if m[0] != made.DEPTHS])
    node = node_under_test(graph, fake)
    replay = evaluator(graph)._replay
    found = replay.play(ReplayRequest(path)).report
    assert found["truth"]["kind"] == "none" and list(found["by_object"]) == ["person"] == [
        q.name for q in node.shared.objects
    ]
    path = made.write(tmp_path / "with depth", messages)
    found = replay.play(ReplayRequest(path, depth_topic=made.DEPTHS, objects=queries("sofa", "door"))).report
    assert [q.name for q in node.shared.objects] == ["sofa", "door"]
    assert found["truth"]["kind"] == "depth images" and found["mae"] != found["mae"]  # the fake looks nowhere


def queries(*names: str) -> tuple[ObjectQuery, ...]:
    return tuple(map(ObjectQuery, names))


def test_metres_are_taught_where_it_is_wanted(graph, fake, drive):
    node = node_under_test(graph, fake)
    evaluator(graph)._replay.play(ReplayRequest(drive, play_depth_topic=made.DEPTHS))
    assert wait_until(lambda: node.shared.calibrator.source(DepthImageSource).received >= 2)


@pytest.mark.parametrize(
    ("transport", "topic", "format_"),
    [
        ("compressedDepth", "/depth/compressedDepth", "compressedDepth png"),
        ("compressedDepth", "/depth/of/any/name", "compressedDepth rvl"),
        ("compressed", "/depth/compressed", "png"),
    ],
)
def test_compressed_depth_is_played_as_it_is(graph, fake, drive, tmp_path, transport, topic, format_):
    messages = [m for m in made.drive() if m[0] != made.DEPTHS]
    for i in range(0, 6, 2):
        stamp = made.START + i * made.PERIOD
        of = Header(stamp=Time(sec=stamp // 10**9, nanosec=stamp % 10**9), frame_id="camera")
        depth = serialize_message(compressed_depth_image(of, format_, "16UC1"))
        messages.append((topic, stamp, made.COMPRESSED, depth))
    node = node_under_test(graph, fake, depth_transport=transport)
    bag = made.write(tmp_path / "bags" / "compressed", messages)
    evaluator(graph)._replay.play(ReplayRequest(bag, play_depth_topic=topic))
    source = node.shared.calibrator.source(DepthImageSource)
    assert wait_until(lambda: source.received >= 2) and not node.shared.calibrator.problem


def test_depth_that_nobody_hears_is_said(graph, fake, drive):
    node_under_test(graph, fake, depth_transport="compressed")
    replay = evaluator(graph)
    replay.get_logger().warning = MagicMock()
    replay._replay.play(ReplayRequest(drive, play_depth_topic=made.DEPTHS, seconds=0.1))
    said = [c.args[0] for c in replay.get_logger().warning.call_args_list]
    assert said == [
        "nobody subscribes to /depth, the depth played is not used: start the proximity node with depth_transport: raw"
    ]


def test_a_remapping_that_matches_nothing_is_named(graph):
    rules = ["imagee:=/a", "image:=/b", "depth/compressed:=/c", "evaluate_bag:=/d", "set_objects:=/e"]
    arguments = ["--ros-args", *(part for rule in rules for part in ("-r", rule))]
    node = ReplayEvaluation(context=graph.context, cli_args=arguments)
    graph.add(node)
    (line,) = node.unmatched_remaps
    assert line.startswith("remapping 'imagee:=/a' matches no topic") and "did you mean 'image'?" in line


def test_no_node_no_answers_and_bags_of_no_use(graph, fake, drive, tmp_path):
    replay = evaluator(graph)._replay
    with pytest.raises(NoNodeError, match=r"nobody subscribes to /image .*image_transport: raw"):
        replay.play(ReplayRequest(drive, start_timeout=0.1))
    for path, message in (
        (tmp_path / "nowhere", "does not exist"),
        (made.write(tmp_path / "none", [(made.TRUTH, 1, made.truth(1, {}))]), "no colour images"),
        (made.write(tmp_path / "same", [(made.IMAGES, i, made.raw(5)) for i in range(3)]), "3 images .* 1 different"),
        (made.write(tmp_path / "bad", [(made.IMAGES, 5, made.raw(5, encoding="x"))]), "none of 1 images"),
    ):
        with pytest.raises(BadBagError, match=message):
            replay.play(ReplayRequest(path))
    node_under_test(graph, fake)
    request = ReplayRequest(drive, rate=10.0, settle_time=0.1)
    client = graph.client.create_client(SetBool, "/proximity/enable")
    assert graph.call(client, SetBool.Request(data=False)).success
    with pytest.raises(NoAnswerError, match="none of 6 images was answered"):
        replay.play(request)
    assert graph.call(client, SetBool.Request(data=True)).success
    with pytest.raises(BadBagError, match="labelled are: chair, lamp, table"):
        replay.play(replace(request, objects=queries("dragon")))
    unlabelled = made.write(tmp_path / "unlabelled", [m for m in made.drive() if m[0] != made.TRUTH])
    with pytest.raises(RefusedError, match=r"the node refused the objects chair, chair: .*2 times"):
        replay.play(replace(request, bag=unlabelled, objects=queries("chair", "chair")))


def test_another_camera_on_the_topic_is_told_apart(graph, fake, drive):
    node_under_test(graph, fake)
    replay = evaluator(graph)._replay
    camera = graph.client.create_publisher(Image, "image", qos_profile_sensor_data)

    def intrude(progress: Any) -> None:
        if progress.frames_done % 3 == 0:  # the node takes the newest image: not every one of the bag's is to be lost
            camera.publish(graph.image())

    outcome = replay.play(ReplayRequest(drive, rate=0.5, settle_time=1.0), intrude)
    assert outcome.report["node"]["stray_answers"] > 0
    assert all(a.stamp in outcome.run.stamps for a in outcome.run.answers)


# -- the action -------------------------------------------------------------------------------------------------------


class Client:
    """Of the action; feedback is kept."""

    def __init__(self, graph: Any) -> None:
        # on a node that is not spun yet: rclpy shows the executor the client before the client has its lock
        node = rclpy.create_node("action_client", context=graph.context)
        self.client = ActionClient(node, EvaluateBag, "evaluate_bag")
        graph.add(node)
        assert self.client.wait_for_server(30)
        self.feedback: list[Any] = []

    def send(self, **fields: Any) -> Any:
        future = self.client.send_goal_async(
            EvaluateBag.Goal(**fields), feedback_callback=lambda m: self.feedback.append(m.feedback)
        )
        assert wait_until(future.done)
        assert future.result().accepted
        return future.result()

    @staticmethod
    def result(goal: Any) -> Any:
        future = goal.get_result_async()
        assert wait_until(future.done), "no result"
        return future.result()


def serve(graph: Any, tmp_path: Path, **params: Any) -> Client:
    folders = {"bag_folder": str(tmp_path / "bags"), "report_folder": str(tmp_path / "reports")}
    evaluator(graph, **folders | params)
    return Client(graph)


def test_a_goal_gets_feedback_and_a_report(graph, fake, drive, tmp_path):
    node_under_test(graph, fake)
    client = serve(graph, tmp_path)
    goal = client.send(bag="drive", loops=2, report_name="night-run_1", objects=["table", "lamp"])
    answer = client.result(goal)
    result = answer.result
    assert answer.status == GoalStatus.STATUS_SUCCEEDED and result.success and result.message == ""
    assert result.frames_shown == 12 and result.frames_answered + result.frames_dropped == 12
    assert result.pair_accuracy == 0.0 and 0 < result.mae < 1 and 0 < result.latency_p50 <= result.latency_p95
    report = json.loads(result.report)
    assert list(report["by_object"]) == ["table", "lamp"] and report["pair_accuracy"] == 0.0
    assert json.loads((tmp_path / "reports/night-run_1.json").read_text()) == report
    assert "data:image/jpeg" in (tmp_path / "reports/night-run_1.html").read_text()
    assert wait_until(lambda: client.feedback and client.feedback[-1].frames_done == 12)
    done = [f.frames_done for f in client.feedback]
    assert len(done) >= 3 and done == sorted(done) and all(f.frames_total == 12 for f in client.feedback)
    assert client.feedback[0].loop == 1 and client.feedback[-1].loop == 2
    assert client.feedback[-1].pair_accuracy == 0.0 and client.feedback[-1].frames_answered > 0


def test_a_goal_is_canceled_and_the_next_one_served(graph, fake, drive, tmp_path):
    node_under_test(graph, fake)
    client = serve(graph, tmp_path)
    goal = client.send(bag="drive", loops=1000)
    assert wait_until(lambda: client.feedback and client.feedback[-1].frames_answered > 0)
    busy = client.result(client.send(bag="drive"))
    assert busy.status == GoalStatus.STATUS_ABORTED and busy.result.error_code == busy.result.BUSY
    assert wait_until(goal.cancel_goal_async().done)
    answer = client.result(goal)
    assert answer.status == GoalStatus.STATUS_CANCELED
    assert re.fullmatch(r"canceled after \d+ of 6000 images", answer.result.message)
    assert 0 < answer.result.frames_answered <= answer.result.frames_shown < 6000
    assert json.loads(answer.result.report)["frames"]["asked"] == answer.result.frames_shown
    again = client.result(client.send(bag="drive", rate=2.0))
    assert again.status == GoalStatus.STATUS_SUCCEEDED and again.result.frames_shown == 6


def test_canceled_while_it_waits_for_a_node(graph, drive, tmp_path):
    client = serve(graph, tmp_path)
    goal = client.send(bag="drive")
    assert wait_until(goal.cancel_goal_async().done)
    answer = client.result(goal)
    assert answer.status == GoalStatus.STATUS_CANCELED and answer.result.frames_shown == 0


def test_goals_that_cannot_be_served(graph, drive, tmp_path):
    client = serve(graph, tmp_path, start_timeout=0.1)
    result = EvaluateBag.Result
    for fields, code, reason in (
        ({"bag": "drive"}, result.NOT_ACTIVE, "no active proximity node"),
        ({"bag": "nowhere"}, result.BAD_REQUEST, "does not exist"),
        ({"bag": "../secret"}, result.BAD_REQUEST, "not in bag_folder"),
        ({"bag": "drive", "image_topic": "/x"}, result.BAD_REQUEST, "choose one with image_topic"),
        ({"bag": "drive", "rate": -1.0}, result.BAD_REQUEST, "rate is -1.0"),
        ({"bag": "drive", "report_name": "../x"}, result.BAD_REQUEST, "report_name"),
    ):
        answer = client.result(client.send(**fields))
        assert answer.status == GoalStatus.STATUS_ABORTED and not answer.result.success
        assert (
            answer.result.error_code == code and reason in answer.result.message and "\n" not in answer.result.message
        )


# -- requests ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """With a bag in bags/."""
    folder = tmp_path_factory.mktemp("requests")
    made.write(folder / "bags" / "drive", made.drive())
    (folder / "bags/link").symlink_to(folder)
    return folder


@pytest.fixture(scope="module")
def quiet_node(folder) -> Iterator[ReplayEvaluation]:
    """Parameters only."""
    folders = {"bag_folder": str(folder / "bags"), "report_folder": str(folder / "reports")}
    with own_graph() as graph:
        yield evaluator(graph, **folders, depth_topic="/d", rate=2.0, loops=3)


def test_a_goal_goes_before_the_parameters(quiet_node, folder):
    drive = folder / "bags/drive"
    (folder / "reports").mkdir()
    request = request_of_goal(quiet_node, EvaluateBag.Goal(bag="drive"))
    assert (request.bag, request.depth_topic, request.rate, request.loops, request.json) == (drive, "/d", 2.0, 3, None)
    goal = EvaluateBag.Goal(bag=str(drive), truth_topic="/t", rate=0.5, loops=1, max_seconds=2.5, report_name="x")
    request = request_of_goal(quiet_node, goal)
    assert (request.truth_topic, request.depth_topic, request.rate, request.loops, request.seconds) == (
        "/t",
        "",
        0.5,
        1,
        2.5,
    )
    assert request.json == folder / "reports/x.json" and request.html == folder / "reports/x.html"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"bag": ""}, "bag is empty"),
        ({"bag": "."}, "not in bag_folder"),
        ({"bag": "../bags2/drive"}, "not in bag_folder"),
        ({"bag": "/etc"}, "not in bag_folder"),
        ({"bag": "link"}, "not in bag_folder"),
        ({"bag": "a\0b"}, "expected the path"),
        ({"bag": "x" * 5000}, "expected the path"),
        ({"bag": "drive", "report_name": "a/b"}, "letters, digits"),
        ({"bag": "drive", "report_name": "."}, "letters, digits"),
        ({"bag": "drive", "report_name": "x" * 101}, "letters, digits"),
        ({"bag": "drive", "rate": float("nan")}, "rate is nan"),
        ({"bag": "drive", "rate": 1000.0}, "0.01 to 100"),
        ({"bag": "drive", "loops": 5000}, "1 to 1000"),
        ({"bag": "drive", "max_seconds": -1.0}, "max_seconds is -1.0"),
        ({"bag": "drive", "max_seconds": float("nan")}, "max_seconds is nan"),
        ({"bag": "drive", "max_seconds": float("inf")}, "max_seconds is inf"),
        ({"bag": "drive", "truth_topic": "/a", "depth_topic": "/b"}, "expected one of them"),
        ({"bag": "drive", "objects": ["x" * 90]}, "too long"),
    ],
)
def test_a_goal_that_makes_no_sense_or_leads_astray(quiet_node, fields, reason):
    with pytest.raises(BadParameterError, match=reason) as caught:
        request_of_goal(quiet_node, EvaluateBag.Goal(**fields))
    assert "\n" not in str(caught.value)


def test_without_folders_goals_reach_nothing(graph, drive):
    node = evaluator(graph)
    with pytest.raises(BadParameterError, match="bag_folder is empty"):
        request_of_goal(node, EvaluateBag.Goal(bag=str(drive)))
    (refused,) = node.set_parameters([Parameter("bag_folder", value=str(drive.parent))])
    assert not refused.successful  # who can set parameters is not to choose what is read
    node = evaluator(graph, bag_folder=str(drive.parent))
    assert request_of_goal(node, EvaluateBag.Goal(bag="drive")).bag == drive
    with pytest.raises(BadParameterError, match="report_folder is empty"):
        request_of_goal(node, EvaluateBag.Goal(bag="drive", report_name="x"))


def test_a_report_that_has_no_place_is_refused_before_the_work(drive, tmp_path):
    with pytest.raises(BadParameterError, match="folder that exists"):
        ReplayRequest(drive, json=tmp_path / "nowhere/r.json")


# -- parameters and the launch file -----------------------------------------------------------------------------------


def test_yaml_and_declarations_agree(root, graph):
    check_yaml(root, "replay_evaluation", SPECS)
    node = evaluator(graph)
    for name, spec in SPECS.items():
        described = node.describe_parameter(name)
        assert described.description == spec.description
        assert len(described.floating_point_range) + len(described.integer_range) == (spec.high is not None)


def launched(root, monkeypatch, drive, **given: str) -> tuple[dict[str, Any], list[Any]]:
    """The launch file with a stand-in for `launch`, which has no wheel: (arguments, nodes)."""
    mocks = {name: MagicMock() for name in ("launch", "launch_ros")}
    for name in ("launch.actions", "launch.events", "launch.substitutions", "launch_ros.actions"):
        mocks[name] = getattr(mocks[name.split(".")[0]], name.split(".")[1])
    mocks["ament_index_python.packages"] = MagicMock()
    mocks["ament_index_python.packages"].get_package_share_directory.return_value = str(root)
    for name, mock in mocks.items():
        monkeypatch.setitem(sys.modules, name, mock)
    module = runpy.run_path(str(root / "launch/replay_evaluation.launch.py"))
    module["generate_launch_description"]()
    declared = {c.args[0]: c.kwargs for c in mocks["launch"].actions.DeclareLaunchArgument.call_args_list}
    values = {name: kwargs.get("default_value", "") for name, kwargs in declared.items()} | {"bag": str(drive)} | given

    def configuration(name: str) -> Any:
        found = MagicMock()
        found.perform.return_value = values[name]
        return found

    module["start"].__globals__["LaunchConfiguration"] = configuration
    nodes = module["start"](MagicMock())
    assert len(nodes) == 2
    actions = mocks["launch_ros"].actions
    return declared, [actions.LifecycleNode.call_args, actions.Node.call_args]


def test_the_launch_file_starts_both_nodes_as_the_bag_wants(root, monkeypatch, drive):
    declared, (node, replay) = launched(root, monkeypatch, drive, objects="chair, red table", loops="2")
    assert all(c["description"] for c in declared.values())
    assert node.kwargs["executable"] == "proximity_node"
    assert node.kwargs["parameters"][0] == str(root / "config/proximity.yaml")
    assert node.kwargs["parameters"][1] == {"use_sim_time": True, "image_transport": "raw", "autostart": True}
    file, params = replay.kwargs["parameters"]
    assert file == str(root / "config/replay_evaluation.yaml") and replay.kwargs["on_exit"]
    assert (
        params["bag"] == str(drive) and params["objects"] == ["chair", "red table"] and params["use_sim_time"] is False
    )
    assert (params["loops"], params["rate"]) == (2, 1.0)
    defaults = in_yaml(root, "replay_evaluation")
    assert all(type(params[n]) is type(defaults[n]) for n in params if n in defaults)
    assert {n: declared[n]["default_value"] for n in ("rate", "loops", "max_seconds")} == {
        n: str(defaults[n]) for n in ("rate", "loops", "max_seconds")
    }


def test_the_launch_file_has_the_node_take_depth_as_it_is_played(root, monkeypatch, drive):
    _, (node, _) = launched(root, monkeypatch, drive, play_depth_topic=made.DEPTHS)
    assert node.kwargs["parameters"][1]["depth_transport"] == "raw"


def test_the_launch_file_says_what_is_wrong_with_the_bag(root, monkeypatch, drive):
    with pytest.raises(BadBagError, match="image_topic:=TOPIC"):
        launched(root, monkeypatch, drive, image_topic="/x")


def test_the_launch_file_runs_in_launch(root):
    pytest.importorskip("launch_ros", reason="launch_ros has no wheel; this runs in a ROS distro")
    from launch.launch_description_sources import get_launch_description_from_python_launch_file

    description = get_launch_description_from_python_launch_file(str(root / "launch/replay_evaluation.launch.py"))
    assert {"bag", "loops", "rate"} <= {a.name for a in description.get_launch_arguments()}


# -- a process of its own ---------------------------------------------------------------------------------------------

MAIN_THAT_IS_INTERRUPTED_AT_ONCE = """
import os, signal, sys
import proxqa_ros.replay.node as module
request = module.replay_parameters.request_of_parameters
def interrupted(node):
    os.kill(os.getpid(), signal.SIGINT)
    return request(node)
module.replay_parameters.request_of_parameters = interrupted
sys.exit(module.main())
"""


def test_as_a_process_it_evaluates_and_ends(root, graph, fake, drive, tmp_path):
    node_under_test(graph, fake)
    domain = graph.context.get_domain_id()
    process = start_process(
        root, REPLAY_NODE, domain, f"bag:={drive}", f"json:={tmp_path}/r.json", f"html:={tmp_path}/r.html"
    )
    output, _ = process.communicate(timeout=90)
    assert process.returncode == 0 and "Traceback" not in output, output
    assert "6 images: " in output and "closer right 66.7 %" in output
    assert json.loads((tmp_path / "r.json").read_text())["frames"]["asked"] == 6
    assert (tmp_path / "r.html").read_text().startswith("<!doctype html>")


UNUSABLE = (
    (["bag:=nowhere"], 2, "'nowhere' does not exist"),
    (["bag:=BAG", "image_topic:=/x"], 2, "choose one with image_topic"),
    (["bag:=BAG", "json:=nowhere/r.json"], 2, "folder that exists"),
    (["bag:=BAG", "start_timeout:=0.1"], 1, "no active proximity node"),
    (["rate:=1000.0"], 2, "rate"),
)
"""Parameters, the exit code, what the one line says."""


def test_what_cannot_be_done_is_one_line(root, drive):
    with domain_id() as domain:
        processes = [
            start_process(root, REPLAY_NODE, int(domain), *(p.replace("BAG", str(drive)) for p in params))
            for params, _, _ in UNUSABLE
        ]
        for process, (_, code, reason) in zip(processes, UNUSABLE, strict=True):
            output, _ = process.communicate(timeout=90)
            assert process.returncode == code, output
            assert reason in output and "Traceback" not in output and len(output.splitlines()) == 1, output


def test_interrupted_it_ends_soon(root, drive):
    with domain_id() as domain:
        context = Context()
        rclpy.init(context=context, domain_id=int(domain))
        watcher = rclpy.create_node("watcher", context=context)
        given = {"/idle": [], "/busy": [f"bag:={drive}"]}
        processes = {
            namespace: start_process(root, REPLAY_NODE, int(domain), *params, namespace=namespace)
            for namespace, params in given.items()
        }
        try:
            clients = {name: ActionClient(watcher, EvaluateBag, f"{name}/evaluate_bag") for name in given}
            for namespace, process in processes.items():
                assert wait_until(clients[namespace].server_is_ready)
                process.send_signal(signal.SIGINT)
            outputs = {namespace: process.communicate(timeout=60)[0] for namespace, process in processes.items()}
        finally:
            for process in processes.values():
                process.kill()
            watcher.destroy_node()
            rclpy.try_shutdown(context=context)
    assert [p.returncode for p in processes.values()] == [0, 130], outputs
    assert not any("Traceback" in output for output in outputs.values()), outputs


def test_interrupted_while_it_starts_it_ends_soon(root, drive):
    with domain_id() as domain:
        processes = [
            start_process(root, REPLAY_NODE, int(domain), *params, code=MAIN_THAT_IS_INTERRUPTED_AT_ONCE)
            for params in ([], [f"bag:={drive}"])
        ]
        for process, code in zip(processes, (0, 130), strict=True):
            output, _ = process.communicate(timeout=60)
            assert process.returncode == code and "Traceback" not in output, output


def test_stopped_while_a_goal_is_under_way(graph, fake, drive, tmp_path):
    node_under_test(graph, fake)
    client = serve(graph, tmp_path)
    goal = client.send(bag="drive", loops=1000)
    assert wait_until(lambda: client.feedback)
    (node,) = (n for n in graph.nodes if isinstance(n, ReplayEvaluation))
    stopper = threading.Thread(target=node.stop)
    stopper.start()
    stopper.join(30)
    assert not stopper.is_alive()
    assert client.result(goal).status == GoalStatus.STATUS_ABORTED
