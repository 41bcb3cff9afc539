"""Parts of labelled images: boxes and depth follow what is shown, and the same image gives the same parts."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxqa_core.datasets.folder import LabelledFolder, Record
from proxqa_core.errors import BadImageError
from proxqa_training import parts
from proxqa_training.parts import Part, parts_of


@pytest.fixture
def record(blocks: Path) -> Record:
    return LabelledFolder(blocks).records[0]  # 1 m, and 4 m


def test_boxes_and_depth_follow_what_is_shown(record: Record) -> None:
    drawn = parts_of(record, 30)
    assert len(drawn) > 20 and {p.mirrored for p in drawn} == {True, False}
    for part in drawn:
        image, metres = part.load_image(), part.load_depth()
        assert image.shape == (part.height, part.width, 3) and metres.shape == (part.height, part.width)
        assert len(part.objects) == 2 and part.mask_map is None
        for thing in part.objects:
            x1, y1, x2, y2 = (round(v) for v in thing.box.xyxy)
            assert 0 <= x1 < x2 <= part.width and 0 <= y1 < y2 <= part.height
            assert np.median(metres[y1:y2, x1:x2]) == thing.depth_m and thing.depth is None
            assert (x2 - x1) * (y2 - y1) >= parts.MIN_AREA_KEPT * 1600


def test_left_is_right_in_some(record: Record) -> None:
    """The near block is left of the far one; the photograph and its depth are turned together."""
    for part in parts_of(record, 12):
        near, far = sorted(part.objects, key=lambda o: o.depth_m or 0)
        assert (near.box.x1 > far.box.x1) is part.mirrored


def test_parts_of_a_camera_that_is_held_aslant(record: Record) -> None:
    drawn = parts_of(record, 60, roll_deg=20)
    rolls = np.degrees([p.roll for p in drawn])
    assert len(drawn) > 30 and rolls.min() < -10 and rolls.max() > 10 and np.abs(rolls).max() <= 48
    for part in drawn:
        image, metres = part.load_image(), part.load_depth()
        assert image.shape == (part.height, part.width, 3) and metres.shape == (part.height, part.width)
        assert len(part.objects) == 2 and all(o.box.x1 >= 0 and o.box.y2 <= part.height for o in part.objects)
        for thing in part.objects:
            quarter_x, quarter_y = (thing.box.x2 - thing.box.x1) / 4, (thing.box.y2 - thing.box.y1) / 4
            x1, y1 = int(thing.box.x1 + quarter_x), int(thing.box.y1 + quarter_y)
            x2, y2 = int(thing.box.x2 - quarter_x), int(thing.box.y2 - quarter_y)
            assert np.median(metres[y1:y2, x1:x2]) == thing.depth_m


@given(roll=st.floats(-1, 1), window=st.tuples(*[st.floats(0, 0.45)] * 2, *[st.floats(0.55, 1)] * 2))
def test_a_turned_part_shows_nothing_beyond_its_image(roll: float, window: parts.Window) -> None:
    wide, high = 640, 360
    inner = parts._inner(window, roll, wide / high)
    window_px = (inner[0] * wide, inner[1] * high, inner[2] * wide, inner[3] * high)
    to_part = np.vstack([parts.turned(window_px, roll), [0, 0, 1]])  # type: ignore[arg-type]
    x, y = window_px[2] - window_px[0], window_px[3] - window_px[1]
    corners = np.linalg.inv(to_part) @ np.array([[0, 0, 1], [x, 0, 1], [0, y, 1], [x, y, 1]]).T
    assert corners[:2].min() > -1e-6 and (corners[0] < wide + 1e-6).all() and (corners[1] < high + 1e-6).all()


def test_a_camera_turned_to_the_right_sees_things_turned_to_the_left() -> None:
    to_part = parts.turned((0, 0, 100, 100), np.radians(30))
    x, y = to_part @ [90, 50, 1]  # right of the middle
    assert x == pytest.approx(50 + 40 * np.cos(np.radians(30))) and y == pytest.approx(30)  # now higher


def test_the_same_image_gives_the_same_parts(record: Record) -> None:
    first, again = parts_of(record, 3), parts_of(record, 3)
    assert first == again and len({p.window for p in first}) == 3
    assert np.array_equal(first[0].load_image(), again[0].load_image())
    assert first[0].window != parts_of(dataclasses.replace(record, image="other.png"), 1)[0].window


def test_what_has_depth_and_no_labels_has_parts_too(record: Record) -> None:
    drawn = parts_of(dataclasses.replace(record, objects=()), 4)
    assert len(drawn) == 4 and all(p.load_depth().shape == (p.height, p.width) for p in drawn)


def test_things_that_no_part_shows_together_have_none(record: Record) -> None:
    wide = [dataclasses.replace(o, box=b) for o, b in zip(record.objects, _corners(record), strict=True)]
    assert len(parts_of(dataclasses.replace(record, objects=tuple(wide)), 5)) < 5


def _corners(record: Record) -> list:
    box = record.objects[0].box
    return [type(box)(0, 0, 9, 9), type(box)(record.width - 9, record.height - 9, record.width, record.height)]


def test_a_missing_image_is_named(record: Record) -> None:
    (part,) = parts_of(record, 1)
    assert isinstance(part, Part)
    (record.folder / record.image).unlink()
    with pytest.raises(BadImageError, match=r"0\.png"):
        part.load_image()


@pytest.mark.parametrize("window", [(0.0, 0.0, 1e-9, 1e-9), (0.999, 0.999, 1.0, 1.0)])
def test_a_window_has_a_pixel_at_least(window: parts.Window) -> None:
    x1, y1, x2, y2 = parts.pixels(window, 5, 5)
    assert 0 <= x1 < x2 <= 5 and 0 <= y1 < y2 <= 5
