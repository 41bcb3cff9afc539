"""Answers read back into what they say: the inverse of `templates`, for tests of what a model is trained on."""

from __future__ import annotations

import re

from proxqa_core.language.templates import CHOICE_LEAD, EQUAL_LEAD, LETTERS, NOT_VISIBLE, SORT_LEAD, Region, plain

_DEPTH = re.compile(r"^\s*(?:0?\.(\d{1,2})|1\.0{1,2}|[01])(?![\d.])")


def parse_depth(text: str) -> float | None:
    """The relative depth in an answer, None for 'not visible'. ValueError where it says neither."""
    if text.strip().lower().startswith(NOT_VISIBLE):
        return None
    match = _DEPTH.match(text)
    if not match:
        raise ValueError(f"answer {text[:60]!r} is no relative depth; expected '0.dd' or {NOT_VISIBLE!r}")
    if match.group(1) is None:
        return float(match.group(0))
    return int(match.group(1)) / 10 ** len(match.group(1))


def parse_several(text: str) -> tuple[float | None, ...]:
    """The depths in an answer about several objects, in order. ValueError where one is no depth."""
    return tuple(parse_depth(part) for part in text.split(","))


def parse_what(text: str) -> str:
    """The name in an answer. ValueError where there is none."""
    name = plain(text.strip().split("\n", 1)[0])
    if not name:
        raise ValueError(f"answer {text[:60]!r} is no name; expected one such as 'chair'")
    return name


def parse_letter(text: str, lead: str) -> int:
    """Index of the object whose letter follows a lead. ValueError where none does."""
    match = re.search(re.escape(lead) + rf"\s*([{LETTERS}])\b", text)
    if not match:
        raise ValueError(f"answer {text[:60]!r} names none of the objects; expected '{lead} A'")
    return LETTERS.index(match.group(1))


def parse_sort(text: str, count: int) -> tuple[int, ...]:
    """Indices of `count` objects, nearest first. ValueError unless each is named once."""
    letters = text.rpartition(SORT_LEAD)[2].strip().rstrip(".")
    order = tuple(LETTERS.find(part.strip()) if len(part.strip()) == 1 else -1 for part in letters.split(","))
    if sorted(order) != list(range(count)):
        raise ValueError(f"answer {text[:60]!r} is no order of {count} objects; expected '{SORT_LEAD} B, A' …")
    return order


def parse_equal(text: str) -> bool:
    """Whether two objects are about equally far. ValueError on neither yes nor no."""
    match = re.search(re.escape(EQUAL_LEAD) + r"\s*(yes|no)\b", text)
    if not match:
        raise ValueError(f"answer {text[:60]!r} is no verdict; expected '{EQUAL_LEAD} yes' or '{EQUAL_LEAD} no'")
    return match.group(1) == "yes"


def parse_where(text: str) -> Region:
    """The region in an answer. ValueError where it says none."""
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
