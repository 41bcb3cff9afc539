"""The demo's promises: exit codes, one clear line, nothing left behind; and once in full with the real node."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

from PIL import Image as PilImage
from sensor_msgs.msg import Image

from demo import run
from demo.make_bag import write
from demo.ros_side import command_of
from demo.run import OWN_BAG, main, questions_of
from proxqa_core.rosbags.bag import COMPRESSED, RAW, Topic
from proxqa_ros.testing.domain import ros_environment

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def no_choices_of_mine(monkeypatch):
    for name in ("BAG", "TOPIC", "OBJECTS", "MODEL"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("choice", "reason"),
    [
        ({"BAG": "nowhere"}, "bag 'nowhere' does not exist"),
        ({"TOPIC": "/nope"}, "no image topic '/nope'; choose one with TOPIC=…: /camera/image_raw/compressed"),
        ({"OBJECTS": "chair, chair"}, "'chair' is named 2 times"),
        ({"OBJECTS": "x" * 100}, "too long"),
    ],
)
def test_a_wrong_choice_is_one_clear_line(monkeypatch, capsys, choice, reason):
    for name, value in choice.items():
        monkeypatch.setenv(name, value)
    assert main([]) == 1
    error = capsys.readouterr().err
    assert error.startswith("demo: ") and reason in error and error.count("\n") == 1


def test_a_bag_without_truth_needs_names(tmp_path, capsys):
    write([("/image", Image(encoding="rgb8"))], tmp_path / "bag")
    assert main(["--bag", str(tmp_path / "bag")]) == 1
    assert 'name objects with OBJECTS="chair, table"' in capsys.readouterr().err


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "soon"])
def test_a_wrong_duration_is_refused(seconds):
    with pytest.raises(SystemExit) as caught:
        main(["--seconds", seconds])
    assert caught.value.code == 2


@pytest.mark.parametrize("out", [".", "picture", "picture.txt"])
def test_an_out_that_is_no_picture_is_refused(out, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--out", out])
    assert caught.value.code == 2
    assert f"'{out}' is no picture to write; expected a name that ends in .jpg or .png" in capsys.readouterr().err


def test_no_place_for_the_picture_is_one_clear_line(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["--out", str(tmp_path / "file" / "demo.png")]) == 1
    error = capsys.readouterr().err
    assert "file/demo.log: cannot be written" in error and "choose another place" in error and error.count("\n") == 1


def test_a_deadline_ends_it(monkeypatch, capsys):
    monkeypatch.setattr(run, "demo", lambda args: time.sleep(60))
    started = time.monotonic()
    assert main(["--deadline", "0.2"]) == 1
    assert time.monotonic() - started < 10
    assert "not done after 0.2 s" in capsys.readouterr().err


def test_questions_name_what_is_there():
    assert questions_of(["a"]) == ["How far is the a?"]
    assert questions_of(["a", "b"]) == ["Which is closer, the a or the b?", "How far is the b?"]
    assert len(questions_of(list("abcdef"))) == 3


def test_the_nodes_command_line_fits_the_topic():
    small = command_of(Topic("/cam/compressed", COMPRESSED, 1), ["chair", 'a "b"'], "", "")
    assert "image/compressed:=/cam/compressed" in small and 'image_transport:="compressed"' in small
    assert r'objects:=["chair", "a \"b\""]' in small
    assert not [a for a in small if a.startswith(("model:=", "adapter:="))]
    large = command_of(Topic("/cam", RAW, 1), ["chair"], "m", "a")
    assert {"image:=/cam", 'image_transport:="raw"', 'model:="m"', 'adapter:="a"'} <= set(large)


@pytest.fixture
def with_fake_node(monkeypatch):
    """The demo with the real node, whose engine is tests/demo/fake_node.py's."""
    fake = Path(__file__).with_name("fake_node.py")
    monkeypatch.setattr(run, "NODE_CODE", f"import runpy; runpy.run_path({str(fake)!r}, run_name='__main__')")
    for name, value in ros_environment(1).items():  # what the demo sets is undone afterwards
        monkeypatch.setenv(name, value)


def test_the_way_through_ros_with_a_fake_engine(with_fake_node, tmp_path, capsys):
    out = tmp_path / "demo.png"
    assert main(["--seconds", "1", "--out", str(out)]) == 0, capsys.readouterr().err
    output = capsys.readouterr().out
    assert "model 'fake'" in output and "images: 6 played" in output
    assert re.search(r"woman +0\.25 ± 0\.05 +0\.25 ± 0\.05 +0\.88 +4\.\d\d m +-0\.6\d +-0\.6\d", output)
    assert "The nearest is the sofa." in output  # the first of the shortest names
    assert "truth: chair 0.7" in output
    assert PilImage.open(out).width == 960


def test_objects_of_mine_and_a_raw_topic(with_fake_node, tmp_path, capsys):
    images = []
    for i in range(8):
        image = Image(height=240, width=320, encoding="bgr8", step=960, data=bytes(320 * 240 * 3))
        image.header.stamp.sec, image.header.stamp.nanosec = 100, i * 100_000_000
        images.append(("/camera/color", image))
    write(images, tmp_path / "bag")
    arguments = ["--bag", str(tmp_path / "bag"), "--objects", "desk, red mug", "--out", str(tmp_path / "demo.png")]
    assert main(arguments) == 0, capsys.readouterr().err
    output = capsys.readouterr().out
    assert "playing 8 images of /camera/color" in output
    assert re.search(r"red mug +0\.35 ± 0\.05\n", output)
    assert "truth" not in output and "against" not in output


def test_images_that_cannot_be_used_are_a_clear_end(with_fake_node, tmp_path, capsys):
    bad = [("/camera/color", Image(height=240, width=320, encoding="rgb8", step=960)) for _ in range(3)]
    write(bad, tmp_path / "bag")
    arguments = ["--bag", str(tmp_path / "bag"), "--objects", "desk", "--out", str(tmp_path / "demo.png")]
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert "no usable image has arrived yet" in error and error.count("\n") == 1


@pytest.mark.model
@pytest.mark.slow
def test_the_demo_from_end_to_end(tmp_path):
    """The real node with the real model on two seconds of the repository's bag."""
    out = tmp_path / "demo.png"
    command = [sys.executable, "demo/run.py", "--bag", str(OWN_BAG), "--seconds", "2", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ.copy(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert int(re.search(r"object_depths: (\d+) messages", done.stdout).group(1)) >= 1
    assert "11 played" in done.stdout and "0 bad, 0 failed" in done.stdout
    assert done.stdout.count("Which is closer, the") == 3
    assert re.search(r"chair +\d\.\d\d ± \d\.\d\d +\d\.\d\d ± ", done.stdout) or "not in view" in done.stdout
    assert re.search(r"against the truth, by name: \d+ object depths, mean error", done.stdout)
    assert PilImage.open(out).width >= 320
