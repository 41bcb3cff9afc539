"""Train the order head of an adapter: which of the things in one image are nearer, from the frozen tower's patches.

Promises: stopped at any time it goes on from its last checkpoint. Rendered folders and photographs teach alike: objects
with a distance, boxes at random where there is depth without labels, and where there is depth every patch; and parts of
all these images, in which the same things are larger.

What it writes decides nothing before it has been calibrated: `proxqa train calibrate`, on images not trained on here.

Sources: as of `proxqa_core.vision.order_head`.
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from proxqa_core.cli.tables import share
from proxqa_core.datasets.folder import Record
from proxqa_core.errors import BadImageError, BadModelError
from proxqa_core.evaluation.metrics import MIN_GAP
from proxqa_core.model.adapter import ORDER_HEAD, read_order_head
from proxqa_core.model.loading import LoadedModel, choose_dtype
from proxqa_core.vision.order_head import OrderHead
from proxqa_training.config_file import require_fraction, require_positive, require_weight
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
from proxqa_training.labels import LabelledImage, require_apart
from proxqa_training.logs import LOG_FILE, MetricsLogger
from proxqa_training.parts import Part

CONFIG = Path(__file__).with_name("configs") / "order.yaml"
MIN_MEASURED = 0.5
"""Share of a patch that must be measured before it has a distance."""
MIN_PATCHES = 50
"""Measured patches of an image before they teach."""
PATCH_PAIRS = 400
"""Pairs of patches drawn from an image."""
NEAR_GAP = 0.15
"""Things whose distances differ by less than this share of the farther one are near each other."""
BOX_JITTER = 0.005
"""Standard deviation of the edges of boxes while training, as share of the image's side."""


@dataclass(frozen=True)
class OrderConfig(HeadConfig):
    """One training of an order head.

    Attributes:
        dropout: Of patches and inside.
        patch_weight: Weight of the distances of patches beside the order of boxes.
        breaking_weight: Of a pair whose nearer thing does not end lower in the image; that of the others is 1.
        near_weight: Of a pair that differs by less than NEAR_GAP, times the other; that of the others is 1.
        parts: Of every image, drawn at random, that are shown too (`proxqa_training.parts`).
        roll_deg: Standard deviation of the parts' roll, degrees: as a camera that is held in a hand sees them.
        go_on: Whether it starts with the adapter's own order head, in place of a new one.
        size: Channels inside, of a new one.

    Raises:
        ValueError: Quotes a value that is out of range.
    """

    num_steps: int = 700
    batch_size: int = 8
    lr: float = 1e-3
    weight_decay: float = 0.05
    warmup_ratio: float = 0.1
    real_fraction: float = 0.4
    dropout: float = 0.2
    patch_weight: float = 1.0
    breaking_weight: float = 1.0
    near_weight: float = 1.0
    parts: int = 0
    roll_deg: float = 0.0
    go_on: bool = False
    size: int = 160

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "size", "breaking_weight", "near_weight")
        require_fraction(self, "dropout")
        require_weight(self, "patch_weight", "parts", "roll_deg")


@dataclass(frozen=True, eq=False)
class OrderSample:
    """One image, its mirror image, or a part of it.

    Attributes:
        plain: It is the image as it is.
        features: Of the tower, [tokens, hidden], float16, in a file.
        aspect: Width over height of the image.
        boxes: [n, 4] as (x1, y1, x2, y2) in [0, 1].
        near: [pairs], which of the n is the nearer of each pair that differs enough.
        far: [pairs], the other one.
        gaps: [pairs], by what share of the farther distance they differ.
        patches: Logarithm of the distance of the patches, [side²]; NaN = not measured; None = there is no depth.
    """

    plain: bool
    features: Features
    aspect: float
    boxes: torch.Tensor
    near: torch.Tensor
    far: torch.Tensor
    gaps: torch.Tensor
    patches: torch.Tensor | None


@dataclass(frozen=True, eq=False)
class OrderFolder:
    """The samples of one folder. rendered: its images are no photographs."""

    name: str
    rendered: bool
    samples: tuple[OrderSample, ...]


