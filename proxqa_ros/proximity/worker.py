"""One thread that owns the model: the newest frame and a short queue of queries go in, answers come out.

Promises:
- the engine is loaded, used and dropped on the worker's thread only; every other method returns at once;
- one slot holds the newest frame, an older one that nobody used is overwritten and counted as dropped;
- a bad frame is counted and reported and never displaces a good one, whatever its decoding raises;
- a query goes before the stream, but while queries wait the stream has every other step, with the frame that the last
  query was about, since it is encoded already: neither starves the other;
- a frame is encoded once by each engine, however many ask about it;
- another engine takes over between two steps, whole or not at all, and no frame's view outlives its engine;
- received = answered + dropped + bad + failed + at most two that are still in hand.

Knows nothing of ROS: a frame is any message with a `header`, `decode` makes the image.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from proxqa_core.errors import BadImageError, ProxqaError
from proxqa_core.protocols import AdaptableEngine as Engine
from proxqa_core.protocols import EncodedImage
from proxqa_core.types import ObjectDepth, ObjectQuery
from proxqa_ros.common.errors import one_line

T = TypeVar("T")


class QueueFullError(ProxqaError):
    """As many queries as allowed are in work or waiting."""


class StoppedError(ProxqaError):
    """The worker was stopped or paused before it came to the query."""


ObjectsIn = Callable[[int, int], tuple[ObjectQuery, ...]]
"""(width, height) of an image → the objects to be looked at in it."""


@dataclass(eq=False)
class FrameState:
    """One good frame: its message's header, the decoded image, its view once it has been encoded.

    objects: those of this very frame, by its width and height; None = it was not said. worked: seconds of work on it.
    """

    header: Any
    image: NDArray[np.uint8]
    objects: ObjectsIn | None = None
    encoded: EncodedImage | None = None
    worked: float = 0.0
    used: bool = False
    streamed: bool = False


@dataclass
class Counts:
    """Frames and queries since the worker's start."""

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
    """What to do with frames that nobody asks about: nothing where `on` is false or there are no objects.

    rate: most frames per second, 0 = as fast as possible. detected: each frame brings its own objects, and one that
    does not is left out.
    """

    objects: tuple[ObjectQuery, ...] = ()
    rate: float = 0.0
    on: bool = False
    detected: bool = False

    @property
    def runs(self) -> bool:
        return self.on and (self.detected or bool(self.objects))


@dataclass(eq=False)
class _Job:
    run: Callable[[FrameState | None, Engine], Any]
    future: Future[Any] = field(default_factory=Future)


@dataclass(eq=False)
class _EngineTask:
    """What is done to the engine itself, not about a frame. run: settles the future."""

    run: Callable[[Future[Any]], None]
    future: Future[Any] = field(default_factory=Future)


