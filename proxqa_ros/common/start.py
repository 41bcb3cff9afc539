"""Starting ROS in a program of this package: what goes wrong there is one line."""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import re
import sys
import textwrap
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import rclpy
from rclpy.utilities import remove_ros_args

from proxqa_core.errors import reason_of
from proxqa_ros.common.dds_profile import use_fastdds_profile
from proxqa_ros.common.parameters import Spec

CANNOT_START = 1
"""Exit code where ROS cannot be started."""


HELP_WIDTH = 100
"""Characters in a line of --help."""
USAGE = """usage: {program} [--help] [--version]
           [--ros-args -r {topic}:=/other/topic -p NAME:=VALUE --params-file FILE …]

{about}

topics and services, which -r remaps:
{names}

parameters (default), which -p sets; with their ranges in config/:
{parameters}"""


def help_text(program: str, about: str, names: Sequence[str], specs: Mapping[str, Spec]) -> str:
    """What --help prints. Arguments as of `said_at_start`."""

    def indented(text: str, deeper: str = "  ") -> str:
        filled = textwrap.TextWrapper(HELP_WIDTH, "  ", deeper, break_on_hyphens=False, break_long_words=False)
        return filled.fill(text)

    parameters = [
        indented(f"{name} ({json.dumps(spec.default)}): {spec.description}", "      ") for name, spec in specs.items()
    ]
    return USAGE.format(
        program=program,
        about=about,
        topic=names[0],
        names=indented(", ".join(names)),
        parameters="\n".join(parameters),
    )


def said_at_start(
    program: str, about: str, args: Sequence[str] | None, names: Sequence[str], specs: Mapping[str, Spec]
) -> bool:
    """Answer --help and --version; name arguments that are not used.

    Args:
        program: What the node's program is called.
        about: What it does, one line.
        args: The command line; None = the process's own.
        names: Its topics and services before remapping, the most important first.
        specs: Its parameters by name.

    Returns:
        Whether that was all that was asked for.
    """
    try:
        own = remove_ros_args(args=list(sys.argv if args is None else args))
    except Exception:  # of a private class; `init_ros` says what is wrong with them
        return False
    if args is None or (own and not own[0].startswith("-")):
        own = own[1:]  # the program itself comes first
    if {"-h", "--help"} & set(own):
        print(help_text(program, about, names, specs))
        return True
    if "--version" in own:
        print(f"{program} {package_version()}")
        return True
    for argument in own:
        near = difflib.get_close_matches(argument, ("--help", "--version", "--ros-args"), 1)
        meant = f"did you mean {near[0]}?" if near else "parameters are given as --ros-args -p NAME:=VALUE"
        print(f"{program}: argument {argument!r} is not known and not used; {meant}", file=sys.stderr)
    return False


def package_version() -> str:
    """The installed package's version; that of package.xml where it runs from a colcon workspace."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version("proxqa_ros")
    from ament_index_python.packages import get_package_share_directory

    text = (Path(get_package_share_directory("proxqa_ros")) / "package.xml").read_text()
    found = re.search(r"<version>([^<]+)</version>", text)
    return found[1] if found else "unknown"


def init_ros(program: str, args: Sequence[str] | None, **kwargs: Any) -> bool:
    """`rclpy.init` with this package's Fast DDS profile, whose failure is one line on standard error.

    Args:
        program: What the line begins with.
        args: The command line; None = the process's own.
        **kwargs: As of rclpy.init.

    Returns:
        Whether ROS is started.
    """
    use_fastdds_profile()  # else large images get lost
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


_NO_FILE = re.compile(r"params file: '(?:--params-file )?(.+?)'.*Error opening YAML file")
_REMAP = re.compile(r"remap rule: '(.+?)'")
_OVERRIDE = re.compile(r"parameter override rule: '(.+?)'")
_PLACES = re.compile(r",? at \S+\.c:\d+")
"""Where in rcl's own source it was said."""


def _in_plain_words(reason: str) -> str:
    """What rcl says of its arguments; of what people often get wrong, what is expected."""
    if match := _MIXED.search(reason):
        return (
            f"{match[1]}, line {match[2]}: a list has values of several kinds, which no ROS parameter has; write all "
            'alike, such as [0.0, 0.0, 0.4] or ["chair", "3"]'
        )
    if match := _EMPTY.search(reason):
        return f'{match[1]}, line {match[2]}: a parameter has no value; write one, "" for no text'
    if match := _NO_FILE.search(reason):
        return f"the parameter file {match[1]!r} cannot be opened; expected a YAML file"
    if match := _REMAP.search(reason):
        return f"{match[1]!r} cannot be read; expected OLD:=NEW, two names of ROS, such as '-r image:=/camera/image'"
    if match := _OVERRIDE.search(reason):
        return f"{match[1]!r} cannot be read; expected NAME:=VALUE, the value in YAML, such as '-p rate:=5.0'"
    return _PLACES.sub("", reason)


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
