"""Two installations of proxqa measured in turns: each in a process of its own, one running while the other waits.

Promises: works with any version since 0.1; both see the same pictures in the same order. Nothing of an installation
but its Python is used.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import proxqa_core
from proxqa_core.errors import ProxqaError, reason_of
from proxqa_core.evaluation.bench import Progress, percentiles
from proxqa_core.memory import MB

FIRST = "image + 8 names"
"""What the first answer of a process is to."""
CASES = (FIRST, "28 pairs", "8 callers")
"""What both are measured on; see `WORKER`."""
STARTS = 3
"""Processes of each installation that are started, in turns; the last of them are measured further."""

WORKER = """
import itertools, json, sys, threading, time
import numpy as np
from proxqa_core.engine import ProximityEngine

out, sys.stdout = sys.stdout, sys.stderr
NAMES = ("chair", "table", "lamp", "person", "door", "plant", "box", "sofa")
options = json.loads(sys.argv[1])
if options.get("backend"):
    from proxqa_core.backends.config import BackendConfig
    engine = ProximityEngine.load(device=options["device"], backend=BackendConfig(options["backend"], options["int8"]))
else:
    engine = ProximityEngine.load(device=options["device"])
encode = getattr(engine, "encode_image", None) or engine.look

def picture(seed):
    coarse = np.random.default_rng(seed).integers(0, 255, (12, 16, 3), np.uint8)
    return np.ascontiguousarray(np.kron(coarse, np.ones((40, 40, 1), np.uint8)))

def image(seed):
    encode(picture(seed)).depths(NAMES)

def seen(seed):
    view = encode(picture(seed))
    view.depths(NAMES)
    return view

def callers(seed):
    view = encode(picture(seed))
    questions = [f"Which is closer, the {a} or the {b}?" for a, b in zip(NAMES, (*NAMES[1:], NAMES[0]))]
    if hasattr(view, "prepare"):
        view.prepare([(q, ()) for q in questions])
    threads = [threading.Thread(target=view.ask, args=(q,)) for q in questions]
    [t.start() for t in threads]
    [t.join() for t in threads]

def run(case, seed):
    if case == "28 pairs":
        view = seen(seed)
        started = time.perf_counter()
        view.closer_many(list(itertools.combinations(NAMES, 2)))
    else:
        started = time.perf_counter()
        (image if case == "image + 8 names" else callers)(seed)
    return 1000 * (time.perf_counter() - started)

print(json.dumps({"model": engine.model_name, "dtype": str(engine.model.dtype)}), file=out, flush=True)
for line in sys.stdin:
    print(json.dumps(run(*json.loads(line))), file=out, flush=True)
"""


class BadInstallationError(ProxqaError, ValueError):
    """There is no installation of proxqa, or it does not answer."""


class Installation:
    """A process of an installation.

    Args:
        python: Its Python.
        options: What `WORKER` takes.
        packages: The folder that its packages are imported from; None = where they are installed.

    Attributes:
        facts: What it says of itself.
        first_answer_s: Seconds from its start to its first answer, to FIRST.

    Raises:
        BadInstallationError: It does not start.
    """

    def __init__(self, python: Path, options: dict[str, Any], packages: Path | None = None):
        self._python, started = python, time.perf_counter()
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        if packages is not None:
            environment["PYTHONPATH"] = str(packages)
        try:
            self._process = subprocess.Popen(
                [str(python), "-W", "ignore", "-c", WORKER, json.dumps(options)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env=environment,
                cwd=python.parent,  # nothing is imported from where this happens to run
            )
        except OSError as error:
            raise BadInstallationError(f"{str(python)!r} cannot be run: {reason_of(error)}") from error
        self.facts: dict[str, Any] = self._answer()
        self.run(FIRST, 0)
        self.first_answer_s = time.perf_counter() - started

    def run(self, case: str, seed: int) -> float:
        """Milliseconds of a case."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([case, seed]) + "\n")
        self._process.stdin.flush()
        return float(self._answer())

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise BadInstallationError(
                f"the proxqa of {str(self._python)!r} has ended; expected an installation that answers"
            )
        return json.loads(line)

    def peak_mb(self) -> float:
        """The most memory that it has had so far, in MB; NaN where the system does not say."""
        with contextlib.suppress(OSError, StopIteration):
            lines = Path(f"/proc/{self._process.pid}/status").read_text(encoding="utf-8").splitlines()
            return 1024 * int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) / MB
        return math.nan

    def stop(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.communicate()


def python_of(venv: Path) -> Path:
    """The Python of a virtual environment; BadInstallationError where there is none."""
    python = venv / "bin" / "python"
    if not python.exists():
        raise BadInstallationError(f"{str(venv)!r} has no bin/python; expected a virtual environment with proxqa in it")
    return python.absolute()


def against(
    venv: Path, repeats: int, device: str, backend: str, int8: bool, on_progress: Progress, cases: Sequence[str] = CASES
) -> dict[str, Any]:
    """Measure this installation and another one in turns.

    Args:
        venv: The other's virtual environment.
        repeats: Rounds that are counted, after one that warms up.
        device, backend, int8: Of this one; the other runs on the same device as it chooses.
        on_progress: Called with one line after every round.
        cases: Some of CASES.

    Returns:
        For both `facts`, percentiles of milliseconds by case, and `starts`: the median of seconds to the first answer
        and the most memory. `times_faster` by case: the other's median divided by this one's.

    Raises:
        BadInstallationError: The other one is none, or fails.
    """
    other_python = python_of(venv)
    makers = {
        "this": lambda: Installation(
            Path(sys.executable),
            {"device": device, "backend": backend, "int8": int8},
            Path(proxqa_core.__file__).parents[1],
        ),
        "other": lambda: Installation(other_python, {"device": device}),
    }
    first_answers: dict[str, list[float]] = {name: [] for name in makers}
    for _ in range(STARTS - 1):
        for name, make in makers.items():
            side = make()
            first_answers[name].append(side.first_answer_s)
            side.stop()
    with contextlib.ExitStack() as stack:
        sides: dict[str, Installation] = {}
        for name, make in makers.items():
            sides[name] = make()
            stack.callback(sides[name].stop)
            first_answers[name].append(sides[name].first_answer_s)
        spans = _in_turns(sides, cases, repeats, on_progress)
        figures = {name: {case: percentiles(values) for case, values in of.items()} for name, of in spans.items()}
        return {
            "facts": {name: side.facts for name, side in sides.items()},
            "milliseconds": figures,
            "times_faster": {case: figures["other"][case]["p50"] / figures["this"][case]["p50"] for case in cases},
            "starts": {
                name: {"first_answer_s": statistics.median(first_answers[name]), "peak_mb": side.peak_mb()}
                for name, side in sides.items()
            },
        }


def _in_turns(
    sides: dict[str, Installation], cases: Sequence[str], repeats: int, on_progress: Progress
) -> dict[str, dict[str, list[float]]]:
    """Milliseconds of every round that counts, by installation and case."""
    spans: dict[str, dict[str, list[float]]] = {name: {case: [] for case in cases} for name in sides}
    for index in range(-1, repeats):
        for case in cases:
            for name, side in sides.items():
                took = side.run(case, index + 1)
                if index >= 0:
                    spans[name][case].append(took)
        on_progress(f"{index + 1}/{repeats}")
    return spans
