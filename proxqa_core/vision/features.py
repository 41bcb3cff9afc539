"""What is kept of an image once it has been encoded."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, eq=False)
class ImageFeatures:
    """One image as the model sees it.

    Attributes:
        features: Of the vision encoder, before the projector, [tokens, features].
        patch_colours: Mean colours of the patches, [patches, 3]: R, G, B in [0, 1], on the CPU.
        width: Of the image itself, in pixels.
        height: Of the image itself, in pixels.
    """

    features: torch.Tensor
    patch_colours: torch.Tensor
    width: int
    height: int
