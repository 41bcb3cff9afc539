"""Unpacking: never more than there is room for, and one line that says so."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lz4.frame
import numpy as np
import pytest
import zstandard

from proxqa_core.rosbags.bag import BadBagError, Bag
from proxqa_core.rosbags.compression import NoRoomError, unpack, unpack_file

MB = 1 << 20


def packed(kind: str, content: bytes, declared: bool) -> bytes:
    if kind == "zstd":
        return zstandard.ZstdCompressor(write_content_size=declared).compress(content)
    return bytes(lz4.frame.compress(content, store_size=declared))


@pytest.fixture
def little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk with 10 MB left."""
    usage: Any = SimpleNamespace(total=20 * MB, used=10 * MB, free=10 * MB)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)


@pytest.mark.parametrize("kind", ["zstd", "lz4"])
@pytest.mark.parametrize("declared", [True, False])
def test_what_does_not_fit_is_refused_in_one_line_and_leaves_nothing(
    tmp_path: Path, little_room: None, kind: str, declared: bool
) -> None:
    source, target = tmp_path / "bag_0.db3.zstd", tmp_path / "bag_0.db3"
    source.write_bytes(packed(kind, bytes(64 * MB), declared))
    with pytest.raises(NoRoomError, match=r"bag_0\.db3\.zstd.*free some, or set TMPDIR") as error:
        unpack_file(source, target)
    assert "\n" not in str(error.value) and not target.exists()
    assert (f"says that it is {64 * MB} bytes" in str(error.value)) == declared


@pytest.mark.parametrize("kind", ["zstd", "lz4"])
def test_what_fits_is_unpacked_whole(tmp_path: Path, little_room: None, kind: str) -> None:
    content = np.random.default_rng(0).integers(0, 256, 3 * MB, np.uint8).tobytes()
    source, target = tmp_path / "a", tmp_path / "b"
    source.write_bytes(packed(kind, content, declared=True))
    assert unpack_file(source, target) == "" and target.read_bytes() == content


def test_a_bag_that_does_not_fit_is_one_line(tmp_path: Path, little_room: None) -> None:
    (tmp_path / "bag").mkdir()
    (tmp_path / "bag" / "bag_0.mcap.zstd").write_bytes(packed("zstd", bytes(64 * MB), declared=False))
    with pytest.raises(BadBagError, match="larger unpacked than there is room for") as error:
        Bag(tmp_path / "bag")
    assert "\n" not in str(error.value)


def test_a_part_is_unpacked_no_further_than_asked() -> None:
    bomb = packed("zstd", bytes(256 * MB), declared=True)
    assert len(bomb) < MB // 16 and unpack(bomb, "zstd", 1000) == bytes(1000)
