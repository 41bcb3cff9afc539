"""Distances of objects from a depth image aligned with the camera's image, raw or compressed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from proxqa_core.depth import median_in_box, same_aspect
from proxqa_core.errors import BadImageError
from proxqa_core.frames import same_frame
from proxqa_core.types import ObjectDepth
from proxqa_ros.common.conversions import depth_to_metres, region_of
from proxqa_ros.common.parameters import BadParameterError, Spec
from proxqa_ros.distance.source import FrameContext, Measurement, TopicSource

MIN_MEASURED = 0.25
"""Smallest part of the pixels in the middle of an object that must have a depth."""

TRANSPORTS: Mapping[str, tuple[Any, str]] = MappingProxyType(
    {
        "raw": (Image, "depth"),
        "compressed": (CompressedImage, "depth/compressed"),
        "compressedDepth": (CompressedImage, "depth/compressedDepth"),
    }
)
"""Type of the messages and topic, by image_transport's name of the transport."""


def _check_transport(value: str) -> None:
    if value not in TRANSPORTS:
        raise BadParameterError(f"parameter 'depth_transport' is {value!r}; expected one of {', '.join(TRANSPORTS)}")


class DepthImageSource(TopicSource):
    """Depth images of the same view through the same lens, of any resolution.

    Raw: 16UC1 in mm or 32FC1 in m. Compressed: a PNG of 16 bits. compressedDepth: either, as PNG or RVL.
    """

    parameters: ClassVar[Mapping[str, Spec]] = MappingProxyType(
        {
            "depth_transport": Spec(
                "raw",
                "What kind of depth images to subscribe to: raw (depth), compressed (depth/compressed) or "
                "compressedDepth (depth/compressedDepth).",
                check=_check_transport,
            )
        }
    )
    message_type = Image
    topic = "depth"
    counter = "depth_images"

    def configure(self, values: Mapping[str, Any]) -> None:
        """Take the transport, which decides the topic and its type; it is subscribed to as the node is activated."""
        # on the object: the class's own are those of the default
        self.message_type, self.topic = TRANSPORTS[values["depth_transport"]]  # type: ignore[misc]

    def measure_message(self, message: Any, frame: FrameContext) -> list[Measurement]:
        """See `from_depth_image`."""
        return from_depth_image(message, frame.header, frame.width, frame.height, frame.visible)


def from_depth_image(
    message: Image | CompressedImage, header: Header, width: int, height: int, objects: Sequence[ObjectDepth]
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
    _check_frame(message, header)
    if isinstance(message, Image):  # before it is decoded: its size is no secret
        _check_aspect(message.width, message.height, width, height)
    metres = depth_to_metres(message)
    _check_aspect(metres.shape[1], metres.shape[0], width, height)
    found = []
    for d in objects:
        if (region := region_of(d)) is not None:
            median = median_in_box(metres, region, width, height, MIN_MEASURED)
            if math.isfinite(median):
                found.append(Measurement(d, median))
    return found


def _check_frame(message: Image | CompressedImage, header: Header) -> None:
    if not same_frame(message.header.frame_id, header.frame_id):
        raise BadImageError(
            f"the depth image is in frame {message.header.frame_id[:60]!r}, the image in {header.frame_id[:60]!r}; "
            "expected a depth image aligned with the image"
        )


def _check_aspect(depth_width: int, depth_height: int, width: int, height: int) -> None:
    if not same_aspect(depth_width, depth_height, width, height):
        raise BadImageError(
            f"the depth image is {depth_width}x{depth_height} pixels, the image {width}x{height}; "
            "expected a depth image aligned with the image"
        )
