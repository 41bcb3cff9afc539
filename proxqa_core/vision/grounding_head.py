"""Finding what is named: where in the image a thing called so is, before the language model is asked about it.

Promises: `GroundingHead` gives for a name, in the language model's own word embeddings, the probability that each patch
shows such a thing and the box which that thing fills; `ground` makes separate candidates of these, `score_in_box` looks
in a box that is given. A name that was never seen in training is placed by where its words stand among those that were.
Knows nothing of prompts, pixels or depth.

Sources: patches against words by cosine, as in CLIP (Radford et al. 2021, arXiv 2103.00020); a box from every patch
inside a thing, as in FCOS (Tian et al. 2019, arXiv 1904.01355).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from proxqa_core.language.places import Place
from proxqa_core.types import Box

Floats = NDArray[np.float32]
MIN_PATCH_RATIO = 0.3
"""A patch belongs to some candidate when it is at least this share as likely as the likeliest one."""
RIVAL_RATIO = 0.5
"""A candidate at least this share as likely as the likeliest one counts where one of several is picked by place."""
SAME_THING_IOU = 0.4
"""Two boxes whose intersection over union is above this are of one thing."""
MIN_BOX_SIDE = 0.01
"""Smallest side of a box, as share of the image's."""
MAX_CANDIDATES = 8
"""Most candidates for one name."""


@dataclass(frozen=True)
class Candidate:
    """One thing that a name may mean.

    Attributes:
        box: In [0, 1] of the model's square input.
        score: Probability in [0, 1] that the name means it.
    """

    box: Box
    score: float


class GroundingHead(nn.Module):
    """Two small networks that meet in one space: one encodes patches, the other a name.

    Args:
        hidden: Channels of a patch.
        words: Channels of a word embedding.
        size: Channels of the space where they meet.
        inner: Channels of the hidden layers.
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
    def from_weights(cls, weights: dict[str, torch.Tensor]) -> GroundingHead:
        """A grounding head of the sizes that its weights have.

        Args:
            weights: A whole state dict.

        Raises:
            KeyError: A weight is missing.
            RuntimeError: A weight has another shape or is not known.
        """
        grounding_head = cls(
            weights["patch.1.weight"].shape[1],
            weights["word.1.weight"].shape[1],
            weights["patch_out.weight"].shape[0],
            weights["patch_out.weight"].shape[1],
        )
        grounding_head.load_state_dict(weights)
        return grounding_head

    def name_vectors(self, words: torch.Tensor) -> torch.Tensor:
        """Mean word embeddings of names [n, words] → unit vectors [n, size] in the common space."""
        return F.normalize(self.word(words), dim=-1)

    def patch_vectors(self, patches: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Patches [..., hidden] → (unit vectors [..., size] in the common space, inner features [..., inner])."""
        inner = self.patch(patches)
        return F.normalize(self.patch_out(inner), dim=-1), inner

    def similarity(self, patch_vectors: torch.Tensor, name_vectors: torch.Tensor) -> torch.Tensor:
        """Logits [..., patches, names] that a patch shows such a thing."""
        return self.scale * patch_vectors @ name_vectors.transpose(-1, -2) + self.bias

    def edges(self, inner: torch.Tensor, name_vectors: torch.Tensor) -> torch.Tensor:
        """How far the edges of a thing are from the centre of a patch that is part of it.

        Args:
            inner: Inner features of patches, [..., inner].
            name_vectors: Of the thing's name, [..., size], of the same leading shape.

        Returns:
            Distances [..., 4] to the left, upper, right and lower edge, in shares of the image, > 0.
        """
        return self.edges_between(self.box_patch(inner), self.box_word(name_vectors))

    def edges_between(self, of_patches: torch.Tensor, of_names: torch.Tensor) -> torch.Tensor:
        """`edges` of what `box_patch` and `box_word` make of patches and names, [..., size] each, which broadcast."""
        return F.softplus(self.box(F.gelu(of_patches + of_names)) - 2)


