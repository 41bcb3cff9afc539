"""Boxes on images that have depth and no labels: what is in them is a thing, at a depth that was measured.

Promises: the same image gets the same boxes. A box is kept where most of its middle is measured and lies at one depth,
so that there is one answer to how far it is.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from proxqa_core.datasets.folder import LabelledObject, Record
from proxqa_core.depth import central_half, disparity_of, disparity_percentiles, relative_of_disparity
from proxqa_core.language.templates import THING
from proxqa_core.types import Box

BOXES_PER_IMAGE = 24
TRIES = 8
"""Boxes drawn for each that is wanted."""
SIDES = (0.07, 0.4)
"""Of a box, as share of the image's, drawn evenly on a logarithmic scale."""
MIN_MEASURED = 0.8
"""Share of the middle of a box that must be measured."""
MAX_SPREAD = 0.1
"""Most that the middle half of the distances in a box may differ by, as share of their median."""

LoadDepth = Callable[[Record], NDArray[np.float32]]
"""Reads the depth map of a record: metres, [rows, columns]."""


def with_boxes(record: Record, load_depth: LoadDepth = Record.load_depth) -> Record:
    """A record with boxes where it has depth and no objects, else the record itself.

    Its distances are in the unit of the depth map, whatever that is.

    Args:
        record: The record.
        load_depth: Reads its depth map, where there are no objects.

    Raises:
        BadImageError: The depth map is missing or damaged.
    """
    if record.objects or record.depth_map is None:
        return record
    metres = load_depth(record)
    disparity = disparity_of(metres)
    low, high = disparity_percentiles(disparity)
    if not high > low:
        return record
    rng = random.Random(record.image)
    things: list[LabelledObject] = []
    for _ in range(TRIES * BOXES_PER_IMAGE):
        box = _drawn(rng)
        distance = _distance(metres, box)
        if distance is not None:
            depth = float(relative_of_disparity(1 / distance, low, high))
            across, down = record.width, record.height
            pixels = Box(box.x1 * across, box.y1 * down, box.x2 * across, box.y2 * down)
            things.append(LabelledObject(THING, pixels, distance, depth))
        if len(things) == BOXES_PER_IMAGE:
            break
    return dataclasses.replace(record, objects=tuple(things))


def _drawn(rng: random.Random) -> Box:
    """A box in [0, 1], anywhere."""
    wide, high = (SIDES[0] * (SIDES[1] / SIDES[0]) ** rng.random() for _ in range(2))
    x, y = rng.random() * (1 - wide), rng.random() * (1 - high)
    return Box(x, y, x + wide, y + high)


def _distance(metres: NDArray[np.float32], box: Box) -> float | None:
    """The one distance of a box in [0, 1]; None where there is none."""
    rows, columns = metres.shape
    scaled = Box(box.x1 * columns, box.y1 * rows, box.x2 * columns, box.y2 * rows)
    middle = metres[central_half(scaled, columns, rows)]
    measured = middle[np.isfinite(middle)]
    if measured.size < max(1, MIN_MEASURED * middle.size):
        return None
    near, median, far = np.percentile(measured, [25, 50, 75])
    return float(median) if far - near <= MAX_SPREAD * median else None
