"""The networks of the tower's training: vision tower, projector, grounding head and the readers of depth.

Promises: regions are pooled as the engine pools them (`proxqa_core.vision.regions`): what is trained is what is used.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from proxqa_core.model.loading import LoadedModel, choose_dtype
from proxqa_core.vision.grounding_head import GroundingHead
from proxqa_core.vision.regions import bin_weights
from proxqa_training.depth_digits import NUM_BINS

MIN_BOX_SIDE = 0.01
"""Smallest side of a region, as share of the image."""


class TowerModel(nn.Module):
    """Everything that is trained without the language model, and the frozen part of the vision tower before it.

    Attributes:
        frozen: The vision tower's embeddings and first blocks.
        blocks: Its last blocks, which are trained.
        norm: Its last layer norm.
        projector: Merged patches → tokens of the language model.
        grounding_head: Where in the image a name is.
        patch_depth: Patches → logits of the tenths of their relative depth.

    Args:
        model: Its vision tower and projector are trained in place, in float32.
        unfrozen_blocks: How many of the last blocks are trained.
    """

    digits: torch.Tensor

    def __init__(self, model: LoadedModel, unfrozen_blocks: int):
        super().__init__()
        backbone = model.llava.model.vision_tower.backbone
        layers = list(_layers(backbone))
        first = len(layers) - unfrozen_blocks
        self.frozen = [backbone.embeddings, *layers[:first]]
        for part in self.frozen:
            part.float().requires_grad_(False).eval()
        self.blocks = nn.ModuleList(layers[first:]).float().requires_grad_(unfrozen_blocks > 0)
        self.norm = backbone.layernorm.float().requires_grad_(unfrozen_blocks > 0)
        self.projector = model.llava.model.multi_modal_projector.float().requires_grad_(True)
        hidden = backbone.config.hidden_size
        self.spatial_merge_size = model.spatial_merge_size
        table = model.llava.get_input_embeddings().weight.detach().float()
        self.grounding_head = GroundingHead(hidden, table.shape[1])
        self.patch_depth = nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, NUM_BINS))
        self.digit_scale = nn.Parameter(torch.tensor(10.0))
        digits = table[model.prompter.digits]
        self.register_buffer("digits", F.normalize(digits - digits.mean(0), dim=-1), persistent=False)

    def patches(self, pixels: torch.Tensor) -> torch.Tensor:
        """[n, 3, size, size], normalised → patches [n, side², hidden]."""
        with torch.no_grad():
            x = self.frozen[0](pixels)
            for block in self.frozen[1:]:
                x = _first(block(x))
        for block in self.blocks:
            x = _first(block(x))
        return self.norm(x)[:, 1:]

    def digit_logits(self, tokens: torch.Tensor) -> torch.Tensor:
        """Projected tokens [..., hidden] → logits [..., 10] of the first digit of their relative depth."""
        return self.digit_scale * F.normalize(tokens.float(), dim=-1) @ self.digits.T


def mixed_precision(device: torch.device, dtype: str = "auto") -> torch.autocast:
    """Autocast to a type.

    Args:
        device: Where it is computed.
        dtype: 'float32', 'bfloat16', or 'auto': bfloat16 where the hardware multiplies it. Elsewhere it is emulated,
            many times slower, and float32 stays.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=choose_dtype(dtype, device) is torch.bfloat16)


def region_pool(grid: torch.Tensor, boxes: torch.Tensor, spatial_merge_size: int) -> torch.Tensor:
    """Pool one box of each grid, as `proxqa_core.vision.regions.region_tokens` does for one image.

    Args:
        grid: Patches [n, side, side, c].
        boxes: [n, 4], x1, y1, x2, y2 in [0, 1].
        spatial_merge_size: Patches per side of a token.

    Returns:
        Merged patches [n, c · spatial_merge_size²].
    """
    side = grid.shape[1]
    low, high = boxes[:, :2], torch.maximum(boxes[:, 2:], boxes[:, :2] + MIN_BOX_SIDE)
    across = bin_weights(low[:, 0], high[:, 0], spatial_merge_size, side).to(grid)
    down = bin_weights(low[:, 1], high[:, 1], spatial_merge_size, side).to(grid)
    return torch.einsum("nay,nbx,nyxc->nabc", down, across, grid).reshape(len(boxes), -1)


def _layers(backbone: Any) -> Any:
    """The transformer blocks, whatever the installed transformers calls them."""
    encoder = backbone.encoder
    return encoder.layer if hasattr(encoder, "layer") else encoder.layers


def _first(value: Any) -> torch.Tensor:
    return value[0] if isinstance(value, tuple) else value
