"""Which of the things in one image are nearer, read out of the vision tower's patches without the language model.

Promises: `OrderHead` gives every box one number, and of two boxes in one image the one with the smaller number is the
nearer, by so many log-odds as the numbers differ. It tells apart what lies closer together than the tenths of a
perceived depth do: where a thing stands, what it stands on and what is around it are all it looks at. The numbers of
two images have nothing to do with each other. Knows nothing of names, of prompts or of pixels.

Sources: learning order from pairs, Burges et al. 2005 (RankNet), and relative depth from pairs of points, Chen et al.
2016, arXiv 1604.03901; distance up to scale, Eigen et al. 2014, arXiv 1406.2283.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from proxqa_core.vision.grounding_head import centres
from proxqa_core.vision.regions import MIN_BOX_SIDE, bin_weights

OCTAVES = 4
"""Waves of each coordinate: 1, 2, 4 … half waves across the image."""
NUM_LAYERS = 2
NUM_ATTENTION_HEADS = 4
INNER = 128
"""Channels of the layer between a box and its number."""
FOOT = (0.03, 0.04)
"""How far the band at a box's lower edge, in which it meets what it stands on, reaches above and below that edge; as
shares of the image's height."""
LOG_ODDS_PER_UNIT = 4.0
"""What a difference of 1 in the logarithm of the distance counts as, in log-odds, in a new head."""


def waves(values: torch.Tensor) -> torch.Tensor:
    """Numbers [..., n] in [0, 1] → sines, cosines and themselves, [..., n · (2 · OCTAVES + 1)]."""
    angles = values[..., None] * (math.pi * 2.0 ** torch.arange(OCTAVES, device=values.device))
    return torch.cat([angles.sin().flatten(-2), angles.cos().flatten(-2), values], -1)


class OrderHead(nn.Module):
    """A small transformer over the patches of an image, and a reader of boxes.

    Args:
        hidden: Channels of a patch.
        size: Channels inside; a multiple of NUM_ATTENTION_HEADS.
        dropout: While it is trained.

    Raises:
        ValueError: `size` is no such multiple.
    """

    def __init__(self, hidden: int, size: int = 160, dropout: float = 0.0):
        super().__init__()
        if size < 1 or size % NUM_ATTENTION_HEADS:
            raise ValueError(f"size is {size}; expected a multiple of {NUM_ATTENTION_HEADS}")
        place = 2 * (2 * OCTAVES + 1) + 1  # of a patch's centre, and the image's aspect
        self.norm_in = nn.LayerNorm(hidden)
        self.dropout = nn.Dropout(dropout)
        self.patch = nn.Linear(hidden, size)
        self.place = nn.Sequential(nn.Linear(place, size), nn.GELU(), nn.Linear(size, size))
        layer = nn.TransformerEncoderLayer(
            size, NUM_ATTENTION_HEADS, 2 * size, dropout, "gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, NUM_LAYERS, enable_nested_tensor=False)
        self.norm_out = nn.LayerNorm(size)
        self.distance = nn.Linear(size, 1)
        self.box = nn.Sequential(
            nn.Linear(2 * size + 4 * (2 * OCTAVES + 1) + 1, INNER), nn.GELU(), nn.Dropout(dropout), nn.Linear(INNER, 1)
        )
        self.scale = nn.Parameter(torch.tensor(LOG_ODDS_PER_UNIT))

    @classmethod
    def from_weights(cls, weights: dict[str, torch.Tensor]) -> OrderHead:
        """An order head of the sizes that its weights have.

        Args:
            weights: A whole state dict.

        Raises:
            KeyError: A weight is missing.
            ValueError: The sizes do not go together.
            RuntimeError: A weight has another shape or is not known.
        """
        size, hidden = weights["patch.weight"].shape
        head = cls(hidden, size)
        head.load_state_dict(weights)
        return head

    def tokens(self, patches: torch.Tensor, aspects: torch.Tensor) -> torch.Tensor:
        """Read images.

        Args:
            patches: Of the vision tower, row by row, [n, side², hidden].
            aspects: Width over height of the images as they came, before they were made square, [n].

        Returns:
            What is known of every patch, [n, side², size].
        """
        side = math.isqrt(patches.shape[1])
        # 1. Where each patch is in its image, [n, side², place].
        centre = waves(centres(side).to(patches.device)).expand(len(patches), -1, -1)
        place = torch.cat([centre, aspects.log()[:, None, None].expand(-1, side**2, 1)], -1)
        # 2. What it shows there, told to all others, [n, side², size].
        known: torch.Tensor = self.layers(self.patch(self.dropout(self.norm_in(patches))) + self.place(place))
        read: torch.Tensor = self.norm_out(known)
        return read

    def distances(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logarithm of the distance, up to one constant for each image, of patches [..., size]: [...]."""
        distance: torch.Tensor = self.distance(tokens)[..., 0]
        return distance

    def forward(self, tokens: torch.Tensor, boxes: torch.Tensor, aspect: torch.Tensor) -> torch.Tensor:
        """How far the things in some boxes of one image are.

        Args:
            tokens: Of the image, from `tokens`, [side², size].
            boxes: [n, 4] as (x1, y1, x2, y2) in [0, 1] of the square input.
            aspect: Width over height of the image, [1].

        Returns:
            [n], in log-odds: the smaller, the nearer.
        """
        # 1. The middle of each box, where the thing itself is, and the band at its foot: [n, size] each.
        quarter = (boxes[:, 2:] - boxes[:, :2]) / 4
        middle = self._pooled(tokens, torch.cat([boxes[:, :2] + quarter, boxes[:, 2:] - quarter], 1))
        above, below = FOOT
        left, lower, right = boxes[:, 0], boxes[:, 3], boxes[:, 2]
        band = [left, (lower - above).clamp(0, 1 - above - below), right, (lower + below).clamp(above + below, 1)]
        foot = self._pooled(tokens, torch.stack(band, 1))
        # 2. The distance of the middle, corrected by where the box is and stands, [n].
        place = torch.cat([waves(boxes), aspect.log().expand(len(boxes), 1)], 1)
        correction = self.box(torch.cat([middle, foot, place], 1))[:, 0]
        return self.scale * (self.distances(middle) + correction)

    def _pooled(self, tokens: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        """Means [n, size] of tokens [side², size] over boxes [n, 4]."""
        side = math.isqrt(len(tokens))
        low, high = boxes[:, :2], torch.maximum(boxes[:, 2:], boxes[:, :2] + MIN_BOX_SIDE)
        across = bin_weights(low[:, 0], high[:, 0], 1, side)[:, 0]
        down = bin_weights(low[:, 1], high[:, 1], 1, side)[:, 0]
        return torch.einsum("ny,nx,yxc->nc", down, across, tokens.reshape(side, side, -1))