def centres(side: int) -> torch.Tensor:
    """Centres [side², 2] (x, y) of the patches of a grid, row by row, in [0, 1]."""
    along = (torch.arange(side, dtype=torch.float32) + 0.5) / side
    y, x = torch.meshgrid(along, along, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], -1)


def to_boxes(centre: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
    """Centres [..., 2] and distances to edges [..., 4] → boxes [..., 4] (x1, y1, x2, y2), clipped to the image."""
    return torch.cat([centre - edges[..., :2], centre + edges[..., 2:]], -1).clamp(0, 1)


def inside(side: int, box: Box) -> torch.Tensor:
    """Which patches of a grid, bool [side²], have their centre in a box in [0, 1]; the nearest one where none has."""
    low, high = torch.tensor(box.xyxy[:2]), torch.tensor(box.xyxy[2:])
    centre = centres(side)
    within = ((centre >= low) & (centre <= high)).all(-1)
    if not within.any():
        within[(centre - (low + high) / 2).norm(dim=-1).argmin()] = True
    return within


def iou(box: Floats, others: Floats) -> Floats:
    """Intersection over union of one box [4] with others [n, 4]: [n]."""
    return _iou(box, _areas(box[None])[0], others, _areas(others))


def _iou(box: Floats, area: np.floating, others: Floats, areas: Floats) -> Floats:
    """`iou` of boxes whose areas are known."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    sides = np.maximum(high - low, 0)
    common = sides[:, 0] * sides[:, 1]
    shares: Floats = common / np.maximum(area + areas - common, 1e-9)
    return shares


def _areas(boxes: Floats) -> Floats:
    """Areas of boxes [n, 4]: [n]."""
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    areas: Floats = sides[:, 0] * sides[:, 1]
    return areas


def largest_iou(box: Box, others: Sequence[Box]) -> float:
    """The largest intersection over union of a box with one of others, in [0, 1]; 0 where there are none."""
    if not others:
        return 0.0
    return float(iou(np.array(box.xyxy), np.array([o.xyxy for o in others])).max())


def largest_share(box: Box, others: Sequence[Box]) -> float:
    """The largest share of the smaller of a box and one of others that both have, in [0, 1]; 0 where there are none."""
    shares = []
    for other in others:
        width = min(box.x2, other.x2) - max(box.x1, other.x1)
        height = min(box.y2, other.y2) - max(box.y1, other.y1)
        shares.append(max(width, 0.0) * max(height, 0.0) / max(min(box.area, other.area), 1e-9))
    return max(shares, default=0.0)


def choose(candidates: Sequence[Candidate], place: Place | None) -> Box:
    """The box that is meant.

    Args:
        candidates: At least one, the likeliest first.
        place: Which of several ("leftmost"); None = the likeliest.

    Returns:
        The box of the likeliest candidate, or of the one that the place picks among its rivals.
    """
    likely = [c.box for c in candidates if c.score >= RIVAL_RATIO * candidates[0].score]
    return likely[0] if place is None else likely[place.pick(likely)]


@dataclass(frozen=True)
class PatchFeatures:
    """What a grounding head's first network makes of an image's patches.

    Attributes:
        vectors: [side², size], in the space where patches and names meet.
        boxed: [side², size], which boxes are read from.
        side: Patches along one side of the image.
    """

    vectors: torch.Tensor
    boxed: torch.Tensor
    side: int


@torch.inference_mode()
def encode_patches(
    grounding_head: GroundingHead, patches: torch.Tensor, dtype: torch.dtype = torch.float32
) -> PatchFeatures:
    """Encode an image's patches once for all names that are asked for.

    Args:
        grounding_head: Encodes them.
        patches: [side, side, hidden].
        dtype: Of the model: in bfloat16 the products are computed in it, as those of the model are.
    """
    side = patches.shape[0]
    with torch.autocast(patches.device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
        vectors, inner = grounding_head.patch_vectors(patches.reshape(side * side, -1).float())
        boxed = grounding_head.box_patch(inner)
    return PatchFeatures(vectors.float(), boxed.float(), side)


@torch.inference_mode()
def ground(
    grounding_head: GroundingHead, patches: PatchFeatures, words: torch.Tensor, most: int = MAX_CANDIDATES
) -> list[list[Candidate]]:
    """The things that each of n names may mean.

    Args:
        grounding_head: The one that encoded the patches.
        patches: From `encode_patches`.
        words: Mean word embeddings of the names, [n, words].
        most: Most candidates for one name.

    Returns:
        For every name at least one candidate, the likeliest first.
    """
    # 1. Probability that each patch shows what each name means, [n, side²].
    names = grounding_head.name_vectors(words.float())
    likely = grounding_head.similarity(patches.vectors, names).sigmoid().T
    # 2. Of all names the k patches that may be part of such a thing, and the box that each of them sees, [k, 4].
    name, patch = (likely >= MIN_PATCH_RATIO * likely.amax(1, keepdim=True)).nonzero(as_tuple=True)
    edges = grounding_head.edges_between(patches.boxed[patch], grounding_head.box_word(names)[name])
    boxes = to_boxes(centres(patches.side).to(likely.device)[patch], edges).cpu().numpy()
    # 3. Name by name, boxes that mean the same thing become one candidate.
    scores, starts = likely[name, patch].cpu().numpy(), torch.bincount(name, minlength=len(names)).cumsum(0).tolist()
    return [_separate(scores[i:j], boxes[i:j], most) for i, j in zip([0, *starts], starts, strict=False)]


@torch.inference_mode()
def patch_probabilities(grounding_head: GroundingHead, patches: PatchFeatures, words: torch.Tensor) -> torch.Tensor:
    """Probability that each patch shows what each name means.

    Args:
        grounding_head: The one that encoded the patches.
        patches: From `encode_patches`.
        words: Mean word embeddings of the names, [n, words].

    Returns:
        [side², n] in [0, 1].
    """
    return grounding_head.similarity(patches.vectors, grounding_head.name_vectors(words.float())).sigmoid()


@torch.inference_mode()
def score_in_box(grounding_head: GroundingHead, patches: PatchFeatures, words: torch.Tensor, box: Box) -> float:
    """Probability that the likeliest patch inside a box shows what a name means.

    Args:
        grounding_head: The one that encoded the patches.
        patches: From `encode_patches`.
        words: Mean word embedding of the name, [words].
        box: In [0, 1]; one between the patches' centres has the patch it lies in.

    Returns:
        A number in [0, 1].
    """
    likely = patch_probabilities(grounding_head, patches, words[None])[:, 0]
    return float(likely[inside(patches.side, box).to(likely.device)].max())


def _separate(likely: Floats, boxes: Floats, most: int) -> list[Candidate]:
    """Greedy suppression that averages: probabilities [k] and boxes [k, 4] of patches → candidates, likeliest first."""
    left = likely >= MIN_PATCH_RATIO * likely.max()
    areas = _areas(boxes)
    found: list[Candidate] = []
    while len(found) < most and left.any():
        best = int(np.where(left, likely, -1).argmax())
        same = (_iou(boxes[best], areas[best], boxes, areas) > SAME_THING_IOU) & left
        same[best] = True
        weights = likely[same]
        mean = ((boxes[same] * weights[:, None]).sum(0) / weights.sum()).tolist()
        found.append(Candidate(_box(mean), float(likely[best])))
        left &= ~same
    return found


def _box(edges: Sequence[float]) -> Box:
    x1, y1, x2, y2 = edges
    x1, y1 = min(x1, 1 - MIN_BOX_SIDE), min(y1, 1 - MIN_BOX_SIDE)
    return Box(x1, y1, max(x2, x1 + MIN_BOX_SIDE), max(y2, y1 + MIN_BOX_SIDE))
