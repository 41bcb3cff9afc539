"""Messages ⇄ the core's types: images, depth images, regions, object depths.

Promises: an image message becomes uint8 RGB [height, width, 3] of its own memory, or a BadImageError of one line that
says what came and what was expected (by `proxqa_core.rosbags.image_messages`, whose functions are exported here too).
cv_bridge is not needed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import replace

import numpy as np
from sensor_msgs.msg import Image, RegionOfInterest
from std_msgs.msg import Header

import proxqa_ros.msg as messages
from proxqa_core.errors import BadObjectError
from proxqa_core.robot.speed_limits import problem_of
from proxqa_core.rosbags.image_messages import Pixels, check_message, depth_to_metres, image_to_rgb
from proxqa_core.types import MAX_OBJECTS, Box, ObjectDepth, ObjectQuery, check_image
from proxqa_core.vision.image_health import ImageHealth, ImageStatus

__all__ = [
    "Pixels",
    "TooManyObjectsError",
    "box_to_region",
    "check_message",
    "depth_to_metres",
    "depths_to_message",
    "health_to_message",
    "image_to_rgb",
    "message_to_health",
    "message_to_object",
    "object_queries",
    "object_to_message",
    "region_of",
    "region_to_box",
    "rgb_to_image",
]


class TooManyObjectsError(BadObjectError):
    """More objects than one request may have."""


def rgb_to_image(image: Pixels, header: Header) -> Image:
    """An rgb8 message of a uint8 RGB image, with the given header."""
    check_image(image)
    height, width = image.shape[:2]
    message = Image(header=header, height=height, width=width, encoding="rgb8", step=3 * width, is_bigendian=0)
    message.data = np.ascontiguousarray(image).tobytes()
    return message


def region_to_box(region: RegionOfInterest) -> Box | None:
    """A region as a box in pixels.

    Returns:
        The box; None where all four numbers are zero: no region is given.

    Raises:
        BadObjectError: Only one side is zero.
    """
    if region.width == 0 and region.height == 0 and region.x_offset == 0 and region.y_offset == 0:
        return None
    x, y = float(region.x_offset), float(region.y_offset)
    return Box(x, y, x + region.width, y + region.height)


def box_to_region(box: Box | None) -> RegionOfInterest:
    """The smallest whole-pixel region that holds the box, cut at the image's upper and left edge; zeros for None."""
    if box is None:
        return RegionOfInterest()
    x, y = max(0, math.floor(box.x1)), max(0, math.floor(box.y1))
    return RegionOfInterest(
        x_offset=x, y_offset=y, width=max(0, math.ceil(box.x2) - x), height=max(0, math.ceil(box.y2) - y)
    )


def region_of(depth: ObjectDepth) -> Box | None:
    """Where an object is in the image: the box it was asked with, else where the model found it; None = unknown."""
    return depth.box or depth.found_at


def object_queries(names: Sequence[str], regions: Sequence[RegionOfInterest] = ()) -> tuple[ObjectQuery, ...]:
    """The objects of a request, in order.

    Args:
        names: Their names.
        regions: Where they are in the image, in pixels; none, or one per name.

    Raises:
        TooManyObjectsError: There are more than `MAX_OBJECTS`.
        BadObjectError: A name or region cannot be used, their numbers differ, or a name comes twice without a region
            to tell the two apart.
    """
    if len(names) > MAX_OBJECTS:
        raise TooManyObjectsError(f"{len(names)} objects asked for; at most {MAX_OBJECTS}")
    if regions and len(regions) != len(names):
        raise BadObjectError(f"{len(regions)} regions for {len(names)} objects; expected none, or one per object")
    boxes = [region_to_box(region) for region in regions] or [None] * len(names)
    queries = tuple(ObjectQuery(name, box) for name, box in zip(names, boxes, strict=True))
    counts = Counter(query.name.casefold() for query in queries)
    for query in queries:
        if query.box is None and counts[query.name.casefold()] > 1:
            raise BadObjectError(
                f"object {query.name!r} is named {counts[query.name.casefold()]} times; "
                "give each its own region, or say which ('leftmost', 'rightmost')"
            )
    return queries


def object_to_message(depth: ObjectDepth) -> messages.ObjectDepth:
    """proxqa_ros/ObjectDepth of one object; `message_to_object` reads it back."""
    # A depth is never NaN in the message. Where nothing was read (a box outside the image) it is the whole range,
    # 0.5 +- 0.5, of what is not in view, with a score of 0 and without a region: so it counts as read for nobody.
    was_read = math.isfinite(depth.depth)
    return messages.ObjectDepth(
        name=depth.name,
        region=box_to_region(region_of(depth) if was_read else None),
        depth=float(depth.depth) if was_read else 0.5,
        depth_stddev=float(depth.depth_stddev) if was_read else 0.5,
        distance=float(depth.distance),
        distance_stddev=float(depth.distance_stddev),
        score=float(depth.score),
        text=depth.text,
    )


def message_to_object(message: messages.ObjectDepth, given: Container[str] | None = None) -> ObjectDepth:
    """The core's ObjectDepth of a message: the one place where messages on their way in are checked.

    Args:
        message: Its region is a box that was given, or where the node found the name: it does not say which.
        given: Names of what was asked with a box, where that is known; a region of any other is where it was found.

    Returns:
        The object; without `given` every region is taken for a box.

    Raises:
        BadObjectError: The name cannot be one, or a number cannot be true; one line that quotes it.
    """
    found = ObjectDepth(
        name=ObjectQuery(message.name).name,
        depth=message.depth,
        depth_stddev=message.depth_stddev,
        score=message.score,
        text=message.text,
        box=region_to_box(message.region),
        distance=message.distance,
        distance_stddev=message.distance_stddev,
    )
    if problem := problem_of(found):
        raise BadObjectError(problem)
    return found if given is None or found.name in given else replace(found, box=None, found_at=found.box)


def message_to_health(message: messages.ImageHealth) -> ImageHealth:
    """The core's ImageHealth of a message.

    Raises:
        BadObjectError: There is no such status.
    """
    try:
        status = ImageStatus(message.status)
    except ValueError as error:
        raise BadObjectError(f"image_health.status is {message.status}; expected 0 to {max(ImageStatus)}") from error
    return ImageHealth(status, message.exposure, message.contrast, message.sharpness, message.change)


def health_to_message(health: ImageHealth) -> messages.ImageHealth:
    """proxqa_ros/ImageHealth."""
    return messages.ImageHealth(
        status=int(health.status),
        exposure=health.exposure,
        contrast=health.contrast,
        sharpness=health.sharpness,
        change=health.change,
    )


def depths_to_message(
    header: Header, model: str, depths: Sequence[ObjectDepth], health: ImageHealth | None = None
) -> messages.ObjectDepthArray:
    """proxqa_ros/ObjectDepthArray with the image's own header; health: of the image, None = not measured."""
    return messages.ObjectDepthArray(
        header=header,
        model=model,
        image_health=health_to_message(health or ImageHealth()),
        objects=[object_to_message(d) for d in depths],
    )
