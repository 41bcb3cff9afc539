"""Every example, run as a user would run it: as a process, from the checkout."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from proxqa_core.rosbags.bag import Bag
from proxqa_core.rosbags.image_messages import image_to_rgb

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
BAG = ROOT / "demo/bag"
PATIENCE_S = 120.0
CHECKOUT = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "training")])}
"""An environment in which the checkout's modules win over installed ones."""


def run(*command: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(c) for c in command], cwd=ROOT, env=CHECKOUT | env, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return done


def test_all_are_described():
    text = (EXAMPLES / "README.md").read_text()
    assert all(f"({file.name})" in text for file in EXAMPLES.glob("*.*") if file.suffix in (".py", ".sh"))


@pytest.mark.model
def test_ask_about_a_photo(tmp_path):
    with Bag(BAG) as bag:
        topic = bag.image_topic("")
        image = image_to_rgb(bag.decode(next(iter(bag.messages(topic)))))
    cv2.imwrite(str(tmp_path / "photo.png"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    lines = run(
        sys.executable, EXAMPLES / "ask_about_a_photo.py", tmp_path / "photo.png", "chair", "sofa"
    ).stdout.splitlines()
    assert len(lines) == 3
    assert {line.split(":")[0] for line in lines[:2]} == {"chair", "sofa"}
    assert re.search(r"\(\d+%\)$", lines[2])


def test_ask_about_a_photo_that_there_is_none_of(tmp_path):
    command = [sys.executable, str(EXAMPLES / "ask_about_a_photo.py"), str(tmp_path / "none.png"), "chair", "sofa"]
    done = subprocess.run(command, cwd=ROOT, env=CHECKOUT, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 1 and "none.png" in done.stderr and "Traceback" not in done.stderr


def listen_to(example, arguments, topic, kind, qos, count):
    """What an example node publishes until so many messages have come, its exit code after Ctrl-C, and its stderr."""
    import domain_coordinator
    import rclpy

    with domain_coordinator.domain_id() as domain:
        context = rclpy.Context()
        rclpy.init(context=context, domain_id=int(domain))
        node = rclpy.create_node("listener", context=context)
        executor = rclpy.executors.SingleThreadedExecutor(context=context)
        executor.add_node(node)
        came: list = []
        node.create_subscription(kind, topic, came.append, qos)
        process = subprocess.Popen(
            [sys.executable, str(EXAMPLES / example), "--ros-args", *arguments],
            cwd=ROOT,
            env=CHECKOUT | {"ROS_DOMAIN_ID": str(domain)},
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            end = time.monotonic() + PATIENCE_S
            while len(came) < count and time.monotonic() < end:
                executor.spin_once(timeout_sec=0.1)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
            executor.shutdown()
            node.destroy_node()
            rclpy.shutdown(context=context)
    return came, process.returncode, errors


def test_a_node_that_asks_stands_still_without_answers_and_ends_cleanly():
    pytest.importorskip("rclpy", reason="rclpy is not installed")
    from geometry_msgs.msg import Twist

    commands, code, errors = listen_to("ask_before_moving.py", ["-p", "goal:=table"], "cmd_vel_in", Twist, 10, 3)
    speeds = [m.linear.x for m in commands]
    assert len(speeds) >= 3 and set(speeds) == {0.0}
    assert code == 0 and "Traceback" not in errors


@pytest.mark.parametrize("running", [True, False])
def test_a_node_that_asks_ends_cleanly_if_interrupted_while_it_publishes(running, monkeypatch):
    """ROS is shut down under its feet then, and publishing fails; what fails while ROS runs is not hidden."""
    pytest.importorskip("rclpy", reason="rclpy is not installed")
    spec = importlib.util.spec_from_file_location("ask_before_moving", EXAMPLES / "ask_before_moving.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    ended = []

    def spin(node):
        raise RuntimeError("publisher's context is invalid")

    fake = SimpleNamespace(init=lambda: None, spin=spin, ok=lambda: running, try_shutdown=lambda: ended.append("ros"))
    monkeypatch.setattr(example, "rclpy", fake)
    monkeypatch.setattr(example, "AskBeforeMoving", lambda: SimpleNamespace(destroy_node=lambda: ended.append("node")))
    with pytest.raises(RuntimeError) if running else contextlib.nullcontext():
        example.main()
    assert ended == ["node", "ros"]


def test_a_webcam_is_a_file_that_starts_anew_at_its_end(tmp_path):
    pytest.importorskip("rclpy", reason="rclpy is not installed")
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import Image

    video = cv2.VideoWriter(str(tmp_path / "drive.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for grey in (10, 250):
        video.write(np.full((48, 64, 3), grey, np.uint8))
    video.release()
    parameters = ["-p", f"source:={tmp_path / 'drive.avi'}", "-p", "rate:=20", "-r", "image:=camera/image_raw"]
    came, code, errors = listen_to("webcam.py", parameters, "camera/image_raw", Image, qos_profile_sensor_data, 5)
    greys = [round(float(image_to_rgb(m).mean()) / 10) for m in came]
    assert set(greys) == {1, 25} and (came[0].encoding, came[0].header.frame_id) == ("bgr8", "camera")
    assert code == 0 and "Traceback" not in errors


@pytest.mark.parametrize("parameter", ["source:=nothing.mp4", "source:=/dev/video99", "rate:=0.0"])
def test_a_webcam_that_there_is_none_of(parameter):
    pytest.importorskip("rclpy", reason="rclpy is not installed")
    command = [sys.executable, str(EXAMPLES / "webcam.py"), "--ros-args", "-p", parameter]
    done = subprocess.run(command, cwd=ROOT, env=CHECKOUT, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 2 and "expected" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.model
@pytest.mark.slow
def test_finetune_on_a_bag(tmp_path):
    python = f"{sys.executable} -m proxqa_core.cli"
    output = run("bash", EXAMPLES / "finetune_on_a_bag.sh", BAG, tmp_path, "1", "10", PROXQA=python).stdout
    assert (tmp_path / "adapter/proxqa.json").is_file()
    judged = json.loads((tmp_path / "report.json").read_text())["judged"]
    assert judged["images"] == 1  # the second of two, which it has not learned from
    for prompt in ("name", "box"):
        before, after = judged[prompt]["before"], judged[prompt]["after"]
        assert before["pairs"] == after["pairs"] > 0 and 0 < before["mae"] < 1
        assert after["mae"] != before["mae"]  # two adapters were asked
        assert f"by {prompt}: depth, mean absolute error" in output
    assert judged["box"]["before"]["objects_with_truth"] == judged["box"]["after"]["objects_with_truth"] > 2
    assert "pairs are few: these figures show little" in output
