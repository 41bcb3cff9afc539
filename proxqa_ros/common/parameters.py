"""What the parameters of all nodes have in common: how one is described, declared, checked and refused."""

from __future__ import annotations

import difflib
import json
import math
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.parameter import Parameter

from proxqa_core.errors import BadObjectError, ProxqaError
from proxqa_core.types import ObjectQuery, clean_text
from proxqa_ros.common.conversions import object_queries


class BadParameterError(ProxqaError, ValueError):
    """A parameter has a value that cannot be used."""


@dataclass(frozen=True)
class Spec:
    """One parameter.

    Args:
        default: Its default, which determines its type.
        description: What it means, with its unit.
        low: Least value of a number; None = no limit. Checked by rclpy.
        high: Greatest value of a number; None = no limit.
        live: A change takes effect at run time.
        read_only: It can be given at start only. Neither live nor read_only: it can change while the node is
            unconfigured.
        locked: It names a file, a folder or a model: once the node was configured, nobody on the network changes it,
            unless the node was started with `allow_remote_reconfiguration`.
        check: Called with a value that has the right type and range; raises a ProxqaError where it cannot be used.
    """

    default: Any
    description: str
    low: float | None = None
    high: float | None = None
    live: bool = False
    read_only: bool = False
    locked: bool = False
    check: Callable[[Any], object] | None = None

    def descriptor(self) -> ParameterDescriptor:
        """The descriptor to declare it with."""
        d = ParameterDescriptor(description=self.description, read_only=self.read_only)
        if self.low is not None and self.high is not None:
            if isinstance(self.default, float):
                d.floating_point_range = [FloatingPointRange(from_value=self.low, to_value=self.high, step=0.0)]
            else:
                d.integer_range = [IntegerRange(from_value=int(self.low), to_value=int(self.high), step=1)]
        return d


def declare(node: Node, specs: Mapping[str, Spec]) -> None:
    """Declare parameters on a node.

    Args:
        node: The node.
        specs: The parameters by name.

    Raises:
        ParameterException: A given value has another type or is a table, or rclpy's, where it is out of range.
    """
    # rclpy has no public way to reach them before they are checked; a test fails should it rename this
    given: dict[str, Parameter] = getattr(node, "_parameter_overrides", {})
    for name, spec in specs.items():
        _refuse_table(name, given)
        if name in given:
            given[name] = Parameter(name, value=of_type(name, spec.default, given[name].value))
        node.declare_parameter(name, spec.default, spec.descriptor())


def _refuse_table(name: str, given: Mapping[str, Parameter]) -> None:
    """Raise where a file gives a table, {door: 2.0}, which ROS reads as parameters `name.door` that nobody has."""
    inside = {key.removeprefix(f"{name}."): p.value for key, p in given.items() if key.startswith(f"{name}.")}
    if inside:
        first = [(key, _items(value) or [value]) for key, value in list(inside.items())[:3]]
        entries = [clean_text(f"{key}: {values[0]}")[:40] for key, values in first]
        raise WrongTypeError(f"parameter {name!r} is a table; expected a list of texts, such as {json.dumps(entries)}")


_NULLS = ("null", "Null", "NULL", "~")
"""What YAML has for nothing, and ROS reads as a text."""


def of_type(name: str, default: Any, value: Any) -> Any:
    """A value given at start, as the parameter's type has it.

    YAML writes 5 for 5.0 and [] for a list of anything, which ROS parameters, whose types are strict, would refuse.

    Args:
        name: The parameter's name.
        default: Its default, which determines its type.
        value: What was given: a list may be any sequence, an empty one None.

    Returns:
        The value; for an empty list of texts [""], which is how ROS writes one.

    Raises:
        WrongTypeError: It is of another type.
    """
    if isinstance(default, float) and _is_number(value):
        return float(value)
    if isinstance(default, int) and not isinstance(default, bool) and _is_number(value) and value == value // 1:
        return int(value)
    if isinstance(default, list | tuple):
        items = [] if value is None else None if isinstance(value, str | bytes) else _items(value)
        if items is not None and (items or isinstance(default[0], str)):
            if isinstance(default[0], float) and all(_is_number(item) for item in items):
                return [float(item) for item in items]
            if all(type(item) is type(default[0]) for item in items):
                return items or [""]
    elif isinstance(value, str) and value in _NULLS:
        raise WrongTypeError(
            f"parameter {name!r} is {value}, which ROS has no value for; expected {_described(default)}"
        )
    elif type(value) is type(default):
        return value
    raise WrongTypeError(f"parameter {name!r} is {_shown(value)}; expected {_described(default)}")


