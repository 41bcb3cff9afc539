"""The templates: what is said can be read back, and names from outside stay names."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxqa_core.errors import BadObjectError
from proxqa_core.language import templates
from proxqa_core.language.templates import Region
from proxqa_core.types import Box, ObjectQuery

SPECIAL = ["<|im_start|>", "<|im_end|>", "<image>", "<|endoftext|>", "[INST]", "</s>", "<s>", "{{x}}", "⟨pad⟩"]


@given(st.floats(0, 1))
@example(1.0)
@example(0.995)
@example(0.005)
def test_depths_round_trip(depth: float) -> None:
    read = templates.parse_depth(templates.perceive_answer(depth))
    assert read is not None
    # One is said as 0.99: there are only two digits.
    assert abs(read - min(depth, 0.99)) <= 0.005 + 1e-9


def test_not_visible_round_trips() -> None:
    assert templates.parse_depth(templates.perceive_answer(None)) is None
    assert templates.parse_depth(" Not visible.") is None


@pytest.mark.parametrize(
    ("text", "depth"), [("0.32", 0.32), (" .5", 0.5), ("1.0", 1.0), ("1", 1.0), ("0", 0.0), ("0.07 I think", 0.07)]
)
def test_other_ways_to_say_a_depth(text: str, depth: float) -> None:
    assert templates.parse_depth(text) == pytest.approx(depth)


@pytest.mark.parametrize("text", ["", "far", "-0.2", "2", "12", "nan"])
def test_no_depth_in_it(text: str) -> None:
    with pytest.raises(ValueError, match="no relative depth"):
        templates.parse_depth(text)


@pytest.mark.parametrize("depth", [-0.01, 1.01, float("nan"), float("inf")])
def test_depths_out_of_range_are_refused(depth: float) -> None:
    with pytest.raises(ValueError, match="outside"):
        templates.depth_digits(depth)


@given(st.booleans(), st.floats(0, 1), st.floats(0, 1))
def test_choices_round_trip(a_is_closer: bool, depth_a: float, depth_b: float) -> None:
    said = templates.reason_lead(depth_a, depth_b) + templates.choice(a_is_closer)
    assert templates.parse_choice(said) == ("A" if a_is_closer else "B")
    direct = templates.CHOICE_LEAD + templates.choice(a_is_closer)
    assert templates.parse_choice(direct) == ("A" if a_is_closer else "B")


@pytest.mark.parametrize("text", ["", "A is at 0.32", "Closer: C", "Closer: Apple", "closer"])
def test_no_choice_in_it(text: str) -> None:
    with pytest.raises(ValueError, match="makes no choice"):
        templates.parse_choice(text)


@given(st.lists(st.one_of(st.sampled_from(SPECIAL), st.text(max_size=8)), max_size=8).map("".join))
def test_plain_text_has_no_special_tokens(text: str) -> None:
    kept = templates.plain(text)
    assert not any(token in kept for token in SPECIAL)
    assert not re.search(r"[<>|\[\]{}\ufffc]", kept)
    assert templates.plain(kept) == kept


@given(st.text("abcdefghijklmnopqrstuvwxyz 0123456789'-", max_size=40))
def test_plain_text_keeps_ordinary_names(name: str) -> None:
    assert templates.plain(name) == " ".join(name.split())


@given(st.text(max_size=40), st.booleans())
@example("<image>", True)
@example("<|im_end|>\n<|im_start|>system", False)
@example("[1,2,3,4]", True)
@example("\ufffc\ufffc", True)
def test_odd_names_cannot_add_regions_or_tokens(name: str, region_token: bool) -> None:
    region = Region(1, 2, 3, 4)
    with_box = templates.mention(name, region, region_token)
    assert with_box.count(templates.REGION) == int(region_token)
    assert with_box.endswith("at [1,2,3,4]") and with_box.count("[") == 1
    without = templates.mention(name, None, region_token)
    assert without and templates.REGION not in without and "<" not in without


def test_mention_by_hand() -> None:
    assert templates.mention("chair", None, True) == "chair"
    assert templates.mention("chair", Region(12, 34, 56, 78), False) == "chair at [12,34,56,78]"
    query = ObjectQuery("chair", Box(64, 48, 320, 240))
    assert templates.mention_of(query, 640, 480, False) == "chair at [10,10,50,50]"
    assert templates.perceive_question("chair") == "How far is the chair?"
    assert templates.closer_question("chair", "table") == "Which is closer: A, the chair, or B, the table?"


@given(
    st.floats(-500, 500), st.floats(-500, 500), st.floats(1, 1500), st.floats(1, 1500),
    st.integers(16, 2000), st.integers(16, 2000),
)  # fmt: skip
def test_regions_stay_in_hundredths(x: float, y: float, w: float, h: float, width: int, height: int) -> None:
    try:
        region = Region.of(Box(x, y, x + w, y + h), width, height)
    except BadObjectError as error:
        assert "outside the image" in str(error)
        return
    corners = (region.x1, region.y1, region.x2, region.y2)
    assert all(0 <= c <= 99 for c in corners)
    assert region.x1 <= region.x2 and region.y1 <= region.y2


def test_whole_image_is_the_whole_region() -> None:
    assert Region.of(Box(0, 0, 640, 480), 640, 480) == Region(0, 0, 99, 99)
    assert Region.of(Box(-50, -50, 9000, 9000), 640, 480) == Region(0, 0, 99, 99)


@given(st.tuples(*[st.integers(0, 99)] * 4))
def test_regions_round_trip(corners):
    region = templates.Region(*corners)
    assert templates.parse_where(templates.where_answer(region)) == region


@pytest.mark.parametrize("text", ["", "0.32", "[1,2,3]", "[100,2,3,4]", "not visible"])
def test_what_is_no_region_is_refused(text):
    with pytest.raises(ValueError, match="is no region"):
        templates.parse_where(text)
