"""Where a run computes: this CPU, one GPU, or several of either, as `accelerate launch` or `torchrun` set it up.

Promises: the same code trains in one process and in many; in many, every process draws other images, gradients are
averaged and the main process alone writes.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

DEVICES = ("auto", "cpu", "cuda")


class DistributedContext:
    """This process among those of a run.

    Attributes:
        device: Where this process computes.
        rank: Number of this process, from 0.
        world_size: How many processes there are.

    Args:
        device: 'auto' (the GPU where there is one), 'cpu' or 'cuda'.

    Raises:
        ValueError: An unknown device, or 'cuda' where there is none.
    """

    def __init__(self, device: str = "auto"):
        from accelerate import PartialState

        if device not in DEVICES:
            raise ValueError(f"device is {device!r}; expected one of {', '.join(DEVICES)}")
        if device == "cuda" and not torch.cuda.is_available():
            raise ValueError("device is 'cuda', but no CUDA device was found; expected 'cpu' or 'auto'")
        state = PartialState(cpu=device == "cpu" or not torch.cuda.is_available())
        self.device: torch.device = state.device
        self.rank: int = state.process_index
        self.world_size: int = state.num_processes
        if self.device.type == "cuda":
            torch.set_float32_matmul_precision("high")  # TF32, where something is left in float32

    @property
    def is_main_process(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def rank_seed(self, text: str) -> str:
        """A seed of this process's own.

        Args:
            text: The seed of the main process: what it draws does not depend on there being others.
        """
        return text if self.is_main_process else f"{text}/{self.rank}"

    def all_reduce_mean(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replace the gradients of parameters by their mean over all processes; a missing gradient counts as 0."""
        if self.world_size == 1:
            return
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            torch.distributed.all_reduce(parameter.grad)
            parameter.grad /= self.world_size

    def barrier(self) -> None:
        """Wait until all processes are here."""
        if self.world_size > 1:
            torch.distributed.barrier()