class WrongTypeError(ParameterException):
    """A parameter was given a value of another type."""

    def __init__(self, line: str) -> None:
        Exception.__init__(self, line)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _items(value: Any) -> list[Any] | None:
    """The items of a list; None for anything else."""
    return list(value) if isinstance(value, Sequence | array) and not isinstance(value, str | bytes) else None


def _shown(value: Any) -> str:
    return "an empty list" if value is None else clean_text(repr(value))[:60]


def _described(default: Any) -> str:
    """What to write for a parameter with this default."""
    if isinstance(default, list | tuple):
        if isinstance(default[0], str):
            return """a list of texts, such as ["chair", "door"]; none is [""]"""
        return f"{len(default)} numbers, such as {list(default)}"
    kinds = {bool: "true or false", int: "a whole number", float: "a number", str: "a text; quote numbers and true"}
    return f"{kinds[type(default)]}, such as {json.dumps(default)}"


DECLARED_LATER = "qos_overrides."
"""Parameters that rclpy declares when a topic is subscribed to."""


def warn_of_unknown(node: Node) -> tuple[str, ...]:
    """Log each parameter that was given at start, by -p or in a file, but is none of the node's.

    Parameters that a file gives to nodes of other names are not looked at: rcl reads those of this node alone.

    Args:
        node: The node, which has declared its parameters.

    Returns:
        One line for each, with the parameter that may have been meant.
    """
    # rclpy has no public way to ask for them; a test fails should it rename this
    given = [n for n in getattr(node, "_parameter_overrides", {}) if not n.startswith(DECLARED_LATER)]
    declared = sorted(node.get_parameters_by_prefix("")) if given else []
    lines = tuple(unknown_parameter(name, declared) for name in sorted(given) if not node.has_parameter(name))
    for line in lines:
        node.get_logger().warning(line)
    return lines


def unknown_parameter(name: str, declared: Sequence[str]) -> str:
    """The line about a parameter that is not there.

    Args:
        name: What was given.
        declared: What there is.
    """
    near = difflib.get_close_matches(name, declared, n=1)
    meant = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(declared)}"
    return f"parameter {clean_text(name)[:60]!r} is unknown and has no effect; {meant}"


ALLOW_REMOTE = "allow_remote_reconfiguration"
"""The parameter, given at start, that opens locked ones."""
ALLOW_REMOTE_SPEC = Spec(
    False, "Let parameters that name files, folders and models be changed after start.", read_only=True
)


def refusal_of_locked(changes: Sequence[Parameter], specs: Mapping[str, Spec], allowed: bool) -> str:
    """Why changes of a node that was configured cannot be made: what is locked, and the clock.

    Args:
        changes: The parameters with their new values.
        specs: The node's parameters.
        allowed: The node was started with `allow_remote_reconfiguration`.

    Returns:
        One line; "" where they can be made.
    """
    for change in changes:
        if change.name == "use_sim_time":
            return "parameter 'use_sim_time' is fixed at start: the clock of a node that runs does not change"
        spec = specs.get(change.name)
        if spec is not None and spec.locked and not allowed:
            return (
                f"parameter {change.name!r} is locked since the node was configured; start the node with it, or with "
                f"{ALLOW_REMOTE}:=true"
            )
    return ""


def check_value(name: str, spec: Spec, value: Any) -> None:
    """Check a value that has the parameter's type and range.

    Raises:
        BadParameterError: It cannot be used; one line that names the parameter.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise BadParameterError(f"parameter {name!r} is {value}; expected a finite number")
    if spec.check is None:
        return
    try:
        spec.check(value)
    except BadParameterError:
        raise
    except ProxqaError as error:
        raise BadParameterError(f"parameter {name!r}: {error}") from error


def named_objects(names: Sequence[str] | None, parameter: str = "objects") -> tuple[ObjectQuery, ...]:
    """The objects of a parameter of names.

    Args:
        names: The names; [""] is none, since YAML's empty list has no type.
        parameter: The parameter's name, for the error's text.

    Raises:
        BadParameterError: A name cannot be used.
    """
    names = list(names or ())
    try:
        return () if names == [""] else object_queries(names)
    except BadObjectError as error:
        raise BadParameterError(f"parameter {parameter!r}: {error}") from error
