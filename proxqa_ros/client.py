"""Ask the proximity node from another node's Python code.

Promises: every question ends, at the latest after its timeout, with the response of srv/ProximityQuery or with a
ProximityError that has its error_code and message; a call that could only wait for itself is refused at once.
`ask_async` works in every executor, `ask` wherever it is not called from the callback of a single-threaded one.

    client = ProximityClient(node)
    print(client.ask("Which is closer, the chair or the door?").closer)        # in a script or a thread
    response = await client.ask_async("What is nearest?", ["chair", "table"])   # in an `async def` callback
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any, TypeAlias

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.task import Future
from sensor_msgs.msg import RegionOfInterest

from proxqa_core.errors import ProxqaError
from proxqa_ros.common.qos import MANY_QUERIES
from proxqa_ros.srv import ProximityQuery

Response: TypeAlias = ProximityQuery.Response

DEFAULT_TIMEOUT_S = 10.0
"""Time after which a question has no answer, unless the call says otherwise, in seconds."""
POLL_PERIOD_S = 0.02
"""Time between two checks whether the service is there, in seconds."""
SHUTDOWN_CHECK_S = 0.1
"""Time between two checks whether ROS was shut down, in seconds."""


class ProximityError(ProxqaError):
    """A question that was not answered.

    Args:
        error_code: A constant of ProximityQuery.Response.
        message: One line.
        response: The node's response, None where none came.
    """

    def __init__(self, error_code: int, message: str, response: Response | None = None) -> None:
        super().__init__(message)
        self.error_code = error_code
        self.message = message
        self.response = response


class NoImageError(ProximityError):
    """No usable image has reached the node yet."""


class ImageTooOldError(ProximityError):
    """The newest image is older than max_image_age."""


class NotVisibleError(ProximityError):
    """None of the objects asked about is in view; `response.objects` holds what was read."""


class QuestionNotUnderstoodError(ProximityError):
    """The question could not be understood, or names nothing to look for."""


class BadRequestError(ProximityError):
    """A name, region or number of the request cannot be used."""


class TooManyObjectsError(BadRequestError):
    """More objects than one request may have."""


class ModelNotLoadedError(ProximityError):
    """The node is not configured."""


class NotActiveError(ProximityError):
    """The node is configured but not active."""


class BusyError(ProximityError):
    """Too many queries are waiting already; ask again later."""


class QueryTimeoutError(ProximityError):
    """No answer in time: the node reported that, or no response arrived."""


class NoServiceError(QueryTimeoutError):
    """There is no service to ask: the node is not running, or has another name or namespace."""


class InternalError(ProximityError):
    """A fault inside the node."""


ERRORS: dict[int, type[ProximityError]] = {
    Response.NO_IMAGE: NoImageError,
    Response.IMAGE_TOO_OLD: ImageTooOldError,
    Response.NOT_VISIBLE: NotVisibleError,
    Response.NOT_UNDERSTOOD: QuestionNotUnderstoodError,
    Response.BAD_REQUEST: BadRequestError,
    Response.TOO_MANY_OBJECTS: TooManyObjectsError,
    Response.MODEL_NOT_LOADED: ModelNotLoadedError,
    Response.NOT_ACTIVE: NotActiveError,
    Response.BUSY: BusyError,
    Response.TIMEOUT: QueryTimeoutError,
    Response.INTERNAL: InternalError,
}
"""The error of each error_code but NONE; for a code that a newer node may send it is ProximityError itself."""


class WouldBlockError(RuntimeError):
    """`ask` was called where it could only wait for itself."""


class _PendingQuestion:
    """A question on its way. Ends once, by what comes first: the response, or the timeout on a timer's thread."""

    def __init__(self, future: Future[Response]) -> None:
        self.future = future
        self.ended = threading.Event()
        self._first = threading.Lock()  # taken once and never given back

    def end(self, outcome: Response | ProximityError) -> None:
        if not self._first.acquire(blocking=False):
            return
        try:
            if not self.future.cancelled():
                if isinstance(outcome, ProximityError):
                    self.future.set_exception(outcome)
                else:
                    self.future.set_result(outcome)
        finally:
            self.ended.set()


