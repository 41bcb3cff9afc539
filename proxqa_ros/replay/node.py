"""The node `replay_evaluation`: plays bags to the proximity node and reports how well it did.

Promises: with the parameter `bag` one evaluation, then the process ends (0 = done, 1 = it failed, 2 = bad input, one
line each); without it the action `evaluate_bag`, one evaluation at a time, with feedback, and cancelable at any moment.
Every goal gets a result. Thin: `evaluation` plays and judges, `parameters` reads what is requested.

A goal's callback runs as long as its evaluation: spin the node in a HandoverExecutor of THREADS.
"""

from __future__ import annotations

import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import rclpy
from rcl_interfaces.msg import SetParametersResult
from rclpy.action import ActionServer, CancelResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions

from proxqa_core.errors import ProxqaError
from proxqa_core.jsontext import to_json
from proxqa_ros.action import EvaluateBag
from proxqa_ros.common import shared_memory
from proxqa_ros.common.errors import one_line
from proxqa_ros.common.executor import HandoverExecutor, spin
from proxqa_ros.common.parameters import (
    ALLOW_REMOTE,
    BadParameterError,
    declare,
    refusal_of_locked,
    warn_of_unknown,
)
from proxqa_ros.common.remaps import warn_of_unmatched
from proxqa_ros.common.start import CANNOT_START, init_ros, refuse, said_at_start
from proxqa_ros.distance.depth_image import TRANSPORTS as DEPTH_TRANSPORTS
from proxqa_ros.replay import parameters as replay_parameters
from proxqa_ros.replay.evaluation import NoAnswerError, NoNodeError, Outcome, Progress, Replay

THREADS = 6
"""One for the evaluation, others for what comes in, other goals and parameters."""
FEEDBACK_PERIOD_S = 0.1
"""Least seconds between two feedback messages."""
LOG_PERIOD_S = 2.0
"""Least seconds between two log lines about the progress."""
SPIN_PERIOD_S = 0.1
"""Longest time until an interruption is seen while there is nothing to do, in seconds."""
NAMES = (
    *("image", "image/compressed", "object_depths", "/diagnostics", "set_objects"),
    *(topic for _, topic in DEPTH_TRANSPORTS.values()),
    "evaluate_bag",
    *(f"evaluate_bag/_action/{part}" for part in ("send_goal", "cancel_goal", "get_result", "feedback", "status")),
)
"""Topics, services and the action of the node, which may be remapped."""
FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130
ABOUT = "Plays a bag to the node and measures its answers against what is true."
"""What --help says."""


class ReplayEvaluation(Node):
    """See the module.

    Args:
        arguments: The process's command line, whose remappings are checked.
        **kwargs: As of rclpy's Node.

    Attributes:
        unmatched_remaps: Remappings that match none of the node's names, one line each; they are logged.
    """

    def __init__(self, arguments: Sequence[str] | None = None, **kwargs: Any) -> None:
        # what destroy_node needs comes first: rclpy calls it for a node whose parameters were refused, too
        self._busy = threading.Lock()
        self._stopping = threading.Event()
        self._server: ActionServer | None = None
        super().__init__("replay_evaluation", **kwargs)
        declare(self, replay_parameters.SPECS)
        warn_of_unknown(self)
        self.unmatched_remaps = warn_of_unmatched(self, NAMES, [*(arguments or ()), *(kwargs.get("cli_args") or ())])
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self._replay = Replay(self)
        self._server = ActionServer(
            self,
            EvaluateBag,
            "evaluate_bag",
            self._on_goal,
            cancel_callback=lambda _: CancelResponse.ACCEPT,
            callback_group=ReentrantCallbackGroup(),
        )

    def _on_set_parameters(self, changes: Sequence[Parameter]) -> SetParametersResult:
        allowed = bool(self.get_parameter(ALLOW_REMOTE).value)
        reason = refusal_of_locked(changes, replay_parameters.SPECS, allowed)
        return SetParametersResult(successful=not reason, reason=reason)

    def evaluate(
        self, request: replay_parameters.ReplayRequest, canceled: Callable[[], bool] = lambda: False
    ) -> Outcome:
        """One evaluation, on the thread that calls it.

        Args:
            request: What to play and judge.
            canceled: Asked at every step; true = end early.

        Raises:
            ProxqaError: As `Replay.play`.
            OSError: As `Replay.play`.
        """
        with self._busy:
            return self._replay.play(request, self._log_progress(), lambda: canceled() or self._stopping.is_set())

    def stop(self) -> None:
        """Have what is under way, and all that comes, end early, and wait for that."""
        self._stopping.set()
        with self._busy:
            pass

    def destroy_node(self) -> None:
        """End what is under way, then the node."""
        self.stop()
        server, self._server = self._server, None
        if server is not None:
            server.destroy()
        super().destroy_node()

    def _log_progress(self) -> Callable[[Progress], None]:
        def log(p: Progress) -> None:
            self.get_logger().info(
                f"{p.frames_done} of {p.frames_total} images, {p.figures['frames_answered']} answered",
                throttle_duration_sec=LOG_PERIOD_S,
            )

        return log

    # -- the action --------------------------------------------------------------------------------------------------

    def _on_goal(self, goal: ServerGoalHandle) -> EvaluateBag.Result:
        nothing = {name: math.nan for name in ("pair_accuracy", "mae", "latency_p50", "latency_p95")}
        result = EvaluateBag.Result(**nothing)
        if not self._busy.acquire(blocking=False):
            return self._failed(goal, result, result.BUSY, "another evaluation is under way; wait for its end")
        try:
            request = replay_parameters.request_of_goal(self, goal.request)
            outcome = self._replay.play(
                request, _feedback_to(goal), lambda: goal.is_cancel_requested or self._stopping.is_set()
            )
        except NoNodeError as error:
            return self._failed(goal, result, result.NOT_ACTIVE, one_line(error))
        except NoAnswerError as error:
            return self._failed(goal, result, result.TIMEOUT, one_line(error))
        except (ProxqaError, OSError) as error:
            bad = isinstance(error, ValueError)
            return self._failed(goal, result, result.BAD_REQUEST if bad else result.INTERNAL, one_line(error))
        except Exception as error:  # the server lives on, whatever happened
            self.get_logger().error(f"evaluation failed: {one_line(error)}")
            return self._failed(goal, result, result.INTERNAL, one_line(error))
        finally:
            self._busy.release()
        _fill(result, outcome)
        if not outcome.canceled:
            goal.succeed()
        elif goal.is_cancel_requested:
            goal.canceled()
        else:
            goal.abort()  # the node is being stopped
        return result

    def _failed(self, goal: ServerGoalHandle, result: Any, code: int, message: str) -> Any:
        result.error_code, result.message = code, message
        if goal.is_cancel_requested:
            goal.canceled()
        else:
            goal.abort()
        return result


