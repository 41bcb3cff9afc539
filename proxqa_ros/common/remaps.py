"""Remapping rules that a node was started with and that change nothing: ROS ignores them in silence.

Promises: each such rule is one line that names it and what may have been meant. Rules for other nodes, of node names
and of namespaces are not judged.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Sequence

from rclpy.node import Node

from proxqa_core.types import clean_text
from proxqa_ros.common.dds_profile import PROFILE

OF_EVERY_NODE = ("/rosout", "/parameter_events", "/clock", "/tf", "/tf_static")
OF_EVERY_NODE_PRIVATE = (
    *("change_state", "get_state", "get_available_states", "get_available_transitions", "get_transition_graph"),
    *("describe_parameters", "get_parameters", "get_parameter_types", "list_parameters", "set_parameters"),
    *("set_parameters_atomically", "get_type_description", "transition_event"),
)
"""Names that every lifecycle node has below its own."""
_SCHEMES = ("rostopic://", "rosservice://")


def rules_of(arguments: Sequence[str]) -> list[tuple[str, str]]:
    """The remapping rules of topics and services of a command line.

    Args:
        arguments: The command line.

    Returns:
        What each rule matches, with a node's name before it where it is for one node, and what it puts there.
    """
    rules: list[tuple[str, str]] = []
    inside, follows = False, False
    for argument in arguments:
        if argument in ("--ros-args", "--"):
            inside, follows = argument == "--ros-args", False
        elif inside and argument in ("-r", "--remap"):
            follows = True
        elif follows:
            before, sign, after = argument.partition(":=")
            if sign and not before.rpartition(":")[2].startswith("__"):
                rules.append((before, after))
            follows = False
    return rules


def unmatched_rules(node: Node, names: Collection[str], arguments: Sequence[str]) -> tuple[str, ...]:
    """The rules of a command line that match none of a node's names.

    Args:
        node: The node.
        names: Its topics and services as the code names them, before remapping.
        arguments: The command line.

    Returns:
        One line for each.
    """
    private = f"{node.get_namespace().rstrip('/')}/{node.get_name()}"
    full = {_full(name, node) for name in (*names, *OF_EVERY_NODE, *(f"~/{n}" for n in OF_EVERY_NODE_PRIVATE))}
    lines = []
    for before, after in rules_of(arguments):
        for scheme in _SCHEMES:
            before = before.removeprefix(scheme)
        owner, _, name = before.rpartition(":")
        if owner and owner not in (node.get_name(), private):
            continue
        if "**" in name or "*" in name or "\\" in name or _full(name, node) in full:
            continue
        near = difflib.get_close_matches(name, sorted(names), n=1)
        meant = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(sorted(names))}"
        lines.append(
            f"remapping '{clean_text(before)[:60]}:={clean_text(after)[:60]}' matches no topic or service of this node "
            f"and has no effect; {meant}"
        )
    return tuple(lines)


def warn_of_unmatched(node: Node, names: Collection[str], arguments: Sequence[str]) -> tuple[str, ...]:
    """Log what `unmatched_rules` finds, and return it."""
    lines = unmatched_rules(node, names, arguments)
    for line in lines:
        node.get_logger().warning(line)
    return lines


MAX_NAMED_TOPICS = 5


def loss_remedy() -> str:
    """What to do where images do not come."""
    profile = os.environ.get(PROFILE, "")
    start = f"start the camera with {PROFILE}={profile} as this node was" if profile else "give both one DDS profile"
    return f"are large images lost? {start}, in containers with --ipc=host, or use a compressed topic"


def silent_topic(node: Node, topic: str, name: str, kinds: Collection[str]) -> str:
    """What to say of a topic of which nothing comes.

    Args:
        node: The node, whose view of the graph is used, and whose own topics are left out.
        topic: The topic's full name.
        name: What the code calls it, before remapping.
        kinds: The types of messages that would do.

    Returns:
        The end of a line: that nobody publishes it, and which topics of these types somebody does; or that somebody
        does, and what may keep the messages out.
    """
    if publishers := node.count_publishers(topic):
        return (
            f": {topic} has {publishers} publisher{'' if publishers == 1 else 's'}, but no image comes; does the "
            f"camera run? {loss_remedy()}"
        )
    own = f"{node.get_fully_qualified_name()}/"
    others = [n for n, types in node.get_topic_names_and_types() if set(types) & set(kinds) and not n.startswith(own)]
    published = sorted(n for n in others if n != topic and node.count_publishers(n))
    named = f"{', '.join(published[:MAX_NAMED_TOPICS])}{' …' if len(published) > MAX_NAMED_TOPICS else ''}"
    return f": nobody publishes {topic}; images are published on {named or 'no topic'}{_way_to(published, topic, name)}"


def _way_to(published: Sequence[str], topic: str, name: str) -> str:
    """How to have one of the topics that there are, where one may be meant."""
    if f"{topic}/compressed" in published:
        return "; for that set image_transport to compressed"
    if topic.removesuffix("/compressed") in published:
        return "; for that set image_transport to raw"
    colours = [other for other in published if "depth" not in other]
    alike = [other for other in colours if other.endswith("/compressed") == topic.endswith("/compressed")]
    return f"; to take one: -r {name}:={alike[0]}" if alike else ""


def _full(name: str, node: Node) -> str:
    """A name with the node's namespace, before remapping."""
    namespace = node.get_namespace().rstrip("/")
    if name.startswith("~"):
        return f"{namespace}/{node.get_name()}{name[1:]}"
    return name if name.startswith("/") else f"{namespace}/{name}"
