"""One thread that owns the model: the newest frame and a short queue of queries go in, answers come out.

Promises:

- the engine is loaded, used and dropped on the worker's thread only; every other method returns at once;
- one slot holds the newest frame; an older one that was not used is overwritten and counted as dropped;
- a bad frame is counted and reported and never replaces a good one, whatever its decoding raises;
- a query goes before the stream, but while queries wait the stream has every other step, with the frame that the last
  query was about, since it is encoded already: neither starves the other;
- a frame is encoded once by each engine, however many queries are about it;
- queries that wait together are answered from one frame, in as few passes of the model as they need;
- another engine takes over between two steps, whole or not at all, and no encoded image outlives its engine;
- it goes before the queries that wait, but the next one after a step of theirs or of the stream: who swaps again and
  again keeps nobody waiting;
- received = answered + dropped + bad + failed + at most two that are being processed.

Independent of ROS: a frame is any message with a `header`, and `decode` makes the image of it.
"""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from proxqa_core.errors import BadImageError, ProxqaError
from proxqa_core.memory import return_to_system
from proxqa_core.protocols import AdaptableEngine, BatchedImage, EncodedImage
from proxqa_core.types import ObjectDepth, ObjectQuery
from proxqa_ros.common.errors import one_line

T = TypeVar("T")
log = logging.getLogger(__name__)


class QueueFullError(ProxqaError):
    """As many queries as allowed are running or waiting."""


class StoppedError(ProxqaError):
    """The worker was stopped or paused before it came to the query."""


Asked = tuple[str, Sequence[ObjectQuery]]
"""What a query asks, in words, and its objects; "" = their depths."""
ObjectsIn = Callable[[int, int], tuple[ObjectQuery, ...]]
"""(width, height) of an image in pixels → the objects to be looked for in it."""


@dataclass(eq=False)
class FrameState:
    """One good frame.

    Args:
        header: Its message's header.
        image: The decoded image, uint8 RGB [height, width, 3].
        objects: The objects of this very frame (from a detector); None = none were given with it.
        encoded: The encoded image, None until it is needed.
        processing_s: Work on it so far, in seconds, without waiting.
        counted: It is in one of the counts already.
        streamed: The stream has taken it.
    """

    header: Any
    image: NDArray[np.uint8]
    objects: ObjectsIn | None = None
    encoded: EncodedImage | None = None
    processing_s: float = 0.0
    counted: bool = False
    streamed: bool = False


@dataclass
class Counts:
    """Frames and queries since the worker's start. Every frame received ends as one of the four after it."""

    received: int = 0
    answered: int = 0
    dropped: int = 0
    bad: int = 0
    failed: int = 0
    published: int = 0
    queries: int = 0
    last_error: str = ""


@dataclass(frozen=True)
class Stream:
    """What to do with frames besides answering queries.

    Args:
        objects: The objects to look for; none = nothing is done.
        rate_hz: Most frames per second, 0 = as fast as possible.
        enabled: Whether anything is done.
        use_detections: Each frame brings its own objects instead, and a frame that does not is left out.
    """

    objects: tuple[ObjectQuery, ...] = ()
    rate_hz: float = 0.0
    enabled: bool = False
    use_detections: bool = False

    @property
    def runs(self) -> bool:
        """Whether there is something to do."""
        return self.enabled and (self.use_detections or bool(self.objects))

    def wants(self, frame: FrameState) -> bool:
        """Whether a frame has not been taken yet, and has the objects it needs."""
        return not frame.streamed and (frame.objects is not None or not self.use_detections)


@dataclass(eq=False)
class _Query:
    run: Callable[[FrameState | None, AdaptableEngine], Any]
    asks: Asked | None = None
    arrived_s: float = field(default_factory=time.perf_counter)
    future: Future[Any] = field(default_factory=Future)


@dataclass(eq=False)
class _EngineTask:
    """Something done to the engine itself, not about a frame. run: settles the future. swaps: another takes over."""

    run: Callable[[Future[Any]], None]
    swaps: bool = False
    future: Future[Any] = field(default_factory=Future)


