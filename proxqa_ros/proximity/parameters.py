"""The node's parameters: declared once, read as one frozen value, checked before they change.

Promises: `config/proximity.yaml` names every parameter declared here with its default (a test compares the two), and a
change is either applied or refused with the reason. The parameters of the sources of distance are declared by these
(`proxqa_ros.distance`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

from rclpy.node import Node
from rclpy.parameter import Parameter

from proxqa_core.backends.config import BackendConfig, check_backend
from proxqa_core.errors import BadModelError
from proxqa_ros.common.parameters import (
    ALLOW_REMOTE,
    ALLOW_REMOTE_SPEC,
    BadParameterError,
    Spec,
    check_value,
    named_objects,
    refusal_of_locked,
)
from proxqa_ros.distance.registry import SOURCES
from proxqa_ros.distance.source import DistanceSource
from proxqa_ros.proximity import detections

TRANSPORTS = ("raw", "compressed")


def _check_transport(value: str) -> None:
    if value not in TRANSPORTS:
        raise BadParameterError(f"parameter 'image_transport' is {value!r}; expected one of {', '.join(TRANSPORTS)}")


def _check_use_detections(value: bool) -> None:
    if value and detections.Detection2DArray is None:
        raise BadParameterError(f"parameter 'use_detections' is true, but {detections.NOT_INSTALLED}")


def _check_model(value: str) -> None:
    if not value.strip():
        raise BadParameterError("parameter 'model' is empty; the default is 'default'")


def _check_device(value: str) -> None:
    if not value.strip():
        raise BadParameterError("parameter 'device' is empty; the default is 'auto'")


def _check_backend(value: str) -> None:
    try:
        check_backend(value)
    except BadModelError as error:
        raise BadParameterError(f"parameter 'backend': {error}") from error


def specs(sources: Sequence[type[DistanceSource]] = SOURCES) -> dict[str, Spec]:
    """All parameters of a node that has these sources of distance."""
    own: dict[str, Spec] = {}
    for source in sources:
        own |= source.parameters
    return {**_INPUT_AND_MODEL, **own, **_REST}


_INPUT_AND_MODEL: dict[str, Spec] = {
    "model": Spec(
        "default", "'default' (embedded), a Hugging Face LLaVA id, or a local folder.", locked=True, check=_check_model
    ),
    "adapter": Spec("", "Folder of an adapter (LoRA and projector); '' = the model's own, 'none' = none.", locked=True),
    "adapters_folder": Spec(
        "", "Folder of the adapters that load_adapter may load; '' = none may be loaded.", locked=True
    ),
    "allow_model_download": Spec(False, "A model that is not here yet may be fetched from its hub.", read_only=True),
    ALLOW_REMOTE: ALLOW_REMOTE_SPEC,
    "device": Spec("auto", "Where the model runs: auto, cpu, cuda or cuda:N.", check=_check_device),
    "backend": Spec(
        "auto",
        "What runs the model: auto (the fastest that works), torch, openvino or tensorrt.",
        check=_check_backend,
    ),
    "int8": Spec(False, "Language model in 8 bits, where the backend can; depths change by up to 0.03."),
    "objects": Spec(
        ["person", "chair", "table", "door"],
        "Names of the objects whose depths are published, at most 64; [''] = none.",
        live=True,
        check=named_objects,
    ),
    "use_detections": Spec(
        False,
        "Names and boxes come with vision_msgs/Detection2DArray on `detections`, not from objects.",
        live=True,
        check=_check_use_detections,
    ),
    "detection_min_score": Spec(0.5, "Least score of a detection that is used.", 0.0, 1.0, live=True),
    "class_names": Spec(
        [""],
        "Names of a detector's numbers: 'number: name' each, or names from number 0 on; [''] = as LabelInfo says.",
        live=True,
        check=detections.class_names_of,
    ),
    "rate": Spec(
        0.0, "Most messages per second on object_depths, Hz; 0 = as fast as possible.", 0.0, 1000.0, live=True
    ),
    "image_transport": Spec(
        "raw", "What to subscribe to: raw (image) or compressed (image/compressed).", check=_check_transport
    ),
    "max_image_age": Spec(
        5.0, "Oldest image a query may be answered from, seconds; 0 = any age.", 0.0, 86400.0, live=True
    ),
    # read_only: the number of the executor's threads follows from it
    "max_queued_queries": Spec(
        8, "Most queries running and waiting; one more is answered BUSY.", 1, 64, read_only=True
    ),
    "batch_window": Spec(
        0.005, "How long a query waits for others to be answered with in one batch, seconds; 0 = not at all.", 0.0, 1.0
    ),
    "query_timeout": Spec(30.0, "Longest a query may take, seconds; then TIMEOUT.", 0.1, 3600.0, live=True),
    "adapter_timeout": Spec(60.0, "Longest load_adapter may take, seconds; then TIMEOUT.", 0.1, 3600.0, live=True),
    "sync_tolerance": Spec(
        0.05, "Most seconds between an image and what is measured or detected with it.", 0.0, 10.0, live=True
    ),
}
_REST: dict[str, Spec] = {
    "calibration_memory": Spec(
        60.0, "Seconds after which a true distance counts 1/e of a new one.", 1.0, 3600.0, live=True
    ),
    "image_rectified": Spec(False, "The image is rectified: camera_info's P holds, not K and D.", live=True),
    "publish_debug_image": Spec(True, "Publish ~/debug/image while someone subscribes to it.", live=True),
    "bond_heartbeat_period": Spec(0.0, "Seconds between heartbeats of a bond; 0 = no bond.", 0.0, 10.0, read_only=True),
    "autostart": Spec(True, "Configure and activate on start.", read_only=True),
}
SPECS = specs()
"""All parameters of the node as it is."""


@dataclass(frozen=True)
class Parameters:
    """The values of all parameters at one moment, with units and ranges as in `SPECS`.

    Args:
        sources: Those of the sources of distance by name. The others have the names of their parameters.
    """

    model: str
    adapter: str
    adapters_folder: str
    allow_model_download: bool
    allow_remote_reconfiguration: bool
    device: str
    backend: str
    int8: bool
    objects: tuple[str, ...]
    use_detections: bool
    detection_min_score: float
    class_names: tuple[str, ...]
    rate: float
    image_transport: str
    max_image_age: float
    max_queued_queries: int
    batch_window: float
    query_timeout: float
    adapter_timeout: float
    sync_tolerance: float
    sources: Mapping[str, Any]
    calibration_memory: float
    image_rectified: bool
    publish_debug_image: bool
    bond_heartbeat_period: float
    autostart: bool

    @classmethod
    def read(cls, node: Node, described: Mapping[str, Spec]) -> Parameters:
        """The parameters of a node as they are now, unchecked.

        Args:
            node: The node that has declared them.
            described: All of them; see `specs`.
        """
        values = {name: node.get_parameter(name).value for name in described}
        for name, spec in described.items():
            if isinstance(spec.default, list):
                values[name] = tuple(values[name] or ())
        own = {field.name: values.pop(field.name) for field in fields(cls) if field.name in values}
        return cls(sources=MappingProxyType(values), **own)

    @property
    def backend_config(self) -> BackendConfig:
        """What is to run the model."""
        return BackendConfig(self.backend, self.int8)

    def check(self, described: Mapping[str, Spec]) -> None:
        """Raise BadParameterError, one line, where a value cannot be used; `objects`, which may have regions, aside."""
        for name, spec in described.items():
            if name != "objects":
                check_value(name, spec, self.sources[name] if name in self.sources else getattr(self, name))


def refusal(
    changes: Sequence[Parameter],
    configured: bool,
    described: Mapping[str, Spec] = SPECS,
    locked: bool = False,
    allowed: bool = False,
) -> str:
    """Why changes of parameters cannot be made.

    Args:
        changes: The parameters with their new values; those of others are not judged.
        configured: The node is configured.
        described: The node's parameters.
        locked: The node was configured before, whether or not it still is.
        allowed: It was started with `allow_remote_reconfiguration`.

    Returns:
        One line; "" where they can be made.
    """
    others = "; load_adapter changes adapters while the node runs"
    if locked and (reason := refusal_of_locked(changes, described, allowed)):
        return reason + (others if "'adapter'" in reason else "")
    for change in changes:
        spec = described.get(change.name)
        if spec is None:
            continue
        if configured and not spec.live:
            hint = others if change.name == "adapter" else ""
            return (
                f"parameter {change.name!r} is read when the node is configured; "
                f"clean the node up, set it, then configure and activate again{hint}"
            )
        try:
            check_value(change.name, spec, change.value)
        except BadParameterError as error:
            return str(error)
    return ""
