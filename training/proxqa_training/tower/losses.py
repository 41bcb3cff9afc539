"""The losses of the tower's training.

Relative depth of patches, tokens and regions; words of regions, contrastive; where a name is (sigmoid focal loss, Lin
et al. 2017, arXiv 1708.02002) and which box it fills (GIoU, Rezatofighi et al. 2019, arXiv 1902.09630).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch.nn import functional as F

from proxqa_core.model.loading import LoadedModel
from proxqa_core.vision.grid import merge_grid
from proxqa_core.vision.grounding_head import centres, to_boxes
from proxqa_training.depth_digits import expected_depth, soft_digits
from proxqa_training.labels import LabelledImage
from proxqa_training.tower.config import TowerConfig
from proxqa_training.tower.data import Batch
from proxqa_training.tower.model import TowerModel, mixed_precision, region_pool
from proxqa_training.tower.vocabulary import Vocabulary

BOX_JITTER = 0.05
"""Standard deviation of the edges of regions, as share of the box's side."""
SHOWS, TOUCHES = 0.5, 0.05
"""A patch shows an object from the first share of it on; below the second one it shows none of it."""
MASKED = -1e4
"""Logit of what cannot be chosen."""
MAX_RARITY = 2.0
"""Largest weight of an object with a rare label; a label of middling frequency has 1."""

Figures = dict[str, torch.Tensor]


