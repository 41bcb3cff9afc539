"""The base model is made of what its weight files hold, and kept whole or not at all."""

import errno
import fcntl
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from proxqa_core.errors import BadModelError, CacheError
from proxqa_core.model import base_weights
from proxqa_core.model.base_weights import vision_weights


def test_the_tower_is_the_one_in_the_package(engine):
    """Weights under their published names arrive in the model, whatever the installed library calls them."""
    published = load_file(vision_weights().find())
    backbone = engine.model.llava.model.vision_tower.backbone
    assert sum(t.numel() for t in published.values()) == sum(t.numel() for t in backbone.state_dict().values())
    renamed = {"attention.attention.query": "attention.q_proj", "attention.output.dense": "attention.o_proj"}
    loaded = backbone.state_dict()
    for name in (
        "layernorm.weight",
        "encoder.layer.11.attention.attention.query.weight",
        "encoder.layer.3.mlp.fc1.bias",
    ):
        here = name
        for old, new in renamed.items():
            here = here if here in loaded else here.replace(old, new)
        assert torch.allclose(loaded[here].float(), published[name].float(), atol=1e-2, rtol=1e-2), name


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A cache of its own, and a conversion that writes next to nothing: what is kept how is the point."""
    monkeypatch.setenv("PROXQA_CACHE", str(tmp_path / "cache"))

    def convert(language, vision, out):
        save_file({"w": torch.ones(3)}, out / "model.safetensors")

    monkeypatch.setattr(base_weights, "_convert", convert)
    return tmp_path / "cache"


NOBODY = 65534
READS_A_CACHE = """
import email.parser, os, sys  # what nobody may not read is imported before
from proxqa_core.model import base_weights
os.setgroups([]), os.setgid(int(sys.argv[1])), os.setuid(int(sys.argv[1]))
def converts(line): raise SystemExit(f"not read: {line}")
print(base_weights.default_base(converts))
"""


@pytest.fixture
def everybodys():
    """A folder that every user can reach, which pytest's are not."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_the_cache_can_be_read_by_every_user_and_written_by_one(small, everybodys, monkeypatch):
    monkeypatch.setenv("PROXQA_CACHE", str(everybodys / "cache"))
    before = os.umask(0o022)
    try:
        base = base_weights.default_base(lambda line: None)
    finally:
        os.umask(before)
    assert stat.S_IMODE(base.stat().st_mode) == 0o755
    assert {stat.S_IMODE(p.stat().st_mode) for p in base.iterdir()} == {0o644}
    if os.geteuid() != 0:
        pytest.skip("only root can try it as another user")
    command = [sys.executable, "-c", READS_A_CACHE, str(NOBODY)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(base_weights.__file__).parents[2])
    assert done.stdout.strip() == str(base), done.stderr
    (base / "model.safetensors").chmod(0o600)  # as a cache of which not all may read all
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(base_weights.__file__).parents[2])
    assert done.returncode == 1 and "not read: converting" in done.stderr


def test_a_cache_that_may_not_be_written_says_so(small, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(small))

    monkeypatch.setattr(base_weights.tempfile, "mkdtemp", refused)  # root may write everywhere
    with pytest.raises(
        CacheError, match=rf"{small}.*Permission denied; have it written by a user who may.*PROXQA_CACHE"
    ):
        base_weights.default_base(lambda line: None)


FULL = [
    OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "some/file"),
    SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
]


@pytest.mark.parametrize("error", FULL, ids=["system", "safetensors"])
def test_a_full_disk_is_one_line_and_leaves_nothing(small, monkeypatch, error):
    convert = base_weights._convert

    def half(language, vision, out):
        convert(language, vision, out)
        raise error

    monkeypatch.setattr(base_weights, "_convert", half)
    with pytest.raises(CacheError, match=r"No space left on device.*PROXQA_CACHE") as caught:
        base_weights.default_base(lambda line: None)
    assert "\n" not in str(caught.value) and str(small) in str(caught.value)
    assert list(small.iterdir()) == []
    monkeypatch.setattr(base_weights, "_convert", convert)
    assert base_weights.default_base(lambda line: None).parent == small


def test_a_cache_that_cannot_be_made_says_where(small):
    small.write_text("a file")
    with pytest.raises(CacheError, match=rf"{small}.*File exists; expected a folder"):
        base_weights.default_base(lambda line: None)


