"""Relative depth → metres for the node: learned from whatever sources of true distances there are.

Promises: a frame is paired with what was measured nearest to it in time, by the messages' own stamps, or with nothing;
whatever comes in is used, or refused with one line (`problem`) and never raised; any thread may call any method. The
fit itself is the core's (`proxqa_core.robot.calibration`).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from builtin_interfaces.msg import Time
from std_msgs.msg import Header

from proxqa_core.errors import ProxqaError
from proxqa_core.robot.calibration import Calibration, CalibrationState
from proxqa_core.types import ObjectDepth
from proxqa_ros.common.errors import one_line
from proxqa_ros.common.stamps import seconds
from proxqa_ros.distance.registry import SOURCES
from proxqa_ros.distance.source import DistanceSource, FrameContext, Measurement

Source = TypeVar("Source", bound=DistanceSource)


class DistanceCalibrator:
    """Learns from what is measured beside the camera, and gives objects their distances.

    Args:
        sources: The sources to learn from.

    Attributes:
        sources: One object of each of them.
        problem: What was wrong with what was measured for the last frame, one line; "" = nothing.
    """

    def __init__(self, sources: Sequence[type[DistanceSource]] = SOURCES) -> None:
        self._lock = threading.Lock()
        self._calibration = Calibration()
        self.sources: tuple[DistanceSource, ...] = tuple(source() for source in sources)
        self.problem = ""

    def source(self, kind: type[Source]) -> Source:
        """The source of that class. Raises LookupError where there is none."""
        for source in self.sources:
            if isinstance(source, kind):
                return source
        raise LookupError(f"there is no {kind.__name__} among the sources of this calibrator")

    def configure(self, values: Mapping[str, Any], memory_s: float) -> None:
        """Apply parameters, which have been checked.

        Args:
            values: The parameters of the sources by name.
            memory_s: Time after which a sample counts 1/e of a new one, in seconds, > 0.
        """
        for source in self.sources:
            source.configure(values)
        with self._lock:
            self._calibration.memory = memory_s

    def expect(self, stamp: Time) -> None:
        """An image of this stamp is about to be processed: hold on to what was measured with it."""
        for source in self.sources:
            source.expect(stamp)

    def update(self, frame: FrameContext) -> None:
        """Learn from the objects in view of an image. What one source lacks does not keep the others from teaching."""
        measurements: list[Measurement] = []
        problems: list[str] = []
        for source in self.sources:
            try:
                measurements += source.measure(frame)
            except ProxqaError as error:
                problems.append(one_line(error))
        time_s = seconds(frame.header.stamp)
        with self._lock:
            for d, distance, stddev in measurements:
                self._calibration.add(time_s, d.depth, d.depth_stddev, distance, stddev)
        self.problem = "; ".join(dict.fromkeys(problems))

    def annotate(self, header: Header, objects: Sequence[ObjectDepth]) -> tuple[ObjectDepth, ...]:
        """The objects of an image with their distances, as far as the calibration is trusted.

        Args:
            header: The image's own header.
            objects: The objects; those not in view get no distance.
        """
        time_s = seconds(header.stamp)
        with self._lock:
            return tuple(self._annotated(time_s, d) for d in objects)

    def state(self) -> CalibrationState:
        """How far the calibration has got."""
        with self._lock:
            return self._calibration.state()

    def reset(self) -> None:
        """Drop what was learned: from now on the depths are another model's."""
        with self._lock:
            self._calibration.reset()

    def clear(self) -> None:
        """Drop what was received and what was learned."""
        for source in self.sources:
            source.clear()
        self.reset()
        self.problem = ""

    def _annotated(self, time_s: float, d: ObjectDepth) -> ObjectDepth:
        if not d.is_answered:
            return d
        distance, stddev = self._calibration.distance(time_s, d.depth, d.depth_stddev)
        return replace(d, distance=distance, distance_stddev=stddev)
