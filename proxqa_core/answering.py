"""From a question to its answer, given something that perceives depths and compares objects.

Promises: every kind of question gets a sentence, or one line that says why not; what is not seen is not compared; what
is called nearest, and every order, is as "which is closer" tells of two. Knows nothing of images or of models.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from proxqa_core.errors import BadObjectError, NotUnderstoodError
from proxqa_core.language import sentences, templates
from proxqa_core.language.questions import Question, understand
from proxqa_core.language.referring import related_to
from proxqa_core.language.short_answers import shortened
from proxqa_core.protocols import ObjectLike
from proxqa_core.ranking import EVEN
from proxqa_core.types import MAX_OBJECTS, VISIBLE, ObjectDepth, ObjectQuery, ProximityAnswer, QuestionKind

OVER_ALL = (QuestionKind.NEAREST, QuestionKind.FARTHEST, QuestionKind.SORT)
"""Kinds of questions that may be about whatever is in view."""


@dataclass(frozen=True)
class Familiar:
    """What was found where nothing is named.

    Attributes:
        names: How many names were looked for.
        things: What is likely in view, each with its box.
    """

    names: int
    things: tuple[ObjectQuery, ...]


class Perceiver(Protocol):
    """What answers are made from."""

    def depths(self, objects: Sequence[ObjectQuery]) -> tuple[ObjectDepth, ...]:
        """Relative depth of every object, in the order asked."""
        ...

    def closer(self, a: ObjectQuery, b: ObjectQuery) -> ProximityAnswer:
        """Which of two objects is closer."""
        ...

    def ranking(self, objects: Sequence[ObjectQuery], found: bool = False) -> list[int]:
        """Numbers of objects, the nearest first as `closer` tells; what is not seen last.

        found: Their boxes were found by their names, not given.
        """
        ...

    def instances(self, name: str) -> list[ObjectQuery]:
        """Everything in view that a name may mean, each with its box; empty where that is not known."""
        ...

    def familiar(self) -> Familiar | None:
        """What is in view of all that it was taught to find; None where that is not known."""
        ...


def as_query(thing: ObjectLike) -> ObjectQuery:
    """A bare name as a query; BadObjectError where it cannot be used."""
    return thing if isinstance(thing, ObjectQuery) else ObjectQuery(thing)


def as_queries(objects: Sequence[ObjectLike]) -> list[ObjectQuery]:
    """The objects of one request.

    Args:
        objects: Names or queries.

    Returns:
        Queries, in the same order.

    Raises:
        BadObjectError: There are none, more than MAX_OBJECTS, or one that cannot be used.
    """
    if isinstance(objects, str):
        raise BadObjectError(f"objects is the text {objects!r}; expected a list of names")
    if not objects:
        raise BadObjectError("no objects were named; expected at least one name")
    if len(objects) > MAX_OBJECTS:
        raise BadObjectError(f"{len(objects)} objects are too many for one request; at most {MAX_OBJECTS}")
    return [as_query(o) for o in objects]


class Ranker(Protocol):
    """What depths in order are made from; every Perceiver is one, and every encoded image."""

    def depths(self, objects: Sequence[ObjectQuery]) -> tuple[ObjectDepth, ...]:
        """See Perceiver."""
        ...

    def ranking(self, objects: Sequence[ObjectQuery]) -> list[int]:
        """See Perceiver."""
        ...


def as_found(thing: ObjectDepth) -> ObjectDepth:
    """What was read in a box that had been found by a name, as if it had been asked for by that name."""
    return replace(thing, box=None, found_at=thing.box) if thing.box is not None else thing


def nearest_first(ranker: Ranker, objects: Sequence[ObjectQuery]) -> tuple[ObjectDepth, ...]:
    """Objects with their depths, the nearest first; what is not seen last."""
    found = ranker.depths(objects)
    return tuple(found[i] for i in ranker.ranking(objects))


def depths_answer(ranker: Ranker, objects: Sequence[ObjectQuery]) -> ProximityAnswer:
    """The answer to a request that has objects and no question."""
    found = nearest_first(ranker, objects)
    return ProximityAnswer("", QuestionKind.DEPTH, sentences.say_depths(found), found)


def answer(
    perceiver: Perceiver,
    question: Question,
    known: Sequence[ObjectQuery] = (),
    generate: Callable[[str], str] | None = None,
) -> ProximityAnswer:
    """Answer a question that was understood.

    Args:
        perceiver: Looks at the image.
        question: What is asked.
        known: Objects that lend their boxes to names in the question, and are what 'nearest' ranges over.
        generate: The model's own answer to a question that is not about proximity; None = it was not taught any.

    Returns:
        The answer, with the question as it was asked.

    Raises:
        NotUnderstoodError: The question names no object, or is one that this model cannot answer.
        BadObjectError: Several known objects have a name that the question uses.
    """
    found = _in_metres(_answered(perceiver, question, known, generate), question)
    return shortened(_with_choices(perceiver, found) if question.names or known else found, question)


def _with_choices(perceiver: Perceiver, answer: ProximityAnswer) -> ProximityAnswer:
    """The same answer; where one of several things that a name may mean was taken, it is said which.

    Names that were not asked for have their place in them where there are several.
    """
    said = []
    for o in answer.objects:
        if o.box is not None or o.found_at is None or not o.is_answered:
            continue
        boxes = [q.box for q in perceiver.instances(o.name) if q.box is not None]
        if o.found_at in boxes and len(boxes) > 1:
            said.append(sentences.say_choice(o.name, boxes.index(o.found_at), boxes))
    return replace(answer, answer=" ".join([answer.answer, *said])) if said else answer


def _in_metres(answer: ProximityAnswer, question: Question) -> ProximityAnswer:
    """The same answer; that metres are not known is said where they are asked for."""
    seen = [o for o in answer.objects if o.is_answered]
    if not question.metres or not seen or all(math.isfinite(o.distance) for o in seen):
        return answer
    return replace(answer, answer=f"{answer.answer} {sentences.METRES_UNKNOWN}")


def is_over_all(text: str) -> bool:
    """Whether a question is about whatever is in view, such as "what is nearest?"; False where it is not understood."""
    try:
        question = understand(text)
    except NotUnderstoodError:
        return False
    return not question.names and question.kind in OVER_ALL


def check_question(
    text: str, known: Sequence[ObjectQuery] = (), general: bool = True, familiar: bool = True
) -> Question:
    """Understand a question and tell what no image can answer, before anything is loaded.

    Args:
        text: The question.
        known: As of `answer`.
        general: Whether the model may have been taught other questions than those about proximity.
        familiar: Whether it may say what it was taught to find, which "what is nearest?" is about where nothing is
            named.

    Returns:
        The question.

    Raises:
        NotUnderstoodError: It is not understood, names nothing, or is none that this model can answer.
        BadObjectError: Several known objects have a name that the question uses.
    """
    question = understand(text, [q.name for q in known])
    if question.kind is QuestionKind.GENERAL and not general:
        raise _not_taught(question)
    if not is_of_one_kind(question):
        for name in question.names:
            _pick(name, known)
    over_all = familiar and question.kind in OVER_ALL
    if not (question.names or known or over_all or question.kind is QuestionKind.GENERAL):
        raise _names_nothing(question)
    return question


def _not_taught(question: Question) -> NotUnderstoodError:
    return NotUnderstoodError(
        f"question {question.asked[:60]!r} is not about proximity, the only thing this model was taught; "
        "ask for example 'how far is the chair?' or 'which is closer, the chair or the table?'"
    )


def _names_nothing(question: Question) -> NotUnderstoodError:
    why = " (this model does not say which names it was taught)" if question.kind in OVER_ALL else ""
    return NotUnderstoodError(
        f"question {question.asked[:60]!r} names no object; expected names in the question or a list of objects{why}"
    )


def _answered(
    perceiver: Perceiver, question: Question, known: Sequence[ObjectQuery], generate: Callable[[str], str] | None
) -> ProximityAnswer:
    """The answer as a sentence."""
    if is_of_one_kind(question):
        return _kind_answer(perceiver, question, known)
    named = [_pick(name, known) for name in question.names]
    if question.kind in (QuestionKind.CLOSER, QuestionKind.FARTHER):
        return _reworded(perceiver.closer(named[0], named[1]), question)
    if question.kind is QuestionKind.GENERAL:
        return _general_answer(question, generate)
    targets = named or list(known)
    if not targets:
        return _familiar_answer(perceiver, question)
    found = nearest_first(perceiver, targets)
    if question.kind is QuestionKind.EQUAL:
        return _equal_answer(perceiver, question, found)
    if question.kind is QuestionKind.VISIBLE:
        return ProximityAnswer(question.asked, question.kind, sentences.say_visible(found[0]), found)
    answer = _depth_answer(question, found)
    return _confirmed(perceiver, answer, question) if question.yes_no else answer


@dataclass(frozen=True)
class Needs:
    """What must be perceived to answer a question.

    Attributes:
        objects: Whose depths.
        compared: The two that are compared; () = none.
        ends_compared: The nearest and the farthest of the objects are compared.
    """

    objects: tuple[ObjectQuery, ...] = ()
    compared: tuple[ObjectQuery, ...] = ()
    ends_compared: bool = False


def needs(question: Question, known: Sequence[ObjectQuery] = ()) -> Needs:
    """What `answer` will ask its perceiver for. Arguments and errors are those of `answer`."""
    if question.kind is QuestionKind.GENERAL or is_of_one_kind(question):
        return Needs()
    named = tuple(_pick(name, known) for name in question.names)
    if question.kind in (QuestionKind.CLOSER, QuestionKind.FARTHER):
        return Needs(named[:2], named[:2])
    wanted = needs_of_depths(named or known)
    return replace(wanted, ends_compared=question.kind is QuestionKind.EQUAL)


def needs_of_depths(objects: Sequence[ObjectQuery]) -> Needs:
    """What `nearest_first` will ask for: two objects are put in order by comparing them."""
    each = tuple(objects)
    return Needs(each, each if len(each) == 2 else ())


def ends(found: Sequence[ObjectDepth]) -> tuple[ObjectQuery, ObjectQuery]:
    """The nearest and the farthest of some objects, nearest first, as they were asked for."""
    near, far = found[0], found[-1]
    return ObjectQuery(near.name, near.box), ObjectQuery(far.name, far.box)


def closer_answer(pair: tuple[ObjectDepth, ObjectDepth], first: float) -> ProximityAnswer:
    """Which of two objects is closer, as a sentence; nothing is compared with what is not seen.

    Args:
        pair: The objects with their depths.
        first: Probability in [0, 1] that the first of them is the closer one.

    Returns:
        The answer, the closer object first.
    """
    near, far = pair if first >= 0.5 else (pair[1], pair[0])
    probability = max(first, 1 - first)
    question = f"which is closer, the {pair[0].name} or the {pair[1].name}?"
    compared = ProximityAnswer(
        question, QuestionKind.CLOSER, sentences.say_depths(pair), (near, far), raw_probability=probability
    )
    if not all(o.is_answered for o in pair):
        return compared
    text = " ".join([sentences.say_closer(near, far, probability), *sentences.say_doubts(pair)])
    return replace(compared, answer=text, closer=near.name, farther=far.name, probability=probability)


def _pick(name: str, known: Sequence[ObjectQuery]) -> ObjectQuery:
    """The known object of that name, with its box, else the name alone."""
    same = [q for q in known if q.name.casefold() == name.casefold()]
    if len(same) > 1:
        raise BadObjectError(f"{len(same)} objects are named {name!r}; expected names that differ: 'left {name}'")
    if same:
        return same[0]
    if other := related_to(name):
        raise NotUnderstoodError(
            f"{name!r} is an object in relation to another ({other!r}), which this model cannot resolve; "
            f"give an object named {name!r} with a box"
        )
    return ObjectQuery(name)


def _reworded(closer: ProximityAnswer, question: Question) -> ProximityAnswer:
    """The same answer to the question as it was asked, with a yes or no first where it wants one."""
    text = closer.answer
    if question.yes_no and all(o.is_answered for o in closer.objects):
        first = question.names[0].casefold()
        claimed = closer.closer if question.kind is QuestionKind.CLOSER else closer.farther
        text = sentences.say_yes_or_no(claimed.casefold() == first, closer.probability, text)
    return replace(closer, question=question.asked, kind=question.kind, answer=text)


def _confirmed(perceiver: Perceiver, answer: ProximityAnswer, question: Question) -> ProximityAnswer:
    """The same answer with a yes or no first to whether the first name is the nearest (farthest) of several.

    It is as sure as that it is nearer than the next, or that the nearest is nearer than it.
    """
    if not all(o.is_answered for o in answer.objects):
        return answer
    order = answer.objects if question.kind is QuestionKind.NEAREST else answer.objects[::-1]
    claimed = next(o for o in order if o.name.casefold() == question.names[0].casefold())
    holds = claimed is order[0]
    pair = sorted((claimed, order[1] if holds else order[0]), key=answer.objects.index)
    closer = perceiver.closer(*ends(pair))
    probability = closer.probability if closer.objects[0] == pair[0] else EVEN  # in a circle, or by stage 2
    return replace(answer, answer=sentences.say_yes_or_no(holds, probability, answer.answer))


def _depth_answer(question: Question, found: Sequence[ObjectDepth]) -> ProximityAnswer:
    """Depth, nearest, farthest or sort. found: nearest first, what is not seen at the end."""
    seen = [o for o in found if o.is_answered]
    near, far = (seen[0].name, seen[-1].name) if len(seen) > 1 else ("", "")
    text = sentences.say_depths(found)
    if question.kind is QuestionKind.FARTHEST and seen:
        text = f"The farthest is the {seen[-1].name}. {text}"
    return ProximityAnswer(question.asked, question.kind, text, tuple(found), near, far)


def is_of_one_kind(question: Question) -> bool:
    """Whether it asks for the nearest or farthest of those that one name means: "which chair is closer?"."""
    return question.kind in (QuestionKind.NEAREST, QuestionKind.FARTHEST) and len(question.names) == 1


def _kind_answer(perceiver: Perceiver, question: Question, known: Sequence[ObjectQuery]) -> ProximityAnswer:
    """Which of several of a kind: of those given with boxes, else of those that are found."""
    name = question.names[0]
    given = [q for q in known if q.name.casefold() == name.casefold()]
    if len(given) < 2:
        given, found = [], perceiver.instances(name) if not given or given[0].box is None else given
    else:
        found = given
    if len(found) < 2:
        single = _depth_answer(question, perceiver.depths([_pick(name, known)]))
        return replace(single, answer=f"{single.answer} {sentences.say_only_one(name)}") if _seen(single) else single
    boxes = [q.box for q in found if q.box is not None]
    labels = sentences.place_labels(name, boxes) if len(boxes) == len(found) else [q.name for q in found]
    read = [
        replace(o if given else as_found(o), name=label)
        for o, label in zip(perceiver.depths(found), labels, strict=True)
    ]
    return _depth_answer(question, [read[i] for i in perceiver.ranking(found, found=not given)])


def _familiar_answer(perceiver: Perceiver, question: Question) -> ProximityAnswer:
    """Nearest, farthest or sort of whatever is in view; says what was looked for."""
    familiar = perceiver.familiar() if question.kind in OVER_ALL else None
    if familiar is None:
        raise _names_nothing(question)
    labelled = _with_places(familiar.things)
    things = [thing for thing, _ in labelled]
    read = perceiver.depths(things) if things else ()
    seen = [
        replace(as_found(read[i]), name=labelled[i][1])
        for i in (perceiver.ranking(things, found=True) if things else ())
        if read[i].score >= VISIBLE and math.isfinite(read[i].depth)
    ]
    if not seen:
        return ProximityAnswer(question.asked, question.kind, sentences.say_nothing_familiar(familiar.names))
    found = _depth_answer(question, seen)
    return replace(found, answer=f"{found.answer} {sentences.say_familiar(familiar.names)}")


def _with_places(things: Sequence[ObjectQuery]) -> list[tuple[ObjectQuery, str]]:
    """Things with what to call each: where there are several of a name, where it is is said."""
    labelled = []
    for name in dict.fromkeys(thing.name for thing in things):
        alike = [thing for thing in things if thing.name == name]
        labels = sentences.place_labels(name, [t.box for t in alike if t.box is not None])
        labelled += list(zip(alike, labels, strict=True))
    return labelled


def _seen(answer: ProximityAnswer) -> bool:
    return any(o.is_answered for o in answer.objects)


def _equal_answer(perceiver: Perceiver, question: Question, found: Sequence[ObjectDepth]) -> ProximityAnswer:
    """Whether all of some objects, nearest first, are about equally far: the two ends are compared."""
    near, far = found[0], found[-1]
    closer = perceiver.closer(*ends(found))
    if not all(o.is_answered for o in found):
        objects = closer.objects if len(found) == 2 else tuple(found)
        text = sentences.say_depths(found)
        return replace(closer, question=question.asked, kind=question.kind, answer=text, objects=objects)
    if closer.objects[0] != near:  # the order is a circle, or stage 2 tells another: the ends are no more certain
        closer = closer_answer((near, far), EVEN)
    text = " ".join([sentences.say_equal(found, near, far, closer.probability), *sentences.say_doubts(found)])
    return replace(closer, question=question.asked, kind=question.kind, answer=text, objects=tuple(found))


def _general_answer(question: Question, generate: Callable[[str], str] | None) -> ProximityAnswer:
    """The model's own words, where it was taught to use them."""
    if generate is None:
        raise _not_taught(question)
    text = generate(templates.plain(question.asked))
    if not text:
        raise NotUnderstoodError(f"the model has no answer to {question.asked[:60]!r}")
    return ProximityAnswer(question.asked, QuestionKind.GENERAL, text)
