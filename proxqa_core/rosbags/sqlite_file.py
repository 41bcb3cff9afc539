"""SQLite files of rosbag2, of every schema that it had, also those whose recorder was killed.

Promises: messages that are still in the write-ahead log (`-wal`) are read too, or the file is refused; of a file that
is cut, what comes before the cut is read. Nothing is written to the file.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from proxqa_core.errors import reason_of
from proxqa_core.rosbags.compression import StorageError
from proxqa_core.rosbags.storage import Channel, Index, type_name

MAGIC = b"SQLite format 3\0"
log = logging.getLogger(__name__)

_ROSBAG2_TABLES = {"topics", "messages"}


class SqliteFile:
    """An open SQLite file.

    Args:
        path: The file.

    Raises:
        StorageError: It is no SQLite file of rosbag2, or its log cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.channels: dict[int, Channel] = {}
        self.problems: list[str] = []
        self._index = Index()
        self._cut = False
        self._lock = threading.Lock()
        self._logs = [log for log in _logs(path) if log.is_file() and log.stat().st_size]
        self._database = _connect(path, immutable=not self._logs)
        try:
            self._scan()
        except sqlite3.Error as error:
            self._database.close()
            raise StorageError(self._reason(error)) from error
        except BaseException:
            self._database.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def index(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """When each message was recorded (ns) and the id of its channel, in the order stored."""
        return self._index.arrays()

    def read(self, number: int) -> bytes:
        """A message as it is stored. number: in the index. Raises StorageError where it is damaged."""
        query = "SELECT data FROM messages WHERE rowid = ?"
        try:
            with self._lock:
                row = self._database.execute(query, (self._index.offsets[number],)).fetchone()
        except sqlite3.Error as error:
            raise StorageError(f"{self.path.name}: {reason_of(error)}") from error
        if row is None or not isinstance(row[0], bytes):
            raise StorageError(f"{self.path.name}: a message has no data")
        return row[0]

    # -- the scan ----------------------------------------------------------------------------------------------------

    def _scan(self) -> None:
        try:
            tables = self._tables()
        except sqlite3.DatabaseError:
            if self._logs:
                raise
            # a file shorter than its head says is refused unless this is on: the way of SQLite's own recovery
            self._database.execute("PRAGMA writable_schema = ON")
            tables = self._tables()
            self._cut = True
        if not tables >= _ROSBAG2_TABLES:
            there = ", ".join(sorted(tables)[:5]) or "none"
            raise StorageError(f"{self.path.name} has no tables of rosbag2 (topics, messages); its tables: {there}")
        self._read_topics(tables)
        self._read_index()
        if self._cut:
            self._leave_out_cut_messages()
            self.problems.append(f"{self.path.name} is cut: {self._sizes()}; {len(self._index)} messages can be read")
        for file in self._logs:
            log.info("%s: what a killed recorder left in %s is read too", self.path.name, file.name)

    def _tables(self) -> set[str]:
        return {str(row[0]) for row in self._database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}

    def _columns(self, table: str) -> set[str]:
        return {str(row[1]) for row in self._database.execute(f"PRAGMA table_info({table})")}

    def _read_topics(self, tables: set[str]) -> None:
        """The channels. What a file of an older schema does not have is left empty."""
        definitions: dict[str, str] = {}
        if "message_definitions" in tables:
            query = "SELECT topic_type, encoding, encoded_message_definition FROM message_definitions"
            definitions = {k: text for k, encoding, text in self._database.execute(query) if encoding == "ros2msg"}
        digest = "type_description_hash" if "type_description_hash" in self._columns("topics") else "''"
        query = f"SELECT id, name, type, serialization_format, {digest} FROM topics"
        for number, name, kind, encoding, hashed in self._database.execute(query):
            definition = str(definitions.get(kind) or "")
            self.channels[number] = Channel(
                str(name), type_name(str(kind or "")), str(encoding or ""), definition, str(hashed or "")
            )

    def _read_index(self) -> None:
        try:
            for row, topic, time in self._database.execute("SELECT rowid, topic_id, timestamp FROM messages"):
                if isinstance(topic, int) and isinstance(time, int):
                    self._index.add(time, topic, 0, row)
                elif not self.problems:
                    self.problems.append(f"{self.path.name}: message {row} has no topic or no time")
        except sqlite3.DatabaseError as error:
            if self._logs:
                raise
            if not len(self._index):
                raise
            if not self._cut:
                reason = reason_of(error)
                self.problems.append(
                    f"{self.path.name} is damaged ({reason}): only its first {len(self._index)} messages can be read"
                )

    def _leave_out_cut_messages(self) -> None:
        """Leave out the messages at the end whose data are not there.

        Of a page that is cut SQLite reads the missing part as zeros, without an error. Pages are written in the order
        of the messages, so that page is of the last message that can be read: it is left out too.
        """
        while len(self._index):
            try:
                self.read(len(self._index) - 1)
            except StorageError:
                self._index.pop()
                continue
            self._index.pop()
            return

    # -- what went wrong ---------------------------------------------------------------------------------------------

    def _sizes(self) -> str:
        """How much of the file is there; its head has the size of a page (2 bytes at 16) and their number (4 at 28)."""
        with self.path.open("rb") as file:
            head = file.read(32)
        page = int.from_bytes(head[16:18], "big")
        expected = (65536 if page == 1 else page) * int.from_bytes(head[28:32], "big")
        return f"it has {self.path.stat().st_size} of {expected} bytes"

    def _reason(self, error: sqlite3.Error) -> str:
        text = reason_of(error)
        if not self._logs:
            return f"{self.path.name}: {text}"
        journal = any(log.name.endswith("-journal") for log in self._logs)
        hint = (
            f"its last transaction was broken off; `sqlite3 {self.path.name} .tables` undoes it"
            if journal
            else "copy the bag, all its files together, to a folder that can be written to"
        )
        logs = " and ".join(log.name for log in self._logs)
        return f"{self.path.name}: {logs} beside it cannot be used ({text}): {hint}"


def _logs(path: Path) -> tuple[Path, Path]:
    """The write-ahead log and the rollback journal that a recorder which was killed leaves."""
    return path.with_name(path.name + "-wal"), path.with_name(path.name + "-journal")


def _connect(path: Path, immutable: bool) -> sqlite3.Connection:
    """Open for reading only. immutable: nothing beside the file is looked at, as is needed on a read-only disk."""
    options = "mode=ro&immutable=1" if immutable else "mode=ro"
    try:
        return sqlite3.connect(f"file:{quote(str(path.resolve()))}?{options}", uri=True, check_same_thread=False)
    except sqlite3.Error as error:
        raise StorageError(f"{path.name} cannot be opened: {error}") from error
