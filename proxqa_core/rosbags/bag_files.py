"""The storage files that make up a bag: a folder's, by its metadata.yaml or without, or one file alone.

Of metadata.yaml only the names of the files are used: everything else is in the files themselves, and wins there.
"""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml

from proxqa_core.errors import reason_of
from proxqa_core.rosbags.compression import StorageError, compression_of, unpack_file
from proxqa_core.rosbags.sqlite_file import MAGIC as SQLITE_MAGIC
from proxqa_core.rosbags.sqlite_file import SqliteFile
from proxqa_core.rosbags.storage import StorageFile

log = logging.getLogger(__name__)

METADATA = "metadata.yaml"
MCAP_MAGIC = b"\x89MCAP0\r\n"
STORAGE_SUFFIXES = (".mcap", ".db3")
PACKED_SUFFIXES = ("", ".zstd", ".zst", ".lz4")
OTHER_PACKED, OTHER_MAGIC = (".gz", ".bz2", ".xz", ".zip"), (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"PK\x03\x04")
"""Suffixes and first bytes of what people pack bags with, and rosbag2 does not."""


@dataclass
class BagFiles:
    """The open files of a bag.

    Attributes:
        files: In the order recorded.
        problems: What cannot be read, one line each.
    """

    files: list[StorageFile] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    unpacked: tempfile.TemporaryDirectory[str] | None = None

    def close(self) -> None:
        """Close all of them, and remove what was unpacked."""
        for file in self.files:
            file.close()
        if self.unpacked is not None:
            self.unpacked.cleanup()


def open_files(path: Path) -> BagFiles:
    """Open all files of a bag.

    Args:
        path: Its folder, its metadata.yaml or one of its files.

    Raises:
        StorageError: None of them can be read; the message says why.
        OSError: A file cannot be read.
        ImportError: A package that is needed is not installed.
    """
    found = BagFiles()
    try:
        paths, found.problems = _paths(path)
        for file in paths:
            try:
                found.files.append(_open(file, found))
            except (StorageError, OSError) as error:
                if len(paths) == 1:
                    raise
                found.problems.append(f"{error}; its other files are read")
        if not found.files:
            raise StorageError("; ".join(found.problems))
    except BaseException:
        found.close()
        raise
    for opened in found.files:
        found.problems += opened.problems
        lost = int((~np.isin(opened.index()[1], list(opened.channels))).sum())
        found.problems += [f"{opened.path.name}: {lost} messages are of no channel that it describes"] if lost else []
    return found


def _paths(path: Path) -> tuple[list[Path], list[str]]:
    """The files of a bag, and what is missing."""
    if path.name == METADATA and path.is_file():
        path = path.parent
    if not path.is_dir():
        return [path], []
    there = sorted((p for p in path.iterdir() if p.is_file() and _is_storage(p)), key=_natural)
    metadata = path / METADATA
    if not metadata.is_file() or not metadata.stat().st_size:
        if not there:
            raise StorageError(_nothing_in(path))
        why = "is empty" if metadata.is_file() else "is missing"
        log.info("bag %r: its %s %s; its files are read as they are", str(path), METADATA, why)
        return there, []
    named = _named_in(metadata, there)
    paths, missing = [], []
    for name in named:
        at = next((path / f"{name}{more}" for more in PACKED_SUFFIXES if (path / f"{name}{more}").is_file()), None)
        paths += [] if at is None or at in paths else [at]
        missing += [name] if at is None else []
    if not missing:
        return paths, []
    if paths:
        return paths, [f"{len(missing)} of its {len(named)} files are missing: {', '.join(missing[:3])}"]
    if not there:
        packed = next((p.name for p in sorted(path.iterdir()) if p.suffix in OTHER_PACKED and p.stem in missing), "")
        hint = f"; {packed} is there: unpack it" if packed else ""
        raise StorageError(f"its files are missing: {', '.join(missing[:3]) or 'none is named in ' + METADATA}{hint}")
    log.info("bag %r: the files that %s names are not there; those that are there are read", str(path), METADATA)
    return there, []


def _named_in(metadata: Path, there: Sequence[Path]) -> list[str]:
    """The names of the files in metadata.yaml. Versions below 4 have the bag's own folder before them."""
    hint = f"run `ros2 bag reindex {metadata.parent}`"
    hint += f" or give the file inside, {there[0]}" if there else ""
    try:
        raw = yaml.safe_load(metadata.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = reason_of(error)[:100]
        raise StorageError(f"its {METADATA} is no YAML ({reason}); {hint}") from error
    information: Any = raw.get("rosbag2_bagfile_information") if isinstance(raw, dict) else None
    paths = information.get("relative_file_paths") if isinstance(information, dict) else None
    if not isinstance(paths, list) or not all(isinstance(p, str) and p for p in paths):
        raise StorageError(f"its {METADATA} does not name its files (relative_file_paths); {hint}")
    return [PurePosixPath(p.replace("\\", "/")).name for p in paths]


def _open(path: Path, found: BagFiles) -> StorageFile:
    """Open a file by its first bytes, unpacked where it is compressed."""
    with path.open("rb") as file:
        head = file.read(256)
    if compression_of(head):
        found.unpacked = found.unpacked or tempfile.TemporaryDirectory(prefix="proxqa-bag-")
        target = Path(found.unpacked.name, path.name.removesuffix(path.suffix) if path.suffix else path.name)
        problem = unpack_file(path, target)
        if problem and not target.stat().st_size:
            raise StorageError(f"{path.name}: {problem}; nothing of it can be read")
        found.problems += [f"{path.name}: {problem}"] if problem else []
        path = target
        with path.open("rb") as file:
            head = file.read(256)
    if head.startswith(SQLITE_MAGIC):
        return SqliteFile(path)
    if head.startswith(MCAP_MAGIC):
        from proxqa_core.rosbags.mcap_file import McapFile

        return McapFile(path)
    raise StorageError(f"{path.name} {_what_it_is(head)}")


def _what_it_is(head: bytes) -> str:
    if not head:
        return "is empty (0 bytes)"
    if head.startswith(OTHER_MAGIC):
        return "is packed by gzip, bzip2, xz or zip: unpack it"
    if head.startswith(b"#ROSBAG V2"):
        return "is a bag of ROS 1; convert it with `rosbags-convert --src FILE --dst FOLDER`"
    if head.startswith(b"version https://git-lfs"):
        return "is a pointer of git-lfs, not the file itself; fetch it with `git lfs pull`"
    if not head.strip(b"\0"):
        return "begins with zeros only: its writing was broken off"
    return "is neither SQLite nor MCAP"


def _nothing_in(path: Path) -> str:
    inside = sorted(p.parent for p in path.glob(f"*/{METADATA}"))
    inside += sorted({p.parent for p in path.glob("*/*") if _is_storage(p)} - set(inside))
    if inside:
        return f"it is no bag itself but holds some: {', '.join(map(str, inside[:3]))}"
    old = sorted(path.glob("*.bag"))
    if old:
        return f"{old[0].name} is a bag of ROS 1; convert it with `rosbags-convert --src FILE --dst FOLDER`"
    return f"it has no {METADATA} and no file {' or '.join('*' + suffix for suffix in STORAGE_SUFFIXES)}"


def _is_storage(path: Path) -> bool:
    suffixes = path.suffixes
    packed = len(suffixes) > 1 and suffixes[-1] in PACKED_SUFFIXES
    return (suffixes[-2] if packed else path.suffix) in STORAGE_SUFFIXES


def _natural(path: Path) -> list[tuple[int, str]]:
    """To sort bag_2 before bag_10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]
