"""An executor that spins in a thread of its own."""

from __future__ import annotations

import threading
from typing import Self

from rclpy.executors import Executor

SPIN_PERIOD_S = 0.1
"""Longest time until a request to stop is seen, in seconds."""


class SpinThread:
    """Spins an executor from `start` until `stop`; in a `with`, from its beginning to its end.

    Args:
        executor: The executor. It is shut down at the end.
        name: The thread's name.

    Attributes:
        error: What a callback raised, which ends the spinning; None where nothing was raised.
    """

    def __init__(self, executor: Executor, name: str = "spin") -> None:
        self.error: BaseException | None = None
        self._executor = executor
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._spin, name=name, daemon=True)

    def start(self) -> None:
        """Begin; once."""
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> bool:
        """End the thread, then shut the executor down.

        Args:
            timeout_s: Longest wait for each of the two, in seconds.

        Returns:
            Whether the thread has ended.
        """
        self._stopping.set()
        self._executor.create_task(lambda: None)  # something to do, so that it need not wait
        self._thread.join(timeout_s)  # before the shutdown: rclpy 9 may trigger a guard condition that it destroyed
        self._executor.shutdown(timeout_sec=timeout_s)
        return not self._thread.is_alive()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _spin(self) -> None:
        try:
            while not self._stopping.is_set():
                self._executor.spin_once(SPIN_PERIOD_S)
        except BaseException as error:
            self.error = error
            raise
