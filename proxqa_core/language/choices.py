"""Lettered options of a question, and names that only a mark in the image gives a meaning.

Promises: each option is one of the names that the question compares, or yes or no, or the question is refused; "point A"
is never looked up as a name. Knows nothing of images.
"""

# ruff: noqa: E501 (regular expressions, one wording a line)

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from proxqa_core.errors import NotUnderstoodError
from proxqa_core.language.formats import AnswerStyle, Option, Request
from proxqa_core.language.lexicon import FARTHEST, GENERIC, NEAREST, words_of
from proxqa_core.language.phrases import KnownNames, key_of
from proxqa_core.language.referring import read_expression
from proxqa_core.language.rules import Question
from proxqa_core.types import QuestionKind

_COMPARING = (QuestionKind.CLOSER, QuestionKind.FARTHER, QuestionKind.NEAREST, QuestionKind.FARTHEST)
_CLAIM = re.compile(
    r"^(.+?)\s+(?:is|are)\s+(?:the\s+)?(?:closer|nearer|closest|nearest|farther|further|farthest|furthest)\b.*$", re.I
)
_MARK = re.compile(
    r"(?:the )?(?:(?:[\w-]+ )?(?:point|region|mark|marker|dot|bounding box|bbox|mask|pixel|location|position|spot)s?(?: ?[<\[(]?(?:[a-z]|\d+)[>\])]?)?"
    r"|(?:red|green|blue|yellow|orange|purple|pink|white|black) (?:point|circle|dot|marker|rectangle|bounding box|bbox|mask|cross|arrow)"
    r"|(?:object|box|item|thing|person|area) [a-z0-9]|[a-h]|<?(?:mask|region)s?\d*>?|[\d.,\s%]+)",
    re.I,
)
_ANYTHING = words_of("thing things object objects item items obstacle obstacles stuff")
_BEFORE_ARTICLE = (
    "of|on|in|with|at|to|by|near|under|behind|over|above|below|beside|from|and|for|against|around|inside|into|through"
    "|across|off|like|up|down|between|along|all|both|as|onto|without|beneath|beyond|atop|upon"
)
"""Words that an article follows within a name: "man with a hat"."""
_NO_NAME = re.compile(
    r"^(?:calculate|judge|consider|considering|comparing|given|determine|identify|decide|organi[sz]e|sequence|choose|select|pick"
    r"|assume|imagine|suppose|corresponds?|separates?|along|into|starting|based|listed|which|what|how|whether|if)\b.+"
    r"|.*\b(?:which is|these objects|the one|is the|are the|looks? (?:like|young|old|big|small)|identify|choose|answer|respond|provide|pinpoint|than|whether|name of the|bounding box|the camera|in order|(?:this|the) (?:photo|image|picture))\b.*"
    r"|.*\b(?:closer|nearer|farther|further)\b.*|(?:nearest|closest|farthest|furthest) (?:object|thing|item|one)"
    r"|(?:right|left|true|false|correct|wrong|forwards?|backwards?)"
    r"|(?:average|mean|median|min|minimum|minimal|max|maximum|maximal|total|overall)"
    r"|(?:about |around |~ ?)?[\d.,]+ ?(?:m|cm|mm|km|ft|met(?:er|re)s?|centimet(?:er|re)s?|feet|foot|inch(?:es)?|yards?|steps?)(?: away)?"
    r"|.*(?<!who )(?<!that )(?<!which )\b(?:is|are|was|were|does|did)\b.+"
    r'|.*[{}"].*'
    r"|far|near|close|deep|distant|nearby|pick|choose|select|output|driving|walking|going|moving|time|name"
    r"|.* at (?:least|most)|(?:next to|beside|behind|under|above|in front of|without) .+|in (?:the )?(?:front|back)"
    rf"|(?!.*\b(?:who|that)\b)(?:.* )?(?!(?:{_BEFORE_ARTICLE}|(?!thing\b)\w+ing)\b)\w+ (?:an?|the) .+"
    r"|.*(?:哪|吗|什么|多远|どれ|どの|どちら|ですか|어느|얼마나).*",
    re.I,
)
"""What is a rest of a sentence, and no object's name: such a question was not understood, whatever its words are."""


