"""TF for tests: transforms by the formulas of quaternions, and a stand-in for a tf2 buffer (tf2_ros has no wheel)."""

from __future__ import annotations

import math
from typing import Any

from geometry_msgs.msg import Quaternion, Transform, TransformStamped, Vector3
from rclpy.time import Time

from proxqa_ros.common.stamps import nanoseconds
from tests.ros.distance.scene import header

OPTICAL_IN_BODY = (-0.5, 0.5, -0.5, 0.5)
"""x, y, z, w of an optical frame in its camera's body frame (REP 103)."""


def times(a, b):
    """Hamilton's product of two quaternions x, y, z, w."""
    ax, ay, az, aw = a
    bx, by, bz, bw = b
    return (
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
        aw * bw - ax * bx - ay * by - az * bz,
    )


def inverse(q):
    x, y, z, w = q
    return (-x, -y, -z, w)


def rotated(q, v):
    return times(times(q, (*v, 0.0)), inverse(q))[:3]


def of_angles(roll, pitch, yaw):
    """The quaternion of rotations about x, then y, then z, each fixed."""
    (sr, cr), (sp, cp), (sy, cy) = ((math.sin(a / 2), math.cos(a / 2)) for a in (roll, pitch, yaw))
    return times((0, 0, sy, cy), times((0, sp, 0, cp), (sr, 0, 0, cr)))


def sensor_to_optical(pose) -> Transform:
    """The transform from a sensor's frame to the optical frame of a camera with this pose (6 numbers) in it."""
    x, y, z, *angles = pose
    back = inverse(times(of_angles(*angles), OPTICAL_IN_BODY))
    tx, ty, tz = rotated(back, (-x, -y, -z))
    qx, qy, qz, qw = back
    return Transform(translation=Vector3(x=tx, y=ty, z=tz), rotation=Quaternion(x=qx, y=qy, z=qz, w=qw))


class FakeBuffer:
    """Knows static transforms, and dynamic ones at one stamp each."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, str], tuple[float, Transform]] = {}
        self.asked: list[int] = []
        self.cleared = 0

    def set(self, target: str, source: str, transform: Transform, stamp_s: float = 0.0) -> None:
        """stamp_s: 0 = static."""
        self.known[target, source] = (stamp_s, transform)

    def clear(self) -> None:
        self.cleared += 1

    def lookup_transform(self, target_frame: str, source_frame: str, time: Time) -> Any:
        self.asked.append(time.nanoseconds)
        if (target_frame, source_frame) not in self.known:
            raise LookupError(f'"{source_frame}" passed to lookupTransform argument source_frame\ndoes not exist')
        stamp_s, transform = self.known[target_frame, source_frame]
        stamp = header(stamp_s).stamp
        if stamp_s and time.nanoseconds not in (0, nanoseconds(stamp)):
            raise ValueError("Lookup would require extrapolation into the future")
        return TransformStamped(header=header(stamp_s, target_frame), child_frame_id=source_frame, transform=transform)
