"""YAML files → frozen dataclasses, and the checks that their values share.

Promises: what is unknown, of the wrong kind or out of range is quoted in one line that says what was expected.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

import yaml

from proxqa_core.errors import reason_of

T = TypeVar("T")
KINDS: dict[Any, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "true or false"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    str: ((str,), "text"),
}
"""Type of a field → what it may be in YAML, and how that is called."""


def read_config(path: Path, kind: type[T]) -> T:
    """Read a configuration.

    Args:
        path: A YAML file whose top is a mapping.
        kind: A dataclass; fields that are dataclasses, or tuples of them, are mappings and lists in the file.

    Returns:
        The configuration.

    Raises:
        ValueError: The file does not exist or is no YAML, or a value is unknown, of the wrong kind or out of range.
    """
    if not path.is_file():
        raise ValueError(f"{path}: is no file; expected a configuration (YAML)")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: is no YAML: {reason_of(error)}") from error
    try:
        return _build(kind, {} if values is None else values, "the configuration")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def require_positive(config: Any, *names: str, where: str = "") -> None:
    """Check fields that must be more than 0, and finite.

    Args:
        config: A dataclass.
        *names: Of its fields.
        where: What the message begins with.

    Raises:
        ValueError: Quotes the first one that is not.
    """
    for name in names:
        value = getattr(config, name)
        if not 0 < value < math.inf:
            raise ValueError(f"{where}{name} is {value}; expected a finite number above 0")


def require_weight(config: Any, *names: str, where: str = "") -> None:
    """Check fields that must be 0 or more, and finite. Arguments and errors are those of `require_positive`."""
    for name in names:
        value = getattr(config, name)
        if not 0 <= value < math.inf:
            raise ValueError(f"{where}{name} is {value}; expected a number of 0 or more")


def require_fraction(config: Any, *names: str, where: str = "") -> None:
    """Check fields that must be shares in [0, 1].

    Args:
        config: A dataclass.
        *names: Of its fields.
        where: What the message begins with.

    Raises:
        ValueError: Quotes the first one that is not.
    """
    for name in names:
        value = getattr(config, name)
        if not 0 <= value <= 1:
            raise ValueError(f"{where}{name} is {value}; expected a share in [0, 1]")


def _build(kind: Any, values: Any, where: str) -> Any:
    """A dataclass of a mapping."""
    if not isinstance(values, dict):
        raise ValueError(f"{where} is {values!r}; expected a mapping")
    known = typing.get_type_hints(kind)
    if unknown := sorted(str(key) for key in set(values) - set(known)):
        raise ValueError(f"{where} has unknown {unknown}; expected some of {sorted(known)}")
    for field in dataclasses.fields(kind):
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and field.name not in values:
            raise ValueError(f"{where} has no {field.name}; expected one")
    return kind(**{key: _value(known[key], value, key) for key, value in values.items()})


def _value(kind: Any, value: Any, where: str) -> Any:
    """What a field of this type is given."""
    if dataclasses.is_dataclass(kind):
        return _build(kind, value, where)
    if types.NoneType in (parts := typing.get_args(kind)):  # what may be left out may be left empty
        return None if value is None else _value(parts[0], value, where)
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise ValueError(f"{where} is {value!r}; expected a list")
        item = typing.get_args(kind)[0]
        return tuple(_value(item, v, f"number {i} of {where}") for i, v in enumerate(value, 1))
    allowed, called = KINDS[kind]
    if not isinstance(value, allowed) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{where} is {value!r}; expected {called}")
    return value
