"""Starting ROS in a program of this package: what goes wrong there is one line."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from typing import Any

import rclpy

from proxqa_core.errors import reason_of

CANNOT_START = 1
"""Exit code where ROS cannot be started."""


def init_ros(program: str, args: Sequence[str] | None, **kwargs: Any) -> bool:
    """`rclpy.init`, whose failure is one line on standard error.

    Args:
        program: What the line begins with.
        args: The command line; None = the process's own.
        **kwargs: As of rclpy.init.

    Returns:
        Whether ROS is started.
    """
    try:
        rclpy.init(args=None if args is None else list(args), **kwargs)
    except Exception as error:  # rclpy's own error is of a private class
        reason = _in_plain_words(reason_of(error))
        print(f"{program}: ROS cannot be started: {reason}{_security_hint()}", file=sys.stderr)
        return False
    if warning := unsecured_warning():
        print(f"{program}: {warning}", file=sys.stderr)
    return True


def refuse(program: str, error: BaseException) -> None:
    """Say on one line why a node cannot be made, and end ROS.

    Args:
        program: What the line begins with.
        error: Why.
    """
    print(f"{program}: {reason_of(error)}", file=sys.stderr)
    rclpy.try_shutdown()


_MIXED = re.compile(r"params file: '(?:--params-file )?(.+?)'.*Sequence should be of same type.*line_num (\d+)")
_EMPTY = re.compile(r"params file: '(?:--params-file )?(.+?)'.*No value at line (\d+)")


def _in_plain_words(reason: str) -> str:
    """What rcl says of a parameter file, where people write YAML that is right and ROS takes no part of the file."""
    if match := _MIXED.search(reason):
        return (
            f"{match[1]}, line {match[2]}: a list has values of several kinds, which no ROS parameter has; write all "
            'alike, such as [0.0, 0.0, 0.4] or ["chair", "3"]'
        )
    if match := _EMPTY.search(reason):
        return f'{match[1]}, line {match[2]}: a parameter has no value; write one, "" for no text'
    return reason


def unsecured_warning() -> str:
    """One line where security is asked for but not enforced; "" where there is nothing to say."""
    if os.environ.get("ROS_SECURITY_ENABLE", "").lower() != "true":
        return ""
    if os.environ.get("ROS_SECURITY_STRATEGY", "") == "Enforce":
        return ""
    return (
        "ROS_SECURITY_ENABLE is set without ROS_SECURITY_STRATEGY=Enforce: where keys are missing, or the installed "
        "DDS has no security, the node runs unsecured"
    )


def _security_hint() -> str:
    if os.environ.get("ROS_SECURITY_ENABLE", "").lower() != "true":
        return ""
    return (
        "; ROS_SECURITY_ENABLE is set: it needs a keystore with this node's enclave and a DDS with security, which the "
        "wheels' Fast DDS has not (see docs/security.md)"
    )
