"""How errors are worded where a message, a log line or a diagnostic has room for one line."""

from __future__ import annotations

from proxqa_core.errors import ProxqaError, reason_of


def one_line(error: BaseException) -> str:
    """An error's text on one line; unexpected errors with the name of their class.

    Args:
        error: Any exception. A `ProxqaError` is written for users and stands by itself.

    Returns:
        The text, without a line break.
    """
    text = reason_of(error)
    if isinstance(error, MemoryError) and not text:
        text = "memory has run out"
    return text if isinstance(error, ProxqaError) and text else f"{type(error).__name__}: {text}"
