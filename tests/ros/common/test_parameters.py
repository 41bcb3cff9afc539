"""A parameter that is mistyped at start is named, by each of the three nodes; one of another node's is not."""

from __future__ import annotations

import math
import re
import subprocess
from array import array
from pathlib import Path

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.parameter import Parameter

from proxqa_ros.common.parameters import WrongTypeError, of_type, unknown_parameter
from proxqa_ros.governor.node import SpeedGovernor
from proxqa_ros.testing.domain import own_domain
from proxqa_ros.testing.process import GOVERNOR_NODE, PROXIMITY_NODE, REPLAY_NODE, node_command, node_environment
from proxqa_ros.testing.waiting import wait_until

CASES = {
    GOVERNOR_NODE: ("speed_governor", "stop_distanse", "stop_distance"),
    PROXIMITY_NODE: ("proximity", "objekts", "objects"),
    REPLAY_NODE: ("replay_evaluation", "bag_foldr", "bag_folder"),
}


def test_what_is_said():
    declared = ["rate", "stop_distance"]
    assert unknown_parameter("stop_distanse", declared) == (
        "parameter 'stop_distanse' is unknown and has no effect; did you mean 'stop_distance'?"
    )
    assert unknown_parameter("qqq", declared).endswith("expected one of rate, stop_distance")
    assert "\n" not in unknown_parameter("a\nb", declared)


@pytest.mark.parametrize("module", CASES)
def test_a_mistyped_parameter_is_named(module, tmp_path: Path):
    node, typed, meant = CASES[module]
    file = tmp_path / "params.yaml"
    file.write_text(
        f"/{node}:\n  ros__parameters:\n    {typed}: 1\n    use_sim_time: false\n"
        "/another_node:\n  ros__parameters:\n    somebody_elses: 1\n"
        "    qos_overrides:\n      /image:\n        subscription:\n          depth: 2\n"
    )
    with own_domain() as domain:
        command = node_command(
            module, parameters={"autostart": False, "zzz": 1} if module != REPLAY_NODE else {"zzz": 1}
        )
        log = tmp_path / "log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [*command, "--params-file", str(file)], env=node_environment(domain), stdout=out, stderr=out
            )
        try:
            assert wait_until(lambda: log.read_text(errors="replace").count("is unknown") >= 2, 120), log.read_text()
            assert not wait_until(lambda: log.read_text(errors="replace").count("is unknown") > 2, 0.5)
        finally:
            process.terminate()
            process.wait(30)
    warnings = re.findall(r"parameter '(\w+)' is unknown and has no effect; (.*)", log.read_text())
    assert [name for name, _ in warnings] == sorted([typed, "zzz"])
    assert dict(warnings)[typed] == f"did you mean {meant!r}?" and meant in dict(warnings)["zzz"]


@pytest.mark.parametrize(
    ("default", "value", "expected"),
    [
        (0.5, 5, 5.0),
        (0.5, 0.25, 0.25),
        (8, 9, 9),
        (8, 9.0, 9),
        ([0.0, 0.0], [0, 1], [0.0, 1.0]),
        ([0.0, 0.0], array("q", [0, 1]), [0.0, 1.0]),
        (["a"], [], [""]),
        (["a"], None, [""]),
        (["a"], ["b", "c"], ["b", "c"]),
        (True, False, False),
        ("a", "b", "b"),
    ],
)
def test_numbers_and_lists_as_people_write_them(default, value, expected):
    found = of_type("p", default, value)
    assert found == expected and type(found) is type(expected)
    assert Parameter("p", value=found).type_ == Parameter("p", value=default).type_


@pytest.mark.parametrize(
    ("default", "value", "said"),
    [
        (["a"], "chair", """is 'chair'; expected a list of texts, such as ["chair", "door"]"""),
        (["a"], [1, 2], "is [1, 2]; expected a list of texts"),
        ([0.0, 0.0], None, "is an empty list; expected 2 numbers, such as [0.0, 0.0]"),
        ([0.0, 0.0], ["x", "y"], "expected 2 numbers"),
        (0.5, "fast", "expected a number, such as 0.5"),
        (0.5, True, "expected a number"),
        (8, 8.5, "expected a whole number, such as 8"),
        (8, math.inf, "expected a whole number"),
        (False, 1, "expected true or false, such as false"),
        ("a", 1, "expected a text; quote numbers and true"),
        ("a", None, "is an empty list"),
    ],
)
def test_what_has_another_type_is_told_what_to_write(default, value, said):
    with pytest.raises(WrongTypeError) as error:
        of_type("p", default, value)
    assert str(error.value).startswith("parameter 'p' is ") and said in str(error.value)


def test_it_is_in_the_diagnostics_beside_the_shared_memory(graph, fake):
    line = "parameter 'objekts' is unknown and has no effect; did you mean 'objects'?"
    graph.start(lambda *_: fake, cli=("-p", "objekts:=1"))
    values = graph.diagnostic(state="active", unknown_parameters=line)
    assert values["shared_memory"].split()[0] in ("in", "not")
    camera = graph.camera()
    assert wait_until(lambda: (camera.publish(graph.image()), graph.depths)[1])
    publish = graph.client.create_timer(0.05, lambda: camera.publish(graph.image()))
    assert graph.diagnostic(message=line)["level"] == DiagnosticStatus.WARN
    publish.cancel()


def test_the_governor_has_it_in_its_diagnostics(graph):
    node = SpeedGovernor(context=graph.context, cli_args=["--ros-args", "-p", "stop_distanse:=1.0"])
    graph.add(node)
    line = "parameter 'stop_distanse' is unknown and has no effect; did you mean 'stop_distance'?"
    values = graph.diagnostic(state="active", unknown_parameters=line)
    assert line in values["message"] and values["level"] == DiagnosticStatus.WARN and values["shared_memory"]


def test_parameters_of_topics_that_are_declared_later_are_no_mistake(graph, fake):
    graph.start(lambda *_: fake, cli=("-p", "qos_overrides./image.subscription.depth:=2"))
    assert graph.diagnostic(state="active")["unknown_parameters"] == ""
