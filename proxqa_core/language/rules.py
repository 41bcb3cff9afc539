"""The rules that decide what a question asks for, in the order in which they win.

Promises: rules over words, no model; every name in the result is a valid object name. Knows the word lists of
`lexicon` and the name cutting of `phrases`, nothing of how the text became tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from proxqa_core.errors import NotUnderstoodError
from proxqa_core.language.formats import AnswerStyle, Option
from proxqa_core.language.lexicon import (
    ADVERBS_OF_PLACE,
    ASKING,
    AUXILIARY,
    BESIDE,
    CLOSER,
    COMMANDS,
    COURTESY,
    EVERYTHING,
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
    NOTICED,
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
    KnownNames,
    Token,
    key_of,
    names_in,
    pieces_of,
    singular,
    strippable,
    stripped,
    text_of,
    tokens_of,
)
from proxqa_core.types import MAX_NAME_LENGTH, QuestionKind

_COMMA = Token(",", ",")
_NEAR_END, _FAR_END = NEAREST | {"near", "close"}, FARTHEST | {"far", "distant"}
_ORDER_WORDS = LISTING | words_of("them in into order increasing decreasing ascending descending first put")
_GOALS = words_of("reach reaching until before")
_TOUCHING = words_of("hitting reaching touching")
_SIDES = words_of("left right side rear")
_POSITIONS = words_of("in-front at-back behind")
_REFERRING_BACK = words_of("it that this one")
_NEAR_OR_FAR = words_of("far near close distant nearby remote")
_NEAR = words_of("near close nearby")
_LEADING_IN = GENERIC | MEASURES | COURTESY | NOTICED | PUNCTUATION | words_of("question answer list scene image")
"""Words before a colon that are no instruction."""
_ADDRESSING = words_of("please hey hi hello ok okay robot now then and can could would will you just")
"""Words before an order."""
_DAY = words_of("morning evening afternoon night day")
_INDEFINITE = words_of("anything something anyone someone everyone everything nothing")
_TELLING = AUXILIARY | ASKING | words_of("i you we they it me us move go come turn drive take bring look stop")
_IS_THERE = frozenset(
    tuple(lead.split())
    for lead in (
        "is there",
        "are there",
        "do you see",
        "can you see",
        "do we see",
        "can we see",
        "see any",
        "have you seen",
    )
)
_IN_VIEW = words_of("visible there somewhere anywhere around here")
_ALL_OTHERS = words_of("else others other rest everything all")
_NUMBERS = words_of("two three four five six several both many some any")
_NOT_ONE_THING = PLACES | BESIDE | SEPARATORS | CLOSER | FARTHER | NEAREST | FARTHEST | MORE | LESS
_NOT_ONE_THING |= words_of("two three four five six several both many than left right to of from before after")
"""Words of questions that ask for more than whether one thing is in view."""
_MAX_BARE_WORDS = 12
_MAX_BARE_NAME_WORDS = 3


@dataclass(frozen=True)
class Question:
    """A question understood.

    Attributes:
        kind: What it asks for.
        names: The objects it speaks of, in the order of mention; a name that means one of the known names is spelled
            as that one is. Empty with NEAREST, FARTHEST or SORT: all objects asked for.
        asked: The question as one line of clean text.
        yes_no: It wants yes or no: whether names[0] is closer (kind CLOSER) or farther (kind FARTHER) than names[1];
            whether it is the nearest (NEAREST) or farthest (FARTHEST) of names; whether all names are about equally far
            (kind EQUAL).
        style: What the answer is made of: a sentence, an option's letter, a number …
        options: The lettered choices of the question, in order; their texts are names of `names`, or yes and no.
        metres: It asks for metres, or for another unit of length.
    """

    kind: QuestionKind
    names: tuple[str, ...]
    asked: str
    yes_no: bool = False
    style: AnswerStyle = AnswerStyle.SENTENCE
    options: tuple[Option, ...] = ()
    metres: bool = False


@dataclass
class QuestionReader:
    """One question being read. Each rule returns None where it does not apply.

    Attributes:
        asked: The question as one line of clean text.
        tokens: Its tokens, without the viewpoint ("from me") and politeness.
        known: The names that the caller already has.
    """

    asked: str
    tokens: list[Token]
    known: KnownNames

    def __post_init__(self) -> None:
        self.words = [t.word for t in self.tokens]

    def read(self) -> Question:
        """The question by the first rule that applies; GENERAL with the known names it mentions where none does.

        Raises:
            NotUnderstoodError: It names too little to compare or to measure, or asks what cannot be answered.
        """
        for rule in (
            self._is_there,
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

    # -- looking at words

    def _has(self, *words: str) -> bool:
        """Whether these words stand in the question one after another."""
        n = len(words)
        return any(tuple(self.words[i : i + n]) == words for i in range(len(self.words) - n + 1))

    def _first(self, words: frozenset[str]) -> int:
        """Index of the first of these words, -1 where there is none."""
        return next((i for i, w in enumerate(self.words) if w in words), -1)

    def _first_pair(self, left: frozenset[str], right: frozenset[str]) -> int:
        """Index of the first word of `left` that a word of `right` follows, -1 where there is none."""
        return next((i for i, (a, b) in enumerate(pairwise(self.words)) if a in left and b in right), -1)

    def _is_yes_no(self) -> bool:
        return bool(self.words) and self.words[0] in AUXILIARY

    def _is_asking(self) -> bool:
        """Whether it begins with a question word."""
        return bool(self.words) and self.words[0] in ASKING

    def _names(self, tokens: Iterable[Token], extra: frozenset[str] = frozenset(), noun: str = "") -> tuple[str, ...]:
        return names_in(list(tokens), self.known, extra=extra, noun=noun)

    # -- results

    def _question(self, kind: QuestionKind, names: tuple[str, ...], yes_no: bool = False) -> Question:
        return Question(kind, names, self.asked, yes_no)

    def _depth(self, names: tuple[str, ...]) -> Question:
        """How far these are; without names the known ones."""
        names = names or self.known.names
        if not names:
            raise NotUnderstoodError("the question names no object to measure; ask for example 'how far is the chair?'")
        return self._question(QuestionKind.DEPTH, names)

    def _choose(self, kind: QuestionKind, names: tuple[str, ...], yes_no: bool = False) -> Question:
        """Which of these is closer (farther): two make a comparison, more a search for the nearest (farthest).

        Kind EQUAL: whether they are equally far, two or more.
        """
        names = self._completed(tuple({n.casefold(): n for n in names}.values()))
        if len(names) == 1 and not yes_no and kind is not QuestionKind.EQUAL and self._asks_which():
            kind = QuestionKind.NEAREST if kind is QuestionKind.CLOSER else QuestionKind.FARTHEST
            return self._question(kind, (self._kind_of(names[0]),))  # "which chair is closer?": of the chairs in view
        if len(names) < 2:
            raise _too_few_names(kind, names)
        if len(names) > 2 and kind is not QuestionKind.EQUAL:
            kind = QuestionKind.NEAREST if kind is QuestionKind.CLOSER else QuestionKind.FARTHEST
            yes_no = False
        return self._question(kind, names, yes_no)

    def _kind_of(self, name: str) -> str:
        """One of a kind, as it is looked for: "cup" for "two cups". A known name stays as it is: "stairs"."""
        return name if name in self.known.names else _without_number(name)

    def _asks_which(self) -> bool:
        """Whether it asks for one of several of a kind: "which chair", "which of the two cups"."""
        if len(self.words) < 2 or self.words[0] not in ("which", "what") or "than" in self.words:
            return False
        return self.words[1] not in AUXILIARY

    def _completed(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The names to compare, with those known ones that "it" or no name at all stands for."""
        known = self.known.names
        if not names:
            return known if len(known) > 1 else ()
        if len(names) == 1 and len(known) == 2 and self._first(_REFERRING_BACK) >= 0:
            names += tuple(n for n in known if n != names[0])  # "is it closer than the table"
        return names

    # -- whether it is in view

    def _is_there(self) -> Question | None:
        """'is there a chair', 'do you see any chairs', 'is a chair in view': of one thing, without a place."""
        lead = next((n for n in (3, 2) if tuple(self.words[:n]) in _IS_THERE), 0)
        rest = [t for t in self.tokens[lead:] if t.word not in PUNCTUATION]
        while rest and rest[-1].word in _IN_VIEW:
            rest = rest[:-1]
            lead = lead or -1
        if lead == -1 and self.words[0] in ("is", "are"):
            rest = rest[1:]
        elif lead <= 0:
            return None
        if any(t.word in _NOT_ONE_THING for t in rest):
            return None
        names = self._names(rest)
        if len(names) != 1:
            return None
        return self._question(QuestionKind.VISIBLE, (self._kind_of(names[0]),), yes_no=True)

    # -- sorting

    def _sorting(self) -> Question | None:
        """'sort by distance: X and Y', 'X, Y and Z from near to far', 'X and Y, nearest first'."""
        ordering = self._ordering_words()
        if not (ordering or self._is_list() or self._asks_for_order()):
            return None
        rest = [t for i, t in enumerate(self.tokens) if i not in ordering]
        rest = [Token(t.text, ",") if t.word in ("from", "starting") else t for t in rest]
        leads = words_of("how far") if self.words[:2] == ["how", "far"] else frozenset()
        return self._question(QuestionKind.SORT, self._names(rest, extra=_ORDER_WORDS | leads))

    def _is_list(self) -> bool:
        return bool(self.words) and self.words[0] in LISTING

    def _asks_for_order(self) -> bool:
        return self._has("in", "what", "order") or self._has("in", "which", "order") or self._has("the", "order")

    def _ordering_words(self) -> set[int]:
        """Indices of the words that say how to sort: "near to far", "by distance", "nearest first"."""
        found = set(range(*self._span()))
        first = self._first_pair(_NEAR_END | _FAR_END, frozenset({"first"}))
        for at in (self._by_measure(), first):
            if at >= 0:
                found |= {at, at + 1}
        return found

    def _span(self) -> tuple[int, int]:
        """Start and end of "nearest to farthest", "far to near", "nearest to the farthest"; (-1, -1) without."""
        for i in range(len(self.words) - 2):
            if self.words[i + 1] == "to":
                last = i + 3 if self.words[i + 2] == "the" and i + 3 < len(self.words) else i + 2
                ends = {self.words[i], self.words[last]}
                if ends & _NEAR_END and ends & _FAR_END:
                    return i, last + 1
        return -1, -1

    def _by_measure(self) -> int:
        """Index of "by distance" in "sort by distance" or "ordered by distance", -1 where there is none."""
        for i, (word, following) in enumerate(pairwise(self.words)):
            if word in ("by", "of", "in") and following in MEASURES:
                ordered = i > 0 and self.words[i - 1] in ORDERED
                if ordered or self.words[0] in LISTING:
                    return i
        return -1

    # -- equally far

    def _same(self) -> Question | None:
        """'are X and Y equally far', 'at the same distance', 'is X as far away as Y'."""
        if not self.words or self._is_asking():
            return None
        start, end = self._as_far_as()
        if start < 0:
            start, end = self._same_distance()
        if start < 0:
            return None
        left, right = self.tokens[:start], self.tokens[end:]
        cut = _landmark_at(right)
        if cut >= 0 and len(self._names(left)) > 1 and self._names(right[cut + 1 :]):
            raise _between_objects()  # "equally far from the wall"
        names = self._names([*left, _COMMA, *right], extra=words_of("far close near distant share"))
        return self._choose(QuestionKind.EQUAL, names, yes_no=True)

    def _same_distance(self) -> tuple[int, int]:
        """Start and end of the "same" of a distance; (-1, -1) without."""
        start = self._first(SAME)
        if start < 0:
            return -1, -1
        following = self.words[start + 1 : start + 3]
        measured = any(w in HOW_FAR | MEASURES for w in following) or 0 <= self._first(MEASURES) < start
        return (start, start + 1) if measured or self.words[start] == "equidistant" else (-1, -1)

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

    # -- how far

    def _how_far(self) -> Question | None:
        """'how far/close/near/distant …'."""
        at = self._first_pair(frozenset({"how"}), HOW_FAR)
        if at < 0 or (self.words[at + 1] == "long" and "away" not in self.words):
            return None
        rest = self.tokens[at + 2 :]
        words = {t.word for t in rest}
        if "apart" in words and len(self._names(rest)) > 1:
            raise _between_objects()
        if "than" in words:
            return None
        if words & ASKING and words & (CLOSER | FARTHER | NEAREST | FARTHEST):
            raise NotUnderstoodError("the text asks two questions; ask one at a time")
        rest = _after_goal(rest)
        names = self._names(self._measured_from_viewer(rest), extra=_TOUCHING)
        if not names and any(t.word in EVERYTHING | {"anything"} for t in rest):
            return self._question(QuestionKind.SORT, ())
        return self._depth(names)

    def _measured_from_viewer(self, tokens: list[Token]) -> list[Token]:
        """What the distance is of: "the chair" of "is the chair from me" and of "am I from the chair"."""
        cut = _landmark_at(tokens)
        if cut < 0:
            return tokens
        subject, landmark = tokens[:cut], tokens[cut + 1 :]
        if all(strippable(t) or t.word in VIEWPOINT or t.word in MOTION for t in subject):
            self._refuse_from_to(tokens[cut:])
            return landmark
        if self._names(subject) and self._names(landmark):
            raise _between_objects()
        return subject

    # -- closer, farther

    def _comparing(self) -> Question | None:
        """'closer', 'farther' and the like, with or without 'than'."""
        at = self._comparative()
        if at < 0:
            return None
        kind = QuestionKind.CLOSER if self.words[at] in CLOSER | {"in-front"} else QuestionKind.FARTHER
        left, right = self.tokens[:at], _without_leading(self.tokens[at + 1 :], ADVERBS_OF_PLACE)
        if len(right) > 1 and right[0].word in ("to", "from"):
            if not _is_viewer(left):
                raise _between_objects()
            left = []  # "am I closer to the chair or the table"
        than = next((i for i, t in enumerate(right) if t.word == "than"), -1)
        if than >= 0:
            return self._comparing_than(kind, left, right[:than], right[than + 1 :])
        names = self._names_around(left, right)
        asking = any(w in ASKING or w in AUXILIARY for w in self.words)
        if not names and not asking:
            return None  # "come closer"
        return self._choose(kind, names)

    def _comparative(self) -> int:
        """Index of the word that compares, -1 where there is none.

        "Which is in front, X or Y" and "which is behind, X or Y" compare; "what is behind X" does not.
        """
        at = self._first(CLOSER | FARTHER)
        if at >= 0:
            return at
        at = self._first(_POSITIONS)
        if at < 0:
            return -1
        if self._first(ASKING) > 0 and not self._names(self.tokens[at + 1 :]):
            return at if len(self._names(self.tokens[:at])) > 1 else -1  # "of X and Y, which is in front"
        if not self._is_asking():
            return -1
        least = 2 if self.words[at] == "behind" else 1
        return at if len(self._names(self.tokens[at + 1 :])) >= least else -1

    def _comparing_than(
        self, kind: QuestionKind, left: list[Token], middle: list[Token], right: list[Token]
    ) -> Question:
        """'is X closer than Y', 'is it closer to me than Y'. middle: what stands before "than"."""
        first, second = self._names([*left, _COMMA, *middle]), self._names(right)
        if len(first) == 1 and self._is_yes_no() and _means_all_others(right):
            return self._claim(kind is QuestionKind.CLOSER, first)
        asks_subject = bool(left) and left[0].word in ASKING and left[0].word != "how"
        if not first and second and not asks_subject and len(self.known.names) == 2:
            first = tuple(n for n in self.known.names if n not in second)
        names = (*first, *(n for n in second if n not in first))
        one_each = len(first) == 1 and len(second) == 1
        return self._choose(kind, names, yes_no=one_each and not any(t.word in ASKING for t in left))

    def _names_around(self, left: list[Token], right: list[Token]) -> tuple[str, ...]:
        """The names before and after the word that compares; the noun of "which chair" where there are none."""
        noun, left = _asked_noun(left)
        names = self._names([*left, _COMMA, *right], noun=noun)
        return names or ((noun,) if noun else ())

    # -- nearest, farthest

    def _superlative(self) -> Question | None:
        """'which is the nearest of X, Y and Z', 'what is farthest', 'which would I reach first'."""
        at = self._first(NEAREST | FARTHEST)
        if at < 0:
            return self._reached_first()
        near = self.words[at] in NEAREST
        left, right = self.tokens[:at], _without_leading(self.tokens[at + 1 :], words_of("away off back"))
        cut = _landmark_at(right)
        if cut >= 0 and self._names(right[cut + 1 :]):
            raise _between_objects()
        asking = any(w in ASKING or w in AUXILIARY or w in PUNCTUATION or w == "of" for w in self.words[:at])
        if self.words[0] in ("name", "identify"):
            left = left[1:]
        if left and not asking and self._names(left):
            return None  # "go to the nearest chair"
        # "which is the nearest of X, Y and Z" has its list after "of", "which of X, Y and Z is the nearest" before it.
        if any(t.word in (FARTHEST if near else NEAREST) for t in right):  # "what is nearest, and what farthest?"
            rest = [t for t in right if t.word not in NEAREST | FARTHEST]
            return self._question(QuestionKind.SORT, self._names_around(left, rest))
        claimed = self._claimed(left, right)
        return self._claim(near, claimed) if claimed else self._of_several(near, self._names_around(left, right))

    def _claimed(self, left: list[Token], right: list[Token]) -> tuple[str, ...]:
        """The names around "nearest" where the first is said to be it: "is the chair the nearest?"; () = none is.

        "Is the nearest object the chair?" asks what it is, unless the chair is known.
        """
        if not self._is_yes_no():
            return ()
        if len(self._names(left)) == 1:
            return self._names_around(left, right)
        named = self._names(right[1:]) if right and right[0].word in GENERIC else ()
        return named if len(named) == 1 and named[0] in self.known.names else ()

    def _of_several(self, near: bool, names: tuple[str, ...], yes_no: bool = False) -> Question:
        """The nearest (farthest) of these: of two, which is closer; of one, of its kind; of none, of all."""
        if len(names) == 2:
            return self._question(QuestionKind.CLOSER if near else QuestionKind.FARTHER, names, yes_no)
        if len(names) == 1:
            names = (self._kind_of(names[0]),)
        return self._question(QuestionKind.NEAREST if near else QuestionKind.FARTHEST, names, yes_no)

    def _claim(self, near: bool, names: tuple[str, ...]) -> Question:
        """Whether the first of these is the nearest (farthest)."""
        names = self._with_rivals(names)
        return self._of_several(near, names, yes_no=len(names) > 1)

    def _with_rivals(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The names that "is the chair the nearest?" is about; () = whatever is in view.

        Those that are known with it; of "is the red chair the nearest chair?" those of its kind, or its kind alone.
        """
        claimed, others = names[0], names[1:]
        if len(others) == 1 and _is_one_of(claimed, others[0]):
            alike = tuple(n for n in self.known.names if n != claimed and _is_one_of(n, others[0]))
            return (claimed, *alike) if alike else others
        # of "the left chair" a known "chair" may be the same
        others = others or tuple(n for n in self.known.names if n != claimed and not _is_one_of(claimed, n))
        return (claimed, *others) if others else ()

    def _reached_first(self) -> Question | None:
        """'which would I reach first, X or Y', 'what is the first thing'."""
        if self._is_asking() and self._first(REACHING) >= 0 and "first" in self.words:
            _, rest = _asked_noun(self.tokens)
            names = self._names(rest, extra=MOTION | {"first"})
            return self._question(QuestionKind.CLOSER if len(names) == 2 else QuestionKind.NEAREST, names)
        if self._has("the", "first", "thing") or self._has("the", "first", "object"):
            return self._question(QuestionKind.NEAREST, ())
        return None

    def _reaching(self) -> Question | None:
        """'can I reach X before Y'."""
        if "before" not in self.words or self._first(REACHING) < 0:
            return None
        at = self.words.index("before")
        first = self._names(self.tokens[:at], extra=MOTION)
        second = self._names(self.tokens[at + 1 :], extra=MOTION)
        if len(first) == 1 and len(second) == 1:
            return self._choose(QuestionKind.CLOSER, (*first, *second), yes_no=True)
        return None

    def _in_front_or_behind(self) -> Question | None:
        """'is X in front of Y', 'is X behind Y'."""
        at = self._first(words_of("in-front-of behind"))
        if at < 0 or self._is_asking():
            return None
        first, second = self._names(self.tokens[:at]), self._names(self.tokens[at + 1 :])
        if len(first) != 1 or len(second) != 1 or self._first(AUXILIARY) < 0:
            return None
        kind = QuestionKind.FARTHER if self.words[at] == "behind" else QuestionKind.CLOSER
        return self._choose(kind, (*first, *second), yes_no=True)

    # -- distances by name

    def _measure(self) -> Question | None:
        """'what is the distance to X', 'depth of X and Y', 'the X's distance'."""
        at = self._first(MEASURES)
        if at < 0 or self._first(words_of("compare difference same equal")) >= 0:
            return None
        if "than" in self.words and self._first(MORE | LESS) >= 0:
            return self._measures_compared(self.words.index("than"))
        left, right = self.tokens[:at], self.tokens[at + 1 :]
        if right and right[0].word == "between":
            names = self._names(right)
            if len(names) > 1:
                raise _between_objects()
            return self._depth(names)
        self._refuse_from_to(right)
        names = self._names(right) or self._names(left)
        if not names and self._first(EVERYTHING) >= 0:
            return self._question(QuestionKind.SORT, ())
        if not names and not (self.known.names or self._is_asking()):
            return None
        return self._depth(names)

    def _measures_compared(self, than: int) -> Question:
        """'is the distance to X less than the distance to Y'."""
        kind = QuestionKind.CLOSER if self._first(LESS) >= 0 else QuestionKind.FARTHER
        sides = self.tokens[:than], self.tokens[than + 1 :]
        names = dict.fromkeys(name for side in sides for name in self._names(side, extra=MORE | LESS))
        return self._choose(kind, tuple(names), self._is_yes_no())

    def _refuse_from_to(self, tokens: list[Token]) -> None:
        """Raise on "from X to Y"."""
        words = [t.word for t in tokens]
        if words[:1] == ["from"] and "to" in words:
            to = words.index("to")
            if self._names(tokens[1:to]) and self._names(tokens[to + 1 :]):
                raise _between_objects()

    def _is_it_near(self) -> Question | None:
        """'is the chair far away', 'is the chair near', 'is anything near'."""
        if not self._is_yes_no():
            return None
        at = self._first(_NEAR_OR_FAR)
        if at < 0 or any(not strippable(t) for t in self.tokens[at + 1 :]):
            return None
        names = self._names(self.tokens[:at])
        if not names and self._first(_INDEFINITE) >= 0:
            return self._question(QuestionKind.NEAREST if self.words[at] in _NEAR else QuestionKind.FARTHEST, ())
        return self._depth(names)

    def _compare(self) -> Question | None:
        """'compare X with Y', 'the difference in distance between X and Y'."""
        at = self._first(words_of("compare difference"))
        if at < 0 or (self.words[at] == "difference" and self._first(MEASURES) < 0):
            return None
        rest = [Token(t.text, ",") if t.word in ("of", "between", "to", "in") else t for t in self.tokens[at + 1 :]]
        names = names_in(rest, self.known, separators=SEPARATORS | words_of("with to against"))
        if len(names) > 2:
            return self._question(QuestionKind.SORT, names)
        return self._choose(QuestionKind.CLOSER, names)

    # -- only names

    def _bare(self) -> Question | None:
        """'chair?', 'the chair or the table', 'chair vs table'."""
        content = [t for t in self.tokens if t.word not in PUNCTUATION]
        if not content or content[0].word in ASKING | AUXILIARY | INTERJECTIONS or self._is_an_instruction():
            return None
        pieces = [p for p in (stripped(p) for p in pieces_of(self.tokens, SEPARATORS)) if p]
        telling = len(content) > _MAX_BARE_WORDS or any(t.word in _TELLING for t in content)
        if not pieces or not all(self._is_known(p) or (not telling and _looks_like_a_name(p)) for p in pieces):
            return None
        names = self._names(self.tokens)
        if not names:
            return None
        if len(names) > 1 and self._first(words_of("or vs versus")) >= 0:
            return self._choose(QuestionKind.CLOSER, names)
        return self._depth(names)

    def _is_an_instruction(self) -> bool:
        """Whether it tells to do something else than to measure: "push chair", "say hello: chair", "good morning"."""
        said = [t for t in tokens_of(self.asked) if t.word not in PUNCTUATION]
        while said and said[0].word in _ADDRESSING:
            said = said[1:]
        words = [t.word for t in said[:2]]
        if len(words) < 2 or self._is_known(said[:2]):
            return self._begins_with_an_instruction()
        choosing = self._first(words_of("or vs versus")) >= 0  # "the push cart or the table"
        ordered = words[0] in COMMANDS and not choosing
        greeted = words[0] == "good" and words[1] in _DAY
        return ordered or greeted or words == ["tell", "me"] or self._begins_with_an_instruction()

    def _begins_with_an_instruction(self) -> bool:
        """Whether what stands before a colon is an instruction: "describe: chair", "tell a joke: chair"."""
        head, colon, names = self.asked.partition(":")
        if not colon or not names.strip():
            return False
        pieces = pieces_of(tokens_of(head), SEPARATORS)
        return any(not self._is_known(p) and any(not _leads_in(t) for t in p) for p in pieces)

    def _is_known(self, piece: Sequence[Token]) -> bool:
        return (len(piece) == 1 and piece[0].is_name) or key_of(text_of(piece)) in self.known.by_key


def _leads_in(token: Token) -> bool:
    """Whether a word before a colon only says that names or distances follow: "objects:", "the distances of these:"."""
    return strippable(token) or token.word in _LEADING_IN


def _is_one_of(name: str, kind: str) -> bool:
    """Whether a name ends with that of a kind: "red chair" with "chair"."""
    key = key_of(kind)
    return key_of(name)[-len(key) :] == key


def _means_all_others(tokens: Sequence[Token]) -> bool:
    """Whether words say "everything else", "all the others", "the rest"."""
    words = {t.word for t in tokens if t.word not in PUNCTUATION}
    return bool(words & _ALL_OTHERS) and words <= _ALL_OTHERS | EVERYTHING | GENERIC | words_of("the of them in view")


def _looks_like_a_name(piece: Sequence[Token]) -> bool:
    """Whether words that are not known may be a name: few, and no function words among them."""
    return len(piece) <= _MAX_BARE_NAME_WORDS and not any(strippable(t) and t.word not in PLACES for t in piece)


def _without_number(name: str) -> str:
    """Make "two cups" "cup": one of a kind is looked for by the word for one."""
    first, _, rest = name.partition(" ")
    words = (rest if rest and first.casefold() in _NUMBERS else name).split()
    return " ".join([*words[:-1], singular(words[-1])])


def _is_viewer(tokens: Sequence[Token]) -> bool:
    """Whether "am I" and the like is all there is, without a question word first."""
    if not tokens or tokens[0].word in ASKING:
        return False
    return all(strippable(t) or t.word in VIEWPOINT for t in tokens)


def _without_leading(tokens: list[Token], words: frozenset[str]) -> list[Token]:
    """The tokens without those of these words at the start."""
    start = 0
    while start < len(tokens) and tokens[start].word in words:
        start += 1
    return tokens[start:]


def _after_goal(tokens: list[Token]) -> list[Token]:
    """Drop "do I have to go to reach", "until" at the start: "how far do I have to go to reach the door"."""
    goal = next((i for i, t in enumerate(tokens) if t.word in _GOALS), -1)
    if goal >= 0 and all(t.word in MOTION or strippable(t) for t in tokens[:goal]):
        return tokens[goal + 1 :]
    return tokens


def _landmark_at(tokens: Sequence[Token]) -> int:
    """Index of the "from" or "to" that sets a landmark, -1 where there is none.

    Not of "to the left", "next to", "second from the left".
    """
    return next((i for i, t in enumerate(tokens) if t.word in ("from", "to") and _sets_landmark(tokens, i)), -1)


def _sets_landmark(tokens: Sequence[Token], i: int) -> bool:
    following = [t.word for t in tokens[i + 1 : i + 3]]
    if following in (["the", "left"], ["the", "right"]) and all(strippable(t) for t in tokens[i + 3 : i + 4]):
        return False
    if tokens[i].word == "from":
        return True
    return not (any(w in _SIDES for w in following) or (i > 0 and tokens[i - 1].word in BESIDE))


def _asked_noun(left: list[Token]) -> tuple[str, list[Token]]:
    """The noun of "which chair is …", and the rest: it is no object of its own, but what "one" stands for."""
    i = next((i for i, t in enumerate(left) if t.word in ("which", "what")), -1)
    if i < 0:
        return "", left
    j = i + 1
    while j < len(left) and not strippable(left[j]) and left[j].word not in SEPARATORS:
        j += 1
    noun = text_of(left[i + 1 : j])
    if noun and len(noun) <= MAX_NAME_LENGTH and left[i + 1].word not in GENERIC | {"of"}:
        return noun, [*left[:i], _COMMA, *left[j:]]
    return "", [*left[:i], _COMMA, *left[i:]]


def _between_objects() -> NotUnderstoodError:
    return NotUnderstoodError(
        "the question asks for the distance between two objects, but distances are measured from the camera; "
        "ask 'how far is the chair?' or 'which is closer, the chair or the table?'"
    )


def _too_few_names(kind: QuestionKind, names: tuple[str, ...]) -> NotUnderstoodError:
    word = "closer" if kind is QuestionKind.CLOSER else "farther"
    about, example = f"which is {word}", f"which is {word}, the chair or the table?"
    if kind is QuestionKind.EQUAL:
        about, example = "what is equally far", "are the chair and the table equally far?"
    got = f"only {names[0]!r}" if names else "none"
    return NotUnderstoodError(
        f"a question of {about} needs two objects, this one names {got}; ask for example {example!r}"
    )
