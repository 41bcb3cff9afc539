"""What the demo, the soak run and the tests share: domains, processes, waits, rates."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor

from proxqa_ros.testing import process as process_module
from proxqa_ros.testing.camera import at_rate
from proxqa_ros.testing.domain import fastdds_profile, own_domain
from proxqa_ros.testing.errors import HarnessError
from proxqa_ros.testing.process import NodeProcess, node_command, node_environment
from proxqa_ros.testing.spinning import SpinThread
from proxqa_ros.testing.waiting import wait_until


def test_domains_are_not_shared():
    with own_domain() as one, own_domain() as two:
        assert one != two
    with own_domain() as again:
        assert 1 <= again <= 100


def test_the_profile_is_that_of_the_checkout(root):
    assert fastdds_profile() == root / "config/fastdds_shm.xml"


def test_a_process_imports_what_its_caller_does(root, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    environment = node_environment(7)
    assert environment["PYTHONPATH"] == f"{root}:/elsewhere" and environment["ROS_DOMAIN_ID"] == "7"


def test_a_command_line_holds_parameters_remappings_and_namespace():
    command = node_command(parameters={"objects": ["a", 'b "c"']}, remappings={"image": "/cam"}, namespace="/r")
    assert "proxqa_ros.proximity.node import main" in command[2]
    assert command[3:] == ["--ros-args", "-r", "image:=/cam", "-r", "__ns:=/r", "-p", r'objects:=["a", "b \"c\""]']
    assert node_command(code="pass")[2] == "pass"


def test_a_node_that_ends_is_reported_with_its_log(tmp_path):
    with NodeProcess(["sh", "-c", "echo it broke; exit 3"], 1, tmp_path / "node.log") as node:
        node._process.wait(10)
        with pytest.raises(HarnessError, match=r"exit code 3(.|\n)*it broke"):
            node.check()


def runs(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_nothing_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(process_module, "SHUTDOWN_TIMEOUT_S", 0.5)
    pids = tmp_path / "pids"
    stubborn = f"trap '' INT; sleep 300 & echo $! $$ > {pids}; wait"
    with NodeProcess(["bash", "-c", stubborn], 1, tmp_path / "node.log") as node:
        wait_until(lambda: pids.exists() and pids.read_text().strip())
        node.check()
    left = pids.read_text().split()
    assert len(left) == 2
    assert wait_until(lambda: not any(map(runs, left)))  # a busy machine takes its time to end what was killed


@pytest.mark.parametrize("trap", ["", "trap '' INT; "])
def test_nothing_is_left_behind_by_a_caller_that_is_killed(tmp_path, monkeypatch, trap):
    monkeypatch.setattr(process_module, "SHUTDOWN_TIMEOUT_S", 1.0)
    pids = tmp_path / "pids"
    node = NodeProcess(["bash", "-c", f"{trap}sleep 300 & echo $! $$ > {pids}; wait"], 1, tmp_path / "node.log")
    with node:
        wait_until(lambda: pids.exists() and pids.read_text().strip())
        node.check()
        node._guard.stdin.close()  # as the kernel does when the caller ends
        assert wait_until(lambda: node._process.poll() is not None)
        assert wait_until(lambda: not any(map(runs, pids.read_text().split())))


def test_the_first_true_value_is_given_and_the_last_one_when_the_time_is_up():
    values = iter([0, None, 7])
    assert wait_until(lambda: next(values)) == 7
    assert wait_until(lambda: 0, 0.0) == 0


def test_what_came_true_while_it_slept_counts():
    started = time.monotonic()
    assert wait_until(lambda: time.monotonic() - started > 0.2, timeout_s=0.1, period_s=0.3)


def test_a_rate_is_kept_and_what_is_raised_is_raised_again():
    called: list[float] = []
    started = time.monotonic()
    with at_rate(100, lambda n: called.append(n)):
        assert wait_until(lambda: len(called) >= 20)
    passed = time.monotonic() - started
    assert called == list(range(len(called))) and 20 <= len(called) <= 100 * passed + 1
    with pytest.raises(ZeroDivisionError), at_rate(100, lambda n: called.append(1 / (n - 2))):
        wait_until(lambda: len(called) >= 1000, 0.2)


def test_a_thread_spins_until_it_is_stopped_and_keeps_what_a_callback_raised(monkeypatch):
    with own_domain() as domain:
        context = Context()
        rclpy.init(context=context, domain_id=domain)
        node = rclpy.create_node("spun", context=context)
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(node)
        ticks: list[int] = []
        monkeypatch.setattr("threading.excepthook", lambda _: None)

        def tick() -> None:
            ticks.append(1)
            if len(ticks) == 3:
                raise RuntimeError("it broke")

        node.create_timer(0.01, tick)
        spinning = SpinThread(executor)
        spinning.start()
        assert wait_until(lambda: spinning.error)
        assert spinning.stop() and len(ticks) == 3 and str(spinning.error) == "it broke"
        node.destroy_node()
        rclpy.try_shutdown(context=context)


def test_an_interrupt_reaches_the_process_first(tmp_path):
    code = "import signal, sys; print('ready', flush=True); signal.sigwait([signal.SIGINT]); print('interrupted')"
    block = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT]); "
    with NodeProcess(node_command(code=block + code), 1, tmp_path / "node.log") as node:
        assert wait_until(lambda: "ready" in node.log_tail())
        assert Path(f"/proc/{node.pid}").exists()
    assert node.log_tail() == "ready\ninterrupted" and node._process.returncode != -signal.SIGKILL
