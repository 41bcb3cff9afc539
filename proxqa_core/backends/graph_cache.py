"""Graphs that take long to make, kept in the cache beside the base weights, told apart by what they were made of.

Promises: an entry is whole and as it was written, or it is made again; it is written atomically. Where it cannot be
written, what was made is used without it, and that is said. Knows nothing of what is in an entry.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from proxqa_core.errors import reason_of
from proxqa_core.files import atomic_folder, sha256
from proxqa_core.model.base_weights import MANIFEST, cache_folder, seal

log = logging.getLogger(__name__)


def key_of(facts: Sequence[str]) -> str:
    """A key of an entry that follows from facts alone, as 16 hexadecimal digits."""
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


def digest(module: torch.nn.Module, facts: Sequence[str]) -> str:
    """What a graph is made of, as 16 hexadecimal digits: names, types and bytes of all weights, and facts besides.

    Args:
        module: Whose weights are in the graph.
        facts: What else it follows from: versions, sizes, precision.
    """
    total = hashlib.sha256("\n".join(facts).encode())
    for name, weight in sorted(module.state_dict().items()):
        total.update(f"\n{name} {weight.dtype} {tuple(weight.shape)}\n".encode())
        total.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return total.hexdigest()[:16]


def is_kept(kind: str, key: str) -> bool:
    """Whether there is an entry of the cache; whether it is whole shows when it is read."""
    return entry(kind, key).is_dir()


def entry(kind: str, key: str) -> Path:
    """The folder of an entry of the cache."""
    return cache_folder() / f"{kind}-{key}"


def cached(kind: str, key: str, make: Callable[[Path], None]) -> Path | None:
    """An entry of the cache, made where there is no whole one.

    Args:
        kind: Of the entry, a word: part of its name.
        key: What it was made of, see `digest`.
        make: Fills an empty folder.

    Returns:
        Its folder; None where the cache cannot be written.
    """
    folder = entry(kind, key)
    if is_whole(folder):
        return folder
    try:
        with atomic_folder(folder) as work:
            make(work)
            seal(work)
    except OSError as error:  # a full or read-only disk, a cache that is a file, a faster process
        if is_whole(folder):
            return folder
        log.warning("not kept for the next start: %s", reason_of(error))
        return None
    return folder


def is_whole(folder: Path) -> bool:
    """Whether all files of an entry are as they were written."""
    try:
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return bool(files) and all(sha256(folder / name) == known for name, known in files.items())
    except (OSError, ValueError, AttributeError):
        return False
