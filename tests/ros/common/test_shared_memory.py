"""Shared memory of Fast DDS: what the killed leave is removed, what the living use is not, the state is said."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from proxqa_ros.common import shared_memory
from proxqa_ros.common.shared_memory import Leftovers, describe, remove_leftovers, wanted_segment_bytes
from proxqa_ros.testing.domain import fastdds_profile, own_domain
from proxqa_ros.testing.process import node_environment

DEAD, ALIVE, ORPHAN = (f"fastdds_{digit * 16}" for digit in "abc")
IMAGE_LOSS = Path(__file__).resolve().parents[3] / "scripts" / "image_loss.py"
FREE, ALL = 60_000_000, 64_000_000


def segment(folder: Path, name: str, lock: bool = True) -> None:
    (folder / name).write_bytes(b"x" * 8192)
    if lock:
        (folder / f"{name}_el").touch()


def test_what_is_locked_stays_and_the_rest_goes(tmp_path):
    segment(tmp_path, DEAD), segment(tmp_path, ALIVE), segment(tmp_path, ORPHAN, lock=False)
    others = ("fastdds_port7000", "fastdds_port7000_el", "sem.fastdds_port7000_mutex", "fastdds_x", "photo")
    for name in others:
        (tmp_path / name).touch()
    with (tmp_path / f"{ALIVE}_el").open() as owner:
        fcntl.flock(owner, fcntl.LOCK_EX)
        assert remove_leftovers(tmp_path) == Leftovers(2, 2 * 8192)
        assert {p.name for p in tmp_path.iterdir()} == {ALIVE, f"{ALIVE}_el", *others}
        assert remove_leftovers(tmp_path) == Leftovers()
    assert remove_leftovers(tmp_path) == Leftovers(1, 8192)
    assert remove_leftovers(tmp_path / "missing") == Leftovers()


def test_a_lock_that_is_a_link_is_not_followed(tmp_path):
    target = tmp_path / "target"
    target.touch()
    (tmp_path / f"{DEAD}_el").symlink_to(target)
    (tmp_path / DEAD).touch()
    assert remove_leftovers(tmp_path) == Leftovers() and target.exists() and (tmp_path / DEAD).exists()


@pytest.mark.parametrize(
    ("wanted", "own", "room", "in_use", "problem"),
    [
        (16_000_000, [500_000, 16_800_000], (FREE, ALL), True, ""),
        (16_000_000, [500_000], (FREE, ALL), False, "not in use"),
        (16_000_000, [], (3_000_000, ALL), False, "/dev/shm has 3 of 64 MB free, a segment takes 16.0 MB"),
        (16_000_000, [16_800_000], (3_000_000, ALL), True, "the next process has no shared memory"),
        (16_000_000, [], None, False, "no /dev/shm"),
        (0, [], (FREE, ALL), False, ""),
        (0, [500_000], (FREE, ALL), False, ""),
    ],
)
def test_what_is_said(wanted, own, room, in_use, problem):
    found = describe(wanted, own, 1, room)
    assert found.in_use == in_use and found.text.startswith("in use" if in_use else "not in use")
    assert problem in found.problem and bool(found.problem) == bool(problem)
    assert "\n" not in found.text + found.problem


def test_the_size_that_is_wanted(tmp_path):
    assert wanted_segment_bytes({"FASTDDS_DEFAULT_PROFILES_FILE": str(fastdds_profile())}) == 2**24
    assert wanted_segment_bytes({}) == shared_memory.BUILTIN_SEGMENT_BYTES
    assert wanted_segment_bytes({"FASTDDS_BUILTIN_TRANSPORTS": "UDPv4"}) == 0
    assert wanted_segment_bytes({"FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA?max_msg_size=1MB"}) > 0
    without = tmp_path / "udp.xml"
    without.write_text("<dds><rtps><useBuiltinTransports>false</useBuiltinTransports></rtps></dds>")
    assert wanted_segment_bytes({"FASTDDS_DEFAULT_PROFILES_FILE": str(without)}) == 0
    without.write_text("not XML")
    assert wanted_segment_bytes({"FASTDDS_DEFAULT_PROFILES_FILE": str(without)}) > 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's file")
def test_segments_of_other_users_are_counted(tmp_path):
    segment(tmp_path, DEAD), segment(tmp_path, ALIVE)
    assert shared_memory.other_users_segments(tmp_path) == 0
    os.chown(tmp_path / ALIVE, 65534, 65534)
    assert shared_memory.other_users_segments(tmp_path) == 1


KILLED = """
import os, rclpy, signal
rclpy.init()
node = rclpy.create_node("killed")
os.kill(os.getpid(), signal.SIGKILL)
"""
LIVING = """
import sys, rclpy
from proxqa_ros.common import shared_memory
rclpy.init()
node = rclpy.create_node("living")
print(shared_memory.state().in_use, flush=True)
sys.stdin.readline()
print(shared_memory.state().in_use, flush=True)
"""
NEXT = """
import json, sys, time, rclpy
from pathlib import Path
from proxqa_ros.common import shared_memory
from proxqa_ros.common.qos import NEWEST_BEST_EFFORT
from sensor_msgs.msg import Image
removed = shared_memory.remove_leftovers() if sys.argv[1] == "clean" else shared_memory.Leftovers()
rclpy.init()
node = rclpy.create_node("next")
publisher = node.create_publisher(Image, "image", NEWEST_BEST_EFFORT)
state = shared_memory.state()
segments = [p.name for p in Path("/dev/shm").glob("fastdds_????????????????")]
print(json.dumps([removed.segments, removed.size_bytes, state.in_use, state.problem, len(segments)]), flush=True)
node.destroy_node()
rclpy.shutdown()
"""
CLEAN = "from proxqa_ros.common import shared_memory; print(shared_memory.remove_leftovers().segments)"
SMALL_SHM = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=64m,mode=1777 proxqa /dev/shm && exec "$@"', "sh"]


def can_mount() -> bool:
    """Whether a process may have a /dev/shm of its own."""
    return bool(shutil.which("unshare")) and subprocess.run([*SMALL_SHM, "true"], capture_output=True).returncode == 0


ALL_OF_IT = """
import json, os, subprocess, sys
killed, living, following, clean, image_loss = sys.argv[1:]
run = lambda code, *args: subprocess.run([sys.executable, "-c", code, *args], stdout=subprocess.PIPE, text=True)
found = {"killed": [run(killed).returncode for _ in range(10)]}
found["full"] = json.loads(run(following, "leave").stdout.splitlines()[-1])
found["next"] = json.loads(run(following, "clean").stdout.splitlines()[-1])
other = subprocess.Popen([sys.executable, "-c", living], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
before = other.stdout.readline().strip()
found["beside"] = json.loads(run(following, "clean").stdout.splitlines()[-1])
found["left"] = run(clean).stdout.strip()  # as every node does at its start; the script of the stream does not
stream = [sys.executable, image_loss, "--segment-mb", "16", "--seconds", "1", "--one-by-one"]
found["frames"] = subprocess.run(stream, stdout=-1, text=True).stdout
found["living"] = [before, other.communicate("go on\\n")[0].strip()]
print(json.dumps(found))
"""


@pytest.mark.slow
@pytest.mark.skipif(not can_mount(), reason="a file system of its own for /dev/shm is not permitted")
def test_ten_killed_processes_in_64_mb(tmp_path):
    with own_domain() as domain:
        env = {**node_environment(domain), "RMW_IMPLEMENTATION": "rmw_fastrtps_cpp"}
        command = [*SMALL_SHM, sys.executable, "-c", ALL_OF_IT, KILLED, LIVING, NEXT, CLEAN, str(IMAGE_LOSS)]
        out = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True, timeout=300).stdout
    found = json.loads(out.splitlines()[-1])
    assert found["killed"] == [-signal.SIGKILL] * 10
    _, _, in_use, problem, _ = found["full"]
    assert not in_use and "large images may be lost: /dev/shm has" in problem and "--shm-size" in problem
    removed, size_bytes, in_use, problem, segments = found["next"]
    assert removed >= 10 and size_bytes > 40_000_000
    assert in_use and not problem and segments == 2  # its own two: for data and for discovery
    assert found["living"] == ["True", "True"]  # the segments of the living are left alone
    assert found["beside"][2] and found["beside"][4] == 4
    sent, received = (int(n) for n in re.findall(r"(\d+) (?:sent|received)", found["frames"]))
    assert sent == 30 and received >= 27, found  # without shared memory: hardly one


def test_own_segments_are_found(monkeypatch):
    with own_domain() as domain:
        env = {**node_environment(domain), "RMW_IMPLEMENTATION": "rmw_fastrtps_cpp"}
        out = subprocess.run([sys.executable, "-c", LIVING], env=env, input="\n", capture_output=True, text=True).stdout
    room = shared_memory.room()
    assert room is not None
    assert out.split() == ["True", "True"] or room[0] < 2**24, os.environ.get("FASTDDS_DEFAULT_PROFILES_FILE")
