"""Free-text questions: which kind of question it is, and of which objects.

Promises: any text gives a `Question` whose names are valid object names, or a NotUnderstoodError with one line that
says what would be right. Rules over words, in time linear in the text; no model, no network, same answer every time.
Knows nothing of images, and nothing of English beyond the word lists of `lexicon`.

Steps: words are normalised (case, contractions, common typos: `phrases`), phrases that mean the viewpoint ("from me",
"to the camera") and politeness are taken out, then the question word decides the kind (`rules`) and what is left over,
stripped of function words, are the names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from proxqa_core.errors import NotUnderstoodError
from proxqa_core.language.choices import checked, with_options
from proxqa_core.language.formats import asks_for_length, read_request
from proxqa_core.language.lexicon import ASKING, COURTESY, LISTING, words_of
from proxqa_core.language.negation import turned
from proxqa_core.language.phrases import (
    EXAMPLE,
    KnownNames,
    Token,
    join_phrases,
    says_something,
    tokens_of,
    without_viewpoint,
)
from proxqa_core.language.referring import read_expression
from proxqa_core.language.rules import Question, QuestionReader
from proxqa_core.language.wording import is_about_something_else, plainer, refuse_coordinates, refuse_limits
from proxqa_core.types import MAX_OBJECTS, MAX_QUESTION_LENGTH, QuestionKind, clean_text

__all__ = ["Question", "understand"]

_LEADING_IN = words_of("can could would will do i")
"""Politeness that is also the start of a question of its own: "can I reach …"."""


def understand(question: str, known: Sequence[str] = ()) -> Question:
    """What a question in everyday English asks for, and of which objects.

    Args:
        question: The text, at most MAX_QUESTION_LENGTH characters.
        known: Names that the caller already has (the first MAX_OBJECTS are used). They help to cut the question
            ("salt and pepper mill"); names that mean one of them (plural, synonym, "the chair" for the only chair) are
            returned spelled as known, and words such as "it" or "they" mean them.

    Returns:
        The question. One that is not about distance has the kind QuestionKind.GENERAL.

    Raises:
        NotUnderstoodError: The question is empty or too long, names nothing or too little to compare, asks for the
            distance between two objects (distances are measured from the camera) or whether one is within a limit.
    """
    asked = _checked(question)
    # 1. what is said of the answer and of marks in the image comes off
    refuse_coordinates(asked)
    refuse_limits(asked)
    request = read_request(question)
    names = KnownNames(tuple(known)[:MAX_OBJECTS])
    if is_about_something_else(request.question):
        return Question(QuestionKind.GENERAL, (), asked)
    # 2. read without the options; where that names too little, with their texts as the names
    found = with_options(
        request, lambda text, names: _read(clean_text(plainer(text)) or asked, asked, names, known), names
    )
    # 3. refused: what only a mark in the image says, negations, ranks
    return replace(checked(found, request, names), metres=asks_for_length(asked))


def _read(text: str, asked: str, names: KnownNames, known: Sequence[str]) -> Question:
    """The question of a text without instructions."""
    # 1. text -> tokens: words normalised, phrases of several words joined, the viewpoint taken out
    tokens = without_viewpoint(join_phrases(tokens_of(text)))
    # 2. each known name becomes one token, so that no rule cuts it
    tokens = _after_politeness(names.masked(tokens))
    # 3. negations turn the word that compares, or are refused
    tokens = turned(tokens)
    # 4. tokens -> kind and names
    found = QuestionReader(asked, tokens, names).read()
    # 5. "the blue one" -> "the blue chair"
    return replace(found, names=_with_nouns(found.names, known))


def _checked(question: str) -> str:
    """The question as one line of clean text. NotUnderstoodError where it cannot be one."""
    if not isinstance(question, str):
        raise NotUnderstoodError(f"the question is a {type(question).__name__}; expected text, {EXAMPLE}")
    if len(question) > MAX_QUESTION_LENGTH:
        raise NotUnderstoodError(
            f"the question has {len(question)} characters; at most {MAX_QUESTION_LENGTH} are understood"
        )
    asked = clean_text(question)
    if not asked:
        raise NotUnderstoodError(f"the question is empty; ask one {EXAMPLE}")
    if not says_something(asked):
        raise NotUnderstoodError(f"the question {asked[:40]!r} has no words; ask one {EXAMPLE}")
    return asked


def _with_nouns(names: tuple[str, ...], known: Sequence[str]) -> tuple[str, ...]:
    """Names whose "one" is the thing named before it: ("red chair", "blue one") → ("red chair", "blue chair")."""
    found: list[str] = []
    noun = ""
    for name in names:
        meant = read_expression(name).name
        if meant.casefold() != "one" or name in known:
            noun = meant
        elif noun:
            name = " ".join(noun if word.casefold() == "one" else word for word in name.split())
        found.append(name)
    return tuple(found)


def _after_politeness(tokens: list[Token]) -> list[Token]:
    """Drop "please", "can you tell me", "I want to know", "hey robot" at the start, where a question follows."""
    start = 0
    while start < len(tokens) and (tokens[start].word in COURTESY or tokens[start].word in (",", ":", "!", ".")):
        start += 1
    dropped, rest = {t.word for t in tokens[:start]}, tokens[start:]
    if dropped & {"check", "verify"} and not dropped & {"if", "whether"}:
        return tokens  # "check the door"
    if rest and (_starts_a_question(rest[0].word) or not dropped & _LEADING_IN):
        return rest
    return tokens  # "can I reach", "do you see": not politeness


def _starts_a_question(word: str) -> bool:
    return word in ASKING or word in LISTING or word in ("compare", "the", "is", "are")
