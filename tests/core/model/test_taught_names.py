"""What an adapter says that it was taught: read whole or refused in one line, found by text, judged by figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxqa_core.errors import BadModelError
from proxqa_core.model.sources import DEFAULT_ADAPTER, adapter_folder
from proxqa_core.model.taught_names import MOST_MISTAKEN, NAMES, TaughtName, TaughtNames, read_names, total, write_names

COUNTS = st.integers(0, 50)


@st.composite
def taught_name(draw: st.DrawFn) -> TaughtName:
    words = st.text("abcdé ", min_size=1, max_size=12).map(lambda t: " ".join(t.split())).filter(bool)
    asked, absent = draw(COUNTS), draw(COUNTS)
    found, mistaken = draw(st.integers(0, asked)), draw(st.integers(0, absent))
    also = tuple(draw(st.lists(words, max_size=2)))
    return TaughtName(draw(words), also, draw(COUNTS), draw(COUNTS), asked, found, absent, mistaken)


@given(names=st.lists(taught_name(), max_size=8, unique_by=lambda n: n.name))
def test_what_is_written_is_read(names: list[TaughtName], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("adapter")
    taught = TaughtNames("some images", tuple(names))
    write_names(folder, taught)
    assert read_names(folder) == taught
    good = {n.name for n in names if 2 * n.found >= n.asked and n.mistaken <= MOST_MISTAKEN * n.absent}
    assert set(taught.reliable) <= good
    assert total(taught.names)["asked"] == sum(n.asked for n in names)


def test_an_adapter_need_not_say(tmp_path: Path) -> None:
    assert read_names(tmp_path) is None
    assert adapter_folder("default", None) == DEFAULT_ADAPTER and adapter_folder("default", "x") == Path("x")
    assert adapter_folder("default", "") == DEFAULT_ADAPTER and adapter_folder("org/llava", "") is None
    assert adapter_folder("org/llava", None) is None and adapter_folder("default", "none") is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "Expecting"),
        ("[]", "expected an object"),
        ('{"names": {}}', "measured_on"),
        ('{"measured_on": 3, "names": {}}', "expected one line"),
        ('{"measured_on": "", "names": {"a": {"weight": 1}}}', "other fields"),
        ('{"measured_on": "", "names": {"a": {"asked": 1, "found": 2}}}', "do not hold"),
        ('{"measured_on": "", "names": {"a": {"asked": 1.5}}}', "do not hold"),
        ('{"measured_on": "", "names": {"a": {"asked": true}}}', "do not hold"),
        ('{"measured_on": "", "names": {"": {}}}', "is no name"),
        ('{"measured_on": "", "names": {"a": {"also": ["b\\nc"]}}}', "is no name"),
        ('{"measured_on": "", "names": {"a": {"also": 7}}}', "no list"),
        (json.dumps({"measured_on": "", "names": {str(i): {} for i in range(10_001)}}), "at most 10000"),
        ("[" * 100_000, "recursion"),
        ("x" * 4_000_001, "at most 4000000"),
    ],
)
def test_names_that_do_not_hold_are_one_line(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / NAMES).write_text(text)
    with pytest.raises(BadModelError, match=says) as error:
        read_names(tmp_path)
    assert "\n" not in str(error.value)


def test_a_name_is_found_by_a_part_of_it_or_of_another_word_for_it() -> None:
    taught = TaughtNames("", (TaughtName("tv", ("television",)), TaughtName("tv stand"), TaughtName("chair")))
    assert [n.name for n in taught.matching(" TV ")] == ["tv", "tv stand"]
    assert [n.name for n in taught.matching("vision")] == ["tv"] and taught.matching("zebra") == ()
    assert taught.alike("chiar") == ("chair",) and taught.alike("zebra") == ()


def reliable(**counts: Any) -> bool:
    return TaughtName("a", **{"asked": 10, "found": 5, "absent": 10, "mistaken": 1} | counts).is_reliable


def test_a_name_is_reliable_where_figures_say_so() -> None:
    assert reliable()
    assert not any(
        map(
            lambda c: reliable(**c),
            ({"found": 4}, {"mistaken": 5}, {"asked": 4, "found": 4}, {"absent": 4, "mistaken": 0}),
        )
    )
