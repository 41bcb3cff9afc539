"""What is saved goes on where it was; what is half written is never seen."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from proxqa_training import checkpoints
from proxqa_training.checkpoints import load_checkpoint, load_weights, save_checkpoint, write_tensors


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
