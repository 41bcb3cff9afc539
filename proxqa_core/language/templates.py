"""What is said to the model and what it answers, for both stages: one source for training and for inference.

Promises: every question and answer that a model is trained on or asked is made here, and read back here. A name is
data: it can never become a special token (`plain`). Knows nothing of tokenizers, of images or of how answers are
chosen.

Stage 1 (perceive): "How far is the chair?" → "0.32" or "not visible".
Stage 2 (reason): "Which is closer: A, the chair, or B, the table?" → "A is at 0.32, B at 0.61. Closer: A".
Direct (the ablation): the same question → "Closer: A".
Where (trained beside stage 1, to find things by name): "Where is the chair?" → "[12,34,56,78]".

An object with a box is said with its normalised corner coordinates in hundredths of the image's width and height,
and with REGION, the place where the features inside the box stand in the prompt (a token like those of the image).
Source: Proximity QA, arXiv 2401.17862, sections 3.2 and 3.3; the wording and the readable answers are ours.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from proxqa_core.types import Box, ObjectQuery

REGION = "\ufffc"
"""Stands for one region token in a prompt (U+FFFC OBJECT REPLACEMENT CHARACTER; `plain` keeps it out of names)."""
NOT_VISIBLE = "not visible"
DEPTH_LEAD = "0."
CHOICE_LEAD = "Closer:"
CHOICES = (" A", " B")
_DEPTH = re.compile(r"^\s*(?:0?\.(\d{1,2})|1\.0{1,2}|[01])(?![\d.])")


def plain(text: str) -> str:
    """Text from outside with everything that a tokenizer or template could take for a special token taken out."""
    return " ".join(re.sub(r"[<>|\[\]{}\u27e8\u27e9\ufffc]", " ", text).split())


@dataclass(frozen=True)
class Region:
    """A box in hundredths of the image's width and height, integers 0 … 99."""

    x1: int
    y1: int
    x2: int
    y2: int

    @classmethod
    def of(cls, box: Box, width: int, height: int) -> Region:
        """The region of a pixel box in an image of width × height pixels."""
        b = box.clipped(width, height)

        def hundredths(v: float, size: int) -> int:
            return min(99, max(0, round(100 * v / size)))

        return cls(hundredths(b.x1, width), hundredths(b.y1, height), hundredths(b.x2, width), hundredths(b.y2, height))

    def __str__(self) -> str:
        return f"[{self.x1},{self.y1},{self.x2},{self.y2}]"


def mention(name: str, region: Region | None, region_token: bool) -> str:
    """How an object is said inside a question: 'chair', or 'chair<region> at [12,34,56,78]'."""
    name = plain(name) or "object"
    if region is None:
        return name
    return f"{name}{REGION} at {region}" if region_token else f"{name} at {region}"


def mention_of(query: ObjectQuery, width: int, height: int, region_token: bool) -> str:
    """`mention` of a query in an image of width × height pixels."""
    region = Region.of(query.box, width, height) if query.box is not None else None
    return mention(query.name, region, region_token)


def perceive_question(mentioned: str) -> str:
    return f"How far is the {mentioned}?"


def perceive_answer(depth: float | None) -> str:
    """'0.32' for a relative depth, 'not visible' for None."""
    return NOT_VISIBLE if depth is None else f"{DEPTH_LEAD}{depth_digits(depth)}"


def depth_digits(depth: float) -> str:
    """The two digits after '0.' of a relative depth in [0, 1]; 1 is said as 0.99. ValueError outside."""
    if not 0.0 <= depth <= 1.0:
        raise ValueError(f"relative depth {depth} is outside [0, 1]")
    return f"{min(99, round(depth * 100)):02d}"


def where_question(mentioned: str) -> str:
    return f"Where is the {mentioned}?"


def where_answer(region: Region) -> str:
    return str(region)


def closer_question(a: str, b: str) -> str:
    return f"Which is closer: A, the {a}, or B, the {b}?"


def reason_lead(depth_a: float, depth_b: float) -> str:
    """The perceived depths, said first, up to where the choice stands."""
    return f"A is at 0.{depth_digits(depth_a)}, B at 0.{depth_digits(depth_b)}. {CHOICE_LEAD}"


def choice(a_is_closer: bool) -> str:
    return CHOICES[0] if a_is_closer else CHOICES[1]


def parse_depth(text: str) -> float | None:
    """The relative depth said in an answer, None for 'not visible'. ValueError where it says neither."""
    if text.strip().lower().startswith(NOT_VISIBLE):
        return None
    match = _DEPTH.match(text)
    if not match:
        raise ValueError(f"answer {text[:60]!r} is no relative depth; expected '0.dd' or {NOT_VISIBLE!r}")
    if match.group(1) is None:
        return float(match.group(0))
    return int(match.group(1)) / 10 ** len(match.group(1))


def parse_where(text: str) -> Region:
    """The region said in an answer. ValueError where it says none."""
    match = re.match(r"\s*\[(\d{1,2}),(\d{1,2}),(\d{1,2}),(\d{1,2})\]", text)
    if not match:
        raise ValueError(f"answer {text[:60]!r} is no region; expected '[x1,y1,x2,y2]' in hundredths")
    return Region(*(int(v) for v in match.groups()))


def parse_choice(text: str) -> str:
    """'A' or 'B' of a stage-2 or direct answer. ValueError where it has neither."""
    match = re.search(re.escape(CHOICE_LEAD) + r"\s*([AB])\b", text)
    if not match:
        raise ValueError(f"answer {text[:60]!r} makes no choice; expected '{CHOICE_LEAD} A' or '{CHOICE_LEAD} B'")
    return match.group(1)
