"""Referring expressions: "the leftmost dark red chair" is a name, colours and a place among its like.

Promises: `read_expression` takes such a phrase apart; what it does not know stays part of the name. Knows nothing of
images.

The colours are the eleven basic terms of English (Berlin and Kay 1969); other words stand for the nearest of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from proxqa_core.language.places import Place, read_place

TERMS = ("red", "green", "blue", "yellow", "orange", "purple", "black", "white", "brown", "grey", "pink")
COLOURS: dict[str, tuple[str, ...]] = {
    **{term: (term,) for term in TERMS},
    "gray": ("grey",),
    "silver": ("grey",),
    "crimson": ("red",),
    "scarlet": ("red",),
    "maroon": ("red", "brown"),
    "burgundy": ("red", "purple"),
    "violet": ("purple",),
    "lilac": ("purple", "pink"),
    "magenta": ("pink", "purple"),
    "navy": ("blue",),
    "cyan": ("blue", "green"),
    "teal": ("green", "blue"),
    "turquoise": ("green", "blue"),
    "olive": ("green", "brown"),
    "golden": ("yellow", "brown"),
    "beige": ("brown", "white", "yellow"),
    "tan": ("brown", "orange"),
}
"""Colour words and the basic terms that they may stand for."""
_COLOUR = "|".join(COLOURS)
_SHADED = rf"(?:(?:dark|light|bright|pale|deep|pastel|vivid)(?:er)?[ -])?(?:{_COLOUR})(?:-colou?red)?"
_ADJECTIVES = re.compile(rf"\b{_SHADED}(?: and {_SHADED})* (?=\S)", re.IGNORECASE)
_AFTER_THE_NOUN = re.compile(r" (?:with|on|in|of|by|at|under|near|behind|beside|from|next|to|without) ", re.IGNORECASE)


@dataclass(frozen=True)
class Expression:
    """A referring expression taken apart.

    Attributes:
        name: What is meant, without colour and place.
        colours: Basic colour terms, one of which fits it; empty = no colour given.
        place: Which of several, None = no place given.
    """

    name: str
    colours: tuple[str, ...] = ()
    place: Place | None = None


def read_expression(phrase: str) -> Expression:
    """Take a phrase apart: 'leftmost dark red chair' → ('chair', ('red',), leftmost); 'chair' → ('chair', (), None).

    Args:
        phrase: What an object is called. Only a word before the noun is a colour: an 'orange' alone is a fruit, and a
            'mug with a red handle' a mug.

    Returns:
        The name, the colours and the place.
    """
    named, place = read_place(phrase)
    end = match.start() if (match := _AFTER_THE_NOUN.search(named)) else len(named)
    adjectives = " ".join(_ADJECTIVES.findall(named[:end])).lower()
    terms = dict.fromkeys(t for word in re.findall(rf"\b(?:{_COLOUR})\b", adjectives) for t in COLOURS[word])
    return Expression(_ADJECTIVES.sub("", named[:end]) + named[end:], tuple(terms), place)


_RELATION = re.compile(
    r"\S (?:next to|on|on top of|under|underneath|below|above|over|behind|beside|near|in front of|between|opposite|"
    r"against|(?:to the )?(?:left|right) of|inside|closest to|nearest to|by) "
    r"(?:the|a|an|my|your|his|her|its|their) (?P<what>\S.*)",
    re.IGNORECASE,
)


def related_to(phrase: str) -> str:
    """What a phrase places its object by, '' = nothing: 'cup on the table' → 'table'; 'cup on the left' → ''.

    Args:
        phrase: What an object is called.

    Returns:
        The other object of the relation.
    """
    named, _ = read_place(phrase)
    match = _RELATION.search(named)
    return match["what"] if match else ""
