"""How fast an engine answers: its stages, how they grow, and what other ways of asking the same model take.

Promises: everything is measured in one process on the same pictures, in turns; what is compared is asked the same
prompts. Figures are percentiles of wall-clock milliseconds. What the arithmetic alone would take on this machine is
measured in the same run (`bench_floor`). Knows nothing of accuracy, but for the share of objects for which the engine
and `generate()` give the same answer, decoded greedily.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from proxqa_core.backends.choice import choose
from proxqa_core.backends.config import BackendConfig
from proxqa_core.engine import EncodedImage, ProximityEngine
from proxqa_core.evaluation.bench_floor import floor
from proxqa_core.evaluation.bench_peers import PEERS
from proxqa_core.llm.readout import greedy
from proxqa_core.types import Box, ObjectQuery

NAMES = ("chair", "table", "lamp", "person", "door", "plant", "box", "sofa")
"""The objects asked for: whether they are in the picture makes no difference to the time."""
COUNTS = (1, 8, 32, 64)
"""Numbers of objects of one request."""
MANY = 32
"""Objects that are asked for together with their image, besides the few of NAMES."""
CALLERS, CAMERAS = 8, (1, 2, 4)
"""Callers that ask at once about one picture; cameras whose pictures are one batch."""
OURS, BOTH_DIGITS = "engine", "engine, both digits"
"""The two ways of the engine that stand beside its peers."""
SIZES = ((640, 480), (1280, 720), (1920, 1080))
"""Width and height of pictures, in pixels."""
MAX_CASE_S = 12.0
"""A case that takes longer is repeated less often, but at least twice."""
_BLOCK_PX = 40
"""Side of the squares of one colour in a picture, in pixels."""

Progress = Callable[[str], None]


@dataclass(frozen=True)
class BenchConfig:
    """What is measured.

    Attributes:
        repeats: Rounds that are counted, at least 2; one more before them warms up.
        threads: Numbers of threads that an image with eight objects is measured with besides, each at least 1.
        peers: Whether other ways of asking the same model are measured too.
        only: Parts of names of cases; those without any of them are left out. () = all.

    Raises:
        ValueError: A number is too low.
    """

    repeats: int = 10
    threads: tuple[int, ...] = ()
    peers: bool = True
    only: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.repeats < 2:
            raise ValueError(f"repeats is {self.repeats}; expected at least 2")
        if any(n < 1 for n in self.threads):
            raise ValueError(f"threads are {list(self.threads)}; expected numbers from 1")


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
    engine: ProximityEngine, config: BenchConfig | None = None, on_progress: Progress | None = None
) -> dict[str, Any]:
    """Measure an engine.

    Args:
        engine: The engine.
        config: What is measured.
        on_progress: Called with one line after every case.

    Returns:
        What `proxqa bench --json` writes; times in milliseconds.
    """
    config, say = config or BenchConfig(), on_progress or (lambda line: None)
    info = engine.info()
    report: dict[str, Any] = {
        **{key: info[key] for key in ("model", "device", "dtype", "backend", "vision_encoder", "language_model")},
        "threads": torch.get_num_threads(),
        "objects": len(NAMES),
        "repeats": config.repeats,
        "floor": floor(engine, picture(0), NAMES),
        "milliseconds": {},
    }
    times = report["milliseconds"]
    whole_name = f"image + {len(NAMES)} names"
    for name, case in cases(engine).items():
        if config.only and name != whole_name and not any(part in name for part in config.only):
            continue
        times[name] = timed(engine, case, config.repeats)
        say(f"{name}: {times[name]['p50']:.0f} ms")
    if config.peers:
        report |= _against_peers(engine, config.repeats, times, say)
    for count in config.threads:
        name = f"{whole_name}, {count} threads"
        times[name] = _with_threads(engine, count, config.repeats)
        say(f"{name}: {times[name]['p50']:.0f} ms")
    report["times_floor"] = times[whole_name]["p50"] / report["floor"]["image_ms"]
    return report


Case = Callable[[int], Callable[[], object]]
"""Of a round's number: prepares what is not counted and returns what is."""


def cases(engine: ProximityEngine) -> dict[str, Case]:
    """What is measured of an engine, by name."""
    preprocessing = engine.model.preprocessing
    found: dict[str, Case] = {
        "pixels": _ready(lambda i: picture(i), lambda image: preprocessing.pixels([image])),
        "encode_image": _ready(picture, engine.encode_image),
        "read image and first object": _ready(lambda i: _looked(engine, i), lambda v: v.depths(["thing"])),
    }
    for count in COUNTS:
        found[f"{count} objects"] = _ready(lambda i: _read(engine, i), _asker(count))
    found[f"image + {len(NAMES)} names"] = _ready(picture, lambda p: engine.encode_image(p).depths(NAMES))
    found[f"image + {MANY} objects"] = _ready(picture, lambda p: _asker(MANY)(engine.encode_image(p)))
    pairs = list(itertools.combinations(NAMES, 2))
    found["1 pair"] = _ready(lambda i: _seen(engine, i), lambda v: v.closer_many(pairs[:1]))
    found[f"{len(pairs)} pairs"] = _ready(lambda i: _seen(engine, i), lambda v: v.closer_many(pairs))
    found[f"{CALLERS} callers"] = _ready(lambda i: _looked(engine, i), _call)
    for count in CAMERAS:
        found[f"{count} cameras, {len(NAMES)} names"] = _ready(_pictures_of(count), lambda p: _several(engine, p))
    for width, height in SIZES:
        found[f"encode_image {width}x{height}"] = _ready(_picture_of(width, height), engine.encode_image)
    return found


