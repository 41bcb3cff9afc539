"""What the order head says of the boxes in one image.

Promises: an image is read by the head once, with the first question that compares boxes, and a box once. Not safe for
several threads by itself: `proxqa_core.engine` lets one in at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property

import torch

from proxqa_core.model.loading import LoadedModel
from proxqa_core.types import Box
from proxqa_core.vision.features import ImageFeatures
from proxqa_core.vision.order_head import OrderHead
from proxqa_core.vision.tower import split_grid


class Ordering:
    """Reads boxes of one image.

    Args:
        model: What the image was encoded with.
        image: The encoded image.
    """

    def __init__(self, model: LoadedModel, image: ImageFeatures):
        self._model = model
        self._image = image
        self._known: dict[Box, float] = {}
        self._read: torch.Tensor | None = None

    def of(self, boxes: Iterable[Box]) -> Mapping[Box, float]:
        """How far the things in some boxes are.

        Args:
            boxes: In pixels of the image.

        Returns:
            In log-odds, the smaller the nearer, of these boxes and those asked about before; empty where the model has
            no order head.
        """
        head = self._model.order_head
        new = [box for box in dict.fromkeys(boxes) if box not in self._known]
        if head is None or not new:
            return self._known
        width, height = self._image.width, self._image.height
        places = torch.tensor([self._model.preprocessing.normalised(box, width, height) for box in new])
        tokens = self._tokens(head)
        order = head(tokens, places.to(tokens), self._aspect.to(tokens))
        self._known |= dict(zip(new, order.tolist(), strict=True))
        return self._known

    @cached_property
    def _aspect(self) -> torch.Tensor:
        return torch.tensor([self._image.width / self._image.height])

    def _tokens(self, head: OrderHead) -> torch.Tensor:
        """What the head knows of every patch, [side², size]."""
        if self._read is None:
            grid = split_grid(self._image.features[None].float(), self._model.spatial_merge_size)
            self._read = head.tokens(grid.flatten(1, 2), self._aspect.to(grid))[0]
        return self._read
