"""Distances of objects from a depth image aligned with the camera's image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sensor_msgs.msg import Image
from std_msgs.msg import Header

from proxqa_core.depth import median_in_box, same_aspect
from proxqa_core.errors import BadImageError
from proxqa_core.frames import same_frame
from proxqa_core.types import ObjectDepth
from proxqa_ros.common.conversions import depth_to_metres, region_of
from proxqa_ros.distance.source import FrameContext, Measurement, TopicSource

MIN_MEASURED = 0.25
"""Smallest part of the pixels in the middle of an object that must have a depth."""


class DepthImageSource(TopicSource):
    """Depth images (16UC1 in mm or 32FC1 in m) of the same view through the same lens, of any resolution."""

    message_type = Image
    topic = "depth"
    counter = "depth_images"

    def measure_message(self, message: Any, frame: FrameContext) -> list[Measurement]:
        """See `from_depth_image`."""
        return from_depth_image(message, frame.header, frame.width, frame.height, frame.visible)


def from_depth_image(
    message: Image, header: Header, width: int, height: int, objects: Sequence[ObjectDepth]
) -> list[Measurement]:
    """Measure objects by the median depth over the central half of their regions.

    Args:
        message: The depth image.
        header: The header of the image that the regions are of.
        width: That image's width in pixels.
        height: That image's height in pixels.
        objects: The objects.

    Returns:
        Those that have a region of whose middle at least `MIN_MEASURED` has a depth.

    Raises:
        BadImageError: The depth image is broken, or not aligned with the image.
    """
    _check_alignment(message, header, width, height)
    metres = depth_to_metres(message)
    found = []
    for d in objects:
        if (region := region_of(d)) is not None:
            median = median_in_box(metres, region, width, height, MIN_MEASURED)
            if math.isfinite(median):
                found.append(Measurement(d, median))
    return found


def _check_alignment(message: Image, header: Header, width: int, height: int) -> None:
    if not same_frame(message.header.frame_id, header.frame_id):
        raise BadImageError(
            f"the depth image is in frame {message.header.frame_id[:60]!r}, the image in {header.frame_id[:60]!r}; "
            "expected a depth image aligned with the image"
        )
    if not same_aspect(message.width, message.height, width, height):
        raise BadImageError(
            f"the depth image is {message.width}x{message.height} pixels, the image {width}x{height}; "
            "expected a depth image aligned with the image"
        )
