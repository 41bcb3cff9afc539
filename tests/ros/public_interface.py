"""Every name that users of the nodes may rely on, as data: `python -m tests.ros.public_interface` prints it as JSON.

What is listed: topics with their types, services, actions, parameters with types, defaults and ranges, of every node;
the fields and constants of every message; the arguments of every launch file with their defaults. What every node of
ROS has (parameter services, /rosout) is left out.
"""

from __future__ import annotations

import importlib.util
import json
import os
import runpy
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock, patch

from rcl_interfaces.msg import ParameterDescriptor, ParameterType
from rcl_interfaces.srv import DescribeParameters, GetParameters, ListParameters
from rclpy.action import get_action_client_names_and_types_by_node, get_action_server_names_and_types_by_node
from rclpy.parameter import Parameter, parameter_value_to_python

from proxqa_ros.governor.node import SpeedGovernor
from proxqa_ros.proximity.node import ProximityNode
from proxqa_ros.replay.node import ReplayEvaluation
from proxqa_ros.replay.parameters import request_of_parameters
from tests.ros.conftest import FakeEngine, Graph, own_graph, wait_until

ROOT = Path(__file__).resolve().parents[2]
LISTING = Path(__file__).with_name("public_interface.json")
OF_EVERY_NODE = ("/rosout", "/parameter_events", "parameter", "get_type_description", "/_action/", "/tf")
"""Parts of topics' and services' names that are not ours; TF is listened to where its package is installed."""
OF_EVERY_NODE_PARAMETERS = (
    "start_type_description_service",
    "qos_overrides./parameter_events.",
    "qos_overrides./clock.",
)
TYPES = {getattr(ParameterType, n): n.removeprefix("PARAMETER_") for n in vars(type(ParameterType)) if n.isupper()}
SHARE = "SHARE"
"""Stands for the package's share folder in launch files' defaults."""


# -- the nodes --------------------------------------------------------------------------------------------------------


def add_node(graph: Graph, kind: Callable[..., Any], namespace: str, **params: Any) -> Any:
    """A node of the graph in a namespace: relative names can be told from absolute ones."""
    overrides = [Parameter(name, value=value) for name, value in params.items()]
    cli = ["--ros-args", "-r", f"__ns:={namespace}"]
    node = kind(context=graph.context, parameter_overrides=overrides, cli_args=cli)
    graph.add(node)
    return node


def proximity(**kwargs: Any) -> Any:
    """The proximity node with an engine that computes nothing."""
    return ProximityNode(engine_loader=lambda *_: FakeEngine(), **kwargs)


@contextmanager
def evaluating(node: Any) -> Iterator[None]:
    """An evaluation is under way; it waits for a node that never comes."""
    thread = threading.Thread(target=node.evaluate, args=(request_of_parameters(node),), daemon=True)
    thread.start()
    try:
        yield
    finally:
        node.stop()
        thread.join(30)


@contextmanager
def nodes(graph: Graph) -> Iterator[dict[str, str]]:
    """All nodes, as they are by default and with what changes their topics: their names by their namespaces."""
    lifecycle = [
        add_node(graph, proximity, "/default"),
        add_node(graph, proximity, "/compressed", image_transport="compressed", depth_transport="compressedDepth"),
        add_node(graph, SpeedGovernor, "/governor"),
        add_node(graph, SpeedGovernor, "/stamped", stamped=True),
    ]
    add_node(graph, ReplayEvaluation, "/replay")
    depth = {"play_depth_topic": "/camera/depth/image_raw", "start_timeout": 3600.0}
    busy = add_node(graph, ReplayEvaluation, "/playing", bag=str(ROOT / "demo/bag"), **depth)
    assert wait_until(lambda: all(node.state == "active" for node in lifecycle))
    names = {"/default": "proximity", "/compressed": "proximity", "/governor": "speed_governor"}
    names |= {"/stamped": "speed_governor", "/replay": "replay_evaluation", "/playing": "replay_evaluation"}
    with evaluating(busy):
        yield names


def ours(found: list[tuple[str, list[str]]]) -> dict[str, str]:
    """Types by name, without what every node has."""
    return {name: " ".join(types) for name, types in sorted(found) if not any(part in name for part in OF_EVERY_NODE)}


def endpoints(client: Any, name: str, namespace: str) -> dict[str, dict[str, str]]:
    """What a node publishes, subscribes to, serves and calls, as the graph knows it."""
    return {
        "publishes": ours(client.get_publisher_names_and_types_by_node(name, namespace)),
        "subscribes": ours(client.get_subscriber_names_and_types_by_node(name, namespace)),
        "services": ours(client.get_service_names_and_types_by_node(name, namespace)),
        "clients": ours(client.get_client_names_and_types_by_node(name, namespace)),
        "actions": ours(get_action_server_names_and_types_by_node(client, name, namespace)),
        "action_clients": ours(get_action_client_names_and_types_by_node(client, name, namespace)),
    }


def parameters(graph: Graph, node: str) -> dict[str, dict[str, Any]]:
    """The parameters of a node, by its services."""

    def call(kind: Any, name: str, **fields: Any) -> Any:
        return graph.call(graph.client.create_client(kind, f"{node}/{name}"), kind.Request(**fields))

    names = sorted(call(ListParameters, "list_parameters").result.names)
    names = [name for name in names if not name.startswith(OF_EVERY_NODE_PARAMETERS)]
    described = call(DescribeParameters, "describe_parameters", names=names).descriptors
    values = call(GetParameters, "get_parameters", names=names).values
    return {d.name: parameter(d, value) for d, value in zip(described, values, strict=True)}


