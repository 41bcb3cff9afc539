"""A call that came with a model, such as its chat template, within a time.

Promises: who calls goes on after the limit, whatever the call does; Python code in it is ended. Knows nothing of
models.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
TEMPLATE_TIMEOUT_S = 5.0
"""Longest time that a model's chat template may take: it is a program, and may never end."""


class TimeLimitError(Exception):
    """A call did not end in time."""


def within(limit_s: float, call: Callable[[], T]) -> T:
    """What a call returns or raises, within a time.

    Args:
        limit_s: Longest time, in seconds.
        call: Runs on a thread of its own.

    Raises:
        TimeLimitError: It has not ended by then. It is ended at the next step of its Python code; one step that never
            ends is left behind, on a thread that does not keep the process alive.
    """
    ended: list[tuple[bool, Any]] = []

    def run() -> None:
        try:
            ended.append((True, call()))
        except BaseException as error:
            ended.append((False, error))

    thread = threading.Thread(target=run, name="time limited", daemon=True)
    thread.start()
    thread.join(limit_s)
    if not ended:
        identity = ctypes.c_ulong(thread.ident or 0)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(identity, ctypes.py_object(TimeLimitError))
        raise TimeLimitError(f"has not ended after {limit_s:g} s")
    returned, value = ended[0]
    if not returned:
        raise value
    result: T = value
    return result
