"""Ctrl-C between two steps: a run saves what it has before it ends.

Promises: the first Ctrl-C is noted and nothing is cut in the middle; the second ends at once. The handler that was
there before is put back. In threads other than the main one, and with several processes, Ctrl-C is as it was.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class StopRequest:
    """Whether somebody has asked to stop."""

    def __init__(self) -> None:
        self.is_set = False

    def note(self, number: int, frame: FrameType | None) -> None:
        """The handler of the first Ctrl-C; the next raises KeyboardInterrupt."""
        self.is_set = True
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextlib.contextmanager
def stop_between_steps(enabled: bool = True) -> Iterator[StopRequest]:
    """Note Ctrl-C instead of raising it.

    Args:
        enabled: False = it is raised as ever: one of several processes that stops alone leaves the others waiting.
    """
    request = StopRequest()
    if not enabled or threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = signal.signal(signal.SIGINT, request.note)
    try:
        yield request
    finally:
        signal.signal(signal.SIGINT, before)
