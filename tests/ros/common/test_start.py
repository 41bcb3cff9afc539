"""What a node's program says before ROS is started, and the Fast DDS profile it takes."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
from rclpy.context import Context

from proxqa_ros.common import dds_profile
from proxqa_ros.common.dds_profile import PROFILE, fastdds_profile, use_fastdds_profile
from proxqa_ros.common.remaps import silent_topic
from proxqa_ros.common.start import HELP_WIDTH, init_ros, said_at_start
from proxqa_ros.governor.node import main as governor
from proxqa_ros.proximity.node import main as proximity
from proxqa_ros.replay.node import main as replay


@pytest.mark.parametrize(
    ("main", "name"), [(proximity, "proximity_node"), (governor, "speed_governor"), (replay, "replay_evaluation")]
)
def test_help_and_version_start_nothing(main: Any, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--version"]) == 0
    assert capsys.readouterr().out.startswith(f"{name} 0.")
    assert main([name, "--help"]) == 0
    said = capsys.readouterr().out
    assert f"usage: {name}" in said and max(map(len, said.splitlines())) <= HELP_WIDTH
    node = importlib.import_module(main.__module__)
    specs = importlib.import_module(main.__module__.replace(".node", ".parameters")).SPECS
    assert all(topic in said for topic in node.NAMES)
    assert all(f"\n  {parameter} (" in said for parameter in specs)


def test_unknown_arguments_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert not said_at_start("node", "about", ["/bin/node", "--ros-args", "-p", "objects:=[chair]"], (), {})
    assert capsys.readouterr().err == ""
    assert not said_at_start("node", "about", ["/bin/node", "--verison", "objects=chair"], (), {})
    first, second = capsys.readouterr().err.splitlines()
    assert "did you mean --version?" in first and "--ros-args -p NAME:=VALUE" in second


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            ["--params-file", "/nowhere.yaml"],
            "the parameter file '/nowhere.yaml' cannot be opened; expected a YAML file",
        ),
        (["-r", "image:=bad//name"], "'-r image:=bad//name' cannot be read; expected OLD:=NEW"),
        (["-p", "rate"], "'-p rate' cannot be read; expected NAME:=VALUE"),
        (["-p", "objects:=[chair"], "'-p objects:=[chair' cannot be read; expected NAME:=VALUE"),
        (["--params-file"], "No file path provided"),
    ],
)
def test_arguments_of_ros_that_cannot_be_read_are_one_line(
    given: list[str], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["/bin/node", "--ros-args", *given]
    assert not said_at_start("node", "about", arguments, (), {})
    assert not init_ros("node", arguments, context=Context())
    (line,) = (line for line in capfd.readouterr().err.splitlines() if not line.startswith("[ERROR]"))  # rcl's own
    assert line.startswith("node: ROS cannot be started: ") and said in line and ".c:" not in line


def test_the_profile_is_found_in_an_environment_of_wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed, started from anywhere, and no setup file was sourced: there is no AMENT_PREFIX_PATH."""
    monkeypatch.delenv("AMENT_PREFIX_PATH", raising=False)
    monkeypatch.setattr(dds_profile, "MODULES", tmp_path / "lib/python3.11/site-packages")
    monkeypatch.setattr(dds_profile.sys, "prefix", str(tmp_path))
    environ: dict[str, str] = {}
    use_fastdds_profile(environ)
    assert environ == {}  # there is none: the node starts without
    profile = tmp_path / "share/proxqa_ros/config/fastdds_shm.xml"
    profile.parent.mkdir(parents=True)
    profile.touch()
    use_fastdds_profile(environ)
    assert environ == {PROFILE: str(profile)}


def test_the_profile_is_taken_where_nothing_else_was_chosen() -> None:
    environ: dict[str, str] = {}
    use_fastdds_profile(environ)
    assert environ == {PROFILE: str(fastdds_profile())}
    for name, value in ((PROFILE, "/own.xml"), ("FASTDDS_BUILTIN_TRANSPORTS", "UDPv4")):
        chosen = {name: value}
        use_fastdds_profile(chosen)
        assert chosen == {name: value}


class Graph:
    """What `silent_topic` asks of a node."""

    def __init__(self, publishers: int) -> None:
        self.publishers = publishers

    def count_publishers(self, topic: str) -> int:
        return self.publishers


def test_a_publisher_of_which_nothing_comes_is_said() -> None:
    said = silent_topic(Graph(2), "/camera", "image", ())  # type: ignore[arg-type]
    assert said.startswith(": /camera has 2 publishers, but no image comes") and "--ipc=host" in said
