"""What the vision tower saw inside a box, in the form of one more image token.

Promises: `region_tokens` pools the patch grid inside each box, merge × merge bins, exact areas, so that the result
goes through the same projector as the image's own tokens (RoIAlign, He et al. 2017, with area weights; region tokens
beside coordinates as in SpatialRGPT, Cheng et al. 2024). Knows nothing of pixels or of prompts.
"""

from __future__ import annotations

import torch

from proxqa_core.vision.tower import split_grid


def bin_weights(low: torch.Tensor, high: torch.Tensor, bins: int, cells: int) -> torch.Tensor:
    """Shares [n, bins, cells] of each grid cell in each bin of the interval [low, high] ⊂ [0, 1]; rows sum to 1."""
    edges = low[:, None] + (high - low)[:, None] * torch.linspace(0, 1, bins + 1, device=low.device)
    start, stop = edges[:, :-1, None] * cells, edges[:, 1:, None] * cells
    cell = torch.arange(cells, dtype=torch.float32, device=low.device)
    overlap = (torch.minimum(stop, cell + 1) - torch.maximum(start, cell)).clamp_min(0)
    return overlap / overlap.sum(-1, keepdim=True).clamp_min(1e-6)


def region_tokens(features: torch.Tensor, boxes: torch.Tensor, spatial_merge_size: int) -> torch.Tensor:
    """Pool one image's tokens inside boxes.

    features: [tokens, hidden], the vision tower's output for one image (before the projector).
    boxes: [n, 4] as (x1, y1, x2, y2) in [0, 1] of the square input. spatial_merge_size: patches per token side (1 = not merged).
    Returns [n, hidden].
    """
    grid = split_grid(features[None], spatial_merge_size)[0]
    side = grid.shape[0]
    boxes = boxes.to(torch.float32)
    # a box thinner than a hundredth of the image still covers something
    low, high = boxes[:, :2], torch.maximum(boxes[:, 2:], boxes[:, :2] + 0.01)
    across = bin_weights(low[:, 0], high[:, 0], spatial_merge_size, side).to(grid)
    down = bin_weights(low[:, 1], high[:, 1], spatial_merge_size, side).to(grid)
    pooled = torch.einsum("nay,nbx,yxc->nabc", down, across, grid)
    return pooled.reshape(len(boxes), -1)
