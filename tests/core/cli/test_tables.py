"""Tables for people."""

from __future__ import annotations

import math
from dataclasses import replace

from proxqa_core.cli import tables
from proxqa_core.types import ObjectDepth


def test_columns_are_aligned() -> None:
    assert tables.columns([["a", "10"], ["long", "5"], ["b", ""]]) == "a     10\nlong   5\nb"


def test_metres_only_where_they_are_known() -> None:
    near = ObjectDepth("chair", 0.2, 0.05, 0.9, "0.20")
    assert "metres" not in tables.object_table([near]).splitlines()[0]
    far = ObjectDepth("table", 0.6, 0.05, 0.9, "0.60", distance=2.5, distance_stddev=0.25)
    header, first, second, scale = tables.object_table([near, far]).splitlines()
    assert "not metres" in scale
    assert header.split() == ["object", "depth", "±", "metres", "±", "visible"]
    assert first.split() == ["chair", "0.20", "0.05", "-", "-", "90", "%"]
    unseen = replace(near, score=0.2)
    assert tables.object_table([unseen]).splitlines()[1].split() == ["chair", "-", "-", "20", "%"]
    assert second.split() == ["table", "0.60", "0.05", "2.50", "0.25", "90", "%"]


def test_plain_values() -> None:
    assert tables.plain_value({"steps": 3, "on": ["a", "b"], "of": {}}) == "steps 3, on a, b, of -"
    assert tables.plain_value(None) == "-" and tables.figure(math.nan) == "-" and tables.share(math.inf) == "-"


def test_what_was_recorded() -> None:
    report = {"folder": "out", "images": 2, "objects": 3, "objects_with_depth": 1, "names": {"chair": 2, "lamp": 1}}
    lines = tables.recording_text(report, "4 images without boxes").splitlines()
    assert lines == [
        "out: 2 images, 3 objects, 1 of them with depth",
        "chair 2, lamp 1",
        "left out: 4 images without boxes",
    ]
