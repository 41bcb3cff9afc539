"""The first step: train the vision tower's last blocks, projector and grounding head, without the language model.

Promises: after it a patch tells how far it is and what it shows, an image token lies in the language model's embedding
space near the word for what it shows and the digit for how far that is, and the grounding head finds what is named.
Rendered folders teach depth and names, photographs names and places (and depth where it is measured). Stopped at any
time it goes on from its last checkpoint, unless data, settings or start are others by now.
"""

from __future__ import annotations

import logging
import math
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from proxqa_core.errors import BadImageError
from proxqa_core.model import base_weights
from proxqa_core.model.base_weights import as_installed
from proxqa_core.model.loading import DEFAULT, NO_ADAPTER, LoadedModel, load
from proxqa_training.bad_images import BadImages
from proxqa_training.begun import begin
from proxqa_training.checkpoints import load_checkpoint, save_checkpoint, write_tensors
from proxqa_training.distributed import DistributedContext
from proxqa_training.labels import LabelledImage, hash_share, read_images, require_apart
from proxqa_training.logs import LOG_FILE, MetricsLogger, RunningMean, progress
from proxqa_training.prefetch import prefetch
from proxqa_training.schedules import cosine_with_warmup
from proxqa_training.tower import dinov2
from proxqa_training.tower.config import TowerConfig
from proxqa_training.tower.data import Batch, Collator, TowerDataset, TowerSample
from proxqa_training.tower.losses import Losses
from proxqa_training.tower.model import TowerModel
from proxqa_training.tower.validation import validate
from proxqa_training.tower.vocabulary import Vocabulary

log = logging.getLogger(__name__)

VISION_TOWER, PROJECTOR, GROUNDING_HEAD, CHECKPOINT = (
    f"{name}.safetensors" for name in ("vision_tower", "projector", "grounding_head", "checkpoint")
)
"""Files in the folder of a run."""
LR_FLOOR = 0.02
"""Share of the peak learning rates that is left at the end."""
LOG_EVERY_STEPS = 10
CHECKPOINT_MINUTES = 4.0
MAX_GRADIENT_NORM = 1.0
MAX_BAD_IN_A_ROW = 50
"""Drawn images in turn that cannot be used: from there on it is the data set that is at fault."""


