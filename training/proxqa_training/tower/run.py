"""The first step: the last blocks of the vision tower, the projector and the grounding head, without the language model.

`python -m proxqa_training.tower.run training/proxqa_training/configs/tower.yaml --data DIR … --out RUN [--install]`

Promises: after it a patch tells how far it is and what it shows, an image token lies in the language model's embedding
space near the word for what it shows and the digit for how far that is, and the grounding head finds what is named. Rendered
folders teach depth and names, photographs names and places (and depth where it is measured). Stopped at any time it
goes on from its last checkpoint. Knows nothing of prompts, LoRA or questions.

Losses (see `Losses`): relative depth of patches, tokens and regions; words of regions, contrastive; where a name is
(sigmoid focal loss, Lin et al. 2017) and which box it fills (GIoU, Rezatofighi et al. 2019).
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import math
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from proxqa_core.depth import relative_depth_map
from proxqa_core.errors import ProxqaError
from proxqa_core.model import base_weights
from proxqa_core.model.base_weights import as_installed
from proxqa_core.model.loading import DEFAULT, NO_ADAPTER, LoadedModel, choose_dtype, load
from proxqa_core.vision.grounding_head import GroundingHead, centres, to_boxes
from proxqa_core.vision.regions import bin_weights
from proxqa_core.vision.tower import merge_grid
from proxqa_training.distributed import DistributedContext
from proxqa_training.labels import LabelledImage, read_images
from proxqa_training.prefetch import prepared
from proxqa_training.tower import dinov2
from proxqa_training.tower.words import general, means, unsure

BINS = 10


@dataclass(frozen=True)
class TowerConfig:
    """start: 'dinov2' as published (`training/dinov2.py`), or 'current', the tower in the package as it is.
    images: how many are seen; batch: a step; blocks: how many of the last ones are trained, the last one at block_rate,
    those before it each at layer_decay times the next one's; rate: of everything else; both are peaks of a cosine.
    smallest_crop: share of each side that a crop keeps at least.
    temperature: of the words' contrast; norm: length of a projected token (word embeddings: about 3).
    photo_share: of the images of a step. held_out: share of the photographs, by hash of their path, kept for `check`.
    """

    start: str = "dinov2"
    images: int = 40000
    batch: int = 24
    blocks: int = 4
    block_rate: float = 6e-5
    layer_decay: float = 1.0
    rate: float = 1e-3
    weight_decay: float = 0.02
    warmup: float = 0.03
    smallest_crop: float = 0.6
    name_weight: float = 0.3
    temperature: float = 0.07
    norm: float = 3.2
    held_out: float = 0.04
    photo_share: float = 0.45
    seed: int = 0

    def __post_init__(self) -> None:
        for key in ("images", "batch", "block_rate", "rate", "temperature", "norm"):
            if getattr(self, key) <= 0:
                raise ValueError(f"{key} is {getattr(self, key)}; expected more than 0")
        for key in ("layer_decay", "smallest_crop", "held_out", "photo_share", "warmup"):
            if not 0 <= getattr(self, key) <= 1:
                raise ValueError(f"{key} is {getattr(self, key)}; expected a share in [0, 1]")
        if self.start not in ("dinov2", "current"):
            raise ValueError(f"start is {self.start!r}; expected 'dinov2' or 'current'")
        if not 0 <= self.blocks <= 12:
            raise ValueError(f"blocks is {self.blocks}; expected 0 to 12")


# -------------------------------------------------------------------- data
@dataclass
class Picture:
    """One training view. depth: [side, side], NaN = unknown. boxes: [n, 4]; depths: [n], NaN = unknown. masks:
    [n, side²]: share of a patch that shows the object; 0.2 = may or may not. names: of the objects.
    """

    pixels: torch.Tensor
    depth: torch.Tensor
    boxes: torch.Tensor
    depths: torch.Tensor
    masks: torch.Tensor
    names: list[str]
    scene: LabelledImage


@dataclass
class Batch:
    """The n pictures of a step with their m objects together, and what is drawn for them.

    pixels: [n, 3, size, size]. depth: [n, side, side]. of: [m], which picture an object is in, ascending. boxes,
    depths, masks: [m, …] as in `Picture`. labels: [m], index of an object's name. said: [m], index of the word it is
    asked by. jitter: [m, 4], standard normal. absent: [n], row of `Vocabulary.absence` that holds for a picture.
    """

    pixels: torch.Tensor
    depth: torch.Tensor
    of: torch.Tensor
    boxes: torch.Tensor
    depths: torch.Tensor
    masks: torch.Tensor
    labels: torch.Tensor
    said: torch.Tensor
    jitter: torch.Tensor
    absent: torch.Tensor

    def to(self, device: torch.device) -> Batch:
        return Batch(*(getattr(self, f.name).to(device, non_blocking=True) for f in dataclasses.fields(self)))


class Pictures:
    """Draws augmented views of scenes."""

    def __init__(self, model: LoadedModel, smallest_crop: float):
        self.size = model.preprocessing.size
        self.side = self.size // model.llava.config.vision_config.patch_size
        self.mean = np.asarray(model.preprocessing.mean, np.float32)
        self.std = np.asarray(model.preprocessing.std, np.float32)
        self.smallest_crop = smallest_crop

    def draw(self, scene: LabelledImage, rng: random.Random | None) -> Picture:
        """rng None: the image as it is."""
        record = scene.record
        image = record.load_image()
        depth = None
        if record.depth_map is not None:
            depth = record.load_depth()
            if depth.shape != image.shape[:2]:
                depth = cv2.resize(depth, image.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        masks = record.load_masks()
        height, width = image.shape[:2]
        x1, y1, x2, y2 = 0, 0, width, height
        if rng is not None and rng.random() < 0.8:
            scale = rng.uniform(self.smallest_crop, 1)
            w = min(width, round(width * scale * rng.uniform(0.85, 1.18)))
            h = min(height, round(height * scale * rng.uniform(0.85, 1.18)))
            x1, y1 = rng.randint(0, width - w), rng.randint(0, height - h)
            x2, y2 = x1 + w, y1 + h
        mirrored = rng is not None and rng.random() < 0.5
        image = image[y1:y2, x1:x2]
        relative = np.full((self.side, self.side), np.nan, np.float32)
        whole = None
        if depth is not None:
            whole = relative_depth_map(depth[y1:y2, x1:x2])
            relative = cv2.resize(np.nan_to_num(whole, nan=-9), (self.side, self.side), interpolation=cv2.INTER_AREA)
            relative = np.where(relative < 0, np.nan, np.minimum(relative, 1))
        boxes, depths, covers, names = [], [], [], []
        for thing in record.objects:
            b = thing.box
            inside = (max(b.x1, x1) - x1, max(b.y1, y1) - y1, min(b.x2, x2) - x1, min(b.y2, y2) - y1)
            area = max(0.0, inside[2] - inside[0]) * max(0.0, inside[3] - inside[1])
            if area < 0.5 * (b.x2 - b.x1) * (b.y2 - b.y1) or min(inside[2] - inside[0], inside[3] - inside[1]) < 3:
                continue
            box = np.array(inside) / [x2 - x1, y2 - y1, x2 - x1, y2 - y1]
            how_far = np.nan
            if masks is not None and thing.mask_id is not None:
                mask = masks[y1:y2, x1:x2] == thing.mask_id
                if mask.sum() < 20:
                    continue
                cover = cv2.resize(mask.astype(np.float32), (self.side, self.side), interpolation=cv2.INTER_AREA)
                cover = cover / max(0.35, float(cover.max())) if cover.max() < 0.7 else cover
                if whole is not None:
                    how_far = float(np.nanmedian(whole[mask]))
            else:
                cover = self._box_cover(box)
            boxes.append(box)
            depths.append(how_far)
            covers.append(cover)
            names.append(thing.name)
        if mirrored:
            image, relative = image[:, ::-1], relative[:, ::-1]
            boxes = [np.array([1 - b[2], b[1], 1 - b[0], b[3]]) for b in boxes]
            covers = [c[:, ::-1] for c in covers]
        n = len(boxes)
        return Picture(
            self._pixels(image, rng),
            torch.from_numpy(relative.astype(np.float32).copy()),
            torch.tensor(np.array(boxes), dtype=torch.float32).reshape(n, 4),
            torch.tensor(depths, dtype=torch.float32),
            torch.tensor(np.array(covers), dtype=torch.float32).reshape(n, self.side**2),
            names,
            scene,
        )

    def _box_cover(self, box: np.ndarray) -> np.ndarray:
        """Where only a box is known: 1 in its inner ellipse, 0.2 (may or may not) in the rest of it."""
        along = (np.arange(self.side) + 0.5) / self.side
        half = np.maximum((box[2:] - box[:2]) / 2, 0.5 / self.side)
        middle = (box[:2] + box[2:]) / 2
        u, v = (along - middle[0]) / half[0], (along - middle[1]) / half[1]
        inner = u[None] ** 2 + v[:, None] ** 2 <= 0.6
        inside = (abs(u[None]) <= 1) & (abs(v[:, None]) <= 1)
        cover = np.where(inner, 1.0, np.where(inside, 0.2, 0.0)).astype(np.float32)
        if not inner.any():
            column, row = (min(self.side - 1, int(m * self.side)) for m in middle)
            cover[row, column] = 1.0
        return cover

    def _pixels(self, image: np.ndarray, rng: random.Random | None) -> torch.Tensor:
        how = cv2.INTER_AREA if max(image.shape[:2]) > self.size else cv2.INTER_CUBIC
        if rng is not None and rng.random() < 0.2:  # a softer picture
            factor = rng.uniform(0.35, 0.9)
            image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        if rng is not None and rng.random() < 0.2:  # one that was squeezed
            kept = [cv2.IMWRITE_JPEG_QUALITY, rng.randint(20, 70)]
            image = cv2.imdecode(cv2.imencode(".jpg", np.ascontiguousarray(image), kept)[1], cv2.IMREAD_COLOR)
        values = cv2.resize(np.ascontiguousarray(image), (self.size, self.size), interpolation=how)
        values = values.astype(np.float32) / 255
        if rng is not None and rng.random() < 0.8:
            grey = values.mean(-1, keepdims=True)
            values = grey + (values - grey) * (0.0 if rng.random() < 0.04 else rng.uniform(0.6, 1.4))
            values = (values - values.mean()) * rng.uniform(0.7, 1.3) + values.mean() * rng.uniform(0.7, 1.3)
            values = np.clip(values * np.array([rng.uniform(0.92, 1.08) for _ in range(3)], np.float32), 0, 1)
        values = (values - self.mean) / self.std
        return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1), dtype=np.float32))


class Vocabulary:
    """All words asked for in training, and which labels each of them fits.

    labels, words: sorted. fits, doubtful: [labels, words], whether a thing labelled so is, or may be, called so.
    """

    def __init__(self, labels: Sequence[str]):
        self.labels = sorted(set(labels))
        self.words = sorted(set().union(*(general(label) for label in self.labels)))
        self.index = {w: i for i, w in enumerate(self.words)}
        self.number = {label: i for i, label in enumerate(self.labels)}
        self.fits = torch.stack([self._fit(n) for n in self.labels])
        self.doubtful = torch.stack([self._doubt(n) for n in self.labels])
        self._known: dict[frozenset[str] | None, torch.Tensor] = {}
        self._present: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def _fit(self, label: str) -> torch.Tensor:
        return torch.tensor([means(w, label) for w in self.words])

    def _doubt(self, label: str) -> torch.Tensor:
        return torch.tensor([unsure(w, label) for w in self.words])

    def may_be_absent(self, scene: LabelledImage) -> torch.Tensor:
        """[words]: 1 where a patch without a label of this word surely shows none; 0.2 where it likely does."""
        known = scene.absent_known
        if known not in self._known:
            sure = torch.ones(len(self.words))
            if known is not None:
                sure = torch.tensor([float(any(means(w, k) for k in known)) for w in self.words])
            self._known[known] = sure
        weight = self._known[known].clone()
        for label in scene.present:
            if label not in self._present:
                self._present[label] = self._fit(label), self._doubt(label)
            fits, doubtful = self._present[label]
            weight[doubtful] = 0
            if not scene.rendered:
                weight = torch.maximum(weight, 0.2 * fits.float())
        return weight

    def absence(self, scenes: Sequence[LabelledImage]) -> tuple[torch.Tensor, dict[int, int]]:
        """`may_be_absent` of all scenes, equal ones once [rows, words], and the row of each scene by its id()."""
        rows: dict[tuple[bool, frozenset[str], frozenset[str] | None], int] = {}
        weights, row_of = [], {}
        for scene in scenes:
            key = (scene.rendered, scene.present, scene.absent_known)
            if key not in rows:
                rows[key] = len(weights)
                weights.append(self.may_be_absent(scene))
            row_of[id(scene)] = rows[key]
        return torch.stack(weights), row_of

    def a_word_for(self, label: str, rng: random.Random) -> int:
        """Mostly the label itself, else another word for it."""
        if rng.random() < 0.6:
            return self.index[label]
        return self.index[rng.choice(sorted(general(label)))]

    def embeddings(self, model: LoadedModel) -> torch.Tensor:
        """Mean word embeddings [words, hidden] as they stand in a sentence."""
        table = model.llava.get_input_embeddings().weight.detach().float()
        return torch.stack([table[model.prompter.plain_ids(" " + w)].mean(0) for w in self.words])


# -------------------------------------------------------------------- the networks
class TowerModel(nn.Module):
    """Everything that is trained here, and the frozen part of the tower before it."""

    def __init__(self, model: LoadedModel, blocks: int):
        super().__init__()
        backbone = model.llava.model.vision_tower.backbone
        layers = list(_layers(backbone))
        self.frozen = [backbone.embeddings, *layers[: len(layers) - blocks]]
        for part in self.frozen:
            part.float().requires_grad_(False).eval()
        self.blocks = nn.ModuleList(layers[len(layers) - blocks :]).float().requires_grad_(blocks > 0)
        self.norm = backbone.layernorm.float().requires_grad_(blocks > 0)
        self.projector = model.llava.model.multi_modal_projector.float().requires_grad_(True)
        hidden = backbone.config.hidden_size
        self.spatial_merge_size = model.spatial_merge_size
        table = model.llava.get_input_embeddings().weight.detach().float()
        self.grounding_head = GroundingHead(hidden, table.shape[1])
        self.patch_depth = nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, BINS))
        self.digit_scale = nn.Parameter(torch.tensor(10.0))
        digits = table[model.prompter.digits]
        self.register_buffer("digits", F.normalize(digits - digits.mean(0), dim=-1), persistent=False)

    def patches(self, pixels: torch.Tensor) -> torch.Tensor:
        """[n, 3, size, size] → [n, side², hidden]."""
        with torch.no_grad():
            x = self.frozen[0](pixels)
            for block in self.frozen[1:]:
                x = _first(block(x))
        for block in self.blocks:
            x = _first(block(x))
        return self.norm(x)[:, 1:]

    def digit_logits(self, tokens: torch.Tensor) -> torch.Tensor:
        """Projected tokens → logits of the first digit of their relative depth."""
        return self.digit_scale * F.normalize(tokens.float(), dim=-1) @ self.digits.T


def mixed_precision(device: torch.device) -> torch.autocast:
    """bfloat16 where the hardware multiplies it; elsewhere it is emulated, many times slower, and float32 stays."""
    return torch.autocast(device.type, torch.bfloat16, enabled=choose_dtype("auto", device) is torch.bfloat16)


def _layers(backbone: Any) -> Any:
    encoder = backbone.encoder
    return encoder.layer if hasattr(encoder, "layer") else encoder.layers


def _first(value: Any) -> torch.Tensor:
    return value[0] if isinstance(value, tuple) else value


def region_pool(grid: torch.Tensor, boxes: torch.Tensor, spatial_merge_size: int) -> torch.Tensor:
    """`proxqa_core.vision.regions.region_tokens` of one box each of grids [n, side, side, c] → [n, c · merge²]."""
    side = grid.shape[1]
    low, high = boxes[:, :2], torch.maximum(boxes[:, 2:], boxes[:, :2] + 0.01)
    across = bin_weights(low[:, 0], high[:, 0], spatial_merge_size, side).to(grid)
    down = bin_weights(low[:, 1], high[:, 1], spatial_merge_size, side).to(grid)
    return torch.einsum("nay,nbx,nyxc->nabc", down, across, grid).reshape(len(boxes), -1)


def soft_digits(depth: torch.Tensor, spread: float = 0.04) -> torch.Tensor:
    """Relative depths [...] → soft first digits [..., 10]: a normal of that spread, cut into tenths."""
    edges = torch.linspace(0, 1, BINS + 1, device=depth.device)
    below = torch.special.ndtr((edges - depth[..., None]) / spread)
    mass = (below[..., 1:] - below[..., :-1]).clamp_min(0) + 1e-6
    return mass / mass.sum(-1, keepdim=True)


def expected(logits: torch.Tensor) -> torch.Tensor:
    """Logits of tenths [..., 10] → depth [...]."""
    return logits.float().softmax(-1) @ (torch.arange(BINS, device=logits.device) / BINS + 0.05)


def giou_loss(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """1 − GIoU of boxes [n, 4]."""
    low, high = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    common = (high - low).clamp_min(0).prod(-1)
    union = (a[:, 2:] - a[:, :2]).clamp_min(0).prod(-1) + (b[:, 2:] - b[:, :2]).prod(-1) - common
    hull = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).prod(-1)
    return 1 - common / union.clamp_min(1e-6) + (hull - union) / hull.clamp_min(1e-6)


class Losses:
    """What is asked of a student on a batch of pictures of these scenes."""

    def __init__(
        self,
        student: TowerModel,
        vocabulary: Vocabulary,
        model: LoadedModel,
        config: TowerConfig,
        scenes: Sequence[LabelledImage],
    ):
        self.student, self.vocabulary, self.config = student, vocabulary, config
        self.words = vocabulary.embeddings(model)
        device = self.words.device
        self.fits, self.doubtful = vocabulary.fits.to(device), vocabulary.doubtful.to(device)
        absence, self.row_of = vocabulary.absence(scenes)
        self.absence = absence.to(device)
        counts = Counter(o.name for s in scenes for o in s.record.objects)
        usual = sorted(counts.values())[len(counts) // 2]
        rarity = [min(2.0, (usual / counts[n]) ** 0.5) if n in counts else 1.0 for n in vocabulary.labels]
        self.rarity = torch.tensor(rarity, device=device)
        self.contrast = F.normalize(self.words - self.words.mean(0), dim=-1)

    def batch(self, pictures: Sequence[Picture], rng: random.Random) -> Batch:
        """Put pictures together and draw by which words their objects are asked, on the CPU."""
        vocabulary = self.vocabulary
        names = [n for p in pictures for n in p.names]
        return Batch(
            torch.stack([p.pixels for p in pictures]).half(),
            torch.stack([p.depth for p in pictures]),
            torch.tensor([i for i, p in enumerate(pictures) for _ in p.names], dtype=torch.long),
            torch.cat([p.boxes for p in pictures]),
            torch.cat([p.depths for p in pictures]),
            torch.cat([p.masks for p in pictures]).half(),
            torch.tensor([vocabulary.number[n] for n in names], dtype=torch.long),
            torch.tensor([vocabulary.a_word_for(n, rng) for n in names], dtype=torch.long),
            torch.randn(len(names), 4, generator=torch.Generator().manual_seed(rng.getrandbits(32))),
            torch.tensor([self.row_of[id(p.scene)] for p in pictures]),
        )

    def __call__(self, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        """The sum of all losses, and each of them."""
        with self.words.device:  # where new tensors are made
            return self._all(batch.to(self.words.device))

    def _all(self, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        student, config = self.student, self.config
        with mixed_precision(self.words.device):
            patches = student.patches(batch.pixels.float())
            tokens = student.projector(merge_grid(patches, student.spatial_merge_size))
        patches = patches.float()
        side = round(patches.shape[1] ** 0.5)
        losses: dict[str, torch.Tensor] = {}
        shown: dict[str, torch.Tensor] = {}
        # dense depth
        known = torch.isfinite(batch.depth).flatten(1)
        target = batch.depth.flatten(1)[known]
        if len(target):
            logits = student.patch_depth(patches[known])
            losses["patch_depth"] = _soft_ce(logits, target) + (expected(logits) - target).abs().mean()
            coarse = F.avg_pool2d(batch.depth[:, None], student.spatial_merge_size)[:, 0].flatten(1)
            kept = torch.isfinite(coarse)
            losses["token_depth"] = _soft_ce(student.digit_logits(tokens[kept]), coarse[kept])
        losses["norm"] = 0.1 * (tokens.float().norm(dim=-1) / config.norm - 1).pow(2).mean()
        # objects
        if len(batch.of):
            boxes, depths = batch.boxes, batch.depths
            jitter = boxes + 0.05 * batch.jitter * (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
            with mixed_precision(self.words.device):
                grid = patches.reshape(len(patches), side, side, -1)
                regions = student.projector(region_pool(grid[batch.of], jitter.clamp(0, 1), student.spatial_merge_size))
            far = torch.isfinite(depths)
            if far.any():
                logits = student.digit_logits(regions[far])
                wrong = (expected(logits) - depths[far]).abs().mean()
                losses["region_depth"] = _soft_ce(logits, depths[far]) + wrong
                shown["region_mae"] = wrong
            others = self.fits[batch.labels] | self.doubtful[batch.labels]
            others[torch.arange(len(others)), batch.said] = False
            near = F.normalize(regions.float(), dim=-1) @ self.contrast.T / config.temperature
            weight = self.rarity[batch.labels]
            losses["name"] = config.name_weight * _weighted_ce(near.masked_fill(others, -1e4), batch.said, weight)
            self._point(losses, shown, batch, patches, others, weight)
        total = torch.stack(list(losses.values())).sum()
        shown |= losses
        values = torch.stack([v.detach().float() for v in shown.values()]).tolist()
        return total, dict(zip(shown, values, strict=True))

    def _point(
        self,
        losses: dict[str, torch.Tensor],
        shown: dict[str, torch.Tensor],
        batch: Batch,
        patches: torch.Tensor,
        others: torch.Tensor,
        weight: torch.Tensor,
    ) -> None:
        grounding_head, of, masks, truth = self.student.grounding_head, batch.of, batch.masks.float(), batch.said
        name_vectors = grounding_head.name_vectors(self.words)
        vectors, inner = grounding_head.patch_vectors(patches)
        likely = grounding_head.similarity(vectors, name_vectors)  # [n, side², words]
        yes, no = self._shows(batch, len(patches))
        weights = torch.maximum(yes, no * self.absence[batch.absent][:, None])
        losses["where"] = _focal(likely, yes, weights) / yes.sum().clamp_min(50.0) * 4
        # every object's patches: its word against all words, and its box
        strong = masks > 0.5
        row, cell = strong.nonzero(as_tuple=True)
        share = (1 / strong.sum(1).clamp_min(1).float())[row] * weight[row]
        word = likely[of[row], cell].masked_fill(others[row], -1e4)
        losses["what"] = 0.4 * (F.cross_entropy(word, truth[row], reduction="none") * share).sum() / share.sum()
        side = round(patches.shape[1] ** 0.5)
        at = centres(side).to(patches.device)[cell]
        said = to_boxes(at, grounding_head.edges(inner[of[row], cell], name_vectors[truth[row]]))
        losses["box"] = (giou_loss(said, batch.boxes[row]) * share).sum() / share.sum()
        with torch.no_grad():
            best = likely[of, :, truth].argmax(1)
            shown["found"] = masks[torch.arange(len(of)), best].gt(0.1).float().mean()

    def _shows(self, batch: Batch, pictures: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Where each word is right and where it is surely wrong, as far as labelled things go: two [n, side², words].

        Objects are counted: a patch that one of them covers shows what any of them is called.
        """
        counts = torch.bincount(batch.of, minlength=pictures)
        place = torch.arange(len(batch.of)) - (counts.cumsum(0) - counts)[batch.of]
        covers = torch.zeros(3, pictures, int(counts.max()), batch.masks.shape[1])
        for i, least in enumerate((0.5, 0.05, 0.05)):
            covers[i, batch.of, place] = (batch.masks > least).float()
        called = torch.zeros(2, pictures, int(counts.max()), self.fits.shape[1])
        called[0, batch.of, place] = self.fits[batch.labels].float()
        called[1, batch.of, place] = self.doubtful[batch.labels].float()
        yes = torch.einsum("nkp,nkw->npw", covers[0], called[0]) > 0
        near = torch.einsum("nkp,nkw->npw", covers[1], called[0]) > 0
        doubt = torch.einsum("nkp,nkw->npw", covers[2], called[1]) > 0
        return yes.float(), (~near & ~doubt).float()


