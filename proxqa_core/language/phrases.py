"""Questions as tokens, and the object names in a stretch of tokens.

Promises: linear in the text; every name that comes out is a valid object name, cut as `KnownNames` would have it and
stripped of function words. Knows nothing of the kinds of question.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from proxqa_core.errors import NotUnderstoodError
from proxqa_core.language.lexicon import (
    ARTICLES,
    ASKING,
    AUXILIARY,
    CLOSER,
    COLOURS,
    CONTRACTED,
    DETERMINERS,
    FARTHER,
    FARTHEST,
    FILLER,
    GENERIC,
    JOINS,
    NEAREST,
    NOTICED,
    PLACES,
    PUNCTUATION,
    SEPARATORS,
    SYNONYMS,
    TYPOS,
    VIEWER_TAILS,
    VIEWPOINT,
    words_of,
)
from proxqa_core.types import MAX_NAME_LENGTH, MAX_OBJECTS, ObjectQuery, clean_text

EXAMPLE = "such as 'how far is the chair?' or 'which is closer, the chair or the table?'"


@dataclass(frozen=True)
class Token:
    """A word, a punctuation mark or a whole name (quoted or known) of a question.

    Attributes:
        text: As written.
        word: Normalised; empty for a whole name.
        glued: Written without a space before it.
        joined: Made of several words by rule, such as "in-front".
    """

    text: str
    word: str
    glued: bool = False
    joined: bool = False

    @property
    def is_name(self) -> bool:
        """Whether it is an object's name rather than a word."""
        return not self.word


_ONE = ("one", "ones")
_COMPOUNDS = {
    "can": words_of("trash garbage rubbish waste soda beer tin watering paint spray oil gas petrol milk coke cola"),
    "stand": words_of("night tv television music hat coat plant cake display news taxi umbrella bike microphone"),
}
"""Function words that are the second half of a noun after these."""
_SPLIT = re.compile(r"[,;:?!()\[\]{}/\u2026]|[^\s,;:?!()\[\]{}/\u2026]+")
_QUOTES = {ord(c): '"' for c in "\u201c\u201d\u201e\u201f\u00ab\u00bb\u2033"} | {
    ord(c): "'" for c in "\u2018\u2019\u201a\u201b\u2032`\u00b4"
}


def says_something(text: str) -> bool:
    """Whether a text has anything but punctuation and spaces: a letter, a digit or a picture."""
    return any(unicodedata.category(c)[0] in "LN" or unicodedata.category(c) == "So" for c in text)


def _plain_tokens(text: str) -> Iterator[Token]:
    for match in _SPLIT.finditer(text):
        raw = match.group()
        if raw in PUNCTUATION:
            yield Token(raw, raw)
            continue
        body = raw.strip("'*_\"-.~=+<>|\\^#@$")
        if not body:
            # A lone dash between names separates them, as a comma does.
            yield Token(raw, ",")
            continue
        yield from _word_tokens(body)
        if raw.endswith("."):
            yield Token(".", ".")


def _word_tokens(body: str) -> Iterator[Token]:
    """One written word, contractions taken apart: "what's" is "what is", "dog's" is "dog" and "'s"."""
    lower = body.casefold()
    if lower.endswith("'s") and len(lower) > 2:
        base = lower[:-2]
        yield Token(body[:-2], TYPOS.get(base, base))
        yield Token("is", "is") if base in CONTRACTED else Token(body[-2:], "'s", glued=True)
    elif lower.endswith("'re") and len(lower) > 3:
        yield Token(body[:-3], lower[:-3])
        yield Token("are", "are")
    elif lower == "whats":
        yield Token(body, "what")
        yield Token("is", "is")
    else:
        yield Token(body, TYPOS.get(lower, lower))


