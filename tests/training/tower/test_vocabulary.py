"""What is known to be absent."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from proxqa_training.labels import read_images
from proxqa_training.tower.vocabulary import Vocabulary


def test_what_is_not_labelled_is_absent_only_where_that_is_known(blocks: Path, photographs: Path) -> None:
    words = Vocabulary(["red block", "blue block", "dog", "cat", "person"])
    rendered, photo = read_images(blocks)[0], read_images(photographs)[0]
    assert words.absence_weights(rendered)[words.word_index["person"]] == 1
    assert words.absence_weights(photo)[words.word_index["cat"]] == 1
    assert words.absence_weights(photo)[words.word_index["person"]] == 0
    unknown = dataclasses.replace(photo, absent_known=frozenset())
    assert words.absence_weights(unknown)[words.word_index["cat"]] == 0
    assert words.absence_weights(unknown)[words.word_index["dog"]] == pytest.approx(0.2)


def test_equal_images_share_a_row(blocks: Path, photographs: Path) -> None:
    words = Vocabulary(["red block", "blue block", "dog", "cat"])
    images = [*read_images(blocks), *read_images(photographs)]
    table, row_of = words.absence_table(images)
    assert len(table) == 3 and [row_of[id(i)] for i in images] == [0, 0, 0, 0, 1, 2]
    for image in images:
        assert table[row_of[id(image)]].tolist() == words.absence_weights(image).tolist()
