"""The node as a process of its own: start, Ctrl-C, parameters that cannot be used."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import domain_coordinator
import pytest
import rclpy
from lifecycle_msgs.srv import GetState
from rclpy.context import Context

from .conftest import wait_until

MAIN = "import sys; from proxqa_ros.proximity_node import main; sys.exit(main())"
MAIN_THAT_LOADS_FOR_EVER = """
import functools, sys, time
import proxqa_ros.proximity_node as module
def load(*_):
    print("loading", flush=True)
    time.sleep(1000)
module.ProximityNode = functools.partial(module.ProximityNode, engine_loader=load)
sys.exit(module.main())
"""


def start(root, domain: int, *params: str, namespace: str = "/", code: str = MAIN) -> subprocess.Popen:
    env = dict(os.environ, ROS_DOMAIN_ID=str(domain), PYTHONPATH=str(root))
    command = [
        sys.executable,
        "-c",
        code,
        "--ros-args",
        "-r",
        f"__ns:={namespace}",
        *(x for p in params for x in ("-p", p)),
    ]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGTERM])
def test_ends_cleanly_when_it_is_interrupted(root, signal_):
    with domain_coordinator.domain_id() as domain:
        context = Context()
        rclpy.init(context=context, domain_id=int(domain))
        watcher = rclpy.create_node("watcher", context=context)
        namespace = f"/interrupted_{signal_.name.lower()}"  # no other test's node has such a service
        process = start(root, int(domain), "autostart:=false", namespace=namespace)
        try:
            client = watcher.create_client(GetState, f"{namespace}/proximity/get_state")
            assert wait_until(client.service_is_ready)
            process.send_signal(signal_)
            output, _ = process.communicate(timeout=30)
        finally:
            process.kill()
            watcher.destroy_node()
            rclpy.try_shutdown(context=context)
    assert process.returncode == 0 and "Traceback" not in output and "rror" not in output, output


def test_ends_soon_when_it_is_interrupted_while_the_model_loads(root):
    process = start(root, 0, namespace="/loading", code=MAIN_THAT_LOADS_FOR_EVER)
    try:
        assert process.stdout.readline() == "loading\n"
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0 and "Traceback" not in output, output


@pytest.mark.parametrize(
    ("param", "said"), [("rate:=-1.0", "rate"), ("rate:=fast", "rate"), ("max_queued_queries:=1000", "queries")]
)
def test_a_parameter_that_cannot_be_used_is_one_line(root, param, said):
    process = start(root, 0, param, "autostart:=false")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert said in output and "Traceback" not in output and len(output.splitlines()) == 1, output