class Worker:
    """The thread, its slot and its queue.

    Args:
        load: Makes the engine.
        decode: Makes uint8 RGB [height, width, 3] of a frame's message; raises BadImageError.
        publish: Called with every streamed frame, its objects' depths and the engine, on the worker's thread.
        report: Called with one line for every bad or failed frame.
        max_queries: Most queries running and waiting.
        batch_window_s: How long a query waits for others to be answered with, in seconds.

    Attributes:
        loaded: The model's name once it is loaded, or why it could not be.
    """

    def __init__(
        self,
        load: Callable[[], AdaptableEngine],
        decode: Callable[[Any], NDArray[np.uint8]],
        publish: Callable[[FrameState, tuple[ObjectDepth, ...], AdaptableEngine], None],
        report: Callable[[str], None],
        max_queries: int,
        batch_window_s: float = 0.0,
    ) -> None:
        self._load, self._decode, self._publish, self._report = load, decode, publish, report
        self._max_queries = max_queries
        self._batch_window_s = batch_window_s
        self._wake = threading.Condition()
        self._queries: deque[_Query] = deque()
        self._engine_tasks: deque[_EngineTask] = deque()
        self._engine: Any = None  # used by the worker's thread alone
        self._running = 0  # queries
        self._slot: Any = None  # the newest message, not decoded yet
        self._slot_objects: ObjectsIn | None = None
        self._frame: FrameState | None = None  # the newest good frame
        self._stream = Stream()
        self._next_due = 0.0
        self._stream_turn = False  # the step before was a query's
        self._swapped = False  # the engine, since the last step of a query or the stream
        self._stopping = False
        self._counts = Counts()
        self._newest_header: Any = None
        self._flushes = 0  # what was begun before one is of no use after it
        self.loaded: Future[str] = Future()
        self._thread = threading.Thread(target=self._run, name="proxqa-worker", daemon=True)

    # -- called from any thread --------------------------------------------------------------------------------------

    @property
    def engine_info(self) -> dict[str, Any]:
        """What the engine says of itself now: another backend may have taken over. Empty until it is loaded."""
        engine = self._engine
        return {} if engine is None else dict(engine.info())

    def start(self) -> None:
        """Start the thread, which loads the engine first."""
        self._thread.start()

    def stop(self, timeout_s: float | None = None) -> bool:
        """End the thread after the running step; waiting queries get StoppedError. Repeatable.

        Args:
            timeout_s: Longest wait for that step (or the model's loading), in seconds; None = no limit.

        Returns:
            Whether the thread has ended.
        """
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        self.flush("the node was shut down or cleaned up")
        with self._wake:
            tasks, self._engine_tasks = list(self._engine_tasks), deque()
        for task in tasks:
            if task.future.set_running_or_notify_cancel():
                task.future.set_exception(StoppedError("not done: the node was shut down or cleaned up"))
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def flush(self, reason: str) -> None:
        """Drop the frames, and refuse the waiting queries with a StoppedError that has this reason."""
        with self._wake:
            queries, self._queries = list(self._queries), deque()
            self._drop_slot()
            self._drop_frame(self._frame)
            self._frame = None
            self._newest_header = None
            self._flushes += 1
        for query in queries:
            if query.future.set_running_or_notify_cancel():
                query.future.set_exception(StoppedError(f"the query was not answered: {reason}"))

    def push_frame(self, message: Any, objects: ObjectsIn | None = None) -> None:
        """Put a frame into the slot, or give one that was put there before its objects.

        Args:
            message: The frame's message.
            objects: What the stream looks for in it where it uses detections.
        """
        with self._wake:
            if self._stopping:
                return
            if self._slot is message:
                self._slot_objects = objects or self._slot_objects
                self._wake.notify_all()
                return
            if self._frame is not None and self._frame.header is message.header:
                self._frame.objects = objects or self._frame.objects
                self._wake.notify_all()
                return
            self._counts.received += 1
            self._drop_slot()
            self._slot, self._slot_objects = message, objects
            self._newest_header = message.header
            self._wake.notify_all()

    def reject_frame(self, error: BadImageError) -> None:
        """Count a frame that was found bad before it was pushed."""
        with self._wake:
            self._counts.received += 1
        self._bad(error)

    def submit(self, run: Callable[[FrameState | None, AdaptableEngine], T], asks: Asked | None = None) -> Future[T]:
        """Queue a query.

        Args:
            run: Called with the newest good frame (None = there is none yet) and the engine, on the worker's thread.
            asks: What `run` will ask of the encoded image, so that it can be perceived with what others ask.

        Returns:
            The future of what `run` returns or raises.

        Raises:
            QueueFullError: `max_queries` are running or waiting.
            StoppedError: The worker is being stopped.
        """
        query = _Query(run, asks=asks)
        with self._wake:
            if self._stopping:
                raise StoppedError("the query was not answered: the node is being shut down or cleaned up")
            self._queries = deque(q for q in self._queries if not q.future.cancelled())
            if len(self._queries) + self._running >= self._max_queries:
                raise QueueFullError(
                    f"{self._max_queries} queries are in work or waiting already (max_queued_queries); ask again later"
                )
            self._queries.append(query)
            self._counts.queries += 1
            self._wake.notify_all()
        return query.future

    def inspect(self, read: Callable[[AdaptableEngine], T]) -> Future[T]:
        """Have `read(engine)` run on the worker's thread before the waiting queries; for something quick."""

        def run(future: Future[Any]) -> None:
            if future.set_running_or_notify_cancel():
                try:
                    result = read(self._engine)
                except BaseException as error:
                    future.set_exception(error)
                else:
                    future.set_result(result)

        return self._submit_engine_task(run)

    def swap_engine(
        self, make: Callable[[AdaptableEngine], AdaptableEngine], then: Callable[[AdaptableEngine], None]
    ) -> Future[None]:
        """Have another engine take over before the waiting queries are answered; after them where one just did.

        Args:
            make: Makes the next engine of the current one, on the worker's thread. Where it raises, the current one
                stays, and the future has the error.
            then: Called with the next engine when it has taken over, before it is used, on the worker's thread.

        Returns:
            A future that can be cancelled until the next engine takes over; cancelled means that the current one stays.
        """

        def run(future: Future[Any]) -> None:
            if future.cancelled():
                return
            try:
                other = make(self._engine)
            except BaseException as error:
                if future.set_running_or_notify_cancel():
                    future.set_exception(error)
                return
            if not future.set_running_or_notify_cancel():
                return
            self._engine = other
            with self._wake:
                if self._frame is not None:
                    self._frame.encoded = None
            try:
                then(other)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(None)
            del other
            _free_engine()

        return self._submit_engine_task(run, swaps=True)

    def _submit_engine_task(self, run: Callable[[Future[Any]], None], swaps: bool = False) -> Future[Any]:
        task = _EngineTask(run, swaps)
        with self._wake:
            if self._stopping:
                raise StoppedError("not done: the node is being shut down or cleaned up")
            self._engine_tasks.append(task)
            self._wake.notify_all()
        return task.future

    def set_stream(self, stream: Stream) -> None:
        """Change what is done with frames besides answering queries, from the next frame on."""
        with self._wake:
            self._stream = stream
            self._next_due = 0.0
            self._wake.notify_all()

    def counts(self) -> Counts:
        """A copy of the counts."""
        with self._wake:
            return Counts(**vars(self._counts))

    def queued(self) -> int:
        """Number of queries running or waiting."""
        with self._wake:
            return len(self._queries) + self._running

    def newest_header(self) -> Any:
        """The header of the newest frame, None before the first."""
        with self._wake:
            return self._newest_header

    def encoded_image(self, frame: FrameState, engine: AdaptableEngine) -> EncodedImage:
        """The encoded image of a frame, encoded on first use. On the worker's thread only."""
        if frame.encoded is None:
            started = time.perf_counter()
            frame.encoded = engine.encode_image(frame.image)
            frame.processing_s += time.perf_counter() - started
        return frame.encoded

    # -- the worker's thread -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._engine = self._load()
        except BaseException as error:
            self.loaded.set_exception(error)
            return
        self.loaded.set_result(self._engine.model_name)
        while (step := self._next()) is not None:
            step()
        self._engine = None
        _free_engine()

    def _next(self) -> Callable[[], None] | None:
        """Wait for work: an engine task, else the oldest query and the stream's frame, in turns; None = stop."""
        with self._wake:
            while not self._stopping:
                timeout_s = None
                if self._stream.runs and self._stream_has_frame():
                    timeout_s = max(0.0, self._next_due - time.perf_counter())
                others_turn = self._swapped and (bool(self._queries) or timeout_s == 0)
                if self._engine_tasks and not (others_turn and self._engine_tasks[0].swaps):
                    task = self._engine_tasks.popleft()
                    self._swapped = self._swapped or task.swaps
                    return lambda: task.run(task.future)
                if self._queries and not (timeout_s == 0 and self._stream_turn):
                    wait_s = self._wait_for_others_s()
                    if wait_s > 0:
                        self._wake.wait(wait_s)
                        continue
                    query = self._queries.popleft()
                    self._running, self._stream_turn, self._swapped = 1, True, False
                    return lambda: self._answer_together(query, self._engine)
                if timeout_s == 0:
                    self._stream_turn, self._swapped, queries_waiting = False, False, bool(self._queries)
                    return lambda: self._step_stream(self._engine, queries_waiting)
                self._wake.wait(timeout_s)
            return None

    def _wait_for_others_s(self) -> float:
        """How long the oldest query is to wait for others, in seconds; under the lock."""
        if len(self._queries) >= self._max_queries:
            return 0.0
        return self._queries[0].arrived_s + self._batch_window_s - time.perf_counter()

    def _stream_has_frame(self) -> bool:
        """Whether there is a frame for the stream; under the lock."""
        if self._slot is not None and (self._slot_objects is not None or not self._stream.use_detections):
            return True
        return self._frame is not None and self._stream.wants(self._frame)

    def _newest(self) -> FrameState | None:
        """The newest good frame: the slot's where it can be decoded, else the one before."""
        with self._wake:
            message, self._slot = self._slot, None
            objects, self._slot_objects = self._slot_objects, None
            flushes = self._flushes
        if message is not None:
            started = time.perf_counter()
            try:
                frame = FrameState(message.header, self._decode(message), objects)
                frame.processing_s = time.perf_counter() - started
            except Exception as error:  # any: the thread that owns the model must not end by a frame
                self._bad(error)
            else:
                with self._wake:
                    if flushes != self._flushes:
                        self._drop_frame(frame)
                        return self._frame
                    self._drop_frame(self._frame)
                    self._frame = frame
        return self._frame

    def _answer_together(self, first: _Query, engine: AdaptableEngine) -> None:
        """Answer a query, which is running already, and those that wait with it, from the newest frame."""
        with self._wake:
            others = list(self._queries)
        frame = self._newest()
        self._prepare([first, *others], frame, engine)
        self._answer(first, frame, engine)
        for query in others:
            with self._wake:
                if self._stopping or query not in self._queries:  # refused meanwhile
                    continue
                self._queries.remove(query)
                self._running = 1
            self._answer(query, frame, engine)

    def _prepare(self, queries: Sequence[_Query], frame: FrameState | None, engine: AdaptableEngine) -> None:
        """Perceive what several queries ask at once; what goes wrong each of them finds out, and says, by itself."""
        asked = [q.asks for q in queries if q.asks is not None and not q.future.cancelled()]
        if frame is None or len(asked) < 2:
            return
        try:
            encoded = self.encoded_image(frame, engine)
            if isinstance(encoded, BatchedImage):
                encoded.prepare(asked)
        except Exception as error:
            log.debug("queries are answered one by one: %s", one_line(error))

    def _answer(self, query: _Query, frame: FrameState | None, engine: AdaptableEngine) -> None:
        try:
            if not query.future.set_running_or_notify_cancel():
                return
            try:
                result = query.run(frame, engine)
            except BaseException as error:
                query.future.set_exception(error)
            else:
                self._used(frame)
                query.future.set_result(result)
        finally:
            with self._wake:
                self._running = 0

    def _step_stream(self, engine: AdaptableEngine, queries_waiting: bool) -> None:
        """Publish the depths of the frame that the stream is to take, if there is one."""
        frame, stream = self._take_for_stream(queries_waiting)
        if frame is None:
            return
        try:
            objects = stream.objects
            if stream.use_detections and frame.objects is not None:
                objects = frame.objects(frame.image.shape[1], frame.image.shape[0])
            depths = self._depths(frame, objects, engine) if objects else ()
            with self._wake:
                if not self._stream.enabled or self._frame is not frame:  # paused or flushed meanwhile
                    return
            self._publish(frame, depths, engine)
        except Exception as error:
            self._failed(frame, error)
        else:
            with self._wake:
                self._counts.published += 1
            self._used(frame)

    def _take_for_stream(self, queries_waiting: bool) -> tuple[FrameState | None, Stream]:
        """The newest frame; the one before where that is encoded and queries wait, since it costs less."""
        with self._wake:
            frame = self._frame
            reuse = frame is not None and frame.encoded is not None and self._stream.wants(frame)
        if not (queries_waiting and reuse):
            frame = self._newest()
        with self._wake:
            stream = self._stream
            if frame is None or not stream.wants(frame) or not stream.runs:
                return None, stream
            frame.streamed = True
            if stream.rate_hz > 0:
                self._next_due = time.perf_counter() + 1.0 / stream.rate_hz
            return frame, stream

    def _depths(
        self, frame: FrameState, objects: tuple[ObjectQuery, ...], engine: AdaptableEngine
    ) -> tuple[ObjectDepth, ...]:
        encoded, started = self.encoded_image(frame, engine), time.perf_counter()
        depths = encoded.depths(objects)
        frame.processing_s += time.perf_counter() - started
        return depths

    # -- counting ----------------------------------------------------------------------------------------------------

    def _drop_slot(self) -> None:
        if self._slot is not None:
            self._counts.dropped += 1
            self._slot = self._slot_objects = None

    def _drop_frame(self, frame: FrameState | None) -> None:
        if frame is not None and not frame.counted:
            frame.counted = True
            self._counts.dropped += 1

    def _used(self, frame: FrameState | None) -> None:
        with self._wake:
            if frame is not None and not frame.counted:
                frame.counted = True
                self._counts.answered += 1

    def _bad(self, error: Exception) -> None:
        text = one_line(error)
        with self._wake:
            self._counts.bad += 1
            self._counts.last_error = text
        self._report(text)

    def _failed(self, frame: FrameState, error: Exception) -> None:
        text = one_line(error)
        with self._wake:
            if not frame.counted:
                frame.counted = True
                self._counts.failed += 1
            self._counts.last_error = text
        self._report(text)


def _free_engine() -> None:
    """Give an engine's memory back, of which nothing is used any more: parts of a model refer to one another."""
    gc.collect()
    return_to_system()
