"""Distances of objects whose true height is known, from how high they are in the image.

An object counts only where it is seen entirely, as far as that can be told: with a box it was asked with (a box that
the model found says where an object is but not exactly how large), whose edges keep clear of the image's.

What is assumed: the object is upright and faces the camera, which looks about level. Nothing tells that something
covers a part of it: such distances are too large, and outliers to the calibration.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from proxqa_core.errors import BadObjectError
from proxqa_core.types import Box, ObjectDepth, ObjectQuery
from proxqa_ros.common.camera import Camera
from proxqa_ros.common.parameters import Spec
from proxqa_ros.distance.source import DistanceSource, FrameContext, Measurement

MIN_HEIGHT_M, MAX_HEIGHT_M = 0.01, 100.0
"""Heights that objects may have, in metres."""
IMAGE_MARGIN = 0.01
"""Part of the image's side within which an edge of a box counts as at the image's: the object may go on beyond."""
SIZE_STDDEV = 0.1
"""Standard deviation of an object's true height, as part of it: no two people are of one height."""
EDGE_STDDEV_PX = 2.0
"""Standard deviation of the upper and the lower edge of a box, in pixels."""
MAX_RELATIVE_STDDEV = 0.3
"""Relative deviation of a distance beyond which it is not used: the box is too small."""


class KnownSizesSource(DistanceSource):
    """Objects of known height that have a box. Needs camera_info, and no topic."""

    parameters = MappingProxyType(
        {
            "known_sizes": Spec(
                [""],
                "True heights of objects, such as 'door: 2.0', in metres, 0.01 to 100; [''] = none.",
                live=True,
                check=lambda entries: parse(entries or ()),
            )
        }
    )

    def __init__(self) -> None:
        self.sizes: Mapping[str, float] = {}

    def configure(self, values: Mapping[str, Any]) -> None:
        """Take the parameter `known_sizes`."""
        self.sizes = parse(values["known_sizes"])

    def measure(self, frame: FrameContext) -> list[Measurement]:
        """See `from_known_sizes`. The camera model is needed only where an object can be measured."""
        sizes = self.sizes
        sized = measurable(sizes, frame.width, frame.height, frame.visible)
        return from_known_sizes(sizes, frame.camera(), sized) if sized else []


def parse(entries: Sequence[str]) -> dict[str, float]:
    """Read heights from entries such as "door: 2.0".

    Args:
        entries: The entries, each a name and metres; [""] is none.

    Returns:
        Heights in metres by name, case-folded.

    Raises:
        BadObjectError: An entry is something else, a height is outside `MIN_HEIGHT_M` to `MAX_HEIGHT_M`, or a name
            comes twice.
    """
    sizes: dict[str, float] = {}
    for entry in [] if list(entries) == [""] else entries:
        name, colon, number = entry.rpartition(":")
        try:
            height = float(number)
        except ValueError:
            height = math.nan
        if not colon or not MIN_HEIGHT_M <= height <= MAX_HEIGHT_M:
            raise BadObjectError(
                f"known size {entry[:60]!r} cannot be used; expected a name and metres from {MIN_HEIGHT_M:g} to "
                f"{MAX_HEIGHT_M:g}, such as 'door: 2.0'"
            )
        key = ObjectQuery(name).name.casefold()
        if key in sizes:
            raise BadObjectError(f"known size {entry[:60]!r}: that name comes twice; expected every name once")
        sizes[key] = height
    return sizes


def measurable(
    sizes: Mapping[str, float], width: int, height: int, objects: Sequence[ObjectDepth]
) -> list[ObjectDepth]:
    """The objects of known size that are entirely in the image of width x height pixels."""
    return [d for d in objects if d.name.casefold() in sizes and d.box is not None and _inside(d.box, width, height)]


def from_known_sizes(sizes: Mapping[str, float], camera: Camera, objects: Sequence[ObjectDepth]) -> list[Measurement]:
    """Measure objects by the height of their boxes.

    Args:
        sizes: Heights in metres by name, case-folded.
        camera: The camera model of the image that the boxes are of.
        objects: Objects of known size that are entirely in the image; see `measurable`.

    Returns:
        Those whose box is large enough, and where the lens's model holds.
    """
    found = []
    for d in objects:
        box = d.box
        if box is None:
            continue
        middle = (box.x1 + box.x2) / 2
        (_, top), (_, bottom) = camera.ray(middle, box.y1), camera.ray(middle, box.y2)
        relative_stddev = math.hypot(SIZE_STDDEV, math.sqrt(2) * EDGE_STDDEV_PX / (box.y2 - box.y1))
        if bottom > top and relative_stddev <= MAX_RELATIVE_STDDEV:
            metres = sizes[d.name.casefold()] / (bottom - top)
            found.append(Measurement(d, metres, relative_stddev * metres))
    return found


def _inside(box: Box, width: int, height: int) -> bool:
    margin_x, margin_y = IMAGE_MARGIN * width, IMAGE_MARGIN * height
    return box.x1 > margin_x and box.y1 > margin_y and box.x2 < width - margin_x and box.y2 < height - margin_y
