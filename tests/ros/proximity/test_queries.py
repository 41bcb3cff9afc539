"""Requests → questions and answers → responses, without a node."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from builtin_interfaces.msg import Time

from proxqa_core.types import ObjectDepth, ObjectQuery, ProximityAnswer, QuestionKind
from proxqa_ros.proximity import queries
from proxqa_ros.srv import ProximityQuery

CONFIGURED = [ObjectQuery("chair"), ObjectQuery("table")]


class Nearest:
    """Answers that the first object is nearest."""

    def ask(self, question: str, objects: Sequence[Any] = ()) -> ProximityAnswer:
        found = tuple(ObjectDepth(o.name, 0.2, 0.1, 0.9, "") for o in objects)
        return ProximityAnswer(question, QuestionKind.NEAREST, "It is near." if found else "I see none.", found)


@pytest.mark.parametrize(
    ("text", "names", "asked", "over_configured"),
    [
        ("What is nearest?", [], ["chair", "table"], True),
        ("Sort everything by distance.", [], ["chair", "table"], True),
        ("What is nearest?", ["lamp"], ["lamp"], False),
        ("Which is nearest: the cup, the jug or the tent?", [], [], False),
        ("How far is the cup?", [], [], False),
        ("", [], ["chair", "table"], False),
    ],
)
def test_what_is_nearest_is_about_the_configured_objects_where_none_are_named(
    text: str, names: list[str], asked: list[str], over_configured: bool
) -> None:
    question = queries.parse(ProximityQuery.Request(question=text, objects=names), CONFIGURED, 1.0)
    assert [q.name for q in question.objects] == asked and question.over_configured is over_configured
    if text:
        said = queries.answer(question, Nearest()).answer
        assert ("(Looked for: the objects that this node is configured with.)" in said) is over_configured


def test_without_configured_objects_the_model_says_over_what_it_looked() -> None:
    question = queries.parse(ProximityQuery.Request(question="What is nearest?"), (), 1.0)
    assert question.objects == () and not question.over_configured
    found = queries.answer(question, Nearest())
    response = queries.fill_answer(ProximityQuery.Response(), queries.Reply(found, Time()), 0.1)
    assert response.error_code == response.NOT_VISIBLE and not response.success
    assert response.message == response.answer == "I see none." and math.isnan(response.probability)