class Worker:
    """The thread, its slot and its queue.

    load: makes the engine. decode: message → RGB, raises BadImageError. publish: called on the worker's thread with
    every streamed frame and its depths. report: called with one line for every bad or failed frame.
    max_queries: most queries in work and waiting.
    """

    def __init__(
        self,
        load: Callable[[], Engine],
        decode: Callable[[Any], NDArray[np.uint8]],
        publish: Callable[[FrameState, tuple[ObjectDepth, ...], Engine], None],
        report: Callable[[str], None],
        max_queries: int,
    ) -> None:
        self._load, self._decode, self._publish, self._report = load, decode, publish, report
        self._max_queries = max_queries
        self._wake = threading.Condition()
        self._jobs: deque[_Job] = deque()
        self._chores: deque[_EngineTask] = deque()
        self._engine: Any = None  # the worker's thread's own
        self._in_work = 0
        self._waiting: Any = None
        self._waiting_objects: ObjectsIn | None = None
        self._shot: FrameState | None = None
        self._stream = Stream()
        self._next_due = 0.0
        self._streams_turn = False  # the step before was a query's
        self._stopping = False
        self._counts = Counts()
        self._newest_header: Any = None
        self.loaded: Future[str] = Future()
        """The model's name once it is there, or why it is not."""
        self.about: dict[str, Any] = {}
        """What the engine says of itself, once it is there."""
        self._thread = threading.Thread(target=self._run, name="proxqa-worker", daemon=True)

    # -- called from anywhere ----------------------------------------------------------------------------------------

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float | None = None) -> bool:
        """End the thread after the step in hand; queries that wait get StoppedError. Repeatable.

        timeout: longest wait for that step (or the model's loading), in seconds. Whether the thread has ended.
        """
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        self.forget("the node was shut down or cleaned up")
        with self._wake:
            chores, self._chores = list(self._chores), deque()
        for chore in chores:
            if chore.future.set_running_or_notify_cancel():
                chore.future.set_exception(StoppedError("not done: the node was shut down or cleaned up"))
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def forget(self, reason: str) -> None:
        """Drop the frames in hand and refuse the queries that wait, with StoppedError(reason)."""
        with self._wake:
            jobs, self._jobs = list(self._jobs), deque()
            self._drop_waiting()
            self._retire(self._shot)
            self._shot = None
            self._newest_header = None
        for job in jobs:
            if job.future.set_running_or_notify_cancel():
                job.future.set_exception(StoppedError(f"the query was not answered: {reason}"))

    def push_frame(self, message: Any, objects: ObjectsIn | None = None) -> None:
        """Put a frame into the slot, or say which objects are in one that is in hand already.

        objects: what the stream looks at in it where it is `detected`.
        """
        with self._wake:
            if self._stopping:
                return
            if self._waiting is message:
                self._waiting_objects = objects or self._waiting_objects
                self._wake.notify_all()
                return
            if self._shot is not None and self._shot.header is message.header:
                self._shot.objects = objects or self._shot.objects
                self._wake.notify_all()
                return
            self._counts.received += 1
            self._drop_waiting()
            self._waiting, self._waiting_objects = message, objects
            self._newest_header = message.header
            self._wake.notify_all()

    def reject(self, error: BadImageError) -> None:
        """Count a frame that was found bad before it was offered."""
        with self._wake:
            self._counts.received += 1
        self._bad(error)

    def submit(self, run: Callable[[FrameState | None, Engine], T]) -> Future[T]:
        """Queue a query: run(newest good frame or None, engine) on the worker's thread. Raises QueueFullError."""
        job = _Job(run)
        with self._wake:
            if self._stopping:
                raise StoppedError("the query was not answered: the node is being shut down or cleaned up")
            self._jobs = deque(j for j in self._jobs if not j.future.cancelled())
            if len(self._jobs) + self._in_work >= self._max_queries:
                raise QueueFullError(
                    f"{self._max_queries} queries are in work or waiting already (max_queued_queries); ask again later"
                )
            self._jobs.append(job)
            self._counts.queries += 1
            self._wake.notify_all()
        return job.future

    def inspect(self, read: Callable[[Engine], T]) -> Future[T]:
        """Have read(engine) done on the worker's thread, before the queries that wait; for what is quick."""

        def run(future: Future[Any]) -> None:
            if future.set_running_or_notify_cancel():
                try:
                    result = read(self._engine)
                except BaseException as error:
                    future.set_exception(error)
                else:
                    future.set_result(result)

        return self._chore(run)

    def change(self, make: Callable[[Engine], Engine], then: Callable[[Engine], None]) -> Future[None]:
        """Have another engine take over, before the queries that wait are answered.

        make: the engine now → the next one, whole; where it raises, the one now goes on, and the future has the error.
        then: called with the next one when it has taken over, before it is asked anything. Both run on the worker's
        thread. The future can be cancelled until the next one takes over; cancelled means that the one now goes on.
        """

        def run(future: Future[Any]) -> None:
            if future.cancelled():
                return
            try:
                other = make(self._engine)
                about = other.info()
            except BaseException as error:
                if future.set_running_or_notify_cancel():
                    future.set_exception(error)
                return
            if not future.set_running_or_notify_cancel():
                return
            self._engine, self.about = other, about
            with self._wake:
                if self._shot is not None:
                    self._shot.encoded = None
            try:
                then(other)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(None)

        return self._chore(run)

    def _chore(self, run: Callable[[Future[Any]], None]) -> Future[Any]:
        chore = _EngineTask(run)
        with self._wake:
            if self._stopping:
                raise StoppedError("not done: the node is being shut down or cleaned up")
            self._chores.append(chore)
            self._wake.notify_all()
        return chore.future

    def set_stream(self, stream: Stream) -> None:
        """Change what is done with frames that nobody asks about; takes effect with the next frame."""
        with self._wake:
            self._stream = stream
            self._next_due = 0.0
            self._wake.notify_all()

    def counts(self) -> Counts:
        """A copy of the counts."""
        with self._wake:
            return Counts(**vars(self._counts))

    def queued(self) -> int:
        """Queries in work or waiting."""
        with self._wake:
            return len(self._jobs) + self._in_work

    def newest_header(self) -> Any:
        """The header of the newest frame, None before the first."""
        with self._wake:
            return self._newest_header

    def encoded_of(self, shot: FrameState, engine: Engine) -> EncodedImage:
        """The view of a frame, encoded on first use. On the worker's thread only."""
        if shot.encoded is None:
            started = time.perf_counter()
            shot.encoded = engine.encode_image(shot.image)
            shot.worked += time.perf_counter() - started
        return shot.encoded

    # -- the worker's thread -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._engine = self._load()
            self.about = self._engine.info()
        except BaseException as error:
            self.loaded.set_exception(error)
            return
        self.loaded.set_result(self._engine.model_name)
        while (step := self._next()) is not None:
            step()
        self._engine = None

    def _next(self) -> Callable[[], None] | None:
        """Wait for work: a chore, else the oldest query and the stream's frame that is due, in turns; None = stop."""
        with self._wake:
            while not self._stopping:
                if self._chores:
                    chore = self._chores.popleft()
                    return lambda: chore.run(chore.future)
                patience = None
                if self._stream.runs and self._fresh():
                    patience = max(0.0, self._next_due - time.perf_counter())
                if self._jobs and not (patience == 0 and self._streams_turn):
                    job = self._jobs.popleft()
                    self._in_work, self._streams_turn = 1, True
                    return lambda: self._answer(job, self._engine)
                if patience == 0:
                    self._streams_turn, queries_wait = False, bool(self._jobs)
                    return lambda: self._step_stream(self._engine, queries_wait)
                self._wake.wait(patience)
            return None

    def _fresh(self) -> bool:
        """Whether there is a frame for the stream; under the lock."""
        if self._waiting is not None and (self._waiting_objects is not None or not self._stream.detected):
            return True
        return self._shot is not None and self._streams(self._shot, self._stream)

    @staticmethod
    def _streams(shot: FrameState, stream: Stream) -> bool:
        return not shot.streamed and (shot.objects is not None or not stream.detected)

    def _newest(self) -> FrameState | None:
        """The newest good frame: the slot's where it can be decoded, else the one in hand."""
        with self._wake:
            message, self._waiting = self._waiting, None
            objects, self._waiting_objects = self._waiting_objects, None
        if message is not None:
            started = time.perf_counter()
            try:
                shot = FrameState(message.header, self._decode(message), objects)
                shot.worked = time.perf_counter() - started
            except Exception as error:  # a decoder's own too: the thread that owns the model must not end by a frame
                self._bad(error)
            else:
                with self._wake:
                    self._retire(self._shot)
                    self._shot = shot
        return self._shot

    def _answer(self, job: _Job, engine: Engine) -> None:
        try:
            if not job.future.set_running_or_notify_cancel():
                return
            try:
                shot = self._newest()
                result = job.run(shot, engine)
            except BaseException as error:
                job.future.set_exception(error)
            else:
                self._used(shot)
                job.future.set_result(result)
        finally:
            with self._wake:
                self._in_work = 0

    def _step_stream(self, engine: Engine, queries_wait: bool) -> None:
        """Publish the newest frame's depths; those of the frame in hand where it is encoded and queries wait."""
        with self._wake:
            shot = self._shot
            at_hand = (
                queries_wait and shot is not None and shot.encoded is not None and self._streams(shot, self._stream)
            )
        if not at_hand:
            shot = self._newest()
        with self._wake:
            stream = self._stream
            if shot is None or not self._streams(shot, stream) or not stream.runs:
                return
            shot.streamed = True
            if stream.rate > 0:
                self._next_due = time.perf_counter() + 1.0 / stream.rate
        try:
            objects = stream.objects
            if stream.detected and shot.objects is not None:
                objects = shot.objects(shot.image.shape[1], shot.image.shape[0])
            depths = self._depths(shot, objects, engine) if objects else ()
            with self._wake:
                if not self._stream.on:  # paused meanwhile
                    return
            self._publish(shot, depths, engine)
        except Exception as error:
            self._failed(shot, error)
        else:
            with self._wake:
                self._counts.published += 1
            self._used(shot)

    def _depths(self, shot: FrameState, objects: tuple[ObjectQuery, ...], engine: Engine) -> tuple[ObjectDepth, ...]:
        view, started = self.encoded_of(shot, engine), time.perf_counter()
        depths = view.depths(objects)
        shot.worked += time.perf_counter() - started
        return depths

    # -- counting ----------------------------------------------------------------------------------------------------

    def _drop_waiting(self) -> None:
        if self._waiting is not None:
            self._counts.dropped += 1
            self._waiting = self._waiting_objects = None

    def _retire(self, shot: FrameState | None) -> None:
        if shot is not None and not shot.used:
            shot.used = True
            self._counts.dropped += 1

    def _used(self, shot: FrameState | None) -> None:
        with self._wake:
            if shot is not None and not shot.used:
                shot.used = True
                self._counts.answered += 1

    def _bad(self, error: Exception) -> None:
        text = one_line(error)
        with self._wake:
            self._counts.bad += 1
            self._counts.last_error = text
        self._report(text)

    def _failed(self, shot: FrameState, error: Exception) -> None:
        text = one_line(error)
        with self._wake:
            if not shot.used:
                shot.used = True
                self._counts.failed += 1
            self._counts.last_error = text
        self._report(text)
