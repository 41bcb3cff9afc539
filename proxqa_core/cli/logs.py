"""What the program tells on stderr while it works: log records, one line each.

Promises: records of proxqa's own packages read `proxqa: …`, those of other libraries `LIBRARY: …`; logging is as it was
when the command has ended, so that a process may run several.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator

OWN = ("proxqa_core", "proxqa_ros", "proxqa_training")
"""The packages whose records are the program's own."""


class StderrHandler(logging.Handler):
    """Writes to whatever `sys.stderr` is at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record as a line."""
        try:
            print(self.format(record), file=sys.stderr, flush=True)
        except Exception:
            self.handleError(record)


class PrefixFormatter(logging.Formatter):
    """`proxqa: MESSAGE` for the program's own records, `LIBRARY: MESSAGE` for others."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as text, with a traceback below where it has one."""
        package = record.name.split(".")[0]
        return f"{'proxqa' if package in OWN else package}: {super().format(record)}"


@contextlib.contextmanager
def to_stderr(verbose: bool = False, quiet: bool = False) -> Iterator[None]:
    """Log to stderr: by default INFO of the program's own packages and WARNING of other libraries.

    Args:
        verbose: DEBUG of the program's own packages and INFO of others.
        quiet: Errors only.
    """
    own, others = _levels(verbose, quiet)
    handler = StderrHandler()
    handler.setFormatter(PrefixFormatter())
    root = logging.getLogger()
    before = {logger: logger.level for logger in (root, *map(logging.getLogger, OWN))}
    if quiet:
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # it has a handler and a level of its own
    for logger in before:
        logger.setLevel(others if logger is root else own)
    root.addHandler(handler)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.removeHandler(handler)
        for logger, level in before.items():
            logger.setLevel(level)


def _levels(verbose: bool, quiet: bool) -> tuple[int, int]:
    """Levels of the program's own packages and of other libraries."""
    if quiet:
        return logging.ERROR, logging.ERROR
    return (logging.DEBUG, logging.INFO) if verbose else (logging.INFO, logging.WARNING)
