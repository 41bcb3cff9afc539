"""Teach the grounding head of an adapter more names, on the frozen tower.

Promises: what was known is not thrown away: the result is a mean of the head's weights before and after (`mix`), and
photographs and renders that it was taught on before can be among the folders. Stopped at any time it goes on from its
last checkpoint. The photographs that `val_fraction` keeps are judged on, before and after, and not trained on.

How sure the new head is has to be calibrated: `proxqa train calibrate`; how well it finds each name is measured by
`proxqa train names`.

Sources: as of `proxqa_training.tower.losses`; a mean of weights before and after keeps what was known before, Wortsman
et al. 2022, arXiv 2109.01903.
"""

from __future__ import annotations

import dataclasses
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from proxqa_core.errors import BadImageError
from proxqa_core.model.adapter import GROUNDING_HEAD, read_grounding_head
from proxqa_training.config_file import require_fraction, require_positive
from proxqa_training.frozen_tower import (
    CHECKPOINT,
    CHECKPOINT_MINUTES,
    Features,
    HeadConfig,
    HeadRun,
    begin_run,
    mirrored,
    patches_of,
    train_steps,
)
from proxqa_training.labels import LabelledImage, hash_share, require_apart
from proxqa_training.logs import LOG_FILE, MetricsLogger
from proxqa_training.tower.config import TowerConfig
from proxqa_training.tower.data import Collator, TowerDataset, TowerSample
from proxqa_training.tower.losses import Losses
from proxqa_training.tower.model import TowerModel
from proxqa_training.tower.validation import names_found
from proxqa_training.tower.vocabulary import Vocabulary

CONFIG = Path(__file__).with_name("configs") / "grounding.yaml"
FEATURE_NOISE = 0.05
"""Standard deviation of the factor that a view's features are multiplied by while training."""


@dataclass(frozen=True)
class GroundingConfig(HeadConfig):
    """One training of a grounding head.

    Attributes:
        by_name_fraction: Share of the photographs that is drawn by a name first, each as often as another; of the
            others each image comes as often as another.
        mix: Share of the trained weights in the result; the rest is what they were before.
        val_fraction: Share of the photographs, by hash of their path, that is judged on.

    Raises:
        ValueError: Quotes a value that is out of range.
    """

    by_name_fraction: float = 0.6
    mix: float = 0.75
    val_fraction: float = 0.04

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "mix")
        require_fraction(self, "by_name_fraction", "mix", "val_fraction")


@dataclass(frozen=True, eq=False)
class NamedView:
    """A labelled image as the tower sees it.

    Attributes:
        sample: Its objects; without pixels.
        features: Of the tower, plain and flipped, [2, tokens, hidden], in a file.
    """

    sample: TowerSample
    features: Features

    @property
    def image(self) -> LabelledImage:
        """What it is a view of."""
        return self.sample.image


def read_views(run: HeadRun, path: Path, num_workers: int = 0) -> list[NamedView]:
    """Read a labelled folder.

    Args:
        run: Of which it is.
        path: In the format of `proxqa_core.datasets.folder`.
        num_workers: Processes that read images ahead.

    Raises:
        BadDatasetError: The folder is at fault.
    """
    dataset, views = TowerDataset(run.model, 1.0), []
    for seen in run.see(path, _is_named, num_workers).images:
        record = seen.image.record
        try:
            sample = dataset.sample(seen.image, None)
        except BadImageError as error:
            run.bad.add(str(record.folder / record.image), str(error))
            continue
        if sample.names:
            views.append(NamedView(dataclasses.replace(sample, pixels=torch.zeros(0)), seen.features))
    return views


def _is_named(image: LabelledImage) -> bool:
    """Whether its objects have names of their own: boxes drawn at random have none."""
    return bool(image.present)


