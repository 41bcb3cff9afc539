"""Checkpoints: the weights in training with their optimizer's moments and the step, in one safetensors file.

Promises: a file is written whole or not at all; what is loaded goes on exactly where it was saved, on whatever device
the weights are. Used by the tower's run and by the stages alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from proxqa_core.files import atomic_write

MOMENTS = ("exp_avg", "exp_avg_sq")
STEP = "step"


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file so that it is seen whole or not at all.

    Args:
        path: The file to write.
        tensors: By name, contiguous.
        metadata: Texts that are stored beside them.
    """
    with atomic_write(path) as part:
        save_file(dict(tensors), part, metadata=metadata)


def save_checkpoint(path: Path, step: int, optimizer: torch.optim.Optimizer) -> None:
    """Save the parameters of an optimizer, its moments and the step.

    Args:
        path: The file to write.
        step: Number of the next step.
        optimizer: AdamW or another one with `exp_avg`, `exp_avg_sq` and `step`.
    """
    parameters = _parameters(optimizer)
    tensors = {f"weight.{i}": p.detach() for i, p in enumerate(parameters)}
    for i, parameter in enumerate(parameters):
        state = optimizer.state.get(parameter, {})
        tensors |= {f"{k}.{i}": state[k].clone() for k in (*MOMENTS, STEP) if k in state}
    write_tensors(path, tensors, {STEP: str(step)})


def load_checkpoint(path: Path, optimizer: torch.optim.Optimizer) -> int:
    """Put a checkpoint into an optimizer and its parameters.

    Args:
        path: The file; where there is none, nothing changes.
        optimizer: Over the same parameters, in the same order, as the one that was saved.

    Returns:
        The number of the next step, 0 where there is no checkpoint.
    """
    if not path.exists():
        return 0
    with safe_open(path, "pt") as file:
        step = int(file.metadata()[STEP])
    tensors = load_file(path)
    with torch.no_grad():
        for i, parameter in enumerate(_parameters(optimizer)):
            parameter.copy_(tensors[f"weight.{i}"])
            if f"exp_avg.{i}" in tensors:
                moments = {k: tensors[f"{k}.{i}"].to(parameter.device) for k in MOMENTS}
                optimizer.state[parameter] = {STEP: tensors[f"{STEP}.{i}"], **moments}
    return step


def load_weights(path: Path, parameters: list[torch.nn.Parameter]) -> None:
    """Put the weights alone of a checkpoint into parameters.

    Args:
        path: The file.
        parameters: In the order in which they were saved; values are cast to their type.
    """
    tensors = load_file(path)
    with torch.no_grad():
        for i, parameter in enumerate(parameters):
            parameter.copy_(tensors[f"weight.{i}"])


def _parameters(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]
