"""The launch file. The `launch` packages have no wheel: the parts that need them run in a ROS distro only."""

from __future__ import annotations

import ast
import xml.etree.ElementTree as ET

import pytest

ARGUMENTS = {
    *("params_file", "namespace", "image", "depth", "range", "scan", "camera_info", "detections", "model", "adapter"),
    *("autostart", "use_sim_time", "log_level"),
}


def test_arguments_are_declared(root):
    tree = ast.parse((root / "launch/proximity.launch.py").read_text())
    declared = {
        node.args[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "DeclareLaunchArgument"
    }
    assert declared == ARGUMENTS


def test_profile_is_well_formed(root):
    space = "{http://www.eprosima.com}"
    profile = ET.parse(root / "config/fastdds_shm.xml").getroot()
    declared = [e.text for t in profile.iter(f"{space}transport_descriptor") for e in t.iter(f"{space}transport_id")]
    used = [e.text for u in profile.iter(f"{space}userTransports") for e in u]
    assert declared == used and len(used) == 2


def test_description_is_made(root):
    pytest.importorskip("launch_ros", reason="launch_ros has no wheel; this runs in a ROS distro")
    import launch
    from launch.launch_description_sources import get_launch_description_from_python_launch_file

    description = get_launch_description_from_python_launch_file(str(root / "launch/proximity.launch.py"))
    assert {a.name for a in description.get_launch_arguments()} == ARGUMENTS
    context = launch.LaunchContext()
    for argument in description.get_launch_arguments():
        argument.execute(context)
    nodes = [n for e in description.entities if hasattr(e, "execute") for n in e.execute(context) or []]
    assert any(type(n).__name__ == "LifecycleNode" for n in nodes)
