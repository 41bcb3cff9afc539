"""Compressed parts of bags: whole files, chunks and single messages, by zstd or lz4.

Promises: what is compressed is told by its first bytes, not by what metadata says; never more is unpacked than asked
for, nor a file than there is room for.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from proxqa_core.errors import ProxqaError, reason_of

ZSTD_MAGIC, LZ4_MAGIC = b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18"
MAX_MESSAGE_BYTES = 1 << 30
"""Largest size of one unpacked message."""
_BLOCK_BYTES = 1 << 10
"""Fed to an unpacker at once: zstd can make 32 MB of as many bytes."""
KEPT_FREE_SHARE, KEPT_FREE_BYTES = 0.1, 1 << 30
"""Part of what a disk has free, and the most of it, that is left to others when a file is unpacked there."""


_HEAD_BYTES = 64
"""More than the head of a frame has."""


class StorageError(ProxqaError, ValueError):
    """A part of a bag cannot be read; the message says which and why."""


class NoRoomError(StorageError):
    """A file is larger unpacked than the disk has room for."""


def compression_of(head: bytes) -> str:
    """How something that begins with these bytes is compressed: "zstd", "lz4" or '' = not."""
    return {ZSTD_MAGIC: "zstd", LZ4_MAGIC: "lz4"}.get(head[:4], "")


def unpack(data: bytes, compression: str, limit: int) -> bytes:
    """Unpack a part of a bag.

    Args:
        data: As stored; of data that are cut, what comes before the cut is unpacked.
        compression: "zstd", "lz4" or '' = as it is.
        limit: Largest size of the result, in bytes; the rest is left out.

    Raises:
        StorageError: The data are damaged, or the compression is another one.
    """
    if compression == "":
        return data[:limit]
    parts: list[bytes] = []
    unpacker = _Unpacker(compression)
    for at in range(0, len(data), _BLOCK_BYTES):
        if limit > 0:
            parts.append(unpacker.feed(data[at : at + _BLOCK_BYTES])[:limit])
            limit -= len(parts[-1])
    return b"".join(parts)


def unpack_message(raw: bytes) -> bytes:
    """A message as CDR: unpacked where it is compressed. CDR begins with a zero byte, compressed data do not.

    Raises:
        StorageError: The data are damaged.
    """
    compression = compression_of(raw)
    return unpack(raw, compression, MAX_MESSAGE_BYTES) if compression else raw


def unpack_file(source: Path, target: Path) -> str:
    """Unpack a whole file.

    Args:
        source: The compressed file.
        target: The file to write.

    Returns:
        Why the rest of it could not be unpacked, '' = all could.

    Raises:
        StorageError: There is no room for it; nothing is left of the target.
        OSError: A file cannot be read or written.
    """
    try:
        return _unpack_file(source, target)
    except NoRoomError:
        target.unlink(missing_ok=True)
        raise


def _unpack_file(source: Path, target: Path) -> str:
    free = shutil.disk_usage(target.parent).free
    room = free - min(KEPT_FREE_BYTES, int(KEPT_FREE_SHARE * free))
    with source.open("rb") as packed, target.open("wb") as out:
        head = packed.read(_HEAD_BYTES)
        packed.seek(0)
        declared = _declared_size(head)
        if declared > room:
            raise NoRoomError(f"{source.name} says that it is {declared} bytes unpacked; {_room(target, room)}")
        unpacker = _Unpacker(compression_of(head))
        try:
            while part := packed.read(_BLOCK_BYTES):
                content = unpacker.feed(part)
                room -= len(content)
                if room < 0:
                    raise NoRoomError(
                        f"{source.name} ({source.stat().st_size} bytes) is larger unpacked than there is room for: "
                        f"{_room(target, out.tell())}"
                    )
                out.write(content)
        except NoRoomError:
            raise
        except StorageError as error:
            return str(error)
    return "" if unpacker.whole else f"{compression_of(head)} data are cut"


def _declared_size(head: bytes) -> int:
    """The size unpacked that the head of a zstd or lz4 frame tells, 0 = it tells none."""
    try:
        if compression_of(head) == "zstd":
            import zstandard

            return max(0, zstandard.frame_content_size(head))
        import lz4.frame

        return int(lz4.frame.get_frame_info(head)["content_size"]) if compression_of(head) else 0
    except Exception:  # a head that cannot be read is met again when it is unpacked
        return 0


def _room(target: Path, room: int) -> str:
    return f"{str(target.parent)!r} takes {room}; free some, or set TMPDIR to a folder on a larger disk"


class _Unpacker:
    """Unpacks data part by part, one frame after the other. StorageError where the compression is unknown."""

    def __init__(self, compression: str) -> None:
        self._compression = compression
        if compression == "zstd":
            import zstandard

            self._new: Callable[[], Any] = lambda: zstandard.ZstdDecompressor().decompressobj()
            self._error: type[Exception] = zstandard.ZstdError
        elif compression == "lz4":
            import lz4.frame

            self._new, self._error = lz4.frame.LZ4FrameDecompressor, RuntimeError
        else:
            raise StorageError(f"compression {compression[:20]!r} is not known; expected zstd or lz4")
        self._frame = self._new()

    @property
    def whole(self) -> bool:
        """Whether the last frame has ended."""
        return bool(self._frame.eof)

    def feed(self, part: bytes) -> bytes:
        """Unpack a part. Raises StorageError where the data are damaged."""
        found = []
        try:
            while part:
                if self._frame.eof:
                    self._frame = self._new()
                found.append(self._frame.decompress(part))
                part = (self._frame.unused_data or b"") if self._frame.eof else b""
        except (self._error, EOFError, ValueError) as error:
            reason = reason_of(error)[:100]
            raise StorageError(f"{self._compression} data are damaged ({reason})") from error
        return b"".join(found)