def _quoted(text: str) -> Iterator[tuple[str, bool]]:
    """The text in pieces, with whether each was in quotes. An opening quote needs its closing one."""
    parts = text.split('"')
    if len(parts) % 2 == 0:  # an odd number of double quotes: the last one is a stray, e.g. inches
        parts[-2:] = [parts[-2] + " " + parts[-1]]
    for i, part in enumerate(parts):
        if i % 2:
            yield part, True
            continue
        # Single quotes: open at the start of a word, close at the end of one; apostrophes do neither.
        for piece in re.finditer(r"(?:(?<=^)|(?<=[\s,;:(]))'(\w[^']{0,90}\w|\w)'(?=[\s,;:?!.)]|$)|[^']+|'", part):
            yield (piece.group(1), True) if piece.group(1) else (piece.group(), False)


def tokens_of(text: str) -> list[Token]:
    """A question's words, punctuation marks and quoted names, words normalised (case, contractions, typos)."""
    text = text.translate(_QUOTES).strip()
    # Quotes around the whole question mean nothing.
    for quote in "\"'":
        if len(text) > 2 and text[0] == text[-1] == quote and quote not in text[1:-1]:
            text = text[1:-1]
    tokens: list[Token] = []
    unquoted = ""
    for piece, is_quoted in _quoted(text):
        if is_quoted and says_something(piece):
            tokens += _plain_tokens(unquoted)
            unquoted = ""
            tokens.append(Token(" ".join(piece.split()), ""))
        else:
            unquoted += f" {piece} " if is_quoted else piece
    tokens += _plain_tokens(unquoted)
    return tokens


def _joins_by_first_word() -> dict[str, list[tuple[tuple[str, ...], tuple[str, ...]]]]:
    found: dict[str, list[tuple[tuple[str, ...], tuple[str, ...]]]] = {}
    for words, instead in JOINS:
        found.setdefault(words[0], []).append((words, instead))
    return found


_JOINS = _joins_by_first_word()


def join_phrases(tokens: list[Token]) -> list[Token]:
    """The tokens with each phrase of `lexicon.JOINS` as the words that it stands for."""
    out: list[Token] = []
    i = 0
    while i < len(tokens):
        for words, instead in _JOINS.get(tokens[i].word, ()):
            if tuple(t.word for t in tokens[i : i + len(words)]) == words:
                text = " ".join(t.text for t in tokens[i : i + len(words)])
                out += [Token(text, w, joined=True) for w in instead]
                i += len(words)
                break
        else:
            out.append(tokens[i])
            i += 1
    return out


_VIEW_LEADS = words_of("from to of by near with between against in-front-of")


def without_viewpoint(tokens: list[Token]) -> list[Token]:
    """Take out "from me", "to the camera", "from the robot's position", "between me and" …: distances start there."""
    out: list[Token] = []
    i = 0
    leads = _VIEW_LEADS
    while i < len(tokens):
        if tokens[i].word == "between":
            leads = leads | {"and"}  # "between the chair and me"
        end = _viewpoint_end(tokens, i) if tokens[i].word in leads else i
        if end == i:
            out.append(tokens[i])
            i += 1
            continue
        if tokens[i].word == "between" and end < len(tokens) and tokens[end].word == "and":
            end += 1  # "between me and the chair"
            out.append(Token("to", "to"))
        i = end
    return out


def _viewpoint_end(tokens: list[Token], i: int) -> int:
    """Where the viewpoint phrase that starts with the preposition at i ends; i where there is none."""
    words = [t.word for t in tokens[i : i + 5]] + [""] * 5  # a phrase has at most five words, "" is past the end
    # 1. "from where I am"
    if words[1] == "where":
        return i + 4 if words[2:4] in (["i", "am"], ["we", "are"], ["you", "are"]) else i
    # 2. "from my position"
    determined = words[1] in ("the", "this", "my", "our", "your")
    at = 2 if determined else 1
    if words[1] in ("my", "our", "your") and words[2] in VIEWER_TAILS:
        return i + 3
    # 3. "from me", "from the camera"
    if words[at] not in VIEWPOINT and not (words[at] == "you" and not determined):
        return i
    end = at + 2 if words[at + 1] == "'s" else at + 1
    # 4. "from the camera's position"
    if words[end] in VIEWER_TAILS:
        return i + end + 1
    # 5. "the robot arm", "the camera bag" are names; "the camera", "the camera or …" the viewpoint.
    following = tokens[i + end : i + end + 1]
    if determined and following and (following[0].is_name or not _ends_noun(following[0].word)):
        return i
    return i + end