def with_options(request: Request, read: Callable[[str, KnownNames], Question], known: KnownNames) -> Question:
    """Read a question that may have options: "Which is closer?" with A. chair, B. table compares these two.

    Args:
        request: The question taken apart.
        read: Reads a text, given names to spell by.
        known: Names to spell by.

    Returns:
        The question, with its options spelled as its names.

    Raises:
        NotUnderstoodError: The options are none of the names, or it is not understood.
    """
    question = request.question
    texts = [_name_in(o.text) for o in request.options]
    yes_no = bool(texts) and all(t.casefold() in ("yes", "no") for t in texts)
    if texts and not yes_no and _leaves_open(question, read):
        question = f"{question.rstrip(' ?.!:,')}, {' or '.join(t.rstrip('.') for t in texts)}?"
    found = read(question, known)
    if found.kind is QuestionKind.SORT:
        return found  # "Sort these: 1. the chair 2. the table": a list of names, none of which is the answer
    style = _possible(request.style, found)
    if not texts or found.kind is QuestionKind.GENERAL:
        return replace(found, style=style if texts or style is not AnswerStyle.LETTER else AnswerStyle.SENTENCE)
    return replace(found, style=style, options=_spelled(request.options, texts, found, known, yes_no))


def _leaves_open(question: str, read: Callable[[str, KnownNames], Question]) -> bool:
    """Whether a question leaves to its options what is compared, whatever else is known."""
    try:
        found = read(question, KnownNames(()))
    except NotUnderstoodError:
        return True
    return found.kind in (*_COMPARING, QuestionKind.SORT) and len(found.names) < 2


def _name_in(text: str) -> str:
    """The name in an option: "the chair" of "The chair is closer."."""
    text = text.strip().strip(".;,")
    match = _CLAIM.match(text)
    return match[1] if match else text


def _possible(style: AnswerStyle, found: Question) -> AnswerStyle:
    """Yes or no is said only where that is asked; a number only of one depth."""
    if style is AnswerStyle.YES_NO and not found.yes_no:
        return AnswerStyle.SENTENCE
    if style in (AnswerStyle.NUMBER, AnswerStyle.METRES) and found.kind is not QuestionKind.DEPTH:
        return AnswerStyle.SENTENCE
    return style


def _spelled(
    options: tuple[Option, ...], texts: list[str], found: Question, known: KnownNames, yes_no: bool
) -> tuple[Option, ...]:
    """The options with the names that they mean; refused where one means none."""
    if yes_no and found.yes_no:
        return tuple(replace(o, text=t.capitalize()) for o, t in zip(options, texts, strict=True))
    by_key = {key_of(n): n for n in found.names}
    meant = [by_key.get(key_of(known.resolve(t))) for t in texts]
    if found.kind not in _COMPARING or None in meant or found.yes_no:
        wrong = next((o for o, m in zip(options, meant, strict=True) if m is None), options[0])
        raise NotUnderstoodError(
            f"option {wrong.label} ({wrong.text[:40]!r}) is none of the objects that the question compares; "
            "expected an option for each object, for example '(A) the chair (B) the table'"
        )
    return tuple(replace(o, text=str(m)) for o, m in zip(options, meant, strict=True))


def checked(found: Question, request: Request, known: KnownNames) -> Question:
    """The question as it is, where every name can be looked for.

    Raises:
        NotUnderstoodError: A name says only how something is marked in the image, or is a rest of a sentence, and no
            known object is called so.
    """
    if found.kind is QuestionKind.GENERAL:
        return found
    for name in found.names:
        if name not in known.names and _MARK.fullmatch(name):
            raise _only_marked(name)
        if name not in known.names and _NO_NAME.fullmatch(name):
            raise NotUnderstoodError(
                f"the question is not understood: {name[:60]!r} would be an object's name; ask in fewer words, for example "
                "'which is closer, the chair or the table?'"
            )
        if name not in known.names and _is_anything(name):
            raise NotUnderstoodError(
                f"{name!r} may be anything of such a place or colour; name what is there, for example 'the chair on the "
                "left', or ask 'what is nearest?'"
            )
    if request.marked and not re.search(r"\w", " ".join(found.names)):
        raise _only_marked("highlighted by a box")
    return found


def _is_anything(name: str) -> bool:
    """Whether a name has a place or a colour and no noun: "thing on the left", "red object"."""
    words = read_expression(name).name.casefold().split()
    return all(w in GENERIC or w in FARTHEST | NEAREST for w in words) and any(w in _ANYTHING for w in words)


def _only_marked(name: str) -> NotUnderstoodError:
    return NotUnderstoodError(
        f"{name!r} is only a mark in the image, marks are not read; name what is there ('the chair'), or give objects "
        "of these names with boxes"
    )
