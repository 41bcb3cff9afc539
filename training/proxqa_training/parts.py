"""Parts of labelled images, shown larger and in other light: a thing is met at several sizes and in several places.

Promises: boxes and depth follow what is shown; the same image gives the same parts.
"""

from __future__ import annotations

import dataclasses
import random
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from proxqa_core.datasets.folder import LabelledObject, Record
from proxqa_core.types import Box
from proxqa_training.tower.data import degraded, recoloured

Window = tuple[float, float, float, float]
"""(x1, y1, x2, y2) in [0, 1] of an image."""
SIDES = (0.35, 0.95)
"""Of a part, as share of the image's."""
STRETCH = (0.8, 1.25)
"""By which a part may be wider for its height than the image."""
OFF_CENTRE = 0.15
"""Standard deviation of where the middle of a part is, from the middle of one of the things in it."""
MIN_AREA_KEPT = 0.7
"""A thing of which a part shows less than this share of its box is left out."""
MIN_SIDE_PX = 8
"""Least side of a part."""
TRIES = 20
"""Parts drawn for each that is wanted."""


@dataclass(frozen=True)
class Part(Record):
    """A part of an image, in other light, perhaps mirrored. Its objects have distances and no relative depths.

    Attributes:
        whole: The image.
        window: Which part of it.
        mirrored: Left is right.
        seed: Of the light.
    """

    whole: Record = field(kw_only=True)
    window: Window = field(kw_only=True)
    mirrored: bool = field(kw_only=True)
    seed: int = field(kw_only=True)

    def load_image(self) -> NDArray[np.uint8]:
        """Read what is shown, uint8 [rows, columns, 3]; errors are those of `Record.load_image`."""
        rng = random.Random(self.seed)
        shown = cv2.resize(degraded(self._shown(self.whole.load_image()), rng), (self.width, self.height))
        light = recoloured(shown.astype(np.float32) / 255, rng)
        image: NDArray[np.uint8] = (255 * light).round().astype(np.uint8)
        return image

    def load_depth(self) -> NDArray[np.float32]:
        """Read the depth of what is shown, metres [rows, columns]; errors are those of `Record.load_depth`."""
        return self._shown(self.whole.load_depth())

    def _shown(self, values: NDArray[Any]) -> NDArray[Any]:
        """The part of an array [rows, columns, …] of the whole image."""
        rows, columns = values.shape[:2]
        x1, y1, x2, y2 = pixels(self.window, columns, rows)
        part = values[y1:y2, x1:x2]
        return np.ascontiguousarray(part[:, ::-1] if self.mirrored else part)


def pixels(window: Window, width: int, height: int) -> tuple[int, int, int, int]:
    """The whole pixels of a window in an image of some size, one at least each way."""
    x1, y1 = min(round(window[0] * width), width - 1), min(round(window[1] * height), height - 1)
    return x1, y1, max(x1 + 1, round(window[2] * width)), max(y1 + 1, round(window[3] * height))


def parts_of(record: Record, count: int) -> list[Part]:
    """Draw parts of an image; two things at least are in each where there are two.

    Args:
        record: The image, with whatever is labelled in it.
        count: How many; fewer come where no such part is found.
    """
    rng = random.Random(f"parts of {record.image}")
    drawn = [_drawn(record, rng) for _ in range(count)]
    return [part for part in drawn if part is not None]


def _drawn(record: Record, rng: random.Random) -> Part | None:
    wanted = min(2, len(record.objects))
    for _ in range(TRIES):
        part = _part(record, _window(record, rng), rng.random() < 0.5, rng.getrandbits(32))
        if len(part.objects) >= wanted and min(part.width, part.height) >= MIN_SIDE_PX:
            return part
    return None


def _window(record: Record, rng: random.Random) -> Window:
    """Somewhere around one of the things, or anywhere."""
    side, stretch = rng.uniform(*SIDES), rng.uniform(*STRETCH) ** 0.5
    wide, high = min(1.0, side * stretch), min(1.0, side / stretch)
    x, y = rng.random(), rng.random()
    if record.objects:
        box = rng.choice(record.objects).box
        x = (box.x1 + box.x2) / 2 / record.width + rng.gauss(0, OFF_CENTRE)
        y = (box.y1 + box.y2) / 2 / record.height + rng.gauss(0, OFF_CENTRE)
    left, top = (min(max(at - size / 2, 0.0), 1 - size) for at, size in ((x, wide), (y, high)))
    return left, top, left + wide, top + high


def _part(record: Record, window: Window, mirrored: bool, seed: int) -> Part:
    x1, y1, x2, y2 = pixels(window, record.width, record.height)
    inside = (_inside(thing, x1, y1, x2, y2, mirrored) for thing in record.objects)
    values = {f.name: getattr(record, f.name) for f in dataclasses.fields(Record)}
    values |= {"width": x2 - x1, "height": y2 - y1, "objects": tuple(o for o in inside if o is not None)}
    return Part(**values | {"mask_map": None}, whole=record, window=window, mirrored=mirrored, seed=seed)


def _inside(thing: LabelledObject, x1: int, y1: int, x2: int, y2: int, mirrored: bool) -> LabelledObject | None:
    """A thing as a part (in pixels) shows it; None where that is too little."""
    box = thing.box
    left, top, right, bottom = max(box.x1, x1), max(box.y1, y1), min(box.x2, x2), min(box.y2, y2)
    if right <= left or bottom <= top:
        return None
    if (right - left) * (bottom - top) < MIN_AREA_KEPT * (box.x2 - box.x1) * (box.y2 - box.y1):
        return None
    left, right = (x2 - right, x2 - left) if mirrored else (left - x1, right - x1)
    return dataclasses.replace(thing, box=Box(left, top - y1, right, bottom - y1), depth=None, mask_id=None)
