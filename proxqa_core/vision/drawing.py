"""Draws answers on images, for people.

Promises: the image handed in is left alone; the result has its size, with a strip added at the side for what has no
box. Knows nothing of models, files or ROS.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from proxqa_core.types import VISIBLE, Box, ObjectDepth, check_image

MAX_LABEL_LENGTH = 28
"""Longest name drawn, in characters."""
MAX_CAPTION_LINES = 8
_Rectangle = tuple[int, int, int, int]
"""Left, top, right, bottom, in pixels."""
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_GREY = (150, 150, 150)
_INK = (20, 20, 20)
_PAPER = (245, 245, 245)
# Viridis at five places, nearest first: yellow is near, violet far. Equal steps of depth look equally large, also in
# grey and to the colour-blind.
_VIRIDIS = np.array([[253, 231, 37], [94, 201, 98], [33, 145, 140], [59, 82, 139], [68, 1, 84]], np.float64)


def annotate(image: NDArray[np.uint8], objects: Sequence[ObjectDepth], answer: str = "") -> NDArray[np.uint8]:
    """A copy of an image with every object's box, name and depth, coloured from near (yellow) to far (violet).

    A box is the one asked with, else the one that an object in view was found in. Objects without a box, and those that
    are not seen, are listed in a strip at the right. No label covers another where there is room beside it.

    Args:
        image: uint8 [height, width, 3], RGB.
        objects: What to draw.
        answer: Written below the image; empty = nothing.

    Returns:
        uint8, RGB, of the image's size plus the strips that were needed.

    Raises:
        BadImageError: It is another image.
    """
    check_image(image)
    height, width = image.shape[:2]
    scale = max(0.35, min(1.2, width / 1100))
    drawn = np.ascontiguousarray(image).copy()
    # The farthest first, so that near boxes lie over far ones.
    placed = [(o, _place(o)) for o in sorted(objects, key=lambda o: -_order(o))]
    boxed = [(o, box) for o, box in placed if box is not None]
    for thing, box in boxed:
        _draw_box(drawn, thing, box, scale)
    taken: list[_Rectangle] = []
    for thing, box in reversed(boxed):  # the nearest label has the first choice of place
        taken.append(_draw_label(drawn, thing, box, scale, taken))
    rest = sorted((o for o, box in placed if box is None), key=_order)
    if rest:
        drawn = np.concatenate([drawn, _legend(rest, height, width, scale)], axis=1)
    if answer:
        drawn = np.concatenate([drawn, _caption(answer, drawn.shape[1], scale)], axis=0)
    return drawn


def colour_of(depth: float) -> tuple[int, int, int]:
    """The colour, R, G, B in [0, 255], of a relative depth; values outside [0, 1] are clipped, NaN is grey."""
    if not math.isfinite(depth):
        return _GREY
    place = min(1.0, max(0.0, depth)) * (len(_VIRIDIS) - 1)
    low = min(int(place), len(_VIRIDIS) - 2)
    r, g, b = (round(float(v)) for v in _VIRIDIS[low] + (place - low) * (_VIRIDIS[low + 1] - _VIRIDIS[low]))
    return (r, g, b)


def label_of(thing: ObjectDepth) -> str:
    """The label of an object: name and relative depth, metres where calibrated; a doubted name has a question mark."""
    name = _drawable(thing.name)
    if len(name) > MAX_LABEL_LENGTH:
        name = name[: MAX_LABEL_LENGTH - 3].rstrip() + "..."
    if not thing.is_answered:
        return f"{name} ?" if thing.score >= VISIBLE else f"{name} not seen"
    label = f"{name}{'?' if thing.is_doubted else ''} {thing.depth:.2f}"
    if math.isfinite(thing.depth_stddev):
        label += f" +-{thing.depth_stddev:.2f}"
    if math.isfinite(thing.distance):
        label += f" {thing.distance:.2f} m"
    return label


def _place(thing: ObjectDepth) -> Box | None:
    """Where to draw an object, None where nobody knows."""
    return (thing.box or thing.found_at) if thing.is_answered else None


def _order(thing: ObjectDepth) -> float:
    return thing.depth if math.isfinite(thing.depth) else 2.0


def _colour(thing: ObjectDepth) -> tuple[int, int, int]:
    return colour_of(thing.depth) if thing.is_answered else _GREY


def _drawable(text: str) -> str:
    """Text in the letters that OpenCV's fonts have: accents dropped, anything else a question mark."""
    plain = unicodedata.normalize("NFKD", text.replace("±", "+-").replace("…", "..."))
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    return "".join(c if " " <= c <= "~" else "?" for c in plain)


