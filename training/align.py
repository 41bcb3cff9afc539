"""The start of the projector, without the language model in the loop.

Promises: after it, an image token lies in the language model's own embedding space near the word for what it shows
and near the digit for how far that is, so that the language model starts with tokens that it can already read. Minutes
on a CPU. Knows nothing of prompts, LoRA or questions.

Losses, over the cells of the image grid and over region tokens of labelled boxes:
- name: contrastive, cosine of the projected token with the mean word embedding of its object's name against all names
- depth: the projected token's inner product with the embeddings of the digits 0 … 9 is read as the first digit
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional as F
from tqdm import tqdm

from proxqa_core.model import LoadedModel
from proxqa_core.vision.regions import region_tokens
from training.data import TrainingSet
from training.instructions.build import jittered


@dataclass(frozen=True)
class AlignConfig:
    """epochs over the set; batch: images a step; rate: peak of a one-cycle schedule; name_weight: of the name loss;
    temperature: of the contrast; norm: target length of a projected token (word embeddings: about 3).
    """

    epochs: int = 12
    batch: int = 32
    rate: float = 2e-3
    weight_decay: float = 0.02
    name_weight: float = 0.3
    temperature: float = 0.07
    norm: float = 3.2
    seed: int = 0

    def __post_init__(self) -> None:
        for key in ("epochs", "batch", "rate", "temperature", "norm"):
            if getattr(self, key) <= 0:
                raise ValueError(f"{key} is {getattr(self, key)}; expected more than 0")


def digit_targets(depth: torch.Tensor, spread: float = 0.03) -> torch.Tensor:
    """Relative depths [...] → soft first digits [..., 10]: a normal of that spread, cut into tenths."""
    edges = torch.linspace(0, 1, 11, device=depth.device)
    below = torch.special.ndtr((edges - depth[..., None]) / spread)
    mass = (below[..., 1:] - below[..., :-1]).clamp_min(0) + 1e-6
    return mass / mass.sum(-1, keepdim=True)


def name_vectors(model: LoadedModel, names: list[str]) -> torch.Tensor:
    """[names, hidden]: mean word embedding of each name as it stands in a sentence, less the mean of all names."""
    table = model.llava.get_input_embeddings().weight.detach().float()
    rows = torch.stack([table[model.prompter.plain_ids(" " + n)].mean(0) for n in names])
    return F.normalize(rows - rows.mean(0), dim=-1)


def align(model: LoadedModel, data: TrainingSet, config: AlignConfig, log: Callable[..., None]) -> None:
    """Train the model's projector in place (float32 while training)."""
    torch.manual_seed(config.seed)
    rng = random.Random(config.seed)
    projector = model.llava.model.multi_modal_projector.float().requires_grad_(True)
    table = model.llava.get_input_embeddings().weight.detach().float()
    digits = table[model.prompter.digits]
    digits = F.normalize(digits - digits.mean(0), dim=-1)
    names = data.names
    index = {n: i for i, n in enumerate(names)}
    vectors = name_vectors(model, names)
    scale = torch.nn.Parameter(torch.tensor(10.0))
    steps = config.epochs * (len(data.samples) // config.batch)
    optimiser = torch.optim.AdamW([*projector.parameters(), scale], lr=config.rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.rate, total_steps=max(steps, 2), pct_start=0.1)
    order: list[int] = []
    for step in (bar := tqdm(range(steps), desc="align", unit="step")):
        if len(order) < config.batch:
            order = list(range(len(data.samples)))
            rng.shuffle(order)
        chosen, order = order[: config.batch], order[config.batch :]
        tokens, depth, label, weight = [], [], [], []
        for i in chosen:
            sample, features = data.samples[i], torch.from_numpy(data.features[i]).float()
            tokens.append(features)
            depth.append(torch.from_numpy(sample.depth).flatten())
            cells = torch.from_numpy(sample.cells).flatten().long()
            of = torch.tensor([index[o.name] for o in sample.objects] + [-1])
            label.append(of[cells])
            weight.append(torch.ones(len(features)))
            if sample.objects:
                boxes = torch.tensor([jittered(o.box, 0.04, rng).xyxy for o in sample.objects])
                tokens.append(region_tokens(features, boxes, model.merge))
                depth.append(torch.tensor([o.depth for o in sample.objects]))
                label.append(of[:-1])
                weight.append(torch.full((len(boxes),), 4.0))  # few, and what questions are about
        x = projector(torch.cat(tokens))
        d, y, w = torch.cat(depth), torch.cat(label), torch.cat(weight)
        logits = scale * F.normalize(x, dim=-1) @ digits.T
        target = digit_targets(d)
        loss_depth = (F.cross_entropy(logits, target, reduction="none") * w).sum() / w.sum()
        named = y >= 0
        contrast = F.normalize(x[named], dim=-1) @ vectors.T / config.temperature
        loss_name = (F.cross_entropy(contrast, y[named], reduction="none") * w[named]).sum() / w[named].sum()
        loss_norm = (x.norm(dim=-1) / config.norm - 1).pow(2).mean()
        loss = loss_depth + config.name_weight * loss_name + 0.1 * loss_norm
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 20 == 0 or step == steps - 1:
            with torch.no_grad():
                guess = logits.softmax(-1) @ (torch.arange(10) * 0.1 + 0.05)
                regions = w > 1
                shown = {
                    "depth": loss_depth.item(),
                    "name": loss_name.item(),
                    "mae_cells": (guess - d)[~regions].abs().mean().item(),
                    "mae_regions": (guess - d)[regions].abs().mean().item(),
                    "name_top1": (contrast.argmax(-1) == y[named]).float().mean().item(),
                }
            bar.set_postfix({k: f"{v:.3f}" for k, v in shown.items()})
            log(stage="align", step=step, **shown)
    projector.requires_grad_(False)


@torch.no_grad()
def check(model: LoadedModel, data: TrainingSet, scale: float = 10.0) -> dict[str, float]:
    """What the aligned projector knows of an unseen set, plain images only: region depth error and pair accuracy."""
    projector = model.llava.model.multi_modal_projector.float()
    table = model.llava.get_input_embeddings().weight.detach().float()
    digits = table[model.prompter.digits]
    digits = F.normalize(digits - digits.mean(0), dim=-1)
    errors, right = [], []
    for i in range(0, len(data.samples), 2):
        sample = data.samples[i]
        if not sample.objects:
            continue
        boxes = torch.tensor([o.box.xyxy for o in sample.objects])
        x = projector(region_tokens(torch.from_numpy(data.features[i]).float(), boxes, model.merge))
        logits = scale * F.normalize(x, dim=-1) @ digits.T
        guess = (logits.softmax(-1) @ (torch.arange(10) * 0.1 + 0.05)).tolist()
        errors += [abs(g - o.depth) for g, o in zip(guess, sample.objects, strict=True)]
        for a, ga in zip(sample.objects, guess, strict=True):
            for b, gb in zip(sample.objects, guess, strict=True):
                if a.distance < b.distance * 0.92:
                    right.append(ga < gb)
    return {"region_mae": sum(errors) / len(errors), "region_pairs": sum(right) / max(1, len(right))}
