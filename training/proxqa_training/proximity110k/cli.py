"""The commands of `proxqa data …`.

Promises: options and help of each command are here; torch, transformers and Ray are imported by the command that is
run. What cannot be done is said before the work begins. Commands raise ProxqaError, ValueError (bad input) or OSError.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxqa_core.cli import tables
from proxqa_core.cli.common import (
    DEPTH_UNITS,
    BadUsageError,
    count,
    made_by,
    not_negative,
    output_file,
    report_options,
    write_report,
)
from proxqa_core.files import write_text

if TYPE_CHECKING:
    from proxqa_training.proximity110k.sources import DepthConfig, ImageSource

    SubParsers = argparse._SubParsersAction[argparse.ArgumentParser]

log = logging.getLogger(__name__)

KINDS = ("coco", "visual-genome", "gqa", "folder", "make3d")
"""Those of `proxqa_training.proximity110k.sources.KINDS`, which a test compares."""
THIS_MACHINE = ""
"""As the address of --ray: a Ray of this process alone."""
PROGRESS_S = 5.0
"""Least seconds between two lines on the progress."""
Options = argparse.Namespace


def add_commands(
    commands: SubParsers, parser_class: type[argparse.ArgumentParser], parents: Sequence[argparse.ArgumentParser]
) -> None:
    """Add the commands of `proxqa data`.

    Args:
        commands: The sub-parsers of `proxqa data`.
        parser_class: Of parsers made here.
        parents: Parent parsers with the options that all commands have.
    """

    def add(name: str, run: Callable[[Options], None], summary: str) -> argparse.ArgumentParser:
        description = summary[:1].upper() + summary[1:] + "."
        parser = commands.add_parser(name, parents=[*parents, report_options()], help=summary, description=description)
        parser.set_defaults(command=run)
        return parser

    _add_build(add("build", build, "make LLaVA conversations of images with boxes and depth"))
    _add_mix(add("mix", mix, "mix LLaVA instructions into a data set at a share"))
    _add_stats(add("stats", stats, "count what is in files of LLaVA's form"))
    _add_page(add("page", page, "show a built data set on one HTML page, with pictures"))


# --- build -----------------------------------------------------------------------------------------------------------


def _add_build(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("kind", metavar="KIND", choices=KINDS, help=f"what DATA is: {', '.join(KINDS)}")
    add("data", metavar="DATA", type=Path, help="annotations (coco, visual-genome, gqa), or a folder (folder, make3d)")
    add("--out", metavar="DIR", type=Path, required=True, help="train.json, val.json; a stopped build in it goes on")
    images = parser.add_argument_group("images")
    add = images.add_argument
    add("--images", metavar="DIR", type=Path, help="folder of the images of coco, visual-genome and gqa")
    add("--image-data", metavar="FILE", type=Path, help="Visual Genome's image_data.json, for sizes")
    add("--boxes", metavar="FILE", type=Path, help="COCO-format boxes of Make3D's images (default: nine regions)")
    add("--grids", metavar="DIR", type=Path, help="Make3D's folder of depth_sph_corr-NAME.mat, its depth")
    add("--limit", metavar="N", type=count, help="only the first N images")
    add("--image-prefix", metavar="PATH", default="", help="put before images' paths, such as coco/train2017")
    depth = parser.add_argument_group("depth (folder and make3d have their own)")
    add = depth.add_argument
    add("--depth-maps", metavar="DIR", type=Path, help="a map for every image, of its name (.png, .npy, .tif)")
    add("--depth-model", metavar="ID|DIR", help="… or a depth-estimation model of Hugging Face")
    add("--depth-unit", choices=DEPTH_UNITS, help="what the numbers of the maps are, or of what the model predicts")
    add("--device", default="auto", help="of the depth model: auto, cpu, cuda or cuda:N (default: auto)")
    add("--batch-size", metavar="N", type=count, default=8, help="images at once in the depth model (default: 8)")
    _add_questions(parser.add_argument_group("questions"))
    _add_workers(parser.add_argument_group("workers"))


def _add_questions(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--seed", metavar="N", type=int, default=0, help="the same seed gives the same bytes (default: 0)")
    add("--no-absent", action="store_true", help="ask for nothing that is not in view")
    add("--val-fraction", metavar="S", type=not_negative, default=0.02, help="share of images for val.json (0.02)")
    add("--mix", metavar="FILE", type=Path, help="LLaVA instructions to mix into train.json")
    add("--mix-share", metavar="S", type=float, help="their share of train.json, above 0 and below 1 (default: 0.5)")
    add("--html", metavar="FILE", type=output_file, help="write a page with pictures to look at what was built")


def _add_workers(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--workers", metavar="N", type=count, help="processes that label (default: one a CPU; one with a GPU)")
    add("--shard-size", metavar="N", type=count, default=256, help="images of a shard, done or not done (256)")
    add("--ray", metavar="ADDRESS", nargs="?", const=THIS_MACHINE, help="label on Ray; ADDRESS: of a cluster, or auto")
    add("--gpus-per-worker", metavar="X", type=not_negative, help="GPUs of each worker on Ray, also 0.25 (default: 0)")


def build(options: Options) -> None:
    """Build a data set."""
    from proxqa_training.proximity110k.build import BuildConfig
    from proxqa_training.proximity110k.build import build as build_all
    from proxqa_training.proximity110k.labelling import LabellingConfig
    from proxqa_training.proximity110k.sources import ImageSource

    if options.mix is None and options.mix_share is not None:
        raise BadUsageError("--mix-share has no effect without --mix FILE")
    source = ImageSource(options.kind, options.data, options.images, options.image_data, options.boxes, options.grids)
    depth, workers = _depth(options, source), _workers(options)
    absent = () if options.no_absent else source.absent_names()
    labelling = LabellingConfig(options.seed, absent, options.image_prefix)
    mix_share = 0.5 if options.mix_share is None else options.mix_share
    config = BuildConfig(
        options.shard_size, options.val_fraction, options.mix, mix_share, workers, options.limit, source.complete
    )
    label_all = _ray(options, workers)
    progress = None if options.quiet else Progress(min(source.count(), options.limit or 1 << 62))
    identity = {**source.identity(), **depth.identity()}
    report = build_all(
        source.records(), depth.open, options.out, labelling, config, label_all, progress, identity
    ).as_dict()
    _write_page(options, source.image_folder)
    write_report(options, {"out": str(options.out), **report}, _build_text(options.out, report))


def _write_page(options: Options, images: Path) -> None:
    """Keep by which command the folder was built, and write the page that says so where one is wanted."""
    from proxqa_training.proximity110k.page import render, write_built_by

    provenance = made_by(options)
    write_built_by(options.out, provenance.command)
    if options.html:
        write_text(options.html, render(options.out, images, provenance=provenance))


def _depth(options: Options, source: ImageSource) -> DepthConfig:
    from proxqa_core.datasets.depth_source import DepthUnit
    from proxqa_training.proximity110k.sources import DepthConfig

    unit = None if options.depth_unit is None else DepthUnit(options.depth_unit)
    return DepthConfig.of(
        source,
        maps=options.depth_maps,
        unit=unit,
        model=options.depth_model,
        device=options.device,
        batch_size=options.batch_size,
    )


def _workers(options: Options) -> int:
    """As many as are asked for; else one for each CPU, and one for a GPU."""
    if options.workers is not None:
        return int(options.workers)
    if options.depth_model is not None and options.device != "cpu":
        import torch

        if torch.cuda.is_available():
            return 1
    return len(os.sched_getaffinity(0))


def _ray(options: Options, workers: int) -> Any:
    if options.ray is None:
        if options.gpus_per_worker is not None:
            raise BadUsageError("--gpus-per-worker has no effect without --ray")
        return None
    from proxqa_training.proximity110k.ray_pool import ray_pool

    return ray_pool(workers, options.ray or None, options.gpus_per_worker or 0.0)


class Progress:
    """Logs how far a build is, at most every `PROGRESS_S` seconds.

    Args:
        total: Images in all, as far as the file tells.
        clock: Seconds; for tests.
    """

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._total, self._clock = total, clock
        self._clock_of_first, self._told = 0.0, -math.inf
        self._first = self._new = self._earlier = 0

    def __call__(self, new: int, earlier: int) -> None:
        """Count images that were labelled now, and those that an earlier run had labelled."""
        self._new, self._earlier, now = self._new + new, self._earlier + earlier, self._clock()
        done = self._new + self._earlier
        if new and not self._first:  # the rate is that behind the first shard, which waits for processes and models
            self._first, self._clock_of_first = new, now
        if not new or (now - self._told < PROGRESS_S and done < self._total):
            return
        self._told = now
        kept = f" ({self._earlier} of an earlier run)" if self._earlier else ""
        log.info("%d of %d images%s%s", done, self._total, kept, self._pace(now, self._total - done))

    def _pace(self, now: float, left: int) -> str:
        rate = (self._new - self._first) / max(1e-9, now - self._clock_of_first)
        return f", {rate:.1f} images/s" + (f", about {duration(left / rate)} left" if left > 0 else "") if rate else ""


def duration(seconds: float) -> str:
    """A time as people say it: "40 s", "12 min", "3 h 05 min"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"


