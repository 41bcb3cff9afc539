"""What colour a thing has, so that "the red chair" is told from the blue one.

Promises: a small network gives for each patch of an image, from its mean colour and the light in the image, the basic
colour term that fits, and `ImageColours.fit` how well a term fits what is inside a box. Part of no adapter: colours are
the same to every model. Knows nothing of names or of where boxes come from.

Source: naming colours in images by the eleven basic terms, van de Weijer et al. 2009.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from proxqa_core.errors import BadModelError, first_line_of
from proxqa_core.language.referring import TERMS
from proxqa_core.types import Box
from proxqa_core.vision.grounding_head import Candidate, inside

WEIGHTS = Path(__file__).parents[1] / "assets" / "colours.safetensors"
LIGHT_QUANTILES = (0.95, 0.5, 0.05)
"""Quantiles of each channel over an image's patches that tell what light it was taken in."""


class ColourReader(nn.Module):
    """Names the colour of a patch.

    Args:
        size: Channels of the hidden layers.
    """

    def __init__(self, size: int = 32):
        super().__init__()
        inputs = 3 + 3 + 3 * len(LIGHT_QUANTILES) + 5
        self.layers = nn.Sequential(
            nn.Linear(inputs, size), nn.GELU(), nn.Linear(size, size), nn.GELU(), nn.Linear(size, len(TERMS))
        )

    def forward(self, patches: torch.Tensor, light: torch.Tensor) -> torch.Tensor:
        """Logits of the basic colour terms.

        Args:
            patches: Mean colours of patches, [n, 3]: R, G, B in [0, 1].
            light: Light of their images, [n, 9], see `light_of`.

        Returns:
            [n, terms].
        """
        grey = patches.mean(-1, keepdim=True)
        strength = patches.amax(-1, keepdim=True) - patches.amin(-1, keepdim=True)
        as_if_white = patches / light[:, :3].clamp_min(0.05)
        inputs = [patches, as_if_white, light, grey, (patches - grey) / (grey + 0.05), strength]
        logits: torch.Tensor = self.layers(torch.cat(inputs, -1))
        return logits


def patch_colours(pixels: torch.Tensor, side: int) -> torch.Tensor:
    """Pixels [..., 3, size, size] in [0, 1] → mean colours [..., side², 3] of a grid of patches, row by row."""
    means = F.adaptive_avg_pool2d(pixels, side)
    return means.flatten(-2).transpose(-1, -2)


def light_of(patches: torch.Tensor) -> torch.Tensor:
    """Mean colours [..., patches, 3] of a whole image → its light [..., 9], the brightest quantile first."""
    quantiles = torch.quantile(patches, torch.tensor(LIGHT_QUANTILES), dim=-2)
    return quantiles.movedim(0, -2).flatten(-2)


@dataclass(frozen=True)
class ImageColours:
    """An image's colours.

    Attributes:
        logits: Of the basic colour terms, [side², terms].
        side: Patches along one side of the image.
    """

    logits: torch.Tensor
    side: int

    @classmethod
    @torch.inference_mode()
    def of(cls, patches: torch.Tensor) -> ImageColours:
        """The colours of a whole image, from the mean colours [side², 3] of its patches."""
        light = light_of(patches).expand(len(patches), -1)
        return cls(reader()(patches, light), round(len(patches) ** 0.5))

    @torch.inference_mode()
    def fit(self, terms: Sequence[str], box: Box, weight: torch.Tensor) -> float:
        """How well any of some basic terms fits what is in a box.

        Args:
            terms: Basic colour terms, of which one is enough.
            box: In [0, 1] of the image.
            weight: Of each patch, [side²], > 0: how likely it shows the thing.

        Returns:
            A number in [0, 1]; 1 where one of the terms is the likeliest of all.
        """
        within = inside(self.side, box)
        share = weight[within].clamp_min(1e-6)
        likely = ((self.logits[within] * share[:, None]).sum(0) / share.sum()).softmax(-1)
        named = float(likely[[TERMS.index(t) for t in terms]].sum())
        return min(1.0, named / float(likely.max()))


def by_colour(
    candidates: Sequence[Candidate], colours: ImageColours, terms: Sequence[str], weight: torch.Tensor
) -> list[Candidate]:
    """Candidates ranked by their score times how well the terms fit.

    Args:
        candidates: What a name may mean.
        colours: Of the image.
        terms: See `ImageColours.fit`.
        weight: See `ImageColours.fit`.

    Returns:
        The same things with their new scores, the likeliest first.
    """
    weighted = (Candidate(c.box, c.score * colours.fit(terms, c.box, weight)) for c in candidates)
    return sorted(weighted, key=lambda c: -c.score)


@cache
def reader() -> ColourReader:
    """The bundled colour reader.

    Raises:
        BadModelError: Its weights cannot be read.
    """
    network = ColourReader()
    try:
        network.load_state_dict({k: v.float() for k, v in load_file(WEIGHTS).items()})
    except Exception as error:  # safetensors has an error of its own, torch a RuntimeError
        reason = first_line_of(error)
        raise BadModelError(f"{WEIGHTS.name} does not hold a colour reader: {reason}") from error
    return network.eval().requires_grad_(False)
