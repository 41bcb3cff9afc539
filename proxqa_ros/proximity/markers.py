"""Objects in space for RViz and Foxglove: a MarkerArray of those whose region and distance are known.

Promises: every array replaces the one before; markers are in the image's own frame and stamp. visualization_msgs is
optional: without it `MarkerArray` is None and `to_markers` cannot be used.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from geometry_msgs.msg import Point as PointMessage
from std_msgs.msg import ColorRGBA, Header

from proxqa_core.types import ObjectDepth
from proxqa_ros.common.camera import Camera, Point
from proxqa_ros.common.conversions import region_of

try:
    from visualization_msgs.msg import Marker, MarkerArray
except ImportError:
    Marker = MarkerArray = None

RAY, DOUBT, NAME = "bearing", "distance", "name"
"""Namespaces: an arrow from the camera to the object; a line of one standard deviation of the distance to either side
along it; name, distance and bearing as text."""
NOT_INSTALLED = "visualization_msgs is not installed"
LINE_WIDTH_M = 0.02
"""Thickness of arrows and lines, in metres."""
TEXT_HEIGHT_M = 0.12
"""Height of the text, in metres."""
COLOUR = ColorRGBA(r=1.0, g=0.75, b=0.1, a=1.0)


def place(camera: Camera, depths: Sequence[ObjectDepth]) -> list[tuple[ObjectDepth, Point]]:
    """The objects whose region and distance are known, each with its point in the optical frame."""
    placed = []
    for d in depths:
        region = region_of(d)
        if region is not None and math.isfinite(d.distance) and (point := camera.point(region, d.distance)) is not None:
            placed.append((d, point))
    return placed


def to_markers(header: Header, placed: Sequence[tuple[ObjectDepth, Point]]) -> Any:
    """visualization_msgs/MarkerArray of these, which also removes all markers of the array before."""
    markers = [Marker(header=header, action=Marker.DELETEALL)]
    for n, (d, p) in enumerate(placed):
        part = min(d.distance_stddev / p.z, 1.0)
        camera, near, at, far = (PointMessage(x=p.x * f, y=p.y * f, z=p.z * f) for f in (0.0, 1 - part, 1.0, 1 + part))
        ray = _marker(header, RAY, n, Marker.ARROW, [camera, at])
        ray.scale.x, ray.scale.y = LINE_WIDTH_M, 2 * LINE_WIDTH_M
        doubt = _marker(header, DOUBT, n, Marker.LINE_LIST, [near, far])
        doubt.scale.x = 2 * LINE_WIDTH_M
        name = _marker(header, NAME, n, Marker.TEXT_VIEW_FACING, [])
        name.pose.position, name.scale.z, name.text = at, TEXT_HEIGHT_M, label(d, p)
        markers += [ray, doubt, name]
    return MarkerArray(markers=markers)


def label(d: ObjectDepth, p: Point) -> str:
    """Such as "chair 1.52 ± 0.10 m, 12° right, 3° up"."""
    right, up = round(math.degrees(p.azimuth)), round(math.degrees(p.elevation))
    across = f"{abs(right)}° {'right' if right >= 0 else 'left'}"
    return f"{d.name} {d.distance:.2f} ± {d.distance_stddev:.2f} m, {across}, {abs(up)}° {'up' if up >= 0 else 'down'}"


def _marker(header: Header, namespace: str, number: int, kind: int, points: list[PointMessage]) -> Any:
    marker = Marker(header=header, ns=namespace, id=number, type=kind, action=Marker.ADD, color=COLOUR, points=points)
    marker.pose.orientation.w = 1.0
    return marker
