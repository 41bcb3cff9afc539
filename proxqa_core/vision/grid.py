"""Patches of an image as tokens of m × m of them each, and back (m = spatial_merge_size).

Source: merging neighbouring patches as in InternVL's pixel shuffle, Chen et al. 2024, arXiv 2404.16821.
"""

from __future__ import annotations

import torch


def merge_grid(patches: torch.Tensor, spatial_merge_size: int) -> torch.Tensor:
    """Patches [n, side², c], row by row → tokens [n, (side / m)², m² · c]; inside a token, row by row too."""
    n, count, c = patches.shape
    side = round(int(count) ** 0.5)  # int: traced, it is a tensor
    out = side // spatial_merge_size
    grid = patches.reshape(n, out, spatial_merge_size, out, spatial_merge_size, c)
    return grid.permute(0, 1, 3, 2, 4, 5).reshape(n, out * out, spatial_merge_size * spatial_merge_size * c)


def split_grid(tokens: torch.Tensor, spatial_merge_size: int) -> torch.Tensor:
    """The inverse of `merge_grid`, as a grid: tokens [n, (side / m)², m² · c] → patches [n, side, side, c]."""
    n, count, wide = tokens.shape
    out = round(count**0.5)
    c = wide // spatial_merge_size**2
    grid = tokens.reshape(n, out, out, spatial_merge_size, spatial_merge_size, c)
    return grid.permute(0, 1, 3, 2, 4, 5).reshape(n, out * spatial_merge_size, out * spatial_merge_size, c)
