"""How fast the engine answers, against asking the same model the same prompts one by one with `generate()`.

Promises: both sides run in one process and take turns on the same images. Figures are p50 and p95 of wall-clock
milliseconds, the ratio of the medians, and the share of objects for which both say the same in words, decoded greedily.
Knows nothing of accuracy.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from proxqa_core.engine import ProximityEngine
from proxqa_core.llm.readout import greedy
from proxqa_core.types import ObjectQuery

NAMES = ("chair", "table", "lamp", "person", "door", "plant", "box", "sofa")
"""What is asked for: whether it is in the picture makes no difference to the time."""


def picture(seed: int, width: int = 640, height: int = 480) -> NDArray[np.uint8]:
    """A reproducible picture: what it shows makes no difference to the time."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (height // 40, width // 40, 3), np.uint8)
    return np.ascontiguousarray(np.kron(coarse, np.ones((40, 40, 1), np.uint8)))


def ask_one_by_one(engine: ProximityEngine, image: NDArray[np.uint8], names: Sequence[str]) -> list[str]:
    """The plain way: for every name the image again, and the whole prompt through `generate()` until it ends."""
    return [engine.encode_image(image).perceive_by_generating(name) for name in names]


def bench(
    engine: ProximityEngine,
    repeats: int = 10,
    names: Sequence[str] = NAMES,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Measure; ValueError unless repeats >= 2. Returns what `proxqa bench --json` writes."""
    if repeats < 2:
        raise ValueError(f"repeats is {repeats}; expected at least 2")
    times: dict[str, list[float]] = {"look": [], "depths": [], "closer": [], "shared": [], "one_by_one": []}
    same = 0
    for index in range(-1, repeats):  # the first round warms up and is not counted
        image = picture(index + 1)
        marks = [time.perf_counter()]
        view = engine.encode_image(image)
        _settle(engine, marks)
        view.depths(names)
        _settle(engine, marks)
        view.closer(names[0], names[1])
        _settle(engine, marks)
        said = ask_one_by_one(engine, image, names)
        _settle(engine, marks)
        if index < 0:
            continue
        spans = 1000 * np.diff(marks)
        times["look"].append(spans[0])
        times["depths"].append(spans[1])
        times["closer"].append(spans[2])
        times["shared"].append(spans[0] + spans[1])
        times["one_by_one"].append(spans[3])
        read = [greedy(tree) for tree in view.digit_trees([ObjectQuery(name) for name in names])]
        same += sum(s == r for s, r in zip(said, read, strict=True))
        progress(f"{index + 1}/{repeats}: shared {times['shared'][-1]:.0f} ms, one by one {spans[3]:.0f} ms")
    quantiles = {k: {"p50": float(np.percentile(v, 50)), "p95": float(np.percentile(v, 95))} for k, v in times.items()}
    return {
        "model": engine.model_name,
        "device": str(engine.model.device),
        "dtype": str(engine.model.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "objects": len(names),
        "repeats": repeats,
        "milliseconds": quantiles,
        "ratio": quantiles["one_by_one"]["p50"] / quantiles["shared"]["p50"],
        "same_answers": same / (repeats * len(names)),
    }


def _settle(engine: ProximityEngine, marks: list[float]) -> None:
    if engine.model.device.type == "cuda":
        torch.cuda.synchronize(engine.model.device)
    marks.append(time.perf_counter())
