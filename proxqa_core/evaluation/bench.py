"""How fast the engine answers, against asking the same model the same prompts one by one with `generate()`.

Promises: both sides run in one process and take turns on the same images. Figures are p50 and p95 of wall-clock
milliseconds, the ratio of the medians, and the share of objects for which both give the same answer, decoded greedily.
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
"""The objects asked for: whether they are in the picture makes no difference to the time."""


_BLOCK_PX = 40
"""Side of the squares of one colour in a picture, in pixels."""


def picture(seed: int, width: int = 640, height: int = 480) -> NDArray[np.uint8]:
    """A reproducible picture: what it shows makes no difference to the time.

    Args:
        seed: Of the colours.
        width: In pixels, a multiple of 40.
        height: In pixels, a multiple of 40.

    Returns:
        uint8 RGB [height, width, 3].
    """
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (height // _BLOCK_PX, width // _BLOCK_PX, 3), np.uint8)
    return np.ascontiguousarray(np.kron(coarse, np.ones((_BLOCK_PX, _BLOCK_PX, 1), np.uint8)))


def ask_one_by_one(engine: ProximityEngine, image: NDArray[np.uint8], names: Sequence[str]) -> list[str]:
    """The usual way: for every name the image again, and the whole prompt through `generate()` until it ends.

    Args:
        engine: The engine.
        image: uint8 RGB [height, width, 3].
        names: The objects.

    Returns:
        The answer's text for every name.
    """
    return [engine.encode_image(image).perceive_by_generating(name) for name in names]


def bench(
    engine: ProximityEngine,
    repeats: int = 10,
    names: Sequence[str] = NAMES,
    on_progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Time the engine.

    Args:
        engine: The engine.
        repeats: Number of rounds that are counted, at least 2; one more before them warms up.
        names: The objects asked for in every round.
        on_progress: Called with one line after every round.

    Returns:
        What `proxqa bench --json` writes; times in milliseconds.

    Raises:
        ValueError: `repeats` is below 2.
    """
    if repeats < 2:
        raise ValueError(f"repeats is {repeats}; expected at least 2")
    times: dict[str, list[float]] = {"encode_image": [], "depths": [], "closer": [], "shared": [], "one_by_one": []}
    same = 0
    for index in range(-1, repeats):  # the first round warms up and is not counted
        spans, same_answers = _round(engine, picture(index + 1), names)
        if index < 0:
            continue
        for name, span in spans.items():
            times[name].append(span)
        same += same_answers
        on_progress(f"{index + 1}/{repeats}: shared {spans['shared']:.0f} ms, one by one {spans['one_by_one']:.0f} ms")
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


def _round(engine: ProximityEngine, image: NDArray[np.uint8], names: Sequence[str]) -> tuple[dict[str, float], int]:
    """Milliseconds of every step, and for how many objects both ways give the same answer."""
    marks = [time.perf_counter()]
    encoded = engine.encode_image(image)
    _settle(engine, marks)
    encoded.depths(names)
    _settle(engine, marks)
    encoded.closer(names[0], names[1])
    _settle(engine, marks)
    generated = ask_one_by_one(engine, image, names)
    _settle(engine, marks)
    encoding, depths, closer, one_by_one = (1000 * np.diff(marks)).tolist()
    spans = {"encode_image": encoding, "depths": depths, "closer": closer}
    spans |= {"shared": encoding + depths, "one_by_one": one_by_one}
    decoded = [greedy(tree) for tree in encoded.digit_trees([ObjectQuery(name) for name in names])]
    return spans, sum(a == b for a, b in zip(generated, decoded, strict=True))


def _settle(engine: ProximityEngine, marks: list[float]) -> None:
    """Wait until the device has finished, then note the time."""
    if engine.model.device.type == "cuda":
        torch.cuda.synchronize(engine.model.device)
    marks.append(time.perf_counter())
