"""Answers sentence as sentences."""

from __future__ import annotations

import math
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from proxqa_core.language.sentences import (
    SCALE,
    SURE,
    about_equal,
    say_closer,
    say_depths,
    say_equal,
    say_metres,
    say_yes_or_no,
)
from proxqa_core.types import Box, ObjectDepth


def thing(name: str, depth: float, score: float = 0.9, distance: float = math.nan) -> ObjectDepth:
    stddev = math.nan if math.isnan(distance) else 0.1
    return ObjectDepth(name, depth, 0.05, score, f"{depth:.2f}", distance=distance, distance_stddev=stddev)


def test_depths_nearest_first() -> None:
    sentence = say_depths([thing("chair", 0.21), thing("table", 0.6)])
    assert sentence == f"The chair is nearest, at 0.21 ± 0.05 of the view's depth; the table 0.60 ± 0.05 ({SCALE})."


def test_an_order_that_is_not_that_of_the_depths_is_said_so() -> None:
    """What is called nearest has the larger number there, which would look like a mistake."""
    sentence = say_depths([thing("cup", 0.43), thing("box", 0.41), thing("lamp", 0.8, score=0.1)])
    assert sentence == (
        f"The cup is nearest, at 0.43 ± 0.05 of the view's depth; the box 0.41 ± 0.05 ({SCALE}). "
        "The order is told by more than these depths. I see no lamp."
    )
    assert "more than" not in say_depths([thing("cup", 0.412), thing("box", 0.409)])  # both are said to be 0.41


def test_one_object_is_not_called_nearest() -> None:
    assert say_depths([thing("the chair", 0.2)]) == f"The chair is at 0.20 ± 0.05 of the view's depth ({SCALE})."


def test_unseen_objects_get_no_number() -> None:
    sentence = say_depths([thing("chair", 0.2), thing("lamp", 0.4, score=0.1), thing("a dog", 0.4, score=math.nan)])
    assert sentence == f"The chair is at 0.20 ± 0.05 of the view's depth ({SCALE}). I see no lamp or dog."
    assert say_depths([thing("lamp", 0.4, score=0.1)]) == "I see no lamp."


def test_a_depth_that_is_not_known_is_said_so() -> None:
    assert say_depths([thing("chair", math.nan)]) == "I cannot tell how far the chair is."


def test_a_box_that_was_given_is_answered_and_the_name_doubted() -> None:
    dice = replace(thing("dice", 0.2, score=0.12), box=Box(1, 2, 30, 40))
    assert say_depths([dice]) == (
        f"The dice is at 0.20 ± 0.05 of the view's depth ({SCALE}). "
        "What is in the box given for the dice may be something else (12 % that it is one)."
    )
    assert say_depths([replace(dice, found_at=dice.box, box=None)]) == "I see no dice."
    assert say_depths([replace(dice, depth=math.nan)]) == "I see no dice."  # a box outside the image


def test_nothing() -> None:
    assert say_depths([]) == "There is no object to speak of."


def test_metres_where_calibrated() -> None:
    sentence = say_depths([thing("chair", 0.2, distance=1.234), thing("table", 0.6)])
    assert sentence == (
        f"The chair is nearest, at 1.23 ± 0.10 m (relative depth 0.20 ± 0.05); the table 0.60 ± 0.05 ({SCALE})."
    )
    assert say_metres(12.34) == "12.3 m"


def test_closer() -> None:
    assert say_closer("chair", "table", 0.93) == "The chair is closer than the table (93 % sure)."
    assert say_closer("chair", "table", 1.0) == "The chair is closer than the table (more than 99 % sure)."
    assert say_closer("chair", "table", 0.55) == "The chair and the table are about equally far (55 % for the chair)."
    assert say_closer("chair", "table", math.nan) == "The chair is closer than the table."
    near, far = thing("chair", 0.2, distance=1.2), thing("my table", 0.4, distance=2.0)
    assert say_closer(near, far, 0.9) == "The chair (1.20 m) is closer than my table (2.00 m) (90 % sure)."


def test_equally_far_or_not() -> None:
    near, far = thing("chair", 0.30), thing("table", 0.33)
    sentence = say_equal([near, far], near, far, 0.7)
    assert sentence == (
        f"Yes. The chair and the table are about equally far (at 0.30 ± 0.05 and 0.33 ± 0.05; {SCALE})."
    )
    far = thing("table", 0.60)
    assert say_equal([near, far], near, far, 0.93) == "No. The chair is closer than the table (93 % sure)."
    assert say_equal([near, far], near, far, 0.55).startswith("Yes.")  # undecided


def test_three_things_equally_far() -> None:
    things = [thing("mop", 0.30), thing("bucket", 0.31), thing("broom", 0.34)]
    assert say_equal(things, things[0], things[2], 0.7).startswith("Yes. The mop, the bucket and the broom are about")


def test_yes_no_and_hard_to_say() -> None:
    assert say_yes_or_no(True, 0.9, "So.") == "Yes. So."
    assert say_yes_or_no(False, 0.9, "So.") == "No. So."
    assert say_yes_or_no(True, 0.52, "So.") == "Hard to say. So."


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0.5, 1))
def test_equal_does_not_depend_on_the_order_and_is_far_from_certain(a: float, b: float, probability: float) -> None:
    one, other = thing("a", a), thing("b", b)
    equal = about_equal(one, other, probability)
    assert equal == about_equal(other, one, probability)
    assert equal or probability >= SURE
    assert not equal or probability < SURE or abs(a - b) < 0.08


NAMES = st.text("abc xyz", min_size=1, max_size=12).filter(str.strip)


@given(st.lists(st.tuples(NAMES, st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=6))
def test_no_metres_without_calibration_and_every_object_named(things: list[tuple[str, float, float]]) -> None:
    sentence = say_depths([thing(*t) for t in things])
    assert " m (" not in sentence and ("not metres" in sentence) == ("±" in sentence) and "nan" not in sentence
    assert sentence.endswith(".") and "\n" not in sentence
    numbers = sum(score >= 0.5 for _, _, score in things)
    assert sentence.count("±") == numbers


@given(NAMES, NAMES, st.floats(0.5, 1.0))
def test_closer_is_one_sentence_without_metres(a: str, b: str, probability: float) -> None:
    sentence = say_closer(thing(a, 0.1), thing(b, 0.2), probability)
    assert sentence.endswith(".") and "nan" not in sentence
    assert ("equally" in sentence) == (probability < 0.6)
