"""Drawing answers on images."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxqa_core.errors import BadImageError
from proxqa_core.types import Box, ObjectDepth
from proxqa_core.vision.drawing import MAX_LABEL_LENGTH, annotate, colour_of, label_of


def thing(name: str = "chair", depth: float = 0.2, box: Box | None = None, score: float = 0.9) -> ObjectDepth:
    return ObjectDepth(name, depth, 0.05, score, "", box)


def blank(width: int = 320, height: int = 240) -> np.ndarray:
    return np.full((height, width, 3), 128, np.uint8)


def test_the_input_is_left_alone() -> None:
    image = blank()
    image.setflags(write=False)
    drawn = annotate(image, [thing(box=Box(20, 60, 100, 200))])
    assert drawn.shape == image.shape and drawn.dtype == np.uint8
    assert (image == 128).all() and (drawn != image).any()


def test_the_box_has_the_colour_of_its_depth() -> None:
    drawn = annotate(blank(), [thing(depth=0.0, box=Box(20, 60, 100, 200))])
    assert tuple(drawn[130, 20]) == colour_of(0.0)


def test_a_box_that_was_given_is_drawn_and_its_name_doubted() -> None:
    doubted = thing(box=Box(20, 60, 100, 200), score=0.1)
    assert tuple(annotate(blank(), [doubted])[130, 20]) == colour_of(0.2)
    assert label_of(doubted) == "chair? 0.20 +-0.05"


def test_what_is_not_seen_has_no_box() -> None:
    unseen = replace(thing(score=0.1), found_at=Box(20, 60, 100, 200))
    assert (annotate(blank(), [unseen])[:, :320] == 128).all()


def test_labels_of_things_in_one_place_do_not_cover_each_other() -> None:
    things = [
        thing(name, depth, Box(20, 60, 220, 200)) for name, depth in (("chair", 0.2), ("stool", 0.5), ("mug", 0.8))
    ]
    together = annotate(blank(), things)
    for one in things:  # every label's filled rectangle is whole
        colour = np.array(colour_of(one.depth))
        assert ((together == colour).all(axis=2)).sum() > 500, one.name


def test_nothing_to_draw_gives_a_copy() -> None:
    image = blank()
    drawn = annotate(image, [])
    assert (drawn == image).all() and drawn is not image and not np.shares_memory(drawn, image)


def test_objects_without_a_box_are_listed_at_the_side() -> None:
    drawn = annotate(blank(), [thing(), thing("table", 0.6)])
    assert drawn.shape[0] == 240 and drawn.shape[1] > 320
    assert (drawn[:, :320] == 128).all() and (drawn[:, 320:] < 100).any()


def test_the_answer_is_written_below() -> None:
    drawn = annotate(blank(), [], "The chair is nearest at 0.21 ± 0.05; the table 0.60 ± 0.08. " * 3)
    assert drawn.shape[1] == 320 and drawn.shape[0] > 240
    assert (drawn[:240] == 128).all() and (drawn[240:] < 100).any()


def test_labels() -> None:
    assert label_of(thing()) == "chair 0.20 +-0.05"
    assert label_of(thing(score=0.2)) == "chair not seen"
    assert label_of(thing(depth=math.nan)) == "chair ?"
    assert label_of(ObjectDepth("Stühle", 0.2, math.nan, 0.9, "", distance=1.234)) == "Stuhle 0.20 1.23 m"
    assert len(label_of(thing("long " * 15, score=0.1))) <= MAX_LABEL_LENGTH + len(" not seen")


def test_colours_run_from_bright_to_dark() -> None:
    brightness = [sum(colour_of(d)) for d in np.linspace(0, 1, 20)]
    assert all(a > b for a, b in itertools.pairwise(brightness))
    assert colour_of(-3) == colour_of(0) and colour_of(7) == colour_of(1)


def test_bad_images() -> None:
    with pytest.raises(BadImageError):
        annotate(np.zeros((20, 20), np.uint8), [])


BOXES = st.one_of(
    st.none(),
    st.builds(
        lambda x, y, w, h: Box(x, y, x + w, y + h),
        st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.floats(1, 1e6), st.floats(1, 1e6),
    ),
)  # fmt: skip
THINGS = st.builds(
    ObjectDepth, st.text(max_size=80), st.floats(), st.floats(), st.floats(), st.just(""), BOXES, st.floats()
)


@settings(max_examples=60, deadline=None)
@given(st.integers(16, 80), st.integers(16, 80), st.lists(THINGS, max_size=6), st.text(max_size=60))
def test_nothing_breaks_it(width: int, height: int, things: list[ObjectDepth], answer: str) -> None:
    image = blank(width, height)
    drawn = annotate(image, things, answer)
    assert drawn.shape[0] >= height and drawn.shape[1] >= width and drawn.shape[2] == 3
    assert (image == 128).all()
