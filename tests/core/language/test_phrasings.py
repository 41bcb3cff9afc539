"""The share of 40 questions, written before the rules that read them, that is understood. `-s` prints it.

The questions measure; they are not there to be fixed one by one. New rules get examples of their own, in
`test_questions`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from proxqa_core.errors import NotUnderstoodError
from proxqa_core.language.phrases import key_of
from proxqa_core.language.questions import understand
from proxqa_core.types import QuestionKind

QUESTIONS: list[dict[str, Any]] = json.loads(Path(__file__).with_name("phrasings.json").read_text())["questions"]
MUST = 0.9


def is_understood(question: str, kind: str, names: list[str]) -> bool:
    """Whether the kind and all the names are as expected; the order of the names matters where it says who is who."""
    try:
        found = understand(question)
    except NotUnderstoodError:
        return False
    got, expected = [key_of(n) for n in found.names], [key_of(n) for n in names]
    in_order = found.yes_no and found.kind in (QuestionKind.CLOSER, QuestionKind.FARTHER)
    return found.kind.value == kind and (got == expected if in_order else sorted(got) == sorted(expected))


def test_there_are_forty_different_ones_of_every_kind() -> None:
    assert len({q["question"].casefold() for q in QUESTIONS}) == 40
    assert {q["kind"] for q in QUESTIONS} == {k.value for k in QuestionKind} - {"general", "visible"}


def test_nine_in_ten_are_understood() -> None:
    share = sum(is_understood(**q) for q in QUESTIONS) / len(QUESTIONS)
    print(f"phrasings understood: {share:.1%} of {len(QUESTIONS)}")
    assert share >= MUST
