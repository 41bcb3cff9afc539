"""Prompt templates: questions to the model and the answers it is trained on, for both stages.

Promises: one source for training and for inference: every question and answer that a model is trained on or asked is
made here. A name is data: it can never become a special token (`plain`). Knows nothing of tokenizers, of images or of
how answers are chosen.

Stage 1 (perceive): "How far is the chair?" → "0.32" or "not visible".
Stage 2 (reason): "Which is closer: A, the chair, or B, the table?" → "A is at 0.32, B at 0.61. Closer: A".
Direct (the ablation): the same question → "Closer: A".
Trained beside stage 1, to tie names to places: "Where is the chair?" → "[12,34,56,78]"; "What is the thing at
[12,34,56,78]?" → "chair"; "How far are the chair and the sofa?" → "0.32, not visible".
Trained beside stage 2: "Farther:", "Nearest:", "Nearest first:" and "Equal:" instead of "Closer:", after the same
depths or, direct, without them.

Each question has several forms. Form 0 is what the engine asks; the others are for training, so that a model learns
what is asked rather than one sentence.

An object with a box is written with its corner coordinates in hundredths of the image's width and height, and with
REGION, the placeholder in the prompt for the features inside the box (a token like those of the image). A model whose
region tokens say where their boxes are (`proxqa_core.vision.box_embedding`) needs no coordinates (`BoxForm`).
Source: Proximity QA, arXiv 2401.17862, sections 3.2 and 3.3; the wording and the readable answers are ours.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from proxqa_core.types import Box, ObjectQuery

REGION = "\ufffc"
"""Stands for one region token in a prompt (U+FFFC OBJECT REPLACEMENT CHARACTER; `plain` keeps it out of names)."""
NOT_VISIBLE = "not visible"
DEPTH_LEAD = "0."
CHOICE_LEAD = "Closer:"
CHOICES = (" A", " B")
FARTHER_LEAD = "Farther:"
NEAREST_LEAD = "Nearest:"
SORT_LEAD = "Nearest first:"
EQUAL_LEAD = "Equal:"
LETTERS = "ABCDEF"
"""What the objects of one question are called in its answer, in the order of mention."""
THING = "thing"
"""Name of an object that is given by its box alone."""
PERCEIVE_FORMS = (
    "How far is the {}?",
    "How far away is the {}?",
    "What is the distance to the {}?",
    "Tell me how far the {} is.",
    "Depth of the {}?",
    "How close is the {}?",
)
SEVERAL_FORMS = (
    "How far are {}?",
    "How far away are {}, one by one?",
    "Give the distances of {}.",
    "Depths of {}?",
)
WHERE_FORMS = (
    "Where is the {}?",
    "Point at the {}.",
    "In which box is the {}?",
    "Find the {}.",
)
WHAT_FORMS = (
    "What is the {}?",
    "Name the {}.",
    "What do you call the {}?",
)
CLOSER_FORMS = (
    "Which is closer: A, the {}, or B, the {}?",
    "Which one is nearer: A, the {}, or B, the {}?",
    "Is A, the {}, closer than B, the {}?",
    "Is A, the {}, in front of B, the {}?",
    "Of A, the {}, and B, the {}, which is closer?",
    "Which would you reach first, A, the {}, or B, the {}?",
)
FARTHER_FORMS = (
    "Which is farther: A, the {}, or B, the {}?",
    "Which one is more distant: A, the {}, or B, the {}?",
    "Is A, the {}, farther than B, the {}?",
    "Is A, the {}, behind B, the {}?",
)
NEAREST_FORMS = (
    "Which is nearest: {}?",
    "What is closest of {}?",
    "Of {}, which is the nearest?",
)
SORT_FORMS = (
    "Sort by distance: {}.",
    "Put in order, nearest first: {}.",
    "In which order do they stand, from near to far: {}?",
)
EQUAL_FORMS = (
    "Are A, the {}, and B, the {}, about equally far?",
    "Is A, the {}, as far away as B, the {}?",
    "Are A, the {}, and B, the {}, at the same distance?",
)


@dataclass(frozen=True)
class BoxForm:
    """How a box is told in a question.

    Attributes:
        region_token: By REGION, for models that are trained with region features.
        coordinates: By its coordinates in words.

    Raises:
        ValueError: By neither.
    """

    region_token: bool = True
    coordinates: bool = True

    def __post_init__(self) -> None:
        if not (self.region_token or self.coordinates):
            raise ValueError("a box is told neither by a region token nor by coordinates; expected one of them")

    def text(self, region: Region) -> str:
        """What follows the name of an object in a region."""
        return f"{REGION if self.region_token else ''}{f' at {region}' if self.coordinates else ''}"


def plain(text: str) -> str:
    """Text from outside without anything that a tokenizer or template could take for a special token."""
    return " ".join(re.sub(r"[<>|\[\]{}\u27e8\u27e9\ufffc]", " ", text).split())


@dataclass(frozen=True)
class Region:
    """A box in hundredths of the image's width (x1, x2) and height (y1, y2), integers from 0 to 99."""

    x1: int
    y1: int
    x2: int
    y2: int

    @classmethod
    def of(cls, box: Box, width: int, height: int) -> Region:
        """The region of a pixel box in an image.

        Args:
            box: In pixels.
            width: Of the image, in pixels.
            height: Of the image, in pixels.

        Raises:
            BadObjectError: The box lies outside the image.
        """
        b = box.clipped(width, height)

        def hundredths(v: float, size: int) -> int:
            return min(99, max(0, round(100 * v / size)))

        return cls(hundredths(b.x1, width), hundredths(b.y1, height), hundredths(b.x2, width), hundredths(b.y2, height))

    def __str__(self) -> str:
        return f"[{self.x1},{self.y1},{self.x2},{self.y2}]"


