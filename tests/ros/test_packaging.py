"""One package, three descriptions of it: package.xml, setup.py, CMakeLists.txt must agree."""

from __future__ import annotations

import ast
import json
import re
import xml.etree.ElementTree as ET

import proxqa_core

LAUNCH = {"ament_index_python", "launch", "launch_ros"}
"""ROS packages that have no wheel: the launch file alone uses them, in a distro."""


def test_one_version(root):
    assert ET.parse(root / "package.xml").findtext("version") == proxqa_core.__version__


def test_one_oldest_python(root):
    oldest = re.search(r'python_requires=">=(\d+\.\d+)"', (root / "setup.py").read_text()).group(1)
    major, minor = oldest.split(".")
    assert f"sys.version_info < ({major}, {minor})" in (root / "Makefile").read_text()
    assert f'target-version = "py{major}{minor}"' in (root / "pyproject.toml").read_text()
    assert f"Python {oldest} to" in (root / "README.md").read_text()


def test_build_requirements_are_the_same_twice(root):
    text = (root / "pyproject.toml").read_text()
    wanted = re.findall(r'"([^"]+)"', text[text.index("requires = [") : text.index("\n]\n")])
    listed = [x for x in (root / "requirements/build.txt").read_text().splitlines() if x and not x.startswith("#")]
    assert wanted == listed


def imported(file):
    """Top-level names of the modules that a file imports."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split(".")[0]


def test_every_ros_package_that_is_imported_is_required(root):
    files = [*(root / "proxqa_ros").glob("*.py"), *(root / "launch").glob("*.py")]
    modules = {name for file in files for name in imported(file)}
    ros = {m for m in modules if m in LAUNCH or m.startswith("rcl") or m.endswith(("_msgs", "_interfaces", "_srvs"))}
    required = {e.text for e in ET.parse(root / "package.xml").getroot() if e.tag in ("depend", "exec_depend")}
    assert len(ros) > 8 and ros <= required


def test_every_command_is_installed_either_way(root):
    cmake, setup = (root / "CMakeLists.txt").read_text(), (root / "setup.py").read_text()
    for name in ("proxqa", "proximity_node", "replay_evaluation", "speed_governor"):
        script = root / "scripts" / name
        assert script.stat().st_mode & 0o111, f"{name} cannot be executed"
        assert re.search(rf"install\(PROGRAMS [^)]*scripts/{name}\b[^)]* DESTINATION lib/", cmake)
        (module,) = (m for m in imported(script) if m.startswith("proxqa"))
        assert re.search(rf'"{name} = {module}\.\w+:main"', setup)
    assert "install(PROGRAMS scripts/proxqa DESTINATION bin)" in cmake


def test_the_adapter_in_the_box_names_no_folder_of_a_machine(root):
    config = json.loads((root / "proxqa_core/assets/default/adapter_config.json").read_text())
    assert config["base_model_name_or_path"] is None


def test_every_interface_is_built(root):
    cmake = (root / "CMakeLists.txt").read_text()
    built = set(re.findall(r'"((?:msg|srv|action)/\w+\.\w+)"', cmake))
    assert built == {p.relative_to(root).as_posix() for d in ("msg", "srv", "action") for p in (root / d).glob("*.*")}


def test_base_weights_are_pinned_by_hash(root):
    text = (root / "requirements/base-weights.txt").read_text().replace("\\\n", " ")
    lines = [x for x in text.splitlines() if x and not x.startswith("#")]
    assert lines and all(re.fullmatch(r"[\w-]+==[\d.]+(\s+--hash=sha256:[0-9a-f]{64})+", x) for x in lines)


def test_constraints_pin_exactly_and_cover_what_is_required(root):
    lines = [x for x in (root / "requirements/lock.txt").read_text().splitlines() if x and not x.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", x) for x in lines)
    pinned = {x.split("==")[0].lower().replace("_", "-") for x in lines}
    text = (root / "setup.py").read_text()
    required = re.findall(r'"([\w-]+)[^"]*",', text[text.index("RUN_TIME = [") : text.index("]\n\n\ndef")])
    assert len(required) > 10 and set(required) <= pinned
