"""Asks a running node one question, for `proxqa ask --node`: there is no `ros2` command in the wheels' way."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Container, Sequence
from typing import Any

import rclpy
from rclpy.context import Context
from rclpy.exceptions import InvalidServiceNameException
from rclpy.node import Node, NodeNameNonExistentError

from proxqa_core.errors import ProxqaError, reason_of
from proxqa_core.types import ObjectQuery
from proxqa_ros.client import POLL_PERIOD_S, NoServiceError, NotVisibleError, ProximityClient, ProximityError
from proxqa_ros.common.conversions import box_to_region, message_to_object

SERVICE, KIND = "proximity_query", "proxqa_ros/srv/ProximityQuery"
TIMEOUT_S = 15.0
"""Longest wait for the node to be there and to answer, in seconds."""


class NodeRefusedError(ProxqaError, RuntimeError):
    """The node did not answer; the message is its own."""


def ask(node: str, question: str, objects: Sequence[ObjectQuery] = (), exact: bool = False) -> dict[str, Any]:
    """Ask a node about its newest image.

    Args:
        node: Its name, such as 'proximity' or '/front/proximity'; the service lies in its namespace.
        question: In words.
        objects: Known ones.
        exact: No other node of that namespace is asked, whose service has the same name.

    Returns:
        The answer as plain values; what is not in view has no depth, unless its box was given.

    Raises:
        NodeRefusedError: There is no such node, or it gives no answer.
    """
    full_name = f"/{node.strip('/')}"
    service = f"{full_name.rpartition('/')[0]}/{SERVICE}"
    context = Context()
    rclpy.init(context=context, args=[])
    try:
        asking = rclpy.create_node("proxqa_ask", context=context)
        client = ProximityClient(asking, service)
        if exact:
            _check_offered(asking, full_name)
        response = _response(client, question, objects)
    except InvalidServiceNameException as error:
        raise NodeRefusedError(f"node {node!r} has no name of ROS: {reason_of(error)}") from error
    except NoServiceError as error:
        raise NodeRefusedError(f"{error}{_others(_askable(asking))}") from error
    except ProximityError as error:
        raise NodeRefusedError(str(error)) from error
    finally:
        rclpy.shutdown(context=context)
    return _report(node, question, response, {q.name for q in objects if q.box is not None})


def _response(client: ProximityClient, question: str, objects: Sequence[ObjectQuery]) -> Any:
    boxed = any(q.box is not None for q in objects)
    regions = [box_to_region(q.box) for q in objects] if boxed else []
    try:
        return client.ask(question, [q.name for q in objects], regions, timeout=TIMEOUT_S)
    except NotVisibleError as error:
        return error.response  # an answer too: that it is not seen


def _check_offered(node: Node, full_name: str) -> None:
    """Wait until a node is there, with its service.

    Raises:
        NodeRefusedError: It is not.
    """
    end = time.monotonic() + TIMEOUT_S
    while full_name not in (names := _askable(node)):
        if time.monotonic() > end:
            raise NodeRefusedError(f"there is no node {full_name!r} that answers questions.{_others(names)}")
        time.sleep(POLL_PERIOD_S)


def _askable(node: Node) -> list[str]:
    """The full names of the nodes that answer questions, as far as they are known yet."""
    found = []
    for name, namespace in node.get_node_names_and_namespaces():
        with contextlib.suppress(NodeNameNonExistentError):  # it has just gone
            offered = dict(node.get_service_names_and_types_by_node(name, namespace))
            if KIND in offered.get(f"{namespace.rstrip('/')}/{SERVICE}", ()):
                found.append(f"{namespace.rstrip('/')}/{name}")
    return sorted(found)


def _others(names: Sequence[str]) -> str:
    """The nodes that could be asked instead, as the end of a line."""
    return f" There is: {', '.join(f'--node-name {name}' for name in names)}" if names else ""


def _report(node: str, question: str, response: Any, given: Container[str]) -> dict[str, Any]:
    seen = [message_to_object(o, given) for o in response.objects]
    return {
        "node": node,
        "question": question,
        "answer": response.answer,
        "closer": response.closer,
        "farther": response.farther,
        "probability": response.probability,
        "image_stamp": f"{response.image_stamp.sec}.{response.image_stamp.nanosec:09d}",
        "latency": response.latency,
        "objects": [
            {
                "name": o.name,
                "depth": o.depth if o.is_answered else None,
                "depth_stddev": o.depth_stddev if o.is_answered else None,
                "distance": o.distance,
                "distance_stddev": o.distance_stddev,
                "score": o.score,
            }
            for o in seen
        ],
    }