def test_what_a_library_could_not_read_is_not_called_a_full_disk(small, monkeypatch):
    def unreadable(*_):
        raise OSError("Can't load tokenizer")

    monkeypatch.setattr(base_weights, "_convert", unreadable)
    with pytest.raises(OSError, match="Can't load tokenizer") as caught:
        base_weights.default_base(lambda line: None)
    assert not isinstance(caught.value, CacheError)


def test_what_killed_processes_left_is_removed_and_what_live_ones_make_is_not(small):
    for name in (".base-dead", ".broken-dead", ".base-alive"):
        (small / name).mkdir(parents=True)
        (small / name / "model.safetensors").write_bytes(b"half")
    holds = "import fcntl, os, sys; f = os.open(sys.argv[1], os.O_RDONLY); fcntl.flock(f, fcntl.LOCK_EX); print(1)"
    program = [sys.executable, "-u", "-c", f"{holds}; sys.stdin.read()", str(small / ".base-alive")]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as alive:
        assert alive.stdout.readline() == b"1\n"
        base = base_weights.default_base(lambda line: None)
        assert {p.name for p in small.iterdir()} == {base.name, ".base-alive"}
        alive.stdin.close()
    (base / base_weights.MANIFEST).unlink()
    assert base_weights.default_base(lambda line: None) == base
    assert [p.name for p in small.iterdir()] == [base.name]


def test_the_folder_in_work_is_locked(small, monkeypatch):
    seen = []

    def check_lock(language, vision, out):
        handle = os.open(out, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(handle)
        (out / "x").write_text("x")
        seen.append(out)

    monkeypatch.setattr(base_weights, "_convert", check_lock)
    base_weights.default_base(lambda line: None)
    assert len(seen) == 1 and not seen[0].exists()


def test_what_takes_long_is_told_or_logged(small, caplog):
    """Who passes no callback has it in the log, as a warning: it is seen where nobody has set up logging."""
    lines = []
    base = base_weights.default_base(lines.append)
    assert lines == [f"converting the base weights once, about 8 s, into {base}"] and not caplog.records
    (base / base_weights.MANIFEST).unlink()
    assert base_weights.default_base() == base_weights.default_base() == base
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [("WARNING", lines[0])]


@pytest.fixture
def assets(tmp_path, monkeypatch):
    """A copy of the bundled vision tower and its manifest, to be changed."""
    copy = tmp_path / "assets"
    copy.mkdir()
    for name in (base_weights.MANIFEST, base_weights.VISION_TOWER):
        shutil.copy(base_weights.ASSETS / name, copy)
    monkeypatch.setattr(base_weights, "ASSETS", copy)
    return copy


def test_the_bundled_base_is_the_one_that_adapters_name():
    assert base_weights.base_identity() == "fcdb8d349b63e642"
    assert base_weights.vision_weights().sha256 == base_weights.sha256(base_weights.ASSETS / base_weights.VISION_TOWER)


def test_a_new_tower_becomes_the_bundled_one_and_the_base_another(assets, tmp_path):
    before = base_weights.base_identity()
    save_file({"w": torch.ones(3)}, tmp_path / "trained.safetensors")
    base_weights.set_vision_tower(tmp_path / "trained.safetensors")
    tower = assets / base_weights.VISION_TOWER
    assert tower.read_bytes() == (tmp_path / "trained.safetensors").read_bytes()
    assert base_weights.vision_weights().sha256 == base_weights.sha256(tower)
    assert base_weights.base_identity() != before
    assert {p.name for p in assets.iterdir()} == {base_weights.MANIFEST, base_weights.VISION_TOWER}
    with pytest.raises(FileNotFoundError):
        base_weights.set_vision_tower(tmp_path / "none")
    assert base_weights.vision_weights().sha256 == base_weights.sha256(tower)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"vision_tower.safetensors": 3}', None])
def test_a_bad_manifest_is_one_line(assets, text):
    if text is None:
        (assets / base_weights.MANIFEST).unlink()
    else:
        (assets / base_weights.MANIFEST).write_text(text)
    with pytest.raises(BadModelError, match=r"manifest\.json") as error:
        base_weights.base_identity()
    assert "\n" not in str(error.value)
