"""A node as a process of its own.

Promises: the process and everything it started are gone when the `with` ends, however it ends, and soon after its
caller ends, whatever ends that; it imports the same modules as its caller, unless others are given; its output is kept
in a log file.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from proxqa_ros.testing.domain import MODULES, ros_environment
from proxqa_ros.testing.errors import HarnessError

SHUTDOWN_TIMEOUT_S = 5.0
"""Seconds the node gets to end by itself."""
_GUARD = """
read -r _  # until the caller ends: nobody else holds the other end of this pipe
kill -s INT -- "-$1" || exit 0
for _ in $(seq "$2"); do sleep 1; kill -s 0 -- "-$1" || exit 0; done
kill -s KILL -- "-$1"
"""
"""Shell script that ends a group of processes, $1, as `NodeProcess` does; the group has $2 seconds."""
PROXIMITY_NODE = "proximity.node"
"""Modules of proxqa_ros that have a node's `main`."""
REPLAY_NODE = "replay.node"
GOVERNOR_NODE = "governor.node"


def node_environment(domain: int, modules: Path = MODULES) -> dict[str, str]:
    """The environment of a node's process.

    Args:
        domain: The ROS domain id.
        modules: Folder that it imports from: that of its caller, or another installation's.
    """
    path = [str(modules), *filter(None, [os.environ.get("PYTHONPATH")])]
    # another installation has messages of its own, which these would hide
    hidden = () if modules == MODULES else ("AMENT_PREFIX_PATH", "LD_LIBRARY_PATH", "_ROS_WHEELS_BOOTSTRAP_COMPLETE")
    return {
        **{key: value for key, value in os.environ.items() if key not in hidden},
        **ros_environment(domain),
        "PYTHONPATH": os.pathsep.join(path),
        "PYTHONUNBUFFERED": "1",
        # threads that wait for one another sleep; spinning, they take twenty times as long on a busy machine
        "OMP_WAIT_POLICY": "PASSIVE",
    }


def node_command(
    module: str = PROXIMITY_NODE,
    *,
    parameters: Mapping[str, Any] | None = None,
    remappings: Mapping[str, str] | None = None,
    namespace: str = "",
    code: str = "",
) -> list[str]:
    """The command line of a node of this package.

    Args:
        module: The module of proxqa_ros whose `main` is run.
        parameters: Values by name; anything that JSON can hold.
        remappings: New names by topic or service.
        namespace: The node's namespace; '' = none.
        code: Python code to run instead of the module's `main`.
    """
    code = code or f"import sys; from proxqa_ros.{module} import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "--ros-args"]
    for old, new in {**(remappings or {}), **({"__ns": namespace} if namespace else {})}.items():
        command += ["-r", f"{old}:={new}"]
    for name, value in (parameters or {}).items():
        command += ["-p", f"{name}:={json.dumps(value)}"]
    return command


class NodeProcess:
    """A running node; use it in a `with`.

    Args:
        command: The command line, such as `node_command` gives.
        domain: The ROS domain id.
        log: The file that its output is written to; its folder is made.
        modules: As of `node_environment`.

    Attributes:
        log: That file.
    """

    def __init__(self, command: Sequence[str], domain: int, log: Path, modules: Path = MODULES) -> None:
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                command,
                env=node_environment(domain, modules),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._guard = _guard_of(self._process.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self._signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(SHUTDOWN_TIMEOUT_S)
        finally:
            self._guard.kill()  # before the group's number can be another's
            self._guard.communicate()
            self._signal(signal.SIGKILL)
            self._process.wait()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def check(self) -> None:
        """Nothing while the node runs.

        Raises:
            HarnessError: The node has ended.
        """
        code = self._process.poll()
        if code is not None:
            raise HarnessError(f"the node ended with exit code {code}; its log, {self.log}, says:\n{self.log_tail()}")

    def log_tail(self, lines: int = 15) -> str:
        """The last lines of the node's log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) or "(nothing)"

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


def _guard_of(group: int) -> subprocess.Popen[bytes]:
    """A process that ends a group of processes when this one ends, by whatever signal."""
    command = ["sh", "-c", _GUARD, "guard", str(group), f"{SHUTDOWN_TIMEOUT_S:.0f}"]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, start_new_session=True)


def resident(pid: int) -> float:
    """Resident memory of a process in megabytes."""
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS:")) / 1024
