"""MCAP files: chunked or not, with or without summary and message indexes, in any order, whole or cut.

Only the data section is used, since every message is there and everything else is optional (https://mcap.dev/spec).
Where chunks have message indexes they are not unpacked before their messages are asked for.
"""

from __future__ import annotations

import io
import struct
import threading
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mcap import records
from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from numpy.typing import NDArray

from proxqa_core.errors import reason_of
from proxqa_core.rosbags.compression import StorageError, unpack
from proxqa_core.rosbags.storage import Channel, Index, type_name

MAGIC = b"\x89MCAP0\r\n"
CACHE_BYTES = 256 << 20
"""Unpacked chunks are kept up to this size, so that chunks whose times overlap are unpacked once."""
MAX_CHUNK_BYTES = 2 << 30
"""Largest size of an unpacked chunk; writers make some MB."""
_RECORD = struct.Struct("<BQ")
_MESSAGE = struct.Struct("<HIQQ")
_CHUNK = struct.Struct("<QQQI")
_BROKEN = (McapError, struct.error, UnicodeDecodeError, ValueError, OverflowError)
"""What reading a record of garbage may cause."""


@dataclass(frozen=True)
class _Chunk:
    """Where a chunk is. position: of its record. data, stored: of its compressed data. size: unpacked."""

    position: int
    data: int
    stored: int
    size: int
    crc: int
    compression: str