class Losses:
    """What the tower model is asked about a batch.

    Args:
        tower: The model in training.
        vocabulary: The words objects may be asked for by.
        model: Whose word embeddings are the targets.
        config: Weights and temperatures.
        images: All training images: rare labels get more weight.
        absence: [rows, words], of `Vocabulary.absence_table`, of all images whose views will come.
        dtype: 'auto', 'float32' or 'bfloat16', of the tower and the projector.
    """

    def __init__(
        self,
        tower: TowerModel,
        vocabulary: Vocabulary,
        model: LoadedModel,
        config: TowerConfig,
        images: Sequence[LabelledImage],
        absence: torch.Tensor,
        dtype: str = "auto",
    ):
        self.tower, self.config, self.dtype = tower, config, dtype
        self.words = vocabulary.embeddings(model)  # [words, hidden]
        self.device = self.words.device
        self.fits, self.doubtful = vocabulary.fits.to(self.device), vocabulary.doubtful.to(self.device)
        self.absence = absence.to(self.device)
        self.rarity = torch.tensor(rarity_weights(vocabulary.labels, images), device=self.device)
        self.contrast = F.normalize(self.words - self.words.mean(0), dim=-1)

    def __call__(self, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        """Compute the losses of a batch.

        Returns:
            Their sum, and each of them with what else is of interest, by name.
        """
        with self.device:  # where new tensors are made
            return self._total(batch.to(self.device))

    def of_names(self, batch: Batch, patches: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
        """The losses of the grounding head alone.

        Args:
            batch: Its pixels are not looked at; at least one object.
            patches: What the tower makes of its views, [n, side², hidden].

        Returns:
            As of a call.
        """
        with self.device:  # where new tensors are made
            batch = batch.to(self.device)
            losses, shown = self._grounding(batch, patches, self._other_words(batch), self.rarity[batch.labels])
            return self._summed(losses, shown)

    def _total(self, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        tower = self.tower
        # 1. patches [n, side², hidden] and projected tokens [n, (side / merge)², words]
        with mixed_precision(self.device, self.dtype):
            patches = tower.patches(batch.pixels.float())
            tokens = tower.projector(merge_grid(patches, tower.spatial_merge_size))
        patches = patches.float()
        # 2. depth of all patches and tokens; length of the tokens
        losses = self._dense_depth(batch, patches, tokens)
        shown: Figures = {}
        losses["norm"] = 0.1 * (tokens.float().norm(dim=-1) / self.config.token_norm - 1).pow(2).mean()
        # 3. the m objects: depth and name of their regions, then where their names are
        if len(batch.image_index):
            weight = self.rarity[batch.labels]  # [m]
            others = self._other_words(batch)  # [m, words]
            for part in (
                self._regions(batch, patches, others, weight),
                self._grounding(batch, patches, others, weight),
            ):
                losses |= part[0]
                shown |= part[1]
        return self._summed(losses, shown)

    @staticmethod
    def _summed(losses: Figures, shown: Figures) -> tuple[torch.Tensor, dict[str, float]]:
        total = torch.stack(list(losses.values())).sum()
        shown = shown | losses
        values = torch.stack([v.detach().float() for v in shown.values()]).tolist()
        return total, dict(zip(shown, values, strict=True))

    def _dense_depth(self, batch: Batch, patches: torch.Tensor, tokens: torch.Tensor) -> Figures:
        """Depth of all patches and tokens where it is known."""
        tower = self.tower
        known = torch.isfinite(batch.depth).flatten(1)  # [n, side²]
        target = batch.depth.flatten(1)[known]
        if not len(target):
            return {}
        logits = tower.patch_depth(patches[known])
        patch_depth = _soft_cross_entropy(logits, target) + (expected_depth(logits) - target).abs().mean()
        # a token's depth is the mean of its patches, NaN where one of them is unknown: [n, (side / merge)²]
        coarse = F.avg_pool2d(batch.depth[:, None], tower.spatial_merge_size)[:, 0].flatten(1)
        kept = torch.isfinite(coarse)
        token_depth = _soft_cross_entropy(tower.digit_logits(tokens[kept]), coarse[kept])
        return {"patch_depth": patch_depth, "token_depth": token_depth}

    def _other_words(self, batch: Batch) -> torch.Tensor:
        """[m, words]: what an object is or may be called, but for the word it is asked for by: no counterexamples."""
        others = self.fits[batch.labels] | self.doubtful[batch.labels]
        others[torch.arange(len(others)), batch.words] = False
        return others

    def _regions(
        self, batch: Batch, patches: torch.Tensor, others: torch.Tensor, weight: torch.Tensor
    ) -> tuple[Figures, Figures]:
        """Depth and name of the objects' regions, as one more token each."""
        tower = self.tower
        losses: Figures = {}
        shown: Figures = {}
        # 1. jittered boxes [m, 4] → projected regions [m, words]
        sides = (batch.boxes[:, 2:] - batch.boxes[:, :2]).repeat(1, 2)
        boxes = (batch.boxes + BOX_JITTER * batch.jitter * sides).clamp(0, 1)
        side = round(patches.shape[1] ** 0.5)
        with mixed_precision(self.device, self.dtype):
            grid = patches.reshape(len(patches), side, side, -1)
            regions = tower.projector(region_pool(grid[batch.image_index], boxes, tower.spatial_merge_size))
        # 2. depth, where it is known
        known = torch.isfinite(batch.depths)
        if known.any():
            logits = tower.digit_logits(regions[known])
            error = (expected_depth(logits) - batch.depths[known]).abs().mean()
            losses["region_depth"] = _soft_cross_entropy(logits, batch.depths[known]) + error
            shown["region_mae"] = error
        # 3. name: near its own word's embedding, far from those of what it is not, [m, words]
        near = F.normalize(regions.float(), dim=-1) @ self.contrast.T / self.config.temperature
        name = _weighted_cross_entropy(near.masked_fill(others, MASKED), batch.words, weight)
        losses["name"] = self.config.name_weight * name
        return losses, shown

    def _grounding(
        self, batch: Batch, patches: torch.Tensor, others: torch.Tensor, weight: torch.Tensor
    ) -> tuple[Figures, Figures]:
        """Where each word is, what the patches of each object are, and which box it fills."""
        head, image, masks, words = self.tower.grounding_head, batch.image_index, batch.masks.float(), batch.words
        losses: Figures = {}
        shown: Figures = {}
        # 1. every patch against every word, [n, side², words]
        name_vectors = head.name_vectors(self.words)
        vectors, inner = head.patch_vectors(patches)
        logits = head.similarity(vectors, name_vectors)
        yes, no = self.word_targets(batch, len(patches))
        weights = torch.maximum(yes, no * self.absence[batch.absence_row][:, None])
        losses["where"] = _focal(logits, yes, weights) / yes.sum().clamp_min(50.0) * 4
        # 2. the p patches of all objects, each object's together as much as another's: its word against all words
        strong = masks > SHOWS  # [m, side²]
        row, cell = strong.nonzero(as_tuple=True)  # [p] each: object, patch
        share = (1 / strong.sum(1).clamp_min(1).float())[row] * weight[row]
        own = logits[image[row], cell].masked_fill(others[row], MASKED)  # [p, words]
        losses["what"] = 0.4 * (F.cross_entropy(own, words[row], reduction="none") * share).sum() / share.sum()
        # 3. the box of its object from each of these patches, [p, 4]
        side = round(patches.shape[1] ** 0.5)
        centre = centres(side).to(patches.device)[cell]
        boxes = to_boxes(centre, head.edges(inner[image[row], cell], name_vectors[words[row]]))
        losses["box"] = (giou_loss(boxes, batch.boxes[row]) * share).sum() / share.sum()
        # 4. for the log: how often the likeliest patch of a word is on the object
        with torch.no_grad():
            best = logits[image, :, words].argmax(1)
            shown["found"] = masks[torch.arange(len(image)), best].gt(0.1).float().mean()
        return losses, shown

    def word_targets(self, batch: Batch, num_images: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Where each word is right and where it is certainly wrong, as far as labelled objects go.

        A patch that an object covers shows what any word that fits the object says.

        Args:
            batch: Of n = num_images views.
            num_images: How many views there are.

        Returns:
            Two masks [n, side², words] of 0 and 1.
        """
        image = batch.image_index
        # 1. k = most objects of a view; place [m]: number of an object in its view
        counts = torch.bincount(image, minlength=num_images)
        place = torch.arange(len(image)) - (counts.cumsum(0) - counts)[image]
        most = int(counts.max())
        # 2. which patches the objects show and touch, [n, k, side²]
        shows, touches = (torch.zeros(num_images, most, batch.masks.shape[1]) for _ in range(2))
        shows[image, place] = (batch.masks > SHOWS).float()
        touches[image, place] = (batch.masks > TOUCHES).float()
        # 3. what they are called and may be called, [n, k, words]
        called, doubtful = (torch.zeros(num_images, most, self.fits.shape[1]) for _ in range(2))
        called[image, place] = self.fits[batch.labels].float()
        doubtful[image, place] = self.doubtful[batch.labels].float()
        # 4. joined over the objects, [n, side², words]
        yes = torch.einsum("nkp,nkw->npw", shows, called) > 0
        near = torch.einsum("nkp,nkw->npw", touches, called) > 0
        doubt = torch.einsum("nkp,nkw->npw", touches, doubtful) > 0
        return yes.float(), (~near & ~doubt).float()


def rarity_weights(labels: Sequence[str], images: Sequence[LabelledImage]) -> list[float]:
    """Weights of labels, [labels]: the root of the median label's count over this one's, at most 2.

    Args:
        labels: To be weighted; one that no image has gets 1.
        images: In which they are counted.
    """
    counts = Counter(o.name for image in images for o in image.record.objects)
    usual = sorted(counts.values())[len(counts) // 2]
    return [min(MAX_RARITY, (usual / counts[n]) ** 0.5) if n in counts else 1.0 for n in labels]


def giou_loss(boxes: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """1 - GIoU (generalised intersection over union).

    Args:
        boxes: [n, 4], x1, y1, x2, y2.
        truth: [n, 4] likewise, of some size.

    Returns:
        [n], in [0, 2].
    """
    low, high = torch.maximum(boxes[:, :2], truth[:, :2]), torch.minimum(boxes[:, 2:], truth[:, 2:])
    common = (high - low).clamp_min(0).prod(-1)
    union = (boxes[:, 2:] - boxes[:, :2]).clamp_min(0).prod(-1) + (truth[:, 2:] - truth[:, :2]).prod(-1) - common
    hull = (torch.maximum(boxes[:, 2:], truth[:, 2:]) - torch.minimum(boxes[:, :2], truth[:, :2])).prod(-1)
    return 1 - common / union.clamp_min(1e-6) + (hull - union) / hull.clamp_min(1e-6)


def _soft_cross_entropy(logits: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits.float(), soft_digits(depth))


def _weighted_cross_entropy(logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return (F.cross_entropy(logits, target, reduction="none") * weight).sum() / weight.sum()


def _focal(logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor, gamma: float = 2.0) -> torch.Tensor:
    """Weighted sum of the sigmoid focal loss, α = 0.3."""
    logits = logits.float()
    plain = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    p = logits.sigmoid()
    right = p * target + (1 - p) * (1 - target)
    balance = 0.3 * target + 0.7 * (1 - target)
    return (balance * (1 - right) ** gamma * plain * weight).sum()
