"""Fine-tune an adapter on labelled folders of one's own, such as `proxqa record` writes.

`python -m proxqa_training.stages.finetune FOLDER … --out ADAPTER [--images N] [--start ADAPTER]`

Promises: training begins with the start's LoRA weights and projector as they are and keeps its grounding head; the same
command again goes on where the last one stopped, and is refused where data, settings or start are others by now. The
result is an adapter folder, to be used with `proxqa … --adapter`. Knows nothing of how anything is computed.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from proxqa_core.datasets.folder import ANNOTATIONS
from proxqa_core.errors import BadModelError, ProxqaError
from proxqa_core.model import adapter as adapters
from proxqa_core.model.base_weights import base_identity
from proxqa_core.model.loading import DEFAULT, DEFAULT_ADAPTER, NO_ADAPTER, load
from proxqa_training.distributed import DistributedContext
from proxqa_training.stages.data import TrainingSet
from proxqa_training.stages.run import RunConfig, open_together, read_config, run, what_was_done
from proxqa_training.stages.trainer import LoraSettings

CONFIG = Path(__file__).parents[1] / "configs" / "finetune.yaml"
BEGUN = "begun.json"


def with_images(config: RunConfig, images: int) -> RunConfig:
    """The same run over so many image conversations in all, its stages in proportion, each at least one."""
    if images < 1:
        raise ValueError(f"--images {images}: expected at least 1")
    total = sum(stage.images for stage in config.stages)
    stages = (dataclasses.replace(s, images=max(1, round(images * s.images / total))) for s in config.stages)
    return dataclasses.replace(config, stages=tuple(stages))


def check_config(config: RunConfig, path: Path) -> None:
    """ValueError where a configuration cannot be one of fine-tuning."""
    if not config.stages:
        raise ValueError(f"{path}: has no stages; expected at least one")
    if config.lora != LoraSettings():
        raise ValueError(f"{path}: lora is {config.lora}; leave it out: rank and alpha are those of the start")


def begin(work: Path, config: RunConfig, start: Path, folders: Sequence[Path]) -> None:
    """Note in `work` what the run is made from. ValueError where another run was begun there."""
    about = {
        "start": {name: _digest(start / name) for name in (adapters.LORA, adapters.PROJECTOR)},
        "folders": [{"name": f.name, ANNOTATIONS: _digest(f / ANNOTATIONS)} for f in folders],
        "config": dataclasses.asdict(config),
    }
    about = json.loads(json.dumps(about))  # tuples are lists when they come back
    file = work / BEGUN
    if file.exists():
        try:
            earlier: Any = json.loads(file.read_text())
        except ValueError:
            earlier = None
        odd = [k for k in about if not isinstance(earlier, dict) or earlier.get(k) != about[k]]
        if odd:
            raise ValueError(f"{work}: a run with other {odd[0]} was begun there; delete it, or choose another --run")
        return
    work.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    part.write_text(json.dumps(about, indent=1) + "\n")
    part.replace(file)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def about(data: TrainingSet) -> str:
    """One line about what there is to train on. ValueError where there is nothing."""
    plain = data.samples[::2]  # the others are their mirror images
    objects = [o for sample in plain for o in sample.objects]
    if not objects:
        raise ValueError("there is not one labelled object to train on")
    measured = sum(o.depth is not None for o in objects)
    line = f"{len(plain)} images, {len(objects)} objects of {len(data.names)} names, {measured} of them with depth"
    if not any(sample.absent for sample in plain):
        line += "; nothing is known to be absent, so that it may forget to say 'not visible' (proxqa record --complete)"
    return line


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m proxqa_training.stages.finetune", description=__doc__.splitlines()[0]
    )
    parser.add_argument("folders", metavar="FOLDER", type=Path, nargs="+", help="labelled folders to train on")
    parser.add_argument("--out", metavar="ADAPTER", type=Path, required=True, help="where to write the adapter")
    parser.add_argument("--images", metavar="N", type=int, help="image conversations in all (default: as configured)")
    parser.add_argument(
        "--start", metavar="ADAPTER", type=Path, default=DEFAULT_ADAPTER, help="to go on from (default: in the box)"
    )
    parser.add_argument("--config", metavar="FILE", type=Path, default=CONFIG, help="default: configs/finetune.yaml")
    parser.add_argument("--run", metavar="DIR", type=Path, help="checkpoints, log, features (default: ADAPTER.run)")
    parser.add_argument("--workers", type=int, default=0, help="processes that prepare turns ahead (default: none)")
    args = parser.parse_args(argv)
    try:
        config = read_config(args.config)
        check_config(config, args.config)
        if args.images is not None:
            config = with_images(config, args.images)
        info = adapters.read_info(args.start)
        if info.base != base_identity():
            raise BadModelError(f"adapter {info.name!r} was made for base {info.base!r}, not for {base_identity()!r}")
        if args.out.exists() and not (args.out / adapters.INFO).is_file():
            raise ValueError(f"--out {args.out}: exists and is no adapter; choose another")
        for folder in args.folders:
            if not (folder / ANNOTATIONS).is_file():
                raise ValueError(f"{folder}: has no {ANNOTATIONS}; expected a labelled folder, as proxqa record writes")
        started = time.perf_counter()
        world = DistributedContext()
        work = args.run or args.out.with_name(f"{args.out.name}.run")
        if world.writes:
            begin(work, config, args.start, args.folders)
        model = load(DEFAULT, NO_ADAPTER, device="cpu", dtype="float32")
        adapters.put_projector(model.llava, args.start)
        grounding_head = adapters.read_grounding_head(args.start) if info.grounding_head else None
        data = open_together(args.folders, model, work / "features", world, args.workers)
        said = about(data)
        if world.writes:
            print(f"{said}; from {info.name!r}", file=sys.stderr)
        lora = adapters.read_lora(args.start)
        trainer = run(config, data, model, grounding_head, work, world, lora, args.workers)
        training = {"start": info.name, **what_was_done(trainer, config, started)}
        done = dataclasses.replace(info, name=args.out.name, training=training)
        if world.writes:
            adapters.save(args.out, done, trainer.projector.state_dict(), trainer.llm, grounding_head)
            print(f"wrote {args.out}")
    except (ProxqaError, ValueError, OSError) as error:
        print(f"finetune: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
