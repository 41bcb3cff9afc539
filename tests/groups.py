"""Runs a group of tests in parts, a process each: `python -m tests.groups GROUP [pytest's arguments]`, see GROUPS.

The libraries of ROS, of training and of inference do not all go together in one process, and what a part leaves in
memory does not burden the next. A part that does not end is ended.

What comes about once in many runs does not throw away the others, but is always said:

- Tests that failed are run once more, by themselves in a fresh process, if there are at most `RERUN_AT_MOST` in the
  part: more are no noise. Who passes then is named as unsteady, at the group's end and in the file `UNSTEADY`, which
  `make test` shows at its own end. Who fails twice has failed.
- A part that a signal ends, which is no test's failure, is run once more. SIGSEGV between two system calls, with no
  fault in the kernel's log, has come about once in half an hour of tests on a virtual machine, twice in
  `test_distributed` behind tests whose DataLoader leaves PyTorch's handler of SIGCHLD in the process, so that file has
  a part of its own. Why is not known.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).parent
UNSTEADY = TESTS.parent / "build/unsteady-tests.txt"
"""A line for every test that failed once and passed when it was run again. Appended to."""
LIMIT_S = 1200
"""Seconds that a part may take."""
RERUN_AT_MOST = 5
"""Failed tests of a part that are run once more."""
PASSED, FAILED, NOTHING_SELECTED = 0, 1, 5
"""pytest's exit codes."""
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
TIMING = "timing"
"""The group of one part, of every file with a test of that mark. Its tests are in the other groups' files."""


@dataclass(frozen=True)
class Part:
    """Tests that run in one process.

    Attributes:
        name: What it is called in what is printed.
        files: The test files, as paths below the checkout.
    """

    name: str
    files: tuple[str, ...]


def parts(group: str) -> list[Part]:
    """The parts of a group."""
    if group == TIMING:
        marked = [p for p in sorted(TESTS.rglob("test_*.py")) if f"mark.{TIMING}" in p.read_text(encoding="utf-8")]
        return [Part(TIMING, tuple(_below(p) for p in marked))]
    return [Part(", ".join(names), tuple(_files(names))) for names in GROUPS[group]]


def _files(names: Sequence[str]) -> Iterator[str]:
    """The test files that folders and files stand for, without those that others in GROUPS stand for."""
    named = {TESTS / name for parts in GROUPS.values() for part in parts for name in part}
    for path in (TESTS / name for name in names):
        for file in sorted(path.rglob("test_*.py")) if path.is_dir() else [path]:
            if next(p for p in (file, *file.parents) if p in named) == path:
                yield _below(file)


def _below(file: Path) -> str:
    return str(file.relative_to(TESTS.parent))


def run(part: Part, arguments: Sequence[str], cache: Path) -> int:
    """Run a part.

    Args:
        part: At least one file, or it is not run: without any, pytest would run all there are.
        arguments: For pytest.
        cache: Folder in which pytest keeps which tests failed.

    Returns:
        pytest's exit code, negative where a signal ended it.
    """
    if not part.files:
        print(f"{part.name}: no test files", flush=True)
        return FAILED
    command = [sys.executable, "-m", "pytest", "-o", f"cache_dir={cache}", *arguments, *part.files]
    try:
        return subprocess.run(command, cwd=TESTS.parent, timeout=LIMIT_S).returncode
    except subprocess.TimeoutExpired:
        print(f"{part.name}: not done after {LIMIT_S} s", flush=True)
        return FAILED


def run_despite_signals(part: Part, arguments: Sequence[str], cache: Path) -> int:
    """Run a part, and once more where a signal ended it. As `run`."""
    code = run(part, arguments, cache)
    if code < 0:
        print(f"{part.name}: ended by {signal.Signals(-code).name}; once more", flush=True)
        code = run(part, arguments, cache)
    return code


def failures(cache: Path) -> set[str]:
    """The tests that failed when last run, as pytest has kept it in its cache folder."""
    kept = cache / "v/cache/lastfailed"
    return set(json.loads(kept.read_text(encoding="utf-8"))) if kept.is_file() else set()


def judge(part: Part, arguments: Sequence[str]) -> tuple[int, list[str]]:
    """Run a part, and what failed in it once more if that is little.

    Returns:
        pytest's exit code, that of the second run if there was one; and the tests that passed only in the second.
    """
    with tempfile.TemporaryDirectory(prefix="proxqa-tests-") as folder:
        cache = Path(folder)
        code = run_despite_signals(part, arguments, cache)
        failed = failures(cache)
        if code != FAILED or not 0 < len(failed) <= RERUN_AT_MOST:
            return code, []
        print(f"{part.name}: {len(failed)} failed; once more by themselves", flush=True)
        code = run_despite_signals(part, [*arguments, "--last-failed", "--last-failed-no-failures=none"], cache)
        again = failures(cache)  # also what was not run, whatever the exit code
        return code or (FAILED if again else PASSED), sorted(failed - again) if code in (PASSED, FAILED) else []


def main(group: str, arguments: Sequence[str]) -> int:
    """Run a group; 0 where every part passed."""
    failed, unsteady = [], []
    for part in parts(group):
        code, passed_again = judge(part, arguments)
        unsteady += [f"unsteady: {name} failed once, passed when run again" for name in passed_again]
        if code not in (PASSED, NOTHING_SELECTED):
            failed.append(f"{part.name} (exit code {code})")
    if unsteady:
        UNSTEADY.parent.mkdir(exist_ok=True)
        with UNSTEADY.open("a", encoding="utf-8") as file:
            file.write("\n".join(unsteady) + "\n")
    verdict = f"{group}: {'failed: ' + '; '.join(failed) if failed else 'passed'}"
    print(*(f"!!! {line}" for line in unsteady), verdict, sep="\n", flush=True)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
