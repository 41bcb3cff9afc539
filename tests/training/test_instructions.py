"""Turns are true of their labels and worded as the engine words its questions."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxqa_core.language import templates
from proxqa_core.types import Box
from training.instructions.build import Labelled, Recipe, jittered, turns

THINGS = (
    Labelled("chair", "chair", Box(0.1, 0.2, 0.3, 0.6), 0.2, 1.0),
    Labelled("lamp", None, Box(0.5, 0.1, 0.6, 0.3), 0.7, 3.0),
    Labelled("lamp", "leftmost lamp", Box(0.0, 0.1, 0.1, 0.3), 0.72, 3.1),
)
NAMES = ["chair", "lamp", "sofa", "table", "car"]


@given(st.integers(0, 10**6))
def test_turns_are_true(seed):
    recipe = Recipe(perceive=6, where=3, absent=2, reason=3, direct=2)
    said = turns(THINGS, NAMES, recipe, random.Random(seed))
    kinds = [t.kind for t in said]
    assert kinds.count("absent") == 2 and kinds.count("where") == 2 and kinds.count("perceive") == 6
    assert kinds.count("reason") == 2 and kinds.count("direct") == 2  # the two lamps are too alike to be a pair
    for turn in said:
        assert turn.question.count(templates.REGION) == len(turn.boxes)
        if turn.kind == "absent":
            assert templates.parse_depth(turn.answer) is None
            assert any(f"the {n}?" in turn.question for n in ("sofa", "table", "car"))
        elif turn.kind == "where":
            region = templates.parse_where(turn.answer)
            assert (region.x1, region.y2) == ((10, 60) if "chair" in turn.question else (0, 30))
            assert "the lamp?" not in turn.question  # ambiguous by name: cannot be asked
        elif turn.kind == "perceive":
            assert templates.parse_depth(turn.answer) in (0.2, 0.7, 0.72)
            assert "the lamp?" not in turn.question  # ambiguous by name: asked by box only
        else:
            first = turn.question.index("chair") < turn.question.index("lamp")
            assert templates.parse_choice(turn.lead + turn.answer) == ("A" if first else "B")
            assert ("0." in turn.lead) == (turn.kind == "reason")


def test_the_same_seed_says_the_same():
    recipe = Recipe(perceive=4, reason=2)
    first, second = (turns(THINGS, NAMES, recipe, random.Random(5)) for _ in range(2))
    assert first == second


def test_without_region_tokens_boxes_are_said_in_words_only():
    recipe = Recipe(perceive=6, by_box=1.0)
    for turn in turns(THINGS, [], recipe, random.Random(0), region_token=False):
        assert templates.REGION not in turn.question and " at [" in turn.question and not turn.boxes


def test_an_image_without_objects_has_absent_ones_only():
    assert {t.kind for t in turns((), NAMES, Recipe(), random.Random(0))} == {"absent"}


@given(st.floats(0, 0.9), st.floats(0, 0.9), st.floats(0.01, 0.1), st.integers(0, 999))
def test_jittered_boxes_stay_inside(x, y, size, seed):
    box = jittered(Box(x, y, x + size, y + size), 0.3, random.Random(seed))
    assert 0 <= box.x1 < box.x2 <= 1.0 + 1e-9 and 0 <= box.y1 < box.y2 <= 1.0 + 1e-9


@pytest.mark.parametrize("values", [{"perceive": -1}, {"by_box": 1.5}])
def test_bad_recipes_are_refused(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        Recipe(**values)
