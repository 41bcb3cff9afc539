"""Free-text questions: which kind of question it is, and of which objects.

Promises: any text gives a `Question` whose names are valid object names, or a NotUnderstoodError with one line that
says what would be right. Rules over words, in time linear in the text; no model, no network, same answer every time.
Knows nothing of images, and nothing of English beyond the word lists below.

How it reads: words are normalised (case, contractions, common typos), phrases that mean the viewpoint ("from me", "to
the camera") are taken out, then the question word decides the kind and what is left over, stripped of function
words, are the names.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from proxqa_core.errors import NotUnderstoodError
from proxqa_core.types import (
    MAX_NAME_LENGTH,
    MAX_OBJECTS,
    MAX_QUESTION_LENGTH,
    ObjectQuery,
    QuestionKind,
    clean_text,
)


@dataclass(frozen=True)
class Question:
    """A question understood.

    kind: what it asks for. names: the objects it speaks of, in the order said; a name that means one of the known
    names is spelled as that one is. Empty names with NEAREST, FARTHEST or SORT mean "of all objects asked for".
    asked: the question as one line of clean text. yes_no: it wants yes or no: is names[0] closer (kind CLOSER) or
    farther (kind FARTHER) than names[1].
    """

    kind: QuestionKind
    names: tuple[str, ...]
    asked: str
    yes_no: bool = False


# --- words -----------------------------------------------------------------------------------------------------------


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_CLOSER = _words("closer nearer")
_FARTHER = _words("farther further deeper remoter")
_NEAREST = _words("closest nearest foremost")
_FARTHEST = _words("farthest furthest remotest deepest hindmost rearmost")
_VIEWPOINT = _words(
    "me us here myself ourselves camera robot viewer observer lens sensor viewpoint cam ego viewer's camera's robot's"
)
_VIEWER_TAILS = _words("position viewpoint view lens location standpoint perspective")
_DETERMINERS = _words(
    "the a an my your our their his her its this that these those some any each every both either all of 's"
)
_ARTICLES = _words("the a an my your our their his her its this that these those")
_ASKING = _words("which what who whom where when why how whose")
_AUXILIARY = _words(
    "is are was were be am being been do does did can could will would shall should may might must has have had isn't "
    "aren't doesn't don't can't not"
)
_FILLER = _words(
    "please ok okay hey hi hello so well now right-now currently then actually really just exactly approximately "
    "roughly about around maybe perhaps still even much lot way slightly clearly significantly considerably relatively "
    "quite also there away off apart standing stand stands sit sits sitting lie lies lying located placed situated "
    "positioned seem seems appear appears look looks looking and or vs versus nor but if whether than as to at from "
    "between among amongst out by in on for with it they them one ones i we you he she tell say ask know think want "
    "need find show give let see guess estimate measure determine me us yes no more less compared comparison "
    "respectively together tends physically visually directly straight too very ahead like distance distances depth "
    "depths proximity range object's order"
)
_GENERIC = _words(
    "thing things object objects item items one ones something anything everything obstacle obstacles stuff them they "
    "it these those all both everybody anybody someone anyone everyone two three four five others other rest above "
    "following pair candidates options"
)
_SEPARATORS = _words("and or & vs versus nor plus")
_PUNCTUATION = frozenset(",;:?!()[]{}/.\u2026")
_REACHING = _words("reach hit touch bump collide get meet pass arrive grab grasp encounter bump crash run")
_MOTION = _words(
    "i we you it me us my robot arm reach reaches hit hits touch touches bump bumps collide get gets meet meets pass "
    "passes arrive grab grasp encounter drive drives go goes move moves walk walks travel crash run fly have into with "
    "at to until first going"
)
_LISTING = _words("sort order rank list arrange enumerate sorted ranked ordered")
_MEASURES = _words("distance distances depth depths range proximity")
_MORE = _words("more greater larger bigger longer higher")
_LESS = _words("less smaller shorter lower")
_COLOURS = _words(
    "black white grey gray silver red green blue yellow orange purple pink brown beige gold golden violet turquoise "
    "cyan magenta dark light"
)
_INTERJECTIONS = _words("hello hi hey thanks thank stop help ok okay yes no bye goodbye sorry please")
_PEOPLE = "man woman boy girl guy lady human pedestrian people men women child kid adult"
_SYNONYMS = tuple(
    _words(group.replace("_", " ")) if "_" not in group else frozenset(w.replace("_", " ") for w in group.split())
    for group in (
        "sofa couch settee",
        "tv television television_set tv_set telly",
        "monitor screen computer_monitor",
        "mouse computer_mouse",
        "phone telephone mobile cell_phone mobile_phone cellphone smartphone",
        "bike bicycle",
        "motorbike motorcycle",
        "plane airplane aeroplane aircraft",
        "fridge refrigerator",
        "plant potted_plant house_plant",
        "table dining_table",
        "rubbish_bin trash_can trash_bin garbage_can garbage_bin bin waste_basket",
        "cup mug",
        "couch_table coffee_table",
        "bookcase bookshelf book_shelf",
        "cupboard cabinet",
        "wardrobe closet",
        "laptop notebook laptop_computer",
        "lorry truck",
        "lamp light",
        "automobile car",
        "person " + _PEOPLE,
    )
)

_EXAMPLE = "such as 'how far is the chair?' or 'which is closer, the chair or the table?'"


def _typos() -> dict[str, str]:
    """Misspellings of the question words: two letters swapped, one left out or one doubled; and some others.

    Real words that arise this way ("father", "closet", "font") are left alone: they are names.
    """
    real = _words("father font closet close closes lose loser clove cose rather fathers fort fares oder bhind")
    table: dict[str, str] = {}
    words = (
        "which closer nearer closest nearest farther further farthest furthest distance behind front between compare"
    )
    for word in words.split():
        for i in range(len(word)):
            left_out = word[:i] + word[i + 1 :]
            swapped = word[:i] + word[i + 1 : i + 2] + word[i] + word[i + 2 :]
            doubled = word[:i] + word[i] + word[i:]
            for wrong in (left_out, swapped, doubled):
                if wrong != word and wrong not in real and len(wrong) > 3:
                    table.setdefault(wrong, word)
    by_hand = {
        "wich": "which", "wat": "what", "waht": "what", "whta": "what", "hwo": "how",
        "hw": "how", "teh": "the", "hte": "the", "distence": "distance", "behide": "behind", "infront": "in-front",
        "compair": "compare", "fahrther": "farther", "clostest": "closest", "thier": "their", "fare": "far",
        "iz": "is", "versus": "vs", "meters": "metres",
    }  # fmt: skip
    return table | by_hand


_TYPOS = _typos()
_CONTRACTED = _words("what which who where how that it there here whats")


# --- tokens ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Token:
    """A word, a punctuation mark or a whole name (quoted or known) of a question."""

    text: str  # as said
    word: str  # normalised; empty for a whole name
    glued: bool = False  # written without a space before it
    joined: bool = field(default=False)  # made of several words by rule, e.g. "in-front"

    @property
    def is_name(self) -> bool:
        return not self.word


_SPLIT = re.compile(r"[,;:?!()\[\]{}/\u2026]|[^\s,;:?!()\[\]{}/\u2026]+")
_QUOTES = {ord(c): '"' for c in "\u201c\u201d\u201e\u201f\u00ab\u00bb\u2033"} | {
    ord(c): "'" for c in "\u2018\u2019\u201a\u201b\u2032`\u00b4"
}


def _says_something(text: str) -> bool:
    """Whether a text has anything but punctuation and spaces: a letter, a digit or a picture."""
    return any(unicodedata.category(c)[0] in "LN" or unicodedata.category(c) == "So" for c in text)


def _plain_tokens(text: str) -> Iterator[_Token]:
    for match in _SPLIT.finditer(text):
        raw = match.group()
        if raw in _PUNCTUATION:
            yield _Token(raw, raw)
            continue
        body = raw.strip("'*_\"-.~=+<>|\\^#@$")
        if not body:
            # A lone dash between names parts them, as a comma does.
            yield _Token(raw, ",")
            continue
        lower = body.casefold()
        if lower.endswith("'s") and len(lower) > 2:
            base, first = lower[:-2], body[:-2]
            if base in _CONTRACTED:
                yield _Token(first, _TYPOS.get(base, base))
                yield _Token("is", "is")
            else:
                yield _Token(first, _TYPOS.get(base, base))
                yield _Token(body[-2:], "'s", glued=True)
        elif lower.endswith("'re") and len(lower) > 3:
            yield _Token(body[:-3], lower[:-3])
            yield _Token("are", "are")
        elif lower == "whats":
            yield _Token(body, "what")
            yield _Token("is", "is")
        else:
            yield _Token(body, _TYPOS.get(lower, lower))
        if raw.endswith("."):
            yield _Token(".", ".")


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


def _tokens(text: str) -> list[_Token]:
    text = text.translate(_QUOTES).strip()
    # Quotes round the whole question say nothing.
    for quote in "\"'":
        if len(text) > 2 and text[0] == text[-1] == quote and quote not in text[1:-1]:
            text = text[1:-1]
    tokens: list[_Token] = []
    unquoted = ""
    for piece, is_quoted in _quoted(text):
        if is_quoted and _says_something(piece):
            tokens += _plain_tokens(unquoted)
            unquoted = ""
            tokens.append(_Token(" ".join(piece.split()), ""))
        else:
            unquoted += f" {piece} " if is_quoted else piece
    tokens += _plain_tokens(unquoted)
    return tokens


_JOINS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    # What is said with several words, as the one word that the rules look for. Longest first.
    (("in", "the", "front", "of"), ("in-front-of",)),
    (("in", "front", "of"), ("in-front-of",)),
    (("in-front", "of"), ("in-front-of",)),
    (("in", "the", "front"), ("in-front",)),
    (("in", "front"), ("in-front",)),
    (("at", "the", "front"), ("in-front",)),
    (("at", "the", "back"), ("at-back",)),
    (("in", "the", "back"), ("at-back",)),
    (("in", "back", "of"), ("behind",)),
    (("more", "distant"), ("farther",)),
    (("more", "remote"), ("farther",)),
    (("more", "far"), ("farther",)),
    (("less", "far"), ("closer",)),
    (("less", "distant"), ("closer",)),
    (("less", "close"), ("farther",)),
    (("most", "distant"), ("farthest",)),
    (("most", "remote"), ("farthest",)),
    (("least", "far"), ("nearest",)),
    (("least", "distant"), ("nearest",)),
    (("a", "bit"), ("slightly",)),
    (("a", "little"), ("slightly",)),
    (("a", "lot"), ("much",)),
    (("right", "now"), ("now",)),
    (("at", "the", "moment"), ("now",)),
    (("as", "well", "as"), ("and",)),
    (("in", "metres"), ()),
    (("in", "meter"), ()),
    (("in", "feet"), ()),
    (("in", "cm"), ()),
    (("in", "centimetres"), ()),
    (("in", "view"), ()),
    (("in", "sight"), ()),
    *(((p, d, n), ()) for p in ("in", "of") for d in ("the", "this", "my")
      for n in ("image", "picture", "photo", "view", "scene", "frame", "photograph")),
)  # fmt: skip


def _joined(tokens: list[_Token]) -> list[_Token]:
    by_first: dict[str, list[tuple[tuple[str, ...], tuple[str, ...]]]] = {}
    for words, instead in _JOINS:
        by_first.setdefault(words[0], []).append((words, instead))
    out: list[_Token] = []
    i = 0
    while i < len(tokens):
        for words, instead in by_first.get(tokens[i].word, ()):
            if tuple(t.word for t in tokens[i : i + len(words)]) == words:
                said = " ".join(t.text for t in tokens[i : i + len(words)])
                out += [_Token(said, w, joined=True) for w in instead]
                i += len(words)
                break
        else:
            out.append(tokens[i])
            i += 1
    return out


_VIEW_LEADS = _words("from to of by near with between against in-front-of")


def _without_viewpoint(tokens: list[_Token]) -> list[_Token]:
    """Take out "from me", "to the camera", "from the robot's position", "between me and" …: distances start there."""
    out: list[_Token] = []
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
            out.append(_Token("to", "to"))
        i = end
    return out


def _viewpoint_end(tokens: list[_Token], i: int) -> int:
    """Where the viewpoint phrase that starts with the preposition at i ends; i where there is none."""
    j = i + 1
    if j < len(tokens) and tokens[j].word in ("the", "this", "my", "our", "your", "where"):
        if tokens[j].word == "where":
            words = [t.word for t in tokens[j + 1 : j + 3]]
            return j + 3 if words in (["i", "am"], ["we", "are"], ["you", "are"]) else i
        j += 1
    if j >= len(tokens):
        return i
    if tokens[j].word in _VIEWER_TAILS and tokens[j - 1].word in ("my", "our", "your"):
        return j + 1
    if tokens[j].word not in _VIEWPOINT and not (tokens[j].word == "you" and j == i + 1):
        return i
    determined = j > i + 1
    j += 1
    if j < len(tokens) and tokens[j].word == "'s":
        j += 1
    if j < len(tokens) and tokens[j].word in _VIEWER_TAILS:
        return j + 1
    # "the robot arm", "the camera bag" are names; "the camera", "the camera or …" the viewpoint.
    if determined and j < len(tokens) and (tokens[j].is_name or not _ends_noun(tokens[j].word)):
        return i
    return j


def _ends_noun(word: str) -> bool:
    """Whether a word cannot be the second half of a compound noun."""
    return (
        word in _PUNCTUATION or word in _DETERMINERS or word in _ASKING or word in _AUXILIARY or word in _FILLER
        or word in _CLOSER or word in _FARTHER or word in _NEAREST or word in _FARTHEST
    )  # fmt: skip


# --- known names -----------------------------------------------------------------------------------------------------


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


def _key(name: str) -> tuple[str, ...]:
    """A name's words for comparing: lower case, no article, last word singular."""
    words = re.findall(r"[^\s]+", name.translate(_QUOTES).casefold())
    while len(words) > 1 and words[0] in _DETERMINERS:
        words = words[1:]
    return (*words[:-1], _singular(words[-1])) if words else ()