def parameter(descriptor: ParameterDescriptor, value: Any) -> dict[str, Any]:
    """One parameter: its type, its default, its range, whether it can be given at start only."""
    found = {"type": TYPES[descriptor.type], "default": parameter_value_to_python(value)}
    for limits in (*descriptor.floating_point_range, *descriptor.integer_range):
        found["range"] = [limits.from_value, limits.to_value]
    return found | ({"read_only": True} if descriptor.read_only else {})


# -- messages and launch files ----------------------------------------------------------------------------------------


def interfaces() -> dict[str, dict[str, Any]]:
    """Fields and constants of every message, and of every part of a service or an action."""
    found = {}
    for file in sorted(f for kind in ("msg", "srv", "action") for f in (ROOT / kind).glob(f"*.{kind}")):
        kind = getattr(importlib.import_module(f"proxqa_ros.{file.suffix[1:]}"), file.stem)
        parts = [getattr(kind, part, None) for part in ("Request", "Response", "Goal", "Result", "Feedback")]
        for part in [p for p in parts if p is not None] or [kind]:
            constants = {n: getattr(part, n) for n in vars(type(part)) if n[0].isupper()}
            found[f"{file.suffix[1:]}/{part.__name__}"] = {
                "fields": part.get_fields_and_field_types(),
                "constants": constants,
            }
    return found


def launch_arguments() -> dict[str, dict[str, str | None]]:
    """The arguments of every launch file with their defaults; null = it must be given."""
    found: dict[str, dict[str, str | None]] = {}
    for file in sorted((ROOT / "launch").glob("*.launch.py")):
        with launch_stand_ins() as declare:
            runpy.run_path(str(file))["generate_launch_description"]()
        found[file.name] = {call.args[0]: call.kwargs.get("default_value") for call in declare.call_args_list}
    return found


@contextmanager
def launch_stand_ins() -> Iterator[MagicMock]:
    """Stand-ins for `launch`, which has no wheel; gives that for DeclareLaunchArgument."""
    mocks = {name: MagicMock() for name in ("launch", "launch_ros", "ament_index_python")}
    for name in ("actions", "events", "substitutions", "launch_description_sources", "conditions"):
        mocks[f"launch.{name}"] = getattr(mocks["launch"], name)
    for name in ("actions", "parameter_descriptions"):
        mocks[f"launch_ros.{name}"] = getattr(mocks["launch_ros"], name)
    mocks["ament_index_python.packages"] = mocks["ament_index_python"].packages
    mocks["ament_index_python"].packages.get_package_share_directory.return_value = SHARE
    environment = {k: v for k, v in os.environ.items() if k != "FASTDDS_DEFAULT_PROFILES_FILE"}
    with patch.dict(sys.modules, mocks), patch.dict(os.environ, environment, clear=True):
        yield mocks["launch"].actions.DeclareLaunchArgument


# -- all of it --------------------------------------------------------------------------------------------------------


def of_nodes(graph: Graph, names: Mapping[str, str]) -> dict[str, Any]:
    """What the graph and the nodes themselves tell of them."""
    return {
        f"{namespace}/{name}": endpoints(graph.client, name, namespace)
        | {"parameters": parameters(graph, f"{namespace}/{name}")}
        for namespace, name in names.items()
    }


def with_one_list_of_parameters(found: dict[str, Any]) -> dict[str, Any]:
    """Nodes of one name have the same parameters: listed with the first."""
    seen = set()
    for path, node in found.items():
        name = path.rpartition("/")[2]
        if name in seen:
            del node["parameters"]
        seen.add(name)
    return found


def missing_topics(listed: dict[str, dict[str, Any]]) -> set[str]:
    """The topics whose types are of packages that are not installed here: the nodes do without them."""
    topics = {
        t: kind for node in listed.values() for way in ("publishes", "subscribes") for t, kind in node[way].items()
    }
    packages = {kind.partition("/")[0] for kind in topics.values()}
    missing = {package for package in packages if importlib.util.find_spec(package) is None}
    return {topic for topic, kind in topics.items() if kind.partition("/")[0] in missing}


def concerns(name: str, topics: set[str]) -> bool:
    """Whether a topic, or a parameter of its quality of service, is of these topics."""
    return name in topics or any(name.startswith(f"qos_overrides.{topic}.") for topic in topics)


def without(listed: dict[str, dict[str, Any]], topics: set[str]) -> dict[str, dict[str, Any]]:
    """The nodes without some topics and the parameters of these."""
    return {
        path: {part: {k: v for k, v in names.items() if not concerns(k, topics)} for part, names in node.items()}
        for path, node in listed.items()
    }


def listing() -> dict[str, Any]:
    """What is committed: all of it, packages that are not installed here included."""
    found: dict[str, Any] = json.loads(LISTING.read_text(encoding="utf-8"))
    return found


def with_missing(found: dict[str, dict[str, Any]], listed: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The nodes found here, with what the listing has of topics that are missing here."""
    topics = missing_topics(listed)
    for path, node in found.items():
        for part, names in node.items():
            names |= {k: v for k, v in listed.get(path, {}).get(part, {}).items() if concerns(k, topics)}
    return found


def main() -> None:
    """Print the listing, once the graph has told the same of the nodes for a second."""
    with own_graph() as graph, nodes(graph) as names:
        found, before = of_nodes(graph, names), None
        while found != before:
            threading.Event().wait(1.0)
            before, found = found, of_nodes(graph, names)
    found = with_one_list_of_parameters(found)
    whole = {
        "nodes": with_missing(found, listing()["nodes"]),
        "interfaces": interfaces(),
        "launch_arguments": launch_arguments(),
    }
    print(json.dumps(whole, indent=1, sort_keys=True))


if __name__ == "__main__":
    main()
