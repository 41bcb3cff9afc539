"""Turns are true of their labels and worded as the engine words its questions."""

import random
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxqa_core.language import templates
from proxqa_core.language.templates import BoxForm
from proxqa_core.types import Box
from proxqa_training.instructions.build import ImageObject, Recipe, build_turns, jittered
from tests.core.language import answer_parsing

THINGS = (
    ImageObject("chair", "chair", Box(0.1, 0.2, 0.3, 0.6), 0.2, 1.0),
    ImageObject("lamp", None, Box(0.5, 0.1, 0.6, 0.3), 0.7, 3.0),
    ImageObject("lamp", "leftmost lamp", Box(0.0, 0.1, 0.1, 0.3), 0.72, 3.1),
)
NAMES = ["chair", "lamp", "sofa", "table", "car"]


@given(st.integers(0, 10**6))
def test_turns_are_true(seed: int) -> None:
    recipe = Recipe(perceive=6, where=3, absent=2, reason=3, direct=2)
    drawn = build_turns(THINGS, NAMES, recipe, random.Random(seed))
    kinds = [t.kind for t in drawn]
    assert kinds.count("absent") == 2 and kinds.count("where") == 2 and kinds.count("perceive") == 6
    assert kinds.count("reason") == 2 and kinds.count("direct") == 2  # the two lamps are too alike to be a pair
    for turn in drawn:
        assert turn.question.count(templates.REGION) == len(turn.boxes)
        if turn.kind == "absent":
            assert answer_parsing.parse_depth(turn.answer) is None
            assert any(f"the {n}?" in turn.question for n in ("sofa", "table", "car"))
        elif turn.kind == "where":
            region = answer_parsing.parse_where(turn.answer)
            assert (region.x1, region.y2) == ((10, 60) if "chair" in turn.question else (0, 30))
            assert "the lamp?" not in turn.question  # ambiguous by name: cannot be asked
        elif turn.kind == "perceive":
            assert answer_parsing.parse_depth(turn.answer) in (0.2, 0.7, 0.72)
            assert "the lamp?" not in turn.question  # ambiguous by name: asked by box only
        else:
            first = turn.question.index("chair") < turn.question.index("lamp")
            assert answer_parsing.parse_choice(turn.lead + turn.answer) == ("A" if first else "B")
            assert ("0." in turn.lead) == (turn.kind == "reason")


def test_the_same_seed_draws_the_same() -> None:
    recipe = Recipe(perceive=4, reason=2)
    first, second = (build_turns(THINGS, NAMES, recipe, random.Random(5)) for _ in range(2))
    assert first == second


def test_without_coordinates_boxes_are_region_tokens_alone() -> None:
    recipe = Recipe(perceive=6, what=2, box_fraction=1.0)
    for turn in build_turns(THINGS, [], recipe, random.Random(0), BoxForm(coordinates=False)):
        assert turn.question.count(templates.REGION) == len(turn.boxes) == 1 and "[" not in turn.question


def test_where_only_the_distance_is_known_it_is_asked_for_and_no_depth_is_said() -> None:
    cars = [ImageObject("car", None, Box(0.1 * i, 0.2, 0.1 * i + 0.1, 0.6), None, 5.0 * i + 5) for i in range(3)]
    drawn = build_turns(cars, NAMES, Recipe(perceive=3, present=2, absent=0, reason=2), random.Random(0))
    assert [t.kind for t in drawn[:3]] == ["ordered"] * 3  # nothing is "present": all of it is measured
    assert {t.distance for t in drawn[:3]} == {5.0, 10.0, 15.0} and {t.depth for t in drawn} == {None}
    assert {t.answer for t in drawn[:3]} == {templates.DEPTH_LEAD}
    assert not [t for t in drawn if t.kind == "reason"]  # there is no depth that could lead it


def test_without_region_tokens_boxes_are_in_words_only() -> None:
    recipe = Recipe(perceive=6, box_fraction=1.0)
    for turn in build_turns(THINGS, [], recipe, random.Random(0), BoxForm(region_token=False)):
        assert templates.REGION not in turn.question and " at [" in turn.question and not turn.boxes


def test_an_image_without_objects_has_absent_ones_only() -> None:
    assert {t.kind for t in build_turns((), NAMES, Recipe(), random.Random(0))} == {"absent"}


@given(st.floats(0, 0.9), st.floats(0, 0.9), st.floats(0.01, 0.1), st.integers(0, 999))
def test_jittered_boxes_stay_inside(x: float, y: float, size: float, seed: int) -> None:
    box = jittered(Box(x, y, x + size, y + size), 0.3, random.Random(seed))
    assert 0 <= box.x1 < box.x2 <= 1.0 + 1e-9 and 0 <= box.y1 < box.y2 <= 1.0 + 1e-9


@pytest.mark.parametrize(
    "values",
    [
        {"perceive": -1},
        {"sort": -1},
        {"box_fraction": 1.5},
        {"paraphrase_fraction": -0.1},
        {"depths_first_fraction": 2},
        {"max_listed": 7},
    ],
)
def test_bad_recipes_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        Recipe(**values)