class McapFile:
    """An open MCAP file.

    Args:
        path: The file.

    Raises:
        StorageError: It is no MCAP file.
        OSError: It cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.channels: dict[int, Channel] = {}
        self.problems: list[str] = []
        self._schemas: dict[int, records.Schema] = {}
        self._raw_channels: dict[int, records.Channel] = {}
        self._index = Index()
        self._chunks: list[_Chunk] = []
        self._pending: dict[int, NDArray[np.uint64]] | None = None
        self._cache: OrderedDict[int, bytes] = OrderedDict()
        self._lock = threading.Lock()
        self._file = path.open("rb")
        try:
            self._size = path.stat().st_size
            if self._file.read(len(MAGIC)) != MAGIC:
                raise StorageError(f"{path.name} is no MCAP file")
            self._scan()
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        self._cache.clear()

    def index(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """When each message was recorded (ns) and the id of its channel, in the order stored."""
        return self._index.arrays()

    def read(self, number: int) -> bytes:
        """A message as it is stored. number: in the index. Raises StorageError where it is damaged."""
        block, offset = self._index.blocks[number], self._index.offsets[number]
        with self._lock:
            source = self._whole_chunk(block) if block >= 0 else None
            head = self._bytes(source, offset, _RECORD.size + _MESSAGE.size)
            try:
                operation, length = _RECORD.unpack_from(head)
                channel, _, time, _ = _MESSAGE.unpack_from(head, _RECORD.size)
            except struct.error as error:
                raise StorageError(f"{self.path.name}: a message is cut") from error
            known = (self._index.channels[number], self._index.times[number])
            if operation != Opcode.MESSAGE or length < _MESSAGE.size or (channel, min(time, 2**63 - 1)) != known:
                raise StorageError(f"{self.path.name}: its message index is wrong")
            size = length - _MESSAGE.size
            if size > (self._size if source is None else len(source)):
                raise StorageError(f"{self.path.name}: a message of {size} bytes is larger than what holds it")
            data = self._bytes(source, offset + _RECORD.size + _MESSAGE.size, size)
        if len(data) != size:
            raise StorageError(f"{self.path.name}: a message is cut")
        return data

    def _bytes(self, source: bytes | None, offset: int, size: int) -> bytes:
        """A part of a chunk, or of the file where `source` is None."""
        if source is not None:
            return source[offset : offset + size]
        self._file.seek(offset)
        return self._file.read(size)

    # -- the scan ----------------------------------------------------------------------------------------------------

    def _scan(self) -> None:
        """Go through the data section once: heads of records only, and what has no index."""
        position, whole = len(MAGIC), False
        while position + _RECORD.size <= self._size:
            self._file.seek(position)
            operation, length = _RECORD.unpack(self._file.read(_RECORD.size))
            end = position + _RECORD.size + length
            if operation != Opcode.MESSAGE_INDEX:
                self._finish_chunk(trusted=True)
            if operation in (Opcode.DATA_END, Opcode.FOOTER):
                whole = True
                break
            if end > self._size:
                self._salvage(operation, position)
                break
            self._file.seek(position + _RECORD.size)
            try:
                self._record(operation, position, length)
            except _BROKEN as error:
                self._problem(f"its record at byte {position} is damaged ({reason_of(error)[:80]})")
            position = end
        self._finish_chunk(trusted=whole)
        if not whole:
            lost = max(0, self._size - position)
            self.problems.insert(
                0,
                f"{self.path.name} is cut: it ends without its end record"
                + (f", {lost} bytes after byte {position} are no whole record" if lost else "")
                + f"; {len(self._index)} messages can be read",
            )
        self._name_channels()

    def _record(self, operation: int, position: int, length: int) -> None:
        """Take one record of the data section, whose body begins where the file is."""
        if operation == Opcode.MESSAGE:
            channel, _, time, _ = _MESSAGE.unpack(self._file.read(_MESSAGE.size))
            self._index.add(time, channel, -1, position)
        elif operation == Opcode.CHUNK:
            self._chunks.append(self._chunk_at(position, length))
            self._pending = {}
        elif operation == Opcode.MESSAGE_INDEX and self._pending is not None:
            channel, size = struct.unpack("<HI", self._file.read(6))
            if size % 16 or size > length - 6:
                raise ValueError(f"message index of {size} bytes in a record of {length}")
            self._pending[channel] = np.frombuffer(self._file.read(size), "<u8").reshape(-1, 2)
        elif operation in (Opcode.SCHEMA, Opcode.CHANNEL):
            self._describe(operation, self._file.read(length))

    def _describe(self, operation: int, body: bytes) -> None:
        stream = ReadDataStream(io.BytesIO(body))
        if operation == Opcode.SCHEMA:
            schema = records.Schema.read(stream)
            self._schemas[schema.id] = schema
        else:
            channel = records.Channel.read(stream)
            self._raw_channels[channel.id] = channel

    def _chunk_at(self, position: int, length: int) -> _Chunk:
        """The head of a chunk whose body begins where the file is."""
        _, _, size, crc = _CHUNK.unpack(self._file.read(_CHUNK.size))
        (letters,) = struct.unpack("<I", self._file.read(4))
        if letters > 64:
            raise ValueError(f"name of compression with {letters} letters")
        compression = self._file.read(letters).decode("utf-8")
        (stored,) = struct.unpack("<Q", self._file.read(8))
        if size > MAX_CHUNK_BYTES:
            raise ValueError(f"chunk of {size} bytes")
        return _Chunk(position, self._file.tell(), stored, size, crc, compression)

    def _finish_chunk(self, trusted: bool) -> None:
        """Index the last chunk, by its message indexes where these are whole and all their channels known."""
        if self._pending is None:
            return
        indexes, self._pending = self._pending, None
        number = len(self._chunks) - 1
        if not (trusted and indexes and indexes.keys() <= self._raw_channels.keys()):
            self._index_unpacked(number, cut=False)
            return
        first = len(self._index)
        entries = [(int(at), int(time), channel) for channel, found in indexes.items() for time, at in found]
        for at, time, channel in sorted(entries):  # as stored
            if at < self._chunks[number].size:
                self._index.add(time, channel, number, at)
        if len(self._index) - first < len(entries):
            self._problem(f"the message indexes of its chunk {number} point outside")

    def _index_unpacked(self, number: int, cut: bool) -> None:
        """Index a chunk by going through it. cut: take what is there of it."""
        try:
            content = self._unpacked(self._chunks[number], cut)
        except StorageError as error:
            self._problem(f"its chunk {number} cannot be read: {error}")
            return
        for operation, at, length in _records(content):
            try:
                if operation == Opcode.MESSAGE:
                    channel, _, time, _ = _MESSAGE.unpack_from(content, at + _RECORD.size)
                    self._index.add(time, channel, number, at)
                elif operation in (Opcode.SCHEMA, Opcode.CHANNEL):
                    self._describe(operation, content[at + _RECORD.size : at + _RECORD.size + length])
            except _BROKEN as error:
                self._problem(f"a record of its chunk {number} is damaged ({reason_of(error)[:80]})")
        if cut:
            self._cache[number] = content

    def _salvage(self, operation: int, position: int) -> None:
        """Index what is there of a chunk that is cut."""
        if operation != Opcode.CHUNK:
            return
        self._file.seek(position + _RECORD.size)
        try:
            chunk = self._chunk_at(position, self._size - position)
        except _BROKEN:
            return
        self._chunks.append(chunk)
        self._index_unpacked(len(self._chunks) - 1, cut=True)

    def _problem(self, text: str) -> None:
        if len(self.problems) < 10:
            self.problems.append(f"{self.path.name}: {text}")

    def _name_channels(self) -> None:
        for number, raw in self._raw_channels.items():
            schema = self._schemas.get(raw.schema_id)
            kind = "" if schema is None else type_name(schema.name)
            text = schema is not None and schema.encoding == "ros2msg"
            definition = schema.data.decode("utf-8", "replace") if text and schema is not None else ""
            digest = raw.metadata.get("topic_type_hash", "")
            self.channels[number] = Channel(raw.topic, kind, raw.message_encoding, definition, digest)

    # -- chunks ------------------------------------------------------------------------------------------------------

    def _whole_chunk(self, number: int) -> bytes:
        """The content of a chunk, from the cache where it is there."""
        if number in self._cache:
            self._cache.move_to_end(number)
            return self._cache[number]
        content = self._unpacked(self._chunks[number], cut=self._chunks[number].data > self._size)
        self._cache[number] = content
        while len(self._cache) > 1 and sum(map(len, self._cache.values())) > CACHE_BYTES:
            self._cache.popitem(last=False)
        return content

    def _unpacked(self, chunk: _Chunk, cut: bool) -> bytes:
        self._file.seek(chunk.data)
        stored = min(chunk.stored, self._size - chunk.data)
        cut = cut or stored < chunk.stored
        content = unpack(self._file.read(stored), chunk.compression, chunk.size)
        if not cut and len(content) != chunk.size:
            raise StorageError(f"it has {len(content)} bytes unpacked; expected {chunk.size}")
        if not cut and chunk.crc and zlib.crc32(content) != chunk.crc:
            raise StorageError("its checksum is wrong")
        return content


def _records(content: bytes) -> Iterator[tuple[int, int, int]]:
    """The whole records of an unpacked chunk: operation, position, length of the body."""
    at = 0
    while at + _RECORD.size <= len(content):
        operation, length = _RECORD.unpack_from(content, at)
        if at + _RECORD.size + length > len(content):
            return
        yield operation, at, length
        at += _RECORD.size + length
