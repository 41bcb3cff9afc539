"""Distances of objects whose true height is known, from how high they are in the image.

Promises: an object counts only where it is seen entirely, as far as that can be told: with a box it was asked with (not
where a model found it, which says where it is but not exactly how large), whose edges keep clear of the image's. What
cannot be used is refused with one line. Knows nothing of nodes, topics or models.

What is assumed: the object is upright and faces the camera, which looks about level. Nothing tells that something
stands before a part of it: such distances are too large, outliers for whoever learns from them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from proxqa_core.errors import BadObjectError
from proxqa_core.types import Box, ObjectDepth, ObjectQuery
from proxqa_ros.common.camera import Camera

LOWEST, HIGHEST = 0.01, 100.0
"""Heights that objects may have, in metres."""
BORDER = 0.01
"""Part of the image's side within which an edge of a box counts as at the image's: the object may go on beyond."""
SIZE_STDDEV = 0.1
"""Standard deviation of a thing's true height, as part of it: no two people are of one height."""
EDGE_STDDEV = 2.0
"""Standard deviation of the upper and the lower edge of a box, in pixels."""
WORST = 0.3
"""Relative deviation of a distance beyond which it is not used: the box is too small."""


def parse(entries: Sequence[str]) -> dict[str, float]:
    """Heights in metres by name, case-folded, of entries such as "door: 2.0"; [""] is none.

    Raises BadObjectError on anything else, on heights outside LOWEST to HIGHEST and on a name that comes twice.
    """
    sizes: dict[str, float] = {}
    for entry in [] if list(entries) == [""] else entries:
        name, colon, number = entry.rpartition(":")
        try:
            height = float(number)
        except ValueError:
            height = math.nan
        if not colon or not LOWEST <= height <= HIGHEST:
            raise BadObjectError(
                f"known size {entry[:60]!r} cannot be used; expected a name and metres from {LOWEST:g} to {HIGHEST:g}, "
                "such as 'door: 2.0'"
            )
        key = ObjectQuery(name).name.casefold()
        if key in sizes:
            raise BadObjectError(f"known size {entry[:60]!r}: that name comes twice; expected every name once")
        sizes[key] = height
    return sizes


def measurable(sizes: Mapping[str, float], width: int, height: int, depths: Sequence[ObjectDepth]) -> list[ObjectDepth]:
    """Those with a known size that are entirely in the image of width x height pixels."""
    return [d for d in depths if d.name.casefold() in sizes and d.box is not None and _inside(d.box, width, height)]


def from_known_sizes(
    sizes: Mapping[str, float], camera: Camera, depths: Sequence[ObjectDepth]
) -> list[tuple[ObjectDepth, float, float]]:
    """Those of `measurable` with their metres along the optical axis and the standard deviation of these.

    camera: the lens of the image that the boxes are of. Left out: boxes too small to say, and places where the lens's
    model does not hold.
    """
    found = []
    for d in depths:
        box = d.box
        if box is None:
            continue
        middle = (box.x1 + box.x2) / 2
        (_, top), (_, bottom) = camera.ray(middle, box.y1), camera.ray(middle, box.y2)
        relative = math.hypot(SIZE_STDDEV, math.sqrt(2) * EDGE_STDDEV / (box.y2 - box.y1))
        if bottom > top and relative <= WORST:
            metres = sizes[d.name.casefold()] / (bottom - top)
            found.append((d, metres, relative * metres))
    return found


def _inside(box: Box, width: int, height: int) -> bool:
    across, down = BORDER * width, BORDER * height
    return box.x1 > across and box.y1 > down and box.x2 < width - across and box.y2 < height - down
