"""Ask a model everything that a labelled folder knows the answer to.

Promises: the model is asked through the engine's public API only, as a user would ask; all objects of an image go in
one `depths` call, all its pairs in one `closer_many` call where there is one. Nothing of the labels but names, phrases
and (prompt "box") boxes reaches the model. What else is asked (absent names, pairs without depths) comes after that
and is not timed. Knows nothing of how figures are computed.
"""

from __future__ import annotations

import inspect
import itertools
import logging
import math
import os
import random
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from tqdm import tqdm

from proxqa_core.datasets.folder import BadDatasetError, LabelledFolder, LabelledObject, Record
from proxqa_core.errors import BadImageError, ProxqaError
from proxqa_core.evaluation.metrics import (
    MIN_GAP,
    AbsentResult,
    Measurements,
    ObjectResult,
    PairResult,
    in_order,
    summary,
)
from proxqa_core.protocols import EncodedImage, Engine
from proxqa_core.types import MAX_OBJECTS, ObjectDepth, ObjectQuery, ProximityAnswer

log = logging.getLogger(__name__)

MAX_REASONS = 5
"""Number of reasons for bad images that are kept."""
PROMPTS = ("name", "box")
_BAR = "{desc}: {n_fmt} of {total_fmt} images{postfix}"


class NoDirectError(ProxqaError):
    """The engine cannot compare objects without perceiving their depths first."""


def evaluate(
    engine: Engine,
    folder: str | os.PathLike[str] | LabelledFolder,
    prompt: str = "name",
    limit: int | None = None,
    progress: bool = True,
    train: str | os.PathLike[str] | LabelledFolder | None = None,
    absent: int = 0,
    direct: bool = False,
) -> dict[str, Any]:
    """The report on a model and a folder: `metrics.summary` of `measure`.

    Args:
        engine: As for `measure`.
        folder: As for `measure`.
        prompt: As for `measure`.
        limit: As for `measure`.
        progress: As for `measure`.
        train: Folder to fit the straight-line baseline on, None = leave one image out.
        absent: As for `measure`.
        direct: As for `measure`.
    """
    measured = measure(engine, folder, prompt, limit, progress, absent, direct)
    return summary(measured, None if train is None else labels(train))


def measure(
    engine: Engine,
    folder: str | os.PathLike[str] | LabelledFolder,
    prompt: str = "name",
    limit: int | None = None,
    progress: bool = True,
    absent: int = 0,
    direct: bool = False,
) -> Measurements:
    """All answers of a model on a folder.

    Args:
        engine: The engine to ask.
        folder: The labelled folder.
        prompt: "name" asks by the phrase that means the object alone (`ref`), "box" by its name and box.
        limit: Only the first images, None = all.
        progress: Show on stderr how far it is.
        absent: For each image whose record lists what is in view, also ask for this many names that are not, the same
            ones in every run. Not counted in the seconds.
        direct: Also ask every pair without perceived depths. Not counted in the seconds.

    Raises:
        ValueError: `prompt` is another one, `limit` is below 1 or `absent` below 0.
        BadDatasetError: The folder is at fault, or has nothing to ask for.
        BadImageError: No image can be used; one of many that is missing, damaged or without its depth map is counted.
        NoDirectError: The engine cannot be asked directly.
    """
    _check_options(prompt, limit, absent)
    labelled = folder if isinstance(folder, LabelledFolder) else LabelledFolder(folder)
    total = len(labelled) if limit is None else min(limit, len(labelled))
    names = sorted({o.name for record in labelled.records for o in record.objects}) if absent else []
    collector = _Collector(engine, prompt, names, absent, direct)
    bar = tqdm(total=total, disable=not progress, desc=labelled.path.name, bar_format=_BAR)
    with bar:
        for record in itertools.islice(labelled, total):
            collector.try_to_ask(record)
            bar.set_postfix_str(f"{len(collector.pairs)} pairs", refresh=False)
            bar.update()
    if collector.bad and not collector.images:
        raise BadImageError(f"none of {total} images can be used, the first: {collector.bad_reasons[0]}")
    if not collector.objects:
        raise BadDatasetError(f"{labelled.path}: has no object to ask for; expected objects with a name and a ref")
    return collector.measurements()


def _check_options(prompt: str, limit: int | None, absent: int) -> None:
    if prompt not in PROMPTS:
        raise ValueError(f"prompt is {prompt!r}; expected one of {', '.join(PROMPTS)}")
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}; expected at least 1")
    if absent < 0:
        raise ValueError(f"absent is {absent}; expected at least 0")