def timed(engine: ProximityEngine, case: Case, repeats: int) -> dict[str, float]:
    """Percentiles of a case's time in milliseconds, and how often it was measured."""
    spans: list[float] = []
    started = time.perf_counter()
    for index in range(-1, repeats):  # the first round warms up
        run = case(index + 1)
        settle(engine)
        before = time.perf_counter()
        run()
        settle(engine)
        if index >= 0:
            spans.append(1000 * (time.perf_counter() - before))
        if len(spans) >= 2 and time.perf_counter() - started > MAX_CASE_S:
            break
    return percentiles(spans)


def percentiles(spans: Sequence[float]) -> dict[str, float]:
    """p50, p95 and p99 of some numbers, and how many there are."""
    return {f"p{q}": float(np.percentile(spans, q)) for q in (50, 95, 99)} | {"rounds": len(spans)}


def settle(engine: ProximityEngine) -> None:
    """Wait until the device has finished."""
    if engine.model.device.type == "cuda":
        torch.cuda.synchronize(engine.model.device)


def _ready(prepare: Callable[[int], Any], run: Callable[[Any], object]) -> Case:
    def case(index: int) -> Callable[[], object]:
        given = prepare(index)
        return lambda: run(given)

    return case


def _looked(engine: ProximityEngine, index: int) -> EncodedImage:
    return engine.encode_image(picture(index))


def _read(engine: ProximityEngine, index: int) -> EncodedImage:
    """Encoded, and read by the language model."""
    encoded = _looked(engine, index)
    encoded.depths(["thing"])
    return encoded


def _seen(engine: ProximityEngine, index: int) -> EncodedImage:
    """Encoded, its objects perceived."""
    encoded = _looked(engine, index)
    encoded.depths(NAMES)
    return encoded


def _asker(count: int) -> Callable[[EncodedImage], object]:
    """Asks for so many objects: those with names first, then boxes in a grid."""
    boxes = (Box(16 + 70 * (n % 8), 16 + 55 * (n // 8), 80 + 70 * (n % 8), 66 + 55 * (n // 8)) for n in range(count))
    queries = [ObjectQuery(NAMES[n % len(NAMES)], box) for n, box in enumerate(boxes)]
    return lambda encoded: encoded.depths(queries)


def _call(encoded: EncodedImage) -> None:
    """Eight callers, each with a question of its own, as the node answers those that come together."""
    pairs = zip(NAMES, (*NAMES[1:], NAMES[0]), strict=True)
    questions = [f"Which is closer, the {a} or the {b}?" for a, b in pairs][:CALLERS]
    encoded.prepare([(question, ()) for question in questions])
    callers = [threading.Thread(target=encoded.ask, args=(question,)) for question in questions]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()


def _several(engine: ProximityEngine, pictures: Sequence[NDArray[np.uint8]]) -> None:
    engine.depths_of_images(engine.encode_images(pictures), NAMES)


def _pictures_of(count: int) -> Callable[[int], list[NDArray[np.uint8]]]:
    return lambda index: [picture(count * index + n) for n in range(count)]


def _picture_of(width: int, height: int) -> Callable[[int], NDArray[np.uint8]]:
    return lambda index: picture(index, width, height)


def _against_peers(
    engine: ProximityEngine, repeats: int, times: dict[str, dict[str, float]], say: Progress
) -> dict[str, Any]:
    """The engine and its peers in turns on the same pictures: times, ratios, how many answers are the same.

    The engine answers as it does for its users, and once more with both digits of every depth: only then does it give
    the text that `generate()` does.
    """
    plain = ProximityEngine(engine.model)  # by PyTorch, as the peers would
    ways: dict[str, Callable[[NDArray[np.uint8]], Any]] = {
        OURS: lambda image: engine.encode_image(image).depths(NAMES),
        BOTH_DIGITS: lambda image: _greedy_answers(engine, image),
    }
    ways |= {name: lambda image, ask=ask: ask(plain, image, NAMES) for name, ask in PEERS.items()}  # type: ignore[misc]
    spans: dict[str, list[float]] = {name: [] for name in ways}
    same = dict.fromkeys(PEERS, 0)
    rounds = max(2, min(repeats, 5))
    for index in range(-1, rounds):
        answers: dict[str, list[str]] = {}
        for name, ask in ways.items():
            before = time.perf_counter()
            answers[name] = ask(picture(index + 1))
            settle(engine)
            if index >= 0:
                spans[name].append(1000 * (time.perf_counter() - before))
        for name in PEERS:
            same[name] += (index >= 0) * sum(a == b for a, b in zip(answers[BOTH_DIGITS], answers[name], strict=True))
        say(f"peers {index + 1}/{rounds}")
    for name, values in spans.items():
        times[f"peer: {name}"] = percentiles(values)
    own, both = (times[f"peer: {name}"]["p50"] for name in (OURS, BOTH_DIGITS))
    return {
        "ratios": {name: times[f"peer: {name}"]["p50"] / own for name in PEERS},
        "ratios_both_digits": {name: times[f"peer: {name}"]["p50"] / both for name in PEERS},
        "same_answers": {name: count / (rounds * len(NAMES)) for name, count in same.items()},
    }


def _greedy_answers(engine: ProximityEngine, image: NDArray[np.uint8]) -> list[str]:
    """The engine's answers with both digits, decoded greedily."""
    return [greedy(tree) for tree in engine.encode_image(image).digit_trees([ObjectQuery(n) for n in NAMES])]


def _with_threads(engine: ProximityEngine, count: int, repeats: int) -> dict[str, float]:
    """An image with its names on so many threads; runtimes that fix them when they are made are made anew."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        again = ProximityEngine(engine.model, choose(engine.model, BackendConfig(engine.networks.name)))
        return timed(again, cases(again)[f"image + {len(NAMES)} names"], repeats)
    finally:
        torch.set_num_threads(before)
