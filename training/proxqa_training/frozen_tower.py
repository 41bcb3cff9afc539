"""Training a small network of an adapter on the tower's features: what order head and grounding head have in common.

Promises: tower, projector and language model stay as they are, and with them all that the adapter answers without that
network; every image goes through the tower once (`proxqa_training.stages.data.FeatureCache`), plain and flipped. A run
is begun once for one adapter, one list of folders and one configuration; another one in its folder is refused.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from proxqa_core.datasets.folder import LabelledFolder, Record
from proxqa_core.errors import BadImageError, BadModelError
from proxqa_core.files import atomic_folder
from proxqa_core.model.adapter import INFO, AdapterInfo, read_info
from proxqa_core.model.base_weights import base_identity
from proxqa_core.model.loading import DEFAULT, NO_ADAPTER, LoadedModel, choose_device, load
from proxqa_core.vision.grid import split_grid
from proxqa_training.bad_images import BadImages
from proxqa_training.begun import begin, run_folder
from proxqa_training.checkpoints import load_checkpoint, save_checkpoint, write_tensors
from proxqa_training.config_file import require_fraction, require_positive, require_weight
from proxqa_training.labels import LabelledImage, read_images
from proxqa_training.logs import RunningMean, progress
from proxqa_training.parts import parts_of
from proxqa_training.schedules import cosine_with_warmup
from proxqa_training.stages.data import FeatureCache
from proxqa_training.stages.dense import LoadDepth, with_boxes

log = logging.getLogger(__name__)

FEATURES, CHECKPOINT = "features", "checkpoint.safetensors"
"""In the folder of a run."""
PARTS = "parts"
"""In a folder of features: those of parts of its images."""
LR_FLOOR = 0.02
LOG_EVERY_STEPS = 10
CHECKPOINT_MINUTES = 2.0
MAX_GRADIENT_NORM = 1.0

Features = NDArray[np.float16]


@dataclass(frozen=True)
class HeadConfig:
    """What every training of such a network is shaped by.

    Attributes:
        num_steps: Steps.
        batch_size: Images of a step.
        lr: Peak learning rate of a cosine with warm-up.
        weight_decay: Of AdamW.
        warmup_ratio: Share of the steps over which the rate rises.
        real_fraction: Share of photographs among the images of a step.
        seed: Of everything that is drawn.

    Raises:
        ValueError: Quotes a value that is out of range.
    """

    num_steps: int = 600
    batch_size: int = 24
    lr: float = 6e-4
    weight_decay: float = 0.02
    warmup_ratio: float = 0.03
    real_fraction: float = 0.7
    seed: int = 0

    def __post_init__(self) -> None:
        require_positive(self, "num_steps", "batch_size", "lr")
        require_fraction(self, "warmup_ratio", "real_fraction")
        require_weight(self, "weight_decay")


def patches_of(features: torch.Tensor, spatial_merge_size: int) -> torch.Tensor:
    """Features as the tower gives them [n, tokens, hidden · m²] → patches row by row [n, side², hidden], float32."""
    return split_grid(features.float(), spatial_merge_size).flatten(1, 2)


def mirrored(boxes: torch.Tensor) -> torch.Tensor:
    """Boxes [n, 4] in [0, 1] → those of the same things in the mirror image."""
    return torch.stack([1 - boxes[:, 2], boxes[:, 1], 1 - boxes[:, 0], boxes[:, 3]], 1)


@dataclass(frozen=True, eq=False)
class SeenImage:
    """An image and what the tower makes of it.

    Attributes:
        image: With boxes at random where there is depth and nothing is labelled.
        features: Plain and flipped left to right, [2, tokens, hidden], in a file; of a part of an image [1, …].
    """

    image: LabelledImage
    features: Features


@dataclass(frozen=True, eq=False)
class SeenFolder:
    """The images of a labelled folder that can be used."""

    path: Path
    images: tuple[SeenImage, ...]


@dataclass(eq=False)
class HeadRun:
    """A run: what it is made from, and where it is.

    Attributes:
        adapter: Folder of the adapter that it starts from.
        info: Its description.
        out: Folder to write.
        work: Folder of checkpoint, log and features.
        model: The default model without an adapter, on `device`, in float32.
        device: Where it is trained.
        bad: The images that cannot be used.
    """

    adapter: Path
    info: AdapterInfo
    out: Path
    work: Path
    model: LoadedModel
    device: torch.device
    bad: BadImages = field(default_factory=BadImages)
    _occurrences: Counter[str] = field(default_factory=Counter)

    def see(
        self,
        path: Path,
        wanted: Callable[[LabelledImage], bool],
        num_workers: int = 0,
        load_depth: LoadDepth = Record.load_depth,
        parts: int = 0,
        roll_deg: float = 0.0,
    ) -> SeenFolder:
        """Read a labelled folder, and run its images through the tower where that has not been done.

        Args:
            path: In the format of `proxqa_core.datasets.folder`.
            wanted: Whether an image, as it is labelled, is of use.
            num_workers: Processes that read images ahead.
            load_depth: Reads the depth map of an image that has no labels.
            parts: Of every image, drawn at random and shown too.
            roll_deg: Standard deviation of their roll, degrees.

        Raises:
            BadDatasetError: The folder is at fault.
        """
        place = self.work / FEATURES / str(self._occurrences[path.name])  # folders of the same name
        self._occurrences[path.name] += 1
        boxed = (self._boxed(image, load_depth) for image in read_images(LabelledFolder(path)) if wanted(image))
        images = [image for image in boxed if image is not None]
        drawn = [dataclasses.replace(i, record=part) for i in images for part in parts_of(i.record, parts, roll_deg)]
        seen = [
            *self._seen(path, images, place, 2, num_workers),
            *self._seen(path, drawn, place / (f"{PARTS}-roll-{roll_deg:g}" if roll_deg else PARTS), 1, num_workers),
        ]
        return SeenFolder(path, tuple(seen))

    def _seen(
        self, path: Path, images: Sequence[LabelledImage], place: Path, views: int, num_workers: int
    ) -> list[SeenImage]:
        """The images of a folder that can be used, with their features. views: of an image, as of `FeatureCache`."""
        if not images:
            return []
        made = FeatureCache(path, [i.record for i in images], self.model, place, views)
        features, _ = made.fill(num_workers)
        for name, reason in made.bad.items():
            self.bad.add(str(path / name), reason)
        seen = (SeenImage(image, features[views * i : views * (i + 1)]) for i, image in enumerate(images))
        return [s for s in seen if s.image.record.image not in made.bad]

    def _boxed(self, image: LabelledImage, load_depth: LoadDepth) -> LabelledImage | None:
        """The image with boxes, at random where there are no labels; None where that fails."""
        try:
            return dataclasses.replace(image, record=with_boxes(image.record, load_depth))
        except BadImageError as error:
            self.bad.add(str(image.record.folder / image.record.image), str(error))
            return None

    def write(self, file: str, network: nn.Module, record: dict[str, Any], **changes: Any) -> None:
        """Write the adapter with the network.

        Args:
            file: The network's, in the folder of the adapter.
            network: What was trained, written as float16.
            record: What it was made from: goes into `AdapterInfo.training` under the file's name.
            **changes: To the description.
        """
        changes["training"] = self.info.training | {Path(file).stem: record}
        weights = {k: v.detach().cpu().half().contiguous() for k, v in network.state_dict().items()}
        needed_bytes = sum(p.stat().st_size for p in self.adapter.iterdir() if p.is_file())
        with atomic_folder(self.out, needed_bytes) as folder:
            for path in self.adapter.iterdir():
                if path.is_file():
                    shutil.copyfile(path, folder / path.name)
            write_tensors(folder / file, weights)
            described = dataclasses.asdict(dataclasses.replace(self.info, **changes))
            (folder / INFO).write_text(json.dumps(described, indent=1) + "\n")


def begin_run(
    config: HeadConfig, adapter: Path, folders: Sequence[Path], out: Path, work: Path | None, device: str
) -> HeadRun:
    """Begin a run, or go on with it.

    Args:
        config: What shapes it.
        adapter: Folder of the adapter that it starts from.
        folders: What it is trained on.
        out: Folder to write.
        work: Folder of checkpoint, log and features (default: `.NAME.run` beside `out`).
        device: 'auto', 'cpu' or 'cuda'.

    Raises:
        ProxqaError: The adapter is at fault, or of another base, or the device cannot be used.
        ValueError: `out` is something else or the adapter itself, or another run was begun in `work`.
    """
    info = read_info(adapter)
    if info.base != base_identity():
        raise BadModelError(f"adapter {info.name!r} was made for base {info.base!r}, not for {base_identity()!r}")
    if out.resolve() == adapter.resolve():
        raise ValueError(f"--out {out}: is the adapter to start from; choose another")
    if out.exists() and not (out / INFO).is_file():
        raise ValueError(f"--out {out}: exists and is no adapter; choose another")
    work = work or run_folder(out)
    begin(work, config, adapter, folders)
    model = load(DEFAULT, NO_ADAPTER, device="cpu", dtype="float32")
    where = choose_device(device)
    model.llava.to(where)
    return HeadRun(adapter, info, out, work, model, where)


def train_steps(
    config: HeadConfig,
    network: nn.Module,
    losses: Callable[[int], tuple[torch.Tensor, dict[str, float]]],
    checkpoint: Path,
    metrics: Callable[..., None],
    stage: str,
    minutes_between_checkpoints: float = CHECKPOINT_MINUTES,
) -> None:
    """Train a network, or what is left of it, by AdamW with a cosine of the learning rate.

    Args:
        config: Says how many steps, and the rates.
        network: What is trained; in eval mode afterwards.
        losses: The loss of a step, and figures.
        checkpoint: The file; read where there is one.
        metrics: Called with `stage`, `step` and the figures of every tenth step.
        stage: What it is called.
        minutes_between_checkpoints: 0 = after every step.
    """
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), config.lr, (0.9, 0.98), weight_decay=config.weight_decay)
    first, saved, smooth = load_checkpoint(checkpoint, optimizer), time.perf_counter(), RunningMean(0.97)
    bar = progress(range(first, config.num_steps), initial=first, total=config.num_steps, desc=stage, unit="step")
    for step in bar:
        for group in optimizer.param_groups:
            group["lr"] = config.lr * cosine_with_warmup(step, config.num_steps, config.warmup_ratio, LR_FLOOR)
        torch.manual_seed(step)  # what a resumed run draws is what an unbroken one would
        loss, figures = losses(step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), MAX_GRADIENT_NORM)
        optimizer.step()
        smooth.update(figures)
        if step % LOG_EVERY_STEPS == 0:
            bar.set_postfix(smooth.as_text())
            metrics(stage=stage, step=step, **figures)
        if time.perf_counter() - saved > 60 * minutes_between_checkpoints:
            save_checkpoint(checkpoint, step + 1, optimizer)
            saved = time.perf_counter()
    save_checkpoint(checkpoint, config.num_steps, optimizer)
    network.eval()
