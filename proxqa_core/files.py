"""Files written whole or not at all, and told apart by their content.

Promises: under the final name there is always a whole file or folder, the old one or the new one, whenever a process
is killed or the machine loses power; it has the permissions that the umask gives, whatever wrote it; where there is no
room or no right to write, a `WriteError` names the target and how much was needed. Knows nothing of what is in them.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from proxqa_core.errors import WriteError

MB = 10**6
HASH_BLOCK_BYTES = 2**22
"""Read at once to be hashed: after each block Python's lock is waited for, where others run beside it."""
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_RIGHT = (errno.EACCES, errno.EPERM, errno.EROFS)
_ERRNO_IN_TEXT = re.compile(r"\(os error (\d+)\)")
"""How errors of safetensors, which are no OSError, end."""


def sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's content, 64 hexadecimal digits.

    Raises:
        OSError: The file cannot be read.
    """
    total, block = hashlib.sha256(), bytearray(HASH_BLOCK_BYTES)
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(block):
            total.update(memoryview(block)[:count])
    return total.hexdigest()


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str], needed_bytes: int = 0) -> Iterator[Path]:
    """Write a file through a temporary one beside it, which takes its place at the end of the `with` block.

    The folder is made where it is missing. What the block raises is passed on, and the temporary file is removed.

    Args:
        path: The file to write or to replace, which keeps its permissions.
        needed_bytes: What it will take, for the text of an error; 0 = not known.

    Yields:
        The temporary path to write to, in the same folder; its name begins with a dot and ends in ``.part``, so
        writers that choose a format by the suffix must be told the format.

    Raises:
        WriteError: There is no room, or no right to write.
        OSError: The file cannot be written for another reason, or the block wrote none.
    """
    path = Path(path)
    work = _beside(path)
    with _naming(path, work, needed_bytes):
        path.parent.mkdir(parents=True, exist_ok=True)
        yield work
        os.chmod(work, _mode_of(path))
        _sync(work)
        os.replace(work, path)
        _sync(path.parent)


def write_text(path: str | os.PathLike[str], text: str, errors: str = "strict") -> None:
    """Write text as UTF-8 by `atomic_write`; straight into what is no regular file, such as /dev/stdout or a pipe.

    Args:
        path: The file; a link is followed.
        text: What to write.
        errors: As of `str.encode`: what becomes of what is no text.

    Raises:
        WriteError: As `atomic_write`.
        OSError: As `atomic_write`.
    """
    path = Path(path)
    content = text.encode("utf-8", errors)
    if path.exists() and not path.is_file():
        path.write_bytes(content)
        return
    with atomic_write(os.path.realpath(path), len(content)) as work:
        work.write_bytes(content)


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike[str], needed_bytes: int = 0) -> Iterator[Path]:
    """`atomic_write` for a folder: fill the one that is yielded, it takes the place of `path` at the end.

    A folder cannot be replaced in one step where there is one already: for a moment there is none of that name.

    Args:
        path: The folder to make or to replace.
        needed_bytes: What it will take, for the text of an error; 0 = not known.

    Yields:
        An empty temporary folder beside it, to be filled.

    Raises:
        WriteError: There is no room, or no right to write.
        OSError: The folder cannot be written for another reason.
    """
    path = Path(path)
    work, old = _beside(path), _beside(path)
    try:
        with _naming(path, work, needed_bytes):
            path.parent.mkdir(parents=True, exist_ok=True)
            work.mkdir()
            yield work
            share(work)
            for file in (*work.rglob("*"), work):
                _sync(file)
            if path.exists():
                os.replace(path, old)
            os.replace(work, path)
            _sync(path.parent)
    finally:
        shutil.rmtree(old, ignore_errors=True)


def share(folder: Path) -> None:
    """Give a folder and what is in it the permissions that the umask gives: some writers keep all others out.

    Args:
        folder: What it links to is left alone.
    """
    mask = _umask()
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            os.chmod(path, (0o777 if path.is_dir() else 0o666) & ~mask)


@contextlib.contextmanager
def _naming(path: Path, work: Path, needed_bytes: int) -> Iterator[None]:
    """Raise a WriteError for the system's errors about a target, and remove its work file or folder in the end."""
    try:
        yield
    except Exception as error:
        code = _system_error(error, path)
        if code not in (*NO_ROOM, *NO_RIGHT):
            raise
        written_bytes = sum(p.stat().st_size for p in (work, *work.rglob("*")) if p.is_file())
        raise WriteError(_cannot_write(path, code, needed_bytes, written_bytes)) from error
    finally:
        if work.is_dir():
            shutil.rmtree(work, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                work.unlink(missing_ok=True)


def _system_error(error: Exception, path: Path) -> int:
    """The system's error number, 0 where there is none or it is about something else than writing this path."""
    if isinstance(error, WriteError):
        return 0
    if isinstance(error, OSError):
        about = error.filename
        near = about is None or path.parent.absolute() in (p := Path(os.fsdecode(about)).absolute(), *p.parents)
        above = about is not None and Path(os.fsdecode(about)).absolute() in path.absolute().parents
        return (error.errno or 0) if near or above else 0
    found = _ERRNO_IN_TEXT.search(str(error))
    return int(found[1]) if found else 0


def _cannot_write(path: Path, code: int, needed_bytes: int, written_bytes: int) -> str:
    why = f"{str(path)!r} cannot be written: {os.strerror(code)}"
    if code in NO_RIGHT:
        return f"{why}; expected a folder that this user may write to"
    size = f"it takes {needed_bytes / MB:.1f} MB" if needed_bytes else f"it takes more than {written_bytes / MB:.1f} MB"
    free_bytes = shutil.disk_usage(path.parent).free + written_bytes
    return f"{why}; {size}, {str(path.parent)!r} has {free_bytes / MB:.1f} MB free"


def _mode_of(path: Path) -> int:
    """Permissions of a file, of the one that is there or of a new one."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return 0o666 & ~_umask()


def _umask() -> int:
    """The process's umask, without changing it for a moment as os.umask does."""
    with contextlib.suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        return int(next(line for line in lines if line.startswith("Umask:")).split()[1], 8)
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _beside(path: Path) -> Path:
    """A name in the same folder that nothing else has."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")


def _sync(path: Path) -> None:
    """Have what a file or folder holds on the disk; not on file systems that cannot do that for folders."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(handle)
