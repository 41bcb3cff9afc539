"""Runs a group of tests in parts, a process each: `python -m tests.groups GROUP [pytest's arguments]`, see GROUPS.

The libraries of ROS, of training and of inference do not all go together in one process, and what a part leaves in
memory does not burden the next. A part that a signal ends, which is no test's failure, is run once more, and that is
said: SIGSEGV between two system calls, with no fault in the kernel's log, has come about once in half an hour of tests
on a virtual machine, twice in `test_distributed` behind tests whose DataLoader leaves PyTorch's handler of SIGCHLD in
the process, so that file has a part of its own. Why is not known. A part that does not end is ended.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

TESTS = Path(__file__).parent
LIMIT_S = 1200
"""Seconds that a part may take."""
NOTHING_SELECTED = 5
"""pytest's exit code."""
GROUPS = {
    "core": (
        ("core/backends", "core/cli", "core/comparison"),
        ("core/datasets", "core/evaluation"),
        ("core/language", "core/llm", "core/model"),
        ("core",),
        (".",),
    ),
    "ros": (("ros/proximity",), ("ros", "demo", "test_examples.py")),
    "training": (("training/llava",), ("training/proximity110k",), ("training/test_distributed.py",)),
    "stages": (("training/stages",), ("training",)),
}
"""The parts of every group. A folder stands for what of it is in no other part."""
NAMED = {TESTS / name for parts in GROUPS.values() for part in parts for name in part}


def files(part: Sequence[str]) -> list[str]:
    """The test files of a part."""
    found = []
    for name in part:
        path = TESTS / name
        for file in sorted(path.rglob("test_*.py")) if path.is_dir() else [path]:
            if next(p for p in (file, *file.parents) if p in NAMED) == path:
                found.append(str(file.relative_to(TESTS.parent)))
    return found


def run(part: Sequence[str], arguments: Sequence[str]) -> int:
    """Run a part; pytest's exit code, negative where a signal ended it."""
    command = [sys.executable, "-m", "pytest", *arguments, *files(part)]
    try:
        return subprocess.run(command, cwd=TESTS.parent, timeout=LIMIT_S).returncode
    except subprocess.TimeoutExpired:
        print(f"{', '.join(part)}: not done after {LIMIT_S} s", flush=True)
        return 1


def main(group: str, arguments: Sequence[str]) -> int:
    """Run a group; 0 where every part passed."""
    failed = []
    for part in GROUPS[group]:
        code = run(part, arguments)
        if code < 0:
            print(f"{', '.join(part)}: ended by {signal.Signals(-code).name}; once more", flush=True)
            code = run(part, arguments)
        if code not in (0, NOTHING_SELECTED):
            failed.append(f"{', '.join(part)} (exit code {code})")
    print(f"{group}: {'failed: ' + '; '.join(failed) if failed else 'passed'}", flush=True)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
