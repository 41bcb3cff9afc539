"""Starting ROS in a program of this package: what goes wrong there is one line."""

from __future__ import annotations

import os
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
        reason = reason_of(error)
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
