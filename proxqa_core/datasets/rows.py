"""Tables of benchmarks, row by row: JSON lines, parquet, and tab-separated values.

Promises: a row that cannot be read is counted and named, and takes no other row along: a quote that is never closed
costs its own row, not those behind it. A file that holds no rows of its kind at all is refused in one line.
"""

from __future__ import annotations

import csv
import json
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from proxqa_core.datasets.folder import BadDatasetError
from proxqa_core.datasets.json_stream import OBJECT, opened, require_kind
from proxqa_core.datasets.reading import ReadReport
from proxqa_core.errors import ProxqaError, reason_of

NO_ROW = "line that is no JSON object"
MOST_LINES = 200
"""Of one row of a TSV, whose cells may hold line breaks."""


def object_rows(path: Path, report: ReadReport | None = None) -> Iterator[dict[str, Any]]:
    """The rows of a .jsonl or .parquet file.

    Args:
        path: The file.
        report: Counts lines that are no rows; None = the first of them is an error.

    Raises:
        BadDatasetError: The file cannot be read, or does not begin with a row.
        ProxqaError: It is a parquet file and pyarrow is not installed.
    """
    if path.suffix == ".parquet":
        yield from _parquet_rows(path)
        return
    require_kind(path, OBJECT, "JSON lines, an object each, or a .parquet file")
    with opened(path) as file:
        begun = False
        for number, line in enumerate(file, 1):
            row = _object_of(line)
            if row is not None:
                yield row
            elif line.strip() and (report is None or not begun):
                raise BadDatasetError(f"{path}: line {number} is no JSON object; expected JSON lines, an object each")
            elif line.strip() and report is not None:
                report.add(NO_ROW, f"line {number}")
            begun = begun or bool(line.strip())


def _object_of(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise ProxqaError(f"{path}: needs pyarrow; pip install pyarrow") from error
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=16):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise BadDatasetError(f"{path}: cannot be read as parquet ({reason_of(error)[:80]})") from error


def tsv_rows(path: Path, columns: set[str], report: ReadReport | None = None) -> Iterator[dict[str, str]]:
    """The rows of a TSV with a header, a missing cell as ''.

    Args:
        path: The file.
        columns: That it must have.
        report: Counts rows that cannot be told from their neighbours, and those that are no text.

    Raises:
        BadDatasetError: The file cannot be read, or lacks one of the columns.
    """
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # images are in the cells
    report = ReadReport() if report is None else report
    with opened(path) as file:
        lines = _Lines(file)
        header = _cells([_text_of(next(lines, (0, b""))[1]) or ""]) or []
        if missing := columns - set(header):
            raise BadDatasetError(f"{path}: has no column {', '.join(sorted(missing))}; expected a two-option TSV")
        for number, line in lines:
            cells = _row(line, lines, len(header))
            if isinstance(cells, str):
                report.add(cells, f"line {number}")
            elif cells:
                yield dict(zip(header, cells, strict=True))


class _Lines:
    """Numbered lines, some of which may be put back."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._rest, self._waiting = enumerate(lines, 1), deque[tuple[int, bytes]]()

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        return self

    def __next__(self) -> tuple[int, bytes]:
        return self._waiting.popleft() if self._waiting else next(self._rest)

    def put_back(self, lines: list[tuple[int, bytes]]) -> None:
        self._waiting.extendleft(reversed(lines))


def _row(line: bytes, lines: _Lines, width: int) -> list[str] | str:
    """The cells of the row that begins with a line, taking what else belongs to it; or why it is none.

    A cell in quotes may hold line breaks. Where rows have been swallowed with it, which shows in as many tabs as two
    rows have, its quote was never meant to be one, and they are put back.
    """
    taken, more = [_text_of(line)], list[tuple[int, bytes]]()
    if taken[0] is None:
        return "row that is no text (no UTF-8, or a NUL)"
    while None not in taken and not _swallows(texts := [t for t in taken if t is not None], width):
        cells = _cells(texts)
        if cells is not None:
            return _fitted(cells, width)
        following = next(lines, None)
        if following is None:
            break
        more.append(following)
        taken.append(_text_of(following[1]))
    lines.put_back(more)
    return "row with a quote that is not closed"


def _text_of(line: bytes) -> str | None:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return None if "\x00" in text else text


def _swallows(lines: list[str], width: int) -> bool:
    """Whether lines are more than one row could be."""
    return len(lines) > MOST_LINES or (len(lines) > 1 and sum(text.count("\t") for text in lines) >= 2 * (width - 1))


def _cells(lines: list[str]) -> list[str] | None:
    """The cells of a row, [] where there is nothing in it; None where a quote of it is not closed."""
    try:
        rows = list(csv.reader(lines, delimiter="\t", strict=True))
    except csv.Error as error:
        if "unexpected end of data" in str(error):
            return None
        # '"cup" or dog' is no quoted cell, and a lone carriage return no end of a row
        rows = [line.rstrip("\r\n").split("\t") for line in lines]
    return rows[0] if rows else []


def _fitted(cells: list[str], width: int) -> list[str] | str:
    """As many cells as there are columns; what is missing is empty. Or why they cannot be."""
    if any(cells[width:]):
        return "row of more cells than there are columns"
    return [*cells[:width], *[""] * (width - len(cells))] if cells else []
