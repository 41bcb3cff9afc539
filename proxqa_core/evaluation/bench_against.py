"""Two installations of proxqa measured in turns: each in a process of its own, one running while the other waits.

Promises: works with any version since 0.1; both see the same pictures in the same order. Nothing of an installation
but its Python is used.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import proxqa_core
from proxqa_core.errors import ProxqaError, reason_of
from proxqa_core.evaluation.bench import Progress, percentiles

CASES = ("image + 8 names", "28 pairs", "8 callers")
"""What both are measured on; see `WORKER`."""

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

    Raises:
        BadInstallationError: It does not start.
    """

    def __init__(self, python: Path, options: dict[str, Any], packages: Path | None = None):
        self._python = python
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
        For both `facts` and percentiles of milliseconds by case, and `times_faster` by case: the other's median
        divided by this one's.

    Raises:
        BadInstallationError: The other one is none, or fails.
    """
    other_python = python_of(venv)
    ours = {"device": device, "backend": backend, "int8": int8}
    sides = {"this": Installation(Path(sys.executable), ours, Path(proxqa_core.__file__).parents[1])}
    try:
        sides["other"] = Installation(other_python, {"device": device})
        spans: dict[str, dict[str, list[float]]] = {name: {case: [] for case in cases} for name in sides}
        for index in range(-1, repeats):
            for case in cases:
                for name, side in sides.items():
                    took = side.run(case, index + 1)
                    if index >= 0:
                        spans[name][case].append(took)
            on_progress(f"{index + 1}/{repeats}")
        figures = {name: {case: percentiles(values) for case, values in of.items()} for name, of in spans.items()}
        return {
            "facts": {name: side.facts for name, side in sides.items()},
            "milliseconds": figures,
            "times_faster": {case: figures["other"][case]["p50"] / figures["this"][case]["p50"] for case in cases},
        }
    finally:
        for side in sides.values():
            side.stop()
