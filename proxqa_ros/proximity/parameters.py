"""The node's parameters: declared once, read as one frozen value, checked before they change.

Promises: `config/proximity.yaml` names every parameter declared here with its default (a test compares the two), and a
change is either applied or refused with the reason. Knows nothing of what the node does with them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rclpy.node import Node
from rclpy.parameter import Parameter

from proxqa_core.errors import BadObjectError
from proxqa_core.types import ObjectQuery
from proxqa_ros.common.parameters import BadParameterError, Spec, named_objects
from proxqa_ros.distance import known_sizes
from proxqa_ros.distance.scan import BadScanError, CameraPose
from proxqa_ros.proximity import detections

TRANSPORTS = ("raw", "compressed")


SPECS: dict[str, Spec] = {
    "model": Spec("default", "'default' (embedded), a Hugging Face LLaVA id, or a local folder."),
    "adapter": Spec("", "Folder of an adapter (LoRA and projector); '' = the model's own, 'none' = none."),
    "adapters_folder": Spec("", "Folder of the adapters that load_adapter may load; '' = none may be loaded."),
    "device": Spec("auto", "Where the model runs: auto, cpu, cuda or cuda:N."),
    "objects": Spec(
        ["person", "chair", "table", "door"],
        "Names of the objects whose depths are published, at most 64; [''] = none.",
        live=True,
    ),
    "use_detections": Spec(
        False, "Names and boxes come with vision_msgs/Detection2DArray on `detections`, not from objects.", live=True
    ),
    "detection_min_score": Spec(0.5, "Least score of a detection that is used.", 0.0, 1.0, live=True),
    "rate": Spec(
        0.0, "Most messages per second on object_depths, Hz; 0 = as fast as possible.", 0.0, 1000.0, live=True
    ),
    "image_transport": Spec("raw", "What to subscribe to: raw (image) or compressed (image/compressed)."),
    "max_image_age": Spec(
        5.0, "Oldest image a query may be answered from, seconds; 0 = any age.", 0.0, 86400.0, live=True
    ),
    # read_only: the number of the executor's threads follows from it
    "max_queued_queries": Spec(
        8, "Most queries in work and waiting; one more is answered BUSY.", 1, 64, read_only=True
    ),
    "query_timeout": Spec(30.0, "Longest a query may take, seconds; then TIMEOUT.", 0.1, 3600.0, live=True),
    "adapter_timeout": Spec(60.0, "Longest load_adapter may take, seconds; then TIMEOUT.", 0.1, 3600.0, live=True),
    "sync_tolerance": Spec(
        0.05, "Most seconds between an image and what is measured or detected beside it.", 0.0, 10.0, live=True
    ),
    "range_object": Spec(
        "", "Name of the object that the range sensor points at; '' = the one in the middle of the image.", live=True
    ),
    "camera_in_scan": Spec(
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        "Camera's pose in the laser scanner's frame: x ahead, y left, z up in m (-100 to 100); "
        "roll, pitch, yaw in rad (-3.1416 to 3.1416).",
        live=True,
    ),
    "scan_objects": Spec([""], "Names of the objects that the laser scan measures; [''] = all.", live=True),
    "known_sizes": Spec(
        [""], "True heights of objects, such as 'door: 2.0', in metres, 0.01 to 100; [''] = none.", live=True
    ),
    "calibration_memory": Spec(
        60.0, "Seconds after which a true distance counts 1/e of a new one.", 1.0, 3600.0, live=True
    ),
    "image_rectified": Spec(False, "The image is rectified: camera_info's P holds, not K and D.", live=True),
    "publish_debug_image": Spec(True, "Publish ~/debug/image while someone subscribes to it.", live=True),
    "autostart": Spec(True, "Configure and activate on start.", read_only=True),
}


@dataclass(frozen=True)
class Parameters:
    """The values of all parameters at one moment. Units and ranges as in SPECS."""

    model: str
    adapter: str
    adapters_folder: str
    device: str
    objects: tuple[str, ...]
    use_detections: bool
    detection_min_score: float
    rate: float
    image_transport: str
    max_image_age: float
    max_queued_queries: int
    query_timeout: float
    adapter_timeout: float
    sync_tolerance: float
    range_object: str
    camera_in_scan: tuple[float, ...]
    scan_objects: tuple[str, ...]
    known_sizes: tuple[str, ...]
    calibration_memory: float
    image_rectified: bool
    publish_debug_image: bool
    autostart: bool


def read(node: Node) -> Parameters:
    """The parameters as they are now, `objects` unchecked (see `named_objects`).

    Raises BadParameterError with one line where one cannot be used.
    """
    values = {name: node.get_parameter(name).value for name in SPECS}
    for name, value in values.items():
        if name != "objects":
            _check(name, value)
    for name, spec in SPECS.items():
        if isinstance(spec.default, list):
            values[name] = tuple(values[name] or ())
    return Parameters(**values)


def _check(name: str, value: Any) -> None:
    """Raise BadParameterError where the value cannot be used; ranges of numbers are rclpy's own check."""
    if name in ("objects", "scan_objects"):
        named_objects(value, name)
    elif name == "use_detections" and value and detections.Detection2DArray is None:
        raise BadParameterError(f"parameter 'use_detections' is true, but {detections.NOT_INSTALLED}")
    elif name in ("camera_in_scan", "known_sizes"):
        try:
            CameraPose.of(value or ()) if name == "camera_in_scan" else known_sizes.parse(value or ())
        except (BadScanError, BadObjectError) as error:
            raise BadParameterError(f"parameter {name!r}: {error}") from error
    elif name == "image_transport" and value not in TRANSPORTS:
        raise BadParameterError(f"parameter 'image_transport' is {value!r}; expected one of {', '.join(TRANSPORTS)}")
    elif name in ("model", "device") and not value.strip():
        raise BadParameterError(f"parameter {name!r} is empty; the default is {SPECS[name].default!r}")
    elif name == "range_object" and value:
        try:
            ObjectQuery(value)
        except BadObjectError as error:
            raise BadParameterError(f"parameter 'range_object': {error}") from error
    elif isinstance(value, float) and not math.isfinite(value):
        raise BadParameterError(f"parameter {name!r} is {value}; expected a finite number")


def refusal(changes: Sequence[Parameter], configured: bool) -> str:
    """Why these changes cannot be made, one line; '' where they can. Foreign parameters are not judged."""
    for change in changes:
        spec = SPECS.get(change.name)
        if spec is None:
            continue
        if configured and not spec.live:
            hint = "; load_adapter changes adapters while the node runs" if change.name == "adapter" else ""
            return (
                f"parameter {change.name!r} is read when the node is configured; "
                f"clean the node up, set it, then configure and activate again{hint}"
            )
        try:
            _check(change.name, change.value)
        except BadParameterError as error:
            return str(error)
    return ""