def _ends_noun(word: str) -> bool:
    """Whether a word cannot be the second half of a compound noun."""
    return (
        word in PUNCTUATION or word in DETERMINERS or word in ASKING or word in AUXILIARY or word in FILLER
        or word in CLOSER or word in FARTHER or word in NEAREST or word in FARTHEST
    )  # fmt: skip


def singular(word: str) -> str:
    """One of what a word means: "chairs" → "chair", "people" → "person"."""
    irregular = {
        "people": "person", "men": "man", "women": "woman", "children": "child", "mice": "mouse", "feet": "foot",
        "shelves": "shelf", "bookshelves": "bookshelf", "knives": "knife", "leaves": "leaf", "persons": "person",
        "scissors": "scissors", "glasses": "glasses", "buses": "bus", "loaves": "loaf",
    }  # fmt: skip
    if word in irregular:
        return irregular[word]
    if len(word) > 3 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("ches", "shes", "xes", "sses", "zes")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def key_of(name: str) -> tuple[str, ...]:
    """A name's words for comparing: lower case, no article, last word singular."""
    words = re.findall(r"[^\s]+", name.translate(_QUOTES).casefold())
    while len(words) > 1 and words[0] in DETERMINERS:
        words = words[1:]
    return (*words[:-1], singular(words[-1])) if words else ()


def are_synonyms(a: str, b: str) -> bool:
    """Whether two names, in lower case, may be said of one thing: "sofa" and "couch", "person" and "pedestrian"."""
    return any(a in group and b in group for group in SYNONYMS)


class KnownNames:
    """Names known beforehand, to cut questions and to spell names by.

    Attributes:
        names: The names, each once, in their order.
        by_key: Each name by its `key_of`.
    """

    def __init__(self, names: Sequence[str]) -> None:
        first: dict[str, str] = {}
        for name in filter(None, (clean_text(str(n)) for n in names)):
            first.setdefault(name.casefold(), name)
        self.names = tuple(first.values())
        self.by_key: dict[tuple[str, ...], str] = {}
        for name in self.names:
            self.by_key.setdefault(key_of(name), name)
        self.longest = max((len(k) for k in self.by_key), default=0)

    def masked(self, tokens: list[Token]) -> list[Token]:
        """Tokens with each known name as one token, the longest first."""
        if not self.longest:
            return tokens
        out: list[Token] = []
        i = 0
        while i < len(tokens):
            for size in range(min(self.longest, len(tokens) - i), 0, -1):
                group = tokens[i : i + size]
                if any(t.is_name or t.joined for t in group):
                    continue
                words = tuple(t.text.casefold() for t in group)
                if (*words[:-1], singular(words[-1])) in self.by_key:
                    out.append(Token(text_of(group), ""))
                    i += size
                    break
            else:
                out.append(tokens[i])
                i += 1
        return out

    def resolve(self, name: str) -> str:
        """The known name that is meant: the same word, its plural, a synonym, or the only one that ends with it."""
        key = key_of(name)
        if key in self.by_key:
            return self.by_key[key]
        same = [known for k, known in self.by_key.items() if are_synonyms(" ".join(key), " ".join(k))]
        if len(same) == 1:
            return same[0]
        ending = [known for k, known in self.by_key.items() if len(k) > len(key) and k[-len(key) :] == key]
        return ending[0] if len(ending) == 1 else name


def text_of(tokens: Iterable[Token]) -> str:
    """The tokens as they were written."""
    return "".join(t.text if t.glued else f" {t.text}" for t in tokens).strip()


def strippable(token: Token) -> bool:
    """Whether a token is a function word or punctuation, which no name begins or ends with."""
    word = token.word
    return not token.is_name and (
        word in DETERMINERS or word in ASKING or word in AUXILIARY or word in FILLER or word in PUNCTUATION
    )


