"""Fine-tune an adapter on labelled folders of one's own, such as `proxqa record` writes.

Promises: training begins with the start's LoRA weights and projector as they are and keeps its grounding head; the same
command again goes on where the last one stopped, and is refused where data, settings or start are others by now. The
result is an adapter folder, to be used with `proxqa … --adapter`.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from proxqa_core.datasets.folder import ANNOTATIONS
from proxqa_core.errors import BadModelError
from proxqa_core.files import sha256, write_text
from proxqa_core.model import adapter as adapters
from proxqa_core.model.base_weights import base_identity
from proxqa_core.model.loading import DEFAULT, DEFAULT_ADAPTER, NO_ADAPTER, load
from proxqa_training.config_file import read_config
from proxqa_training.distributed import DistributedContext
from proxqa_training.stages.config import LoraSettings, RunConfig, StageConfig
from proxqa_training.stages.data import FeatureDataset, open_dataset_distributed
from proxqa_training.stages.run import FEATURES, run_stages, training_record, write_adapter

log = logging.getLogger(__name__)

CONFIG = Path(__file__).parents[1] / "configs" / "finetune.yaml"
BEGUN = "begun.json"


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


def begin(work: Path, config: RunConfig, start: Path, folders: Sequence[Path]) -> None:
    """Note in the run's folder what it is made from.

    Args:
        work: Folder of the run.
        config: What shapes it.
        start: The adapter it starts from.
        folders: What it is trained on.

    Raises:
        ValueError: Another run was begun there.
    """
    about = {
        "start": {name: sha256(start / name) for name in (adapters.LORA, adapters.PROJECTOR)},
        "folders": [{"name": f.name, ANNOTATIONS: sha256(f / ANNOTATIONS)} for f in folders],
        "config": dataclasses.asdict(config),
    }
    about = json.loads(json.dumps(about))  # tuples are lists when they come back
    file = work / BEGUN
    if not file.exists():
        work.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps(about, indent=1) + "\n")
        return
    try:
        earlier: Any = json.loads(file.read_text())
    except ValueError:
        earlier = None
    changed = [k for k in about if not isinstance(earlier, dict) or earlier.get(k) != about[k]]
    if changed:
        raise ValueError(f"{work}: a run with other {changed[0]} was begun there; delete it, or choose another --run")


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
) -> dict[str, Any]:
    """Fine-tune an adapter and write the new one.

    Args:
        folders: Labelled folders to train on.
        out: Folder of the new adapter.
        num_samples: Image conversations in all (default: as configured).
        start: The adapter to go on from.
        config_file: YAML of a `RunConfig`.
        work: Folder of checkpoints, log and features (default: `out` with .run behind it).
        num_workers: Processes that prepare conversations ahead.
        device: 'auto', 'cpu' or 'cuda'.
        dtype: 'auto', 'float32' or 'bfloat16'.

    Returns:
        As of `write_adapter`.

    Raises:
        ProxqaError: A folder or an adapter is at fault.
        ValueError: Something cannot be done as asked, or there is nothing to train on.
    """
    started_s = time.perf_counter()
    config = read_config(config_file, RunConfig)
    check_config(config, config_file)
    if num_samples is not None:
        config = with_num_samples(config, num_samples)
    info = adapters.read_info(start)
    _check_paths(info, folders, out)
    context = DistributedContext(device)
    work = work or out.with_name(f"{out.name}.run")
    if context.is_main_process:
        begin(work, config, start, folders)
    model = load(DEFAULT, NO_ADAPTER, device="cpu", dtype="float32")
    adapters.load_projector_into(model.llava, start)
    grounding_head = adapters.read_grounding_head(start) if info.grounding_head else None
    data = open_dataset_distributed(folders, model, work / FEATURES, context, num_workers, dtype)
    what = summary(data)
    if context.is_main_process:
        log.info("%s; from %r", what, info.name)
    lora = adapters.read_lora(start)
    trainer = run_stages(config, data, model, grounding_head, work, context, lora, num_workers, dtype)
    training = {"start": info.name, **training_record(trainer, config, started_s)}
    return write_adapter(out, dataclasses.replace(info, name=out.name, training=training), trainer)


def _check_paths(info: adapters.AdapterInfo, folders: Sequence[Path], out: Path) -> None:
    """What can be told before a model is loaded."""
    if info.base != base_identity():
        raise BadModelError(f"adapter {info.name!r} was made for base {info.base!r}, not for {base_identity()!r}")
    if out.exists() and not (out / adapters.INFO).is_file():
        raise ValueError(f"--out {out}: exists and is no adapter; choose another")
    for folder in folders:
        if not (folder / ANNOTATIONS).is_file():
            raise ValueError(f"{folder}: has no {ANNOTATIONS}; expected a labelled folder, as proxqa record writes")
