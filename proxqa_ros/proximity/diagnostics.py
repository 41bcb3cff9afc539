"""The node's diagnostic status: its values, and the first thing that is wrong.

Promises: what needs a person's attention is the message; everything else is among the values.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from proxqa_core.types import clean_text
from proxqa_core.vision.image_health import ImageHealth
from proxqa_ros.common import shared_memory
from proxqa_ros.common.shared_memory import SharedMemoryState
from proxqa_ros.common.stamps import NS_PER_S, nanoseconds
from proxqa_ros.proximity import detections, markers
from proxqa_ros.proximity.arrivals import ArrivalCounts
from proxqa_ros.proximity.shared import SharedState
from proxqa_ros.proximity.worker import Counts, Worker

RUNTIME = ("backend", "vision_encoder", "language_model")
"""What an engine says of what runs it."""
NOTHING_WRONG = SharedMemoryState(in_use=True, text="")

NOTHING_CAME = ArrivalCounts()


@dataclass(frozen=True)
class Snapshot:
    """What the checks look at.

    Args:
        state: The node's lifecycle state.
        fault: Why the last transition failed.
        active: The node is active.
        loaded: The node has a model.
        counts: Frames and queries so far.
        rate_hz: Messages on `object_depths` per second since the snapshot before.
        new_troubles: Frames that were bad or failed since the snapshot before.
        image_age_s: Age of the newest image in seconds, negative = ahead of the clock, NaN = there is none.
        max_image_age_s: Greatest age that a query accepts in seconds, 0 = any.
        qos_problems: Publishers and subscribers that do not fit the node.
        use_detections: Objects come from a detector.
        detections_matched: Detections that have been matched with an image.
        detections_problem: What was wrong with the last detections.
        calibration_problem: What was wrong with what was measured for the last frame.
        camera_problem: Why there are no markers.
        image_hint: Why no image may come: where images are published, or what may keep out those that are.
        image_loss: That only some of the published images come, and what to do.
        arrivals: Which of the published images come.
        image_problem: Why the last published image shows nothing.
        unknown_parameters: Parameters that were given but are not the node's, one line each.
        unmatched_remaps: Remappings that match none of the node's names, one line each.
        shared_memory: Whether the process has shared memory.
    """

    state: str
    fault: str = ""
    active: bool = False
    loaded: bool = False
    counts: Counts = field(default_factory=Counts)
    rate_hz: float = 0.0
    new_troubles: int = 0
    image_age_s: float = math.nan
    max_image_age_s: float = 0.0
    qos_problems: Sequence[str] = ()
    use_detections: bool = False
    detections_matched: int = 0
    detections_problem: str = ""
    calibration_problem: str = ""
    camera_problem: str = ""
    image_problem: str = ""
    image_hint: str = ""
    image_loss: str = ""
    arrivals: ArrivalCounts = NOTHING_CAME
    unknown_parameters: Sequence[str] = ()
    unmatched_remaps: Sequence[str] = ()
    shared_memory: SharedMemoryState = NOTHING_WRONG


def _frames_not_used(s: Snapshot) -> str:
    return f"{s.new_troubles} frames not used: {s.counts.last_error}" if s.new_troubles > 0 else ""


def _incompatible_qos(s: Snapshot) -> str:
    return s.qos_problems[0] if s.qos_problems else ""


def _bad_detections(s: Snapshot) -> str:
    return s.detections_problem if s.use_detections else ""


def _no_detections(s: Snapshot) -> str:
    missing = s.use_detections and not s.detections_matched
    return "no detections have come that belong to an image" if missing else ""


def _no_shared_memory(s: Snapshot) -> str:
    return "" if s.shared_memory.in_use else s.shared_memory.problem


def _little_shared_memory(s: Snapshot) -> str:
    return s.shared_memory.problem


def _unknown_parameter(s: Snapshot) -> str:
    return s.unknown_parameters[0] if s.unknown_parameters else ""


def _unmatched_remap(s: Snapshot) -> str:
    return s.unmatched_remaps[0] if s.unmatched_remaps else ""


def _no_image(s: Snapshot) -> str:
    if not math.isnan(s.image_age_s):
        return ""
    return f"no usable image has arrived yet{s.image_hint}"


def _image_of_another_time(s: Snapshot) -> str:
    limit_s, age_s = s.max_image_age_s, s.image_age_s
    which = "the newest image with detections" if s.use_detections else "the newest image"
    if 0 < limit_s < age_s:
        return f"{which} is {age_s:.1f} s old{s.image_hint}"
    return f"{which} is stamped {-age_s:.1f} s ahead of the clock" if 0 < limit_s < -age_s else ""


def _images_lost(s: Snapshot) -> str:
    return s.image_loss


def _blind(s: Snapshot) -> str:
    return s.image_problem


def _nothing_learned(s: Snapshot) -> str:
    return f"no metres learned: {s.calibration_problem}" if s.calibration_problem else ""


def _no_markers(s: Snapshot) -> str:
    return f"no markers: {s.camera_problem}" if s.camera_problem else ""


CHECKS: tuple[Callable[[Snapshot], str], ...] = (
    _frames_not_used,
    _incompatible_qos,
    _bad_detections,
    _no_detections,
    _no_shared_memory,
    _unmatched_remap,
    _no_image,
    _image_of_another_time,
    _images_lost,
    _blind,
    _nothing_learned,
    _no_markers,
    _unknown_parameter,
    _little_shared_memory,
)
"""What may be wrong with an active node, the most important first; each returns one line, "" = nothing."""


def verdict(s: Snapshot) -> tuple[bytes, str]:
    """The level and the message of a status."""
    if s.fault:
        return DiagnosticStatus.ERROR, s.fault
    if not s.loaded:
        return DiagnosticStatus.WARN, f"{s.state}: no model is loaded"
    if s.active:
        for check in CHECKS:
            if problem := check(s):
                return DiagnosticStatus.WARN, problem
    return DiagnosticStatus.OK, s.state


class Diagnostics:
    """Makes one status after the other.

    Args:
        shared: What the node's parts share.
        clock: Seconds of a steady clock.
        bond: Tells the state of the bond with a lifecycle manager.
    """

    def __init__(
        self,
        shared: SharedState,
        clock: Callable[[], float] = time.perf_counter,
        bond: Callable[[], str] = lambda: "",
    ) -> None:
        self._shared, self._clock, self._bond = shared, clock, bond
        self._previous = (clock(), 0, 0)  # time in seconds, frames published, bad or failed frames

    def status(
        self,
        name: str,
        qos_problems: Sequence[str],
        image_hint: str = "",
        image_loss: str = "",
        arrivals: ArrivalCounts = NOTHING_CAME,
    ) -> DiagnosticStatus:
        """The status now.

        Args:
            name: The status's name.
            qos_problems: Publishers and subscribers that do not fit the node, one line each.
            image_hint: See `Snapshot`.
            image_loss: See `Snapshot`.
            arrivals: See `Snapshot`.
        """
        worker = self._shared.worker
        snapshot = self._snapshot(worker, qos_problems)
        snapshot = replace(snapshot, image_hint=image_hint, image_loss=image_loss, arrivals=arrivals)
        level, message = verdict(snapshot)
        values = {**self._node_values(snapshot), **self._sensing_values(), "qos_problems": "; ".join(qos_problems)}
        if worker is not None:
            values |= _frame_values(snapshot, worker)
        return DiagnosticStatus(
            level=level, name=name, message=message, values=[KeyValue(key=k, value=v) for k, v in values.items()]
        )

    def _snapshot(self, worker: Worker | None, qos_problems: Sequence[str]) -> Snapshot:
        shared = self._shared
        snapshot = Snapshot(
            state=shared.lifecycle_state(),
            fault=shared.fault,
            active=shared.active,
            loaded=worker is not None,
            max_image_age_s=shared.parameters.max_image_age,
            qos_problems=qos_problems,
            use_detections=shared.parameters.use_detections,
            detections_matched=shared.detections.matched,
            detections_problem=shared.detections.problem,
            calibration_problem=shared.calibrator.problem,
            camera_problem=shared.camera_problem,
            image_problem=shared.image_health.problem if shared.image_health.status else "",
            unknown_parameters=shared.unknown_parameters,
            unmatched_remaps=shared.unmatched_remaps,
            shared_memory=shared_memory.state(),
        )
        return snapshot if worker is None else self._with_frames(snapshot, worker)

    def _with_frames(self, snapshot: Snapshot, worker: Worker) -> Snapshot:
        counts, header, now_s = worker.counts(), worker.newest_header(), self._clock()
        troubles = counts.bad + counts.failed
        previous_s, previously_published, previous_troubles = self._previous
        self._previous = (now_s, counts.published, troubles)
        age_s = math.nan if header is None else (self._shared.now_ns() - nanoseconds(header.stamp)) / NS_PER_S
        return replace(
            snapshot,
            counts=counts,
            rate_hz=max(0, counts.published - previously_published) / max(now_s - previous_s, 1e-6),
            new_troubles=troubles - previous_troubles,
            image_age_s=age_s,
        )

    def _node_values(self, snapshot: Snapshot) -> dict[str, str]:
        shared, worker = self._shared, self._shared.worker
        engine = {} if worker is None else worker.engine_info
        return {
            "state": snapshot.state,
            "model": shared.model_name,
            **{key: str(engine[key]) for key in ("device", "dtype", *RUNTIME) if engine.get(key) is not None},
            "adapter": clean_text(str(engine.get("adapter") or "none")) if engine else "",
            "adapter_loaded": shared.adapter_in_use,
            "enabled": str(shared.enabled).lower(),
            "objects": ", ".join(q.name for q in shared.objects or ()),
            "unknown_parameters": "; ".join(snapshot.unknown_parameters),
            "unmatched_remaps": "; ".join(snapshot.unmatched_remaps),
            "shared_memory": snapshot.shared_memory.text,
            "bond": self._bond(),
        }

    def _sensing_values(self) -> dict[str, str]:
        shared, state = self._shared, self._shared.calibrator.state()
        installed = detections.Detection2DArray is not None
        return {
            "calibration": f"{'trusted' if state.trusted else 'not trusted'}: {state.reason}",
            "calibration_samples": f"{state.samples:.1f}",
            "calibration_spread": f"{state.spread:.2f}",
            "calibration_inliers": f"{state.inliers:.2f}",
            "calibration_error": f"{state.error:.3f}",
            **{source.counter: str(source.received) for source in shared.calibrator.sources if source.counter},
            **_health_values(shared.image_health),
            "transforms": shared.transforms.status,
            "detections_received": str(shared.detections.received),
            "detections_matched": str(shared.detections.matched),
            "detections": shared.detections.problem if installed else detections.NOT_INSTALLED,
            "markers": markers.NOT_INSTALLED if markers.MarkerArray is None else shared.camera_problem,
        }


def _health_values(health: ImageHealth) -> dict[str, str]:
    """What the last published image was like."""
    return {
        "image_health": health.status.name.lower(),
        "image_exposure": f"{health.exposure:.3f}",
        "image_contrast": f"{health.contrast:.3f}",
        "image_sharpness": f"{health.sharpness:.3f}",
        "image_change": f"{health.change:.4f}",
    }


def _arrived(arrivals: ArrivalCounts) -> str:
    """How many of the published images came of late."""
    if not math.isfinite(arrivals.published):
        return f"{arrivals.received} in {arrivals.seconds:.0f} s; how many were published is not known"
    rate = f" ({arrivals.camera_rate_hz:.1f} Hz)" if math.isfinite(arrivals.camera_rate_hz) else ""
    return f"{arrivals.received} of {arrivals.published:.0f} published in {arrivals.seconds:.0f} s{rate}"


def _frame_values(snapshot: Snapshot, worker: Worker) -> dict[str, str]:
    counts = snapshot.counts
    return {
        "rate_hz": f"{snapshot.rate_hz:.2f}",
        "frames_received": str(counts.received),
        "images_arrived": _arrived(snapshot.arrivals),
        "frames_answered": str(counts.answered),
        "frames_dropped": str(counts.dropped),
        "frames_bad": str(counts.bad),
        "frames_failed": str(counts.failed),
        "queries": str(counts.queries),
        "queries_waiting": str(worker.queued()),
        "image_age_s": f"{snapshot.image_age_s:.3f}",
        "last_error": counts.last_error,
    }
