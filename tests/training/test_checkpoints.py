"""What is saved goes on where it was; what is half written is never seen."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import pytest
import torch

from proxqa_core.errors import WriteError
from proxqa_training import checkpoints
from proxqa_training.checkpoints import (
    BadCheckpointError,
    load_checkpoint,
    load_weights,
    save_checkpoint,
    write_tensors,
)


def optimizer_of(value: float) -> torch.optim.AdamW:
    torch.manual_seed(0)
    first, second = (torch.nn.Parameter(torch.full((3,), value + i)) for i in range(2))
    return torch.optim.AdamW([{"params": [first]}, {"params": [second]}], lr=0.1)


def step(optimizer: torch.optim.Optimizer, parameters: list[torch.nn.Parameter]) -> None:
    for i, parameter in enumerate(parameters):
        parameter.grad = torch.arange(3.0) + i
    optimizer.step()


def parameters_of(optimizer: torch.optim.Optimizer) -> list[torch.nn.Parameter]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def test_it_goes_on_exactly_where_it_was(tmp_path: Path) -> None:
    path, whole, resumed = tmp_path / "c.safetensors", optimizer_of(1.0), optimizer_of(5.0)
    step(whole, parameters_of(whole))
    save_checkpoint(path, 1, whole)
    assert load_checkpoint(path, resumed) == 1
    for optimizer in (whole, resumed):
        step(optimizer, parameters_of(optimizer))
    for a, b in zip(parameters_of(whole), parameters_of(resumed), strict=True):
        assert torch.equal(a, b)


def test_before_the_first_step_there_are_no_moments(tmp_path: Path) -> None:
    path, fresh = tmp_path / "c.safetensors", optimizer_of(5.0)
    save_checkpoint(path, 0, optimizer_of(1.0))
    assert load_checkpoint(path, fresh) == 0 and not fresh.state
    assert parameters_of(fresh)[0].tolist() == [1.0] * 3


def test_without_a_checkpoint_nothing_changes(tmp_path: Path) -> None:
    optimizer = optimizer_of(5.0)
    assert load_checkpoint(tmp_path / "none", optimizer) == 0
    assert parameters_of(optimizer)[0].tolist() == [5.0] * 3


def test_weights_alone_are_cast(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, 3, optimizer_of(1.0))
    live = [torch.nn.Parameter(torch.zeros(3, dtype=torch.bfloat16)) for _ in range(2)]
    load_weights(path, live)
    assert [p.tolist() for p in live] == [[1.0] * 3, [2.0] * 3] and live[0].dtype is torch.bfloat16


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c.safetensors"
    write_tensors(path, {"a": torch.ones(2)})
    before = path.read_bytes()

    def fails(tensors: object, file: Path, metadata: object) -> None:
        file.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(checkpoints, "save_file", fails)
    with pytest.raises(OSError, match="no space"):
        write_tensors(path, {"a": torch.zeros(2)})
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == [path.name]


def saved(path: Path) -> bytes:
    optimizer = optimizer_of(1.0)
    step(optimizer, parameters_of(optimizer))
    save_checkpoint(path, 1, optimizer)
    return path.read_bytes()


def assert_unusable(path: Path, reason: str = "") -> None:
    optimizer = optimizer_of(5.0)
    for load in (lambda: load_checkpoint(path, optimizer), lambda: load_weights(path, parameters_of(optimizer))):
        with pytest.raises(BadCheckpointError, match=re.escape(str(path))) as caught:
            load()
        text = str(caught.value)
        assert text.endswith("; delete it to start anew") and "\n" not in text and reason in text
    assert parameters_of(optimizer)[0].tolist() == [5.0] * 3 and not optimizer.state


def test_a_truncated_file_is_one_line_and_loads_nothing(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    whole = saved(path)
    for size in (0, 4, 8, 60, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert_unusable(path)


def test_a_flipped_bit_anywhere_is_found(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    whole = saved(path)
    for at in range(0, len(whole), 3):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << at % 8
        path.write_bytes(damaged)
        try:
            assert_unusable(path)
        except AssertionError:  # pragma: no cover
            pytest.fail(f"byte {at} of {len(whole)}: {bytes(whole[at - 8 : at + 8])!r}")


def test_one_of_other_weights_is_told_so(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    other = torch.optim.AdamW([torch.nn.Parameter(torch.ones(4)), torch.nn.Parameter(torch.ones(3))])
    save_checkpoint(path, 1, other)
    assert_unusable(path, "is of other weights: weight.0 is (4,), expected (3,)")


def test_the_mark_of_a_finished_stage_is_named_too(tmp_path: Path) -> None:
    path = tmp_path / "stage1.safetensors"
    (tmp_path / "stage1.done").touch()
    with pytest.raises(BadCheckpointError, match=r"delete it and stage1\.done to start anew"):
        load_weights(path, [])


def test_it_is_on_the_disk_before_its_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (steps.append("sync"), sync(handle))[1])
    monkeypatch.setattr(os, "replace", lambda a, b: (steps.append("name"), replace(a, b))[1])
    saved(tmp_path / "c.safetensors")
    assert steps == ["sync", "name", "sync"]  # the file, its name, the folder


def test_a_full_disk_says_where_and_how_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(
        WriteError, match=r"c\.safetensors' cannot be written: No space left on device; it takes 0\.0 MB"
    ):
        save_checkpoint(tmp_path / "c.safetensors", 0, optimizer_of(1.0))
    assert not list(tmp_path.iterdir())
