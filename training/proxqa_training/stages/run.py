"""One training run from one YAML file: train the stages from a projector and a grounding head, write the adapter.

`python -m proxqa_training.stages.run training/proxqa_training/configs/default.yaml --start TOWER_RUN --data DIR … --out RUN [--adapter FOLDER]`

Promises: everything that shapes the result is in the YAML and the data; the same command again goes on where the last
one stopped. Knows nothing of how anything is computed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import load_file

from proxqa_core.errors import ProxqaError
from proxqa_core.model import adapter as adapters
from proxqa_core.model.adapter import AdapterInfo, Lora
from proxqa_core.model.base_weights import base_identity
from proxqa_core.model.loading import DEFAULT, NO_ADAPTER, LoadedModel, choose_dtype, load
from proxqa_core.vision.grounding_head import GroundingHead
from proxqa_training.distributed import DistributedContext
from proxqa_training.instructions.build import Recipe
from proxqa_training.stages.data import TrainingSet, open_set
from proxqa_training.stages.trainer import LoraSettings, StageConfig, Trainer


@dataclass(frozen=True)
class RunConfig:
    """A whole run. name: of the adapter. stages: in order. compiled: with torch.compile (needs a C++ compiler)."""

    name: str
    seed: int = 0
    lora: LoraSettings = field(default_factory=LoraSettings)
    stages: tuple[StageConfig, ...] = ()
    compiled: bool = True


def read_config(path: Path) -> RunConfig:
    """A RunConfig from YAML. ValueError quoting what is unknown or out of range."""

    def build(kind: Any, values: Any, where: str) -> Any:
        if not isinstance(values, dict):
            raise ValueError(f"{path}: {where} is {values!r}; expected a mapping")
        known = {f.name for f in dataclasses.fields(kind)}
        if unknown := sorted(set(values) - known):
            raise ValueError(f"{path}: {where} has unknown {unknown}; expected some of {sorted(known)}")
        return kind(**values)

    raw = yaml.safe_load(path.read_text())
    stages = []
    for values in raw.get("stages", []):
        recipe = build(Recipe, values.get("recipe", {}), f"recipe of stage {values.get('name')}")
        stages.append(build(StageConfig, {**values, "recipe": recipe}, "a stage"))
    parts = {
        "lora": build(LoraSettings, raw.get("lora", {}), "lora"),
        "stages": tuple(stages),
    }
    config: RunConfig = build(RunConfig, {**raw, **parts}, "the run")
    return config


def logger(path: Path) -> Callable[..., None]:
    """Appends one JSON line a call."""

    def log(**values: Any) -> None:
        with path.open("a") as file:
            file.write(json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in values.items()}) + "\n")

    return log


def start_from(folder: Path, model: LoadedModel) -> GroundingHead | None:
    """Put the projector of a tower's run or of an adapter into the model; returns its grounding head, if it has one."""
    projector = load_file(folder / adapters.PROJECTOR)
    model.llava.model.multi_modal_projector.load_state_dict({k: v.float() for k, v in projector.items()})
    return adapters.read_grounding_head(folder) if (folder / adapters.GROUNDING_HEAD).is_file() else None


def open_together(
    folders: list[Path], model: LoadedModel, cache: Path, world: DistributedContext, workers: int
) -> TrainingSet:
    """`open_set` in all processes, where one makes the features that the others read. Moves the model to its device."""
    model.llava.to(world.device, choose_dtype("auto", world.device))
    data = open_set(folders, model, cache, workers) if world.writes else None
    world.wait()
    return open_set(folders, model, cache) if data is None else data


def what_was_done(trainer: Trainer, config: RunConfig, started: float) -> dict[str, Any]:
    """For `AdapterInfo.training`. started: of `time.perf_counter`."""
    return {
        "images": len(trainer.data.samples) // 2,
        "photographs": len(trainer.photos) // 2,
        "config": dataclasses.asdict(config),
        "hours": round((time.perf_counter() - started) / 3600, 2),
    }


def run(
    config: RunConfig,
    data: TrainingSet,
    model: LoadedModel,
    grounding_head: GroundingHead | None,
    out: Path,
    world: DistributedContext | None = None,
    lora: Lora | None = None,
    workers: int = 0,
) -> Trainer:
    """Train all stages; returns the trainer that holds the result. lora: to go on from, in place of config.lora.

    workers: processes that prepare conversations ahead.
    """
    out.mkdir(parents=True, exist_ok=True)
    log = logger(out / "log.jsonl")
    trainer = Trainer(
        model, data, lora or config.lora, out, config.seed, config.compiled, grounding_head, world, workers
    )
    for stage in config.stages:
        trainer.run(stage, log)
        trainer.restore(stage.name)
    return trainer


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m proxqa_training.stages.run", description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument(
        "--start", type=Path, required=True, help="run of proxqa_training.tower.run, or an adapter to go on from"
    )
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="labelled folders to train on")
    parser.add_argument("--cache", type=Path, help="where image features are kept (default: OUT/features)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run: checkpoints and log")
    parser.add_argument("--adapter", type=Path, help="where to write the adapter (default: OUT/adapter)")
    parser.add_argument("--workers", type=int, default=0, help="processes that prepare turns ahead (default: none)")
    args = parser.parse_args(argv)
    try:
        config = read_config(args.config)
        started = time.perf_counter()
        world = DistributedContext()
        model = load(DEFAULT, NO_ADAPTER, device="cpu", dtype="float32")
        grounding_head = start_from(args.start, model)
        data = open_together(args.data, model, args.cache or args.out / "features", world, args.workers)
        trainer = run(config, data, model, grounding_head, args.out, world, workers=args.workers)
        info = AdapterInfo(config.name, base_identity(), grounding_head=grounding_head is not None)
        info = dataclasses.replace(info, training=what_was_done(trainer, config, started))
        target = args.adapter or args.out / "adapter"
        if world.writes:
            adapters.save(target, info, trainer.projector.state_dict(), trainer.llm, grounding_head)
            print(f"wrote {target}")
    except (ProxqaError, ValueError, OSError) as error:
        print(f"training: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