class ProximityClient:
    """Asks the service `proximity_query` on behalf of a node; any thread may call it.

    Not where `rclpy.experimental.EventsExecutor.spin()` runs in another thread: there rclpy itself blocks any call that
    wakes the executor, creating a client as well as asking, for ever and beyond every timeout. Spin such an executor by
    a loop of `spin_once(…)`, or call from its own callbacks only (`await ask_async(…)`).

    Args:
        node: A node that is in an executor that spins, or in none: then `ask` spins it while it waits.
        service: The service's name, resolved and remapped like every name of the node.
    """

    def __init__(self, node: Node, service: str = "proximity_query") -> None:
        self._node = node
        # a group of its own: a callback of the node that waits in `ask` does not keep the response out
        self._client: Any = node.create_client(
            ProximityQuery, service, qos_profile=MANY_QUERIES, callback_group=ReentrantCallbackGroup()
        )

    def destroy(self) -> None:
        """Destroy the client; questions that wait end by their timeouts."""
        self._node.destroy_client(self._client)

    def is_ready(self) -> bool:
        """Whether the service is there."""
        return self._client.service_is_ready()

    def ask(
        self,
        question: str = "",
        objects: Sequence[str] = (),
        regions: Sequence[RegionOfInterest] = (),
        *,
        max_image_age: float = 0.0,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> Response:
        """Ask, and wait for the service to be there and to answer.

        Args:
            question: The question in words, as in srv/ProximityQuery.
            objects: Names of the objects.
            regions: Where they are in the image; none, or one per object.
            max_image_age: Oldest image that it may be answered from, in seconds; 0 = as the node's parameter says.
            timeout: Longest wait in seconds, > 0, on the wall's clock.

        Returns:
            The response.

        Raises:
            ProximityError: The question was not answered; the class says why.
            WouldBlockError: Called from a callback of a single-threaded executor, which could not take the response
                meanwhile: use `ask_async`, or a MultiThreadedExecutor with a thread to spare. (An EventsExecutor cannot
                be recognised; spun by `spin_once` it ends as a QueryTimeoutError there.)
            TypeError: An argument has a type that no request can be made of.
            ValueError: An argument has a value that no request can be made of.
        """
        self._refuse_to_wait_for_itself()
        end_s = time.monotonic() + _check_timeout(timeout)
        request = _request(question, objects, regions, max_image_age)
        while self._node.context.ok() and not self.is_ready() and time.monotonic() < end_s:
            time.sleep(POLL_PERIOD_S)
        pending = self._send(request, max(end_s - time.monotonic(), POLL_PERIOD_S), timeout)
        executor = self._node.executor
        if executor is None or self._node not in executor.get_nodes():
            self._spin_until_ended(pending)
        while not pending.ended.wait(SHUTDOWN_CHECK_S):
            if not self._node.context.ok():
                pending.end(
                    NotActiveError(Response.NOT_ACTIVE, "the question was not answered: ROS is being shut down")
                )
        return pending.future.result()

    def ask_async(
        self,
        question: str = "",
        objects: Sequence[str] = (),
        regions: Sequence[RegionOfInterest] = (),
        *,
        max_image_age: float = 0.0,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> Future[Response]:
        """Ask and return at once.

        Args:
            question: As of `ask`.
            objects: As of `ask`.
            regions: As of `ask`.
            max_image_age: As of `ask`.
            timeout: As of `ask`.

        Returns:
            A future that ends with the response or a ProximityError; at once with a NoServiceError where there is no
            service.

        Raises:
            TypeError: An argument has a type that no request can be made of.
            ValueError: An argument has a value that no request can be made of.
        """
        request, timeout_s = _request(question, objects, regions, max_image_age), _check_timeout(timeout)
        return self._send(request, timeout_s, timeout_s).future

    def _send(self, request: Any, wait_s: float, timeout_s: float) -> _PendingQuestion:
        """Send, and end the question after `wait_s` seconds; `timeout_s` is what the caller asked for."""
        pending = _PendingQuestion(Future(executor=self._node.executor))
        name = self._client.service_name
        if not self._node.context.ok() or not self.is_ready():
            message = f"there is no service {name!r}; is the proximity node running, in this namespace and domain?"
            pending.end(NoServiceError(Response.TIMEOUT, message))
            return pending
        sent = self._client.call_async(request)

        def give_up() -> None:
            self._client.remove_pending_request(sent)
            message = (
                f"no answer from {name!r} within {timeout_s:g} s; if the node is well, does this one's executor spin?"
            )
            pending.end(QueryTimeoutError(Response.TIMEOUT, message))
            if executor := self._node.executor:
                executor.wake()  # a coroutine may be waiting

        timer = threading.Timer(wait_s, give_up)
        timer.daemon = True
        timer.start()

        def answered(future: Future[Response]) -> None:
            timer.cancel()
            pending.end(_outcome(future.result()))

        sent.add_done_callback(answered)
        return pending

    def _refuse_to_wait_for_itself(self) -> None:
        """Raise WouldBlockError where this thread is inside the spin of the executor that would bring the response."""
        executor = self._node.executor
        frame = sys._getframe() if executor is not None else None
        while frame is not None:
            if "spin" in frame.f_code.co_name and frame.f_locals.get("self") is executor:
                raise WouldBlockError(
                    f"ask was called from a callback of the {type(executor).__name__}, which cannot take the answer "
                    "meanwhile; use `await client.ask_async(…)`, or a MultiThreadedExecutor"
                )
            frame = frame.f_back

    def _spin_until_ended(self, pending: _PendingQuestion) -> None:
        executor = SingleThreadedExecutor(context=self._node.context)
        executor.add_node(self._node)
        try:
            while self._node.context.ok() and not pending.ended.is_set():
                executor.spin_once(SHUTDOWN_CHECK_S)
        finally:
            executor.remove_node(self._node)
            self._node.executor = None  # type: ignore[assignment]  # rclpy's own way out of an executor
            executor.shutdown()


def _request(
    question: str, objects: Sequence[str], regions: Sequence[RegionOfInterest], max_image_age: float
) -> ProximityQuery.Request:
    if isinstance(objects, str):
        raise TypeError(f"objects is the text {objects!r}; expected a sequence of names, such as [{objects!r}]")
    names = list(objects)
    if wrong := [x for x in (question, *names) if not isinstance(x, str)]:
        raise TypeError(f"{wrong[0]!r} is not text; expected a question and names as text")
    if wrong := [x for x in regions if not isinstance(x, RegionOfInterest)]:
        raise TypeError(f"region {wrong[0]!r} is not a sensor_msgs/RegionOfInterest")
    return ProximityQuery.Request(
        question=question, objects=names, regions=list(regions), max_image_age=float(max_image_age)
    )


def _check_timeout(timeout: float) -> float:
    if not (math.isfinite(timeout) and 0 < timeout <= threading.TIMEOUT_MAX):
        raise ValueError(f"timeout is {timeout}; expected seconds, finite and > 0")
    return float(timeout)


def _outcome(response: Response) -> Response | ProximityError:
    if response.success:
        return response
    return ERRORS.get(response.error_code, ProximityError)(response.error_code, response.message, response)
