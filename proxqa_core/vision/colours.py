"""What colour a thing has, so that "the red chair" is told from the blue one.

Promises: a small network says for each patch of an image, by its mean colour and the light in the image, which basic
colour term fits, and `Colours.fit` how well a term fits what is inside a box. Part of no adapter: colours are the same
to every model. Knows nothing of names or of where boxes come from.

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

from proxqa_core.errors import BadModelError
from proxqa_core.language.referring import TERMS
from proxqa_core.types import Box
from proxqa_core.vision.grounding_head import Candidate, inside

WEIGHTS = Path(__file__).parents[1] / "assets" / "colours.safetensors"
LIGHT = (0.95, 0.5, 0.05)
"""Quantiles of each channel over an image's patches that say what light it was taken in."""


class ColourReader(nn.Module):
    """Mean colours of patches [n, 3], R, G, B in [0, 1], and the light of their images [n, 9] → logits [n, terms]."""

    def __init__(self, size: int = 32):
        super().__init__()
        read = 3 + 3 + 3 * len(LIGHT) + 5
        self.layers = nn.Sequential(
            nn.Linear(read, size), nn.GELU(), nn.Linear(size, size), nn.GELU(), nn.Linear(size, len(TERMS))
        )

    def forward(self, patches: torch.Tensor, light: torch.Tensor) -> torch.Tensor:
        grey = patches.mean(-1, keepdim=True)
        strength = patches.amax(-1, keepdim=True) - patches.amin(-1, keepdim=True)
        as_if_white = patches / light[:, :3].clamp_min(0.05)
        read = [patches, as_if_white, light, grey, (patches - grey) / (grey + 0.05), strength]
        logits: torch.Tensor = self.layers(torch.cat(read, -1))
        return logits


def patch_colours(pixels: torch.Tensor, side: int) -> torch.Tensor:
    """Pixels [..., 3, size, size] in [0, 1] → mean colours [..., side², 3] of a grid of patches, row by row."""
    means = F.adaptive_avg_pool2d(pixels, side)
    return means.flatten(-2).transpose(-1, -2)


def light_of(patches: torch.Tensor) -> torch.Tensor:
    """Mean colours [..., patches, 3] of a whole image → its light [..., 9], the brightest quantile first."""
    quantiles = torch.quantile(patches, torch.tensor(LIGHT), dim=-2)
    return quantiles.movedim(0, -2).flatten(-2)


@dataclass(frozen=True)
class Colours:
    """An image's colours: logits [side², terms]."""

    logits: torch.Tensor
    side: int

    @classmethod
    @torch.inference_mode()
    def of(cls, patches: torch.Tensor) -> Colours:
        """patches: mean colours [side², 3] of an image's patches."""
        light = light_of(patches).expand(len(patches), -1)
        return cls(reader()(patches, light), round(len(patches) ** 0.5))

    @torch.inference_mode()
    def fit(self, terms: Sequence[str], box: Box, weight: torch.Tensor) -> float:
        """How well any of some basic terms fits what is in a box (in [0, 1] of the image), in [0, 1].

        1 where it is the likeliest of all terms. weight: of each patch, [side²], > 0: how likely it shows the thing.
        """
        within = inside(self.side, box)
        share = weight[within].clamp_min(1e-6)
        likely = ((self.logits[within] * share[:, None]).sum(0) / share.sum()).softmax(-1)
        named = float(likely[[TERMS.index(t) for t in terms]].sum())
        return min(1.0, named / float(likely.max()))


def by_colour(
    found: Sequence[Candidate], colours: Colours, terms: Sequence[str], weight: torch.Tensor
) -> list[Candidate]:
    """The same things, the likeliest first, each score times how well the terms fit; terms, weight: as for `fit`."""
    weighed = (Candidate(f.box, f.score * colours.fit(terms, f.box, weight)) for f in found)
    return sorted(weighed, key=lambda f: -f.score)


@cache
def reader() -> ColourReader:
    """The colour reader in the box. BadModelError where its weights cannot be read."""
    network = ColourReader()
    try:
        network.load_state_dict({k: v.float() for k, v in load_file(WEIGHTS).items()})
    except Exception as error:  # safetensors has an error of its own, torch a RuntimeError
        reason = str(error).strip().splitlines()[0]
        raise BadModelError(f"{WEIGHTS.name} does not hold a colour reader: {reason}") from error
    return network.eval().requires_grad_(False)
