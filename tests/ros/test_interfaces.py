"""The interfaces: the names that are contract, comments on every field, one set of error codes, names of all nodes."""

from __future__ import annotations

import re

import pytest
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from proxqa_ros.action import EvaluateBag
from proxqa_ros.msg import Adapter, ImageHealth, ObjectDepth, ObjectDepthArray
from proxqa_ros.srv import ListAdapters, LoadAdapter, ProximityQuery, SetObjects
from tests.ros import public_interface
from tests.ros.conftest import wait_until

CONTRACT = {
    ObjectDepth: {
        "name": "string",
        "region": "sensor_msgs/RegionOfInterest",
        "depth": "float",
        "depth_stddev": "float",
        "distance": "float",
        "distance_stddev": "float",
        "score": "float",
        "text": "string",
    },
    ObjectDepthArray: {
        "header": "std_msgs/Header",
        "model": "string",
        "image_health": "proxqa_ros/ImageHealth",
        "objects": "sequence<proxqa_ros/ObjectDepth>",
    },
    ImageHealth: {
        "status": "uint8",
        "exposure": "float",
        "contrast": "float",
        "sharpness": "float",
        "change": "float",
    },
    ProximityQuery.Request: {
        "question": "string",
        "objects": "sequence<string>",
        "regions": "sequence<sensor_msgs/RegionOfInterest>",
        "max_image_age": "double",
    },
    ProximityQuery.Response: {
        "success": "boolean",
        "error_code": "uint8",
        "message": "string",
        "answer": "string",
        "objects": "sequence<proxqa_ros/ObjectDepth>",
        "closer": "string",
        "farther": "string",
        "probability": "float",
        "image_stamp": "builtin_interfaces/Time",
        "latency": "double",
    },
    Adapter: {
        "name": "string",
        "title": "string",
        "loadable": "boolean",
        "problem": "string",
        "in_use": "boolean",
    },
    LoadAdapter.Request: {"adapter": "string"},
    LoadAdapter.Response: {
        "success": "boolean",
        "error_code": "uint8",
        "message": "string",
        "adapter": "string",
        "model": "string",
        "seconds": "double",
    },
    ListAdapters.Response: {
        "success": "boolean",
        "error_code": "uint8",
        "message": "string",
        "adapters": "sequence<proxqa_ros/Adapter>",
        "in_use": "string",
    },
}


@pytest.mark.parametrize("kind", CONTRACT, ids=lambda k: k.__name__)
def test_fields_are_those_of_the_contract(kind):
    assert kind.get_fields_and_field_types() == CONTRACT[kind]


def constants(kind):
    return {n: getattr(kind, n) for n in dir(kind) if n.isupper() and isinstance(getattr(kind, n), int)}


def test_error_codes_are_one_set():
    codes = constants(ProximityQuery.Response)
    assert codes["NONE"] == 0 and len(set(codes.values())) == len(codes) >= 10
    for other in (SetObjects.Response, EvaluateBag.Result):
        assert constants(other).items() <= codes.items()
    adapters = constants(LoadAdapter.Response)
    assert constants(ListAdapters.Response).items() <= adapters.items()
    every = codes | adapters
    assert codes.items() <= every.items() and len(set(every.values())) == len(every)


def test_every_field_and_constant_is_commented(root):
    """Every field has a comment of its own in the lines before it, every constant one beside it."""
    for file in (f for kind in ("msg", "srv", "action") for f in (root / kind).glob(f"*.{kind}")):
        above = ""
        for line in map(str.strip, file.read_text().splitlines()):  # a comment may go on in the next line
            if re.match(r"\w+ [A-Z_]+=\d+", line):
                assert re.search(r"# \w+", line), f"{file.name}: {line}"
            elif line and not line.startswith(("#", "---")):
                assert above.startswith("# "), f"{file.name}: {line}"
            above = line


def test_bags_can_hold_them(root):
    store = get_typestore(Stores.ROS2_KILTED)
    types = {}
    for file in (root / "msg").glob("*.msg"):
        types |= get_types_from_msg(file.read_text(), f"proxqa_ros/msg/{file.stem}")
    store.register(types)
    kind = store.types["proxqa_ros/msg/ObjectDepth"]
    assert [f for f in kind.__dataclass_fields__ if not f.startswith("_")] == list(CONTRACT[ObjectDepth])


def test_the_nodes_have_the_names_that_are_listed(graph):
    """Topics with types, services, actions and parameters, as the graph and the nodes tell them over DDS."""
    listed = public_interface.listing()["nodes"]
    expected = public_interface.without(listed, public_interface.missing_topics(listed))
    found: dict = {}

    def as_listed() -> bool:
        nonlocal found
        found = public_interface.with_one_list_of_parameters(public_interface.of_nodes(graph, names))
        return found == expected

    with public_interface.nodes(graph) as names:
        wait_until(as_listed, 20)  # the graph learns of them one by one
    assert found == expected


def test_fields_constants_and_launch_arguments_are_those_that_are_listed():
    listed = public_interface.listing()
    assert public_interface.interfaces() == listed["interfaces"]
    assert public_interface.launch_arguments() == listed["launch_arguments"]
