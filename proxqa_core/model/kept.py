"""What the cache keeps, and which converted bases this installation does not read: they stay when a version changes.

Promises: only a folder is removed that is named as a converted base is, is not the one of this installation, and holds
nothing but what its manifest names. No link is followed. What is removed leaves its place in one step first, so that no
process finds half of it; what one has loaded stays in its memory. Knows nothing of how a base is made.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from proxqa_core.errors import BadModelError, CacheError, reason_of
from proxqa_core.model.base_weights import (
    MANIFEST,
    base_folder,
    cache_folder,
    locked,
    read_manifest,
    remove_leftovers,
    remove_whole,
)

USED, UNUSED, OTHER = "used", "unused", "other"
BASE_NAME = re.compile(r"base-[0-9a-f]{16}(-[0-9]+)?-transformers-[^/]+")
"""How folders of converted bases are called; the first layout had no number."""


@dataclass(frozen=True)
class Kept:
    """A folder in the cache.

    Attributes:
        path: Where it is.
        state: USED (the base of this installation), UNUSED (that of another version), OTHER (graphs and engines, of
            which nobody can say whether a model of yours needs them; and what others put there).
        size: In bytes.
    """

    path: Path
    state: str
    size: int


def entries() -> list[Kept]:
    """What the cache holds, by name; [] where there is none.

    Raises:
        BadModelError: What this installation reads cannot be told.
        CacheError: The cache cannot be read.
    """
    cache, current = cache_folder(), base_folder()
    try:
        paths = sorted(p for p in cache.iterdir() if p.is_dir() and not p.is_symlink()) if cache.is_dir() else []
    except OSError as error:
        raise CacheError(f"the cache {str(cache)!r} cannot be read: {error.strerror or reason_of(error)}") from error
    return [Kept(p, USED if p == current else UNUSED if _is_base(p) else OTHER, size_of(p)) for p in paths]


def remove_unused() -> list[Kept]:
    """Remove the bases that this installation does not read, and what killed processes left.

    Returns:
        Those that were removed.

    Raises:
        BadModelError: What this installation reads cannot be told.
        CacheError: One cannot be removed; those before it are gone.
    """
    unused = [entry for entry in entries() if entry.state == UNUSED]
    try:
        if cache_folder().is_dir():
            with locked(cache_folder()):
                remove_leftovers(cache_folder())
        for entry in unused:
            with locked(entry.path.parent):
                remove_whole(entry.path)
    except OSError as error:
        where = str(error.filename or cache_folder())
        raise CacheError(f"{where!r} cannot be removed: {error.strerror or reason_of(error)}") from error
    return unused


def _is_base(folder: Path) -> bool:
    """Whether this is a converted base and nothing else: its name is right, and its manifest names all its files."""
    if not BASE_NAME.fullmatch(folder.name):
        return False
    try:
        named = {MANIFEST, *read_manifest(folder)}
        return all(p.name in named and p.is_file() and not p.is_symlink() for p in folder.iterdir())
    except (OSError, BadModelError):
        return False


def size_of(folder: Path) -> int:
    """In bytes, of the files in it; what goes away meanwhile counts as nothing."""
    total = 0
    for place, _, files in os.walk(folder):
        for name in files:
            try:
                total += os.lstat(os.path.join(place, name)).st_size
            except OSError:
                continue
    return total