ROOM = (
    *THINGS,
    ImageObject("sofa", "red sofa", Box(0.4, 0.4, 0.8, 0.9), 0.3, 1.4),
    ImageObject("dog", "dog", Box(0.6, 0.7, 0.7, 0.9), 0.31, 1.43),
)
PHRASE_DISTANCE = {"chair": 1.0, "lamp": 3.05, "leftmost lamp": 3.1, "sofa": 1.4, "red sofa": 1.4, "dog": 1.43}
PHRASE_DEPTH = {"chair": 0.2, "lamp": 0.7, "leftmost lamp": 0.72, "sofa": 0.3, "red sofa": 0.3, "dog": 0.31}


def asked_things(question: str) -> list[str]:
    """The phrases of a question's objects in order; boxes taken out."""
    bare = re.sub(templates.REGION + r"? at \[[\d,]+\]", "", question)
    phrases = "|".join(sorted([*PHRASE_DISTANCE, "table", "car"], key=len, reverse=True))
    return re.findall(rf"\bthe ({phrases})\b", bare)


@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.0, 0.5, 1.0]))
def test_turns_about_more_than_one_thing_are_true(seed: int, variety: float, depths_first: float) -> None:
    recipe = Recipe(
        perceive=0,
        absent=0,
        what=2,
        several=3,
        farther=3,
        nearest=3,
        sort=3,
        equal=3,
        paraphrase_fraction=variety,
        depths_first_fraction=depths_first,
    )
    drawn = build_turns(ROOM, NAMES, recipe, random.Random(seed))
    kinds = [t.kind for t in drawn]
    assert {k: kinds.count(k) for k in set(kinds)} == {
        "what": 2, "several": 3, "farther": 3, "nearest": 3, "sort": 3, "equal": 3
    }  # fmt: skip
    for turn in drawn:
        assert turn.question.count(templates.REGION) == len(turn.boxes) and turn.depth is None
        assert ("0." in turn.lead) == (bool(turn.lead) and depths_first == 1) or depths_first == 0.5
        things, text = asked_things(turn.question), turn.lead + turn.answer
        metres = [PHRASE_DISTANCE.get(t, 0.0) for t in things]
        if turn.kind == "what":
            assert not things and len(turn.boxes) == 1 and answer_parsing.parse_what(turn.answer) in PHRASE_DISTANCE
        elif turn.kind == "several":
            assert (
                answer_parsing.parse_several(turn.answer) == tuple(PHRASE_DEPTH.get(t) for t in things)
                or "lamp" in things
            )
        elif turn.kind == "farther":
            assert answer_parsing.parse_letter(text, templates.FARTHER_LEAD) == metres.index(max(metres))
        elif turn.kind == "nearest":
            assert answer_parsing.parse_letter(text, templates.NEAREST_LEAD) == metres.index(min(metres))
        elif turn.kind == "sort":
            order = answer_parsing.parse_sort(text, len(things))
            assert [metres[i] for i in order] == sorted(metres)
        else:
            assert answer_parsing.parse_equal(text) == (abs(metres[0] - metres[1]) < 0.11)


def test_some_of_several_are_absent_and_answered_so() -> None:
    drawn = build_turns(ROOM, NAMES, Recipe(perceive=0, absent=0, several=60), random.Random(0))
    absent = [t for t in drawn if templates.NOT_VISIBLE in t.answer]
    assert 6 <= len(absent) <= 35
    for turn in absent:
        where = answer_parsing.parse_several(turn.answer).index(None)
        assert asked_things(turn.question)[where] in ("table", "car")


def test_variety_is_the_share_of_other_forms() -> None:
    def share(variety: float) -> float:
        recipe = Recipe(perceive=8, absent=0, box_fraction=0, paraphrase_fraction=variety)
        drawn = [t for i in range(60) for t in build_turns(ROOM, NAMES, recipe, random.Random(i))]
        return sum(not t.question.startswith("How far is the ") for t in drawn) / len(drawn)

    assert share(0) == 0 and share(1) == 1 and 0.4 < share(0.5) < 0.6


def test_the_engine_s_own_forms_are_all_that_is_asked_without_variety() -> None:
    recipe = Recipe(perceive=4, where=2, absent=2, reason=3, direct=3)
    for turn in build_turns(ROOM, NAMES, recipe, random.Random(1)):
        assert turn.question.startswith(("How far is the ", "Where is the ", "Which is closer: A, the "))


def test_one_thing_alone_is_not_compared() -> None:
    recipe = Recipe(perceive=0, absent=0, several=2, farther=2, nearest=2, sort=2, equal=2)
    assert build_turns(THINGS[:1], NAMES, recipe, random.Random(0)) == []


def test_the_smallest_boxes_can_be_asked_about() -> None:
    speck = ImageObject("sign", "sign", Box(0.4921, 0.7288, 0.4928, 0.7300), None, None)
    recipe = Recipe(perceive=0, present=1, absent=0, where=1, what=1, box_fraction=1.0)
    drawn = build_turns([speck], [], recipe, random.Random(0))
    assert {t.kind for t in drawn} == {"present", "where", "what"}
