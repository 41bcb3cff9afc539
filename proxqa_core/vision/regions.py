"""What the vision tower saw inside a box, in the form of one more image token.

Promises: `region_tokens` pools the patch grid inside each box, m × m bins (m = spatial_merge_size), exact areas, so
that the result goes through the same projector as the image's own tokens. Knows nothing of pixels or of prompts.

Sources: RoIAlign, He et al. 2017, arXiv 1703.06870, with area weights; region tokens beside coordinates as in
SpatialRGPT, Cheng et al. 2024, arXiv 2406.01584.
"""

from __future__ import annotations

import torch

from proxqa_core.vision.grid import split_grid

MIN_BOX_SIDE = 0.01
"""As share of the image's side: a box thinner than that still covers something."""


def bin_weights(low: torch.Tensor, high: torch.Tensor, bins: int, cells: int) -> torch.Tensor:
    """How much each grid cell counts in each bin of some intervals, along one axis.

    Args:
        low: Starts of the intervals, [n], in [0, 1].
        high: Their ends, [n], above `low`.
        bins: Equal parts of each interval.
        cells: Equal parts of [0, 1].

    Returns:
        [n, bins, cells], the share of a bin that lies in a cell; over the cells it sums to 1.
    """
    edges = low[:, None] + (high - low)[:, None] * torch.linspace(0, 1, bins + 1, device=low.device)
    start, stop = edges[:, :-1, None] * cells, edges[:, 1:, None] * cells
    cell = torch.arange(cells, dtype=torch.float32, device=low.device)
    overlap = (torch.minimum(stop, cell + 1) - torch.maximum(start, cell)).clamp_min(0)
    return overlap / overlap.sum(-1, keepdim=True).clamp_min(1e-6)


def region_tokens(features: torch.Tensor, boxes: torch.Tensor, spatial_merge_size: int) -> torch.Tensor:
    """Pool one image's tokens inside boxes.

    Args:
        features: The vision tower's output for one image, before the projector, [tokens, m² · c].
        boxes: [n, 4] as (x1, y1, x2, y2) in [0, 1] of the square input.
        spatial_merge_size: m, patches per side of a token (1 = not merged).

    Returns:
        [n, m² · c].
    """
    # 1. Tokens back to patches: [side, side, c].
    grid = split_grid(features[None], spatial_merge_size)[0]
    side = grid.shape[0]
    boxes = boxes.to(torch.float32)
    low, high = boxes[:, :2], torch.maximum(boxes[:, 2:], boxes[:, :2] + MIN_BOX_SIDE)
    # 2. Weights of the patches in m bins across and m bins down: [n, m, side] each.
    across = bin_weights(low[:, 0], high[:, 0], spatial_merge_size, side).to(grid)
    down = bin_weights(low[:, 1], high[:, 1], spatial_merge_size, side).to(grid)
    # 3. Mean of the patches in each bin, [n, m, m, c], as one token.
    pooled = torch.einsum("nay,nbx,yxc->nabc", down, across, grid)
    return pooled.reshape(len(boxes), -1)
