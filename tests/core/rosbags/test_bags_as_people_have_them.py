"""Bags as they lie on disks: renamed, linked, packed once more, edited on Windows, downloaded wrongly."""

from __future__ import annotations

import gzip
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from proxqa_core.rosbags.bag import BadBagError, Bag
from tests import made_bag as made

Change = Callable[[Path], object]


def count(path: Path | str) -> int:
    with Bag(path) as bag:
        return sum(1 for m in bag.messages(bag.image_topic()) if bag.decode(m) is not None)


def metadata(change: Callable[[bytes], bytes]) -> Change:
    def of(folder: Path) -> None:
        file = folder / "metadata.yaml"
        file.write_bytes(change(file.read_bytes()))

    return of


def data_file(change: Callable[[Path], object]) -> Change:
    return lambda folder: change(next(p for p in sorted(folder.iterdir()) if p.name != "metadata.yaml"))


def update(statement: str) -> Change:
    def of(file: Path) -> None:
        with sqlite3.connect(file) as database:
            database.execute(statement)
        database.close()

    return data_file(of)


def packed(file: Path) -> None:
    file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
    file.unlink()


def renamed_without_metadata(file: Path) -> None:
    file.rename(file.with_name("x.db3"))
    (file.parent / "metadata.yaml").unlink()


READ: dict[str, tuple[Change, str, str]] = {
    "Windows' line ends": (metadata(lambda b: b.replace(b"\n", b"\r\n")), "sqlite3", ""),
    "a byte order mark": (metadata(lambda b: b"\xef\xbb\xbf" + b), "sqlite3", ""),
    "another name of the file": (data_file(lambda f: f.rename(f.with_name("other.mcap"))), "mcap", ""),
    "mcap called db3": (data_file(renamed_without_metadata), "mcap", ""),
    "suffix of zstd's own program": (data_file(lambda f: f.rename(f.with_suffix(".zst"))), "sqlite3", "FILE"),
    "a folder called like a file": (lambda folder: (folder / "sub.db3").mkdir(), "sqlite3", ""),
    "types by their names of ROS 1": (
        update("UPDATE topics SET type = 'sensor_msgs/Image' WHERE type LIKE '%Image'"), "sqlite3", "",
    ),
    "recorded before 1970": (update("UPDATE messages SET timestamp = -5"), "sqlite3", ""),
}  # fmt: skip
REFUSED: dict[str, tuple[Change, str]] = {
    "packed by gzip": (data_file(packed), ".gz is there: unpack it"),
    "a web page": (data_file(lambda f: f.write_text("<html>404")), "is neither SQLite nor MCAP"),
    "zeros": (data_file(lambda f: f.write_bytes(bytes(4096))), "begins with zeros only"),
    "metadata in UTF-16": (metadata(lambda b: b.decode().encode("utf-16")), "is no YAML"),
    "metadata with tabs": (metadata(lambda b: b.replace(b"  ", b"\t")), "ros2 bag reindex"),
    "no messages": (update("DELETE FROM messages"), "has no colour images"),
    "no topics": (update("DELETE FROM topics"), "of no channel that it describes"),
    "another serialization": (update("UPDATE topics SET serialization_format = 'cbor'"), "not ROS 2's (cdr)"),
}


@pytest.mark.parametrize("what", READ)
def test_what_is_whole_is_read(tmp_path: Path, what: str) -> None:
    change, storage, compression = READ[what]
    folder = made.write(tmp_path / "bag", made.drive(3), storage, compression)
    change(folder)
    assert count(folder) == 3


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_is_one_line_that_says_why(tmp_path: Path, what: str) -> None:
    change, said = REFUSED[what]
    folder = made.write(tmp_path / "bag", made.drive(3))
    change(folder)
    with pytest.raises(BadBagError) as error:
        count(folder)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_where_it_lies_does_not_matter(tmp_path: Path) -> None:
    folder = made.write(tmp_path / "mein bäg 日本", made.drive(2))
    (tmp_path / "link").symlink_to(folder)
    assert [count(p) for p in (folder, f"{folder}/", tmp_path / "link", folder / "metadata.yaml")] == [2] * 4


def test_its_name_is_the_folders_however_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = made.write(tmp_path / "kitchen", made.drive(2))
    monkeypatch.chdir(folder)
    for path in (folder, Path("."), folder / "metadata.yaml", Path("metadata.yaml")):
        with Bag(path) as bag:
            assert bag.name == "kitchen"


def test_a_file_packed_by_gzip_is_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "bag.db3.gz").write_bytes(gzip.compress(b"SQLite"))
    with pytest.raises(BadBagError, match="is packed by gzip, bzip2, xz or zip: unpack it"):
        count(tmp_path / "bag.db3.gz")
