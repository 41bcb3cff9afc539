"""What shapes a stage's training of a LLaVA, read from YAML by `proxqa_training.config_file`.

Source: the LoRA recipe of LLaVA-1.5, Liu et al. 2023, arXiv 2310.03744 (`scripts/v1_5/finetune_lora.sh`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from proxqa_training.config_file import require_fraction, require_positive


@dataclass(frozen=True)
class LoraRecipe:
    """LoRA on every linear layer of the language model's blocks.

    Attributes:
        rank: Of the update of a weight.
        alpha: The update is scaled by alpha / rank.
        dropout: Share of the inputs of A that are left out, in [0, 1].

    Raises:
        ValueError: A number is out of range.
    """

    rank: int = 128
    alpha: float = 256
    dropout: float = 0.05

    def __post_init__(self) -> None:
        require_positive(self, "rank", "alpha", where="lora: ")
        require_fraction(self, "dropout", where="lora: ")


@dataclass(frozen=True)
class LlavaRecipe:
    """One stage. Learning rates are peaks of a cosine with warm-up.

    Attributes:
        batch_size: Conversations of a step, of all processes together.
        per_device_batch_size: Of them at once in a process; the rest of a step is accumulated.
        num_epochs: How often each conversation is seen.
        lr: Learning rate of the LoRA weights.
        projector_lr: Learning rate of the projector.
        warmup_ratio: Share of the steps over which the rates rise.
        max_seq_len: Tokens of a conversation; turns that do not fit are left out.
        gradient_checkpointing: Compute activations again in the backward pass, for less memory.
        save_steps: Steps between checkpoints.
        seed: Of order, dropout and new weights.
        lora: The LoRA.

    Raises:
        ValueError: A number is out of range.
    """

    batch_size: int = 128
    per_device_batch_size: int = 16
    num_epochs: float = 1.0
    lr: float = 2e-4
    projector_lr: float = 2e-5
    warmup_ratio: float = 0.03
    max_seq_len: int = 2048
    gradient_checkpointing: bool = True
    save_steps: int = 100
    seed: int = 0
    lora: LoraRecipe = field(default_factory=LoraRecipe)

    def __post_init__(self) -> None:
        require_positive(self, "batch_size", "per_device_batch_size", "num_epochs", "lr", "projector_lr", "max_seq_len")
        require_positive(self, "save_steps")
        require_fraction(self, "warmup_ratio")

    def accumulation(self, world_size: int) -> int:
        """How many batches of every process make a step.

        Raises:
            ValueError: The step's batch does not divide among the processes.
        """
        at_once = self.per_device_batch_size * world_size
        if self.batch_size % at_once:
            raise ValueError(
                f"batch_size is {self.batch_size}; expected a multiple of per_device_batch_size times processes, "
                f"{self.per_device_batch_size} x {world_size} = {at_once}"
            )
        return self.batch_size // at_once
