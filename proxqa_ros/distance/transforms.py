"""Where a sensor is relative to the camera: by TF, or by a pose given as a parameter.

Promises: points of a sensor's frame become points of the camera's optical frame (REP 103: x right, y down, z along the
axis; REP 105: frames are related by TF). tf2_ros is optional, since it has no wheel: without it TF is not used, and
`TransformLookup.status` says so.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from builtin_interfaces.msg import Time as Stamp
from geometry_msgs.msg import Transform
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.time import Time

from proxqa_core.errors import ProxqaError, reason_of
from proxqa_core.frames import in_tf
from proxqa_ros.common.errors import one_line
from proxqa_ros.common.stamps import NS_PER_S, nanoseconds

try:
    import tf2_ros
except ImportError:
    tf2_ros = None

Floats = NDArray[np.float64]

NOT_INSTALLED = "TF not used: tf2_ros is not installed; it is ros-<distro>-tf2-ros in a ROS distro, and has no wheel"
MAX_OFFSET_M = 100.0
"""Largest distance between sensor and camera along each axis, in metres."""
WARMUP_S = 1.0
"""Time after the first look-up in which transforms may still be on their way, in seconds."""
TIME_JUMP_NS = NS_PER_S
"""Stamps going back by more than this are a jump back in time, such as a bag that starts again; in nanoseconds."""
_MIN_QUATERNION_NORM = 1e-6


class BadPoseError(ProxqaError, ValueError):
    """Where a sensor is relative to the camera cannot be used."""


class NoTransformYetError(ProxqaError):
    """TF was asked for the first time a moment ago, and has no answer yet."""


class SensorPose(Protocol):
    """Where a sensor is relative to the camera."""

    def to_optical(self, points: Floats) -> Floats:
        """Points of the sensor's frame in the camera's optical frame, both [n, 3] in metres."""
        ...


@dataclass(frozen=True)
class CameraPose:
    """The camera's pose in a sensor's frame, by REP 103.

    roll, pitch and yaw are about x, y and z in that order, as tf2_echo prints them, of the camera's body (x along its
    optical axis), not of its optical frame: yaw > 0 looks to the left of the sensor's ahead, pitch > 0 looks down.

    Args:
        x: Position ahead, in metres, -100 to 100.
        y: Position to the left, in metres, -100 to 100.
        z: Position upwards, in metres, -100 to 100.
        roll: Rotation in radians, -π to π.
        pitch: Rotation in radians, -π to π.
        yaw: Rotation in radians, -π to π.

    Raises:
        BadPoseError: A number is out of its range or not finite.
    """

    x: float = 0.0
    y: float = 0.0
    z: float = 0.0
    roll: float = 0.0
    pitch: float = 0.0
    yaw: float = 0.0

    def __post_init__(self) -> None:
        position, angles = (self.x, self.y, self.z), (self.roll, self.pitch, self.yaw)
        if not (all(abs(v) <= MAX_OFFSET_M for v in position) and all(abs(v) <= math.pi for v in angles)):
            raise BadPoseError(
                f"the camera's pose is {[*position, *angles]}; expected [x, y, z, roll, pitch, yaw], "
                f"metres within ±{MAX_OFFSET_M:g} and radians within ±3.1416"
            )

    @classmethod
    def of(cls, values: Sequence[float]) -> CameraPose:
        """The pose of six numbers: [x, y, z, roll, pitch, yaw]. Raises BadPoseError."""
        if len(values) != 6:
            raise BadPoseError(f"the camera's pose has {len(values)} numbers; expected 6: [x, y, z, roll, pitch, yaw]")
        return cls(*(float(v) for v in values))

    def to_optical(self, points: Floats) -> Floats:
        """Points of the sensor's frame in the camera's optical frame, both [n, 3] in metres."""
        # 1. the rotation of the camera's body in the sensor's frame [3, 3]: about x first, about z last
        (sr, sp, sy), (cr, cp, cy) = (f([self.roll, self.pitch, self.yaw]) for f in (np.sin, np.cos))
        about_x = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
        about_y = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
        about_z = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
        # 2. points in the camera's body frame [n, 3]: the inverse rotation (rows times the matrix) of what is relative
        body = (points - (self.x, self.y, self.z)) @ (about_z @ about_y @ about_x)
        # 3. body (x ahead, y left, z up) → optical (x right, y down, z ahead)
        return np.stack([-body[:, 1], -body[:, 2], body[:, 0]], axis=1)


@dataclass(frozen=True, eq=False)
class RigidTransform:
    """A transform from a sensor's frame to the camera's optical frame.

    Args:
        rotation: Rotation matrix [3, 3].
        translation: Origin of the sensor's frame in the optical frame [3], in metres.
    """

    rotation: Floats
    translation: Floats

    @classmethod
    def of(cls, message: Transform) -> RigidTransform:
        """The transform of a message.

        Raises:
            BadPoseError: A number is not finite, or the quaternion is zero.
        """
        t, q = message.translation, message.rotation
        translation, (x, y, z, w) = np.array([t.x, t.y, t.z]), (q.x, q.y, q.z, q.w)
        norm = math.hypot(x, y, z, w)
        if not (np.isfinite(translation).all() and math.isfinite(norm) and norm > _MIN_QUATERNION_NORM):
            raise BadPoseError(
                f"the transform has translation {[t.x, t.y, t.z]} and quaternion {[x, y, z, w]}; "
                "expected finite numbers and a quaternion of length 1"
            )
        x, y, z, w = x / norm, y / norm, z / norm, w / norm
        rotation = np.array(
            [
                [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
            ]
        )
        return cls(rotation, translation)

    def to_optical(self, points: Floats) -> Floats:
        """Points of the sensor's frame in the camera's optical frame, both [n, 3] in metres."""
        return points @ self.rotation.T + self.translation


class Transforms(Protocol):
    """What finds transforms."""

    def find(self, target_frame: str, source_frame: str, stamp: Stamp, tolerance_s: float) -> RigidTransform | None:
        """The transform from one frame to another; None where there is none. See `TransformLookup.find`."""
        ...


class _NoTransforms:
    def find(self, target_frame: str, source_frame: str, stamp: Stamp, tolerance_s: float) -> RigidTransform | None:
        return None


NO_TRANSFORMS: Transforms = _NoTransforms()
"""Finds none."""


class Buffer(Protocol):
    """What is needed of a tf2_ros.Buffer."""

    def lookup_transform(self, target_frame: str, source_frame: str, time: Time) -> Any:
        """geometry_msgs/TransformStamped; raises tf2's exceptions."""
        ...

    def clear(self) -> None:
        """Drop all but static transforms."""
        ...


