"""What shapes a run of the stages: `RunConfig`, read from YAML by `proxqa_training.config_file`."""

from __future__ import annotations

from dataclasses import dataclass, field

from proxqa_training.config_file import require_fraction, require_positive, require_weight
from proxqa_training.instructions.build import Recipe


@dataclass(frozen=True)
class StageConfig:
    """One stage. Learning rates are peaks of a cosine with warm-up.

    Attributes:
        name: Of its checkpoint and in the log.
        num_samples: Image conversations seen in all.
        recipe: The turns of a conversation.
        batch_size: Image conversations of a step, of each process.
        per_device_batch_size: Of them at once in memory; the rest of a step is accumulated, to the same weights. None =
            all.
        lora_lr: Learning rate of the LoRA weights.
        projector_lr: Learning rate of the projector.
        warmup_ratio: Share of the steps over which the rates rise.
        depth_label_std: Standard deviation of the soft targets of a depth's digits, in relative depth.
        max_seq_len: Tokens of every sequence; turns that do not fit are left out, so that all steps have one shape.
        real_fraction: Share of the images that have no measured depth, where there are any.
        measured_photo_fraction: Of the images that have, the share that are photographs, where there are any; None = as
            many as there happen to be.
        order_weight: Weight of the loss of depths that stand in the wrong order within their image.
        order_scale: Difference of relative depths at which that loss is content, > 0.

    Raises:
        ValueError: Quotes a value that is out of range.
    """

    name: str
    num_samples: int
    recipe: Recipe = field(default_factory=Recipe)
    batch_size: int = 8
    per_device_batch_size: int | None = None
    lora_lr: float = 6e-4
    projector_lr: float = 3e-4
    warmup_ratio: float = 0.05
    depth_label_std: float = 0.025
    max_seq_len: int = 320
    real_fraction: float = 0.25
    measured_photo_fraction: float | None = None
    order_weight: float = 0.0
    order_scale: float = 0.05

    def __post_init__(self) -> None:
        where = f"stage {self.name!r}: "
        require_positive(self, "num_samples", "batch_size", "lora_lr", "projector_lr", "max_seq_len", where=where)
        require_positive(self, "depth_label_std", where=where)
        require_positive(self, "order_scale", where=where)
        require_fraction(self, "warmup_ratio", "real_fraction", where=where)
        if self.per_device_batch_size is not None:
            require_positive(self, "per_device_batch_size", where=where)
        if self.measured_photo_fraction is not None:
            require_fraction(self, "measured_photo_fraction", where=where)
        require_weight(self, "order_weight", where=where)


@dataclass(frozen=True)
class LoraSettings:
    """LoRA on every linear layer of the language model's blocks.

    Attributes:
        rank: Of the update of a weight.
        alpha: The update is scaled by alpha / rank.

    Raises:
        ValueError: One of them is below 1.
    """

    rank: int = 16
    alpha: int = 32

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha < 1:
            raise ValueError(f"LoRA rank {self.rank}, alpha {self.alpha}: expected at least 1")


@dataclass(frozen=True)
class RunConfig:
    """A whole run.

    Attributes:
        name: Of the adapter.
        seed: Of everything that is drawn.
        lora: Of new LoRA weights.
        stages: In order.
        torch_compile: Whether the language model's blocks are compiled; needs a C++ compiler.
        box_coordinates: Whether boxes are told by their coordinates in words beside their region tokens, which takes
            thirteen tokens more for every object; None = as by the adapter to go on from, else not.
        box_embedding: Whether region tokens get a `proxqa_core.vision.box_embedding`, where the adapter to go on from
            has none.
    """

    name: str
    seed: int = 0
    lora: LoraSettings = field(default_factory=LoraSettings)
    stages: tuple[StageConfig, ...] = ()
    torch_compile: bool = True
    box_coordinates: bool | None = None
    box_embedding: bool = False