def _canonical(key: tuple[str, ...]) -> str:
    """The first synonym of a whole name, or the name."""
    said = " ".join(key)
    for group in _SYNONYMS:
        if said in group:
            return min(group)
    return said


class _Known:
    """Names known beforehand, to cut questions and to spell names by."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(dict.fromkeys(n for n in (clean_text(str(n)) for n in names) if n))
        self.by_key: dict[tuple[str, ...], str] = {}
        for name in self.names:
            self.by_key.setdefault(_key(name), name)
        self.longest = max((len(k) for k in self.by_key), default=0)

    def masked(self, tokens: list[_Token]) -> list[_Token]:
        """Tokens with each known name as one token, the longest first."""
        if not self.longest:
            return tokens
        out: list[_Token] = []
        i = 0
        while i < len(tokens):
            for size in range(min(self.longest, len(tokens) - i), 0, -1):
                said = tokens[i : i + size]
                if any(t.is_name or t.joined for t in said):
                    continue
                words = tuple(t.text.casefold() for t in said)
                if (*words[:-1], _singular(words[-1])) in self.by_key:
                    out.append(_Token(_said(said), ""))
                    i += size
                    break
            else:
                out.append(tokens[i])
                i += 1
        return out

    def resolve(self, name: str) -> str:
        """The known name that is meant: the same word, its plural, a synonym, or the only one that ends with it."""
        key = _key(name)
        if key in self.by_key:
            return self.by_key[key]
        said = _canonical(key)
        same = [known for k, known in self.by_key.items() if _canonical(k) == said]
        if len(same) == 1:
            return same[0]
        ending = [known for k, known in self.by_key.items() if len(k) > len(key) and k[-len(key) :] == key]
        return ending[0] if len(ending) == 1 else name


# --- names in a piece of a question ----------------------------------------------------------------------------------


def _said(tokens: Iterable[_Token]) -> str:
    return "".join(t.text if t.glued else f" {t.text}" for t in tokens).strip()


def _strippable(token: _Token) -> bool:
    word = token.word
    return not token.is_name and (
        word in _DETERMINERS or word in _ASKING or word in _AUXILIARY or word in _FILLER or word in _PUNCTUATION
    )


def _strip(tokens: Sequence[_Token], extra: frozenset[str] = frozenset()) -> Sequence[_Token]:
    start, end = 0, len(tokens)
    while start < end and (_strippable(tokens[start]) or tokens[start].word in extra):
        # "the one on the left": "one" is the noun here.
        if tokens[start].word in ("one", "ones") and start + 1 < end and tokens[start + 1].word in _PLACES:
            break
        start += 1
    while end > start and (_strippable(tokens[end - 1]) or tokens[end - 1].word in extra):
        if tokens[end - 1].word in ("one", "ones") and end - 1 > start:
            break  # "the red one"
        end -= 1
    return tokens[start:end]


_PLACES = _words("on in at with behind near under above in-front next by")


def _pieces(tokens: Sequence[_Token], separators: frozenset[str]) -> Iterator[Sequence[_Token]]:
    """Cut at punctuation and separators, but not inside "black and white mug"."""
    start = 0
    for i, token in enumerate(tokens):
        if token.word in _PUNCTUATION or token.word in separators:
            if (
                token.word == "and"
                and 0 < i < len(tokens) - 2
                and tokens[i - 1].word in _COLOURS
                and tokens[i + 1].word in _COLOURS
                and tokens[i - 2 if i > 1 else i - 1].word not in ("or",)
                and not _ends_noun(tokens[i + 2].word or "name")
            ):
                continue
            yield tokens[start:i]
            start = i + 1
    yield tokens[start:]


def _names(
    tokens: Sequence[_Token],
    known: _Known,
    separators: frozenset[str] = _SEPARATORS,
    extra: frozenset[str] = frozenset(),
    noun: str = "",
) -> tuple[str, ...]:
    """The object names in a stretch of a question, in order, each once, spelled as known where known."""
    names: dict[str, str] = {}
    for piece in _pieces(tokens, separators):
        kept = list(_strip(piece, extra))
        if not kept or (len(kept) == 1 and kept[0].word in _GENERIC):
            continue
        if noun and not kept[-1].is_name and not kept[0].is_name:
            if kept[0].word in ("one", "ones"):
                kept[0] = _Token(noun, noun)
            elif kept[-1].word in ("one", "ones"):
                kept[-1] = _Token(noun, noun)
            elif all(t.word in _COLOURS for t in kept):
                kept.append(_Token(noun, noun))
        name = _said(kept).strip("'\".- ")
        while len(words := name.split(maxsplit=1)) > 1 and words[0].casefold() in _ARTICLES:
            name = words[1]  # of a quoted name
        if not _says_something(name):
            continue
        name = known.resolve(name)
        if len(name) > MAX_NAME_LENGTH:
            raise NotUnderstoodError(
                f"the object name {name[:30]!r}… has {len(name)} characters, at most {MAX_NAME_LENGTH} are understood; "
                f"ask {_EXAMPLE}"
            )
        names.setdefault(name.casefold(), ObjectQuery(name).name)
    if len(names) > MAX_OBJECTS:
        raise NotUnderstoodError(f"the question names {len(names)} objects; at most {MAX_OBJECTS} fit one question")
    return tuple(names.values())


# --- the rules -------------------------------------------------------------------------------------------------------


def understand(question: str, known: Sequence[str] = ()) -> Question:
    """What a question in everyday English asks for, and of which objects.

    known: names that the caller already has (at most MAX_OBJECTS are looked at); they help to cut the question
    ("salt and pepper mill") and names that mean one of them (plural, synonym, "the chair" for the only chair) are
    returned spelled as known. Words such as "it" or "they" mean the known names.

    Raises NotUnderstoodError, with one line that says what would be right, on a question that is empty, longer than
    MAX_QUESTION_LENGTH, or that names nothing, or too little, to compare; and on distances between two objects, since
    distances are from the camera. A sentence that is no question of distance is QuestionKind.GENERAL.
    """
    if not isinstance(question, str):
        raise NotUnderstoodError(f"the question is a {type(question).__name__}; expected text, {_EXAMPLE}")
    if len(question) > MAX_QUESTION_LENGTH:
        raise NotUnderstoodError(
            f"the question has {len(question)} characters; at most {MAX_QUESTION_LENGTH} are understood"
        )
    asked = clean_text(question)
    if not asked:
        raise NotUnderstoodError(f"the question is empty; ask one {_EXAMPLE}")
    if not _says_something(asked):
        raise NotUnderstoodError(f"the question {asked[:40]!r} has no words; ask one {_EXAMPLE}")
    names = _Known(tuple(known)[:MAX_OBJECTS])
    tokens = names.masked(_without_viewpoint(_joined(_tokens(asked))))
    understood = _Reader(asked, _after_politeness(tokens), names).read()
    return replace(understood, asked=asked)


def _after_politeness(tokens: list[_Token]) -> list[_Token]:
    """Drop "please", "can you tell me", "I want to know", "hey robot" at the start."""
    courtesy = _words(
        "please hey hi hello ok okay so well robot can could would will you tell me us say i want to know like do need "
        "just now and wonder wondering am i'm if whether let's let"
    )
    start = 0
    while start < len(tokens) and (tokens[start].word in courtesy or tokens[start].word in (",", ":", "!", ".")):
        start += 1
    dropped = {t.word for t in tokens[:start]}
    # "can I reach", "do you see": only drop where it really led in to a question.
    if start < len(tokens) and (
        tokens[start].word in _ASKING
        or tokens[start].word in _LISTING
        or tokens[start].word in ("compare", "the", "is", "are")
        or not dropped & _words("can could would will do i")
    ):
        return tokens[start:]
    return tokens


def _between_objects() -> NotUnderstoodError:
    return NotUnderstoodError(
        "the question asks for the distance between two objects, but distances are measured from the camera; "
        "ask 'how far is the chair?' or 'which is closer, the chair or the table?'"
    )


@dataclass
class _Reader:
    """One question being read: the rules in the order in which they win."""

    asked: str
    tokens: list[_Token]
    known: _Known

    def __post_init__(self) -> None:
        self.words = [t.word for t in self.tokens]

    def read(self) -> Question:
        for rule in (
            self._sorting,
            self._how_far,
            self._comparing,
            self._superlative,
            self._reaching,
            self._in_front_or_behind,
            self._measure,
            self._is_it_near,
            self._compare,
            self._bare,
        ):
            found = rule()
            if found is not None:
                return found
        mentioned = tuple(dict.fromkeys(self.known.resolve(t.text) for t in self.tokens if t.is_name))
        return self._question(QuestionKind.GENERAL, tuple(n for n in mentioned if len(n) <= MAX_NAME_LENGTH))

    def _question(self, kind: QuestionKind, names: tuple[str, ...], yes_no: bool = False) -> Question:
        return Question(kind, names, self.asked, yes_no)

    def _has(self, *words: str) -> bool:
        """Whether these words stand in the question one after another."""
        n = len(words)
        return any(tuple(self.words[i : i + n]) == words for i in range(len(self.words) - n + 1))

    def _first(self, words: frozenset[str]) -> int:
        """Index of the first of these words, -1 where there is none."""
        return next((i for i, w in enumerate(self.words) if w in words), -1)

    def _is_yes_no(self) -> bool:
        return bool(self.words) and self.words[0] in _AUXILIARY

    def _depth(self, names: tuple[str, ...]) -> Question:
        if not names:
            names = self.known.names
        if not names:
            raise NotUnderstoodError("the question names no object to measure; ask for example 'how far is the chair?'")
        return self._question(QuestionKind.DEPTH, names)

    def _choose(self, kind: QuestionKind, names: tuple[str, ...], yes_no: bool = False) -> Question:
        """Which of these is closer (farther): two make a comparison, more a search for the nearest (farthest)."""
        if not names:
            names = self.known.names if len(self.known.names) > 1 else ()
        if len(names) == 1 and self._refers_back() and len(self.known.names) == 2:
            # "is it closer than the table", of two known things
            names += tuple(n for n in self.known.names if n != names[0])
        if len(names) < 2:
            word = "closer" if kind is QuestionKind.CLOSER else "farther"
            got = f"only {names[0]!r}" if names else "none"
            raise NotUnderstoodError(
                f"a question of which is {word} needs two objects, this one names {got}; "
                f"ask for example 'which is {word}, the chair or the table?'"
            )
        if len(names) > 2:
            kind = QuestionKind.NEAREST if kind is QuestionKind.CLOSER else QuestionKind.FARTHEST
            yes_no = False
        return self._question(kind, names, yes_no)

    def _refers_back(self) -> bool:
        return self._first(_words("it that this one")) >= 0

    # -- rules; each returns None where it does not apply

    def _sorting(self) -> Question | None:
        lead = self.words[0] if self.words else ""
        listing = lead in _LISTING
        near, far = _NEAREST | {"near", "close"}, _FARTHEST | {"far", "distant"}
        span = next(
            (
                i
                for i in range(len(self.words) - 2)
                if self.words[i + 1] == "to"
                and (
                    (self.words[i] in near and self.words[i + 2] in far)
                    or (self.words[i] in far and self.words[i + 2] in near)
                )
            ),
            -1,
        )
        by = next(
            (
                i
                for i in range(len(self.words) - 1)
                if self.words[i] in ("by", "of") and self.words[i + 1] in _MEASURES
                and (listing or (i > 0 and self.words[i - 1] in ("order", "sorted", "ranked", "ordered", "arranged")))
            ),
            -1,
        )  # fmt: skip
        in_order = self._has("in", "what", "order") or self._has("in", "which", "order") or self._has("the", "order")
        first = next(
            (i for i in range(len(self.words) - 1) if self.words[i] in near | far and self.words[i + 1] == "first"), -1
        )
        if not (span >= 0 or by >= 0 or (listing and len(self.words) > 1) or first >= 0 or in_order):
            return None
        drop: set[int] = set()
        if span >= 0:
            drop |= {span, span + 1, span + 2}
        if by >= 0:
            drop |= {by, by + 1}
        if first >= 0:
            drop |= {first, first + 1}
        rest = [t for i, t in enumerate(self.tokens) if i not in drop]
        leads = _words("how far") if self.words[:2] == ["how", "far"] else frozenset()
        extra = _LISTING | leads | _words("them in into order increasing decreasing ascending descending first")
        rest = [_Token(t.text, ",") if t.word in ("from", "starting") else t for t in rest]
        return self._question(QuestionKind.SORT, _names(rest, self.known, extra=extra))

    def _how_far(self) -> Question | None:
        """'how far/close/near/distant …'."""
        at = next(
            (
                i
                for i in range(len(self.words) - 1)
                if self.words[i] == "how" and self.words[i + 1] in _words("far close near distant deep long remote fra")
            ),
            -1,
        )
        if at < 0 or (self.words[at + 1] == "long" and "away" not in self.words):
            return None
        rest = self.tokens[at + 2 :]
        words = [t.word for t in rest]
        if "apart" in words and len(_names(rest, self.known)) > 1:
            raise _between_objects()
        if any(w in ("than",) for w in words):
            return None
        # "how far do I have to go to reach the door", "how far until the door"
        if any(w in _ASKING for w in words) and any(w in _CLOSER | _FARTHER | _NEAREST | _FARTHEST for w in words):
            raise NotUnderstoodError("the text asks two questions; ask one at a time")
        goal = next((i for i, w in enumerate(words) if w in ("reach", "reaching", "until", "before")), -1)
        if goal >= 0 and all(w in _MOTION or _strippable(t) for w, t in zip(words[:goal], rest[:goal], strict=True)):
            rest, words = rest[goal + 1 :], words[goal + 1 :]
        cut = self._relation(rest)
        if cut >= 0:
            subject, landmark = rest[:cut], rest[cut + 1 :]
            of_viewer = all(_strippable(t) or t.word in _VIEWPOINT or t.word in _MOTION for t in subject)
            if not of_viewer and _names(subject, self.known) and _names(landmark, self.known):
                raise _between_objects()
            rest = landmark if of_viewer else subject
        names = _names(rest, self.known, extra=_words("hitting reaching touching"))
        if not names and any(w in ("everything", "all", "anything", "objects", "things") for w in words):
            return self._question(QuestionKind.SORT, ())
        return self._depth(names)

    @staticmethod
    def _relation(rest: Sequence[_Token]) -> int:
        """Index of the "from" or "to" that sets a landmark, -1 where there is none; not "to the left", "next to"."""
        for i, token in enumerate(rest):
            if token.word not in ("from", "to"):
                continue
            following = [t.word for t in rest[i + 1 : i + 3]]
            if token.word == "to" and any(w in _words("left right side rear") for w in following):
                continue
            if token.word == "to" and i and rest[i - 1].word in _words("next closest nearest adjacent close opposite"):
                continue
            return i
        return -1

    def _comparing(self) -> Question | None:
        """'closer', 'farther' and the like, with or without 'than'."""
        at = self._first(_CLOSER | _FARTHER)
        if at < 0:
            # "which is in front, X or Y", "which is behind"
            at = self._first(_words("in-front at-back"))
            if at < 0 or self.words[0] not in _ASKING or not _names(self.tokens[at + 1 :], self.known):
                return None
        kind = QuestionKind.CLOSER if self.words[at] in _CLOSER | {"in-front"} else QuestionKind.FARTHER
        left, right = self.tokens[:at], self.tokens[at + 1 :]
        words = [t.word for t in right]
        while words and words[0] in _words("away off up down by back along"):
            right, words = right[1:], words[1:]
        if words and words[0] in ("to", "from") and len(right) > 1:
            if not all(_strippable(t) or t.word in _VIEWPOINT for t in left) or left[0].word in _ASKING:
                raise _between_objects()
            left = []  # "am I closer to the chair or the table"
        if "than" in words:
            than = words.index("than")
            left_names = _names([*left, _Token(",", ","), *right[:than]], self.known, noun="")
            right_names = _names(right[than + 1 :], self.known)
            asks_subject = left and left[0].word in _ASKING and left[0].word != "how"
            if not left_names and right_names and not asks_subject and len(self.known.names) == 2:
                left_names = tuple(n for n in self.known.names if n not in right_names)
            names = (*left_names, *(n for n in right_names if n not in left_names))
            if len(left_names) != 1 or len(right_names) != 1:
                return self._choose(kind, names)
            yes_no = not any(t.word in _ASKING for t in left)
            return self._choose(kind, names, yes_no)
        noun, left = self._asked_noun(left)
        names = _names([*left, _Token(",", ","), *right], self.known, noun=noun)
        if not names and noun:
            names = (noun,)
        asking = any(w in _ASKING or w in _AUXILIARY for w in self.words)
        if not names and not asking:
            return None  # "come closer"
        return self._choose(kind, names)

    def _asked_noun(self, left: list[_Token]) -> tuple[str, list[_Token]]:
        """The noun of "which chair is …", and the rest: it is no object of its own, but what "one" stands for."""
        comma = _Token(",", ",")
        for i, token in enumerate(left):
            if token.word in ("which", "what"):
                j = i + 1
                while j < len(left) and not _strippable(left[j]) and left[j].word not in _SEPARATORS:
                    j += 1
                noun = _said(left[i + 1 : j])
                if noun and len(noun) <= MAX_NAME_LENGTH and left[i + 1].word not in _GENERIC | {"of"}:
                    return noun, [*left[:i], comma, *left[j:]]
                return "", [*left[:i], comma, *left[i:]]
        return "", left

    def _superlative(self) -> Question | None:
        at = self._first(_NEAREST | _FARTHEST)
        if at < 0:
            if self.words[:1] and self.words[0] in _ASKING and self._first(_REACHING) >= 0 and "first" in self.words:
                extra = _MOTION | {"first"}
                _, rest = self._asked_noun(self.tokens)
                names = _names(rest, self.known, extra=extra)
                if len(names) == 2:
                    return self._question(QuestionKind.CLOSER, names)
                return self._question(QuestionKind.NEAREST, names)
            if self._has("the", "first", "thing") or self._has("the", "first", "object"):
                return self._question(QuestionKind.NEAREST, ())
            return None
        near = self.words[at] in _NEAREST
        kind = QuestionKind.NEAREST if near else QuestionKind.FARTHEST
        left, right = self.tokens[:at], self.tokens[at + 1 :]
        words = [t.word for t in right]
        while words and words[0] in _words("away off back"):
            right, words = right[1:], words[1:]
        cut = self._relation(right)
        if cut >= 0 and _names(right[cut + 1 :], self.known):
            raise _between_objects()
        asking = any(w in _ASKING or w in _AUXILIARY or w in _PUNCTUATION or w == "of" for w in self.words[:at])
        if left and not asking and _names(left, self.known):
            return None  # "go to the nearest chair"
        noun, left = self._asked_noun(left)
        # "which is the nearest of X, Y and Z" has its list after "of", "which of X, Y and Z is the nearest" before it.
        names = _names([*left, _Token(",", ","), *right], self.known, noun=noun)
        if not names and noun:
            names = (noun,)
        if self._is_yes_no() and len(names) == 1:
            names += tuple(n for n in self.known.names if n != names[0])  # "is the chair the nearest?": of these
        if len(names) == 2:
            return self._question(QuestionKind.CLOSER if near else QuestionKind.FARTHER, names)
        return self._question(kind, names)

    def _reaching(self) -> Question | None:
        """'can I reach X before Y'."""
        if "before" not in self.words or self._first(_REACHING) < 0:
            return None
        at = self.words.index("before")
        first = _names(self.tokens[:at], self.known, extra=_MOTION)
        second = _names(self.tokens[at + 1 :], self.known, extra=_MOTION)
        if len(first) == 1 and len(second) == 1:
            return self._choose(QuestionKind.CLOSER, (*first, *second), yes_no=True)
        return None

    def _in_front_or_behind(self) -> Question | None:
        at = self._first(_words("in-front-of behind"))
        if at < 0 or not self.words or self.words[0] in _ASKING:
            return None
        first, second = _names(self.tokens[:at], self.known), _names(self.tokens[at + 1 :], self.known)
        if len(first) != 1 or len(second) != 1 or not (self._is_yes_no() or self._first(_AUXILIARY) > 0):
            return None
        kind = QuestionKind.FARTHER if self.words[at] == "behind" else QuestionKind.CLOSER
        return self._choose(kind, (*first, *second), yes_no=True)

    def _measure(self) -> Question | None:
        """'what is the distance to X', 'depth of X and Y', 'the X's distance'."""
        at = self._first(_MEASURES)
        if at < 0 or "compare" in self.words or "difference" in self.words:
            return None
        if self._first(_words("same equal")) >= 0:
            return None
        if "than" in self.words and self._first(_MORE | _LESS) >= 0:
            than = self.words.index("than")
            nearer = self._first(_LESS) >= 0
            pair = [_names(t, self.known, extra=_MORE | _LESS) for t in (self.tokens[:than], self.tokens[than + 1 :])]
            names = tuple(dict.fromkeys((*pair[0], *pair[1])))
            return self._choose(QuestionKind.CLOSER if nearer else QuestionKind.FARTHER, names, self._is_yes_no())
        left, right = self.tokens[:at], self.tokens[at + 1 :]
        words = [t.word for t in right]
        if words[:1] == ["between"]:
            names = _names(right, self.known)
            if len(names) > 1:
                raise _between_objects()
            return self._depth(names)
        if words[:1] == ["from"] and "to" in words:
            start, goal = right[1 : words.index("to")], right[words.index("to") + 1 :]
            if _names(start, self.known) and _names(goal, self.known):
                raise _between_objects()
        names = _names(right, self.known) if right else ()
        if not names:
            names = _names(left, self.known)
        if not names and self._first(_words("everything all objects things")) >= 0:
            return self._question(QuestionKind.SORT, ())
        if not names and not (self.known.names or self._first(_ASKING) == 0):
            return None
        return self._depth(names)

    def _is_it_near(self) -> Question | None:
        """'is the chair far away', 'is the chair near'."""
        if not self._is_yes_no():
            return None
        at = self._first(_words("far near close distant nearby remote"))
        if at < 0 or any(not _strippable(t) for t in self.tokens[at + 1 :]):
            return None
        same = self._same()
        if same is not None:
            return same
        names = _names(self.tokens[:at], self.known)
        if not names and self._first(_words("anything something anyone someone everything nothing")) >= 0:
            near = self.words[at] in ("near", "close", "nearby")
            return self._question(QuestionKind.NEAREST if near else QuestionKind.FARTHEST, ())
        return self._depth(names)

    def _same(self) -> Question | None:
        """'are X and Y equally far', 'at the same distance', 'is X as far as Y'."""
        words = self.words
        if "equally" in words:
            at = words.index("equally")
        elif "same" in words and self._first(_MEASURES | _words("far")) > words.index("same"):
            at = words.index("same")
        elif self._has("as", "far", "as") or self._has("as", "close", "as") or self._has("as", "near", "as"):
            rest = [_Token(t.text, ",") if t.word in ("as", "far", "close", "near") else t for t in self.tokens]
            return self._choose(QuestionKind.CLOSER, _names(rest, self.known))
        else:
            return None
        rest = [_Token(t.text, ",") if i >= at and t.word in ("equally", "same", "far", "close", "near", "distant")
                else t for i, t in enumerate(self.tokens)]  # fmt: skip
        return self._choose(QuestionKind.CLOSER, _names(rest, self.known))

    def _compare(self) -> Question | None:
        same = self._same()
        if same is not None:
            return same
        at = self._first(_words("compare difference"))
        if at < 0:
            return None
        if self.words[at] == "difference" and self._first(_MEASURES) < 0:
            return None
        rest = self.tokens[at + 1 :]
        rest = [_Token(t.text, ",") if t.word in ("of", "between", "to", "in") else t for t in rest]
        names = _names(rest, self.known, separators=_SEPARATORS | _words("with to against"))
        if len(names) > 2:
            return self._question(QuestionKind.SORT, names)
        return self._choose(QuestionKind.CLOSER, names)

    def _bare(self) -> Question | None:
        """Only names: 'chair?', 'the chair or the table', 'chair vs table'."""
        content = [t for t in self.tokens if t.word not in _PUNCTUATION]
        if not content or content[0].word in _ASKING | _AUXILIARY | _INTERJECTIONS:
            return None
        pieces = [p for p in (_strip(p) for p in _pieces(self.tokens, _SEPARATORS)) if p]
        if not pieces:
            return None
        for piece in pieces:
            known = len(piece) == 1 and piece[0].is_name
            known = known or _key(_said(piece)) in self.known.by_key
            inner = any(_strippable(t) and t.word not in _PLACES for t in piece)
            if not known and (len(piece) > 3 or inner or self._sounds_like_a_sentence(content)):
                return None
        names = _names(self.tokens, self.known)
        if not names:
            return None
        if len(names) > 1 and self._first(_words("or vs versus")) >= 0:
            return self._choose(QuestionKind.CLOSER, names)
        return self._depth(names)

    def _sounds_like_a_sentence(self, content: Sequence[_Token]) -> bool:
        """Whether unknown words look like more than names: a pronoun or verb among them, or many words."""
        telling = _AUXILIARY | _ASKING | _words("i you we they it me us move go come turn drive take bring look stop")
        return any(t.word in telling for t in content) or len(content) > 12
