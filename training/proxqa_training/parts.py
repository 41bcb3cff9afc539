"""Parts of labelled images, larger, in other light, perhaps aslant: things are met at several sizes and places.

Promises: boxes and depth follow what is shown (turning a camera about its axis changes no depth along that axis); the
same image gives the same parts.
"""

from __future__ import annotations

import dataclasses
import math
import random
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from proxqa_core.datasets.folder import LabelledObject, Record
from proxqa_core.types import Box
from proxqa_training.scenes.camera import drawn_roll
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
        window: Which part of it, before it is turned.
        roll: Of the camera about its axis, to the right, radians; the part is turned about its middle.
        mirrored: Left is right.
        seed: Of the light.
    """

    whole: Record = field(kw_only=True)
    window: Window = field(kw_only=True)
    roll: float = field(kw_only=True)
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
        if self.roll:
            to_image = np.diag([self.whole.width / columns, self.whole.height / rows, 1.0])
            to_part = turned(pixels(self.window, self.whole.width, self.whole.height), self.roll) @ to_image
            how = cv2.INTER_LINEAR if values.dtype == np.uint8 else cv2.INTER_NEAREST  # no depth between two depths
            part = cv2.warpAffine(
                values, to_part, (self.width, self.height), flags=how, borderMode=cv2.BORDER_REPLICATE
            )
        else:
            x1, y1, x2, y2 = pixels(self.window, columns, rows)
            part = values[y1:y2, x1:x2]
        return np.ascontiguousarray(part[:, ::-1] if self.mirrored else part)


def turned(window_px: tuple[int, int, int, int], roll: float) -> NDArray[np.float64]:
    """From pixels of an image to those of a window in it that is turned about its middle.

    Args:
        window_px: (x1, y1, x2, y2) before it is turned.
        roll: Of the camera, to the right, radians; what is seen turns to the left.

    Returns:
        [2, 3], affine.
    """
    x1, y1, x2, y2 = window_px
    x, y, cos, sin = (x1 + x2) / 2, (y1 + y2) / 2, math.cos(roll), math.sin(roll)
    return np.array(
        [[cos, sin, (x2 - x1) / 2 - cos * x - sin * y], [-sin, cos, (y2 - y1) / 2 + sin * x - cos * y]], np.float64
    )


def pixels(window: Window, width: int, height: int) -> tuple[int, int, int, int]:
    """The whole pixels of a window in an image of some size, one at least each way."""
    x1, y1 = min(round(window[0] * width), width - 1), min(round(window[1] * height), height - 1)
    return x1, y1, max(x1 + 1, round(window[2] * width)), max(y1 + 1, round(window[3] * height))


def parts_of(record: Record, count: int, roll_deg: float = 0.0) -> list[Part]:
    """Draw parts of an image; two things at least are in each where there are two.

    Args:
        record: The image, with whatever is labelled in it.
        count: How many; fewer come where no such part is found.
        roll_deg: Standard deviation of their roll, degrees; 0 = they stand as the image does.
    """
    rng = random.Random(f"parts of {record.image}")
    drawn = [_drawn(record, rng, roll_deg) for _ in range(count)]
    return [part for part in drawn if part is not None]


def _drawn(record: Record, rng: random.Random, roll_deg: float) -> Part | None:
    wanted = min(2, len(record.objects))
    for _ in range(TRIES):
        window, roll = _window(record, rng), 0.0
        if roll_deg:
            roll = drawn_roll(rng, roll_deg)
            window = _inner(window, roll, record.width / record.height)
        part = _part(record, window, roll, rng.random() < 0.5, rng.getrandbits(32))
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


def _inner(window: Window, roll: float, aspect: float) -> Window:
    """The window, smaller and nearer to the middle where what it shows would reach beyond the image once it is turned.

    Args:
        window: Within the image.
        roll: Radians.
        aspect: Width over height of the image.
    """
    # 1. Of the image's height, half of its sides, and of those of the upright rectangle around it when it is turned.
    half_wide, half_high = (window[2] - window[0]) / 2 * aspect, (window[3] - window[1]) / 2
    cos, sin = abs(math.cos(roll)), abs(math.sin(roll))
    around = half_wide * cos + half_high * sin, half_wide * sin + half_high * cos
    # 2. How much of that has room in the image, and where its middle then may be.
    share = min(1.0, aspect / 2 / around[0], 0.5 / around[1])
    x, y = (
        min(max((low + high) / 2 * size, share * half), size - share * half)
        for low, high, size, half in ((window[0], window[2], aspect, around[0]), (window[1], window[3], 1.0, around[1]))
    )
    wide, high = share * half_wide / aspect, share * half_high
    return x / aspect - wide, y - high, x / aspect + wide, y + high


def _part(record: Record, window: Window, roll: float, mirrored: bool, seed: int) -> Part:
    window_px = pixels(window, record.width, record.height)
    wide, high = window_px[2] - window_px[0], window_px[3] - window_px[1]
    inside = (_inside(thing, window_px, roll, mirrored) for thing in record.objects)
    values = {f.name: getattr(record, f.name) for f in dataclasses.fields(Record)}
    values |= {"width": wide, "height": high, "objects": tuple(o for o in inside if o is not None)}
    return Part(**values | {"mask_map": None}, whole=record, window=window, roll=roll, mirrored=mirrored, seed=seed)


def _inside(
    thing: LabelledObject, window_px: tuple[int, int, int, int], roll: float, mirrored: bool
) -> LabelledObject | None:
    """A thing as a part shows it; None where that is too little."""
    wide, high = window_px[2] - window_px[0], window_px[3] - window_px[1]
    box = _turned_box(thing.box, turned(window_px, roll))
    left, top, right, bottom = max(box.x1, 0), max(box.y1, 0), min(box.x2, wide), min(box.y2, high)
    if right <= left or bottom <= top:
        return None
    if (right - left) * (bottom - top) < MIN_AREA_KEPT * (box.x2 - box.x1) * (box.y2 - box.y1):
        return None
    if mirrored:
        left, right = wide - right, wide - left
    return dataclasses.replace(thing, box=Box(left, top, right, bottom), depth=None, mask_id=None)


def _turned_box(box: Box, to_part: NDArray[np.float64]) -> Box:
    """The box around the ellipse that fills a box, once that is turned: a thing seldom fills the corners of its box."""
    x, y = to_part @ [(box.x1 + box.x2) / 2, (box.y1 + box.y2) / 2, 1]
    wide, high = np.hypot(*(to_part[:, :2] * [(box.x2 - box.x1) / 2, (box.y2 - box.y1) / 2]).T)
    return Box(float(x - wide), float(y - high), float(x + wide), float(y + high))
