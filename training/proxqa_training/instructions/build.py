"""Turns of conversation about one labelled image, drawn at random from a seed.

Kinds of stage 1: perceive and absent (how far is X), ordered (the same, where only the distance is known: which of them
is farther), present (that it is there at all, where nothing is measured), several (how far are X, Y and Z, some of them
absent), where (name → box), what (box → name). Of stage 2, led by perceived depths: reason (which is closer, is A
closer than B), farther, nearest, sort, equal; direct is reason without the depths.

Promises: every turn is worded by `proxqa_core.language.templates` and is true of the labels. All turns of an image
branch off the same image prefix, so they are one conversation in which the image is paid for once. Knows nothing of
tokens, features or training.

Source: the two instruction sets of Proximity QA, arXiv 2401.17862, section 3.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from proxqa_core.language import templates
from proxqa_core.language.templates import BoxForm
from proxqa_core.types import Box
from proxqa_training.config_file import require_fraction

STAGE_1 = ("perceive", "present", "where", "absent", "what", "several")
"""Those of a recipe; ordered turns come with perceive."""
STAGE_2 = ("reason", "direct", "farther", "nearest", "sort", "equal")
IN_BOTH_FORMS = BoxForm()
ABSENT_AMONG_SEVERAL = 0.3
"""Share of the turns about several things in which one is absent."""
OTHER_WORDS = 0.25
"""Share of mentions by another word for the thing, where there is one."""
UNIT = 10_000
"""Boxes here are in [0, 1] of the image; templates want pixels, so an image of UNIT × UNIT is pretended."""


@dataclass(frozen=True)
class ImageObject:
    """One labelled object.

    Attributes:
        name: Its label.
        ref: Phrase that means it alone; None = ambiguous by name.
        box: In [0, 1] of the image.
        depth: Relative, in [0, 1]; None = not known.
        distance: Along the optical axis, in metres or another unit that is the same in all of the image; None = not
            measured, as is its depth then.
        synonyms: Other words for it, as good as its ref.
    """

    name: str
    ref: str | None
    box: Box
    depth: float | None
    distance: float | None
    synonyms: tuple[str, ...] = ()


@dataclass(frozen=True)
class Turn:
    """One question and its answer.

    Attributes:
        kind: Of `STAGE_1` or `STAGE_2`.
        question: As it is asked, with a region token for each box.
        boxes: Of the region tokens, in order, in [0, 1] of the image.
        lead: The part of the answer that is given, not learned.
        answer: The part that is learned.
        depth: The relative depth that `answer` says, if it says just one.
        distance: Of the one thing that is asked for, as of `ImageObject`; None = not known.
    """

    kind: str
    question: str
    boxes: tuple[Box, ...]
    lead: str
    answer: str
    depth: float | None = None
    distance: float | None = None


@dataclass(frozen=True)
class Recipe:
    """How many turns of each kind an image gets (fewer where its objects do not suffice), and how they are varied.

    Attributes:
        perceive: Turns of this kind; the eleven fields that follow likewise.
        depths_first_fraction: Share of the farther, nearest, sort and equal turns that are led by the perceived depths;
            the others are asked directly.
        paraphrase_fraction: Share of questions worded in another form than the one that the engine asks.
        max_listed: Most objects in a several, nearest or sort turn.
        box_fraction: Share of mentions with a box.
        box_jitter: Standard deviation of box edges, as share of the box's side.
        depth_noise: Standard deviation of the depths that lead a reasoning turn, so that stage 2 learns to live with
            stage 1's errors.
        min_gap: Least difference of distances of a pair, as share of the farther.

    Raises:
        ValueError: Quotes a value that is out of range.
    """

    perceive: int = 8
    present: int = 0
    where: int = 0
    absent: int = 1
    reason: int = 0
    direct: int = 0
    what: int = 0
    several: int = 0
    farther: int = 0
    nearest: int = 0
    sort: int = 0
    equal: int = 0
    depths_first_fraction: float = 1.0
    paraphrase_fraction: float = 0.0
    max_listed: int = 4
    box_fraction: float = 0.5
    box_jitter: float = 0.04
    depth_noise: float = 0.06
    min_gap: float = 0.08

    def __post_init__(self) -> None:
        for key in (*STAGE_1, *STAGE_2):
            if getattr(self, key) < 0:
                raise ValueError(f"{key} is {getattr(self, key)}; expected a count of 0 or more")
        require_fraction(self, "box_fraction", "depths_first_fraction", "paraphrase_fraction")
        if not 2 <= self.max_listed <= len(templates.LETTERS):
            raise ValueError(f"max_listed is {self.max_listed}; expected 2 to {len(templates.LETTERS)} objects")


Ground = Callable[[str], Box]
"""Where a grounding head finds a phrase: a box in [0, 1] of the image, right or wrong."""


def build_turns(
    objects: Sequence[ImageObject],
    names: Sequence[str],
    recipe: Recipe,
    rng: random.Random,
    form: BoxForm = IN_BOTH_FORMS,
    ground: Ground | None = None,
) -> list[Turn]:
    """Draw the turns of one image.

    Args:
        objects: What is labelled in it.
        names: From which absent ones are drawn, where they are not in the image.
        recipe: How many turns of which kind.
        rng: Draws them.
        form: How a box is mentioned.
        ground: As in the engine, things asked for by name are mentioned with the box where this finds them.

    Returns:
        The turns, stage 1 before stage 2.
    """
    sampler = _TurnSampler(objects, names, recipe, rng, form, ground)
    return [*sampler.perceiving(), *sampler.choosing(), *sampler.ordering()]


def not_among(names: Sequence[str], here: Iterable[str]) -> list[str]:
    """Those of the names that none of the phrases `here` may mean: neither is a word of the other."""
    return [n for n in names if not any(n == h or n in h.split() or h in n.split() for h in here)]


class _TurnSampler:
    """Draws the turns of one image."""

    def __init__(
        self,
        objects: Sequence[ImageObject],
        names: Sequence[str],
        recipe: Recipe,
        rng: random.Random,
        box_form: BoxForm,
        ground: Ground | None,
    ) -> None:
        self.everything, self.recipe, self.rng, self.box_form = objects, recipe, rng, box_form
        self.objects = [o for o in objects if o.depth is not None]
        self.ground = ground
        self.elsewhere = not_among(names, [text for o in objects for text in (o.name, o.ref) if text])

    # ---------------------------------------------------------------- stage 1
    def perceiving(self) -> list[Turn]:
        recipe, rng = self.recipe, self.rng
        turns: list[Turn] = []
        for thing in _some(self.objects, recipe.perceive, rng):
            mention, boxes = self._mention(thing)
            answer = templates.perceive_answer(thing.depth)
            question = templates.perceive_question(mention, self._form(templates.PERCEIVE_FORMS))
            turns.append(Turn("perceive", question, boxes, "", answer, thing.depth, thing.distance))
        ordered = [o for o in self.everything if o.depth is None and o.distance is not None]
        for thing in _some(ordered, recipe.perceive, rng):
            mention, boxes = self._mention(thing)
            question = templates.perceive_question(mention, self._form(templates.PERCEIVE_FORMS))
            turns.append(Turn("ordered", question, boxes, "", templates.DEPTH_LEAD, distance=thing.distance))
        unmeasured = [o for o in self.everything if o.distance is None]
        for thing in _some(unmeasured, recipe.present, rng):
            mention, boxes = self._mention(thing)
            question = templates.perceive_question(mention, self._form(templates.PERCEIVE_FORMS))
            turns.append(Turn("present", question, boxes, "", templates.DEPTH_LEAD))
        findable = [o for o in self.everything if o.ref is not None]
        for thing in rng.sample(findable, min(recipe.where, len(findable))):
            mention = templates.mention(thing.ref or "", None, self.box_form)
            question = templates.where_question(mention, self._form(templates.WHERE_FORMS))
            turns.append(Turn("where", question, (), "", templates.where_answer(_region(thing.box))))
        for name in rng.sample(self.elsewhere, min(recipe.absent, len(self.elsewhere))):
            mention, boxes = self._by_name(name)
            question = templates.perceive_question(mention, self._form(templates.PERCEIVE_FORMS))
            turns.append(Turn("absent", question, boxes, "", templates.perceive_answer(None)))
        return turns + [self._what(t) for t in _some(self.everything, recipe.what, rng)] + self._several()

    def _what(self, thing: ImageObject) -> Turn:
        box = jittered(thing.box, self.recipe.box_jitter, self.rng)
        question = templates.what_question(_region(box), self.box_form, self._form(templates.WHAT_FORMS))
        return Turn(
            "what", question, (box,) if self.box_form.region_token else (), "", templates.what_answer(thing.name)
        )

    def _several(self) -> list[Turn]:
        """Depths of two or more things at once; in some of the turns one of them is absent."""
        rng, turns = self.rng, []
        for _ in range(self.recipe.several if len(self.objects) > 1 else 0):
            things = rng.sample(list(self.objects), min(len(self.objects), rng.randint(2, self.recipe.max_listed)))
            asked: list[tuple[str, tuple[Box, ...], float | None]] = [(*self._mention(t), t.depth) for t in things]
            if self.elsewhere and rng.random() < ABSENT_AMONG_SEVERAL:
                asked[rng.randrange(len(asked))] = (*self._by_name(rng.choice(self.elsewhere)), None)
            question = templates.several_question([m for m, _, _ in asked], self._form(templates.SEVERAL_FORMS))
            boxes = tuple(b for _, bs, _ in asked for b in bs)
            turns.append(Turn("several", question, boxes, "", templates.several_answer([d for _, _, d in asked])))
        return turns

    # ---------------------------------------------------------------- stage 2
    def choosing(self) -> list[Turn]:
        """Questions about two things: closer, farther, about equally far."""
        recipe, rng = self.recipe, self.rng
        gaps = [(a, b, _gap(a, b)) for i, a in enumerate(self.objects) for b in self.objects[i + 1 :]]
        pairs = [(a, b) for a, b, gap in gaps if gap >= recipe.min_gap]
        turns: list[Turn] = []
        closer = templates.closer_question, templates.CLOSER_FORMS, templates.CHOICE_LEAD
        farther = templates.farther_question, templates.FARTHER_FORMS, templates.FARTHER_LEAD
        for kind, count in (("reason", recipe.reason), ("direct", recipe.direct)):
            for pair in rng.sample(pairs, min(count, len(pairs))):
                a, b = self._either_order(pair)
                answer = templates.choice(_metres(a) < _metres(b))
                turns.append(self._about_two(kind, a, b, *closer, kind == "reason", answer))
        for pair in rng.sample(pairs, min(recipe.farther, len(pairs))):
            a, b = self._either_order(pair)
            answer = templates.choice(_metres(a) > _metres(b))
            turns.append(self._about_two("farther", a, b, *farther, self._depths_first(), answer))
        return turns + self._equal(gaps)

    def _equal(self, gaps: Sequence[tuple[ImageObject, ImageObject, float]]) -> list[Turn]:
        """Half of them with "yes" where there are such pairs; a gap of min_gap to twice that is not asked about."""
        like = [(a, b) for a, b, gap in gaps if gap < self.recipe.min_gap]
        unlike = [(a, b) for a, b, gap in gaps if gap >= 2 * self.recipe.min_gap]
        equal = templates.equal_question, templates.EQUAL_FORMS, templates.EQUAL_LEAD
        turns: list[Turn] = []
        for _ in range(self.recipe.equal if like or unlike else 0):
            yes = bool(like) and (not unlike or self.rng.random() < 0.5)
            a, b = self._either_order(self.rng.choice(like if yes else unlike))
            turns.append(self._about_two("equal", a, b, *equal, self._depths_first(), templates.equal_answer(yes)))
        return turns

    def _about_two(
        self,
        kind: str,
        a: ImageObject,
        b: ImageObject,
        ask: Callable[[str, str, int], str],
        forms: Sequence[str],
        lead: str,
        depths_first: bool,
        answer: str,
    ) -> Turn:
        (mention_a, box_a), (mention_b, box_b) = self._mention(a), self._mention(b)
        given = self._lead((a, b), lead, depths_first)
        return Turn(kind, ask(mention_a, mention_b, self._form(forms)), box_a + box_b, given, answer)

    def ordering(self) -> list[Turn]:
        """Questions about two or more things, all at clearly different distances: nearest, sort."""
        turns = []
        for kind in ("nearest",) * self.recipe.nearest + ("sort",) * self.recipe.sort:
            things = self._well_apart(self.rng.randint(2, self.recipe.max_listed))
            if len(things) < 2:
                break
            asked = [self._mention(t) for t in things]
            mentions, boxes = [m for m, _ in asked], tuple(b for _, bs in asked for b in bs)
            order = sorted(range(len(things)), key=lambda i: _metres(things[i]))
            if kind == "nearest":
                question = templates.nearest_question(mentions, self._form(templates.NEAREST_FORMS))
                lead, answer = templates.NEAREST_LEAD, templates.letter_answer(order[0])
            else:
                question = templates.sort_question(mentions, self._form(templates.SORT_FORMS))
                lead, answer = templates.SORT_LEAD, templates.sort_answer(order)
            turns.append(Turn(kind, question, boxes, self._lead(things, lead, self._depths_first()), answer))
        return turns

    def _well_apart(self, count: int) -> list[ImageObject]:
        """Up to `count` objects in any order, every two of them at least min_gap apart."""
        chosen: list[ImageObject] = []
        for thing in self.rng.sample(list(self.objects), len(self.objects)):
            if len(chosen) < count and all(_gap(thing, c) >= self.recipe.min_gap for c in chosen):
                chosen.append(thing)
        return chosen

    # ---------------------------------------------------------------- shared
    def _mention(self, thing: ImageObject) -> tuple[str, tuple[Box, ...]]:
        """By name where the phrase means this object alone and chance says so, else by name and jittered box."""
        rng, recipe = self.rng, self.recipe
        ref = thing.ref
        if ref is not None and thing.synonyms and rng.random() < OTHER_WORDS:
            ref = rng.choice(thing.synonyms)
        if ref is not None and rng.random() >= recipe.box_fraction:
            return self._by_name(ref)
        name = ref if ref is not None and rng.random() < 0.3 else thing.name
        return self._by_box(name, jittered(thing.box, recipe.box_jitter, rng))

    def _by_name(self, phrase: str) -> tuple[str, tuple[Box, ...]]:
        """As the engine says it: with the box where it was found, where there is something that finds."""
        if self.ground is None:
            return templates.mention(phrase, None, self.box_form), ()
        return self._by_box(phrase, self.ground(phrase))

    def _by_box(self, name: str, box: Box) -> tuple[str, tuple[Box, ...]]:
        return templates.mention(name, _region(box), self.box_form), (box,) if self.box_form.region_token else ()

    def _form(self, forms: Sequence[str]) -> int:
        """0, the form that the engine asks, or by the recipe's share of paraphrases another."""
        varied = self.recipe.paraphrase_fraction > 0 and self.rng.random() < self.recipe.paraphrase_fraction
        return self.rng.randrange(1, len(forms)) if varied else 0

    def _depths_first(self) -> bool:
        return self.recipe.depths_first_fraction >= 1 or self.rng.random() < self.recipe.depths_first_fraction

    def _either_order(self, pair: tuple[ImageObject, ImageObject]) -> tuple[ImageObject, ImageObject]:
        return pair if self.rng.random() < 0.5 else (pair[1], pair[0])

    def _lead(self, things: Sequence[ImageObject], lead: str, depths_first: bool) -> str:
        """The perceived depths, as wrong as stage 1 may be, and what stands before the answer; or only that."""
        noisy = [min(1.0, max(0.0, (t.depth or 0.0) + self.rng.gauss(0, self.recipe.depth_noise))) for t in things]
        return templates.reason_lead(*noisy, lead=lead) if depths_first else lead


