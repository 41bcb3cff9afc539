"""Finding what is named: where in the image a thing called so is, before the language model is asked about it.

Promises: `GroundingHead` says for a name, given as the language model's own word embeddings, how likely each patch shows
such a thing and which box that thing fills; `find` makes separate things of these, `score_inside` looks in a box that
is given. A name that was never seen in training is placed by where its words stand among those that were. Knows nothing
of prompts, pixels or depth.

Sources: patches against words by cosine, as in CLIP (Radford et al. 2021); a box from every patch inside a thing, as
in FCOS (Tian et al. 2019).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from proxqa_core.language.places import Place
from proxqa_core.types import Box

LEAST_SHARE = 0.3
"""A patch belongs to some thing when it is at least this share as likely as the likeliest one."""
RIVAL = 0.5
"""A thing that is at least this share as likely as the likeliest one counts where one of several is picked by place."""
SAME_THING = 0.4
"""Two boxes that overlap (intersection over union) by more than this are of one thing."""
MIN_SIDE = 0.01
"""Smallest side of a box, as share of the image."""


@dataclass(frozen=True)
class Candidate:
    """One thing that a name may mean. box: in [0, 1] of the model's square input. score: in [0, 1]."""

    box: Box
    score: float


class GroundingHead(nn.Module):
    """Two small networks that meet: one reads patches, the other a name.

    hidden: channels of a patch. words: channels of a word embedding. size: where they meet.
    """

    def __init__(self, hidden: int, words: int, size: int = 256, inner: int = 512):
        super().__init__()
        self.patch = nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, inner), nn.GELU())
        self.patch_out = nn.Linear(inner, size)
        self.word = nn.Sequential(nn.LayerNorm(words), nn.Linear(words, inner), nn.GELU(), nn.Linear(inner, size))
        self.box_patch = nn.Linear(inner, size)
        self.box_word = nn.Linear(size, size)
        self.box = nn.Linear(size, 4)
        self.scale = nn.Parameter(torch.tensor(12.0))
        self.bias = nn.Parameter(torch.tensor(-4.0))

    @classmethod
    def of_weights(cls, weights: dict[str, torch.Tensor]) -> GroundingHead:
        """A grounding head of the sizes that its weights have. KeyError, RuntimeError where they are not a grounding head's."""
        grounding_head = cls(
            weights["patch.1.weight"].shape[1],
            weights["word.1.weight"].shape[1],
            weights["patch_out.weight"].shape[0],
            weights["patch_out.weight"].shape[1],
        )
        grounding_head.load_state_dict(weights)
        return grounding_head

    def name_vectors(self, words: torch.Tensor) -> torch.Tensor:
        """Mean word embeddings of names [n, words] → their places among the patches [n, size], of length 1."""
        return F.normalize(self.word(words), dim=-1)

    def patch_vectors(self, patches: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Patches [..., hidden] → (their places among the names [..., size], inner features [..., inner])."""
        inner = self.patch(patches)
        return F.normalize(self.patch_out(inner), dim=-1), inner

    def similarity(self, patch_vectors: torch.Tensor, name_vectors: torch.Tensor) -> torch.Tensor:
        """Logits [..., patches, names] that a patch shows such a thing."""
        return self.scale * patch_vectors @ name_vectors.transpose(-1, -2) + self.bias

    def edges(self, inner: torch.Tensor, name_vectors: torch.Tensor) -> torch.Tensor:
        """Distances [..., 4] from a patch's centre to the left, upper, right and lower edge of the thing it is part of.

        In shares of the image, > 0. inner, name_vectors: of the same leading shape.
        """
        return F.softplus(self.box(F.gelu(self.box_patch(inner) + self.box_word(name_vectors))) - 2)


def centres(side: int) -> torch.Tensor:
    """Centres [side², 2] (x, y) of the patches of a grid, row by row, in [0, 1]."""
    along = (torch.arange(side, dtype=torch.float32) + 0.5) / side
    y, x = torch.meshgrid(along, along, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], -1)


def to_boxes(centre: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
    """Centres [..., 2] and distances to edges [..., 4] → boxes [..., 4] (x1, y1, x2, y2), cut at the image."""
    return torch.cat([centre - edges[..., :2], centre + edges[..., 2:]], -1).clamp(0, 1)


def inside(side: int, box: Box) -> torch.Tensor:
    """Which patches of a grid, [side²], have their centre in a box in [0, 1]; the one it lies in where none has."""
    low, high = torch.tensor(box.xyxy[:2]), torch.tensor(box.xyxy[2:])
    centre = centres(side)
    within = ((centre >= low) & (centre <= high)).all(-1)
    if not within.any():
        within[(centre - (low + high) / 2).norm(dim=-1).argmin()] = True
    return within


def overlap(box: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Intersection over union of one box [4] with others [n, 4]."""
    low, high = torch.maximum(box[:2], others[:, :2]), torch.minimum(box[2:], others[:, 2:])
    common = (high - low).clamp_min(0).prod(-1)
    areas = (others[:, 2:] - others[:, :2]).clamp_min(0).prod(-1)
    return common / ((box[2:] - box[:2]).clamp_min(0).prod() + areas - common).clamp_min(1e-9)


def choose(candidates: Sequence[Candidate], place: Place | None) -> Box:
    """The box that is meant: of the likeliest thing, or of the one that a place ("leftmost") picks among its rivals."""
    likely = [f.box for f in candidates if f.score >= RIVAL * candidates[0].score]
    return likely[0] if place is None else likely[place.pick(likely)]


@dataclass(frozen=True)
class PatchFeatures:
    """What a grounding head's first network makes of an image's patches: vectors [side², size], inner [side², inner]."""

    vectors: torch.Tensor
    inner: torch.Tensor
    side: int


@torch.inference_mode()
def read(grounding_head: GroundingHead, patches: torch.Tensor) -> PatchFeatures:
    """Read an image's patches [side, side, hidden] once for all names that are asked for."""
    side = patches.shape[0]
    return PatchFeatures(*grounding_head.patch_vectors(patches.reshape(side * side, -1).float()), side)


@torch.inference_mode()
def find(
    grounding_head: GroundingHead, reading: PatchFeatures, words: torch.Tensor, most: int = 8
) -> list[list[Candidate]]:
    """The things that each name may mean, the likeliest first; at least one for every name.

    words: mean word embeddings of the names, [n, words]. most: things a name.
    """
    names = grounding_head.name_vectors(words.float())
    likely = grounding_head.similarity(reading.vectors, names).sigmoid()
    centre = centres(reading.side).to(likely.device)
    found = []
    for n, name in enumerate(names):
        able = likely[:, n] >= LEAST_SHARE * likely[:, n].max()
        inner = reading.inner[able]
        boxes = to_boxes(centre[able], grounding_head.edges(inner, name.expand(len(inner), -1)))
        found.append(_separate(likely[able, n], boxes, most))
    return found


@torch.inference_mode()
def likelihood(grounding_head: GroundingHead, reading: PatchFeatures, words: torch.Tensor) -> torch.Tensor:
    """How likely each patch shows what each name means, [side², names] in [0, 1]. words: as for `find`."""
    return grounding_head.similarity(reading.vectors, grounding_head.name_vectors(words.float())).sigmoid()


@torch.inference_mode()
def score_inside(grounding_head: GroundingHead, reading: PatchFeatures, words: torch.Tensor, box: Box) -> float:
    """How likely the likeliest patch inside a box (in [0, 1]) shows what a name means, in [0, 1].

    words: mean word embedding of the name, [words]. A box between the patches' centres has the patch it lies in.
    """
    likely = likelihood(grounding_head, reading, words[None])[:, 0]
    return float(likely[inside(reading.side, box).to(likely.device)].max())


def _separate(likely: torch.Tensor, boxes: torch.Tensor, most: int) -> list[Candidate]:
    """Greedy: the likeliest patch's box, averaged with those that mean the same thing, then the rest."""
    left = likely >= LEAST_SHARE * likely.max()
    found: list[Candidate] = []
    while len(found) < most and bool(left.any()):
        best = int(torch.where(left, likely, torch.zeros_like(likely)).argmax())
        same = (overlap(boxes[best], boxes) > SAME_THING) & left
        same[best] = True
        weight = likely[same][:, None]
        mean = ((boxes[same] * weight).sum(0) / weight.sum()).tolist()
        found.append(Candidate(_box(mean), float(likely[best])))
        left &= ~same
    return found


def _box(edges: Sequence[float]) -> Box:
    x1, y1, x2, y2 = edges
    x1, y1 = min(x1, 1 - MIN_SIDE), min(y1, 1 - MIN_SIDE)
    return Box(x1, y1, max(x2, x1 + MIN_SIDE), max(y2, y1 + MIN_SIDE))