def _soft_ce(logits: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits.float(), soft_digits(depth))


def _weighted_ce(logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return (F.cross_entropy(logits, target, reduction="none") * weight).sum() / weight.sum()


def _focal(logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor, gamma: float = 2.0) -> torch.Tensor:
    logits = logits.float()
    plain = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    p = logits.sigmoid()
    right = p * target + (1 - p) * (1 - target)
    balance = 0.3 * target + 0.7 * (1 - target)
    return (balance * (1 - right) ** gamma * plain * weight).sum()


# -------------------------------------------------------------------- the run
class TowerRun:
    """Trains a student and writes what it has learned."""

    def __init__(
        self,
        model: LoadedModel,
        folders: Sequence[Path],
        config: TowerConfig,
        out: Path,
        world: DistributedContext | None = None,
        start: Path | None = None,
        workers: int = 0,
    ):
        """start: folder of an earlier run whose projector and grounding head this one goes on with. workers: of `prepared`."""
        torch.manual_seed(config.seed)
        self.world = world or DistributedContext("cpu")
        self.model, self.config, self.out, self.workers = model, config, out, workers
        out.mkdir(parents=True, exist_ok=True)
        if config.start == "dinov2":
            published = as_installed(dinov2.weights(), out / "unused").state_dict()
            model.llava.model.vision_tower.backbone.load_state_dict(published, strict=True)
        model.llava.to(self.world.device)
        scenes = [s for f in folders for s in read_images(f)]
        kept = [s for s in scenes if s.rendered or _hash(s.record.image) >= config.held_out]
        self.held_out = [s for s in scenes if not s.rendered and _hash(s.record.image) < config.held_out]
        self.rendered = [s for s in kept if s.rendered]
        self.photos = [s for s in kept if not s.rendered]
        labels = [o.name for s in kept for o in s.record.objects]
        self.student = TowerModel(model, config.blocks).to(self.world.device)
        if start is not None:
            self.student.projector.load_state_dict(load_file(start / "projector.safetensors"))
            self.student.grounding_head.load_state_dict(load_file(start / "grounding_head.safetensors"))
        self.losses = Losses(self.student, Vocabulary(labels), model, config, kept)
        self.pictures = Pictures(model, config.smallest_crop)

    def batch(self, step: int) -> Batch:
        """Drawn from (seed, step) alone: a resumed run sees what an unbroken one would."""
        pools = [p for p in (self.photos, self.rendered) if p]
        rng = random.Random(self.world.seed(f"{self.config.seed}/tower/{step}"))
        drawn = []
        for _ in range(self.config.batch):
            pool = pools[0] if len(pools) == 1 or rng.random() < self.config.photo_share else pools[1]
            drawn.append(self.pictures.draw(rng.choice(pool), rng))
        return self.losses.batch(drawn, rng)

    def train(self, log: Callable[..., None], minutes_between_checkpoints: float = 4.0) -> None:
        config, student = self.config, self.student
        blocks = [
            {"params": list(part.parameters()), "peak": config.block_rate * config.layer_decay**depth}
            for depth, part in enumerate([student.norm, *reversed(student.blocks)])
        ]
        groups = [g for g in blocks if all(p.requires_grad for p in g["params"])]
        deep_ids = {id(p) for g in groups for p in g["params"]}
        rest = [p for p in student.parameters() if p.requires_grad and id(p) not in deep_ids]
        groups.append({"params": rest, "peak": config.rate})
        trained = [p for g in groups for p in g["params"]]
        optimiser = torch.optim.AdamW(
            [{**g, "lr": g["peak"]} for g in groups], betas=(0.9, 0.98), weight_decay=config.weight_decay
        )
        steps = math.ceil(config.images / config.batch)
        first = self._resume(optimiser)
        saved = time.perf_counter()
        smooth: dict[str, float] = {}
        bar = tqdm(total=steps, initial=first, desc="tower", unit="step")
        for step, batch in enumerate(prepared(self.batch, range(first, steps), self.workers), first):
            warm = min(1.0, (step + 1) / max(1, config.warmup * steps))
            factor = warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))
            for group in optimiser.param_groups:
                group["lr"] = group["peak"] * factor
            loss, shown = self.losses(batch)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            self.world.average(trained)
            nn.utils.clip_grad_norm_(trained, 1.0)
            optimiser.step()
            for key, value in shown.items():
                smooth[key] = value if key not in smooth else 0.97 * smooth[key] + 0.03 * value
            bar.update()
            if step % 10 == 0:
                bar.set_postfix({k: f"{v:.3f}" for k, v in smooth.items()})
                if self.world.writes:
                    log(stage="tower", step=step, **shown)
            if time.perf_counter() - saved > 60 * minutes_between_checkpoints:
                self._checkpoint(step + 1, optimiser)
                saved = time.perf_counter()
        self._checkpoint(steps, optimiser)

    @torch.no_grad()
    def check(self, scenes: Sequence[LabelledImage]) -> dict[str, float]:
        """On images not trained on, as they are: depth of boxes, their order, and whether the top patch of a name is
        on a thing of that name.
        """
        errors, right, found = [], [], []
        for scene in scenes:
            picture = self.pictures.draw(scene, None)
            if not picture.names:
                continue
            boxes, masks = picture.boxes.to(self.world.device), picture.masks.to(self.world.device)
            with mixed_precision(self.world.device):
                patches = self.student.patches(picture.pixels[None].to(self.world.device))
            patches = patches.float()
            side = round(patches.shape[1] ** 0.5)
            vectors, _ = self.student.grounding_head.patch_vectors(patches[0])
            table = self.model.llava.get_input_embeddings().weight.detach().float()
            for name in dict.fromkeys(picture.names):
                words = table[self.model.prompter.plain_ids(" " + name)].mean(0)[None]
                likely = self.student.grounding_head.similarity(
                    vectors, self.student.grounding_head.name_vectors(words)
                )
                same = torch.stack([m for m, n in zip(masks, picture.names, strict=True) if means(name, n)])
                found.append(bool(same.amax(0)[likely[:, 0].argmax()] > 0.1))
            if not torch.isfinite(picture.depths).any():
                continue
            with self.world.device:  # where new tensors are made
                grid = patches.reshape(1, side, side, -1).expand(len(boxes), -1, -1, -1)
                regions = self.student.projector(region_pool(grid, boxes, self.student.spatial_merge_size))
                guess = expected(self.student.digit_logits(regions)).cpu()
            errors += (guess - picture.depths).abs().tolist()
            metres = [o.depth_m for o in scene.record.objects]
            if len(metres) == len(guess) and all(metres):
                right += [
                    bool(guess[i] < guess[j])
                    for i in range(len(guess))
                    for j in range(len(guess))
                    if metres[i] < 0.92 * metres[j]
                ]
        report = {"found": sum(found) / max(1, len(found)), "names": len(found)}
        if errors:
            report |= {"region_mae": sum(errors) / len(errors), "region_pairs": sum(right) / max(1, len(right))}
        return report

    def write(self) -> None:
        """Into OUT, as float16: vision_tower.safetensors (the whole backbone), and projector and grounding head beside it."""
        backbone = self.model.llava.model.vision_tower.backbone
        with tempfile.TemporaryDirectory(dir=self.out) as folder:
            backbone.save_pretrained(folder)  # under the published names, whatever they are called in memory
            tower = load_file(Path(folder) / "model.safetensors")
        parts = {"vision_tower": tower, "projector": self.student.projector.state_dict()}
        parts["grounding_head"] = self.student.grounding_head.state_dict()
        for name, part in parts.items():
            tensors = {k: v.detach().half().contiguous() for k, v in part.items()}
            path = self.out / f"{name}.safetensors"
            save_file(tensors, path.with_suffix(".part"))
            path.with_suffix(".part").replace(path)

    def _state(self, optimiser: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
        params = [p for g in optimiser.param_groups for p in g["params"]]
        tensors = {f"weight.{i}": p.detach() for i, p in enumerate(params)}
        for i, p in enumerate(params):
            for key in ("exp_avg", "exp_avg_sq", "step"):
                if key in optimiser.state.get(p, {}):
                    tensors[f"{key}.{i}"] = optimiser.state[p][key].clone()
        return tensors

    def _checkpoint(self, step: int, optimiser: torch.optim.Optimizer) -> None:
        if not self.world.writes:
            return
        path = self.out / "checkpoint.safetensors"
        save_file(self._state(optimiser), path.with_suffix(".part"), metadata={"step": str(step)})
        path.with_suffix(".part").replace(path)

    def _resume(self, optimiser: torch.optim.Optimizer) -> int:
        path = self.out / "checkpoint.safetensors"
        if not path.exists():
            return 0
        with safe_open(path, "pt") as file:
            step = int(file.metadata()["step"])
        tensors = load_file(path)
        params = [p for g in optimiser.param_groups for p in g["params"]]
        with torch.no_grad():
            for i, p in enumerate(params):
                p.copy_(tensors[f"weight.{i}"])
                if f"exp_avg.{i}" in tensors:
                    optimiser.state[p] = {k: tensors[f"{k}.{i}"] for k in ("step", "exp_avg", "exp_avg_sq")}
        return step


def install(tower: Path) -> None:
    """Make a tower the one in the checkout: its file into assets/, its SHA-256 into base_weights.py."""
    source = Path(base_weights.__file__)
    target = source.parent / base_weights.VISION.path
    code = source.read_text()
    assert code.count(base_weights.VISION.sha256) == 1
    shutil.copyfile(tower, target)
    source.write_text(code.replace(base_weights.VISION.sha256, base_weights.sha256(target)))


def _hash(text: str) -> float:
    """A number in [0, 1] that depends on the text alone."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 0xFFFFFFFF


def read_config(path: Path) -> TowerConfig:
    """A TowerConfig from YAML. ValueError quoting what is unknown or out of range."""
    values = yaml.safe_load(path.read_text()) or {}
    known = {f.name for f in dataclasses.fields(TowerConfig)}
    if unknown := sorted(set(values) - known):
        raise ValueError(f"{path}: has unknown {unknown}; expected some of {sorted(known)}")
    return TowerConfig(**values)


def main(argv: list[str] | None = None) -> int:
    from proxqa_training.stages.run import logger

    parser = argparse.ArgumentParser(prog="python -m proxqa_training.tower.run", description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="labelled folders to train on")
    parser.add_argument("--validate", type=Path, help="a rendered labelled folder for a look at the result")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--start", type=Path, help="an earlier run to take projector and grounding head from")
    parser.add_argument("--workers", type=int, default=0, help="processes that prepare images ahead (default: none)")
    parser.add_argument("--install", action="store_true", help="put the tower into this checkout when it is done")
    args = parser.parse_args(argv)
    try:
        config = read_config(args.config)
        model = load(DEFAULT, NO_ADAPTER, device="cpu", dtype="float32")
        world = DistributedContext()
        run = TowerRun(model, args.data, config, args.out, world, args.start, args.workers)
        print(
            f"{len(run.rendered)} rendered images, {len(run.photos)} photographs, "
            f"{len(run.losses.vocabulary.words)} words; {len(run.held_out)} photographs held out",
            flush=True,
        )
        log = logger(args.out / "log.jsonl")
        run.train(log)
        if not world.writes:
            return 0
        run.write()
        if args.install:
            install(args.out / "vision_tower.safetensors")
        looks = {"photographs": run.held_out}
        if args.validate:
            looks["rendered"] = read_images(args.validate)
        for name, scenes in looks.items():
            if scenes:
                seen = {k: round(v, 4) for k, v in run.check(scenes).items()}
                print(f"{name} not trained on: {seen}", flush=True)
                log(stage="tower check", on=name, **seen)
    except (ProxqaError, ValueError, OSError) as error:
        print(f"training: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
