"""The nouns: a value that exists is valid."""

from __future__ import annotations

import dataclasses
import math
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxqa_core.errors import BadImageError, BadObjectError, ModelNotFoundError, ProxqaError
from proxqa_core.types import MAX_IMAGE_SIDE, MAX_NAME_LENGTH, Box, ObjectQuery, check_image, clean_text


@given(st.text(max_size=200))
def test_clean_text_is_one_plain_line(text: str) -> None:
    cleaned = clean_text(text)
    assert not any(unicodedata.category(c)[0] in "CZ" and c != " " for c in cleaned)
    assert cleaned == cleaned.strip() and "  " not in cleaned
    assert clean_text(cleaned) == cleaned


@given(st.text(max_size=2 * MAX_NAME_LENGTH))
def test_a_query_that_exists_has_a_usable_name(text: str) -> None:
    try:
        query = ObjectQuery(text)
    except BadObjectError as error:
        assert "\n" not in str(error)
        assert not clean_text(text) or len(clean_text(text)) > MAX_NAME_LENGTH
        return
    assert 0 < len(query.name) <= MAX_NAME_LENGTH and query.name == clean_text(text)


@pytest.mark.parametrize("name", ["", "  ", "\x00\n", "x" * (MAX_NAME_LENGTH + 1), 7, None])
def test_bad_names_are_quoted(name: object) -> None:
    with pytest.raises(BadObjectError, match="object name"):
        ObjectQuery(name)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("corners", "says"),
    [
        ((0, 0, 0, 5), "empty"),
        ((5, 0, 4, 5), "empty"),
        ((0, 5, 5, 5), "empty"),
        ((0, 0, math.nan, 5), "finite"),
        ((0, 0, math.inf, 5), "finite"),
    ],
)
def test_bad_boxes(corners: tuple[float, float, float, float], says: str) -> None:
    with pytest.raises(BadObjectError, match=says):
        Box(*corners)


@given(
    st.floats(-100, 100), st.floats(-100, 100), st.floats(0.1, 300), st.floats(0.1, 300),
    st.integers(1, 200), st.integers(1, 200),
)  # fmt: skip
def test_clipped_boxes_lie_inside(x: float, y: float, w: float, h: float, width: int, height: int) -> None:
    box = Box(x, y, x + w, y + h)
    try:
        clipped = box.clipped(width, height)
    except BadObjectError:
        assert min(x + w, width) - max(x, 0) < 1 or min(y + h, height) - max(y, 0) < 1
        return
    assert 0 <= clipped.x1 < clipped.x2 <= width and 0 <= clipped.y1 < clipped.y2 <= height
    assert clipped.clipped(width, height) == clipped


def test_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Box(0, 0, 1, 1).x1 = 3  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        ObjectQuery("chair").name = "table"  # type: ignore[misc]


@pytest.mark.parametrize(
    "image",
    [
        None,
        [[1]],
        np.zeros((20, 20, 3)),
        np.zeros((20, 20), np.uint8),
        np.zeros((20, 20, 4), np.uint8),
        np.zeros((8, 20, 3), np.uint8),
        np.zeros((16, MAX_IMAGE_SIDE + 1, 3), np.uint8),
    ],
)
def test_bad_images_say_what_was_expected(image: object) -> None:
    with pytest.raises(BadImageError, match="expected"):
        check_image(image)


def test_errors_are_caught_as_one_and_by_kind() -> None:
    assert issubclass(BadObjectError, ProxqaError) and issubclass(BadObjectError, ValueError)
    assert str(ModelNotFoundError("no model; run get-model")) == "no model; run get-model"
