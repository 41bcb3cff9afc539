"""The names that the bundled model was taught, and how well it finds each of them.

Promises: what is known comes from the file beside the adapter, which `scripts/names_found.py` measures; of another
model nothing is known.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from proxqa_core.model.base_weights import ASSETS

NAMES_FILE = ASSETS / "default" / "names.json"
MAX_DEFAULT_NAMES = 64
"""Most names that a question without any is asked about: as many as one request may have."""


@dataclass(frozen=True)
class TaughtName:
    """A name, and how well it is found.

    Attributes:
        name: As it was taught.
        asked: Images that have it and were asked.
        found: Of these, those in which it was found in the right place.
        absent: Images without it that were asked.
        mistaken: Of these, those in which something was taken for it.
    """

    name: str
    asked: int
    found: int
    absent: int
    mistaken: int


def taught_names(adapter: str | None) -> tuple[TaughtName, ...]:
    """The names that an adapter was taught, the best found first.

    Args:
        adapter: What the adapter calls itself, None = there is none.

    Returns:
        Empty where nothing is known of it.
    """
    measured = _measured()
    if adapter is None or adapter != measured.get("adapter"):
        return ()
    names = [TaughtName(name, *counts) for name, counts in measured["names"].items()]
    return tuple(sorted(names, key=lambda n: (-n.found / max(n.asked, 1), n.name)))


def measured_on() -> str:
    """What the figures were measured on, one line."""
    return str(_measured().get("measured_on", ""))


def _measured() -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(NAMES_FILE.read_text())
    except FileNotFoundError:
        return {}
    return found
