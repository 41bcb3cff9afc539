"""The names that an adapter was taught, and how well it finds each: `names.json` in its folder.

Promises: figures are those that were measured (`proxqa train names`), with what they were measured on; a file that does
not hold is refused with one line. An adapter need not have one. Knows nothing of how names are found.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from proxqa_core.errors import BadModelError, reason_of
from proxqa_core.files import write_text
from proxqa_core.types import MAX_NAME_LENGTH, clean_text

NAMES = "names.json"
MAX_BYTES = 4_000_000
MAX_NAMES = 10_000
LEAST_ASKED = 5
"""Fewer images say nothing about a name."""
LEAST_FOUND = 0.5
"""Share of the images with such a thing in which a name must be found to be looked for unasked."""
MOST_MISTAKEN = 0.4
"""Share of the images without one in which it may be seen where it is asked for. Unasked more is wanted: that it is
likely by the grounding head alone, and the likeliest name for its place (`proxqa_core.grounding`)."""


@dataclass(frozen=True)
class TaughtName:
    """A name, what taught it and how well it is found.

    Attributes:
        name: As it was labelled.
        also: Other words that were taught for the same thing.
        models: 3D models of that name in the rendered images that taught it.
        photographs: Boxes of that name in the photographs that taught it.
        asked: Images with such a thing in them that it was asked for in; see `TaughtNames.measured_on`.
        found: Of these, in how many it was seen, in a box that overlaps one of those labelled so.
        absent: Images without such a thing that it was asked for in.
        mistaken: Of these, in how many it was seen.

    Raises:
        BadModelError: A value is of another kind or out of its range.
    """

    name: str
    also: tuple[str, ...] = ()
    models: int = 0
    photographs: int = 0
    asked: int = 0
    found: int = 0
    absent: int = 0
    mistaken: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.also, list | tuple):
            raise BadModelError(f"{NAMES}: also of {str(self.name)[:40]!r} is no list of names")
        object.__setattr__(self, "also", tuple(self.also))  # JSON has lists only
        for text in (self.name, *self.also):
            if not isinstance(text, str) or not 1 <= len(text) <= MAX_NAME_LENGTH or clean_text(text) != text:
                raise BadModelError(f"{NAMES}: {str(text)[:40]!r} is no name; expected one line of text")
        counts = [getattr(self, key) for key in ("models", "photographs", "asked", "found", "absent", "mistaken")]
        if any(type(n) is not int or n < 0 for n in counts) or self.found > self.asked or self.mistaken > self.absent:
            raise BadModelError(f"{NAMES}: the counts of {self.name!r} do not hold: {counts}")

    @property
    def words(self) -> tuple[str, ...]:
        """The name and the other words for it."""
        return (self.name, *self.also)

    @property
    def is_reliable(self) -> bool:
        """Whether it was measured to be found more often than not, and seldom seen where there is none."""
        measured = self.asked >= LEAST_ASKED and self.absent >= LEAST_ASKED
        return measured and self.found >= LEAST_FOUND * self.asked and self.mistaken <= MOST_MISTAKEN * self.absent


@dataclass(frozen=True)
class TaughtNames:
    """All names that an adapter was taught.

    Attributes:
        measured_on: What the figures were measured on, one line; '' = nothing.
        names: In alphabetical order.

    Raises:
        BadModelError: A value is of another kind, or a name stands twice.
    """

    measured_on: str
    names: tuple[TaughtName, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.measured_on, str) or clean_text(self.measured_on) != self.measured_on:
            raise BadModelError(f"{NAMES}: measured_on is {str(self.measured_on)[:60]!r}; expected one line of text")
        object.__setattr__(self, "names", tuple(sorted(self.names, key=lambda n: n.name)))
        if len({n.name for n in self.names}) != len(self.names):
            raise BadModelError(f"{NAMES}: a name stands twice")

    @property
    def reliable(self) -> tuple[str, ...]:
        """The names that may be looked for unasked; see `TaughtName.is_reliable`."""
        return tuple(n.name for n in self.names if n.is_reliable)

    def matching(self, text: str) -> tuple[TaughtName, ...]:
        """Those of which the name, or another word for it, holds a text, whatever its case."""
        wanted = " ".join(text.casefold().split())
        return tuple(n for n in self.names if any(wanted in word.casefold() for word in n.words))

    def alike(self, text: str) -> tuple[str, ...]:
        """Up to three words that are spelled much like a text, the likest first."""
        words = sorted({word for n in self.names for word in n.words})
        return tuple(difflib.get_close_matches(" ".join(text.casefold().split()), words, 3, 0.7))


def read_names(folder: Path) -> TaughtNames | None:
    """The names of an adapter folder; None where it has no such file.

    Raises:
        BadModelError: The file cannot be read or does not hold.
    """
    path = folder / NAMES
    if not path.is_file():
        return None
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"it has {path.stat().st_size} bytes; at most {MAX_BYTES}")
        values = json.loads(path.read_text(encoding="utf-8"))
        return _from_json(values)
    except (ValueError, TypeError, KeyError, OSError, RecursionError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else reason_of(error)[:200]
        raise BadModelError(f"{str(path)!r} cannot be used: {reason}") from error


def _from_json(values: Any) -> TaughtNames:
    if not isinstance(values, dict) or not isinstance(values["names"], dict):
        raise ValueError("expected an object with measured_on and names")
    if len(values["names"]) > MAX_NAMES:
        raise ValueError(f"it has {len(values['names'])} names; at most {MAX_NAMES}")
    known = {f.name for f in fields(TaughtName)} - {"name"}
    for name, of in values["names"].items():
        if not isinstance(of, dict) or of.keys() - known:
            raise ValueError(f"{name[:40]!r} has other fields than {sorted(known)}")
    return TaughtNames(values["measured_on"], tuple(TaughtName(name, **of) for name, of in values["names"].items()))


def write_names(folder: Path, names: TaughtNames) -> Path:
    """Write the names of an adapter folder, one a line; returns the file."""
    lines = ",\n".join(f"  {json.dumps(n.name)}: {json.dumps(_fields(n))}" for n in names.names)
    text = f'{{\n "measured_on": {json.dumps(names.measured_on)},\n "names": {{\n{lines}\n }}\n}}\n'
    write_text(folder / NAMES, text)
    return folder / NAMES


def _fields(name: TaughtName) -> dict[str, Any]:
    """What is not as it is by itself."""
    return {key: value for key, value in asdict(name).items() if key != "name" and value}


def total(names: Iterable[TaughtName]) -> dict[str, int]:
    """The sums of what was asked, found, absent and mistaken."""
    each = list(names)
    return {key: sum(getattr(n, key) for n in each) for key in ("asked", "found", "absent", "mistaken")}
