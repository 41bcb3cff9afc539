"""What a source of true distances is: the base classes, and what a source is given and gives.

A new source is one new file with a subclass of `TopicSource` (it measures by the messages of a topic) or of
`DistanceSource` (it needs none), and its entry in `registry.SOURCES`. The node declares its parameters, subscribes to
its topic and reports its state in the diagnostics; the calibrator learns from what it measures.
"""

from __future__ import annotations

import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

from builtin_interfaces.msg import Time
from rclpy.qos import QoSProfile
from std_msgs.msg import Header

from proxqa_core.errors import ProxqaError
from proxqa_core.types import ObjectDepth
from proxqa_ros.common.camera import Camera, no_camera
from proxqa_ros.common.parameters import Spec
from proxqa_ros.common.qos import SENSOR_DATA
from proxqa_ros.common.stamps import StampedBuffer, seconds
from proxqa_ros.distance.transforms import NO_TRANSFORMS, Transforms

UNMET_IMAGES = 3
UNMET_S = 2.0
"""Images in turn, and seconds of their stamps, without a message that belongs to them: from there on it is said."""


class UnmetStampsError(ProxqaError):
    """A topic's messages never belong to an image: their stamps are too far apart."""


class Measurement(NamedTuple):
    """An object's true distance along the optical axis and the standard deviation of it, both in metres.

    A standard deviation of 0 stands for a sensor made for it. A distance of NaN measures nothing.
    """

    object: ObjectDepth
    distance: float
    stddev: float = 0.0


@dataclass(frozen=True)
class FrameContext:
    """An image that has been answered, and what a source may need to know about it.

    Args:
        header: The image's own header; its frame_id is that of the camera's optical frame (REP 103).
        width: The image's width in pixels.
        height: The image's height in pixels.
        objects: The objects asked about, those that are not in view included.
        camera: Makes the camera model of the image. Raises BadCameraError.
        transforms: Where other sensors are, by TF.
        sync_tolerance_s: Largest difference of stamps between the image and what belongs to it, in seconds.
    """

    header: Header
    width: int
    height: int
    objects: tuple[ObjectDepth, ...]
    camera: Callable[[], Camera] = no_camera
    transforms: Transforms = NO_TRANSFORMS
    sync_tolerance_s: float = 0.05

    @property
    def visible(self) -> tuple[ObjectDepth, ...]:
        """The objects whose depth was read: those in view, and those given with a box."""
        return tuple(d for d in self.objects if d.is_answered)


class DistanceSource(ABC):
    """One way in which true distances of objects become known. Any thread may call any method.

    Attributes:
        parameters: Its parameters by name; the node declares them. Each is `live`, but for those that decide its
            topic: it is subscribed to as the node is activated.
        message_type: The type of the messages that it measures by; None = it needs none.
        topic: The topic that they come on, remapped like every topic of the node.
        qos: The default quality of service of the subscription.
        counter: Key of the number of messages received in the diagnostics; "" = none.
    """

    parameters: ClassVar[Mapping[str, Spec]] = MappingProxyType({})
    message_type: ClassVar[Any] = None
    topic: ClassVar[str] = ""
    qos: ClassVar[QoSProfile] = SENSOR_DATA
    counter: ClassVar[str] = ""
    received: int = 0

    def configure(self, values: Mapping[str, Any]) -> None:
        """Take the values of its parameters, which have been checked."""
        del values

    def add(self, message: Any) -> None:
        """Take a message of its topic."""
        del message

    def expect(self, stamp: Time) -> None:
        """An image of this stamp is about to be processed: hold on to what belongs to it."""
        del stamp

    def clear(self) -> None:
        """Drop what was received."""
        self.received = 0

    @abstractmethod
    def measure(self, frame: FrameContext) -> list[Measurement]:
        """Measure the objects of an image.

        Args:
            frame: The image.

        Returns:
            What was measured; nothing where no message belongs to the image.

        Raises:
            ProxqaError: Something cannot be used; one line.
        """


class TopicSource(DistanceSource):
    """A source that measures by the message of its topic nearest in time to the image, by their own stamps.

    Attributes:
        buffer_size: Number of messages that are kept.
    """

    buffer_size: ClassVar[int] = 10

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._buffer = StampedBuffer(self.buffer_size)
        self._unmet_since_s: float | None = None
        self._unmet = 0

    def add(self, message: Any) -> None:
        """Take a message of its topic."""
        with self._lock:
            self.received += 1
            self._buffer.add(message)

    def expect(self, stamp: Time) -> None:
        """An image of this stamp is about to be processed: hold on to what belongs to it."""
        with self._lock:
            self._buffer.expect(stamp)

    def clear(self) -> None:
        """Drop what was received."""
        with self._lock:
            self._buffer.clear()
            self.received = self._unmet = 0
            self._unmet_since_s = None

    def measure(self, frame: FrameContext) -> list[Measurement]:
        """Measure by the message that belongs to the image; see `DistanceSource.measure`.

        Raises:
            UnmetStampsError: Messages come, and for `UNMET_IMAGES` images over `UNMET_S` none belonged to one.
        """
        with self._lock:
            message = self._buffer.nearest(frame.header.stamp, frame.sync_tolerance_s)
            nearest = self._buffer.nearest(frame.header.stamp, math.inf)
            if message is not None or nearest is None:
                self._unmet_since_s, self._unmet = None, 0
            else:
                self._check_stamps(nearest, frame)
        return [] if message is None else self.measure_message(message, frame)

    def _check_stamps(self, nearest: Any, frame: FrameContext) -> None:
        """Count an image that no message belongs to; UnmetStampsError where that goes on."""
        now_s = seconds(frame.header.stamp)
        if self._unmet_since_s is None or now_s < self._unmet_since_s:
            self._unmet_since_s, self._unmet = now_s, 0
        self._unmet += 1
        if self._unmet >= UNMET_IMAGES and now_s - self._unmet_since_s >= UNMET_S:
            off_s = seconds(nearest.header.stamp) - now_s
            raise UnmetStampsError(
                f"the nearest message on {self.topic} is {abs(off_s):.3f} s {'after' if off_s > 0 else 'before'} the "
                f"image by their stamps; expected at most {frame.sync_tolerance_s:g} s (sync_tolerance) and one clock"
            )

    @abstractmethod
    def measure_message(self, message: Any, frame: FrameContext) -> list[Measurement]:
        """Measure the objects of an image by a message that belongs to it. Arguments and errors as of `measure`."""
