"""What shapes a run of the tower: `TowerConfig`, read from YAML by `proxqa_training.config_file`."""

from __future__ import annotations

from dataclasses import dataclass

from proxqa_training.config_file import require_fraction, require_positive

STARTS = ("dinov2", "current")
NUM_BLOCKS = 12
"""Transformer blocks of the vision tower."""


@dataclass(frozen=True)
class TowerConfig:
    """One run of the tower.

    Learning rates are peaks of a cosine with warm-up.

    Attributes:
        start: 'dinov2' as published (`proxqa_training.tower.dinov2`), or 'current', the bundled tower.
        num_samples: Images seen in all.
        batch_size: Images of a step.
        unfrozen_blocks: How many of the last transformer blocks are trained, 0 to 12.
        backbone_lr: Learning rate of the last block.
        layer_decay: Factor on the learning rate from each block to the one before it, in [0, 1].
        lr: Learning rate of everything else.
        weight_decay: Of AdamW.
        warmup_ratio: Share of the steps over which the rates rise.
        min_crop: Share of each side that a crop keeps at least.
        name_weight: Weight of the contrast of words.
        temperature: Of the contrast of words.
        token_norm: Length of a projected token (word embeddings: about 3).
        val_fraction: Share of the photographs, by hash of their path, that is kept for validation.
        real_fraction: Share of photographs among the images of a step.
        seed: Of everything that is drawn.

    Raises:
        ValueError: Quotes a value that is out of range.
    """

    start: str = "dinov2"
    num_samples: int = 40000
    batch_size: int = 24
    unfrozen_blocks: int = 4
    backbone_lr: float = 6e-5
    layer_decay: float = 1.0
    lr: float = 1e-3
    weight_decay: float = 0.02
    warmup_ratio: float = 0.03
    min_crop: float = 0.6
    name_weight: float = 0.3
    temperature: float = 0.07
    token_norm: float = 3.2
    val_fraction: float = 0.04
    real_fraction: float = 0.45
    seed: int = 0

    def __post_init__(self) -> None:
        require_positive(self, "num_samples", "batch_size", "backbone_lr", "lr", "temperature", "token_norm")
        require_fraction(self, "layer_decay", "min_crop", "val_fraction", "real_fraction", "warmup_ratio")
        if self.start not in STARTS:
            raise ValueError(f"start is {self.start!r}; expected 'dinov2' or 'current'")
        if not 0 <= self.unfrozen_blocks <= NUM_BLOCKS:
            raise ValueError(f"unfrozen_blocks is {self.unfrozen_blocks}; expected 0 to {NUM_BLOCKS}")
