"""Which of the things in one image are closer, told without the language model: by depths, ground and order head.

Promises: an image is read by the order head once, with the first question that compares boxes, and a box once. Not safe
for several threads by itself: `proxqa_core.engine` lets one in at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

import torch

from proxqa_core.llm.readout import Standing, closer_evidence, compare_depths, doubted, read_closer
from proxqa_core.model.adapter import AdapterInfo
from proxqa_core.model.loading import LoadedModel
from proxqa_core.types import Box, ObjectDepth
from proxqa_core.vision.features import ImageFeatures
from proxqa_core.vision.grid import split_grid
from proxqa_core.vision.order_head import OrderHead


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

    def closer(
        self, found: Sequence[ObjectDepth], pairs: Sequence[tuple[int, int]], adapter: AdapterInfo
    ) -> list[float]:
        """Which of two objects is closer, of many pairs.

        By the depths; and as the adapter has it by the boxes' lower edges and by what the order head says of the boxes.
        Of what was asked without a box it is the less sure, the less sure it is that it was found.

        Args:
            found: The objects with their depths.
            pairs: Numbers of two objects each.
            adapter: Says what weighs how much.

        Returns:
            For each pair the probability in [0, 1] that its first is the closer one.
        """
        boxes = [box for i in dict.fromkeys(i for pair in pairs for i in pair) if (box := _place(found[i])) is not None]
        order = self.of(boxes)
        standings = [self._standing(o, order) for o in found]
        return [_closer((found[i], standings[i]), (found[j], standings[j]), adapter) for i, j in pairs]

    def _standing(self, o: ObjectDepth, order: Mapping[Box, float]) -> Standing | None:
        """How an object stands beside others; None where nobody knows where it is."""
        box = _place(o)
        if box is None:
            return None
        height = self._image.height
        return Standing(o.depth, o.depth_stddev, min(box.y2, height) / height, order.get(box))

    @cached_property
    def _aspect(self) -> torch.Tensor:
        return torch.tensor([self._image.width / self._image.height])

    def _tokens(self, head: OrderHead) -> torch.Tensor:
        """What the head knows of every patch, [side², size]."""
        if self._read is None:
            grid = split_grid(self._image.features[None].float(), self._model.spatial_merge_size)
            self._read = head.tokens(grid.flatten(1, 2), self._aspect.to(grid))[0]
        return self._read


def _place(o: ObjectDepth) -> Box | None:
    return o.box or o.found_at


def _closer(
    first: tuple[ObjectDepth, Standing | None], second: tuple[ObjectDepth, Standing | None], adapter: AdapterInfo
) -> float:
    """Probability that the first of two objects is the closer one."""
    (a, of_a), (b, of_b) = first, second
    looked_for = [o.score for o in (a, b) if o.box is None]
    weights = adapter.closer_weights if looked_for else adapter.closer_weights_in_box
    if weights is None or of_a is None or of_b is None:
        closer = compare_depths(a.depth, a.depth_stddev, b.depth, b.depth_stddev, adapter.choice_temperature)
    else:
        closer = read_closer(closer_evidence(of_a, of_b), weights)
    return doubted(closer, looked_for, adapter.closer_doubt)
