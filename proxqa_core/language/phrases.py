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
    """A word, a punctuation mark or a whole name (quoted or known) of a question."""

    text: str  # as said
    word: str  # normalised; empty for a whole name
    glued: bool = False  # written without a space before it
    joined: bool = False  # made of several words by rule, e.g. "in-front"

    @property
    def is_name(self) -> bool:
        return not self.word


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
            # A lone dash between names parts them, as a comma does.
            yield Token(raw, ",")
            continue
        lower = body.casefold()
        if lower.endswith("'s") and len(lower) > 2:
            base, first = lower[:-2], body[:-2]
            if base in CONTRACTED:
                yield Token(first, TYPOS.get(base, base))
                yield Token("is", "is")
            else:
                yield Token(first, TYPOS.get(base, base))
                yield Token(body[-2:], "'s", glued=True)
        elif lower.endswith("'re") and len(lower) > 3:
            yield Token(body[:-3], lower[:-3])
            yield Token("are", "are")
        elif lower == "whats":
            yield Token(body, "what")
            yield Token("is", "is")
        else:
            yield Token(body, TYPOS.get(lower, lower))
        if raw.endswith("."):
            yield Token(".", ".")


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
    text = text.translate(_QUOTES).strip()
    # Quotes round the whole question say nothing.
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


def join_phrases(tokens: list[Token]) -> list[Token]:
    by_first: dict[str, list[tuple[tuple[str, ...], tuple[str, ...]]]] = {}
    for words, instead in JOINS:
        by_first.setdefault(words[0], []).append((words, instead))
    out: list[Token] = []
    i = 0
    while i < len(tokens):
        for words, instead in by_first.get(tokens[i].word, ()):
            if tuple(t.word for t in tokens[i : i + len(words)]) == words:
                said = " ".join(t.text for t in tokens[i : i + len(words)])
                out += [Token(said, w, joined=True) for w in instead]
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
    j = i + 1
    if j < len(tokens) and tokens[j].word in ("the", "this", "my", "our", "your", "where"):
        if tokens[j].word == "where":
            words = [t.word for t in tokens[j + 1 : j + 3]]
            return j + 3 if words in (["i", "am"], ["we", "are"], ["you", "are"]) else i
        j += 1
    if j >= len(tokens):
        return i
    if tokens[j].word in VIEWER_TAILS and tokens[j - 1].word in ("my", "our", "your"):
        return j + 1
    if tokens[j].word not in VIEWPOINT and not (tokens[j].word == "you" and j == i + 1):
        return i
    determined = j > i + 1
    j += 1
    if j < len(tokens) and tokens[j].word == "'s":
        j += 1
    if j < len(tokens) and tokens[j].word in VIEWER_TAILS:
        return j + 1
    # "the robot arm", "the camera bag" are names; "the camera", "the camera or …" the viewpoint.
    if determined and j < len(tokens) and (tokens[j].is_name or not _ends_noun(tokens[j].word)):
        return i
    return j


def _ends_noun(word: str) -> bool:
    """Whether a word cannot be the second half of a compound noun."""
    return (
        word in PUNCTUATION or word in DETERMINERS or word in ASKING or word in AUXILIARY or word in FILLER
        or word in CLOSER or word in FARTHER or word in NEAREST or word in FARTHEST
    )  # fmt: skip


def _singular(word: str) -> str:
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
    return (*words[:-1], _singular(words[-1])) if words else ()


def _synonymous(a: str, b: str) -> bool:
    return any(a in group and b in group for group in SYNONYMS)


class KnownNames:
    """Names known beforehand, to cut questions and to spell names by."""

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
                said = tokens[i : i + size]
                if any(t.is_name or t.joined for t in said):
                    continue
                words = tuple(t.text.casefold() for t in said)
                if (*words[:-1], _singular(words[-1])) in self.by_key:
                    out.append(Token(text_of(said), ""))
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
        same = [known for k, known in self.by_key.items() if _synonymous(" ".join(key), " ".join(k))]
        if len(same) == 1:
            return same[0]
        ending = [known for k, known in self.by_key.items() if len(k) > len(key) and k[-len(key) :] == key]
        return ending[0] if len(ending) == 1 else name


def text_of(tokens: Iterable[Token]) -> str:
    return "".join(t.text if t.glued else f" {t.text}" for t in tokens).strip()


def strippable(token: Token) -> bool:
    word = token.word
    return not token.is_name and (
        word in DETERMINERS or word in ASKING or word in AUXILIARY or word in FILLER or word in PUNCTUATION
    )


def stripped(tokens: Sequence[Token], extra: frozenset[str] = frozenset()) -> Sequence[Token]:
    start, end = 0, len(tokens)
    while start < end and (strippable(tokens[start]) or tokens[start].word in extra):
        # "the one on the left": "one" is the noun here.
        if tokens[start].word in ("one", "ones") and start + 1 < end and tokens[start + 1].word in PLACES:
            break
        start += 1
    while end > start and (strippable(tokens[end - 1]) or tokens[end - 1].word in extra):
        if tokens[end - 1].word in ("one", "ones") and end - 1 > start:
            break  # "the red one"
        end -= 1
    return tokens[start:end]


def pieces_of(tokens: Sequence[Token], separators: frozenset[str]) -> Iterator[Sequence[Token]]:
    """Cut at punctuation and separators, but not inside "black and white mug"."""
    start = 0
    for i, token in enumerate(tokens):
        if token.word in PUNCTUATION or token.word in separators:
            if (
                token.word == "and"
                and 0 < i < len(tokens) - 2
                and tokens[i - 1].word in COLOURS
                and tokens[i + 1].word in COLOURS
                and tokens[i - 2 if i > 1 else i - 1].word not in ("or",)
                and not _ends_noun(tokens[i + 2].word or "name")
            ):
                continue
            yield tokens[start:i]
            start = i + 1
    yield tokens[start:]


def names_in(
    tokens: Sequence[Token],
    known: KnownNames,
    separators: frozenset[str] = SEPARATORS,
    extra: frozenset[str] = frozenset(),
    noun: str = "",
) -> tuple[str, ...]:
    """The object names in a stretch of a question, in order, each once, spelled as known where known."""
    names: dict[str, str] = {}
    for piece in pieces_of(tokens, separators):
        kept = list(stripped(piece, extra))
        if not kept or (kept[-1].word in GENERIC and all(t.word in GENERIC | NOTICED for t in kept[:-1])):
            continue  # "the visible objects"
        if noun and not kept[-1].is_name and not kept[0].is_name:
            if kept[0].word in ("one", "ones"):
                kept[0] = Token(noun, noun)
            elif kept[-1].word in ("one", "ones"):
                kept[-1] = Token(noun, noun)
            elif all(t.word in COLOURS for t in kept):
                kept.append(Token(noun, noun))
        name = text_of(kept).strip("'\".- ")
        while len(words := name.split(maxsplit=1)) > 1 and words[0].casefold() in ARTICLES:
            name = words[1]  # of a quoted name
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
