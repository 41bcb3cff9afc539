"""Phrases that pick one of several things."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxqa_core.language.places import Place, read_place
from proxqa_core.types import Box

ROW = [Box(4, 0, 5, 1), Box(0, 2, 1, 3), Box(2, 4, 3, 5)]
"""Left to right: 1, 2, 0. Top to bottom: 0, 1, 2."""


@pytest.mark.parametrize(
    ("phrase", "name", "meant"),
    [
        ("leftmost red chair", "red chair", 1),
        ("right speaker", "speaker", 0),
        ("left-most car", "car", 1),
        ("second car from the left", "car", 2),
        ("second rightmost car", "car", 2),
        ("fifth car from right", "car", 1),
        ("mug on the far left", "mug", 1),
        ("top shelf", "shelf", 0),
        ("lower cabinet", "cabinet", 2),
        ("middle chair", "chair", 2),
        ("chair in the middle", "chair", 2),
    ],
)
def test_phrases_pick(phrase, name, meant):
    read, place = read_place(phrase)
    assert read == name
    assert place is not None
    assert place.pick(ROW) == meant


@pytest.mark.parametrize("phrase", ["chair", "red chair", "desktop computer", "copyright sign", "left", "middle"])
def test_phrases_without_a_place_are_all_name(phrase):
    assert read_place(phrase) == (phrase, None)


@given(st.text(max_size=40))
def test_any_text_is_read(text):
    name, place = read_place(text)
    assert name == text if place is None else name in text.lower()


def test_nothing_to_pick_from():
    with pytest.raises(ValueError, match="no boxes"):
        Place().pick([])
