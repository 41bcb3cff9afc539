"""The commands of `proxqa train …`.

Promises: options and help of each command are here; torch, Blender and matplotlib are imported by the command that is
run, so that `proxqa train --help` answers at once. Commands raise ProxqaError, ValueError (bad input) or OSError.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxqa_core.cli.common import (
    DTYPES,
    PROMPTS,
    count,
    count_or_none,
    input_file,
    input_folder,
    labelled_folder,
    output_file,
    positive,
    report_options,
    share,
    write_report,
)
from proxqa_core.cli.names import names_report
from proxqa_core.cli.tables import names_table
from proxqa_core.model.taught_names import NAMES
from proxqa_training.scenes.camera import ROLL_DEG
from proxqa_training.scenes.catalogue import CACHE_DIR, MODELS_DIR

if TYPE_CHECKING:
    SubParsers = argparse._SubParsersAction[argparse.ArgumentParser]

log = logging.getLogger(__name__)

TRAINING_DEVICES = ("auto", "cpu", "cuda")
TRAINING_DTYPES = ("auto", "float32", "bfloat16")
"""Without float16, whose gradients would vanish."""

Options = argparse.Namespace


def add_commands(
    commands: SubParsers, parser_class: type[argparse.ArgumentParser], parents: Sequence[argparse.ArgumentParser]
) -> None:
    """Add the commands of `proxqa train`.

    Args:
        commands: The sub-parsers of `proxqa train`.
        parser_class: Of parsers made here.
        parents: Parent parsers with the options that all commands have.
    """

    def add(name: str, run: Callable[[Options], None], summary: str, *more: argparse.ArgumentParser) -> Any:
        parser = commands.add_parser(
            name,
            parents=[*parents, report_options(), *more],
            help=summary,
            description=summary[:1].upper() + summary[1:] + ".",
        )
        parser.set_defaults(command=run)
        return parser

    training = _training_options(parser_class)
    workers = _workers_option(parser_class)
    inference = _inference_options(parser_class)
    models = _models_options(parser_class)
    _add_scenes(add("scenes", scenes, "render scenes with true depth and names", models))
    _add_drive(add("drive", drive, "render a robot's drive through a room", models))
    _add_contact_sheet(add("contact-sheet", contact_sheet, "many images of a data set in one picture"))
    _add_tower(add("tower", tower, "train vision tower, projector and grounding head", training, workers))
    _add_run(add("run", run, "train both stages from a configuration, write an adapter", training, workers))
    _add_finetune(add("finetune", finetune, "fine-tune an adapter on your own folders", training, workers))
    for stage in ("perceive", "reason"):
        parser = add(
            stage, train_stage, f"train the {stage} stage of any LLaVA on LLaVA conversations", training, workers
        )
        parser.set_defaults(stage=stage)
        _add_stage(parser)
    _add_convert(add("convert", convert, "make an adapter of a LoRA folder of LLaVA's own code"))
    _add_head(add("grounding", grounding, "teach an adapter's grounding head more names", workers), "grounding")
    _add_head(add("order", order, "train the head that tells which of two boxes is nearer", workers), "order")
    _add_calibrate(add("calibrate", calibrate, "make an adapter as sure as it is right", inference))
    _add_names(add("names", names, "measure how well an adapter finds each name that it was taught", inference, models))
    _add_colours(add("colours", colours, "train the reader of colours"))
    _add_compare(add("compare", compare, "two adapters asked the same, with intervals", inference))
    _add_curves(add("curves", curves, "draw the curves of runs (needs matplotlib)"))


# --- groups of options -----------------------------------------------------------------------------------------------


def _training_options(parser_class: type[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    parser = parser_class(add_help=False)
    parser.add_argument("--device", default="auto", choices=TRAINING_DEVICES, help="where to train (default: auto)")
    parser.add_argument("--dtype", default="auto", choices=TRAINING_DTYPES, help="type computed in (default: auto)")
    return parser


def _workers_option(parser_class: type[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    parser = parser_class(add_help=False)
    parser.add_argument(
        "--workers", metavar="N", type=count_or_none, default=0, help="processes that prepare data ahead (default: 0)"
    )
    return parser


def _inference_options(parser_class: type[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    parser = parser_class(add_help=False)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument("--dtype", default="auto", choices=DTYPES, help="type of the weights (default: auto)")
    parser.add_argument("--limit", metavar="N", type=count, help="only the first N images")
    return parser


def _models_options(parser_class: type[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    parser = parser_class(add_help=False)
    parser.add_argument(
        "--models",
        metavar="DIR",
        type=Path,
        default=MODELS_DIR,
        help="folder with the .sh3f files and sweethome3d.jar (default: %(default)s)",
    )
    parser.add_argument(
        "--cache", metavar="DIR", type=Path, default=CACHE_DIR, help="where they are unpacked (default: %(default)s)"
    )
    return parser


# --- data ------------------------------------------------------------------------------------------------------------


def _add_scenes(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--out", metavar="DIR", type=Path, required=True, help="folder of the data set; finished scenes in it are kept")
    add("--count", metavar="N", type=int, required=True, help="images in all")
    add("--seed", type=int, default=1, help="the same seed gives the same scenes (default: %(default)s)")
    add("--split", default="train", help="train, val or test, written into the records (default: %(default)s)")
    add("--models-set", default="seen", help="seen, heldout or all models (default: %(default)s)")
    add("--workers", metavar="N", type=int, default=2, help="processes of one thread each (default: %(default)s)")
    add("--views", metavar="N", type=int, default=5, help="images of a scene (default: %(default)s)")
    add("--samples", metavar="N", type=int, default=7, help="samples per pixel (default: %(default)s)")
    add("--kinds", metavar="KIND", nargs="+", default=(), help="only scenes of these kinds, each as often as another")
    roll = "standard deviation of the cameras' roll (default: %(default)s; a camera in a hand: 15)"
    add("--roll", metavar="DEG", type=float, default=ROLL_DEG, help=roll)


def scenes(options: Options) -> None:
    """Render a data set of scenes; the report is the shares of simple rules."""
    from proxqa_training.scenes.dataset import RenderConfig
    from proxqa_training.scenes.generate import generate

    names = ("out", "count", "seed", "split", "models_set", "workers", "views", "samples", "roll", "models", "cache")
    kinds = tuple(options.kinds)
    shares = generate(RenderConfig(**{name: getattr(options, name) for name in names}, kinds=kinds))
    write_report(options, shares, _lines(shares))


def _add_drive(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--out", metavar="DIR", type=Path, required=True, help="folder of the data set")
    add("--seed", type=int, default=1, help="the same seed gives the same drive (default: %(default)s)")
    add("--seconds", metavar="S", type=positive, default=12.0, help="length of the drive (default: %(default)s)")
    add("--rate-hz", metavar="HZ", type=positive, default=5.0, help="frames per second (default: %(default)s)")
    add("--samples", metavar="N", type=count, default=16, help="samples per pixel (default: %(default)s)")


def drive(options: Options) -> None:
    """Render a drive."""
    from proxqa_training.scenes.drive import render

    frames = render(
        options.out,
        options.seed,
        options.seconds,
        options.rate_hz,
        options.samples,
        options.models,
        options.cache,
    )
    write_report(options, {"out": str(options.out), "frames": frames}, f"{frames} frames in {options.out}")


def _add_contact_sheet(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("folder", metavar="FOLDER", type=labelled_folder, help="a labelled folder")
    add("--count", metavar="N", type=count, default=30, help="images on the sheet (default: %(default)s)")
    add("--columns", metavar="N", type=count, default=6, help="images in a row (default: %(default)s)")
    add("--png", metavar="FILE", type=output_file, help="where to write it (default: FOLDER/contact_sheet.png)")


def contact_sheet(options: Options) -> None:
    """Write a contact sheet."""
    from proxqa_training.scenes.contact_sheet import write

    report = write(options.folder, options.count, options.columns, options.png)
    write_report(options, report, _lines(report))


# --- training --------------------------------------------------------------------------------------------------------


def _add_tower(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("config", metavar="CONFIG", type=input_file, help="YAML, such as training/proxqa_training/configs/tower.yaml")
    add("--data", metavar="DIR", type=labelled_folder, nargs="+", required=True, help="labelled folders to train on")
    add("--validate", metavar="DIR", type=labelled_folder, help="a rendered labelled folder to validate on")
    add("--out", metavar="RUN", type=Path, required=True, help="folder of the run")
    add("--start", metavar="RUN", type=input_folder, help="an earlier run to take projector and grounding head from")
    add("--install", action="store_true", help="make the tower the bundled one of this checkout when it is done")


def tower(options: Options) -> None:
    """Train vision tower, projector and grounding head."""
    from proxqa_training.config_file import read_config
    from proxqa_training.tower.config import TowerConfig

    config = read_config(options.config, TowerConfig)
    from proxqa_training.tower.run import train_tower

    report = train_tower(
        config,
        options.data,
        options.out,
        options.start,
        options.validate,
        options.install,
        num_workers=options.workers,
        device=options.device,
        dtype=options.dtype,
    )
    if report:
        text = [f"wrote {report['out']}"]
        for name, figures in report["validation"].items():
            text.append(f"{name} not trained on: " + ", ".join(f"{k} {v:.4g}" for k, v in figures.items()))
        write_report(options, report, "\n".join(text))


def _add_run(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("config", metavar="CONFIG", type=input_file, help="YAML, such as training/proxqa_training/configs/default.yaml")
    add("--start", metavar="DIR", type=input_folder, required=True, help="run of a tower, or an adapter, to go on from")
    add("--data", metavar="DIR", type=labelled_folder, nargs="+", required=True, help="labelled folders to train on")
    add("--cache", metavar="DIR", type=Path, help="where image features are kept (default: OUT/features)")
    add("--out", metavar="RUN", type=Path, required=True, help="folder of the run: checkpoints and log")
    add("--adapter", metavar="DIR", type=Path, help="where to write the adapter (default: OUT/adapter)")


def run(options: Options) -> None:
    """Train both stages."""
    from proxqa_training.config_file import read_config
    from proxqa_training.stages.config import RunConfig

    config = read_config(options.config, RunConfig)
    from proxqa_training.stages.run import train_stages

    report = train_stages(
        config,
        options.start,
        options.data,
        options.out,
        options.cache,
        options.adapter,
        num_workers=options.workers,
        device=options.device,
        dtype=options.dtype,
    )
    if report:
        write_report(options, report, f"wrote {report['adapter']}")


def _add_finetune(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("folders", metavar="FOLDER", type=labelled_folder, nargs="+", help="labelled folders to train on")
    add("--out", metavar="ADAPTER", type=Path, required=True, help="where to write the adapter")
    add("--num-samples", metavar="N", type=int, help="image conversations in all (default: as configured)")
    add("--start", metavar="ADAPTER", type=input_folder, help="to go on from (default: the bundled one)")
    add("--config", metavar="FILE", type=input_file, help="YAML (default: configs/finetune.yaml)")
    add("--run", metavar="DIR", type=Path, help="checkpoints, log and features (default: .NAME.run beside ADAPTER)")
    judging = parser.add_mutually_exclusive_group()
    judging.add_argument(
        "--val-fraction",
        metavar="F",
        type=float,
        help="share of each folder's images with depth, its last, that is judged on instead of learned from "
        "(default: 0.2)",
    )
    judging.add_argument(
        "--validate", metavar="DIR", type=labelled_folder, help="judge on this labelled folder: another drive"
    )


def finetune(options: Options) -> None:
    """Fine-tune an adapter."""
    from proxqa_core.model.loading import DEFAULT_ADAPTER
    from proxqa_training.stages import finetune as tuning

    report = tuning.finetune(
        options.folders,
        options.out,
        options.num_samples,
        start=options.start or DEFAULT_ADAPTER,
        config_file=options.config or tuning.CONFIG,
        work=options.run,
        num_workers=options.workers,
        device=options.device,
        dtype=options.dtype,
        val_fraction=options.val_fraction,
        validate=options.validate,
    )
    if report:
        write_report(options, report, tuning.as_text(report))


def _add_stage(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", required=True, help="'default', a Hugging Face LLaVA id or a folder")
    add("--data", metavar="MIX.json", type=input_file, required=True, help="LLaVA conversations (.json, .jsonl)")
    add("--images", metavar="DIR", type=Path, help="folder of its images (default: that of --data)")
    add("--out", metavar="RUN", type=Path, required=True, help="folder of the run: checkpoints and log")
    add("--adapter", metavar="DIR", type=Path, help="where to write the adapter (default: RUN/adapter)")
    add("--start", metavar="ADAPTER", type=input_folder, help="to go on from: for reason, the adapter of perceive")
    add("--config", metavar="FILE", type=input_file, help="YAML (default: the recipe of LLaVA-1.5, configs/llava.yaml)")
    add("--steps", metavar="N", type=count, help="steps in all (default: as many as the epochs have)")
    add("--base-name", metavar="NAME", help="base that the adapter is to name, such as a hub id (default: --model)")


def train_stage(options: Options) -> None:
    """Train one stage of a LLaVA."""
    from proxqa_training.config_file import read_config
    from proxqa_training.llava.config import LlavaRecipe

    recipe = LlavaRecipe() if options.config is None else read_config(options.config, LlavaRecipe)
    from proxqa_training.llava.run import LlavaRun, train_llava

    run = LlavaRun(
        options.stage,
        options.model,
        options.data,
        options.images or options.data.parent,
        options.out,
        options.adapter,
        options.start,
        options.steps,
        options.base_name,
        options.workers,
        options.device,
        options.dtype,
    )
    report = train_llava(run, recipe)
    if report:
        write_report(options, report, f"wrote {report['adapter']}")


def _add_convert(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("folder", metavar="FOLDER", type=Path, help="with adapter_model.bin, non_lora_trainables.bin, mm_projector.bin")
    add("--model", required=True, help="the base in transformers' layout: a Hugging Face LLaVA id or a folder")
    add("--out", metavar="ADAPTER", type=Path, required=True, help="adapter to write")
    add("--base-name", metavar="NAME", help="base that the adapter is to name, such as a hub id (default: --model)")


def convert(options: Options) -> None:
    """Convert a LoRA folder."""
    from proxqa_training.llava.convert import convert as convert_folder

    report = convert_folder(options.folder, options.model, options.out, options.base_name)
    write_report(
        options, report, f"wrote {report['adapter']}: {report['lora']} LoRA and {report['projector']} projector tensors"
    )


def _add_head(parser: argparse.ArgumentParser, head: str) -> None:
    add = parser.add_argument
    add("adapter", metavar="ADAPTER", type=input_folder, help="of the default model; it stays as it is")
    add("--data", metavar="DIR", type=labelled_folder, nargs="+", required=True, help="labelled folders to train on")
    add("--val", metavar="DIR", type=labelled_folder, nargs="+", default=[], help="others, judged on at the end")
    add("--out", metavar="ADAPTER", type=Path, required=True, help="where to write the adapter")
    add("--config", metavar="FILE", type=input_file, help=f"YAML (default: configs/{head}.yaml)")
    add("--run", metavar="DIR", type=Path, help="checkpoint, log and features (default: .NAME.run beside ADAPTER)")
    add("--device", default="auto", choices=TRAINING_DEVICES, help="where to train (default: auto)")


def grounding(options: Options) -> None:
    """Train a grounding head."""
    from proxqa_training import grounding as training

    _train_head(options, training, training.GroundingConfig, training.train_grounding)


def order(options: Options) -> None:
    """Train an order head."""
    from proxqa_training import order_head as training

    _train_head(options, training, training.OrderConfig, training.train_order_head)


def _train_head(options: Options, module: Any, kind: type[Any], train: Callable[..., dict[str, Any]]) -> None:
    """Train what a module trains, by its configuration."""
    from proxqa_training.config_file import read_config

    config = read_config(options.config or module.CONFIG, kind)
    report = train(
        config, options.adapter, options.data, options.out, options.val, options.run, options.workers, options.device
    )
    write_report(options, report, module.as_text(report))


def _add_calibrate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("adapter", metavar="ADAPTER", type=Path, help="whose description is renewed")
    parser.add_argument(
        "--data",
        metavar="DIR",
        type=labelled_folder,
        nargs="+",
        required=True,
        help="labelled folders, rendered or photographed, that no figure is reported on",
    )


def calibrate(options: Options) -> None:
    """Calibrate an adapter."""
    from proxqa_training.stages import calibrate as calibration

    report = calibration.calibrate(options.adapter, options.data, options.limit, options.device, options.dtype)
    write_report(options, report, calibration.as_text(report))


def _add_names(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("adapter", metavar="ADAPTER", type=Path, help="of the default model; names.json is written into its folder")
    add(
        "--taught",
        metavar="DIR",
        type=labelled_folder,
        nargs="+",
        default=[],
        help="labelled folders that it was trained on",
    )
    add("--catalogue", action="store_true", help="it was trained on rendered scenes too: the names of their 3D models")
    add(
        "--data",
        metavar="DIR",
        type=labelled_folder,
        nargs="+",
        default=[],
        help="labelled folders that it was not trained on",
    )
    add(
        "--val-fraction",
        metavar="SHARE",
        type=share,
        default=0.0,
        help="share of the photographs of --taught that the tower's training held out: measured on too (default: 0)",
    )


def names(options: Options) -> None:
    """Measure how well names are found."""
    from proxqa_training.found_names import NamesData, measure_names, seen_models

    models = seen_models(options.models, options.cache) if options.catalogue else ()
    data = NamesData(tuple(options.taught), tuple(options.data), options.val_fraction, models)
    taught = measure_names(options.adapter, data, options.device, options.dtype, options.limit)
    report = names_report(taught, taught.names)
    write_report(options, report, f"wrote {options.adapter / NAMES}\n{names_table(report)}")


def _add_colours(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--data", metavar="DIR", type=labelled_folder, nargs="+", required=True, help="labelled folders to train on")
    add("--validate", metavar="DIR", type=labelled_folder, help="a labelled folder to validate on")
    add("--out", metavar="FILE", type=Path, required=True, help="file to write, colours.safetensors")


def colours(options: Options) -> None:
    """Train the reader of colours."""
    from proxqa_training.tower.colours import train_colours

    report = train_colours(options.data, options.out, options.validate)
    text = [f"wrote {report['out']}"]
    for key, which in (("train", "trained on"), ("validation", "not trained on")):
        if key in report:
            text.append(f"{report[key]['accuracy']:.1%} of {report[key]['objects']} objects {which} classified right")
    write_report(options, report, "\n".join(text))


# --- looking at results ----------------------------------------------------------------------------------------------


def _add_compare(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("adapter", metavar="ADAPTER", type=Path, help="the one whose figures come first")
    add("other", metavar="OTHER", type=Path, help="the one that it is compared with")
    add("--data", metavar="DIR", type=labelled_folder, required=True, help="labelled folder with depths")
    add("--prompt", choices=PROMPTS, default="box", help="how objects are asked for (default: %(default)s)")


def compare(options: Options) -> None:
    """Compare two adapters."""
    from proxqa_training import compare as comparison

    figures = comparison.compare(
        (options.adapter, options.other), options.data, options.prompt, options.limit, options.device, options.dtype
    )
    write_report(options, figures, comparison.as_text(figures))


def _add_curves(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", metavar="RUN", type=Path, nargs="+", help="folders of runs")
    parser.add_argument(
        "--png", metavar="FILE", type=output_file, help="where to write it (default: RUN/curves.png of the first)"
    )


def curves(options: Options) -> None:
    """Draw curves."""
    from proxqa_training.curves import draw

    png = options.png or options.runs[0] / "curves.png"
    draw(options.runs, png)
    write_report(options, {"png": str(png)}, f"wrote {png}")


def _lines(values: dict[str, Any]) -> str:
    return "\n".join(f"{key}: {value}" for key, value in values.items())
