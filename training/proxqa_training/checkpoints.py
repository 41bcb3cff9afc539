"""Checkpoints: the weights in training with their optimizer's moments and the step, in one safetensors file.

Promises: a file is written whole or not at all, and is on the disk before its name is; what is loaded goes on exactly
where it was saved, on whatever device the weights are. A damaged file, down to a single bit, is one line that names it
and says what to do, and nothing is loaded from it. Used by the tower's run and by the stages alike.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from proxqa_core.errors import ProxqaError, reason_of
from proxqa_core.files import atomic_write

MOMENTS = ("exp_avg", "exp_avg_sq")
STEP = "step"
DIGEST = "sha256"


class BadCheckpointError(ProxqaError):
    """A checkpoint is damaged, or of a training with other weights."""


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file so that it is seen whole or not at all.

    Args:
        path: The file to write.
        tensors: By name, contiguous.
        metadata: Texts that are stored beside them.

    Raises:
        WriteError: There is no room, or no right to write.
    """
    needed_bytes = sum(t.numel() * t.element_size() for t in tensors.values())
    with atomic_write(path, needed_bytes) as part:
        save_file(dict(tensors), part, metadata=metadata)


def save_checkpoint(path: Path, step: int, optimizer: torch.optim.Optimizer) -> None:
    """Save the parameters of an optimizer, its moments and the step.

    Args:
        path: The file to write.
        step: Number of the next step.
        optimizer: AdamW or another one with `exp_avg`, `exp_avg_sq` and `step`.

    Raises:
        WriteError: There is no room, or no right to write.
    """
    parameters = _parameters(optimizer)
    tensors = {f"weight.{i}": p.detach() for i, p in enumerate(parameters)}
    for i, parameter in enumerate(parameters):
        state = optimizer.state.get(parameter, {})
        tensors |= {f"{k}.{i}": state[k].clone() for k in (*MOMENTS, STEP) if k in state}
    write_tensors(path, tensors, {STEP: str(step), DIGEST: _digest(step, tensors)})


def load_checkpoint(path: Path, optimizer: torch.optim.Optimizer) -> int:
    """Put a checkpoint into an optimizer and its parameters.

    Args:
        path: The file; where there is none, nothing changes.
        optimizer: Over the same parameters, in the same order, as the one that was saved.

    Returns:
        The number of the next step, 0 where there is no checkpoint.

    Raises:
        BadCheckpointError: It is damaged or of other weights; nothing has changed.
    """
    if not path.exists():
        return 0
    parameters = _parameters(optimizer)
    step, tensors = _read(path, parameters)
    _copy(tensors, parameters)
    for i, parameter in enumerate(parameters):
        if f"exp_avg.{i}" in tensors:
            moments = {k: tensors[f"{k}.{i}"].to(parameter.device) for k in MOMENTS}
            optimizer.state[parameter] = {STEP: tensors[f"{STEP}.{i}"], **moments}
    return step


def load_weights(path: Path, parameters: list[torch.nn.Parameter]) -> None:
    """Put the weights alone of a checkpoint into parameters.

    Args:
        path: The file.
        parameters: In the order in which they were saved; values are cast to their type.

    Raises:
        BadCheckpointError: It is missing, damaged or of other weights; nothing has changed.
    """
    _, tensors = _read(path, parameters)
    _copy(tensors, parameters)


def _copy(tensors: Mapping[str, torch.Tensor], parameters: Sequence[torch.Tensor]) -> None:
    with torch.no_grad():
        for i, parameter in enumerate(parameters):
            parameter.copy_(tensors[f"weight.{i}"])


def _read(path: Path, parameters: Sequence[torch.Tensor]) -> tuple[int, dict[str, torch.Tensor]]:
    """The step and the tensors of a whole file that fits. BadCheckpointError where it is not."""
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        step = int(metadata[STEP])
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
        raise _unusable(path, f"cannot be read ({reason_of(error) or type(error).__name__})") from error
    if metadata.get(DIGEST) != _digest(step, tensors):
        raise _unusable(path, "is damaged: its content is not what was written")
    shapes = {name: tuple(t.shape) for name, t in tensors.items() if name.startswith("weight.")}
    expected = {f"weight.{i}": tuple(p.shape) for i, p in enumerate(parameters)}
    if shapes != expected:
        wrong = sorted(n for n in shapes.keys() | expected.keys() if shapes.get(n) != expected.get(n))[0]
        raise _unusable(path, f"is of other weights: {wrong} is {shapes.get(wrong)}, expected {expected.get(wrong)}")
    return step, tensors


def _unusable(path: Path, why: str) -> BadCheckpointError:
    done_mark = path.with_suffix(".done")
    files = f"it and {done_mark.name}" if done_mark.exists() else "it"
    return BadCheckpointError(f"checkpoint {str(path)!r} {why}; delete {files} to start anew")


def _digest(step: int, tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of a checkpoint's content."""
    digest = hashlib.sha256(f"{STEP} {step}\n".encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _parameters(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]
