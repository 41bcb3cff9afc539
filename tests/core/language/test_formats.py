"""How questions want their answers, marks in the image, negations, and the short answers that come of it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from proxqa_core.answering import answer, closer_answer
from proxqa_core.errors import NotUnderstoodError
from proxqa_core.language.formats import AnswerStyle, read_request
from proxqa_core.language.questions import understand
from proxqa_core.ranking import by_depth
from proxqa_core.types import ObjectDepth, ObjectQuery, ProximityAnswer

DEPTHS = {"jug": 0.2, "stove": 0.5, "tent": 0.8}


class Perceiver:
    """Knows DEPTHS by heart; what is not among them is not seen."""

    def depths(self, objects: Sequence[ObjectQuery]) -> tuple[ObjectDepth, ...]:
        return tuple(
            ObjectDepth(q.name, DEPTHS.get(q.name, 0.5), 0.03, 0.9 if q.name in DEPTHS else 0.1, "") for q in objects
        )

    def closer(self, a: ObjectQuery, b: ObjectQuery) -> ProximityAnswer:
        first, second = self.depths([a, b])
        return closer_answer((first, second), 0.9 if first.depth <= second.depth else 0.1)

    def ranking(self, objects: Sequence[ObjectQuery], found: bool = False) -> list[int]:
        return by_depth(self.depths(objects))


def said(question: str, known: Sequence[str] = ()) -> str:
    return answer(Perceiver(), understand(question, known), [ObjectQuery(n) for n in known]).answer


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Which is closer?\nA. stove\nB. jug\nAnswer with the option's letter from the given choices directly.", "B"),
        ("Which is farther, the jug or the stove? (A) the jug (B) the stove", "(B)"),
        ("Which is farther?\nOptions:\nA.jug\nB.stove\nC.tent\nPlease select the correct answer above.", "C"),
        ("Is the jug closer than the stove? Please answer yes or no.", "Yes"),
        ("Is the jug behind the stove, yes or no?", "No"),
        ("Is the jug closer than the stove?\n(A) Yes\n(B) No", "(A)"),
        ("Is the stove closer than the jug?\nA. Yes\nB. No\nAnswer with the letter.", "B"),
        ("Which is closer, the stove or the jug? Answer the question using a single word or phrase.", "jug"),
        ("In one word, which is farthest: the jug, the stove or the tent?", "tent"),
        ("What is the depth value of the stove? Answer with a number between 0 and 1.", "0.50"),
        ("How far is the jug, from 0 to 1?", "0.20"),
        ("Which is closer, the stove or the lamp? Answer with one word.",
         "The stove is at 0.50 ± 0.03 of the view's depth "
         "(relative depth: 0 nearest, 1 farthest; not metres). I see no lamp."),
    ],
)  # fmt: skip
def test_an_answer_has_the_form_that_is_asked_for(question: str, expected: str) -> None:
    assert said(question) == expected


@pytest.mark.parametrize("unit", ["in meters", "in feet", "in cm"])
def test_a_bare_number_is_never_of_another_unit(unit: str) -> None:
    assert said(f"How far is the jug {unit}? Answer with a number only.").startswith(
        "The jug is at 0.20 ± 0.03 of the view's depth"
    )
    assert said(f"How far is the jug {unit}? Answer using a single word.").startswith(
        "The jug is at 0.20 ± 0.03 of the view's depth"
    )


@pytest.mark.parametrize(
    "suffix",
    [
        "Answer with the option's letter from the given choices directly.",
        "Please answer directly with only the letter of the correct option and nothing else.",
        "Let's think step by step.",
        "Answer concisely.",
        "Answer the question using a single word or phrase.",
        "Do not explain.",
        "Your answer should be one word.",
    ],
)
@pytest.mark.parametrize("layout", ["{} {}", "{}\n{}", "<image>\n{}\n{}", "Question: {}\n{}\nAnswer:", "{1} {0}"])
def test_instructions_are_no_objects(suffix: str, layout: str) -> None:
    found = understand(layout.format("Which is closer to the camera, the jug or the stove?", suffix))
    assert (found.kind.value, found.names) == ("closer", ("jug", "stove"))


@pytest.mark.parametrize(
    "question",
    [
        "Which object is closer to the camera taking this photo, the jug (highlighted by a red box) or the stove "
        "(highlighted by a blue box)?",
        "Which is closer to the photographer, the jug (red box) or the stove (blue box)?",
        "Which is nearer, the jug marked with a red circle or the stove marked with a green circle?",
        "Which has the smaller depth value, the jug or the stove?",
        "Which is not farther, the jug or the stove?",
        "Whose depth value is smaller, the jug or the stove?",
        "Which is closer, the jug or the stove, or are they equal?",
        "Which is closer, the jug or the stove? Choose from: jug, stove.",
        "Between the jug and the stove, which one is positioned in front?",
    ],
)
def test_marks_and_roundabout_words_are_taken_off(question: str) -> None:
    found = understand(question)
    assert (found.kind.value, found.names) == ("closer", ("jug", "stove"))


@pytest.mark.parametrize(
    "question",
    [
        "Two points are circled on the image. Which point is closer to the camera?\n(A) A is closer\n(B) B is closer",
        "Which is closer, point A or point B?",
        "Which is closer, the red point or the blue point?",
        "What is the depth value of point <0.5,0.2>?",
        "What is the second closest of the jug, the stove and the tent?",
        "Is the jug not closer than the stove?",
        "Is it false that the jug is closer than the stove?",
        "Which of the jug, the stove and the tent is not the nearest?",
        "Which is closest, everything except the jug?",
        "How far is the jug if 1 is the nearest and 0 the farthest?",
        "Is the jug in front of the stove from the tent's perspective?",
        "Which is closer, the jug or the stove?\nA. left\nB. right",
        "Rate the distance of the jug on a scale from 1 to 10.",
        "What are the coordinates of the jug?",
    ],
)
def test_what_cannot_be_read_for_certain_is_refused(question: str) -> None:
    with pytest.raises(NotUnderstoodError) as refused:
        understand(question)
    assert "\n" not in str(refused.value)


def test_marks_that_are_given_as_objects_are_names() -> None:
    found = understand("Which point is closer?\n(A) A is closer\n(B) B is closer", ["A", "B"])
    assert (found.names, found.style) == (("A", "B"), AnswerStyle.LETTER)
    assert [(o.label, o.text) for o in found.options] == [("(A)", "A"), ("(B)", "B")]


@pytest.mark.parametrize("name", ["jug on the table", "jug next to the stove", "jug in front of the tent"])
def test_a_relation_to_another_object_is_refused_unless_it_has_a_box(name: str) -> None:
    with pytest.raises(NotUnderstoodError, match="box"):
        said(f"How far is the {name}?")
    assert understand(f"How far is the {name}?", [name]).names == (name,)
    assert said("How far is the jug on the left?") == "I see no jug on the left."


@pytest.mark.parametrize("text", ["", "<image>", "Answer yes or no.", "(A) (B)", "A. B.", "Options:", "\n\n?"])
def test_any_text_is_taken_apart(text: str) -> None:
    assert isinstance(read_request(text).question, str)
