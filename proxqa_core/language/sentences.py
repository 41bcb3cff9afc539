"""Answers as sentences for people.

Promises: metres appear only where a distance is calibrated (not NaN), and a relative depth is never without the words
that it is none; an object that is not visible is reported as such instead of being given a number, but one that was
given with a box is answered, with the doubt about its name beside it. Knows nothing of models or of how questions are
understood.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from proxqa_core.types import VISIBLE, Box, ObjectDepth

SURE = 0.6
"""Below this probability it is undecided which of two objects is closer."""
SCALE = "relative depth: 0 nearest, 1 farthest; not metres"
"""What the numbers of relative depth are, said in every sentence that has one."""
METRES_UNKNOWN = "Metres are not known: nothing that measures distances has been learned from."
MORE_THAN_DEPTHS = "The order is told by more than these depths."
"""Said where things are not in the order of their depths."""
_ARTICLES = ("the ", "a ", "an ", "my ", "your ", "our ", "this ", "that ")


def say_depths(objects: Sequence[ObjectDepth]) -> str:
    """How far some objects are, nearest first, what the numbers are, and where the order is not theirs.

    "The chair is nearest, at 0.21 ± 0.05 of the view's depth; the table 0.60 ± 0.08 (relative depth: 0
    nearest, 1 farthest; not metres)."

    Args:
        objects: The objects, nearest first. Those that are not seen come last: "I see no lamp.".

    Returns:
        One or several sentences.
    """
    if not objects:
        return "There is no object to speak of."
    seen = [o for o in objects if o.is_answered]
    unknown = [o for o in objects if o.score >= VISIBLE and not o.is_answered]
    unseen = [o for o in objects if not o.score >= VISIBLE and not o.is_answered]
    sentences = []
    if seen:
        lead = "is at" if len(seen) == 1 else "is nearest, at"
        first = f"{_capital(_the(seen[0].name))} {lead} {_how_far(seen[0])}{_of_the_view(seen)}"
        sentences.append("; ".join([first, *(f"{_the(o.name)} {_how_far(o)}" for o in seen[1:])]) + f" ({SCALE}).")
        sentences += [MORE_THAN_DEPTHS] if _is_out_of_order(seen) else []
        sentences += say_doubts(seen)
    if unknown:
        sentences.append(f"I cannot tell how far {_and([_the(o.name) for o in unknown])} {_is(unknown)}.")
    if unseen:
        sentences.append(f"I see no {_and([_bare(o.name) for o in unseen], 'or')}.")
    return " ".join(sentences)


def _is_out_of_order(seen: Sequence[ObjectDepth]) -> bool:
    """Whether the depths, as they are said, are not in order."""
    said = [round(o.depth, 2) for o in seen]
    return said != sorted(said)


def say_doubts(objects: Sequence[ObjectDepth]) -> list[str]:
    """A sentence for every object whose given box does not look like its name; none for the others."""
    return [
        f"What is in the box given for {_the(o.name)} may be something else ({_percent(o.score)} that it is one)."
        for o in objects
        if o.is_doubted
    ]


def say_visible(thing: ObjectDepth) -> str:
    """Whether an object is in view: "Yes. I see a chair (93 %). The chair is at …" or "No. I see no chair.".

    One that was given with a box and does not look like its name is neither: "Hard to say. …".
    """
    depth = say_depths([thing])
    if thing.is_doubted:
        return f"Hard to say. {depth}"
    if not thing.score >= VISIBLE:
        return f"No. {depth}"
    return f"Yes. I see {_a(thing.name)} ({_percent(thing.score)}). {depth}"


def say_only_one(name: str) -> str:
    """That there is only one of a kind to choose from."""
    return f"I see only one {_bare(name)}."


def say_familiar(names: int) -> str:
    """Over what was looked where nothing was named."""
    return f"(Looked for: the {names} names that this model finds best.)"


def say_configured() -> str:
    """Over what a node looked where nothing was named, and it has objects configured."""
    return "(Looked for: the objects that this node is configured with.)"


def say_detected(number: int) -> str:
    """Over what a node looked where nothing was named, and a detector gave it this number of things."""
    if not number:
        return "The detector gave nothing in this image."
    return (
        f"(Looked for: the {number} things that the detector gave.)"
        if number > 1
        else ("(Looked for: the one thing that the detector gave.)")
    )


def say_nothing_familiar(names: int) -> str:
    """That nothing is seen of what is looked for where nothing is named."""
    return f"I see none of the {names} names that this model finds best; name what you mean."


def say_choice(name: str, chosen: int, boxes: Sequence[Box]) -> str:
    """Which of several things that a name may mean was taken.

    Args:
        name: What was asked for.
        chosen: Number of the one that was taken, in `boxes`.
        boxes: Where they are, in pixels.
    """
    label = place_labels(_bare(name), boxes)[chosen]
    return f"Of {len(boxes)} things that may be {_a(name)}, {_the(label)} was taken."


def place_labels(name: str, boxes: Sequence[Box]) -> list[str]:
    """Names that tell things of one kind apart by where they are: "left chair", "second car from the left".

    Args:
        name: What all of them are.
        boxes: Where they are, in pixels.

    Returns:
        One for each, in order.
    """
    from_left = sorted(range(len(boxes)), key=lambda i: boxes[i].x1 + boxes[i].x2)
    few = {1: ("",), 2: ("left ", "right "), 3: ("left ", "middle ", "right ")}.get(len(boxes))
    labels = [""] * len(boxes)
    for place, i in enumerate(from_left):
        labels[i] = f"{few[place]}{name}" if few else f"{_ordinal(place + 1)} {name} from the left"
    return labels


def _ordinal(number: int) -> str:
    words = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
    return words[number - 1] if number <= len(words) else f"{number}th"


def _a(name: str) -> str:
    bare = _bare(name)
    return f"{'an' if bare[:1].lower() in tuple('aeiou') else 'a'} {bare}"


def say_closer(closer: str | ObjectDepth, farther: str | ObjectDepth, probability: float) -> str:
    """Which of two objects is closer: "The chair is closer than the table (93 % sure).".

    Args:
        closer: The closer one; its distance in metres is added where it has one.
        farther: The other one, likewise.
        probability: That it is so, in [0.5, 1]; below SURE they are "about equally far". NaN: no certainty is given.

    Returns:
        One sentence.
    """
    near, far = _with_metres(closer), _with_metres(farther)
    if probability < SURE:
        name = closer if isinstance(closer, str) else closer.name
        return f"{_capital(near)} and {far} are about equally far ({_percent(probability)} for {_the(name)})."
    certainty = "" if math.isnan(probability) else f" ({_percent(probability)} sure)"
    return f"{_capital(near)} is closer than {far}{certainty}."


def about_equal(near: ObjectDepth, far: ObjectDepth, probability: float) -> bool:
    """Whether two objects count as about equally far.

    They do where it is undecided which is closer (probability below SURE), or where their depths differ by no more
    than the standard deviation of that difference.

    Args:
        near: The closer object.
        far: The other one.
        probability: That it is so, in [0.5, 1].
    """
    return probability < SURE or abs(near.depth - far.depth) <= math.hypot(near.depth_stddev, far.depth_stddev)


def say_equal(objects: Sequence[ObjectDepth], near: ObjectDepth, far: ObjectDepth, probability: float) -> str:
    """Whether some objects are about equally far: "Yes. The chair and …" or "No. The chair is …".

    Args:
        objects: The objects, all of them visible.
        near: The nearest of them.
        far: The farthest of them.
        probability: That `near` really is closer than `far`, in [0.5, 1].

    Returns:
        "Yes." or "No." and a sentence.
    """
    if not about_equal(near, far, probability):
        return f"No. {say_closer(near, far, probability)}"
    names = _and([_the(o.name) for o in objects])
    depths = _and([_how_far(o) for o in objects])
    return f"Yes. {_capital(names)} are about equally far (at {depths}; {SCALE})."


def say_yes_or_no(holds: bool, probability: float, text: str) -> str:
    """An answer with the yes or no put first; "Hard to say." where the probability is below SURE.

    Args:
        holds: Whether what was asked is so.
        probability: That this is right, in [0.5, 1].
        text: The answer without yes or no.
    """
    lead = "Hard to say" if probability < SURE else "Yes" if holds else "No"
    return f"{lead}. {text}"


def say_metres(distance: float, stddev: float = math.nan) -> str:
    """A distance with its standard deviation where there is one: "1.24 ± 0.10 m", "12.3 m".

    Args:
        distance: In metres.
        stddev: In metres, NaN = not known.
    """
    digits = 1 if distance >= 10 else 2
    spread = f" ± {stddev:.{digits}f}" if math.isfinite(stddev) else ""
    return f"{distance:.{digits}f}{spread} m"


def _how_far(thing: ObjectDepth) -> str:
    spread = f" ± {thing.depth_stddev:.2f}" if math.isfinite(thing.depth_stddev) else ""
    relative = f"{thing.depth:.2f}{spread}"
    if not math.isfinite(thing.distance):
        return relative
    return f"{say_metres(thing.distance, thing.distance_stddev)} (relative depth {relative})"


def _of_the_view(seen: Sequence[ObjectDepth]) -> str:
    return "" if math.isfinite(seen[0].distance) else " of the view's depth"


def _with_metres(thing: str | ObjectDepth) -> str:
    if isinstance(thing, str):
        return _the(thing)
    metres = f" ({say_metres(thing.distance)})" if math.isfinite(thing.distance) else ""
    return _the(thing.name) + metres


def _percent(probability: float) -> str:
    """Whole percent, never quite certain."""
    if math.isnan(probability):
        return "unknown"
    if probability < 0.005:
        return "less than 1 %"
    return "more than 99 %" if probability > 0.995 else f"{probability * 100:.0f} %"


def _bare(name: str) -> str:
    lower = name.lower()
    return next((name[len(a) :] for a in _ARTICLES if lower.startswith(a)), name)


def _the(name: str) -> str:
    return name if _bare(name) != name else f"the {name}"


def _is(things: Sequence[ObjectDepth]) -> str:
    return "is" if len(things) == 1 else "are"


def _and(words: Sequence[str], joint: str = "and") -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {joint} {words[-1]}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