def mention(name: str, region: Region | None, form: BoxForm) -> str:
    """How an object is written inside a question: 'chair', or 'chair<region> at [12,34,56,78]'.

    Args:
        name: Its name, from outside.
        region: Where it is, None = given by name only.
        form: How the region is told.
    """
    name = plain(name) or "object"
    return name if region is None else f"{name}{form.text(region)}"


def mention_of(query: ObjectQuery, width: int, height: int, form: BoxForm) -> str:
    """`mention` of a query in an image of width × height pixels.

    Raises:
        BadObjectError: The query's box lies outside the image.
    """
    region = Region.of(query.box, width, height) if query.box is not None else None
    return mention(query.name, region, form)


def perceive_question(mentioned: str, form: int = 0) -> str:
    """Stage 1: how far one object is. mentioned: as `mention` gives it. form: index into PERCEIVE_FORMS."""
    return PERCEIVE_FORMS[form].format(mentioned)


def perceive_answer(depth: float | None) -> str:
    """'0.32' for a relative depth, 'not visible' for None."""
    return NOT_VISIBLE if depth is None else f"{DEPTH_LEAD}{depth_digits(depth)}"


def depth_digits(depth: float) -> str:
    """The two digits after '0.' of a relative depth; 1 is written as 0.99, since there are only two digits.

    Raises:
        ValueError: The depth is outside [0, 1].
    """
    if not 0.0 <= depth <= 1.0:
        raise ValueError(f"relative depth {depth} is outside [0, 1]")
    return f"{min(99, round(depth * 100)):02d}"


def several_question(mentioned: Sequence[str], form: int = 0) -> str:
    """How far several objects are. form: index into SEVERAL_FORMS."""
    return SEVERAL_FORMS[form].format(_listed([f"the {m}" for m in mentioned]))


def several_answer(depths: Sequence[float | None]) -> str:
    """'0.32, not visible, 0.61': the `perceive_answer` of each, in the order asked."""
    return ", ".join(perceive_answer(d) for d in depths)


