"""What the nodes take they give back: thirty lifecycle cycles, many adapter swaps."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState

from proxqa_ros.governor.node import SpeedGovernor
from tests.ros.conftest import FakeEngine, wait_until

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "endurance.py"
CYCLE = (
    Transition.TRANSITION_DEACTIVATE,
    Transition.TRANSITION_CLEANUP,
    Transition.TRANSITION_CONFIGURE,
    Transition.TRANSITION_ACTIVATE,
)


@pytest.fixture(scope="module")
def endurance():
    spec = importlib.util.spec_from_file_location("endurance", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["endurance"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["endurance"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["proximity", "speed_governor"])
def test_thirty_cycles_leave_nothing(graph, endurance, name):
    if name == "proximity":
        node = graph.start(lambda *_: FakeEngine())
    else:
        node = SpeedGovernor(context=graph.context)
        graph.add(node)
        assert wait_until(lambda: node.state == "active")
    client = graph.client.create_client(ChangeState, f"/{name}/change_state")

    def cycle() -> None:
        for which in CYCLE:
            assert graph.call(client, ChangeState.Request(transition=Transition(id=which))).success

    for _ in range(5):
        cycle()
    before, threads = endurance.Held.of(os.getpid()), threading.active_count()
    lazy = 24  # threads of the graph's executor start as they are needed; a leak of one each cycle is thirty
    for _ in range(30):
        cycle()
    assert node.state == "active"
    # what ends in the background gets time to do so
    assert wait_until(lambda: threading.active_count() <= threads + lazy), threading.enumerate()
    assert wait_until(lambda: endurance.Held.of(os.getpid()).files <= before.files)
    after = endurance.Held.of(os.getpid())
    assert after.threads <= before.threads + lazy and after.shm_files <= before.shm_files
    assert after.rss_mb <= 1.1 * before.rss_mb


def test_what_grew_is_a_problem(endurance):
    held = {"rss_mb": 100.0, "threads": 5, "files": 9, "shm_files": 2}
    run = {"before": held, "after": held, "rss_growth_percent": 9.9}
    assert endurance.problems_of("swaps", run, 10.0) == []
    run = {"before": held, "after": {**held, "files": 10, "threads": 22}, "rss_growth_percent": 10.1}
    assert sorted(endurance.problems_of("swaps", run, 10.0), reverse=True) == [
        "swaps: threads before 5, after 22; expected at most 21",
        "swaps: the memory grew by 10.1 %; expected at most 10 %",
        "swaps: files before 9, after 10; expected at most 9",
    ]


def test_a_process_that_has_ended_is_said(endurance):
    process = subprocess.Popen(["true"])
    process.wait()
    with pytest.raises(endurance.HarnessError, match="it may have ended"):
        endurance.Held.of(process.pid)


@pytest.mark.slow
@pytest.mark.model
def test_swaps_and_cycles_of_the_real_node(tmp_path):
    report = tmp_path / "report.json"
    settings = ["--swap-minutes", "0.05", "--cycles", "1", "--warm-up", "1", "--rest-seconds", "1", "--max-growth", "5"]
    command = [sys.executable, str(SCRIPT), *settings, "--json", str(report)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(report.read_text())
    assert found["swaps"]["count"] > 0 and found["cycles"]["count"] == 1 and found["problems"] == []