class _Collector:
    """Asks about one record after the other. names: those of all records, to draw absent ones from."""

    def __init__(self, engine: Engine, prompt: str, names: Sequence[str], absent: int, direct: bool) -> None:
        self.engine, self.prompt, self.names, self.absent, self.direct = engine, prompt, names, absent, direct
        self.pairs: list[PairResult] = []
        self.objects: list[ObjectResult] = []
        self.not_there: list[AbsentResult] = []
        self.seconds: list[float] = []
        self.images: list[str] = []
        self.bad, self.bad_reasons = 0, list[str]()

    def try_to_ask(self, record: Record) -> None:
        """`ask`; an image that cannot be used is counted and named."""
        try:
            self.ask(record)
        except BadImageError as error:
            log.warning("image left out: %s", error)
            self.bad += 1
            if len(self.bad_reasons) < MAX_REASONS:
                self.bad_reasons.append(str(error))

    def ask(self, record: Record) -> None:
        """Ask everything about one image; nothing where it has no object to ask for."""
        asked = _asked(record, self.prompt)
        if not asked:
            return
        image, truths = record.load_image(), record.relative_depths()
        # 1. what is timed: the image, all depths, all pairs
        started = time.perf_counter()
        encoded = self.engine.encode_image(image)
        found = depths_of(encoded, [query for _, query in asked])
        wanted = list(_pairs(asked))
        questions = [(asked[i][1], asked[j][1]) for i, j in wanted]
        answers = closer_answers(encoded, questions)
        self.seconds.append(time.perf_counter() - started)
        # 2. what is not: the pairs without depths, names that are not in view
        directly = _directly(self.engine, encoded, questions) if self.direct else [None] * len(wanted)
        missing = [ObjectQuery(name) for name in absent_names(record, self.names, self.absent)]
        index = len(self.images)
        self.images.append(record.image)
        self.objects += _object_results(index, record, truths, asked, found)
        self.pairs += [
            _pair_result(index, asked, found, *ij, answer, unaided)
            for ij, answer, unaided in zip(wanted, answers, directly, strict=True)
        ]
        self.not_there += [AbsentResult(index, d.name, d.score) for d in depths_of(encoded, missing)]

    def measurements(self) -> Measurements:
        """All answers so far."""
        return Measurements(
            self.engine.model_name,
            self.prompt,
            tuple(self.pairs),
            tuple(self.objects),
            tuple(self.seconds),
            tuple(self.images),
            tuple(self.not_there) if self.absent else None,
            self.bad,
            tuple(self.bad_reasons),
        )


def labels(folder: str | os.PathLike[str] | LabelledFolder) -> list[ObjectResult]:
    """Every object of a folder with its true depth and no answer, to fit baselines on.

    Images whose depth map cannot be used are named in a warning and left out.

    Raises:
        BadDatasetError: The folder is at fault.
    """
    labelled = folder if isinstance(folder, LabelledFolder) else LabelledFolder(folder)
    found: list[ObjectResult] = []
    for i, record in enumerate(labelled):
        try:
            truths = record.relative_depths()
        except BadImageError as error:
            log.warning("image left out: %s", error)
            continue
        found += [
            ObjectResult(i, o.name, math.nan, math.nan, truth, o.box.y2 / record.height)
            for o, truth in zip(record.objects, truths, strict=True)
        ]
    return found


Asked = list[tuple[LabelledObject, ObjectQuery]]


def _asked(record: Record, prompt: str) -> Asked:
    """The objects that can be asked for, and how.

    By box, an object that shares its name with another one of the image is called by its ref, so that answers can be
    told apart.
    """
    if prompt == "name":
        return [(o, ObjectQuery(o.ref)) for o in record.objects if o.ref is not None]
    names = Counter(o.name for o in record.objects)
    return [
        (o, ObjectQuery(o.name if names[o.name] == 1 or o.ref is None else o.ref, o.box)) for o in record.objects
    ]  # fmt: skip


def _pairs(asked: Asked) -> Iterator[tuple[int, int]]:
    """Pairs of objects (indices) that differ enough in depth, in the order of the labels."""
    for i, j in itertools.combinations(range(len(asked)), 2):
        a, b = asked[i][0], asked[j][0]
        if a.ref is None or b.ref is None or a.depth_m is None or b.depth_m is None or asked[i][1] == asked[j][1]:
            continue
        if abs(a.depth_m - b.depth_m) >= MIN_GAP * max(a.depth_m, b.depth_m):
            yield i, j


