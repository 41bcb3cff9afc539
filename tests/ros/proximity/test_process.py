"""The node as a process of its own: start, Ctrl-C, parameters that cannot be used."""

from __future__ import annotations

import signal

import domain_coordinator
import pytest
import rclpy
from lifecycle_msgs.srv import GetState
from rclpy.context import Context
from rclpy.parameter import Parameter

from proxqa_ros.proximity import node as proximity_node
from proxqa_ros.proximity.node import ProximityNode
from tests.ros.conftest import start_process, wait_until

MODULE = "proximity.node"
MAIN_THAT_LOADS_FOR_EVER = """
import functools, sys, time
import proxqa_ros.proximity.node as module
def load(*_):
    print("loading", flush=True)
    time.sleep(1000)
module.SHUTDOWN_TIMEOUT_S = 0.5
module.ProximityNode = functools.partial(module.ProximityNode, engine_loader=load)
sys.exit(module.main())
"""


@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGTERM])
def test_ends_cleanly_when_it_is_interrupted(root, signal_):
    with domain_coordinator.domain_id() as domain:
        context = Context()
        rclpy.init(context=context, domain_id=int(domain))
        watcher = rclpy.create_node("watcher", context=context)
        namespace = f"/interrupted_{signal_.name.lower()}"  # no other test's node has such a service
        process = start_process(root, MODULE, int(domain), "autostart:=false", namespace=namespace)
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


@pytest.mark.slow
def test_ends_soon_when_it_is_interrupted_while_the_model_loads(root):
    process = start_process(root, MODULE, 0, namespace="/loading", code=MAIN_THAT_LOADS_FOR_EVER)
    try:
        said = iter(process.stdout.readline, "")
        assert "loading\n" in said  # after what others left in the shared memory, where they did
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0 and "Traceback" not in output and "Failed" not in output, output


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_ends_cleanly_when_it_is_interrupted_before_it_spins():
    """rclpy's handler has ended the context then, and without one rclpy makes no executor."""
    with domain_coordinator.domain_id() as domain:
        context = Context()
        rclpy.init(context=context, domain_id=int(domain))
        node = ProximityNode(context=context, parameter_overrides=[Parameter("autostart", value=False)])
        rclpy.shutdown(context=context)
        assert proximity_node.run(node)


def test_an_interrupt_before_ros_is_there_is_not_lost(monkeypatch):
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(proximity_node.shared_memory, "remove_leftovers", lambda: signal.raise_signal(signal.SIGINT))
    monkeypatch.setattr(proximity_node, "init_ros", lambda *_: True)
    monkeypatch.setattr(proximity_node, "ProximityNode", lambda **_: pytest.fail("the node was made"))
    try:
        assert proximity_node.main([]) == 0
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("param", "said"), [("rate:=-1.0", "rate"), ("rate:=fast", "rate"), ("max_queued_queries:=1000", "queries")]
)
def test_a_parameter_that_cannot_be_used_is_one_line(root, param, said):
    process = start_process(root, MODULE, 0, param, "autostart:=false")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert said in output and "Traceback" not in output and len(output.splitlines()) == 1, output