def where_question(mentioned: str, form: int = 0) -> str:
    """Asks for the region of an object. form: index into WHERE_FORMS."""
    return WHERE_FORMS[form].format(mentioned)


def where_answer(region: Region) -> str:
    """'[12,34,56,78]'."""
    return str(region)


def what_question(region: Region, box_form: BoxForm, form: int = 0) -> str:
    """Asks for the name of what is in a region. form: index into WHAT_FORMS."""
    return WHAT_FORMS[form].format(mention(THING, region, box_form))


def what_answer(name: str) -> str:
    """The name, without anything that could be a special token."""
    return plain(name) or "object"


def closer_question(a: str, b: str, form: int = 0) -> str:
    """Stage 2: which of two is closer. Every form of CLOSER_FORMS is answered by the closer one's letter."""
    return CLOSER_FORMS[form].format(a, b)


def farther_question(a: str, b: str, form: int = 0) -> str:
    """Which of two is farther. Every form of FARTHER_FORMS is answered by the farther one's letter."""
    return FARTHER_FORMS[form].format(a, b)


def nearest_question(mentioned: Sequence[str], form: int = 0) -> str:
    """Which of several is nearest. form: index into NEAREST_FORMS. ValueError on more than there are LETTERS."""
    return NEAREST_FORMS[form].format(_lettered(mentioned, "or"))


def sort_question(mentioned: Sequence[str], form: int = 0) -> str:
    """Several by distance. form: index into SORT_FORMS. ValueError on more than there are LETTERS."""
    return SORT_FORMS[form].format(_lettered(mentioned, "and"))


def equal_question(a: str, b: str, form: int = 0) -> str:
    """Whether two are about equally far. form: index into EQUAL_FORMS."""
    return EQUAL_FORMS[form].format(a, b)


def _listed(items: Sequence[str], joint: str = "and") -> str:
    """'x', 'x and y', 'x, y and z'."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {joint} {items[-1]}"


def _lettered(mentioned: Sequence[str], joint: str) -> str:
    """'A, the chair, B, the table, or C, the lamp'. ValueError where there are more than there are LETTERS."""
    items = [f"{letter}, the {m}" for letter, m in zip(_letters(len(mentioned)), mentioned, strict=True)]
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])}, {joint} {items[-1]}"


def _letters(count: int) -> str:
    if not 1 <= count <= len(LETTERS):
        raise ValueError(f"{count} objects in one question; expected 1 to {len(LETTERS)}")
    return LETTERS[:count]


def reason_lead(*depths: float, lead: str = CHOICE_LEAD) -> str:
    """An answer up to where the choice stands, the perceived depths first: "A is at 0.32, B at 0.61. Closer:".

    Args:
        depths: Relative depths in [0, 1], in the order of mention.
        lead: What the choice follows, such as CHOICE_LEAD or SORT_LEAD.

    Raises:
        ValueError: A depth is outside [0, 1], or there are more than there are LETTERS.
    """
    parts = [f"{letter} at 0.{depth_digits(d)}" for letter, d in zip(_letters(len(depths)), depths, strict=True)]
    return f"A is{', '.join(parts)[1:]}. {lead}"


def letter_answer(index: int) -> str:
    """' A' for the first object of a question, ' B' for the second …; ValueError past the last letter."""
    return f" {_letters(index + 1)[-1]}"


def sort_answer(order: Sequence[int]) -> str:
    """' B, A, C': the letters of the objects, nearest first. order: their indices in the question."""
    return ",".join(letter_answer(i) for i in order)


def equal_answer(equal: bool) -> str:
    """' yes' or ' no'."""
    return " yes" if equal else " no"


def choice(a_is_closer: bool) -> str:
    """' A' or ' B', as it follows CHOICE_LEAD."""
    return CHOICES[0] if a_is_closer else CHOICES[1]
