"""What other versions left in the cache can be seen and removed; nothing else is touched."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from proxqa_core.cli import main
from proxqa_core.errors import CacheError
from proxqa_core.model import base_weights, kept
from proxqa_core.model.base_weights import base_folder

OLD = "base-0123456789abcdef-2-transformers-4.57.1"
FIRST = "base-0123456789abcdef-transformers-4.50.0"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PROXQA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def made(folder: Path, megabytes: int = 1) -> Path:
    """A converted base, or a graph: weights and their manifest."""
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(bytes(megabytes * 10**6))
    base_weights.seal(folder)
    return folder


def test_what_other_versions_left_is_listed_and_removed(cache: Path, capsys: Any) -> None:
    current, graph = made(base_folder(), 3), made(cache / "openvino-15a63e4ce42eba20")
    made(cache / OLD, 2), made(cache / FIRST)
    assert main(["cache"]) == 0
    listed = capsys.readouterr().out
    assert f"{cache}: 7 MB" in listed and "3 MB are of other versions -> proxqa cache --remove-unused" in listed
    assert (cache / OLD).is_dir()
    assert main(["cache", "--remove-unused", "--json", "-"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["removed"] == [
        {"name": OLD, "state": "unused", "mb": 2},
        {"name": FIRST, "state": "unused", "mb": 1},
    ]
    assert {(row["name"], row["state"]) for row in report["kept"]} == {(current.name, "used"), (graph.name, "other")}
    assert {p.name for p in cache.iterdir()} == {current.name, graph.name}
    assert main(["cache", "--remove-unused"]) == 0
    assert "nothing was removed" in capsys.readouterr().out


def test_what_is_not_ours_stays_and_no_link_is_followed(cache: Path, tmp_path: Path) -> None:
    elsewhere = made(tmp_path / "elsewhere")
    made(cache / OLD)
    (cache / OLD / "notes.txt").write_text("mine")
    made(cache / "base-mine")
    (cache / FIRST).symlink_to(elsewhere)
    linked = made(cache / OLD.replace("-2-", "-1-"))
    (linked / "model.safetensors").unlink()
    (linked / "model.safetensors").symlink_to(elsewhere / "model.safetensors")
    (cache / "base-0123456789abcdef-1-transformers-4.0.0").mkdir()  # without a manifest
    before = sorted(cache.rglob("*"))
    assert kept.remove_unused() == []
    assert sorted(cache.rglob("*")) == before and (elsewhere / "model.safetensors").is_file()


def test_without_a_cache_there_is_nothing(cache: Path, capsys: Any) -> None:
    assert main(["cache", "--remove-unused"]) == 0
    assert f"{cache}: 0 MB" in capsys.readouterr().out and not cache.exists()


def test_what_cannot_be_removed_is_said(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(cache / OLD)

    def refused(*_: Any, **__: Any) -> str:
        raise PermissionError(13, "Permission denied", str(cache / OLD))

    monkeypatch.setattr(tempfile, "mkdtemp", refused)  # root may write everywhere
    with pytest.raises(CacheError, match=rf"{OLD}' cannot be removed: Permission denied"):
        kept.remove_unused()
    assert (cache / OLD / "model.safetensors").is_file()