def _build_text(out: Path, report: dict[str, Any]) -> str:
    images, samples = report["images"], report["samples"]
    lines = [
        f"{out}: {images.get('train', 0)} images in train.json, {images.get('val', 0)} in val.json; "
        + ", ".join(f"{count} {stage} samples" for stage, count in samples.items())
        + (f", {report['mixed_in']} mixed in" if report["mixed_in"] else ""),
        f"{report['questions_per_image']:.1f} questions an image: " + _counts_text(report["kinds"]),
    ]
    for key, what in (("left_out", "images left out"), ("annotations_left_out", "annotations left out"),
                      ("mix_left_out", "left out of the mix")):  # fmt: skip
        if report[key]:
            lines.append(f"{what}: {_counts_text(report[key])}")
    return "\n".join(lines)


def _counts_text(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


# --- mix, stats, page ------------------------------------------------------------------------------------------------


def _add_mix(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("data", metavar="DATA", type=Path, help="LLaVA-format file (.json, .jsonl, .gz), all of which is kept")
    add("--with", dest="other", metavar="FILE", type=Path, required=True, help="LLaVA instructions to mix in")
    add("--share", metavar="S", type=float, default=0.5, help="their share of the result (default: %(default)s)")
    add("--out", metavar="FILE", type=output_file, required=True, help="file to write, a JSON list")


def mix(options: Options) -> None:
    """Mix two files."""
    from proxqa_training.proximity110k.mixture import mix as mix_files

    report = {"out": str(options.out), **mix_files(options.data, options.other, options.share, options.out).as_dict()}
    text = f"{options.out}: {report['samples']} samples, {report['mixed_in']} mixed in ({report['share']:.1%})"
    left_out = f"\nleft out: {_counts_text(report['left_out'])}" if report["left_out"] else ""
    write_report(options, report, text + left_out)


def _add_stats(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", metavar="DATA", type=Path, nargs="+", help="LLaVA-format files, counted together")
    parser.add_argument("--images", metavar="DIR", type=Path, help="also look whether the images are there")


def stats(options: Options) -> None:
    """Count what is in files."""
    from proxqa_training.proximity110k.statistics import statistics_of

    if options.images is not None and not options.images.is_dir():
        raise BadUsageError(f"{options.images}: no such folder; expected the images")
    report = statistics_of(options.data, options.images).as_dict()
    rows = [("images", str(report["images"]))]
    rows += [("images without a file", str(report["images_missing"]))] if options.images else []
    for key in ("samples", "questions", "kinds", "letters", "left_out"):
        rows += [(f"{key.replace('_', ' ')}: {name}", str(n)) for name, n in report[key].items()]
    rows += [(f"depth 0.{tenth}", str(n)) for tenth, n in enumerate(report["depths_by_tenth"]) if n]
    rows += [(key.replace("_", " "), str(report[key])) for key in
             ("absent_answers", "words_per_question", "words_per_answer", "samples_without_image")]  # fmt: skip
    write_report(options, report, tables.columns(rows))


def _add_page(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("data", metavar="DIR", type=Path, help="folder that `proxqa data build` wrote")
    add("--images", metavar="DIR", type=Path, required=True, help="folder of the images")
    add("--html", metavar="FILE", type=output_file, required=True, help="file to write")
    add("--count", metavar="N", type=count, default=24, help="images shown (default: %(default)s)")


def page(options: Options) -> None:
    """Show a built data set."""
    from proxqa_training.proximity110k.page import render

    write_text(options.html, render(options.data, options.images, options.count, made_by(options)))
    write_report(options, {"html": str(options.html)}, f"wrote {options.html}")
