"""What is a rest of a sentence is never looked up as a name, and options and statements are read as what they are."""

from __future__ import annotations

import pytest

from proxqa_core.errors import NotUnderstoodError
from proxqa_core.language.questions import understand
from proxqa_core.types import QuestionKind


@pytest.mark.parametrize(
    "question",
    [
        "Is the chair closer than 3 meters?",
        "Is the person closer than the chair but farther than the table?",
        "How far is the closest object on the right?",
        "Does the man in front of the bus look young?",
        '{"question": "Which is closer, the pot or the pan?"}',
    ],
)
def test_a_rest_of_a_sentence_is_no_name(question: str) -> None:
    with pytest.raises(NotUnderstoodError):
        understand(question)


def test_a_name_that_the_caller_has_is_never_such_a_rest() -> None:
    found = understand("Is the into space poster closer than the mug?", ["into space poster", "mug"])
    assert (found.kind, found.names) == (QuestionKind.CLOSER, ("into space poster", "mug"))


@pytest.mark.parametrize(
    ("question", "labels", "names"),
    [
        ("Which is closer? [A] mug [B] bowl", ["[A]", "[B]"], ("mug", "bowl")),
        ("Which is nearest?\n1) mug\n2) bowl\n3) pan", ["1", "2", "3"], ("mug", "bowl", "pan")),
        ("Which is closer? Option A: mug. Option B: bowl.", ["A", "B"], ("mug", "bowl")),
        ("Which is closer? (1) mug (2) bowl. Answer with the number only.", ["(1)", "(2)"], ("mug", "bowl")),
    ],
)
def test_options_of_every_kind_are_names(question: str, labels: list[str], names: tuple[str, ...]) -> None:
    found = understand(question)
    assert ([o.label for o in found.options], found.names) == (labels, names)


@pytest.mark.parametrize("known", [("mug",), ("bowl", "mug"), ("mug", "bowl", "pan"), ("pan", "pot")])
def test_options_say_what_is_compared_whatever_else_is_known(known: tuple[str, ...]) -> None:
    """Three objects were given, two are the options: the third was compared too, and could be the answer."""
    for question in ("Which is farther? A. the mug B. the bowl", "Which of these is farther?\nA. mug\nB. bowl"):
        found = understand(question, known)
        assert (found.kind, found.names) == (QuestionKind.FARTHER, ("mug", "bowl")), known
        assert [o.text for o in found.options] == ["mug", "bowl"]


def test_a_numbered_list_to_sort_is_names_and_no_choice() -> None:
    found = understand("Rank these from nearest to farthest: 1. mug 2. bowl 3. pan")
    assert (found.kind, found.names, found.options) == (QuestionKind.SORT, ("mug", "bowl", "pan"), ())


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("True or false: the mug is behind the bowl.", QuestionKind.FARTHER),
        ("The mug is in front of the bowl. Is this statement correct?", QuestionKind.CLOSER),
        ("I think the mug is closer than the bowl. Am I right?", QuestionKind.CLOSER),
        ("Check whether the mug is farther than the bowl.", QuestionKind.FARTHER),
    ],
)
def test_a_statement_is_the_question_of_whether_it_is_so(question: str, kind: QuestionKind) -> None:
    found = understand(question)
    assert (found.kind, found.names, found.yes_no) == (kind, ("mug", "bowl"), True)
