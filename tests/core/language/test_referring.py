"""Referring expressions taken apart."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxqa_core.language.places import Place
from proxqa_core.language.referring import COLOURS, TERMS, Expression, read_expression


@pytest.mark.parametrize(
    ("phrase", "name", "colours"),
    [
        ("red chair", "chair", ("red",)),
        ("Big Red chair", "Big chair", ("red",)),
        ("dark red armchair", "armchair", ("red",)),
        ("darker-red armchair", "armchair", ("red",)),
        ("light blue-coloured box", "box", ("blue",)),
        ("black and white mug", "mug", ("black", "white")),
        ("gray carton", "carton", ("grey",)),
        ("purple office chair", "office chair", ("purple",)),
        ("turquoise vase", "vase", ("green", "blue")),
        ("blue mug with a red handle", "mug with a red handle", ("blue",)),
    ],
)
def test_colours_before_the_noun_are_read(phrase, name, colours):
    assert read_expression(phrase) == Expression(name, colours)


@pytest.mark.parametrize(
    "phrase",
    ["chair", "orange", "tan", "rusty tanker", "blueberry pie", "mug with a red handle", "Reddish box", "light bulb"],
)
def test_what_is_no_colour_stays_in_the_name(phrase):
    assert read_expression(phrase) == Expression(phrase)


def test_a_place_is_read_with_a_colour():
    assert read_expression("leftmost red chair") == Expression("chair", ("red",), Place())
    assert read_expression("second dark green car from the left") == Expression("car", ("green",), Place(index=1))
    assert read_expression("yellow die on the right") == Expression("die", ("yellow",), Place(from_end=True))


def test_every_colour_word_stands_for_basic_terms():
    assert all(COLOURS[term] == (term,) for term in TERMS)
    assert {t for terms in COLOURS.values() for t in terms} == set(TERMS)


@given(st.text(max_size=60), st.sampled_from(sorted(COLOURS)))
def test_any_text_is_read_and_a_name_is_left(text, colour):
    assert set(read_expression(text).colours) <= set(TERMS)
    coloured = read_expression(f"{colour} {text}")
    assert coloured.name.strip() or not text.strip()