def stripped(tokens: Sequence[Token], extra: frozenset[str] = frozenset()) -> Sequence[Token]:
    """The tokens without function words at both ends. extra: more words to take for such."""
    start, end = 0, len(tokens)
    while start < end and (strippable(tokens[start]) or tokens[start].word in extra):
        # "the one on the left": "one" is the noun here.
        if tokens[start].word in _ONE and start + 1 < end and tokens[start + 1].word in PLACES:
            break
        start += 1
    while end > start and (strippable(tokens[end - 1]) or tokens[end - 1].word in extra):
        if tokens[end - 1].word in _ONE and end - 1 > start:
            break  # "the red one"
        if end - 1 > start and tokens[end - 2].word in _COMPOUNDS.get(tokens[end - 1].word, ()):
            break  # "the trash can"
        end -= 1
    return tokens[start:end]


def pieces_of(tokens: Sequence[Token], separators: frozenset[str]) -> Iterator[Sequence[Token]]:
    """Cut at punctuation and separators, but not inside "black and white mug"."""
    start = 0
    for i, token in enumerate(tokens):
        if token.word in PUNCTUATION or token.word in separators:
            if _joins_colours(tokens, i):
                continue
            yield tokens[start:i]
            start = i + 1
    yield tokens[start:]


def _joins_colours(tokens: Sequence[Token], i: int) -> bool:
    """Whether the token at i is the "and" of "black and white mug"."""
    return (
        tokens[i].word == "and"
        and 0 < i < len(tokens) - 2
        and tokens[i - 1].word in COLOURS
        and tokens[i + 1].word in COLOURS
        and tokens[i - 2 if i > 1 else i - 1].word != "or"
        and not _ends_noun(tokens[i + 2].word or "name")
    )


def names_in(
    tokens: Sequence[Token],
    known: KnownNames,
    separators: frozenset[str] = SEPARATORS,
    extra: frozenset[str] = frozenset(),
    noun: str = "",
) -> tuple[str, ...]:
    """The object names in a stretch of a question.

    Args:
        tokens: The stretch.
        known: Names to spell by.
        separators: Words between two names, besides punctuation.
        extra: Words that no name begins or ends with, besides function words.
        noun: What "one" stands for, '' = not known.

    Returns:
        The names in order, each once, spelled as known where known.

    Raises:
        NotUnderstoodError: A name is longer than MAX_NAME_LENGTH, or there are more than MAX_OBJECTS.
    """
    names: dict[str, str] = {}
    for piece in pieces_of(tokens, separators):
        name = _name_of(stripped(piece, extra), noun)
        if not says_something(name):
            continue
        name = known.resolve(name)
        if len(name) > MAX_NAME_LENGTH:
            raise NotUnderstoodError(
                f"the object name {name[:30]!r}… has {len(name)} characters, at most {MAX_NAME_LENGTH} are understood; "
                f"ask {EXAMPLE}"
            )
        names.setdefault(name.casefold(), ObjectQuery(name).name)
    if len(names) > MAX_OBJECTS:
        raise NotUnderstoodError(f"the question names {len(names)} objects; at most {MAX_OBJECTS} fit one question")
    return tuple(names.values())


def _name_of(piece: Sequence[Token], noun: str) -> str:
    """The name in a stripped piece, '' where it has none ("the visible objects")."""
    if not piece or (piece[-1].word in GENERIC and all(t.word in GENERIC | NOTICED for t in piece[:-1])):
        return ""
    name = text_of(_with_noun(piece, noun)).strip("'\".- ")
    while len(words := name.split(maxsplit=1)) > 1 and words[0].casefold() in ARTICLES:
        name = words[1]  # of a quoted name
    return name


def _with_noun(piece: Sequence[Token], noun: str) -> Sequence[Token]:
    """The piece with the noun that "one", or a colour alone, stands for."""
    if not noun or piece[-1].is_name or piece[0].is_name:
        return piece
    if piece[0].word in _ONE:
        return [Token(noun, noun), *piece[1:]]
    if piece[-1].word in _ONE:
        return [*piece[:-1], Token(noun, noun)]
    if all(t.word in COLOURS for t in piece):
        return [*piece, Token(noun, noun)]
    return piece
