"""Fine-tune an adapter on labelled folders of one's own, such as `proxqa record` writes.

Promises: training begins with the start's LoRA weights and projector as they are and keeps its grounding head; the same
command again goes on where the last one stopped, and is refused where data, settings or start are others by now. The
result is an adapter folder, to be used with `proxqa … --adapter`, with nothing else in it. Some images are held out,
and both adapters are asked about them in the end.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from proxqa_core.datasets.folder import ANNOTATIONS, LabelledFolder
from proxqa_core.errors import BadModelError, ProxqaError
from proxqa_core.model import adapter as adapters
from proxqa_core.model.base_weights import base_identity
from proxqa_core.model.loading import DEFAULT, DEFAULT_ADAPTER, NO_ADAPTER, load
from proxqa_training.begun import begin, read_begun, run_folder
from proxqa_training.config_file import read_config
from proxqa_training.distributed import DistributedContext
from proxqa_training.labels import require_apart
from proxqa_training.stages import held_out
from proxqa_training.stages.config import LoraSettings, RunConfig, StageConfig
from proxqa_training.stages.data import FeatureDataset, open_dataset_distributed
from proxqa_training.stages.run import FEATURES, run_stages, training_record, write_adapter
from proxqa_training.stages.trainer import Trainer

log = logging.getLogger(__name__)

CONFIG = Path(__file__).parents[1] / "configs" / "finetune.yaml"
MAX_NAMED = 8
"""Most images that are named."""
HELD_OUT = "held_out"
"""Folder of the images that are not trained on, in that of a run."""


def with_num_samples(config: RunConfig, num_samples: int) -> RunConfig:
    """The same run over another number of image conversations, its stages in proportion, each at least one.

    No batch is larger than its stage.

    Args:
        config: The run.
        num_samples: Image conversations in all.

    Raises:
        ValueError: num_samples is below 1.
    """
    if num_samples < 1:
        raise ValueError(f"--num-samples {num_samples}: expected at least 1")
    total = sum(stage.num_samples for stage in config.stages)

    def resized(stage: StageConfig) -> StageConfig:
        number = max(1, round(num_samples * stage.num_samples / total))
        return dataclasses.replace(stage, num_samples=number, batch_size=min(stage.batch_size, number))

    return dataclasses.replace(config, stages=tuple(map(resized, config.stages)))


def check_config(config: RunConfig, path: Path) -> None:
    """Check that a configuration can be one of fine-tuning.

    Raises:
        ValueError: It has no stages, or settings of new LoRA weights.
    """
    if not config.stages:
        raise ValueError(f"{path}: has no stages; expected at least one")
    if config.lora != LoraSettings():
        raise ValueError(f"{path}: lora is {config.lora}; leave it out: rank and alpha are those of the start")


def _val_fraction(asked: float | None, validate: Path | None, work: Path) -> float:
    """The share to hold out: as asked; else none of a run that is judged on others, or begun before there was one."""
    if asked is not None:
        if not 0 <= asked < 1:
            raise ValueError(f"--val-fraction {asked}: expected a share from 0 to below 1")
        return asked
    begun = read_begun(work)
    return 0.0 if validate is not None or (begun and "val_fraction" not in begun) else held_out.VAL_FRACTION


def summary(data: FeatureDataset) -> str:
    """One line about what there is to train on.

    Raises:
        ValueError: There is nothing.
    """
    plain = data.samples[::2]  # the others are their mirror images
    objects = [o for sample in plain for o in sample.objects]
    if not objects:
        raise ValueError("there is not one labelled object to train on")
    measured = sum(o.depth is not None for o in objects)
    count = len(plain) - len(data.bad)
    line = f"{count} images, {len(objects)} objects of {len(data.names)} names, {measured} of them with depth"
    if data.bad:
        line += f"; {len(data.bad)} images cannot be used"
    if not any(sample.absent for sample in plain):
        line += "; nothing is known to be absent, so that it may forget to say 'not visible' (proxqa record --complete)"
    return line


def finetune(
    folders: Sequence[Path],
    out: Path,
    num_samples: int | None = None,
    start: Path = DEFAULT_ADAPTER,
    config_file: Path = CONFIG,
    work: Path | None = None,
    num_workers: int = 0,
    device: str = "auto",
    dtype: str = "auto",
    val_fraction: float | None = None,
    validate: Path | None = None,
) -> dict[str, Any]:
    """Fine-tune an adapter, write the new one, and judge both on images that were held out.

    Args:
        folders: Labelled folders to train on.
        out: Folder of the new adapter.
        num_samples: Image conversations in all (default: as configured).
        start: The adapter to go on from.
        config_file: YAML of a `RunConfig`.
        work: Folder of checkpoints, log and features (default: `run_folder`).
        num_workers: Processes that prepare conversations ahead.
        device: 'auto', 'cpu' or 'cuda'.
        dtype: 'auto', 'float32' or 'bfloat16'.
        val_fraction: Share of the images with depth that is held out, in [0, 1) (default: `held_out.VAL_FRACTION`, 0
            where there is `validate`).
        validate: A labelled folder to judge on, in place of images that are held out.

    Returns:
        As of `write_adapter`, with `run`, its folder, `judged`, as of `held_out.judge`, and where that is None
        `not_judged`, why.

    Raises:
        ProxqaError: A folder or an adapter is at fault, or images of `validate` are trained on too.
        ValueError: Something cannot be done as asked, or there is nothing to train on.
    """
    started_s = time.perf_counter()
    config = read_config(config_file, RunConfig)
    check_config(config, config_file)
    if num_samples is not None:
        config = with_num_samples(config, num_samples)
    info = adapters.read_info(start)
    _check_paths(info, [*folders, *([] if validate is None else [validate])], start, out)
    work = work or run_folder(out)
    val_fraction = _val_fraction(val_fraction, validate, work)
    trained, judged_on = held_out.split(folders, val_fraction)
    require_apart(trained, [] if validate is None else [validate])
    context = DistributedContext(device)
    if context.is_main_process:
        begin(work, config, start, folders, val_fraction)
        _log_without_boxes(trained)
    model = load(DEFAULT, NO_ADAPTER, device="cpu", dtype="float32")
    adapters.load_projector_into(model.llava, start)
    grounding_head = adapters.read_grounding_head(start) if info.grounding_head else None
    boxes = adapters.read_box_embedding(start) if info.box_embedding else None
    order_head = adapters.read_order_head(start) if info.order_head else None  # of the tower alone: stays as it is
    data = open_dataset_distributed(trained, model, work / FEATURES, context, num_workers, dtype)
    what = summary(data)
    if context.is_main_process:
        log.info("%s; from %r; %d images are held out", what, info.name, sum(map(len, judged_on)))
    lora = adapters.read_lora(start)
    trainer = run_stages(
        config, data, model, grounding_head, work, context, lora, num_workers, dtype, boxes, info.box_coordinates
    )
    training = {"start": info.name, **training_record(trainer, config, started_s)}
    report = write_adapter(out, _info(info, out.name, training, trainer), trainer, order_head)
    if not report:
        return report
    if validate is None and held_out.write_folder(judged_on, work / HELD_OUT):
        validate = work / HELD_OUT
    judged, why_not = _judged(start, out, validate, device, dtype)
    return {**report, "run": str(work), "judged": judged, "not_judged": why_not}


def _info(info: adapters.AdapterInfo, name: str, training: dict[str, Any], trainer: Trainer) -> adapters.AdapterInfo:
    """What a fine-tuned adapter is. info: what the one was that it went on from."""
    return dataclasses.replace(
        info,
        name=name,
        training=training,
        region_token=True,
        box_coordinates=trainer.box_form.coordinates,
        box_embedding=trainer.box_embedding is not None,
    )


def _judged(start: Path, out: Path, folder: Path | None, device: str, dtype: str) -> tuple[dict[str, Any] | None, str]:
    """As of `held_out.judge`; None and why not, where it cannot be judged: the adapter is written all the same."""
    if folder is None:
        return None, "no image with depth was held out; --validate FOLDER judges on another"
    log.info("asking before and after about %s", folder)
    try:
        return held_out.judge(start, out, folder, device, dtype), ""
    except ProxqaError as error:
        return None, str(error)


def as_text(report: dict[str, Any]) -> str:
    """What `finetune` returned, for people."""
    adapter = Path(report["adapter"])
    judged = report["judged"]
    return "\n".join(
        [
            f"wrote {adapter}; {report['run']} (checkpoints, log, features) is needed only to resume",
            f"not judged: {report['not_judged']}" if judged is None else held_out.as_text(judged, adapter),
        ]
    )


def _log_without_boxes(folders: Sequence[LabelledFolder]) -> None:
    """Name the images that teach nothing."""
    for folder in folders:
        empty = [r.image for r in folder.records if not r.objects and r.depth_map is None]
        if empty:
            log.info(
                "%s: %d of %d images have no boxes and no depth and are left out: %s",
                folder.path,
                len(empty),
                len(folder),
                ", ".join(empty[:MAX_NAMED]) + (", …" if len(empty) > MAX_NAMED else ""),
            )


def _check_paths(info: adapters.AdapterInfo, folders: Sequence[Path], start: Path, out: Path) -> None:
    """What can be told before a model is loaded."""
    if info.base != base_identity():
        raise BadModelError(f"adapter {info.name!r} was made for base {info.base!r}, not for {base_identity()!r}")
    if out.exists() and not (out / adapters.INFO).is_file():
        raise ValueError(f"--out {out}: exists and is no adapter; choose another")
    if out.resolve() == start.resolve():
        raise ValueError(f"--out {out}: is the adapter to start from, which is asked for comparison; choose another")
    for folder in folders:
        if not (folder / ANNOTATIONS).is_file():
            raise ValueError(f"{folder}: has no {ANNOTATIONS}; expected a labelled folder, as proxqa record writes")
