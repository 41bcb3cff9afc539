"""Files written whole or not at all, and told apart by their content.

Promises: under the final name there is always a whole file or folder, the old one or the new one, whenever a process
is killed or the machine loses power. Knows nothing of what is in them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path


def sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's content, 64 hexadecimal digits.

    Raises:
        OSError: The file cannot be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write a file through a temporary one beside it, which takes its place at the end of the `with` block.

    The folder is made where it is missing. What the block raises is passed on, and the temporary file is removed.

    Args:
        path: The file to write or to replace.

    Yields:
        The temporary path to write to, in the same folder; its name begins with a dot and ends in ``.part``, so
        writers that choose a format by the suffix must be told the format.

    Raises:
        OSError: The file cannot be written, or the block wrote none.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    work = _beside(path)
    try:
        yield work
        _sync(work)
        os.replace(work, path)
    finally:
        work.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write text as UTF-8 by `atomic_write`."""
    with atomic_write(path) as work:
        work.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """`atomic_write` for a folder: fill the one that is yielded, it takes the place of `path` at the end.

    A folder cannot be replaced in one step where there is one already: for a moment there is none of that name.

    Args:
        path: The folder to make or to replace.

    Yields:
        An empty temporary folder beside it, to be filled.

    Raises:
        OSError: The folder cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    work, old = _beside(path), _beside(path)
    work.mkdir()
    try:
        yield work
        for file in work.rglob("*"):
            if file.is_file():
                _sync(file)
        if path.exists():
            os.replace(path, old)
        os.replace(work, path)
    finally:
        shutil.rmtree(work, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _beside(path: Path) -> Path:
    """A name in the same folder that nothing else has."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")


def _sync(file: Path) -> None:
    """Have a file's content on the disk before its name is."""
    handle = os.open(file, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