def _text_size(text: str, scale: float) -> tuple[int, int, int]:
    (width, height), base = cv2.getTextSize(text, _FONT, scale, 1)
    return width, height, base


def _draw_box(image: NDArray[np.uint8], thing: ObjectDepth, box: Box, scale: float) -> None:
    height, width = image.shape[:2]
    x1, x2 = (int(min(max(v, 0), width - 1)) for v in (box.x1, box.x2 - 1))
    y1, y2 = (int(min(max(v, 0), height - 1)) for v in (box.y1, box.y2 - 1))
    colour = _colour(thing)
    cv2.rectangle(image, (x1, y1), (x2, y2), _INK, max(3, round(5 * scale)))
    cv2.rectangle(image, (x1, y1), (x2, y2), colour, max(1, round(3 * scale)))


def _draw_label(
    image: NDArray[np.uint8], thing: ObjectDepth, box: Box, scale: float, taken: Sequence[_Rectangle]
) -> _Rectangle:
    """Draw an object's label by its box, clear of those that are drawn where it can be; returns where it is."""
    text, colour = label_of(thing), _colour(thing)
    w, h, base = _text_size(text, scale)
    left, top = _label_place(image.shape[1], image.shape[0], box, w + 4, h + base + 4, taken)
    cv2.rectangle(image, (left, top), (left + w + 3, top + h + base + 3), colour, cv2.FILLED)
    cv2.putText(image, text, (left + 2, top + h + 2), _FONT, scale, _ink_on(colour), 1, cv2.LINE_AA)
    return left, top, left + w + 4, top + h + base + 4


def _label_place(width: int, height: int, box: Box, w: int, h: int, taken: Sequence[_Rectangle]) -> tuple[int, int]:
    """Left and top of a label of w × h pixels.

    Above the box, else in it at the top, else at its bottom, below it, or on lines further down and up; never beyond
    the image where it fits at all. Where every place is taken, the one that covers least.
    """
    x1, y1, _, y2 = (int(min(max(v, -1e6), 1e6)) for v in box.xyxy)
    left = max(0, min(x1, width - w))
    lines = [y1 - h, y1, y2 - h, y2, *(y1 + n * h for n in range(1, 6)), *(y1 - n * h for n in range(2, 6))]
    tops = [max(0, min(y, height - h)) for y in lines if 0 <= y <= height - h] or [max(0, min(y1, height - h))]
    return left, min(tops, key=lambda top: sum(_overlap((left, top, left + w, top + h), other) for other in taken))


def _overlap(a: _Rectangle, b: _Rectangle) -> int:
    """Pixels that two rectangles share."""
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))


def _ink_on(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """Black or white, whichever is read better on a colour."""
    brightness = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    return (0, 0, 0) if brightness > 110 else (255, 255, 255)


def _legend(objects: Sequence[ObjectDepth], height: int, image_width: int, scale: float) -> NDArray[np.uint8]:
    """A strip of the image's height: one line an object, as many as fit."""
    texts = [label_of(o) for o in objects]
    line = max(12, _text_size("Ay", scale)[1] + 10)
    width = min(max(_text_size(t, scale)[0] for t in texts) + line + 12, max(80, image_width))
    strip = np.full((height, width, 3), _PAPER, np.uint8)
    room = max(1, height // line)
    for i, (thing, text) in enumerate(zip(objects, texts, strict=True)):
        y = i * line
        if i == room - 1 and len(objects) > room:
            text, thing_colour = f"and {len(objects) - i} more", _GREY
        elif i >= room:
            break
        else:
            thing_colour = _colour(thing)
        cv2.rectangle(strip, (4, y + 3), (line - 2, y + line - 3), thing_colour, cv2.FILLED)
        cv2.putText(strip, text, (line + 4, y + line - 6), _FONT, scale, _INK, 1, cv2.LINE_AA)
    return strip


def _caption(answer: str, width: int, scale: float) -> NDArray[np.uint8]:
    """The answer in as many lines as it needs, at most MAX_CAPTION_LINES."""
    lines = [""]
    for word in _drawable(answer).split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and _text_size(longer, scale)[0] > width - 10:
            lines.append(word)
        else:
            lines[-1] = longer
    line = max(12, _text_size("Ay", scale)[1] + 10)
    strip = np.full((line * min(len(lines), MAX_CAPTION_LINES) + 4, width, 3), _PAPER, np.uint8)
    for i, text in enumerate(lines[:MAX_CAPTION_LINES]):
        cv2.putText(strip, text, (5, (i + 1) * line - 5), _FONT, scale, _INK, 1, cv2.LINE_AA)
    return strip
