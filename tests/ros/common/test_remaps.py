"""Remappings that match nothing, and topics of images that nobody publishes."""

from __future__ import annotations

import pytest
from sensor_msgs.msg import CompressedImage, Image

from proxqa_ros.common.remaps import rules_of
from proxqa_ros.proximity.node import NAMES, ProximityNode
from tests.ros import public_interface
from tests.ros.conftest import wait_until


def started(graph, fake, *remaps, name="proximity"):
    arguments = ["--ros-args", *(part for rule in remaps for part in ("-r", rule))]
    node = ProximityNode(engine_loader=lambda *_: fake, context=graph.context, cli_args=arguments)
    graph.add(node)
    return node


def test_rules_of_a_command_line():
    line = "node x:=y --ros-args -r image:=/a --remap __ns:=/b -r other:scan:=/c -p p:=1 -r __node:=n -- -r image:=/d"
    assert rules_of(line.split()) == [("image", "/a"), ("other:scan", "/c")]


@pytest.mark.parametrize(
    ("rule", "meant"),
    [
        ("imagee:=/cam/image", "did you mean 'image'?"),
        ("/image_raw:=/cam/image", "did you mean 'image'?"),
        ("proximity:dept:=/cam/depth", "did you mean 'depth'?"),
        ("rosservice://proximity_querry:=/ask", "did you mean 'proximity_query'?"),
        ("completely_other:=/x", "expected one of "),
    ],
)
def test_a_rule_that_matches_nothing_is_named(graph, fake, rule, meant):
    node = started(graph, fake, rule)
    (line,) = node.shared.unmatched_remaps
    assert meant in line and rule.removeprefix("rosservice://") in line and "\n" not in line
    values = graph.diagnostic(level=b"\x01", unmatched_remaps=line)
    assert line in values["message"]


def test_rules_that_match_or_are_for_others_are_not_named(graph, fake):
    rules = [
        "image:=/a",
        "/depth/compressedDepth:=/b",
        "~/enable:=/c",
        "camera:image_raw:=/d",
        "__ns:=/robot",
        "/tf:=tf",
    ]
    assert started(graph, fake, *rules[:4], rules[5]).shared.unmatched_remaps == ()


def test_the_names_are_those_that_the_node_has():
    listed = public_interface.listing()["nodes"]["/default/proximity"]
    topics = {*listed["publishes"], *listed["subscribes"], *listed["services"]}
    known = {n.replace("~", "/default/proximity") if n[0] in "~/" else f"/default/{n}" for n in NAMES}
    usual = ("_state", "_states", "_transitions", "_graph", "transition_event", "_parameters", "_types")
    assert {t for t in topics if not t.endswith(usual)} <= known


def test_where_nobody_publishes_images_it_is_said_who_does(graph, fake):
    graph.start(lambda *_: fake)
    graph.client.create_publisher(Image, "/front/image_raw", 1)
    graph.client.create_publisher(Image, "/front/depth", 1)
    topics = "/front/depth, /front/image_raw; to take one: -r image:=/front/image_raw"
    said = f"nobody publishes /image; images are published on {topics}"
    assert wait_until(lambda: said in graph.diagnostic(level=b"\x01")["message"])
    camera = graph.camera()
    silent = "no usable image has arrived yet: /image has 1 publisher, but no image comes"
    assert wait_until(lambda: graph.diagnostic(level=b"\x01")["message"].startswith(silent))
    assert camera.get_subscription_count() == 1


def test_images_of_the_other_transport_are_named_with_the_parameter(graph, fake):
    graph.start(lambda *_: fake)
    graph.client.create_publisher(CompressedImage, "/image/compressed", 1)
    said = "images are published on /image/compressed; for that set image_transport to compressed"
    assert wait_until(lambda: said in graph.diagnostic(level=b"\x01")["message"])
