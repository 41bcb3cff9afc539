"""Requests → questions and answers → responses, without a node."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from builtin_interfaces.msg import Time

from proxqa_core.types import Box, ObjectDepth, ObjectQuery, ProximityAnswer, QuestionKind
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
    assert [q.name for q in question.objects] == asked and bool(question.looked_for) is over_configured
    if text:
        said = queries.answer(question, Nearest()).answer
        assert ("(Looked for: the objects that this node is configured with.)" in said) is over_configured


def test_without_configured_objects_the_model_says_over_what_it_looked() -> None:
    question = queries.parse(ProximityQuery.Request(question="What is nearest?"), (), 1.0)
    assert question.objects == () and not question.looked_for
    found = queries.answer(question, Nearest())
    response = queries.fill_answer(ProximityQuery.Response(), queries.Reply(found, Time()), 0.1)
    assert response.error_code == response.NOT_VISIBLE and not response.success
    assert response.message == response.answer == "I see none." and math.isnan(response.probability)


LEFT, RIGHT, MIDDLE = Box(0, 0, 10, 10), Box(80, 0, 90, 10), Box(40, 0, 50, 10)


@pytest.mark.parametrize(
    ("text", "asked", "says"),
    [
        ("", ["left chair", "right chair", "dog"], ""),
        (
            "What is nearest?",
            ["left chair", "right chair", "dog"],
            "the 3 things that the detector gave",
        ),
        ("Which chair is closer?", ["chair", "chair", "dog"], ""),
        ("How far is the dog?", ["left chair", "right chair", "dog"], ""),
        ("How far is the chair?", ["chair", "dog"], "Of 2 things that may be a chair, the right chair was taken."),
    ],
)
def test_without_objects_a_question_is_about_what_the_detector_gave(text: str, asked: list[str], says: str) -> None:
    detected = [ObjectQuery("chair", RIGHT), ObjectQuery("chair", LEFT), ObjectQuery("dog", MIDDLE)]
    parsed = queries.parse(ProximityQuery.Request(question=text), CONFIGURED, 1.0)
    question = queries.about_detected(parsed, detected)
    assert sorted(q.name for q in question.objects) == sorted(asked)
    assert all(
        q.box == {"left": LEFT, "right": RIGHT, "dog": MIDDLE}.get(q.name.split()[0], q.box) for q in question.objects
    )
    if text:
        assert says in queries.answer(question, Nearest()).answer


def test_where_the_detector_gave_nothing_that_is_the_answer() -> None:
    parsed = queries.parse(ProximityQuery.Request(question="What is nearest?"), CONFIGURED, 1.0)
    found = queries.answer(queries.about_detected(parsed, ()), Nearest())
    response = queries.fill_answer(ProximityQuery.Response(), queries.Reply(found, Time()), 0.1)
    assert response.error_code == response.NOT_VISIBLE
    assert response.message == "The detector gave nothing in this image."
