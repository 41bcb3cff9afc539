"""Parameters as people write them in YAML: taken as they are meant, or refused with what to write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import rclpy
from rclpy.context import Context
from rclpy.exceptions import ParameterException

from proxqa_core.errors import ProxqaError, reason_of
from proxqa_ros.common.parameters import named_objects
from proxqa_ros.common.start import init_ros
from proxqa_ros.proximity.node import ProximityNode
from proxqa_ros.proximity.parameters import Parameters

TAKEN: list[tuple[str, Any]] = [
    ("max_image_age: 0", 0.0),
    ("objects: []", [""]),
    ("objects: [chair, door]", ["chair", "door"]),
    ("rate: 5", 5.0),
    ("rate: 1e2", 100.0),
    ("sync_tolerance: 0", 0.0),
    ("max_queued_queries: 4.0", 4),
    ("camera_in_scan: [0, 0, 0, 0, 0, 0]", [0.0] * 6),
    ("known_sizes: []", [""]),
    ("known_sizes: ['door: 2']", ["door: 2"]),
    ("scan_objects: []", [""]),
    ("class_names: [person, chair]", ["person", "chair"]),
    ("class_names: ['0: person']", ["0: person"]),
    ("class_names: []", [""]),
    ("adapter: ''", ""),
    ("detection_min_score: 1", 1.0),
    ("autostart: off", False),
    ("depth_transport: compressedDepth", "compressedDepth"),
    ("calibration_memory: 60", 60.0),
]
REFUSED = [
    ("max_queued_queries: 4.5", "'max_queued_queries' is 4.5; expected a whole number"),
    ("objects: chair", 'expected a list of texts, such as ["chair", "door"]; none is [""]'),
    ("objects: [1, 2]", "expected a list of texts"),
    ("objects: null", "expected a list of texts"),
    ("camera_in_scan: []", "expected 6 numbers"),
    ("camera_in_scan: [0, 0, 0.4, 0, 0, 0]", "line 4: a list has values of several kinds"),
    ("objects: ['chair', 3]", "line 4: a list has values of several kinds"),
    ("objects:", "line 4: a parameter has no value"),
    ("known_sizes: {door: 2.0}", "'known_sizes' is a table; expected a list of texts, such as [\"door: 2.0\"]"),
    ("class_names: {0: person, 56: chair}", 'such as ["0: person", "56: chair"]'),
    ("class_names: [0: person]", 'such as ["0: person"]'),
    ("class_names: ['0: person', chair]", "'chair' among numbered names"),
    ("use_detections: 'true'", "expected true or false"),
    ("use_detections: 1", "expected true or false"),
    ("image_transport: Compressed", "expected one of raw, compressed"),
    ("depth_transport: rvl", "expected one of raw, compressed, compressedDepth"),
    ("device: 0", "expected a text; quote numbers"),
    ("adapter: null", "'adapter' is null, which ROS has no value for; expected a text"),
    ("adapter: ~", "expected a text"),
    ("max_image_age: -1", "out of range"),
    ("max_image_age: .nan", "out of range"),
    ("max_image_age: 5s", "expected a number, such as 5.0"),
    ("detection_min_score: 50", "out of range"),
    ("publish_debug_image: 0", "expected true or false"),
]


def started(file: Path, text: str, capfd: pytest.CaptureFixture[str]) -> Any:
    """The value that a node which was started with this line of YAML has; the one line that refuses it."""
    autostart = "" if text.startswith("autostart") else "    autostart: false\n"
    file.write_text(f"/**:\n  ros__parameters:\n{autostart}    {text}\n")
    context = Context()
    if not init_ros("proximity_node", ["--ros-args", "--params-file", str(file)], context=context):
        lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("proximity_node: ")]
        assert len(lines) == 1
        return lines[0]
    try:
        node = ProximityNode(engine_loader=lambda *_: None, context=context)  # type: ignore[arg-type, return-value]
        try:
            Parameters.read(node, node._specs).check(node._specs)
            named_objects(node.get_parameter("objects").value)
            return node.get_parameter(text.partition(":")[0]).value
        finally:
            node.destroy_node()
    except (ParameterException, ProxqaError) as error:
        return reason_of(error)
    finally:
        rclpy.try_shutdown(context=context)


@pytest.mark.parametrize(("text", "value"), TAKEN)
def test_what_is_meant_is_taken(tmp_path, capfd, text, value):
    found = started(tmp_path / "params.yaml", text, capfd)
    found = list(found) if isinstance(value, list) else found
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(("text", "said"), REFUSED)
def test_what_cannot_be_taken_is_told_what_to_write(tmp_path, capfd, text, said):
    found = started(tmp_path / "params.yaml", text, capfd)
    assert isinstance(found, str) and said in found and "\n" not in found