class GroundingTrainer:
    """Trains a grounding head.

    Args:
        config: What shapes the run.
        views: What there is; `val_fraction` of the photographs among them is kept apart.
        run: Of which they are; its adapter's head is where it starts.

    Attributes:
        head: What is trained.

    Raises:
        BadModelError: The adapter has no grounding head.
        ValueError: There is nothing to train on.
    """

    def __init__(self, config: GroundingConfig, views: Sequence[NamedView], run: HeadRun):
        torch.manual_seed(config.seed)
        self.config, self.run, self.merge = config, run, run.model.spatial_merge_size
        self.val = [v for v in views if not v.image.rendered and hash_share(v.image.record.image) < config.val_fraction]
        kept = {id(v) for v in self.val}
        train = [v for v in views if id(v) not in kept]
        if not train:
            raise ValueError("there is not one labelled object to train on")
        self.photos = [v for v in train if not v.image.rendered]
        self.rendered = [v for v in train if v.image.rendered]
        by_name: dict[str, list[NamedView]] = defaultdict(list)
        for view in self.photos:
            for name in sorted(set(view.sample.names)):
                by_name[name].append(view)
        self.by_name = [by_name[name] for name in sorted(by_name)]
        # the tower's own losses, asked about features that are there already
        images = [v.image for v in train]
        tower = TowerModel(run.model, 0).to(run.device)
        self.before = read_grounding_head(run.adapter).to(run.device)
        tower.grounding_head.load_state_dict(self.before.state_dict())
        self.head = tower.grounding_head
        self.collate = Collator(Vocabulary([n for i in images for n in (o.name for o in i.record.objects)]), images)
        vocabulary, absence = self.collate.vocabulary, self.collate.absence
        self.losses = Losses(tower, vocabulary, run.model, TowerConfig(), images, absence, "float32")

    def train(self, metrics: Callable[..., None], minutes_between_checkpoints: float = CHECKPOINT_MINUTES) -> None:
        """Train, or what is left of it, then mix. Arguments are those of `frozen_tower.train_steps`."""
        checkpoint = self.run.work / CHECKPOINT
        train_steps(self.config, self.head, self.step, checkpoint, metrics, "grounding", minutes_between_checkpoints)
        share, after = self.config.mix, self.head.state_dict()
        before = self.before.state_dict()
        self.head.load_state_dict({k: (1 - share) * before[k] + share * after[k] for k in after})

    def step(self, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        """The loss of a step, drawn from (seed, step) alone, and figures."""
        rng = random.Random(f"{self.config.seed}/grounding/{step}")
        drawn = [(self._drawn(rng), rng.random() < 0.5) for _ in range(self.config.batch_size)]
        batch = self.collate([_flipped(v.sample) if flipped else v.sample for v, flipped in drawn], rng)
        patches = torch.stack([self._patches(v, flipped) for v, flipped in drawn])
        noise = 1 + FEATURE_NOISE * torch.randn(len(patches), 1, 1, device=patches.device)
        return self.losses.of_names(batch, patches * noise)

    def _drawn(self, rng: random.Random) -> NamedView:
        if not self.photos or (self.rendered and rng.random() >= self.config.real_fraction):
            return rng.choice(self.rendered)
        return rng.choice(rng.choice(self.by_name) if rng.random() < self.config.by_name_fraction else self.photos)

    def _patches(self, view: NamedView, flipped: bool = False) -> torch.Tensor:
        """[side², hidden], float32."""
        features = torch.from_numpy(np.array(view.features[int(flipped)]))[None].to(self.run.device)
        return patches_of(features, self.merge)[0]

    @torch.no_grad()
    def found(self, views: Sequence[NamedView], before: bool = False) -> dict[str, float]:
        """How many of the names in some views are found, by the head as it is or as it was before.

        Returns:
            `found`, the share, and `names`, how many there are.
        """
        head = self.before if before else self.head
        right = [r for v in views for r in names_found(head, self.run.model, v.sample, self._patches(v))]
        return {"found": sum(right) / max(1, len(right)), "names": len(right)}


def _flipped(sample: TowerSample) -> TowerSample:
    """The sample of the mirror image."""
    side = sample.depth.shape[0]
    return dataclasses.replace(
        sample,
        depth=sample.depth.flip(1),
        boxes=mirrored(sample.boxes),
        masks=sample.masks.reshape(-1, side, side).flip(2).reshape(-1, side * side),
    )


def train_grounding(
    config: GroundingConfig,
    adapter: Path,
    folders: Sequence[Path],
    out: Path,
    val_folders: Sequence[Path] = (),
    work: Path | None = None,
    num_workers: int = 0,
    device: str = "auto",
) -> dict[str, Any]:
    """Train the grounding head and write the adapter with it.

    Args:
        config: What shapes the run.
        adapter: Folder of an adapter of the bundled base, with a grounding head.
        folders: Labelled folders, rendered or photographed.
        out: Folder to write: the same adapter with the head as it is now.
        val_folders: Others, to be judged on at the end.
        work: Folder of checkpoint, log and features (default: `.NAME.run` beside `out`).
        num_workers: Processes that read images ahead.
        device: 'auto', 'cpu' or 'cuda'.

    Returns:
        `adapter`, the folder written; `validation`, for the photographs that were kept of `folders` and for each of
        `val_folders` what `GroundingTrainer.found` gives, before and after; and `bad_images`, how many were left out
        and why.

    Raises:
        ProxqaError: The adapter or a folder is at fault, or images of `val_folders` are trained on too.
        ValueError: There is nothing to train on.
    """
    require_apart(folders, val_folders)
    run = begin_run(config, adapter, folders, out, work, device)
    trainer = GroundingTrainer(config, [v for f in folders for v in read_views(run, f, num_workers)], run)
    others = {str(f): read_views(run, f, num_workers) for f in val_folders}
    trainer.train(MetricsLogger(run.work / LOG_FILE))
    judged = {"photographs kept": trainer.val} | others
    validation = {
        name: {"before": trainer.found(views, before=True), "after": trainer.found(views)}
        for name, views in judged.items()
        if views
    }
    images, photographs = len(trainer.photos) + len(trainer.rendered), len(trainer.photos)
    record = {"images": images, "photographs": photographs, "config": dataclasses.asdict(config)}
    run.write(GROUNDING_HEAD, trainer.head, record)
    return {"adapter": str(out), "validation": validation, "bad_images": run.bad.report()}


def as_text(report: dict[str, Any]) -> str:
    """What `train_grounding` returned, for people."""
    out = report["adapter"]
    lines = [f"wrote {out}; next: proxqa train calibrate {out} --data DIR …, and proxqa train names {out} …"]
    for name, f in report["validation"].items():
        before, after = f["before"], f["after"]
        lines.append(f"{name}: {before['found']:.1%} → {after['found']:.1%} of {after['names']} names found")
    return "\n".join(lines)
