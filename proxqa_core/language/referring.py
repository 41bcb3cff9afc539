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
"""Colour words and the basic terms that a thing called so may be read as."""
_COLOUR = "|".join(COLOURS)
_SHADED = rf"(?:(?:dark|light|bright|pale|deep|pastel|vivid)(?:er)?[ -])?(?:{_COLOUR})(?:-colou?red)?"
_SAID = re.compile(rf"\b{_SHADED}(?: and {_SHADED})* (?=\S)", re.IGNORECASE)
_AFTER_THE_NOUN = re.compile(r" (?:with|on|in|of|by|at|under|near|behind|beside|from|next|to|without) ", re.IGNORECASE)


@dataclass(frozen=True)
class Expression:
    """name: what is meant, without colour and place. colours: basic terms, one of which fits it; empty = not said.

    place: which of several, None = not said.
    """

    name: str
    colours: tuple[str, ...] = ()
    place: Place | None = None


def read_expression(phrase: str) -> Expression:
    """'leftmost dark red chair' → ('chair', ('red',), leftmost); 'chair' → ('chair', (), None).

    A colour is one that stands before the noun: an 'orange' alone is a fruit, and a 'mug with a red handle' a mug.
    """
    named, place = read_place(phrase)
    end = match.start() if (match := _AFTER_THE_NOUN.search(named)) else len(named)
    said = " ".join(_SAID.findall(named[:end]))
    terms = dict.fromkeys(t for word in re.findall(rf"\b(?:{_COLOUR})\b", said.lower()) for t in COLOURS[word])
    return Expression(_SAID.sub("", named[:end]) + named[end:], tuple(terms), place)
