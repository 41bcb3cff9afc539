"""Negations and ranks in questions: "which is not closer", "the second closest", "is it false that …".

Promises: a negation either turns the word that it negates into its opposite, or is refused with one line; it is never
dropped. Knows words, not kinds of question.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from proxqa_core.errors import NotUnderstoodError
from proxqa_core.language.lexicon import (
    ASKING,
    CLOSER,
    FARTHER,
    FARTHEST,
    HOW_FAR,
    MEASURES,
    NEAREST,
    words_of,
)
from proxqa_core.language.phrases import Token

_OPPOSITES = {"closer": "farther", "nearer": "farther", "farther": "closer", "further": "closer"}
_NOT = words_of("not isn't aren't wasn't doesn't don't isnt arent doesnt never nt")
_DENIALS = words_of(
    "false untrue incorrect wrong neither except excepting excluding ignoring disregarding hardly scarcely barely"
)
_DENYING_PAIRS = frozenset(
    ("other than", "rather than", "instead of", "apart from", "aside from", "no closer", "no farther", "nowhere near",
     "nothing like", "all but", "everything but", "anything but", "nothing but", "leaving out", "leave out",
     "setting aside", "exception of")
)  # fmt: skip
"""Two words that exclude or deny what comes after them."""
_RANKS = words_of(
    "second third fourth fifth 2nd 3rd 4th 5th next runner-up last-but-one penultimate second-closest second-nearest "
    "second-farthest third-closest third-nearest third-farthest"
)
_COMPARED = CLOSER | FARTHER | NEAREST | FARTHEST
_ORDERED = _COMPARED | words_of("in-front behind in-front-of at-back") | HOW_FAR | MEASURES
_BETWEEN = words_of("the a to most any clearly really much significantly")


def turned(tokens: list[Token]) -> list[Token]:
    """The tokens without negation: "which is not closer" asks which is farther.

    Raises:
        NotUnderstoodError: It cannot be turned for certain, or a rank is asked for.
    """
    words = [t.word for t in tokens]
    if not any(w in _ORDERED for w in words):
        return tokens
    _refuse_ranks(words)
    _refuse_denials(words)
    at = next((i for i, w in enumerate(words) if w in _NOT), -1)
    if at < 0:
        return tokens
    if at == 0 and words[0] != "not":
        return tokens  # "isn't the chair closer than the table?" asks whether it is
    if words[0] in ASKING and words[at + 1 : at + 2] and words[at + 1] in _OPPOSITES and words.count(words[at]) == 1:
        opposite = _OPPOSITES[words[at + 1]]
        kept = [Token("is", "is")] if words[at].startswith(("isn", "aren")) else []
        return [*tokens[:at], *kept, Token(opposite, opposite), *tokens[at + 2 :]]
    raise NotUnderstoodError(
        f"the question has a negation ({tokens[at].text!r}), which is easily read the wrong way round; ask without it, "
        "for example 'which is farther, the chair or the table?'"
    )


def _refuse_ranks(words: Sequence[str]) -> None:
    """Raise on "the second closest", "next nearest", "closest but one"; not on "second chair from the left"."""
    for i, word in enumerate(words):
        skipped = i + 1
        while skipped < len(words) and words[skipped] in _BETWEEN:
            skipped += 1
        ranked = word in _RANKS and skipped < len(words) and words[skipped] in NEAREST | FARTHEST
        if (
            ranked
            or ("-" in word and word in _RANKS)
            or (word in NEAREST | FARTHEST and words[i + 1 : i + 2] == ["but"])
        ):
            raise NotUnderstoodError(
                f"the question asks for a rank ({word!r} …), only the nearest, the farthest or the whole order can be "
                "asked for; ask for example 'sort the chair, the table and the lamp by distance'"
            )


def _refuse_denials(words: Sequence[str]) -> None:
    pairs = (pair for pair in map(" ".join, itertools.pairwise(words)) if pair in _DENYING_PAIRS)
    denial = next((w for w in words if w in _DENIALS), "") or next(pairs, "")
    if not denial and any(w in _COMPARED and list(words[i - 2 : i]) == ["far", "from"] for i, w in enumerate(words)):
        denial = "far from"
    if denial:
        raise NotUnderstoodError(
            f"the question excludes or denies something ({denial!r}); ask without it, for example "
            "'is the chair closer than the table?'"
        )
