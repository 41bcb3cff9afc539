"""Both stages from one configuration: train them from a projector and a grounding head, write the adapter.

Promises: everything that shapes the result is in the configuration and the data; the same command again goes on where
the last one stopped, and is refused where data, settings or start are others by now.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from proxqa_core.language.templates import BoxForm
from proxqa_core.model import adapter as adapters
from proxqa_core.model.adapter import AdapterInfo, Lora
from proxqa_core.model.base_weights import base_identity
from proxqa_core.model.loading import DEFAULT, NO_ADAPTER, LoadedModel, load
from proxqa_core.vision.box_embedding import BoxEmbedding
from proxqa_core.vision.grounding_head import GroundingHead
from proxqa_core.vision.order_head import OrderHead
from proxqa_training.begun import begin
from proxqa_training.distributed import DistributedContext
from proxqa_training.logs import LOG_FILE, MetricsLogger
from proxqa_training.stages.config import RunConfig
from proxqa_training.stages.data import FeatureDataset, open_dataset_distributed
from proxqa_training.stages.trainer import Trainer

log = logging.getLogger(__name__)

FEATURES, ADAPTER = "features", "adapter"
"""Folders in that of a run."""


def load_start(folder: Path, model: LoadedModel) -> GroundingHead | None:
    """Put the projector of a tower's run or of an adapter into a model.

    Args:
        folder: Of the run or the adapter.
        model: Changed in place.

    Returns:
        The grounding head of the folder, if it has one.

    Raises:
        ValueError: The folder has no projector.
    """
    if not (folder / adapters.PROJECTOR).is_file():
        raise ValueError(f"{folder}: has no {adapters.PROJECTOR}; expected the run of a tower or an adapter")
    projector = load_file(folder / adapters.PROJECTOR)
    model.llava.model.multi_modal_projector.load_state_dict({k: v.float() for k, v in projector.items()})
    return adapters.read_grounding_head(folder) if (folder / adapters.GROUNDING_HEAD).is_file() else None


def training_record(trainer: Trainer, config: RunConfig, started_s: float) -> dict[str, Any]:
    """What an adapter was made from, for `AdapterInfo.training`.

    Args:
        trainer: That made it.
        config: What shaped it.
        started_s: When, by `time.perf_counter`.
    """
    return {
        "images": len(trainer.data.samples) // 2 - len(trainer.data.bad),  # the others are their mirror images
        "bad_images": trainer.data.bad.report(),
        "photographs": len(trainer.photos) // 2,
        "config": dataclasses.asdict(config),
        "hours": round((time.perf_counter() - started_s) / 3600, 2),
    }


def run_stages(
    config: RunConfig,
    data: FeatureDataset,
    model: LoadedModel,
    grounding_head: GroundingHead | None,
    out: Path,
    context: DistributedContext | None = None,
    lora: Lora | None = None,
    num_workers: int = 0,
    dtype: str = "auto",
    box_embedding: BoxEmbedding | None = None,
    box_coordinates: bool = False,
) -> Trainer:
    """Train all stages.

    Args:
        config: What shapes the run.
        data: What to train on.
        model: The default model with the projector to start from; changed in place.
        grounding_head: What finds names.
        out: Folder of the run.
        context: This process among those of the run.
        lora: Weights to go on from, in place of config.lora.
        num_workers: Processes that prepare conversations ahead.
        dtype: 'auto', 'float32' or 'bfloat16'.
        box_embedding: To go on from; None = a new one where the configuration asks for one.
        box_coordinates: Whether boxes are told by coordinates where the configuration does not say.

    Returns:
        The trainer, which holds the result.
    """
    out.mkdir(parents=True, exist_ok=True)
    metrics = MetricsLogger(out / LOG_FILE)
    if box_embedding is None and config.box_embedding:
        torch.manual_seed(config.seed)
        box_embedding = BoxEmbedding(model.spec.word)
    trainer = Trainer(
        model,
        data,
        lora or config.lora,
        out,
        config.seed,
        torch_compile=config.torch_compile,
        grounding_head=grounding_head,
        context=context,
        num_workers=num_workers,
        dtype=dtype,
        box_embedding=box_embedding,
        box_form=BoxForm(coordinates=config.box_coordinates if config.box_coordinates is not None else box_coordinates),
    )
    for stage in config.stages:
        trainer.run(stage, metrics)
        trainer.restore(stage.name)
    return trainer


def train_stages(
    config: RunConfig,
    start: Path,
    folders: Sequence[Path],
    out: Path,
    cache: Path | None = None,
    adapter: Path | None = None,
    num_workers: int = 0,
    device: str = "auto",
    dtype: str = "auto",
) -> dict[str, Any]:
    """Train new LoRA weights and write the adapter.

    Args:
        config: What shapes the run.
        start: Run of a tower, or an adapter, whose projector and grounding head are the start.
        folders: Labelled folders to train on.
        out: Folder of the run: checkpoints and log.
        cache: Folder of the features (default: inside `out`).
        adapter: Folder to write (default: inside `out`).
        num_workers: Processes that prepare conversations ahead.
        device: 'auto', 'cpu' or 'cuda'.
        dtype: 'auto', 'float32' or 'bfloat16'.

    Returns:
        `adapter`, the folder written, and `training`, the record in it; nothing in processes that do not write.

    Raises:
        ProxqaError: A folder, an adapter or a package of weights is at fault.
        ValueError: The start has no projector, or another run was begun in `out`.
    """
    started_s = time.perf_counter()
    context = DistributedContext(device)
    model = load(DEFAULT, NO_ADAPTER, device="cpu", dtype="float32")
    grounding_head = load_start(start, model)
    if context.is_main_process:
        begin(out, config, start, folders)
    data = open_dataset_distributed(folders, model, cache or out / FEATURES, context, num_workers, dtype)
    trainer = run_stages(config, data, model, grounding_head, out, context, num_workers=num_workers, dtype=dtype)
    info = AdapterInfo(
        config.name,
        base_identity(),
        box_coordinates=trainer.box_form.coordinates,
        box_embedding=trainer.box_embedding is not None,
        grounding_head=grounding_head is not None,
    )
    info = dataclasses.replace(info, training=training_record(trainer, config, started_s))
    return write_adapter(adapter or out / ADAPTER, info, trainer)


def write_adapter(
    folder: Path, info: AdapterInfo, trainer: Trainer, order_head: OrderHead | None = None
) -> dict[str, Any]:
    """Write what a trainer holds, in the main process.

    Args:
        folder: Of the adapter.
        info: What goes with the weights.
        trainer: That has finished.
        order_head: Goes with them; None = there is none.

    Returns:
        `adapter`, the folder, and `training`, the record in it; nothing in processes that do not write.
    """
    if not trainer.context.is_main_process:
        return {}
    networks = (trainer.grounding_head, trainer.box_embedding, order_head)
    adapters.save(folder, info, trainer.projector.state_dict(), trainer.llm, *networks)
    log.info("wrote %s", folder)
    return {"adapter": str(folder), "training": info.training}
