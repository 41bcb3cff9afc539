"""Which things are there, each once."""

from __future__ import annotations

import pytest

from proxqa_core.grounding import each_once
from proxqa_core.types import Box
from proxqa_core.vision.grounding_head import Candidate, largest_share

WHOLE, HEAD, BESIDE = Box(0.0, 0.0, 0.4, 1.0), Box(0.1, 0.0, 0.3, 0.4), Box(0.5, 0.0, 0.9, 1.0)


@pytest.mark.parametrize(
    ("found", "kept"),
    [
        # a part of a person is no second one, whatever it is called
        ([("person", WHOLE, 0.9), ("pedestrian", HEAD, 0.8), ("person", HEAD, 0.7)], ["person"]),
        ([("pedestrian", HEAD, 0.9), ("person", WHOLE, 0.8)], ["pedestrian"]),
        # something else may lie within it
        ([("person", WHOLE, 0.9), ("helmet", HEAD, 0.8)], ["person", "helmet"]),
        # two that lie apart are two
        ([("person", WHOLE, 0.9), ("pedestrian", BESIDE, 0.8), ("person", BESIDE, 0.7)], ["person", "pedestrian"]),
        # one box is one thing
        ([("sofa", WHOLE, 0.7), ("bench", WHOLE, 0.9)], ["bench"]),
        ([], []),
    ],
)
def test_each_thing_is_named_once(found: list[tuple[str, Box, float]], kept: list[str]) -> None:
    assert [name for _, name in each_once([(Candidate(box, score), name) for name, box, score in found])] == kept


def test_the_largest_share_is_of_the_smaller_box() -> None:
    assert largest_share(HEAD, [BESIDE, WHOLE]) == pytest.approx(1) == largest_share(WHOLE, [HEAD])
    assert largest_share(WHOLE, [BESIDE]) == 0 == largest_share(WHOLE, [])
