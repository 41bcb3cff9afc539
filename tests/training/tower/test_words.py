"""Which words people use for which things."""

from __future__ import annotations

import pytest

from proxqa_training.tower.words import means, unsure


@pytest.mark.parametrize(
    ("word", "label"),
    [("couch", "sofa"), ("person", "boy"), ("vehicle", "motorbike"), ("cell phone", "phone"), ("table", "desk")],
)
def test_words_that_mean_a_thing(word: str, label: str) -> None:
    assert means(word, label) and not unsure(word, label)


@pytest.mark.parametrize(("word", "label"), [("armchair", "chair"), ("sofa", "armchair"), ("cabinet door", "door")])
def test_words_that_may_mean_it(word: str, label: str) -> None:
    assert unsure(word, label) and not means(word, label)


@pytest.mark.parametrize(("word", "label"), [("dog", "cat"), ("chair", "table"), ("car", "bus")])
def test_words_that_do_not(word: str, label: str) -> None:
    assert not unsure(word, label) and not means(word, label)