def _feedback_to(goal: ServerGoalHandle) -> Callable[[Progress], None]:
    """Feedback as often as FEEDBACK_PERIOD_S allows, and always at the end."""
    due = -math.inf

    def publish(p: Progress) -> None:
        nonlocal due
        now = time.monotonic()
        if now < due and p.frames_done < p.frames_total:
            return
        due = now + FEEDBACK_PERIOD_S
        goal.publish_feedback(
            EvaluateBag.Feedback(
                frames_done=p.frames_done,
                frames_total=p.frames_total,
                loop=p.loop,
                **p.figures,
            )
        )

    return publish


def _fill(result: Any, outcome: Outcome) -> None:
    found, run = outcome.report, outcome.run
    frames, latency = found["frames"], found["latency_seconds"]
    result.success = True
    if outcome.canceled:
        result.message = f"canceled after {frames['asked']} of {run.wanted} images"
    result.report = to_json(found)
    result.frames_shown, result.frames_answered = frames["asked"], frames["answered"]
    result.frames_bad, result.frames_dropped = frames["bad"], frames["dropped"]
    result.pair_accuracy, result.mae = float(found["pair_accuracy"]), float(found["mae"])
    result.latency_p50, result.latency_p95 = latency["p50"], latency["p95"]


def summary_line(outcome: Outcome) -> str:
    """What came out, in one line."""
    found = outcome.report
    frames, latency = found["frames"], found["latency_seconds"]
    return (
        f"{frames['asked']} images: {frames['answered']} answered, {frames['bad']} bad, {frames['dropped']} dropped; "
        f"closer right {100 * found['pair_accuracy']:.1f} % of {found['pairs']} pairs, mean error {found['mae']:.3f}; "
        f"latency p50 {latency['p50']:.3f} s, p95 {latency['p95']:.3f} s"
    )


def _evaluate_at_start(
    node: ReplayEvaluation, request: replay_parameters.ReplayRequest, canceled: Callable[[], bool]
) -> int:
    """The exit code."""
    try:
        outcome = node.evaluate(request, canceled)
    except (ProxqaError, OSError) as error:
        print(f"replay_evaluation: {one_line(error)}", file=sys.stderr)
        return BAD_INPUT if isinstance(error, ValueError) else FAILED
    print(f"{'interrupted; ' if outcome.canceled else ''}{summary_line(outcome)}", flush=True)
    return INTERRUPTED if outcome.canceled else 0


def main(args: Sequence[str] | None = None) -> int:
    """Evaluate the parameter `bag`, or serve goals until interrupted. The exit code: see the module."""
    if said_at_start("replay_evaluation", ABOUT, args, NAMES, replay_parameters.SPECS):
        return 0
    interrupted = threading.Event()
    # before the node can be seen: who sees it may interrupt it
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: interrupted.set())
    removed = shared_memory.remove_leftovers()
    if not init_ros("replay_evaluation", args, signal_handler_options=SignalHandlerOptions.NO):
        return CANNOT_START
    try:
        node = ReplayEvaluation(arguments=sys.argv if args is None else args)
        request = replay_parameters.request_of_parameters(node)
    except (ParameterException, BadParameterError) as error:
        refuse("replay_evaluation", error)
        return BAD_INPUT
    shared_memory.log_state(node.get_logger(), removed)
    executor = HandoverExecutor(THREADS)
    executor.add_node(node)
    leaving = threading.Event()
    spinner = threading.Thread(
        target=spin, args=(executor, node, leaving.is_set, SPIN_PERIOD_S), name="spin", daemon=True
    )
    spinner.start()
    code = 0
    if request is None:
        while not interrupted.is_set():  # `wait` holds a lock that the handler's `set` needs
            time.sleep(SPIN_PERIOD_S)
        node.stop()
    else:
        code = _evaluate_at_start(node, request, interrupted.is_set)
    leaving.set()  # before the shutdown: rclpy 9 may trigger a guard condition that it destroyed
    spinner.join()
    executor.shutdown()
    node.destroy_node()
    rclpy.try_shutdown()
    return code
