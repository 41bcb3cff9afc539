"""Where a run runs: this CPU, one GPU, or many of either, as `accelerate launch` or `torchrun` set it up.

Promises: the same code trains alone and in company; in company every process draws other images, gradients are
averaged and one process writes. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch


class DistributedContext:
    """device: where this process computes. rank, size: which of how many it is."""

    def __init__(self, device: str = "auto"):
        from accelerate import PartialState

        state = PartialState(cpu=device == "cpu" or not torch.cuda.is_available())
        self.device: torch.device = state.device
        self.rank: int = state.process_index
        self.size: int = state.num_processes
        if self.device.type == "cuda":
            torch.set_float32_matmul_precision("high")  # TF32, where something is left in float32

    @property
    def writes(self) -> bool:
        return self.rank == 0

    def seed(self, text: str) -> str:
        """A seed of this process's own: what a lone process draws does not depend on there being others."""
        return text if self.rank == 0 else f"{text}/{self.rank}"

    def average(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replace gradients by their mean over all processes."""
        if self.size == 1:
            return
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            torch.distributed.all_reduce(parameter.grad)
            parameter.grad /= self.size

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            torch.distributed.barrier()
