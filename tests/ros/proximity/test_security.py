"""What anybody on the ROS network cannot do; docs/security.md names these tests."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lifecycle_msgs.msg import Transition
from rclpy.parameter import Parameter
from safetensors.torch import load_file, save_file

from proxqa_core.errors import BadModelError, ModelNotFoundError
from proxqa_core.model import adapter as adapters
from proxqa_core.model.loading import DEFAULT_ADAPTER, load
from proxqa_ros.common.start import unsecured_warning
from proxqa_ros.replay.node import ReplayEvaluation
from tests.ros.conftest import Graph


def refused(node: Any, name: str, value: Any) -> str:
    result = node.set_parameters([Parameter(name, value=value)])[0]
    assert not result.successful
    return result.reason


def test_files_and_models_are_locked_once_the_node_was_configured(graph: Graph, fake: Any) -> None:
    node = graph.start(lambda *_: fake)
    for step in (None, Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP):
        assert step is None or graph.transition(step)
        for name in ("model", "adapter", "adapters_folder"):
            assert "locked" in refused(node, name, "/etc"), (name, step)
        assert "fixed at start" in refused(node, "use_sim_time", True)
        for name in ("allow_remote_reconfiguration", "allow_model_download"):
            refused(node, name, True)
    assert node.set_parameters([Parameter("device", value="cpu")])[0].successful
    assert graph.transition(Transition.TRANSITION_CONFIGURE)


def test_they_are_open_where_that_was_said_at_start(graph: Graph, fake: Any) -> None:
    node = graph.start(lambda *_: fake, allow_remote_reconfiguration=True)
    assert graph.transition(Transition.TRANSITION_DEACTIVATE) and graph.transition(Transition.TRANSITION_CLEANUP)
    assert node.set_parameters([Parameter("model", value="other")])[0].successful
    assert "fixed at start" in refused(node, "use_sim_time", True)


def test_folders_of_bags_and_reports_are_locked(graph: Graph, tmp_path: Path) -> None:
    overrides = [Parameter("bag_folder", value=str(tmp_path))]
    node = ReplayEvaluation(context=graph.context, parameter_overrides=overrides)
    graph.add(node)
    for name in ("bag_folder", "report_folder"):
        assert "locked" in refused(node, name, "/")
    assert node.set_parameters([Parameter("rate", value=2.0)])[0].successful
    opened = [Parameter("allow_remote_reconfiguration", value=True)]
    node = ReplayEvaluation(context=graph.context, parameter_overrides=opened)
    graph.add(node)
    assert node.set_parameters([Parameter("bag_folder", value=str(tmp_path))])[0].successful


def test_a_model_is_fetched_from_a_hub_only_where_that_is_allowed(
    graph: Graph, fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    graph.start(lambda *a: asked.append(a[3]) or fake)
    assert asked == [False]
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    with pytest.raises(ModelNotFoundError, match="may not be fetched") as error:
        load("nobody/nothing", allow_download=False)
    assert "\n" not in str(error.value)


def test_an_adapter_of_whole_numbers_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    for file in DEFAULT_ADAPTER.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    weights = load_file(folder / adapters.LORA)
    weights = {k: torch.zeros_like(v, dtype=torch.int8) if i == 0 else v for i, (k, v) in enumerate(weights.items())}
    save_file(weights, folder / adapters.LORA)
    with pytest.raises(BadModelError, match=r"int8; expected a floating-point type"):
        adapters.read_lora(folder)


def test_code_from_a_model_is_never_run(root: Path) -> None:
    for room in ("proxqa_core", "proxqa_ros", "training"):
        for path in (root / room).rglob("*.py"):
            assert not re.search(r"trust_remote_code\s*[=:]\s*True", path.read_text()), path


@pytest.mark.parametrize("module", ["proximity.node", "governor.node", "replay.node"])
def test_security_that_is_not_there_is_one_line(root: Path, tmp_path: Path, module: str) -> None:
    program = f"import sys; from proxqa_ros.{module} import main; sys.exit(main())"
    env = {**os.environ, "ROS_SECURITY_ENABLE": "true", "ROS_SECURITY_STRATEGY": "Enforce", "PYTHONPATH": str(root)}
    env["ROS_SECURITY_KEYSTORE"] = str(tmp_path)
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, cwd=root)
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 1 and len(lines) == 1, lines
    assert "ROS cannot be started" in lines[0] and "docs/security.md" in lines[0]


def test_security_that_is_not_enforced_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not unsecured_warning()
    monkeypatch.setenv("ROS_SECURITY_ENABLE", "true")
    assert "unsecured" in unsecured_warning()
    monkeypatch.setenv("ROS_SECURITY_STRATEGY", "Enforce")
    assert not unsecured_warning()


def test_every_test_that_the_page_names_exists(root: Path) -> None:
    page = (root / "docs/security.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page)
    assert len(named) >= 8
    for file, test in named:
        assert re.search(rf"^def {test}\(", (root / file).read_text(), re.M), (file, test)