class TransformLookup:
    """Looks transforms up in TF, and says how that went.

    TF is listened to from the first look-up on: it costs time, and few nodes need it. `find` is called by one thread,
    `status` by any.

    Args:
        listen: Makes a buffer that is filled from TF. None = TF is not used, since tf2_ros is not installed.
        clock: Seconds of a steady clock.
    """

    def __init__(self, listen: Callable[[], Buffer] | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._listen, self._clock = listen, clock
        self._buffer: Buffer | None = None
        self._started_s = 0.0
        self._newest_ns = 0
        self._states: dict[str, str] = {}

    @classmethod
    def of_node(cls, node: Node) -> TransformLookup:
        """A look-up in what a node receives on /tf and /tf_static."""
        if tf2_ros is None:
            return cls(None)
        listeners: list[Any] = []  # one listens for as long as it is referred to

        def listen() -> Buffer:
            buffer: Buffer = tf2_ros.Buffer()
            listeners.append(tf2_ros.TransformListener(buffer, node))
            return buffer

        return cls(listen)

    def find(self, target_frame: str, source_frame: str, stamp: Stamp, tolerance_s: float) -> RigidTransform | None:
        """The transform from one frame to another.

        Args:
            target_frame: The frame that points are wanted in.
            source_frame: The frame that points are given in.
            stamp: The time. Where TF does not reach it, its latest transform is taken if that is static or near enough.
            tolerance_s: How near, in seconds.

        Returns:
            The transform; None where TF has none, or is not used. A sensor that says that it is in the optical frame
            itself has none either: it measures along x, which is to the right there, so its frame_id cannot be meant.

        Raises:
            NoTransformYetError: TF is listened to since less than `WARMUP_S`.
            BadPoseError: TF has one that cannot be used.
        """
        target_frame, source_frame = in_tf(target_frame), in_tf(source_frame)
        if self._listen is None or source_frame == target_frame:
            return None
        if self._buffer is None:
            self._buffer, self._started_s = self._listen(), self._clock()
        self._see(self._buffer, nanoseconds(stamp))
        route = f"from {source_frame[:60]!r} to {target_frame[:60]!r}"
        try:
            message = _lookup(self._buffer, target_frame, source_frame, stamp, tolerance_s)
        except Exception as error:  # tf2's, of half a dozen classes, or a stamp that is none
            if self._clock() - self._started_s < WARMUP_S:
                raise NoTransformYetError(f"TF has no transform {route} yet") from error
            self._states[source_frame] = f"no transform {route}: {reason_of(error)[:200]}"
            return None
        try:
            transform = RigidTransform.of(message.transform)
        except BadPoseError as error:
            self._states[source_frame] = f"transform {route}: {one_line(error)}"
            raise
        self._states[source_frame] = f"transform {route}: by TF"
        return transform

    @property
    def status(self) -> str:
        """One line: whether TF is used, and how the last look-up of every sensor went; '' = TF was not needed yet."""
        return NOT_INSTALLED if self._listen is None else "; ".join(list(self._states.values()))

    def _see(self, buffer: Buffer, stamp_ns: int) -> None:
        """After a jump back in time a buffer refuses what is older than what it holds."""
        if stamp_ns < self._newest_ns - TIME_JUMP_NS:
            buffer.clear()
            self._newest_ns = stamp_ns
        self._newest_ns = max(self._newest_ns, stamp_ns)


def _lookup(buffer: Buffer, target_frame: str, source_frame: str, stamp: Stamp, tolerance_s: float) -> Any:
    """The transform at a stamp; else the latest, if static (stamp 0) or near enough. Raises tf2's exceptions."""
    try:
        return buffer.lookup_transform(target_frame, source_frame, Time.from_msg(stamp))
    except Exception:
        latest = buffer.lookup_transform(target_frame, source_frame, Time())
        latest_ns = nanoseconds(latest.header.stamp)
        if latest_ns and abs(latest_ns - nanoseconds(stamp)) > tolerance_s * NS_PER_S:
            raise
        return latest
