"""Compressed parts of bags: whole files, chunks and single messages, by zstd or lz4.

Promises: what is compressed is told by its first bytes, not by what metadata says; never more is unpacked than asked
for.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from proxqa_core.errors import ProxqaError, reason_of

ZSTD_MAGIC, LZ4_MAGIC = b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18"
MAX_MESSAGE_BYTES = 1 << 30
"""Largest size of one unpacked message."""
_BLOCK_BYTES = 1 << 14


class StorageError(ProxqaError, ValueError):
    """A part of a bag cannot be read; the message says which and why."""


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
        OSError: A file cannot be read or written.
    """
    with source.open("rb") as packed, target.open("wb") as out:
        head = packed.read(4)
        packed.seek(0)
        unpacker = _Unpacker(compression_of(head))
        try:
            while part := packed.read(_BLOCK_BYTES):
                out.write(unpacker.feed(part))
        except StorageError as error:
            return str(error)
    return "" if unpacker.whole else f"{compression_of(head)} data are cut"


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
