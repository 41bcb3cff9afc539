"""What is written is there whole under its name, or what was there before still is."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxqa_core.errors import WriteError
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


@pytest.fixture
def umask_022() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("umask_022")
def test_what_a_writer_keeps_to_itself_has_the_umasks_permissions(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "file") as work:
        work.touch(0o600)
    with atomic_folder(tmp_path / "folder") as work:
        (work / "in").mkdir(0o700)
        (work / "in" / "file").touch(0o600)
    folder = tmp_path / "folder"
    assert [mode(tmp_path / "file"), mode(folder / "in" / "file")] == [0o644] * 2
    assert [mode(folder), mode(folder / "in")] == [0o755] * 2
    (tmp_path / "file").chmod(0o600)
    write_text(tmp_path / "file", "secret")
    assert mode(tmp_path / "file") == 0o600  # what is replaced keeps its own


def test_a_pipe_and_a_link_stay_what_they_are(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_text(tmp_path / "pipe", "x")
    assert os.read(reader, 9) == b"x" and stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    os.close(reader)
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_text(tmp_path / "link", "x")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "target").read_text() == "x"


WRITES = """
import resource, sys
from pathlib import Path
from proxqa_core.errors import WriteError
from proxqa_core.files import atomic_folder, atomic_write
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
path, how = Path(sys.argv[1]), sys.argv[2]
data = b"x" * 3_000_000
try:
    if how == "file":
        with atomic_write(path, len(data)) as work:
            work.write_bytes(data)
    elif how == "folder":
        with atomic_folder(path) as work:
            (work / "weights").write_bytes(data)
    else:
        import torch
        from safetensors.torch import save_file
        with atomic_write(path) as work:
            save_file({"a": torch.zeros(750_000)}, work)
except WriteError as error:
    print(error)
"""


@pytest.mark.parametrize("how", ["file", "folder", "safetensors"])
def test_a_full_disk_names_the_target_and_how_much(tmp_path: Path, how: str) -> None:
    path = tmp_path / "new" / "target"
    command = [sys.executable, "-c", WRITES, str(path), how]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.count("\n") == 1 and not done.stderr
    assert done.stdout.startswith(f"{str(path)!r} cannot be written: {os.strerror(errno.EFBIG)}; it takes ")
    assert " MB free" in done.stdout and ("it takes 3.0 MB" in done.stdout) == (how == "file")
    assert list(path.parent.iterdir()) == []


def test_where_nobody_may_write_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(tmp_path / "folder"))

    with monkeypatch.context() as changed:  # root may write everywhere
        changed.setattr(Path, "mkdir", refused)
        with pytest.raises(WriteError, match="cannot be written: Permission denied; expected a folder") as caught:
            write_text(tmp_path / "folder" / "file", "x")
    assert str(tmp_path / "folder" / "file") in str(caught.value)


def test_an_error_about_another_file_is_not_about_this_one(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(PermissionError) as caught, atomic_write(tmp_path / "out" / "file"):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "source" / "image.png"))
    assert not isinstance(caught.value, WriteError)
