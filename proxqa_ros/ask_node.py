"""Asks a running node one question, for `proxqa ask --node`: there is no `ros2` command in the wheels' way."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any

import rclpy
from rclpy.context import Context
from rclpy.node import Node

from proxqa_core.errors import ProxqaError
from proxqa_core.types import ObjectQuery
from proxqa_ros.client import NoServiceError, NotVisibleError, ProximityClient, ProximityError
from proxqa_ros.common.conversions import box_to_region, message_to_object

SERVICE = "proximity_query"
TIMEOUT_S = 15.0
"""Longest wait for the node to be there and to answer, in seconds."""


class NodeRefusedError(ProxqaError, RuntimeError):
    """The node did not answer; the message is its own."""


def ask(node: str, question: str, objects: Sequence[ObjectQuery] = ()) -> dict[str, Any]:
    """Ask a node about its newest image.

    Args:
        node: Its name, such as 'proximity' or '/front/proximity'; the service lies in its namespace.
        question: In words.
        objects: Known ones.

    Returns:
        The answer as plain values; what is not in view has no depth, unless its box was given.

    Raises:
        NodeRefusedError: There is no such node, or it gives no answer.
    """
    namespace = node.strip("/").rpartition("/")[0]
    service = f"/{namespace}/{SERVICE}" if namespace else f"/{SERVICE}"
    context = Context()
    rclpy.init(context=context, args=[])
    try:
        asking = rclpy.create_node("proxqa_ask", context=context)
        response = _response(ProximityClient(asking, service), question, objects)
    except NoServiceError as error:
        raise NodeRefusedError(f"{error}{_others(asking)}") from error
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


def _others(node: Node) -> str:
    """The nodes that could be asked instead, as the end of a line."""
    kind = "proxqa_ros/srv/ProximityQuery"
    # the graph lists services that somebody asks for, such as this node, as well as those that somebody offers
    listed = (name for name, kinds in node.get_service_names_and_types() if kind in kinds)
    services = sorted(name for name in listed if node.count_services(name))
    names = [f"--node-name {service.removesuffix('_query')}" for service in services if service.endswith(f"/{SERVICE}")]
    return f" There is: {', '.join(names)}" if names else ""


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
