"""The launch files, as the real `launch` reads and runs them.

Neither `launch` nor `launch_ros` has a wheel (the `launch` on PyPI is another program): what needs them runs in a ROS
distro only; the rest reads the files.
"""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET

import domain_coordinator
import pytest
import rclpy
import yaml
from rclpy.context import Context

from tests.ros.conftest import wait_until

SHARED = {"params_file", "namespace", "model", "adapter", "device", "autostart", "use_sim_time", "log_level"}
TOPICS = {"image", "depth", "range", "scan", "camera_info", "detections", "label_info"}
ARGUMENTS = {
    "proximity.launch.py": SHARED | TOPICS | {"rviz", "rviz_config", "rviz_frame"},
    "multi_camera.launch.py": SHARED | TOPICS | {"cameras"},
}
RUN = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
file, *given = sys.argv[1:]
arguments = [tuple(g.split(":=", 1)) for g in given]
service = LaunchService()
source = PythonLaunchDescriptionSource(file)
service.include_launch_description(
    LaunchDescription([IncludeLaunchDescription(source, launch_arguments=arguments)]))
sys.exit(service.run())
"""


@pytest.fixture
def launch():
    pytest.importorskip("launch_ros", reason="launch_ros has no wheel; this runs in a ROS distro")
    return pytest.importorskip("launch", reason="launch has no wheel; this runs in a ROS distro")


def described(launch, root, name, **given):
    """(context, everything that the file wants started), with these arguments given."""
    from launch.launch_description_sources import get_launch_description_from_python_launch_file

    context = launch.LaunchContext()
    context.launch_configurations.update(given)
    found, waiting = [], [get_launch_description_from_python_launch_file(str(root / "launch" / name))]
    while waiting:
        entity = waiting.pop(0)
        found.append(entity)
        if type(entity).__name__.endswith("Node"):
            continue  # not started
        waiting = [*(entity.visit(context) or []), *waiting]
    return context, found


def of_kind(entities, name):
    return [e for e in entities if type(e).__name__ == name]


def text(context, value):
    from launch.utilities import normalize_to_list_of_substitutions, perform_substitutions

    return perform_substitutions(context, normalize_to_list_of_substitutions(value))


def given_to(context, node):
    """The parameters that a node gets beside those of its file."""
    parts = [part for part in node._Node__parameters if isinstance(part, dict)]
    return {
        text(context, k): v if isinstance(v, bool) else yaml.safe_load(text(context, v))  # text is kept as YAML
        for part in parts
        for k, v in part.items()
    }


def test_profile_is_well_formed(root):
    space = "{http://www.eprosima.com}"
    profile = ET.parse(root / "config/fastdds_shm.xml").getroot()
    declared = [e.text for t in profile.iter(f"{space}transport_descriptor") for e in t.iter(f"{space}transport_id")]
    used = [e.text for u in profile.iter(f"{space}userTransports") for e in u]
    assert declared == used and len(used) == 2


def test_arguments_are_declared(root):
    tree = ast.parse((root / "launch/proximity.launch.py").read_text())
    calls = [
        n for n in ast.walk(tree) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "DeclareLaunchArgument"
    ]
    assert {call.args[0].value for call in calls} == ARGUMENTS["proximity.launch.py"]
    assert all(any(k.arg == "description" for k in call.keywords) for call in calls)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_every_argument_is_declared_and_described(launch, root, name):
    from launch.launch_description_sources import get_launch_description_from_python_launch_file

    arguments = get_launch_description_from_python_launch_file(str(root / "launch" / name)).get_launch_arguments()
    assert {a.name for a in arguments} == ARGUMENTS[name]
    assert all(len(a.description) > 10 for a in arguments)


def test_arguments_reach_the_node(launch, root):
    context, found = described(launch, root, "proximity.launch.py")
    (node,) = of_kind(found, "LifecycleNode")
    assert given_to(context, node) == {}  # the file's hold
    given = {"model": "m", "adapter": "a", "device": "cuda:1", "autostart": "no", "use_sim_time": "true"}
    context, found = described(launch, root, "proximity.launch.py", image="/c/image", **given)
    (node,) = of_kind(found, "LifecycleNode")
    assert given_to(context, node) == {**given, "autostart": False, "use_sim_time": True}
    pairs = {text(context, a): text(context, b) for a, b in node._Node__remappings}
    assert pairs["image"] == "/c/image" and pairs["image/compressed"] == "/c/image/compressed"
    assert pairs["depth"] == "depth" and set(pairs) == TOPICS | {
        "image/compressed",
        "depth/compressed",
        "depth/compressedDepth",
    }
    with pytest.raises(ValueError, match="launch argument autostart is 'perhaps'"):
        described(launch, root, "proximity.launch.py", autostart="perhaps")


def test_rviz_is_started_where_it_is_installed(launch, root, monkeypatch):
    from ament_index_python import packages

    real = packages.get_package_prefix

    def installed(name):
        if name == "rviz2":
            return "/somewhere"
        return real(name)

    def missing(name):
        if name == "rviz2":
            raise packages.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(packages, "get_package_prefix", installed)
    _, found = described(launch, root, "proximity.launch.py")
    assert len(of_kind(found, "Node")) == 0
    context, found = described(launch, root, "proximity.launch.py", rviz="true", rviz_frame="eye", namespace="robot")
    (rviz,) = of_kind(found, "Node")
    assert text(context, rviz.node_package) == "rviz2"
    assert [text(context, a) for a in rviz._Node__arguments][::2] == ["-d", "-f"]
    assert text(context, rviz._Node__node_namespace) == "robot"
    monkeypatch.setattr(packages, "get_package_prefix", missing)
    context, found = described(launch, root, "proximity.launch.py", rviz="true")
    (said,) = of_kind(found, "LogInfo")
    assert "rviz2 is not installed" in text(context, said.msg) and not of_kind(found, "Node")
    assert len(of_kind(found, "LifecycleNode")) == 1


def start(root, domain, name, *arguments):
    """The launch file of this checkout in a process of its own."""
    env = dict(os.environ, ROS_DOMAIN_ID=str(domain), PYTHONPATH=os.pathsep.join([str(root), *sys.path]))
    env["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), env["PATH"]])
    command = [sys.executable, "-c", RUN, str(root / "launch" / name), *arguments]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_several_cameras_run(launch, root):
    with domain_coordinator.domain_id() as domain:
        context = Context()
        rclpy.init(context=context, domain_id=int(domain))
        watcher = rclpy.create_node("watcher", context=context)
        process = start(
            root, domain, "multi_camera.launch.py", "cameras:=front,rear", "autostart:=false", "namespace:=r"
        )
        try:
            wanted = {("proximity", "/r/front"), ("proximity", "/r/rear")}
            seen = wait_until(lambda: wanted <= set(watcher.get_node_names_and_namespaces()))
            services = {name for name, _ in watcher.get_service_names_and_types()}
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=60)
        finally:
            process.kill()
            watcher.destroy_node()
            rclpy.try_shutdown(context=context)
    assert seen, output
    assert {"/r/front/proximity_query", "/r/rear/proximity_query"} <= services
    assert "Traceback" not in output


def test_cameras_that_cannot_be_are_one_line(launch, root):
    process = start(root, 0, "multi_camera.launch.py", "cameras:=front,front")
    output, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    (line,) = (x for x in output.splitlines() if "[ERROR]" in x)
    assert "'front' comes twice" in line
