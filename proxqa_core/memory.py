"""Memory: what does not fit is named, and what is not needed any more is given back to the system.

Promises: `naming_what_does_not_fit` turns every way in which Python, torch and CUDA say that memory has run out into
one `OutOfMemoryError` of one line. Knows nothing of models.
"""

from __future__ import annotations

import contextlib
import ctypes
import re
from collections.abc import Iterator
from pathlib import Path

from proxqa_core.errors import OutOfMemoryError

MB = 10**6
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
"""Of glibc's malloc.h."""
LOADING_MMAP_BYTES = 2**17
MAX_MMAP_BYTES = 2**25
"""Least size of a block with a mapping of its own: glibc's at its start, and the one that it soon adapts to."""
_TORCH = re.compile(r"(?:can't|cannot|unable to) allocate memory|CUDA out of memory|os error 12", re.IGNORECASE)
_WANTED = re.compile(r"tried to allocate (\d+) bytes|Tried to allocate ([\d.]+ [KMGT]iB)")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory has run out; torch's and safetensors' are no MemoryError."""
    return isinstance(error, MemoryError) or bool(_TORCH.search(str(error)))


@contextlib.contextmanager
def naming_what_does_not_fit(what: str) -> Iterator[None]:
    """Raise an OutOfMemoryError for errors of memory in the `with` block.

    Args:
        what: What is being made or loaded, the beginning of the message.

    Raises:
        OutOfMemoryError: Memory has run out.
    """
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        if isinstance(error, OutOfMemoryError) or not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(f"{what} does not fit into memory: {_how_much(error)}") from error


def _how_much(error: BaseException) -> str:
    """What was asked for and what there is, as far as known."""
    found = _WANTED.search(str(error))
    parts = []
    if found:
        parts.append(f"{int(found[1]) / MB:.1f} MB more were wanted" if found[1] else f"{found[2]} more were wanted")
    available_bytes = available()
    if available_bytes is not None:
        parts.append(f"{available_bytes / MB:.0f} MB are available to processes of this machine")
    return ", ".join(parts) or type(error).__name__


def available() -> int | None:
    """Memory that a process could still get, in bytes, by the kernel's estimate; None where it is not known."""
    with contextlib.suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1])
    return None


def return_to_system() -> None:
    """Give memory that was freed back to the system, which glibc would keep."""
    with contextlib.suppress(OSError, AttributeError):  # another libc
        ctypes.CDLL(None).malloc_trim(0)


def keep_one_heap() -> None:
    """Have all threads that start from now on share one heap.

    glibc gives each of them one of its own, up to eight a core. A model that is loaded and dropped by one thread after
    another leaves holes in every one of these, which cannot be given back: 96 MB after 24 times, 15 MB with one heap.
    """
    with contextlib.suppress(OSError, AttributeError):  # another libc
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


@contextlib.contextmanager
def weights_apart() -> Iterator[None]:
    """Let what is allocated in the `with` block have mappings of its own, which freeing gives back to the system.

    Weights that lie on glibc's heap among what lives shorter leave holes there when they are freed. Afterwards smaller
    blocks come from the heap again, as without this: it is faster for what a model computes.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LOADING_MMAP_BYTES)
    try:
        yield
    finally:
        with contextlib.suppress(OSError, AttributeError):
            libc = ctypes.CDLL(None)
            libc.mallopt(M_MMAP_THRESHOLD, MAX_MMAP_BYTES)
            libc.mallopt(M_TRIM_THRESHOLD, 2 * MAX_MMAP_BYTES)
