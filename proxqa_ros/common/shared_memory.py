"""Fast DDS's shared memory: removing what killed processes left of it, and saying whether this process has it.

Promises: memory that a living process uses is never removed. Each process has a segment ``/dev/shm/fastdds_<16 hex>``
and holds a lock (flock) on ``…_el`` beside it as long as it lives, in whatever container or namespace of this kernel;
a segment whose lock can be taken is nobody's any more. That is how Fast DDS's own tool ``fastdds shm clean`` tells, and
how its processes tell of one another. Ports (``fastdds_port…``, 52 kB each) are left to Fast DDS, which takes them
over: living senders may still have them open.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from rclpy.utilities import get_rmw_implementation_identifier

SHM_FOLDER = Path("/dev/shm")
LOCK_SUFFIX = "_el"
BUILTIN_SEGMENT_BYTES = 2**19
"""A segment of Fast DDS's default, of which each process has at least one."""
MB = 10**6
WITHOUT_SHM = ("UDPV4", "UDPV6", "TCPV4", "TCPV6", "NONE")
"""Values of FASTDDS_BUILTIN_TRANSPORTS that mean no shared memory."""
REMEDY = "docker run --ipc=host or --shm-size=256m; mount -o remount,size=256m /dev/shm"
_SEGMENT = re.compile(r"(fastdds_[0-9a-f]{16})(?:_el)?")


@dataclass(frozen=True)
class Leftovers:
    """What was removed.

    Args:
        segments: How many segments.
        size_bytes: What they took.
    """

    segments: int = 0
    size_bytes: int = 0


def remove_leftovers(folder: Path = SHM_FOLDER) -> Leftovers:
    """Remove the segments of processes that live no more. What may not be removed stays; nothing is raised.

    Args:
        folder: Where the segments are.
    """
    sizes = []
    for name in _segments_in(folder):
        with contextlib.suppress(OSError), _owner_lock(folder, name):
            size_bytes = _allocated_bytes(folder / name)
            (folder / name).unlink(missing_ok=True)
            (folder / (name + LOCK_SUFFIX)).unlink(missing_ok=True)
            sizes.append(size_bytes)
    return Leftovers(len(sizes), sum(sizes))


def _segments_in(folder: Path) -> list[str]:
    """Names of segments that are there, or whose lock is."""
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    return sorted({found.group(1) for name in names if (found := _SEGMENT.fullmatch(name))})


@contextlib.contextmanager
def _owner_lock(folder: Path, name: str) -> Iterator[None]:
    """Hold the lock that a segment's process holds while it lives. OSError where it does."""
    path = folder / (name + LOCK_SUFFIX)
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        handle = os.open(path, flags)
    except FileNotFoundError:  # killed in the middle of its end, or of another's clean-up
        if (folder / name).lstat().st_uid != os.geteuid():
            raise
        handle = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _allocated_bytes(path: Path) -> int:
    try:
        return path.lstat().st_blocks * 512
    except FileNotFoundError:
        return 0


@dataclass(frozen=True)
class SharedMemoryState:
    """Whether this process has shared memory, and whether the next one can.

    Args:
        in_use: This process has a segment.
        text: All of it in one line, for diagnostics.
        problem: What is wrong and what to do, '' = nothing.
    """

    in_use: bool
    text: str
    problem: str = ""


def state(folder: Path = SHM_FOLDER, environ: Mapping[str, str] = os.environ) -> SharedMemoryState:
    """Look at this process's segments, as its ROS context was made, and at the room that is left.

    Args:
        folder: Where the segments are.
        environ: Where Fast DDS's settings are.
    """
    rmw = get_rmw_implementation_identifier()
    if "fastrtps" not in rmw:
        return SharedMemoryState(False, f"not in use by this node's choice of {rmw}")
    wanted_bytes = wanted_segment_bytes(environ)
    own = _own_segments(folder)
    sizes = [_allocated_bytes(folder / name) for name in own]
    found = describe(wanted_bytes, sizes, len(_mapped_segments(folder) - own), room(folder))
    strangers = other_users_segments(folder) if wanted_bytes else 0
    return replace(found, text=f"{found.text}; {_strangers(strangers)}") if strangers else found


def other_users_segments(folder: Path = SHM_FOLDER) -> int:
    """Number of segments that belong to other users, whose messages do not arrive here, nor this user's there."""
    count = 0
    for name in _segments_in(folder):
        with contextlib.suppress(OSError):
            count += (folder / name).lstat().st_uid != os.geteuid()
    return count


def _strangers(count: int) -> str:
    return f"{count} segments are other users': messages do not arrive between users, run all nodes as one"


