"""What a tower model knows about images that it was not trained on: depth, order and where names are."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from proxqa_core.datasets.folder import LabelledObject
from proxqa_core.errors import BadImageError
from proxqa_core.model.loading import LoadedModel
from proxqa_core.vision.grounding_head import GroundingHead
from proxqa_training.bad_images import BadImages
from proxqa_training.depth_digits import expected_depth
from proxqa_training.labels import LabelledImage
from proxqa_training.tower.data import TowerDataset, TowerSample
from proxqa_training.tower.model import TowerModel, mixed_precision, region_pool
from proxqa_training.tower.words import means

COMPARED_BELOW = 0.92
"""Two objects are compared where the nearer one's distance is at most this share of the farther one's."""


@torch.no_grad()
def validate(
    tower: TowerModel,
    model: LoadedModel,
    dataset: TowerDataset,
    images: Sequence[LabelledImage],
    device: torch.device,
    dtype: str = "auto",
    bad: BadImages | None = None,
) -> dict[str, float]:
    """Look at images as they are.

    Args:
        tower: What is looked with.
        model: Whose words are looked for.
        dataset: Makes the views.
        images: What to look at.
        device: Where it is computed.
        dtype: Of `mixed_precision`.
        bad: Takes the images that cannot be used.

    Returns:
        `found`, share of the names whose likeliest patch is on an object of that name; `names`, how many; and where
        there is depth `region_mae`, mean error of the relative depth, and `region_pairs`, share of pairs in order.
    """
    errors: list[float] = []
    right: list[bool] = []
    found: list[bool] = []
    bad = BadImages() if bad is None else bad
    for image in images:
        try:
            sample = dataset.sample(image, None)
        except BadImageError as error:
            bad.add(str(image.record.folder / image.record.image), str(error))
            continue
        if not sample.names:
            continue
        with mixed_precision(device, dtype):
            patches = tower.patches(sample.pixels[None].to(device))  # [1, side², hidden]
        patches = patches.float()
        found += names_found(tower.grounding_head, model, sample, patches[0])
        if torch.isfinite(sample.depths).any():
            depths = _region_depths(tower, sample, patches, device)
            errors += (depths - sample.depths).abs().tolist()
            right += _pairs_in_order(image.record.objects, depths)
    report: dict[str, float] = {"found": sum(found) / max(1, len(found)), "names": len(found)}
    if errors:
        report |= {"region_mae": sum(errors) / len(errors), "region_pairs": sum(right) / max(1, len(right))}
    return report


def names_found(head: GroundingHead, model: LoadedModel, sample: TowerSample, patches: torch.Tensor) -> list[bool]:
    """Whether names are found in a view.

    Args:
        head: Finds them.
        model: Whose words they are.
        sample: The view; its pixels are not looked at.
        patches: What the tower makes of it, [side², hidden].

    Returns:
        For each name in it whether its likeliest patch is on an object that is called so.
    """
    found = []
    vectors, _ = head.patch_vectors(patches)
    masks = sample.masks.to(patches.device)  # [n, side²]
    table = model.llava.get_input_embeddings().weight.detach().float()
    for name in dict.fromkeys(sample.names):
        words = table[model.prompter.plain_ids(" " + name)].mean(0)[None]
        likely = head.similarity(vectors, head.name_vectors(words))
        same = torch.stack([m for m, n in zip(masks, sample.names, strict=True) if means(name, n)])
        found.append(bool(same.amax(0)[likely[:, 0].argmax()] > 0.1))
    return found


def _region_depths(tower: TowerModel, sample: TowerSample, patches: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Relative depths [n] of a view's boxes, on the CPU."""
    boxes, side = sample.boxes.to(device), round(patches.shape[1] ** 0.5)
    with device:  # where new tensors are made
        grid = patches.reshape(1, side, side, -1).expand(len(boxes), -1, -1, -1)
        regions = tower.projector(region_pool(grid, boxes, tower.spatial_merge_size))
        return expected_depth(tower.digit_logits(regions)).cpu()


def _pairs_in_order(objects: Sequence[LabelledObject], depths: torch.Tensor) -> list[bool]:
    """For each pair that is clearly apart, whether the nearer one has the smaller depth; none if one is unmeasured."""
    metres = [o.depth_m for o in objects if o.depth_m]
    if not len(objects) == len(metres) == len(depths):
        return []
    return [
        bool(depths[i] < depths[j])
        for i, near in enumerate(metres)
        for j, far in enumerate(metres)
        if near < COMPARED_BELOW * far
    ]