def ordered_pairs(distances: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Which pairs of things are far enough apart to be ordered.

    Args:
        distances: [n], in one unit.

    Returns:
        The nearer and the farther thing of every pair that differs by MIN_GAP of the farther or more, and by what share
        of the farther it does, [pairs] each.
    """
    a, b = torch.triu_indices(len(distances), len(distances), 1)
    gaps = (distances[a] - distances[b]).abs() / torch.maximum(distances[a], distances[b])
    apart = gaps >= MIN_GAP
    a, b = a[apart], b[apart]
    nearer = distances[a] < distances[b]
    return torch.where(nearer, a, b), torch.where(nearer, b, a), gaps[apart]


def patch_distances(metres: NDArray[np.float32], side: int) -> torch.Tensor:
    """Logarithm of the median distance of every patch.

    Args:
        metres: Depth map, [rows, columns]; NaN and infinity = not measured.
        side: Patches across and down.

    Returns:
        [side²], NaN where less than MIN_MEASURED of a patch is measured.
    """
    measured = np.where(np.isfinite(metres) & (metres > 0), metres, np.nan)
    found = np.full((side, side), np.nan, np.float32)
    rows, columns = (np.linspace(0, n, side + 1) for n in metres.shape)
    for i in range(side):
        for j in range(side):
            down = slice(int(rows[i]), max(int(rows[i]) + 1, int(np.ceil(rows[i + 1]))))
            across = slice(int(columns[j]), max(int(columns[j]) + 1, int(np.ceil(columns[j + 1]))))
            values = measured[down, across]
            if np.isfinite(values).mean() >= MIN_MEASURED:
                found[i, j] = np.log(np.nanmedian(values))
    return torch.from_numpy(found.flatten())


class PatchReader:
    """Reads depth maps as distances of patches; one that was read for the boxes of its image is not read again.

    Args:
        side: Patches across and down.
    """

    def __init__(self, side: int):
        self._side = side
        self._known: dict[tuple[str, str | None], torch.Tensor] = {}

    def load(self, record: Record) -> NDArray[np.float32]:
        """The depth map of a record, whose patches are kept. Its errors are those of `Record.load_depth`."""
        metres = record.load_depth()
        self._known[record.image, record.depth_map] = patch_distances(metres, self._side)
        return metres

    def patches(self, record: Record) -> torch.Tensor:
        """The distances of a record's patches, [side²], see `patch_distances`. Errors as of `load`."""
        known = None if isinstance(record, Part) else self._known.get((record.image, record.depth_map))
        return patch_distances(record.load_depth(), self._side) if known is None else known


def read_folder(run: HeadRun, path: Path, num_workers: int = 0, parts: int = 0, roll_deg: float = 0.0) -> OrderFolder:
    """Read a labelled folder as samples.

    Args:
        run: Of which it is.
        path: In the format of `proxqa_core.datasets.folder`.
        num_workers: Processes that read images ahead.
        parts: Of every image, that are samples too.
        roll_deg: Standard deviation of their roll, degrees.

    Raises:
        BadDatasetError: The folder is at fault.
    """
    reader = PatchReader(run.model.patches_per_side)
    seen = run.see(path, _teaches, num_workers, reader.load, parts, roll_deg)
    samples: list[OrderSample] = []
    for image in seen.images:
        record = image.image.record
        try:
            samples += _samples(record, image.features, reader)
        except BadImageError as error:
            run.bad.add(str(record.folder / record.image), str(error))
    return OrderFolder(str(path), all(i.image.rendered for i in seen.images), tuple(samples))


def _teaches(image: LabelledImage) -> bool:
    """Whether there is depth, or two things with a distance."""
    return image.record.depth_map is not None or sum(o.depth_m is not None for o in image.record.objects) > 1


def _samples(record: Record, features: Features, reader: PatchReader) -> list[OrderSample]:
    """The samples of an image and its mirror image, or of a part of one. features: [2 or 1, tokens, hidden]."""
    patches = None if record.depth_map is None else reader.patches(record)
    things = [o for o in record.objects if o.depth_m is not None]
    size = torch.tensor([record.width, record.height] * 2)
    boxes = (torch.tensor([o.box.xyxy for o in things]).reshape(-1, 4) / size).clamp(0, 1)
    pairs = ordered_pairs(torch.tensor([o.depth_m for o in things]))
    aspect = record.width / record.height
    if isinstance(record, Part):
        return [OrderSample(False, features[0], aspect, boxes, *pairs, patches)]
    turned = None if patches is None else _turned(patches)
    return [
        OrderSample(True, features[0], aspect, boxes, *pairs, patches),
        OrderSample(False, features[1], aspect, mirrored(boxes), *pairs, turned),
    ]


def _turned(patches: torch.Tensor) -> torch.Tensor:
    """What is known of the patches [side²] of an image, of its mirror image's."""
    side = math.isqrt(len(patches))
    return patches.reshape(side, side).flip(1).flatten()


class OrderTrainer:
    """Trains an order head.

    Args:
        config: What shapes the run.
        folders: What to train on.
        model: Whose features they are.
        out: Folder of the run.
        device: Where it is trained.
        start: The head to go on with; None = a new one.

    Attributes:
        head: What is trained.

    Raises:
        ValueError: There is nothing to train on.
    """

    def __init__(
        self,
        config: OrderConfig,
        folders: Sequence[OrderFolder],
        model: LoadedModel,
        out: Path,
        device: torch.device,
        start: OrderHead | None = None,
    ):
        torch.manual_seed(config.seed)
        self.config, self.out, self.device, self.merge = config, out, device, model.spatial_merge_size
        self.folders = [f for f in folders if f.samples]
        if not any(len(s.near) for f in self.folders for s in f.samples):
            raise ValueError("there are no two things whose distances differ by 8 % to train on")
        size = config.size if start is None else start.patch.out_features
        self.head = _without_attention_dropout(OrderHead(model.spec.patch, size, config.dropout)).to(device)
        if start is not None:
            self.head.load_state_dict(start.state_dict())
        self.dtype = choose_dtype("auto", device)

    def train(self, metrics: Callable[..., None], minutes_between_checkpoints: float = CHECKPOINT_MINUTES) -> None:
        """Train, or what is left of it. Arguments are those of `frozen_tower.train_steps`."""

        def losses(step: int) -> tuple[torch.Tensor, dict[str, float]]:
            return self.losses(self.batch(step))

        checkpoint = self.out / CHECKPOINT
        train_steps(self.config, self.head, losses, checkpoint, metrics, "order", minutes_between_checkpoints)

    def batch(self, step: int) -> list[OrderSample]:
        """The images of a step, drawn from (seed, step) alone.

        A folder comes as often as the root of its size: a few measured photographs are not lost among many others.
        """
        rng = random.Random(f"{self.config.seed}/order/{step}")
        pools = [[f for f in self.folders if f.rendered is rendered] for rendered in (False, True)]
        samples = []
        for _ in range(self.config.batch_size):
            pool = pools[0] if not pools[1] or (pools[0] and rng.random() < self.config.real_fraction) else pools[1]
            (folder,) = rng.choices(pool, [len(f.samples) ** 0.5 for f in pool])
            samples.append(rng.choice(folder.samples))
        return samples

    def losses(self, batch: Sequence[OrderSample]) -> tuple[torch.Tensor, dict[str, float]]:
        """The loss of a batch, and figures.

        Returns:
            Its loss; and `order`, that of the boxes, `patches`, that of the patches, and `right`, the share of the
            pairs that are in order, where there are any.
        """
        with self.device:  # where new tensors are made
            # 1. All images at once, [n, side², size], and the distances of their patches, [n, side²].
            features = torch.from_numpy(np.stack([s.features for s in batch])).to(self.device)
            aspects = torch.tensor([s.aspect for s in batch])
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
                tokens = self.head.tokens(patches_of(features, self.merge), aspects)
            tokens = tokens.float()
            distances = self.head.distances(tokens)
            # 2. Each image's boxes and patches, the images' means.
            order, patches, right = [], [], []
            for i, sample in enumerate(batch):
                if len(sample.near):
                    apart = self._apart(tokens[i], sample, aspects[i : i + 1])
                    weights = self._weights(sample).to(apart)
                    order.append((weights * F.softplus(-apart)).sum() / weights.sum())
                    right.append((apart > 0).float().mean())
                if sample.patches is not None:
                    patches.append(_patch_loss(distances[i], sample.patches.to(self.device)))
            nothing = distances.sum() * 0
            parts = {"order": order, "patches": patches}
            of_order, of_patches = (torch.stack([nothing, *values]).sum() / len(batch) for values in parts.values())
        figures = {"order": of_order.item(), "patches": of_patches.item()}
        if right:
            figures["right"] = torch.stack(right).mean().item()
        return of_order + self.config.patch_weight * of_patches, figures

    def _apart(self, tokens: torch.Tensor, sample: OrderSample, aspect: torch.Tensor) -> torch.Tensor:
        """Log-odds [pairs] of the true order of a sample's pairs."""
        boxes = sample.boxes.to(self.device)
        order = self.head(tokens, boxes + BOX_JITTER * torch.randn_like(boxes), aspect)
        return order[sample.far.to(self.device)] - order[sample.near.to(self.device)]

    def _weights(self, sample: OrderSample) -> torch.Tensor:
        """What each of a sample's pairs counts, [pairs]."""
        lower_edges = sample.boxes[:, 3]
        breaks = lower_edges[sample.near] <= lower_edges[sample.far]
        near = sample.gaps < NEAR_GAP
        return self.config.breaking_weight ** breaks.float() * self.config.near_weight ** near.float()

    @torch.no_grad()
    def right(self, folder: OrderFolder) -> tuple[int, int]:
        """How many pairs of a folder's images, as they are, the head puts in order, and how many there are."""
        right = total = 0
        for sample in (s for s in folder.samples if s.plain):
            features = torch.from_numpy(np.array(sample.features))[None].to(self.device)
            aspect = torch.tensor([sample.aspect], device=self.device)
            tokens = self.head.tokens(patches_of(features, self.merge), aspect)[0]
            order = self.head(tokens, sample.boxes.to(self.device), aspect).cpu()
            right += int((order[sample.far] > order[sample.near]).sum())
            total += len(sample.near)
        return right, total


def _without_attention_dropout(head: OrderHead) -> OrderHead:
    """The head with its other dropouts: attention with one of its own takes a CPU three times as long."""
    for layer in head.layers.layers:
        assert isinstance(layer, nn.TransformerEncoderLayer)
        layer.self_attn.dropout = 0.0
    return head


def _patch_loss(distances: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Mean error of the differences of the patches' log-distances [side²], of pairs drawn at random."""
    measured = torch.isfinite(truth)
    if int(measured.sum()) < MIN_PATCHES:
        return distances.sum() * 0
    found, true = distances[measured], truth[measured]
    a, b = torch.randint(len(found), (2, PATCH_PAIRS), device=found.device)
    return ((found[b] - found[a]) - (true[b] - true[a])).abs().mean()


def train_order_head(
    config: OrderConfig,
    adapter: Path,
    folders: Sequence[Path],
    out: Path,
    val_folders: Sequence[Path] = (),
    work: Path | None = None,
    num_workers: int = 0,
    device: str = "auto",
) -> dict[str, Any]:
    """Train an order head and write the adapter with it.

    Args:
        config: What shapes the run.
        adapter: Folder of an adapter of the bundled base.
        folders: Labelled folders with depths or distances.
        out: Folder to write: the same adapter with the new head.
        val_folders: Others, to be judged on at the end.
        work: Folder of checkpoint, log and features (default: `.NAME.run` beside `out`).
        num_workers: Processes that read images ahead.
        device: 'auto', 'cpu' or 'cuda'.

    Returns:
        `adapter`, the folder written, `validation`, for each of `val_folders` the share of the pairs in order (NaN:
        there are none) and how many there are, and `bad_images`, how many were left out and why.

    Raises:
        ProxqaError: The adapter or a folder is at fault, it has no order head to go on with, or images of `val_folders`
            are trained on too.
        ValueError: There is nothing to train on.
    """
    require_apart(folders, val_folders)
    run = begin_run(config, adapter, folders, out, work, device)
    start = _own_head(run) if config.go_on else None
    read = [read_folder(run, path, num_workers, config.parts, config.roll_deg) for path in folders]
    judged = [read_folder(run, path, num_workers) for path in val_folders]
    trainer = OrderTrainer(config, read, run.model, run.work, run.device, start)
    trainer.train(MetricsLogger(run.work / LOG_FILE))
    validation = {}
    for folder in judged:
        right, total = trainer.right(folder)
        validation[folder.name] = {"right": right / total if total else math.nan, "pairs": total}
    images = {rendered: [f for f in trainer.folders if f.rendered is rendered] for rendered in (True, False)}
    counts = {rendered: sum(s.plain for f in of for s in f.samples) for rendered, of in images.items()}
    record = {"images": sum(counts.values()), "photographs": counts[False], "config": dataclasses.asdict(config)}
    # no say until it is calibrated
    run.write(ORDER_HEAD, trainer.head, record, order_head=True, closer_weights=None, closer_weights_in_box=None)
    return {"adapter": str(out), "validation": validation, "bad_images": run.bad.report()}


def _own_head(run: HeadRun) -> OrderHead:
    """The adapter's order head."""
    if not run.info.order_head:
        raise BadModelError(f"adapter {run.info.name!r} has no order head to go on with; expected one, or go_on: false")
    return read_order_head(run.adapter)


def as_text(report: dict[str, Any]) -> str:
    """What `train_order_head` returned, for people."""
    lines = [f"wrote {report['adapter']}; calibrate it next: proxqa train calibrate {report['adapter']} --data DIR …"]
    lines += [f"{name}: {share(f['right'])} of {f['pairs']} pairs in order" for name, f in report["validation"].items()]
    return "\n".join(lines)
