"""The configurations for RViz and Foxglove name what the node really publishes."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest
import yaml
from ament_index_python.packages import get_package_share_directory

from proxqa_ros.msg import ObjectDepth, ObjectDepthArray
from proxqa_ros.proximity.markers import DOUBT, NAME, RAY
from tests.ros.conftest import wait_until

SHOWS = {
    "rviz_default_plugins/MarkerArray": "visualization_msgs/msg/MarkerArray",
    "rviz_default_plugins/Image": "sensor_msgs/msg/Image",
}


@pytest.fixture
def rviz(root):
    return yaml.safe_load((root / "config/proximity.rviz").read_text())


@pytest.fixture
def foxglove(root):
    return json.loads((root / "config/foxglove_layout.json").read_text())


def published(graph, fake, wanted):
    """{topic: type} of what a node publishes, when all that is wanted is there: who looks hears of them one by one."""
    pytest.importorskip("visualization_msgs", reason="visualization_msgs is not installed: no markers")
    graph.start(lambda *_: fake)

    def found():
        spaces = {s for n, s in graph.client.get_node_names_and_namespaces() if n == "proximity"}
        publishers = (graph.client.get_publisher_names_and_types_by_node("proximity", space) for space in spaces)
        return {topic: kinds[0] for of_node in publishers for topic, kinds in of_node}

    wait_until(lambda: wanted.items() <= found().items())
    return found()


def topics_of(layout):
    """{topic: type} of a Foxglove layout; '' = any type will do."""
    found = {}
    for name, panel in layout["configById"].items():
        kind = name.partition("!")[0]
        if kind == "3D":
            found |= {topic: SHOWS["rviz_default_plugins/MarkerArray"] for topic in panel["topics"]}
        elif kind == "Image":
            found[panel["imageMode"]["imageTopic"]] = "sensor_msgs/msg/Image"
        elif kind == "DiagnosticSummary":
            found[panel["topicToRender"]] = "diagnostic_msgs/msg/DiagnosticArray"
        elif kind == "Plot":
            found |= {path["value"].partition(".")[0]: "proxqa_ros/msg/ObjectDepthArray" for path in panel["paths"]}
    return found


def test_rviz_shows_what_is_published(graph, fake, rviz):
    shown = [d for d in rviz["Visualization Manager"]["Displays"] if "Topic" in d]
    assert {d["Class"] for d in shown} == set(SHOWS)
    wanted = {f"/{d['Topic']['Value']}": SHOWS[d["Class"]] for d in shown}
    assert wanted.items() <= published(graph, fake, wanted).items()
    for display in shown:
        assert not display["Topic"]["Value"].startswith("/")  # so that a namespace holds for it
        assert display["Topic"]["Reliability Policy"] == "Reliable"
        assert display["Topic"]["Durability Policy"] == "Volatile"
    (markers,) = (d for d in shown if "Namespaces" in d)
    assert set(markers["Namespaces"]) == {RAY, DOUBT, NAME}


def test_foxglove_shows_what_is_published(graph, fake, foxglove):
    wanted = topics_of(foxglove)
    assert set(wanted) == {"/markers", "/proximity/debug/image", "/diagnostics", "/object_depths"}
    assert wanted.items() <= published(graph, fake, wanted).items()


def test_foxglove_plots_fields_that_there_are_of_the_configured_objects(root, foxglove):
    names = yaml.safe_load((root / "config/proximity.yaml").read_text())["/**"]["ros__parameters"]["objects"]
    assert "objects" in ObjectDepthArray.get_fields_and_field_types()
    plots = [p for n, p in foxglove["configById"].items() if n.startswith("Plot!")]
    assert len(plots) == 2
    for plot in plots:
        parts = [
            re.fullmatch(r'/object_depths\.objects\[:\]\{name=="(.+)"\}\.(\w+)', p["value"]) for p in plot["paths"]
        ]
        assert [p[1] for p in parts] == names == [p["label"] for p in plot["paths"]]
        assert {p[2] for p in parts} < set(ObjectDepth.get_fields_and_field_types())


def test_every_panel_of_foxglove_has_its_place(foxglove):
    def panels(place):
        return [place] if isinstance(place, str) else panels(place["first"]) + panels(place["second"])

    assert sorted(panels(foxglove["layout"])) == sorted(foxglove["configById"])


@pytest.mark.parametrize("folder", ["config", "launch"])
def test_they_are_installed(root, folder):
    distro = os.environ.get("AMENT_PREFIX_PATH")  # not set by the wheels
    share = Path(get_package_share_directory("proxqa_ros") if distro else f"{sys.prefix}/share/proxqa_ros") / folder
    installed = {p.name: p.read_bytes() for p in share.iterdir() if p.is_file()}
    assert installed == {p.name: p.read_bytes() for p in (root / folder).iterdir() if p.is_file()}
