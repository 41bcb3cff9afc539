"""What the program tells on stderr while it works: log records, one line each.

Promises: records of proxqa's own packages read `proxqa: …`, those of other libraries `LIBRARY: …`; what libraries warn
their programmers of comes with -v alone. Logging and warnings are as they were when the command has ended, so that a
process may run several.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

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
    """Log to stderr: by default INFO of the program's own packages and ERROR of other libraries.

    Args:
        verbose: DEBUG of the program's own packages and INFO of others.
        quiet: Errors only.
    """
    own, others = _levels(verbose, quiet)
    handler = StderrHandler()
    handler.setFormatter(PrefixFormatter())
    root = logging.getLogger()
    before = {logger: logger.level for logger in (root, *map(logging.getLogger, OWN))}
    if not verbose:
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # it has a handler and a level of its own
    for logger in before:
        logger.setLevel(others if logger is root else own)
    root.addHandler(handler)
    shown_before, warnings.showwarning = warnings.showwarning, _log_warning
    try:
        yield
    finally:
        warnings.showwarning = shown_before
        root.removeHandler(handler)
        for logger, level in before.items():
            logger.setLevel(level)


def _levels(verbose: bool, quiet: bool) -> tuple[int, int]:
    """Levels of the program's own packages and of other libraries."""
    if verbose:
        return logging.DEBUG, logging.INFO
    return (logging.ERROR if quiet else logging.INFO), logging.ERROR


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """In place of `warnings.showwarning`: a record of the package whose line it is."""
    package = _package(Path(filename).parts)
    text = f"{category.__name__}: {' '.join(str(message).split())} ({Path(filename).name}:{lineno})"
    # a library's own logger may have a handler of its own, which knows nothing of -v
    logger = logging.getLogger(package if package in OWN else None)
    if logger.isEnabledFor(logging.WARNING):
        logger.handle(logger.makeRecord(package, logging.WARNING, filename, lineno, text, (), None))


def _package(parts: tuple[str, ...]) -> str:
    """The package of a file: below the last folder of installed packages; else one of this checkout, or a script."""
    installed = [i for i, part in enumerate(parts[:-1]) if part in ("site-packages", "dist-packages")]
    if installed:
        return parts[installed[-1] + 1].removesuffix(".py")
    return next((part for part in parts if part in OWN), Path(parts[-1]).stem)