def _gap(a: ImageObject, b: ImageObject) -> float:
    """Difference of distances as share of the farther."""
    farther = max(_metres(a), _metres(b))
    return abs(_metres(a) - _metres(b)) / farther if farther else 0.0


def _metres(thing: ImageObject) -> float:
    """The distance of an object that is measured, as all are that are compared."""
    assert thing.distance is not None
    return thing.distance


def _some(objects: Sequence[ImageObject], count: int, rng: random.Random) -> list[ImageObject]:
    """`count` objects, each once before any twice: asked again, a thing is asked in another way."""
    chosen: list[ImageObject] = []
    while objects and len(chosen) < count:
        chosen += rng.sample(list(objects), min(len(objects), count - len(chosen)))
        if len(chosen) >= 2 * len(objects):
            break
    return chosen


def _region(box: Box) -> templates.Region:
    return templates.Region.of(Box(*(UNIT * v for v in box.xyxy)), UNIT, UNIT)


def jittered(box: Box, spread: float, rng: random.Random) -> Box:
    """A box in [0, 1] with its edges moved as an annotator or a detector would; at least 2 hundredths wide and high."""
    wide, high = box.x2 - box.x1, box.y2 - box.y1
    x1, x2 = (min(1.0, max(0.0, v + rng.gauss(0, spread) * wide)) for v in (box.x1, box.x2))
    y1, y2 = (min(1.0, max(0.0, v + rng.gauss(0, spread) * high)) for v in (box.y1, box.y2))
    x1, y1 = min(x1, 0.98), min(y1, 0.98)
    return Box(x1, y1, max(x2, x1 + 0.02), max(y2, y1 + 0.02))
