"""The templates: answers can be read back, and names from outside stay names."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxqa_core.errors import BadObjectError
from proxqa_core.language import templates
from proxqa_core.language.templates import BoxForm, Region
from proxqa_core.types import Box, ObjectQuery
from tests.core.language import answer_parsing

SPECIAL = ["<|im_start|>", "<|im_end|>", "<image>", "<|endoftext|>", "[INST]", "</s>", "<s>", "{{x}}", "⟨pad⟩"]


@given(st.floats(0, 1))
@example(1.0)
@example(0.995)
@example(0.005)
def test_depths_round_trip(depth: float) -> None:
    read = answer_parsing.parse_depth(templates.perceive_answer(depth))
    assert read is not None
    # One is written as 0.99: there are only two digits.
    assert abs(read - min(depth, 0.99)) <= 0.005 + 1e-9


def test_not_visible_round_trips() -> None:
    assert answer_parsing.parse_depth(templates.perceive_answer(None)) is None
    assert answer_parsing.parse_depth(" Not visible.") is None


@pytest.mark.parametrize(
    ("text", "depth"), [("0.32", 0.32), (" .5", 0.5), ("1.0", 1.0), ("1", 1.0), ("0", 0.0), ("0.07 I think", 0.07)]
)
def test_other_ways_to_say_a_depth(text: str, depth: float) -> None:
    assert answer_parsing.parse_depth(text) == pytest.approx(depth)


@pytest.mark.parametrize("text", ["", "far", "-0.2", "2", "12", "nan"])
def test_no_depth_in_it(text: str) -> None:
    with pytest.raises(ValueError, match="no relative depth"):
        answer_parsing.parse_depth(text)


@pytest.mark.parametrize("depth", [-0.01, 1.01, float("nan"), float("inf")])
def test_depths_out_of_range_are_refused(depth: float) -> None:
    with pytest.raises(ValueError, match="outside"):
        templates.depth_digits(depth)


@given(st.booleans(), st.floats(0, 1), st.floats(0, 1))
def test_choices_round_trip(a_is_closer: bool, depth_a: float, depth_b: float) -> None:
    answer = templates.reason_lead(depth_a, depth_b) + templates.choice(a_is_closer)
    assert answer_parsing.parse_choice(answer) == ("A" if a_is_closer else "B")
    direct = templates.CHOICE_LEAD + templates.choice(a_is_closer)
    assert answer_parsing.parse_choice(direct) == ("A" if a_is_closer else "B")


@pytest.mark.parametrize("text", ["", "A is at 0.32", "Closer: C", "Closer: Apple", "closer"])
def test_no_choice_in_it(text: str) -> None:
    with pytest.raises(ValueError, match="makes no choice"):
        answer_parsing.parse_choice(text)


@given(st.lists(st.one_of(st.sampled_from(SPECIAL), st.text(max_size=8)), max_size=8).map("".join))
def test_plain_text_has_no_special_tokens(text: str) -> None:
    kept = templates.plain(text)
    assert not any(token in kept for token in SPECIAL)
    assert not re.search(r"[<>|\[\]{}\ufffc]", kept)
    assert templates.plain(kept) == kept


@given(st.text("abcdefghijklmnopqrstuvwxyz 0123456789'-", max_size=40))
def test_plain_text_keeps_ordinary_names(name: str) -> None:
    assert templates.plain(name) == " ".join(name.split())


FORMS = [BoxForm(), BoxForm(region_token=False), BoxForm(coordinates=False)]


@given(st.text(max_size=40), st.sampled_from(FORMS))
@example("<image>", FORMS[0])
@example("<|im_end|>\n<|im_start|>system", FORMS[1])
@example("[1,2,3,4]", FORMS[2])
@example("\ufffc\ufffc", FORMS[2])
def test_odd_names_cannot_add_regions_or_tokens(name: str, form: BoxForm) -> None:
    region = Region(1, 2, 3, 4)
    with_box = templates.mention(name, region, form)
    assert with_box.count(templates.REGION) == int(form.region_token)
    assert with_box.endswith(" at [1,2,3,4]") == form.coordinates and with_box.count("[") == int(form.coordinates)
    without = templates.mention(name, None, form)
    assert without and templates.REGION not in without and "<" not in without


def test_mention_by_hand() -> None:
    region = Region(12, 34, 56, 78)
    assert templates.mention("chair", None, BoxForm()) == "chair"
    assert templates.mention("chair", region, BoxForm()) == "chair\ufffc at [12,34,56,78]"
    assert templates.mention("chair", region, BoxForm(region_token=False)) == "chair at [12,34,56,78]"
    assert templates.mention("chair", region, BoxForm(coordinates=False)) == "chair\ufffc"
    with pytest.raises(ValueError, match="neither by a region token nor by coordinates"):
        BoxForm(False, False)
    query = ObjectQuery("chair", Box(64, 48, 320, 240))
    assert templates.mention_of(query, 640, 480, BoxForm(region_token=False)) == "chair at [10,10,50,50]"
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
    assert answer_parsing.parse_where(templates.where_answer(region)) == region


@pytest.mark.parametrize("text", ["", "0.32", "[1,2,3]", "[100,2,3,4]", "not visible"])
def test_what_is_no_region_is_refused(text):
    with pytest.raises(ValueError, match="is no region"):
        answer_parsing.parse_where(text)


NAMES = st.text("abcdefghijklmnopqrstuvwxyz 0123456789'-.", min_size=1, max_size=20).filter(str.strip)
ALL_FORMS = {name: forms for name, forms in vars(templates).items() if name.endswith("_FORMS")}


def test_form_0_is_what_the_engine_asks():
    assert templates.perceive_question("chair") == templates.perceive_question("chair", 0) == "How far is the chair?"
    assert templates.closer_question("x", "y", 0) == "Which is closer: A, the x, or B, the y?"
    assert templates.where_question("chair") == "Where is the chair?"


@pytest.mark.parametrize("name", ALL_FORMS)
def test_forms_differ_and_say_what_they_are_given_once(name):
    forms = ALL_FORMS[name]
    assert len(set(forms)) == len(forms) >= 3
    assert {form.count("{}") for form in forms} in ({1}, {2})
    assert templates.REGION not in "".join(forms)


@given(NAMES, NAMES, st.data())
def test_every_form_keeps_names_and_regions(a, b, data):
    mentioned = [templates.mention(n, r, BoxForm()) for n, r in ((a, Region(1, 2, 3, 4)), (b, None))]
    ask = templates
    one = data.draw(
        st.sampled_from([(ask.perceive_question, ask.PERCEIVE_FORMS), (ask.where_question, ask.WHERE_FORMS)])
    )
    two = data.draw(
        st.sampled_from(
            [
                (ask.closer_question, ask.CLOSER_FORMS),
                (ask.farther_question, ask.FARTHER_FORMS),
                (ask.equal_question, ask.EQUAL_FORMS),
            ]
        )
    )
    many = data.draw(
        st.sampled_from(
            [
                (ask.several_question, ask.SEVERAL_FORMS),
                (ask.nearest_question, ask.NEAREST_FORMS),
                (ask.sort_question, ask.SORT_FORMS),
            ]
        )
    )
    questions = [one[0](mentioned[0], form) for form in range(len(one[1]))]
    questions += [two[0](*mentioned, form) for form in range(len(two[1]))]
    questions += [many[0](mentioned, form) for form in range(len(many[1]))]
    for question in questions:
        assert question.count(templates.REGION) == 1 and f"the {mentioned[0]}" in question
    assert all(f"the {mentioned[1]}" in q for q in questions[len(one[1]) :])


def test_lists_by_hand():
    assert templates.several_question(["chair", "lamp", "dog"]) == "How far are the chair, the lamp and the dog?"
    assert templates.nearest_question(["chair", "lamp"]) == "Which is nearest: A, the chair, or B, the lamp?"
    assert templates.sort_question(["x", "y", "z"]) == "Sort by distance: A, the x, B, the y, and C, the z."
    assert templates.reason_lead(0.1, 0.2) == "A is at 0.10, B at 0.20. Closer:"
    assert templates.reason_lead(0.1, 0.2, 0.3, lead=templates.SORT_LEAD) == (
        "A is at 0.10, B at 0.20, C at 0.30. Nearest first:"
    )
    assert templates.sort_answer([1, 0, 2]) == " B, A, C"
    with pytest.raises(ValueError, match="7 objects"):
        templates.sort_question(list("abcdefg"))


@given(st.lists(st.none() | st.floats(0, 1), min_size=1, max_size=6))
def test_several_depths_round_trip(depths):
    read = answer_parsing.parse_several(templates.several_answer(depths))
    assert len(read) == len(depths)
    for found, meant in zip(read, depths, strict=True):
        assert (found is None) == (meant is None)
        assert found is None or abs(found - min(meant, 0.99)) <= 0.005 + 1e-9


@given(st.text(max_size=30))
@example("<image>")
def test_names_round_trip(name):
    answer = templates.what_answer(name)
    assert answer_parsing.parse_what(answer) == answer == (templates.plain(name) or "object")


@given(st.booleans(), st.lists(st.floats(0, 1), min_size=2, max_size=2))
def test_equal_round_trips(equal, depths):
    answer = templates.equal_answer(equal)
    assert answer_parsing.parse_equal(templates.reason_lead(*depths, lead=templates.EQUAL_LEAD) + answer) == equal
    assert answer_parsing.parse_equal(templates.EQUAL_LEAD + answer) == equal


@given(st.permutations(range(6)), st.integers(1, 6), st.booleans())
def test_orders_and_letters_round_trip(order, count, spoken):
    order = tuple(i for i in order if i < count)

    def answer_up_to(lead: str) -> str:
        return templates.reason_lead(*[0.5] * count, lead=lead) if spoken else lead

    assert answer_parsing.parse_sort(answer_up_to(templates.SORT_LEAD) + templates.sort_answer(order), count) == order
    for lead in (templates.NEAREST_LEAD, templates.FARTHER_LEAD):
        assert answer_parsing.parse_letter(answer_up_to(lead) + templates.letter_answer(order[0]), lead) == order[0]


def test_letters_of_two_are_the_choices():
    assert [templates.letter_answer(0), templates.letter_answer(1)] == list(templates.CHOICES)


@pytest.mark.parametrize(
    ("parse", "text", "says"),
    [
        (answer_parsing.parse_several, "0.32, far", "no relative depth"),
        (answer_parsing.parse_several, "", "no relative depth"),
        (answer_parsing.parse_what, " <|> \n", "no name"),
        (answer_parsing.parse_equal, "Equal: maybe", "no verdict"),
        (answer_parsing.parse_equal, "yes", "no verdict"),
        (lambda text: answer_parsing.parse_letter(text, "Nearest:"), "Nearest: Z", "none of the objects"),
        (lambda text: answer_parsing.parse_sort(text, 2), "Nearest first: A, A", "no order of 2"),
        (lambda text: answer_parsing.parse_sort(text, 2), "Nearest first: A", "no order of 2"),
        (lambda text: answer_parsing.parse_sort(text, 2), "", "no order of 2"),
        (lambda text: answer_parsing.parse_sort(text, 2), "AB, ", "no order of 2"),
    ],
)
def test_what_is_no_answer_is_refused(parse, text, says):
    with pytest.raises(ValueError, match=says):
        parse(text)
