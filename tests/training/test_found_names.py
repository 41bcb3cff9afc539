"""How well names are found: what counts as taught, as there, as absent and as found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from proxqa_core.model.taught_names import read_names
from proxqa_core.types import Box, ObjectDepth, ObjectQuery
from proxqa_training import found_names
from proxqa_training.found_names import NamesData, measure_names


class OneEyed:
    """Sees every red block at its true place, every other thing in a corner."""

    def encode_image(self, image: Any) -> OneEyed:
        return self

    def depths(self, queries: Sequence[ObjectQuery]) -> list[ObjectDepth]:
        place = {"red block": Box(12, 52, 50, 88)}
        return [
            ObjectDepth(
                q.name, 0.5, 0.1, 0.2 if q.name == "cat" else 0.9, "", found_at=place.get(q.name, Box(0, 0, 4, 4))
            )
            for q in queries
        ]


@pytest.fixture
def one_eyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(found_names.ProximityEngine, "load", lambda **_: OneEyed())


def test_names_are_asked_for_where_they_are_and_where_they_are_not(
    one_eyed: None, blocks: Path, photographs: Path, tmp_path: Path
) -> None:
    data = NamesData((photographs,), (blocks,), 0.0, ("red block", "red block", "cat"))
    measure_names(tmp_path, data)
    taught = read_names(tmp_path)
    assert taught is not None and taught.measured_on.startswith("4 rendered images and 0 photographs")
    cat, dog, red = taught.names  # "blue block" was never taught
    assert (cat.models, cat.photographs, dog.photographs, red.models, red.photographs) == (1, 1, 1, 2, 0)
    assert (red.asked, red.found, red.absent) == (4, 4, 0)
    assert (cat.absent, cat.mistaken, dog.absent, dog.mistaken) == (4, 0, 4, 4)


def test_photographs_that_training_held_out_are_measured_and_not_counted(
    one_eyed: None, photographs: Path, tmp_path: Path
) -> None:
    everything = measure_names(tmp_path, NamesData((photographs,), (), 1.0, ("cat", "dog")))
    assert everything.measured_on.startswith("0 rendered images and 2 photographs")
    cat, dog = everything.names
    assert cat.photographs == dog.photographs == 0 and cat.asked == dog.asked == 1
    assert (cat.absent, dog.absent) == (1, 1)  # both kinds are labelled wherever they are
    assert cat.found == dog.found == 0  # seen elsewhere, or not at all


def test_nothing_taught_is_one_line(one_eyed: None, blocks: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no name was taught"):
        measure_names(tmp_path, NamesData(unseen=(blocks,)))


def test_a_folder_is_trained_on_or_not(one_eyed: None, blocks: Path, photographs: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="blocks: is given as trained on and as not trained on"):
        measure_names(tmp_path, NamesData((photographs, blocks), (blocks.parent / "photographs" / ".." / "blocks",)))
    assert not (tmp_path / "names.json").exists()
