"""What is written is there whole under its name, or what was there before still is."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from proxqa_core.files import atomic_folder, atomic_write, sha256, write_text


def test_a_file_appears_whole_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.bin"
    with atomic_write(path) as work:
        work.write_bytes(b"half")
        assert not path.exists() and work.parent == path.parent
        work.write_bytes(b"whole")
    assert path.read_bytes() == b"whole" and [p.name for p in path.parent.iterdir()] == ["file.bin"]
    assert sha256(path) == hashlib.sha256(b"whole").hexdigest()


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old ü")
    with pytest.raises(RuntimeError, match="disk"), atomic_write(path) as work:
        work.write_text("half")
        raise RuntimeError("disk")
    assert path.read_text(encoding="utf-8") == "old ü" and list(tmp_path.iterdir()) == [path]


def test_a_block_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "file"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    for content in ("one", "two"):
        with atomic_folder(path) as work:
            (work / content).write_text(content)
        assert [p.name for p in path.iterdir()] == [content] and list(tmp_path.iterdir()) == [path]
    with pytest.raises(RuntimeError), atomic_folder(path) as work:
        (work / "three").write_text("three")
        raise RuntimeError
    assert [p.name for p in path.iterdir()] == ["two"] and list(tmp_path.iterdir()) == [path]
