"""The proximity node as a process of its own, in a ROS domain of its own.

Promises: the process and everything it started are gone when the `with` ends, however it ends; what the node said is
kept in a log file. Knows nothing of bags or of answers.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

from demo.errors import DemoError
from proxqa_core.rosbags.bag import Topic

ROOT = Path(__file__).resolve().parents[1]
PROFILE = ROOT / "config" / "fastdds_shm.xml"
RESERVED_PORTS = 32768
"""Domain N is taken while somebody holds TCP port RESERVED_PORTS + N: ROS's domain_coordinator keeps the same rule."""
MAIN = "import sys; from proxqa_ros.proximity.node import main; sys.exit(main())"
"""The node of this checkout, where the script `proximity_node` would start the installed one."""
GENTLE = {"PYTHONUNBUFFERED": "1", "OMP_WAIT_POLICY": "PASSIVE"}
"""PASSIVE: threads that wait for one another sleep; spinning, they take twenty times as long on a busy machine."""
GRACE = 5.0
"""Seconds the node gets to end by itself."""


@contextlib.contextmanager
def own_domain() -> Iterator[int]:
    """A ROS domain id that nobody else on this machine has reserved."""
    for domain in range(1, 101):
        with socket.socket() as reservation:
            try:
                reservation.bind(("", RESERVED_PORTS + domain))
            except OSError:
                continue
            yield domain
            return
    raise DemoError("no free ROS domain id from 1 to 100 on this machine")


def ros_environment(domain: int) -> dict[str, str]:
    """What keeps the demo's ROS to itself, and large images from being lost."""
    return {
        "ROS_DOMAIN_ID": str(domain),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "FASTDDS_DEFAULT_PROFILES_FILE": str(PROFILE),
    }


def command_of(topic: Topic, objects: Sequence[str], model: str, adapter: str) -> list[str]:
    """The node's command line. model, adapter: '' = the node's own default."""
    transport = "compressed" if topic.compressed else "raw"
    given = {"use_sim_time": True, "image_transport": transport, "objects": list(objects)}
    given |= {name: value for name, value in (("model", model), ("adapter", adapter)) if value}
    remap = f"{'image/compressed' if transport == 'compressed' else 'image'}:={topic.name}"
    command = [sys.executable, "-c", MAIN, "--ros-args", "-r", remap]
    for name, value in given.items():
        command += ["-p", f"{name}:={json.dumps(value)}"]
    return command


class NodeProcess:
    """A running node; use it in a `with`."""

    def __init__(self, command: Sequence[str], domain: int, log: Path) -> None:
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=os.environ | ros_environment(domain) | GENTLE,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> NodeProcess:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self._signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(GRACE)
        finally:
            self._signal(signal.SIGKILL)
            self._process.wait()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def check(self) -> None:
        """DemoError where the node has ended."""
        code = self._process.poll()
        if code is not None:
            raise DemoError(f"the node ended with exit code {code}; its log, {self.log}, says:\n{self.said()}")

    def said(self, lines: int = 15) -> str:
        """The last lines of the node's log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) or "(nothing)"

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)
