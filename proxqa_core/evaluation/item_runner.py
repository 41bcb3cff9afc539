"""Ask a model everything that a benchmark's items ask.

Promises: as in `runner`: through the engine's public API only, all depths of an image in one call and all its pairs in
one; nothing of the items but names and (prompt "box") boxes, or the boxes around points, reaches the model. An item
that cannot be asked counts as wrong and is counted apart. Knows nothing of where items come from.
"""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from proxqa_core.datasets.benchmarks import POINT_NAME, HowDeep, Item, WhichCloser
from proxqa_core.datasets.folder import BadDatasetError
from proxqa_core.errors import BadImageError
from proxqa_core.evaluation.metrics import (
    GAPS,
    Measurements,
    ObjectResult,
    PairResult,
    in_gap,
    in_order,
    rule_accuracy,
    spearman,
    summary,
    within_factors,
)
from proxqa_core.evaluation.runner import MAX_REASONS, closer_answers, confidence_of, depths_of, says_first
from proxqa_core.protocols import Engine
from proxqa_core.types import Box, ObjectDepth, ObjectQuery

log = logging.getLogger(__name__)
_BAR = "{desc}: {n_fmt} of {total_fmt} items{postfix}"
UNKNOWN = (math.nan,) * 4
NO_PLACES = "places that are not known"
"""Why pairs of points or boxes are not asked for that the file gives no coordinates of."""


@dataclass
class ItemRun:
    """What a model answered to items.

    Attributes:
        pairs, objects, seconds, images: See `metrics.Measurements`.
        areas: Of the box of each object, as a share of its image.
        not_asked: Items that could not be asked, which count as wrong, by reason.
        bad, bad_reasons: Images that cannot be used, and why.
    """

    pairs: list[PairResult] = field(default_factory=list)
    objects: list[ObjectResult] = field(default_factory=list)
    areas: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    not_asked: dict[str, int] = field(default_factory=dict)
    bad: int = 0
    bad_reasons: list[str] = field(default_factory=list)


def run_items(engine: Engine, items: Sequence[Item], prompt: str, progress: bool = False) -> ItemRun:
    """All answers of a model to items.

    Args:
        engine: The engine to ask.
        items: Those of one image follow one another.
        prompt: "name" asks by name alone, "box" by name and box, or the box around a point.
        progress: Show on stderr how far it is.

    Raises:
        BadImageError: No image can be used; one of many that is missing or damaged is counted.
        BadDatasetError: No item could be asked.
    """
    run = ItemRun()
    with tqdm(total=len(items), disable=not progress, desc="benchmark", bar_format=_BAR) as bar:
        for group in by_image(items):
            try:
                _ask(engine, group, prompt, run)
            except BadImageError as error:
                log.warning("image left out: %s", error)
                run.bad += 1
                run.bad_reasons += [str(error)][: MAX_REASONS - len(run.bad_reasons)]
            bar.update(len(group))
    if run.bad and not run.images:
        raise BadImageError(f"none of {run.bad} images can be used, the first: {run.bad_reasons[0]}")
    if not run.seconds:
        expected = "; expected a file of points, as --points takes it" if NO_PLACES in run.not_asked else ""
        raise BadDatasetError(f"no item could be asked: {', '.join(run.not_asked)}{expected}")
    return run