def absent_names(record: Record, names: Sequence[str], count: int) -> list[str]:
    """Draw names that nothing in view can be called by.

    The seed is the image's own, so that neither the other images nor a limit change them.

    Args:
        record: The image.
        names: To draw from.
        count: Largest number of names.

    Returns:
        At most `count` names; none where the record does not list what is in view.
    """
    if record.visible_names is None:
        return []
    there = {*record.visible_names, *(o.name for o in record.objects)}
    free = [name for name in names if not any(_alike(name, other) for other in there)]
    return random.Random(record.image).sample(free, min(count, len(free)))


def _alike(a: str, b: str) -> bool:
    """Whether two names may mean the same thing: one is part of the other, or they share a word."""
    a, b = a.casefold(), b.casefold()
    return a in b or b in a or bool(set(re.findall(r"\w+", a)) & set(re.findall(r"\w+", b)))


def depths_of(encoded: EncodedImage, queries: Sequence[ObjectQuery]) -> list[ObjectDepth]:
    """The depths of any number of objects, MAX_OBJECTS a call."""
    found: list[ObjectDepth] = []
    for start in range(0, len(queries), MAX_OBJECTS):
        found += encoded.depths(list(queries[start : start + MAX_OBJECTS]))
    return found


def closer_answers(encoded: Any, pairs: list[tuple[ObjectQuery, ObjectQuery]]) -> list[ProximityAnswer]:
    """The answer to which is closer for every pair, in one call where the encoded image has `closer_many`."""
    if not pairs:
        return []
    if hasattr(encoded, "closer_many"):
        return list(encoded.closer_many(pairs))
    return [encoded.closer(a, b) for a, b in pairs]


def _directly(engine: Engine, encoded: Any, pairs: list[tuple[ObjectQuery, ObjectQuery]]) -> list[ProximityAnswer]:
    """`closer_answers` without perceived depths. NoDirectError where the encoded image cannot do it."""
    if not pairs:
        return []
    many = getattr(encoded, "closer_many", None)
    if many is None or "direct" not in inspect.signature(many).parameters:
        raise NoDirectError(
            f"{engine.model_name}: cannot be asked directly; expected an engine whose images have "
            "closer_many(direct=True)"
        )
    return list(many(pairs, direct=True))


def _object_results(
    index: int, record: Record, depths: Sequence[float], asked: Asked, found: Sequence[ObjectDepth]
) -> list[ObjectResult]:
    truths = dict(zip(map(id, record.objects), depths, strict=True))
    return [
        ObjectResult(index, query.name, d.depth, d.score, truths[id(o)], o.box.y2 / record.height, d.depth_stddev)
        for (o, query), d in zip(asked, found, strict=True)
    ]


def _pair_result(
    index: int,
    asked: Asked,
    found: Sequence[ObjectDepth],
    i: int,
    j: int,
    answer: ProximityAnswer,
    direct: ProximityAnswer | None,
) -> PairResult:
    first, second = asked[i][0], asked[j][0]
    assert first.depth_m is not None and second.depth_m is not None  # _pairs took only such
    near, far = (i, j) if first.depth_m < second.depth_m else (j, i)
    depths = (found[near].depth, found[far].depth)
    return PairResult(
        index,
        asked[near][1].name,
        asked[far][1].name,
        abs(first.depth_m - second.depth_m) / max(first.depth_m, second.depth_m),
        asked[near][0].box.xyxy,
        asked[far][0].box.xyxy,
        says_first(answer, asked[near][1], asked[far][1]),
        confidence_of(answer),
        in_order(*depths),
        None if direct is None else says_first(direct, asked[near][1], asked[far][1]),
    )


def says_first(answer: ProximityAnswer, near: ObjectQuery, far: ObjectQuery) -> bool:
    """Whether the answer calls `near` the closer one: by name, and by box where both have one name.

    Also where it calls one of them not seen: leaving such pairs out would reward silence.
    """
    if near.name != far.name:
        return (answer.closer or _first_name(answer)) == near.name
    return bool(answer.objects) and answer.objects[0].box == near.box


def confidence_of(answer: ProximityAnswer) -> float:
    """The probability of what `says_first` tells, in [0.5, 1]; NaN where the model gives none."""
    return answer.probability if math.isfinite(answer.probability) else answer.raw_probability


def _first_name(answer: ProximityAnswer) -> str:
    """The name that was put first although one of the two is not seen; "" where nothing was compared."""
    return answer.objects[0].name if math.isfinite(answer.raw_probability) and answer.objects else ""
