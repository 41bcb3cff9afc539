"""Free-text questions: which kind of question it is, and of which objects.

Promises: any text gives a `Question` whose names are valid object names, or a NotUnderstoodError with one line that
says what would be right. Rules over words, in time linear in the text; no model, no network, same answer every time.
Knows nothing of images, and nothing of English beyond the word lists of `lexicon`.

How it reads: words are normalised (case, contractions, common typos), phrases that mean the viewpoint ("from me", "to
the camera") are taken out, then the question word decides the kind and what is left over, stripped of function
words, are the names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from proxqa_core.errors import NotUnderstoodError
from proxqa_core.language.lexicon import (
    ASKING,
    AUXILIARY,
    BESIDE,
    CLOSER,
    FARTHER,
    FARTHEST,
    GENERIC,
    HOW_FAR,
    INTERJECTIONS,
    LESS,
    LISTING,
    MEASURES,
    MORE,
    MOTION,
    NEAREST,
    ORDERED,
    PLACES,
    PUNCTUATION,
    REACHING,
    SAME,
    SEPARATORS,
    VIEWPOINT,
    words_of,
)
from proxqa_core.language.phrases import (
    EXAMPLE,
    KnownNames,
    Token,
    join_phrases,
    key_of,
    names_in,
    pieces_of,
    says_something,
    strippable,
    stripped,
    text_of,
    tokens_of,
    without_viewpoint,
)
from proxqa_core.language.referring import read_expression
from proxqa_core.types import (
    MAX_NAME_LENGTH,
    MAX_OBJECTS,
    MAX_QUESTION_LENGTH,
    QuestionKind,
    clean_text,
)


@dataclass(frozen=True)
class Question:
    """A question understood.

    kind: what it asks for. names: the objects it speaks of, in the order said; a name that means one of the known
    names is spelled as that one is. Empty names with NEAREST, FARTHEST or SORT mean "of all objects asked for".
    asked: the question as one line of clean text. yes_no: it wants yes or no: is names[0] closer (kind CLOSER) or
    farther (kind FARTHER) than names[1]; are all names about equally far (kind EQUAL).
    """

    kind: QuestionKind
    names: tuple[str, ...]
    asked: str
    yes_no: bool = False


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
    names = KnownNames(tuple(known)[:MAX_OBJECTS])
    tokens = names.masked(without_viewpoint(join_phrases(tokens_of(asked))))
    understood = _Reader(asked, _after_politeness(tokens), names).read()
    return replace(understood, asked=asked, names=_with_nouns(understood.names, known))


def _with_nouns(names: tuple[str, ...], known: Sequence[str]) -> tuple[str, ...]:
    """ "One" stands for the thing named before it: ("red chair", "blue one") → ("red chair", "blue chair")."""
    said: list[str] = []
    noun = ""
    for name in names:
        meant = read_expression(name).name
        if meant.casefold() != "one" or name in known:
            noun = meant
        elif noun:
            name = " ".join(noun if word.casefold() == "one" else word for word in name.split())
        said.append(name)
    return tuple(said)


def _after_politeness(tokens: list[Token]) -> list[Token]:
    """Drop "please", "can you tell me", "I want to know", "hey robot" at the start."""
    courtesy = words_of(
        "please hey hi hello ok okay so well robot can could would will you tell me us say i want to know like do need "
        "just now and wonder wondering am i'm i'd if whether let's let check verify"
    )
    start = 0
    while start < len(tokens) and (tokens[start].word in courtesy or tokens[start].word in (",", ":", "!", ".")):
        start += 1
    dropped = {t.word for t in tokens[:start]}
    if dropped & {"check", "verify"} and not dropped & {"if", "whether"}:
        return tokens  # "check the door"
    # "can I reach", "do you see": only drop where it really led in to a question.
    if start < len(tokens) and (
        tokens[start].word in ASKING
        or tokens[start].word in LISTING
        or tokens[start].word in ("compare", "the", "is", "are")
        or not dropped & words_of("can could would will do i")
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
    tokens: list[Token]
    known: KnownNames

    def __post_init__(self) -> None:
        self.words = [t.word for t in self.tokens]

    def read(self) -> Question:
        for rule in (
            self._sorting,
            self._same,
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
        return bool(self.words) and self.words[0] in AUXILIARY

    def _depth(self, names: tuple[str, ...]) -> Question:
        if not names:
            names = self.known.names
        if not names:
            raise NotUnderstoodError("the question names no object to measure; ask for example 'how far is the chair?'")
        return self._question(QuestionKind.DEPTH, names)

    def _choose(self, kind: QuestionKind, names: tuple[str, ...], yes_no: bool = False) -> Question:
        """Which of these is closer (farther): two make a comparison, more a search for the nearest (farthest).

        Kind EQUAL: whether they are equally far, two or more.
        """
        names = tuple({n.casefold(): n for n in names}.values())
        if not names:
            names = self.known.names if len(self.known.names) > 1 else ()
        if len(names) == 1 and self._refers_back() and len(self.known.names) == 2:
            # "is it closer than the table", of two known things
            names += tuple(n for n in self.known.names if n != names[0])
        if len(names) < 2:
            word = "closer" if kind is QuestionKind.CLOSER else "farther"
            about, example = f"which is {word}", f"which is {word}, the chair or the table?"
            if kind is QuestionKind.EQUAL:
                about, example = "what is equally far", "are the chair and the table equally far?"
            got = f"only {names[0]!r}" if names else "none"
            raise NotUnderstoodError(
                f"a question of {about} needs two objects, this one names {got}; ask for example {example!r}"
            )
        if len(names) > 2 and kind is not QuestionKind.EQUAL:
            kind = QuestionKind.NEAREST if kind is QuestionKind.CLOSER else QuestionKind.FARTHEST
            yes_no = False
        return self._question(kind, names, yes_no)

    def _refers_back(self) -> bool:
        return self._first(words_of("it that this one")) >= 0

    # -- rules; each returns None where it does not apply

    def _sorting(self) -> Question | None:
        lead = self.words[0] if self.words else ""
        listing = lead in LISTING
        near, far = NEAREST | {"near", "close"}, FARTHEST | {"far", "distant"}
        span, end = self._span(near, far)
        by = next(
            (
                i
                for i in range(len(self.words) - 1)
                if self.words[i] in ("by", "of", "in") and self.words[i + 1] in MEASURES
                and (listing or (i > 0 and self.words[i - 1] in ORDERED))
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
            drop |= set(range(span, end))
        if by >= 0:
            drop |= {by, by + 1}
        if first >= 0:
            drop |= {first, first + 1}
        rest = [t for i, t in enumerate(self.tokens) if i not in drop]
        leads = words_of("how far") if self.words[:2] == ["how", "far"] else frozenset()
        extra = LISTING | leads | words_of("them in into order increasing decreasing ascending descending first put")
        rest = [Token(t.text, ",") if t.word in ("from", "starting") else t for t in rest]
        return self._question(QuestionKind.SORT, names_in(rest, self.known, extra=extra))

    def _span(self, near: frozenset[str], far: frozenset[str]) -> tuple[int, int]:
        """Start and end of "nearest to farthest", "far to near", "nearest to the farthest"; (-1, -1) without."""
        for i in range(len(self.words) - 2):
            if self.words[i + 1] == "to":
                last = i + 3 if self.words[i + 2] == "the" and i + 3 < len(self.words) else i + 2
                ends = {self.words[i], self.words[last]}
                if ends & near and ends & far:
                    return i, last + 1
        return -1, -1

    def _how_far(self) -> Question | None:
        """'how far/close/near/distant …'."""
        at = next(
            (i for i in range(len(self.words) - 1) if self.words[i] == "how" and self.words[i + 1] in HOW_FAR),
            -1,
        )
        if at < 0 or (self.words[at + 1] == "long" and "away" not in self.words):
            return None
        rest = self.tokens[at + 2 :]
        words = [t.word for t in rest]
        if "apart" in words and len(names_in(rest, self.known)) > 1:
            raise _between_objects()
        if any(w in ("than",) for w in words):
            return None
        # "how far do I have to go to reach the door", "how far until the door"
        if any(w in ASKING for w in words) and any(w in CLOSER | FARTHER | NEAREST | FARTHEST for w in words):
            raise NotUnderstoodError("the text asks two questions; ask one at a time")
        goal = next((i for i, w in enumerate(words) if w in ("reach", "reaching", "until", "before")), -1)
        if goal >= 0 and all(w in MOTION or strippable(t) for w, t in zip(words[:goal], rest[:goal], strict=True)):
            rest, words = rest[goal + 1 :], words[goal + 1 :]
        cut = self._relation(rest)
        if cut >= 0:
            subject, landmark = rest[:cut], rest[cut + 1 :]
            of_viewer = all(strippable(t) or t.word in VIEWPOINT or t.word in MOTION for t in subject)
            if not of_viewer and names_in(subject, self.known) and names_in(landmark, self.known):
                raise _between_objects()
            rest = landmark if of_viewer else subject
        names = names_in(rest, self.known, extra=words_of("hitting reaching touching"))
        if not names and any(w in ("everything", "all", "anything", "objects", "things") for w in words):
            return self._question(QuestionKind.SORT, ())
        return self._depth(names)

    @staticmethod
    def _relation(rest: Sequence[Token]) -> int:
        """Index of the "from" or "to" that sets a landmark, -1 where there is none.

        Not of "to the left", "next to", "second from the left".
        """
        for i, token in enumerate(rest):
            if token.word not in ("from", "to"):
                continue
            following = [t.word for t in rest[i + 1 : i + 3]]
            if token.word == "to" and any(w in words_of("left right side rear") for w in following):
                continue
            after = rest[i + 3 : i + 4]
            if following in (["the", "left"], ["the", "right"]) and all(strippable(t) for t in after):
                continue
            if token.word == "to" and i and rest[i - 1].word in BESIDE:
                continue
            return i
        return -1

    def _comparing(self) -> Question | None:
        """'closer', 'farther' and the like, with or without 'than'."""
        at = self._first(CLOSER | FARTHER)
        if at < 0:
            # "which is in front, X or Y", "which is behind, X or Y"; but "what is behind X" is another question
            at = self._first(words_of("in-front at-back behind"))
            if at < 0 or self.words[0] not in ASKING:
                return None
            if len(names_in(self.tokens[at + 1 :], self.known)) < (2 if self.words[at] == "behind" else 1):
                return None
        kind = QuestionKind.CLOSER if self.words[at] in CLOSER | {"in-front"} else QuestionKind.FARTHER
        left, right = self.tokens[:at], self.tokens[at + 1 :]
        words = [t.word for t in right]
        while words and words[0] in words_of("away off up down by back along"):
            right, words = right[1:], words[1:]
        if words and words[0] in ("to", "from") and len(right) > 1:
            if not left or not all(strippable(t) or t.word in VIEWPOINT for t in left) or left[0].word in ASKING:
                raise _between_objects()
            left = []  # "am I closer to the chair or the table"
        if "than" in words:
            than = words.index("than")
            left_names = names_in([*left, Token(",", ","), *right[:than]], self.known, noun="")
            right_names = names_in(right[than + 1 :], self.known)
            asks_subject = left and left[0].word in ASKING and left[0].word != "how"
            if not left_names and right_names and not asks_subject and len(self.known.names) == 2:
                left_names = tuple(n for n in self.known.names if n not in right_names)
            names = (*left_names, *(n for n in right_names if n not in left_names))
            if len(left_names) != 1 or len(right_names) != 1:
                return self._choose(kind, names)
            yes_no = not any(t.word in ASKING for t in left)
            return self._choose(kind, names, yes_no)
        noun, left = self._asked_noun(left)
        names = names_in([*left, Token(",", ","), *right], self.known, noun=noun)
        if not names and noun:
            names = (noun,)
        asking = any(w in ASKING or w in AUXILIARY for w in self.words)
        if not names and not asking:
            return None  # "come closer"
        return self._choose(kind, names)

    def _asked_noun(self, left: list[Token]) -> tuple[str, list[Token]]:
        """The noun of "which chair is …", and the rest: it is no object of its own, but what "one" stands for."""
        comma = Token(",", ",")
        for i, token in enumerate(left):
            if token.word in ("which", "what"):
                j = i + 1
                while j < len(left) and not strippable(left[j]) and left[j].word not in SEPARATORS:
                    j += 1
                noun = text_of(left[i + 1 : j])
                if noun and len(noun) <= MAX_NAME_LENGTH and left[i + 1].word not in GENERIC | {"of"}:
                    return noun, [*left[:i], comma, *left[j:]]
                return "", [*left[:i], comma, *left[i:]]
        return "", left

    def _superlative(self) -> Question | None:
        at = self._first(NEAREST | FARTHEST)
        if at < 0:
            if self.words[:1] and self.words[0] in ASKING and self._first(REACHING) >= 0 and "first" in self.words:
                extra = MOTION | {"first"}
                _, rest = self._asked_noun(self.tokens)
                names = names_in(rest, self.known, extra=extra)
                if len(names) == 2:
                    return self._question(QuestionKind.CLOSER, names)
                return self._question(QuestionKind.NEAREST, names)
            if self._has("the", "first", "thing") or self._has("the", "first", "object"):
                return self._question(QuestionKind.NEAREST, ())
            return None
        near = self.words[at] in NEAREST
        kind = QuestionKind.NEAREST if near else QuestionKind.FARTHEST
        left, right = self.tokens[:at], self.tokens[at + 1 :]
        words = [t.word for t in right]
        while words and words[0] in words_of("away off back"):
            right, words = right[1:], words[1:]
        cut = self._relation(right)
        if cut >= 0 and names_in(right[cut + 1 :], self.known):
            raise _between_objects()
        asking = any(w in ASKING or w in AUXILIARY or w in PUNCTUATION or w == "of" for w in self.words[:at])
        if self.words[0] in ("name", "identify"):
            left = left[1:]
        if left and not asking and names_in(left, self.known):
            return None  # "go to the nearest chair"
        noun, left = self._asked_noun(left)
        # "which is the nearest of X, Y and Z" has its list after "of", "which of X, Y and Z is the nearest" before it.
        names = names_in([*left, Token(",", ","), *right], self.known, noun=noun)
        if not names and noun:
            names = (noun,)
        if self._is_yes_no() and len(names) == 1:
            names += tuple(n for n in self.known.names if n != names[0])  # "is the chair the nearest?": of these
        if len(names) == 2:
            return self._question(QuestionKind.CLOSER if near else QuestionKind.FARTHER, names)
        return self._question(kind, names)

    def _reaching(self) -> Question | None:
        """'can I reach X before Y'."""
        if "before" not in self.words or self._first(REACHING) < 0:
            return None
        at = self.words.index("before")
        first = names_in(self.tokens[:at], self.known, extra=MOTION)
        second = names_in(self.tokens[at + 1 :], self.known, extra=MOTION)
        if len(first) == 1 and len(second) == 1:
            return self._choose(QuestionKind.CLOSER, (*first, *second), yes_no=True)
        return None

    def _in_front_or_behind(self) -> Question | None:
        at = self._first(words_of("in-front-of behind"))
        if at < 0 or not self.words or self.words[0] in ASKING:
            return None
        first, second = names_in(self.tokens[:at], self.known), names_in(self.tokens[at + 1 :], self.known)
        if len(first) != 1 or len(second) != 1 or not (self._is_yes_no() or self._first(AUXILIARY) > 0):
            return None
        kind = QuestionKind.FARTHER if self.words[at] == "behind" else QuestionKind.CLOSER
        return self._choose(kind, (*first, *second), yes_no=True)

    def _measure(self) -> Question | None:
        """'what is the distance to X', 'depth of X and Y', 'the X's distance'."""
        at = self._first(MEASURES)
        if at < 0 or "compare" in self.words or "difference" in self.words:
            return None
        if self._first(words_of("same equal")) >= 0:
            return None
        if "than" in self.words and self._first(MORE | LESS) >= 0:
            than = self.words.index("than")
            nearer = self._first(LESS) >= 0
            pair = [names_in(t, self.known, extra=MORE | LESS) for t in (self.tokens[:than], self.tokens[than + 1 :])]
            names = tuple(dict.fromkeys((*pair[0], *pair[1])))
            return self._choose(QuestionKind.CLOSER if nearer else QuestionKind.FARTHER, names, self._is_yes_no())
        left, right = self.tokens[:at], self.tokens[at + 1 :]
        words = [t.word for t in right]
        if words[:1] == ["between"]:
            names = names_in(right, self.known)
            if len(names) > 1:
                raise _between_objects()
            return self._depth(names)
        if words[:1] == ["from"] and "to" in words:
            start, goal = right[1 : words.index("to")], right[words.index("to") + 1 :]
            if names_in(start, self.known) and names_in(goal, self.known):
                raise _between_objects()
        names = names_in(right, self.known) if right else ()
        if not names:
            names = names_in(left, self.known)
        if not names and self._first(words_of("everything all objects things")) >= 0:
            return self._question(QuestionKind.SORT, ())
        if not names and not (self.known.names or self._first(ASKING) == 0):
            return None
        return self._depth(names)

    def _is_it_near(self) -> Question | None:
        """'is the chair far away', 'is the chair near'."""
        if not self._is_yes_no():
            return None
        at = self._first(words_of("far near close distant nearby remote"))
        if at < 0 or any(not strippable(t) for t in self.tokens[at + 1 :]):
            return None
        names = names_in(self.tokens[:at], self.known)
        if not names and self._first(words_of("anything something anyone someone everything nothing")) >= 0:
            near = self.words[at] in ("near", "close", "nearby")
            return self._question(QuestionKind.NEAREST if near else QuestionKind.FARTHEST, ())
        return self._depth(names)

    def _same(self) -> Question | None:
        """'are X and Y equally far', 'at the same distance', 'is X as far away as Y'."""
        if not self.words or self.words[0] in ASKING:
            return None
        start, end = self._as_far_as()
        if start < 0:
            start = self._first(SAME)
            following = self.words[start + 1 : start + 3]
            measured = any(w in HOW_FAR | MEASURES for w in following) or 0 <= self._first(MEASURES) < start
            if start < 0 or not (measured or self.words[start] == "equidistant"):
                return None
            end = start + 1
        left, right = self.tokens[:start], self.tokens[end:]
        extra = words_of("far close near distant share")
        cut = self._relation(right)
        if cut >= 0 and len(names_in(left, self.known)) > 1 and names_in(right[cut + 1 :], self.known):
            raise _between_objects()  # "equally far from the wall"
        names = names_in([*left, Token(",", ","), *right], self.known, extra=extra)
        return self._choose(QuestionKind.EQUAL, names, yes_no=True)

    def _as_far_as(self) -> tuple[int, int]:
        """Start and end of "as far as", "as close to us as", with something before and after; (-1, -1) without."""
        for start in range(1, len(self.words) - 3):
            if self.words[start] == "as" and self.words[start + 1] in HOW_FAR:
                if self.words[start - 1] in words_of("not twice half times"):
                    continue  # "twice as far as"
                end = start + 2
                while end < len(self.words) and self.words[end] in words_of("away off back down"):
                    end += 1
                if self.words[end : end + 1] == ["as"]:
                    return start, end + 1
        return -1, -1

    def _compare(self) -> Question | None:
        at = self._first(words_of("compare difference"))
        if at < 0:
            return None
        if self.words[at] == "difference" and self._first(MEASURES) < 0:
            return None
        rest = self.tokens[at + 1 :]
        rest = [Token(t.text, ",") if t.word in ("of", "between", "to", "in") else t for t in rest]
        names = names_in(rest, self.known, separators=SEPARATORS | words_of("with to against"))
        if len(names) > 2:
            return self._question(QuestionKind.SORT, names)
        return self._choose(QuestionKind.CLOSER, names)

    def _bare(self) -> Question | None:
        """Only names: 'chair?', 'the chair or the table', 'chair vs table'."""
        content = [t for t in self.tokens if t.word not in PUNCTUATION]
        if not content or content[0].word in ASKING | AUXILIARY | INTERJECTIONS:
            return None
        pieces = [p for p in (stripped(p) for p in pieces_of(self.tokens, SEPARATORS)) if p]
        if not pieces:
            return None
        for piece in pieces:
            known = len(piece) == 1 and piece[0].is_name
            known = known or key_of(text_of(piece)) in self.known.by_key
            inner = any(strippable(t) and t.word not in PLACES for t in piece)
            if not known and (len(piece) > 3 or inner or self._sounds_like_a_sentence(content)):
                return None
        names = names_in(self.tokens, self.known)
        if not names:
            return None
        if len(names) > 1 and self._first(words_of("or vs versus")) >= 0:
            return self._choose(QuestionKind.CLOSER, names)
        return self._depth(names)

    def _sounds_like_a_sentence(self, content: Sequence[Token]) -> bool:
        """Whether unknown words look like more than names: a pronoun or verb among them, or many words."""
        telling = AUXILIARY | ASKING | words_of("i you we they it me us move go come turn drive take bring look stop")
        return any(t.word in telling for t in content) or len(content) > 12