class TowerRun:
    """Trains a tower model and writes what it has learned.

    Args:
        model: The default model without an adapter, on the CPU in float32; changed in place.
        folders: Labelled folders to train on.
        config: What shapes the run.
        out: Folder of the run.
        context: This process among those of the run (default: alone, on the CPU).
        start: Folder of an earlier run whose projector and grounding head this one goes on with.
        num_workers: Processes that prepare steps ahead.
        dtype: 'auto', 'float32' or 'bfloat16', of the forward pass; weights are float32.
    """

    def __init__(
        self,
        model: LoadedModel,
        folders: Sequence[Path],
        config: TowerConfig,
        out: Path,
        context: DistributedContext | None = None,
        start: Path | None = None,
        num_workers: int = 0,
        dtype: str = "auto",
    ):
        torch.manual_seed(config.seed)
        self.context = context or DistributedContext("cpu")
        self.model, self.config, self.out, self.num_workers, self.dtype = model, config, out, num_workers, dtype
        out.mkdir(parents=True, exist_ok=True)
        if config.start == "dinov2":
            published = as_installed(dinov2.weights(), out / "unused").state_dict()
            model.llava.model.vision_tower.backbone.load_state_dict(published, strict=True)
        model.llava.to(self.context.device)
        images = self._split([i for f in folders for i in read_images(f)])
        self.tower = TowerModel(model, config.unfrozen_blocks).to(self.context.device)
        if start is not None:
            self.tower.projector.load_state_dict(load_file(start / PROJECTOR))
            self.tower.grounding_head.load_state_dict(load_file(start / GROUNDING_HEAD))
        self.vocabulary = Vocabulary([o.name for i in images for o in i.record.objects])
        self.dataset = TowerDataset(model, config.min_crop)
        self.collate = Collator(self.vocabulary, images)
        self.bad = BadImages()
        self.losses = Losses(self.tower, self.vocabulary, model, config, images, self.collate.absence, dtype)

    def _split(self, images: Sequence[LabelledImage]) -> list[LabelledImage]:
        """The images to train on; the others, photographs all, are kept for validation."""

        def kept(image: LabelledImage) -> bool:
            return image.rendered or hash_share(image.record.image) >= self.config.val_fraction

        train = [i for i in images if kept(i)]
        if not any(i.record.objects for i in train):
            raise ValueError("there is not one labelled object to train on")
        self.val_images = [i for i in images if not kept(i)]
        self.rendered = [i for i in train if i.rendered]
        self.photos = [i for i in train if not i.rendered]
        return train

    def batch(self, step: int) -> Batch:
        """The batch of a step, drawn from (seed, step) alone: a resumed run sees what an unbroken one would.

        Raises:
            BadImageError: `MAX_BAD_IN_A_ROW` images in turn cannot be used.
        """
        return self._batch_and_bad(step)[0]

    def _batch_and_bad(self, step: int) -> tuple[Batch, dict[str, str]]:
        """The batch, and why each image was not used that another was drawn for: this may run in another process."""
        bad: dict[str, str] = {}
        pools = [p for p in (self.photos, self.rendered) if p]
        rng = random.Random(self.context.rank_seed(f"{self.config.seed}/tower/{step}"))
        samples = []
        for _ in range(self.config.batch_size):
            pool = pools[0] if len(pools) == 1 or rng.random() < self.config.real_fraction else pools[1]
            samples.append(self._drawn(pool, rng, bad))
        return self.collate(samples, rng), bad

    def _drawn(self, pool: Sequence[LabelledImage], rng: random.Random, bad: dict[str, str]) -> TowerSample:
        """A view of an image of the pool that can be used; why others could not goes into `bad`."""
        for tries_left in reversed(range(MAX_BAD_IN_A_ROW)):
            image = rng.choice(pool)
            try:
                return self.dataset.sample(image, rng)
            except BadImageError as error:
                bad[str(image.record.folder / image.record.image)] = str(error)
                if not tries_left:
                    raise BadImageError(
                        f"{MAX_BAD_IN_A_ROW} images in turn cannot be used, the last: {error}"
                    ) from error
        raise AssertionError("unreachable")

    def train(self, metrics: Callable[..., None], minutes_between_checkpoints: float = CHECKPOINT_MINUTES) -> None:
        """Train, or what is left of it.

        Args:
            metrics: Called with `stage`, `step` and the figures of every tenth step, in the main process.
            minutes_between_checkpoints: 0 = after every step.
        """
        config = self.config
        optimizer = self._optimizer()
        trained = [p for group in optimizer.param_groups for p in group["params"]]
        num_steps = math.ceil(config.num_samples / config.batch_size)
        first = load_checkpoint(self.out / CHECKPOINT, optimizer)
        saved, smooth = time.perf_counter(), RunningMean(0.97)
        bar = progress(total=num_steps, initial=first, desc="tower", unit="step")
        batches = prefetch(self._batch_and_bad, range(first, num_steps), self.num_workers)
        for step, (batch, bad) in enumerate(batches, first):
            self.bad.update(bad)
            factor = cosine_with_warmup(step, num_steps, config.warmup_ratio, LR_FLOOR)
            for group in optimizer.param_groups:
                group["lr"] = group["peak_lr"] * factor
            loss, figures = self.losses(batch)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.context.all_reduce_mean(trained)
            nn.utils.clip_grad_norm_(trained, MAX_GRADIENT_NORM)
            optimizer.step()
            smooth.update(figures)
            bar.update()
            if step % LOG_EVERY_STEPS == 0:
                bar.set_postfix(smooth.as_text())
                if self.context.is_main_process:
                    metrics(stage="tower", step=step, **figures)
            if time.perf_counter() - saved > 60 * minutes_between_checkpoints:
                self._checkpoint(step + 1, optimizer)
                saved = time.perf_counter()
        bar.close()
        self._checkpoint(num_steps, optimizer)

    def _optimizer(self) -> torch.optim.AdamW:
        """AdamW with a group for each trained block, from the last one to the first, and one for everything else."""
        config, tower = self.config, self.tower
        blocks: list[dict[str, Any]] = [
            {"params": list(part.parameters()), "peak_lr": config.backbone_lr * config.layer_decay**depth}
            for depth, part in enumerate([tower.norm, *reversed(tower.blocks)])
        ]
        groups = [g for g in blocks if all(p.requires_grad for p in g["params"])]
        grouped = {id(p) for g in groups for p in g["params"]}
        rest = [p for p in tower.parameters() if p.requires_grad and id(p) not in grouped]
        groups.append({"params": rest, "peak_lr": config.lr})
        return torch.optim.AdamW(
            [{**g, "lr": g["peak_lr"]} for g in groups], betas=(0.9, 0.98), weight_decay=config.weight_decay
        )

    def _checkpoint(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        if self.context.is_main_process:
            save_checkpoint(self.out / CHECKPOINT, step, optimizer)

    def validate(self, images: Sequence[LabelledImage]) -> dict[str, float]:
        """Look at images that it was not trained on, see `proxqa_training.tower.validation`."""
        return validate(self.tower, self.model, self.dataset, images, self.context.device, self.dtype, self.bad)

    def write(self) -> None:
        """Write the whole backbone, the projector and the grounding head into the run's folder, as float16."""
        backbone = self.model.llava.model.vision_tower.backbone
        with tempfile.TemporaryDirectory(dir=self.out) as folder:
            backbone.save_pretrained(folder)  # under the published names, whatever they are called in memory
            weights = load_file(Path(folder) / "model.safetensors")
        parts = {VISION_TOWER: weights, PROJECTOR: self.tower.projector.state_dict()}
        parts[GROUNDING_HEAD] = self.tower.grounding_head.state_dict()
        for name, part in parts.items():
            write_tensors(self.out / name, {k: v.detach().half().contiguous() for k, v in part.items()})


def train_tower(
    config: TowerConfig,
    folders: Sequence[Path],
    out: Path,
    start: Path | None = None,
    val_folder: Path | None = None,
    install: bool = False,
    num_workers: int = 0,
    device: str = "auto",
    dtype: str = "auto",
) -> dict[str, Any]:
    """Train a tower from the default model and write it.

    Args:
        config: What shapes the run.
        folders: Labelled folders to train on.
        out: Folder of the run.
        start: Folder of an earlier run to go on from.
        val_folder: A rendered labelled folder to validate on, besides the photographs that were kept for it.
        install: Whether the tower becomes the bundled one of this checkout.
        num_workers: Processes that prepare steps ahead.
        device: 'auto', 'cpu' or 'cuda'.
        dtype: 'auto', 'float32' or 'bfloat16'.

    Returns:
        `out`, under `validation` the figures of what was validated on, and `bad_images`, how many were left out and
        why; nothing in processes that do not write.

    Raises:
        ProxqaError: A folder or a package of weights is at fault, or images of `val_folder` are trained on too.
        ValueError: Nothing to train on, or another run was begun in `out`.
    """
    require_apart(folders, [val_folder] if val_folder else [])
    context = DistributedContext(device)
    model = load(DEFAULT, NO_ADAPTER, device="cpu", dtype="float32")
    run = TowerRun(model, folders, config, out, context, start, num_workers, dtype)
    if context.is_main_process:
        begin(out, config, start, folders)
        log.info(
            "%d rendered images, %d photographs, %d words; %d photographs kept for validation",
            *(len(v) for v in (run.rendered, run.photos, run.vocabulary.words, run.val_images)),
        )
    metrics = MetricsLogger(out / LOG_FILE)
    run.train(metrics)
    if not context.is_main_process:
        return {}
    run.write()
    if install:
        install_tower(out / VISION_TOWER)
    val_sets = {"photographs": run.val_images, "rendered": read_images(val_folder) if val_folder else []}
    figures = {name: run.validate(images) for name, images in val_sets.items() if images}
    for name, values in figures.items():
        metrics(stage="tower validation", on=name, **values)
    return {"out": str(out), "validation": figures, "bad_images": run.bad.report()}


def install_tower(tower: Path) -> None:
    """Make a vision tower the bundled one of this checkout.

    Args:
        tower: vision_tower.safetensors of a run.
    """
    base_weights.set_vision_tower(tower)