def describe(
    wanted_bytes: int, own_bytes: list[int], others: int, room_bytes: tuple[int, int] | None
) -> SharedMemoryState:
    """The state in words.

    Args:
        wanted_bytes: Size of a segment by the settings, 0 = they have no shared memory.
        own_bytes: Sizes of this process's segments.
        others: Number of other processes' segments that it reads.
        room_bytes: Bytes free and in all; None = not known.
    """
    free_bytes, total_bytes = room_bytes or (0, 0)
    has = f"/dev/shm has {free_bytes / MB:.0f} of {total_bytes / MB:.0f} MB free" if room_bytes else "no /dev/shm"
    if not wanted_bytes:
        return SharedMemoryState(False, f"not in use by Fast DDS's settings; {has}")
    takes = f"a segment takes {wanted_bytes / MB:.1f} MB"
    if max(own_bytes, default=0) < wanted_bytes:  # Fast DDS has a small one besides, for discovery
        problem = f"shared memory is not in use, large images may be lost: {has}, {takes}; {REMEDY}"
        return SharedMemoryState(False, f"not in use; {has}, {takes}", problem)
    text = f"in use: {sum(own_bytes) / MB:.1f} MB, and segments of {others} other processes; {has}"
    if free_bytes >= wanted_bytes:
        return SharedMemoryState(True, text)
    problem = f"the next process has no shared memory, its large images may be lost: {has}, {takes}; {REMEDY}"
    return SharedMemoryState(True, text, problem)


def wanted_segment_bytes(environ: Mapping[str, str] = os.environ) -> int:
    """Size of a segment by Fast DDS's settings, in bytes; 0 = they have no shared memory.

    Args:
        environ: FASTDDS_DEFAULT_PROFILES_FILE is looked at first, then FASTDDS_BUILTIN_TRANSPORTS.
    """
    with contextlib.suppress(OSError, ElementTree.ParseError, KeyError, ValueError):
        root = ElementTree.parse(environ["FASTDDS_DEFAULT_PROFILES_FILE"]).getroot()
        for transport in _all(root, "transport_descriptor"):
            if any((kind.text or "").strip() == "SHM" for kind in _all(transport, "type")):
                sizes = [int((size.text or "").strip()) for size in _all(transport, "segment_size")]
                return sizes[0] if sizes else BUILTIN_SEGMENT_BYTES
        if any((e.text or "").strip() in ("false", "0") for e in _all(root, "useBuiltinTransports")):
            return 0
    chosen = environ.get("FASTDDS_BUILTIN_TRANSPORTS", "").upper()
    return 0 if chosen.split("?")[0] in WITHOUT_SHM else BUILTIN_SEGMENT_BYTES


def _all(element: ElementTree.Element, tag: str) -> Iterator[ElementTree.Element]:
    """The elements below of that name, in whatever XML namespace."""
    return (e for e in element.iter() if isinstance(e.tag, str) and e.tag.rsplit("}", 1)[-1] == tag)


def room(folder: Path = SHM_FOLDER) -> tuple[int, int] | None:
    """Bytes free and bytes in all of the file system, None where there is none."""
    try:
        at = os.statvfs(folder)
    except OSError:
        return None
    return at.f_bavail * at.f_frsize, at.f_blocks * at.f_frsize


def _own_segments(folder: Path) -> set[str]:
    """Segments whose lock this process holds open."""
    names = set()
    for entry in _entries("/proc/self/fd"):
        with contextlib.suppress(OSError):
            path = Path(os.readlink(entry))
            found = _SEGMENT.fullmatch(path.name)
            if found and path.parent == folder and path.name.endswith(LOCK_SUFFIX) and _is_file(folder / found[1]):
                names.add(found[1])
    return names


def _mapped_segments(folder: Path) -> set[str]:
    """Segments that this process has mapped, its own and those that it reads."""
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return set()
    paths = (Path(line.rsplit(" ", 1)[-1]) for line in lines if "/fastdds_" in line)
    return {p.name for p in paths if p.parent == folder and _SEGMENT.fullmatch(p.name)}


def _entries(folder: str) -> list[str]:
    try:
        return [os.path.join(folder, name) for name in os.listdir(folder)]
    except OSError:
        return []


def _is_file(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return stat.S_ISREG(path.lstat().st_mode)
    return False


def log_state(logger: Any, removed: Leftovers) -> None:
    """Say at start what was removed and what there is.

    Args:
        logger: The node's.
        removed: What `remove_leftovers` returned.
    """
    if removed.segments:
        took = f"{removed.segments} segments, {removed.size_bytes / MB:.1f} MB"
        logger.info(f"shared memory that killed processes left was removed: {took}")
    now = state()
    if now.problem:
        logger.warning(now.problem)
    else:
        logger.debug(f"shared memory: {now.text}")
