"""Turns of conversation about one labelled image, drawn at random from a seed.

Promises: every turn is worded by `proxqa_core.language.templates` and is true of the labels. All turns of an image
branch off the same image prefix, so they are one conversation in which the image is paid for once. Knows nothing of
tokens, features or training.

Source: the two instruction sets of Proximity QA, arXiv 2401.17862, section 3.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from proxqa_core.language import templates
from proxqa_core.types import Box

UNIT = 100
"""Boxes here are in [0, 1] of the image; templates want pixels, so an image of UNIT × UNIT is pretended."""


@dataclass(frozen=True)
class Labelled:
    """One labelled object. ref: phrase that means it alone, None = ambiguous by name. box: in [0, 1] of the image.

    depth: relative, in [0, 1]. distance: metres along the optical axis.
    """

    name: str
    ref: str | None
    box: Box
    depth: float
    distance: float


@dataclass(frozen=True)
class Turn:
    """One question and its answer. boxes: one per region token in the question. lead: the part of the answer that is
    given, not learned. depth: the relative depth that `answer` says, if it says one.
    """

    kind: str
    question: str
    boxes: tuple[Box, ...]
    lead: str
    answer: str
    depth: float | None = None


@dataclass(frozen=True)
class Recipe:
    """How many turns of each kind an image gets, and how they are varied.

    by_box: share of mentions said with a box. box_jitter: standard deviation of box edges, as share of the box's
    side. depth_noise: standard deviation of the depths said as lead of a reasoning turn, so that stage 2 learns to
    live with stage 1's errors. min_gap: least difference of distances of a pair, as share of the farther.
    """

    perceive: int = 8
    where: int = 0
    absent: int = 1
    reason: int = 0
    direct: int = 0
    by_box: float = 0.5
    box_jitter: float = 0.04
    depth_noise: float = 0.06
    min_gap: float = 0.08

    def __post_init__(self) -> None:
        for key in ("perceive", "where", "absent", "reason", "direct"):
            if getattr(self, key) < 0:
                raise ValueError(f"{key} is {getattr(self, key)}; expected a count of 0 or more")
        if not 0 <= self.by_box <= 1:
            raise ValueError(f"by_box is {self.by_box}; expected a share in [0, 1]")


def turns(
    objects: Sequence[Labelled], names: Sequence[str], recipe: Recipe, rng: random.Random, region_token: bool = True
) -> list[Turn]:
    """Draw the turns of one image. names: all names of the data set, from which absent ones are drawn."""
    said: list[Turn] = []
    for thing in _some(objects, recipe.perceive, rng):
        mention, boxes = _mention(thing, recipe, rng, region_token)
        answer = templates.perceive_answer(thing.depth)
        said.append(Turn("perceive", templates.perceive_question(mention), boxes, "", answer, thing.depth))
    findable = [o for o in objects if o.ref is not None]
    for thing in rng.sample(findable, min(recipe.where, len(findable))):
        question = templates.where_question(templates.mention(thing.ref or "", None, region_token))
        said.append(Turn("where", question, (), "", templates.where_answer(_region(thing.box))))
    here = {o.name for o in objects} | {o.ref for o in objects}
    elsewhere = [n for n in names if not any(n == h or (h and (n in h.split() or h in n.split())) for h in here)]
    for name in rng.sample(elsewhere, min(recipe.absent, len(elsewhere))):
        question = templates.perceive_question(templates.mention(name, None, region_token))
        said.append(Turn("absent", question, (), "", templates.perceive_answer(None)))
    pairs = [
        (a, b)
        for i, a in enumerate(objects)
        for b in objects[i + 1 :]
        if abs(a.distance - b.distance) >= recipe.min_gap * max(a.distance, b.distance)
    ]
    for kind, count in (("reason", recipe.reason), ("direct", recipe.direct)):
        for a, b in rng.sample(pairs, min(count, len(pairs))):
            first, second = (a, b) if rng.random() < 0.5 else (b, a)
            (said_a, box_a), (said_b, box_b) = (_mention(t, recipe, rng, region_token) for t in (first, second))
            noisy = [min(1.0, max(0.0, t.depth + rng.gauss(0, recipe.depth_noise))) for t in (first, second)]
            lead = templates.reason_lead(*noisy) if kind == "reason" else templates.CHOICE_LEAD
            answer = templates.choice(first.distance < second.distance)
            said.append(Turn(kind, templates.closer_question(said_a, said_b), box_a + box_b, lead, answer))
    return said


def _some(objects: Sequence[Labelled], count: int, rng: random.Random) -> list[Labelled]:
    """`count` objects, each once before any twice: asked again, a thing is asked in another way."""
    chosen: list[Labelled] = []
    while objects and len(chosen) < count:
        chosen += rng.sample(list(objects), min(len(objects), count - len(chosen)))
        if len(chosen) >= 2 * len(objects):
            break
    return chosen


def _mention(thing: Labelled, recipe: Recipe, rng: random.Random, region_token: bool) -> tuple[str, tuple[Box, ...]]:
    """By name where the phrase means this object alone and chance says so, else by name and jittered box."""
    if thing.ref is not None and rng.random() >= recipe.by_box:
        return templates.mention(thing.ref, None, region_token), ()
    box = jittered(thing.box, recipe.box_jitter, rng)
    region = _region(box)
    name = thing.ref if thing.ref is not None and rng.random() < 0.3 else thing.name
    return templates.mention(name, region, region_token), (box,) if region_token else ()


def _region(box: Box) -> templates.Region:
    return templates.Region.of(Box(*(UNIT * v for v in box.xyxy)), UNIT, UNIT)


def jittered(box: Box, spread: float, rng: random.Random) -> Box:
    """A box in [0, 1] with its edges moved as an annotator or a detector would; at least 2 hundredths wide and high."""
    wide, high = box.x2 - box.x1, box.y2 - box.y1
    x1, x2 = (min(1.0, max(0.0, v + rng.gauss(0, spread) * wide)) for v in (box.x1, box.x2))
    y1, y2 = (min(1.0, max(0.0, v + rng.gauss(0, spread) * high)) for v in (box.y1, box.y2))
    x1, y1 = min(x1, 0.98), min(y1, 0.98)
    return Box(x1, y1, max(x2, x1 + 0.02), max(y2, y1 + 0.02))