def by_image(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Items in groups of one image, in order."""
    for _, group in itertools.groupby(items, key=lambda item: item.image):
        yield list(group)


def _ask(engine: Engine, group: Sequence[Item], prompt: str, run: ItemRun) -> None:
    """Ask everything about one image."""
    image = group[0].load_image()
    height, width = image.shape[:2]
    index = len(run.images)
    run.images.append(group[0].item_id)
    # 1. how each thing is asked for
    pairs = [i for i in group if isinstance(i, WhichCloser) and i.answer is not None]
    queries = [_queries(i, prompt, width, height) for i in pairs]
    asked = [(i, two) for i, two in zip(pairs, queries, strict=True) if two is not None and two[0] != two[1]]
    single = [i for i in group if isinstance(i, HowDeep)]
    alone = [ObjectQuery(i.name, i.box if prompt == "box" else None) for i in single]
    # 2. what is timed: the image, all depths, all pairs
    if asked or alone:
        started = time.perf_counter()
        encoded = engine.encode_image(image)
        both = [two for _, two in asked]
        wanted = list(dict.fromkeys([*alone, *itertools.chain.from_iterable(both)]))
        depth = dict(zip(wanted, depths_of(encoded, wanted), strict=True))
        answers = closer_answers(encoded, both)
        run.seconds.append(time.perf_counter() - started)
        _add_pairs(run, index, image, asked, answers, depth)
        _add_objects(run, index, image, single, alone, depth)
    # 3. what could not be asked
    for item, two in zip(pairs, queries, strict=True):
        if two is None or two[0] == two[1]:
            reason = NO_PLACES if two is None else "things at one place"
            run.not_asked[reason] = run.not_asked.get(reason, 0) + 1
            run.pairs.append(_wrong(index, item, width, height))


def _queries(item: WhichCloser, prompt: str, width: int, height: int) -> tuple[ObjectQuery, ObjectQuery] | None:
    """How the two things of a pair are asked for, A first; None where there is no way."""
    named = all(item.names)
    boxes = item.regions(width, height) if prompt == "box" or not named else None
    if boxes is None:
        return (ObjectQuery(item.names[0]), ObjectQuery(item.names[1])) if named else None
    a, b = item.names if named else (POINT_NAME, POINT_NAME)
    return ObjectQuery(a, boxes[0]), ObjectQuery(b, boxes[1])


def _add_pairs(
    run: ItemRun,
    index: int,
    image: NDArray[np.uint8],
    asked: Sequence[tuple[WhichCloser, tuple[ObjectQuery, ObjectQuery]]],
    answers: Sequence[Any],
    depth: dict[ObjectQuery, ObjectDepth],
) -> None:
    height, width = image.shape[:2]
    for (item, (a, b)), answer in zip(asked, answers, strict=True):
        near, far = (a, b) if item.answer == "A" else (b, a)
        boxes = _near_far_boxes(item, width, height)
        run.pairs.append(
            PairResult(
                index,
                near.name,
                far.name,
                item.gap,
                *boxes,
                says_first(answer, near, far),
                confidence_of(answer),
                in_order(depth[near].depth, depth[far].depth),
            )
        )


def _add_objects(
    run: ItemRun,
    index: int,
    image: NDArray[np.uint8],
    items: Sequence[HowDeep],
    queries: Sequence[ObjectQuery],
    depth: dict[ObjectQuery, ObjectDepth],
) -> None:
    height, width = image.shape[:2]
    for item, query in zip(items, queries, strict=True):
        d = depth[query]
        edge = item.box.y2 / height
        run.objects.append(ObjectResult(index, item.name, d.depth, d.score, item.depth, edge, d.depth_stddev))
        run.areas.append(item.box.area / (width * height))


def _wrong(index: int, item: WhichCloser, width: int, height: int) -> PairResult:
    boxes = _near_far_boxes(item, width, height)
    names = item.names if item.answer == "A" else item.names[::-1]
    return PairResult(index, *names, item.gap, *boxes, False, math.nan, 0.0)


def _near_far_boxes(item: WhichCloser, width: int, height: int) -> tuple[Any, Any]:
    """Where the closer and the other thing are, xyxy in pixels, NaN where it is not known."""
    regions: tuple[Box, Box] | None = item.regions(width, height)
    if regions is None:
        return UNKNOWN, UNKNOWN
    near, far = regions if item.answer == "A" else regions[::-1]
    return near.xyxy, far.xyxy


def benchmark_report(run: ItemRun, model: str, prompt: str, description: dict[str, Any]) -> dict[str, Any]:
    """The report on a benchmark: `metrics.summary`, δ, the rules' rank correlations, and what was asked.

    Args:
        run: The answers.
        model: The model's name.
        prompt: As for `run_items`.
        description: Of the benchmark; the report's key `benchmark`.
    """
    measured = measurements_of(run, model, prompt)
    report = summary(measured)
    truth = np.array([o.truth for o in run.objects], dtype=np.float64)
    depth = np.array([o.depth for o in run.objects], dtype=np.float64)
    edges = np.array([o.lower_edge for o in run.objects], dtype=np.float64)
    report["delta"] = within_factors(depth, truth)
    rules = {gap: rule_accuracy(in_gap(run.pairs, gap)) for gap in GAPS}
    report["baselines"] |= {
        "lower_edge_by_gap": {gap: of["lower_edge"] for gap, of in rules.items()},
        "larger_box_by_gap": {gap: of["larger_box"] for gap, of in rules.items()},
        "lower_edge_spearman": spearman(-edges, truth),
        "larger_box_spearman": spearman(-np.array(run.areas, dtype=np.float64), truth),
    }
    report["not_asked"] = dict(run.not_asked)
    report["benchmark"] = description
    report["notes"] |= _notes(description)
    return report


def measurements_of(run: ItemRun, model: str, prompt: str) -> Measurements:
    """A run as `metrics.summary` takes it."""
    return Measurements(
        model,
        prompt,
        tuple(run.pairs),
        tuple(run.objects),
        tuple(run.seconds),
        tuple(run.images),
        bad=run.bad,
        bad_reasons=tuple(run.bad_reasons),
    )


@dataclass(frozen=True)
class ItemPicture:
    """The image of a group of items, for pages: named as `ItemRun.images` names it."""

    item: Item

    @property
    def image(self) -> str:
        """What the run calls it."""
        return self.item.item_id

    def load_image(self) -> NDArray[np.uint8]:
        """See `WhichCloser.load_image`."""
        return self.item.load_image()


def pictures_of(items: Sequence[Item]) -> list[ItemPicture]:
    """The images of items as `html.render` wants them."""
    return [ItemPicture(group[0]) for group in by_image(items)]


def _notes(description: dict[str, Any]) -> dict[str, str]:
    return {
        "delta": "share of depths within a factor of 1.25, 1.25² and 1.25³ of the truth, both at least 0.01",
        "pair_accuracy_by_gap": f"gap: {description.get('gap', 'not known here')}",
        "not_asked": "items that this model cannot be asked: they count as wrong",
        "larger_box_spearman": "rank correlation of the true depths with the rule 'larger box is closer'",
        "lower_edge_spearman": "rank correlation of the true depths with the rule 'lower edge is closer'",
    }
