"""JSON files of any size, a part at a time; and files that may be compressed or begin with a byte-order mark.

Promises: no file is held in memory as a whole. A file whose top level is of another kind than expected is refused in
one line that says what came; so is one that is no JSON from some point on, and one that cannot be read. A number that
no machine's number holds is no such point: it comes as infinity (or the nearest float), and what follows it is read.
"""

from __future__ import annotations

import contextlib
import gzip
import re
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import IO, Any

import ijson

from proxqa_core.datasets.folder import BadDatasetError
from proxqa_core.errors import reason_of

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
MOST_DIGITS = 1000
"""Of one number: far from where Python itself reads no further, and far more than anybody measures."""
LARGEST_WHOLE = 2**63
KINDS = {b"{": "an object", b"[": "a list", b'"': "a text"}
"""What a JSON value is, by its first character; it is a single value otherwise."""
_TOO_LONG = re.compile(rb"[0-9]{%d}" % MOST_DIGITS)
_JSON_START = b'{["-0123456789tfn'
LIST, OBJECT = b"[", b"{"


@contextlib.contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """A file's bytes, of a ``.gz`` its content, without a byte-order mark.

    Raises:
        BadDatasetError: There is no such file, it may not be read, or what is read of it is no JSON, or no UTF-8.
    """
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            if file.peek(3)[:3] == BYTE_ORDER_MARK:
                file.read(3)
            yield file  # type: ignore[misc]
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise BadDatasetError(f"{path}: no such file") from error
    except ijson.JSONError as error:
        raise BadDatasetError(f"{path}: is no whole JSON ({reason_of(error)[:100]})") from error
    except UnicodeDecodeError as error:
        raise BadDatasetError(f"{path}: is no UTF-8 text ({error.reason} at byte {error.start})") from error
    except (OSError, EOFError) as error:
        raise BadDatasetError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error


def stream_list(path: Path, expected: str = "a list of records") -> Iterator[Any]:
    """The elements of a file that is a JSON array, one by one.

    Args:
        path: The file.
        expected: What is said to be expected where it is something else.

    Raises:
        BadDatasetError: It is no array; see also `opened`.
    """
    require_kind(path, LIST, expected)
    yield from _streamed(path, lambda file, quick: ijson.items(file, "item", use_float=quick))


def stream_list_at(path: Path, key: str) -> Iterator[Any]:
    """The elements of the array that a JSON object has under a key, one by one; none where it has no such array.

    Raises:
        BadDatasetError: See `opened`.
    """
    yield from _streamed(path, lambda file, quick: ijson.items(file, f"{key}.item", use_float=quick))


def stream_object(path: Path, expected: str = "an object") -> Iterator[tuple[str, Any]]:
    """The keys and values of a file that is a JSON object, one by one. Arguments and errors: see `stream_list`."""
    require_kind(path, OBJECT, expected)
    yield from _streamed(path, lambda file, quick: ijson.kvitems(file, "", use_float=quick))


def top_level_kinds(path: Path, expected: str = "an object") -> dict[str, str]:
    """The keys of a file that is a JSON object, with what each one's value is (`KINDS`); values are not kept.

    Raises:
        BadDatasetError: See `stream_list`.
    """
    require_kind(path, OBJECT, expected)
    names = {"start_map": KINDS[b"{"], "start_array": KINDS[b"["], "string": KINDS[b'"']}
    events = _streamed(path, lambda file, quick: ijson.basic_parse(file, use_float=quick))
    found: dict[str, str] = {}
    depth, key = 0, ""
    for event, value in events:
        if depth == 1 and event == "map_key":
            key = value
        elif depth == 1 and not event.startswith("end"):
            found[key] = names.get(event, "a single value")
        depth += event.startswith("start") - event.startswith("end")
    return found


def require_kind(path: Path, wanted: bytes, expected: str) -> None:
    """Refuse a JSON file whose top level is of another kind; what is no JSON at all is left to the parser.

    Args:
        path: The file.
        wanted: `LIST` or `OBJECT`.
        expected: What the message says was expected.

    Raises:
        BadDatasetError: It is another kind of JSON, or cannot be read.
    """
    with opened(path) as file:
        first = file.read(4096).lstrip()[:1]
    if first and first in _JSON_START and first != wanted:
        raise BadDatasetError(f"{path}: is {KINDS.get(first, 'a single value')}; expected {expected}")


def _streamed(path: Path, parts: Callable[[Any, bool], Iterable[Any]]) -> Iterator[Any]:
    """What `parts` finds in a file; numbers as floats of the parser, which is quick, as long as they fit.

    The parser stops at a number that does not. The file is then read once more, exactly, and goes on behind what was
    given before.
    """
    given, beyond = 0, False
    with opened(path) as file:
        try:
            for part in parts(file, True):
                yield part
                given += 1
        except ijson.JSONError as error:
            beyond = "overflow" in str(error)
            if not beyond:
                raise
    if beyond:
        with opened(path) as file:
            for part in islice(parts(_Readable(path, file), False), given, None):
                yield _plain_or_none(part)


class _Readable:
    """A file that is read no further than a number of more than `MOST_DIGITS` digits."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self._path, self._file, self._before = path, file, b""

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        if _TOO_LONG.search(self._before + data):
            raise BadDatasetError(f"{self._path}: holds a number of more than {MOST_DIGITS} digits")
        self._before = (self._before + data)[-MOST_DIGITS:]
        return data


def _plain_or_none(value: Any) -> Any:
    try:
        return _plain(value)
    except RecursionError:  # nested thousands deep: no record of anything
        return None


def _plain(value: Any) -> Any:
    """A value with floats in place of decimals, and of whole numbers that 64 bits do not hold."""
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(v) for v in value)
    if isinstance(value, Decimal) or (isinstance(value, int) and not -LARGEST_WHOLE <= value < LARGEST_WHOLE):
        return float(Decimal(value))  # infinity where it is beyond a float, where float(int) raises
    return value
