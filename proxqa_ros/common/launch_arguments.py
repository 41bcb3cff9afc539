"""How the launch files read their arguments.

Promises: an argument that cannot be used raises ValueError with one line: what came, what was expected. It does not
import `launch`, so that all of it can be tested where that is not installed.
"""

from __future__ import annotations

import re
from collections import Counter

TRUE = ("true", "1", "yes", "on")
FALSE = ("false", "0", "no", "off")
CAMERA = "{camera}"
"""Placeholder of a camera's name in a pattern of topics."""
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def yes_or_no(name: str, value: str) -> bool:
    """Read a boolean launch argument.

    Args:
        name: The argument's name, for the error's text.
        value: Its text.

    Raises:
        ValueError: It is neither true nor false.
    """
    if value.lower() not in TRUE + FALSE:
        raise ValueError(f"launch argument {name} is {value!r}; expected true or false")
    return value.lower() in TRUE


def camera_names(value: str) -> tuple[str, ...]:
    """Read the names of the cameras.

    Args:
        value: The launch argument, such as "front,rear".

    Returns:
        The names, each of which can be a namespace.

    Raises:
        ValueError: There is none, one comes twice, or one cannot be a namespace.
    """
    names = tuple(name.strip() for name in value.split(","))
    expected = "expected comma-separated names, such as 'front,rear'"
    if not value.strip():
        raise ValueError(f"launch argument cameras is {value!r}; {expected}")
    for name in names:
        if not _NAME.fullmatch(name) or "__" in name:
            raise ValueError(
                f"launch argument cameras is {value!r}: {name!r} cannot be a namespace; {expected}, of letters, digits "
                "and single underscores, a letter first"
            )
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(f"launch argument cameras is {value!r}: {twice[0]!r} comes twice; {expected}")
    return names


def camera_topic(argument: str, pattern: str, camera: str, several: bool) -> str:
    """The topic of one camera.

    Args:
        argument: The launch argument's name, for the error's text.
        pattern: Its text: a topic in which {camera} stands for the camera's name. A relative one is in the camera's
            namespace anyway.
        camera: The camera's name.
        several: There are other cameras, which would share an absolute topic without {camera}.

    Raises:
        ValueError: The pattern is no topic, has another brace in it, or would be shared.
    """
    topic = pattern.replace(CAMERA, camera)
    if not topic or "{" in topic or "}" in topic:
        raise ValueError(f"launch argument {argument} is {pattern!r}; expected a topic such as '/{CAMERA}/image_raw'")
    if several and topic.startswith("/") and CAMERA not in pattern:
        raise ValueError(
            f"launch argument {argument} is {pattern!r}, one topic for every camera; expected {CAMERA} in it, or a "
            "topic without the leading slash"
        )
    return topic


def joined(namespace: str, name: str) -> str:
    """The namespace `name` inside `namespace`, which may be empty."""
    return f"{namespace.rstrip('/')}/{name}" if namespace.strip("/") else name
