"""`proxqa eval` and `proxqa eval-bag`: how good a model is, on a labelled folder, a benchmark or a rosbag2."""

from __future__ import annotations

import argparse
import logging
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from proxqa_core.cli import common, tables
from proxqa_core.cli.common import DEPTH_UNITS
from proxqa_core.files import write_text

if TYPE_CHECKING:
    from proxqa_core.evaluation.benchmarks import BenchmarkSource
    from proxqa_core.evaluation.sequence import Run

log = logging.getLogger(__name__)

BENCHMARKS = {
    "folder": "a labelled folder",
    "gqa-depth": "GQA scene graphs (relative depth of objects)",
    "gqa-proximity": "GQA scene graphs (which of two is closer)",
    "make3d-proximity": "a folder of Make3D's img-NAME.jpg",
    "blink": "BLINK Relative_Depth, .jsonl or .parquet",
    "cv-bench": "CV-Bench test_3d, .jsonl or .parquet",
    "da-2k": "DA-2K's annotations.json, beside its images",
    "items": "what --export wrote",
}
"""Kinds of data; those of `proxqa_core.evaluation.benchmarks.KINDS`, which a test compares."""
ON_BENCHMARKS = ("images", "depth_maps", "depth_unit", "depth_model", "grids", "boxes", "points", "seed")
ON_FOLDERS = ("train", "absent", "direct")


def add_commands(commands: common.SubParsers) -> None:
    """Add `eval` and `eval-bag`."""
    _add_eval(commands)
    _add_eval_bag(commands)


def run_eval(options: argparse.Namespace) -> None:
    """Measure a model on a labelled folder or on a benchmark, or write the benchmark for others."""
    if options.kind in BENCHMARKS and options.data is None and not (Path(options.kind) / "annotations.json").is_file():
        raise common.BadUsageError(f"eval {options.kind} needs DATA; {BENCHMARKS[options.kind]}")
    kind, data = ("folder", options.kind) if options.data is None else (options.kind, options.data)
    if not data:
        raise common.BadUsageError("DATA is empty; expected a folder or file")
    if kind not in BENCHMARKS:
        raise common.BadUsageError(f"eval has no benchmark {kind!r}; expected one of {', '.join(BENCHMARKS)}")
    if kind == "folder" and options.export is None:
        _refuse(options, ON_BENCHMARKS, "folder makes no use of")
        _eval_folder(options, Path(data))
    else:
        _refuse(options, ON_FOLDERS, "only a labelled folder is measured with")
        _eval_benchmark(options, kind, Path(data))


def _refuse(options: argparse.Namespace, names: Sequence[str], says: str) -> None:
    """One line where an option is given that would have no effect."""
    for name in names:
        if getattr(options, name) not in (None, False, 0):
            raise common.BadUsageError(f"{says} --{name.replace('_', '-')}")


def _eval_folder(options: argparse.Namespace, path: Path) -> None:
    from proxqa_core.datasets.folder import LabelledFolder
    from proxqa_core.evaluation.metrics import summary
    from proxqa_core.evaluation.runner import labels, measure

    folder = LabelledFolder(path)
    if options.train is not None and options.train.resolve() == path.resolve():
        raise common.BadUsageError(
            f"--train {options.train}: is the folder that is measured; expected another (left out: the line is fitted "
            "leaving one image out)"
        )
    train = None if options.train is None else labels(options.train)
    with common.stdout_to_stderr():
        measured = measure(
            common.load_engine(options),
            folder,
            options.prompt or "name",
            options.limit,
            progress=common.shows_progress(options),
            absent=options.absent,
            direct=options.direct,
        )
        report = summary(measured, train)
    if not report["objects_with_truth"] and not report["pairs"]:
        log.warning("no object of these images has a depth (depth_m, depth or depth_map): nothing is judged")
    if options.html:
        from proxqa_core.evaluation.html import render

        write_text(options.html, render(report, measured, folder.path.name, folder, common.made_by(options)))
    common.write_report(options, report, tables.report_table(report))


def _eval_benchmark(options: argparse.Namespace, kind: str, data: Path) -> None:
    from proxqa_core.evaluation.benchmarks import load_benchmark
    from proxqa_core.evaluation.exports import export
    from proxqa_core.evaluation.item_runner import benchmark_report, measurements_of, pictures_of, run_items

    if options.export is not None and options.html is not None:
        raise common.BadUsageError("--export asks no model: it makes no use of --html")
    with common.stdout_to_stderr():
        benchmark = load_benchmark(kind, _source(options, data))
    prompt = options.prompt or benchmark.prompt
    if prompt == "name" and not benchmark.by_name:
        raise common.BadUsageError(f"{kind} has no names that a model could find: ask with --prompt box")
    if options.export is not None:
        written = export(benchmark, options.export, prompt)
        report = {"benchmark": benchmark.description, "left_out": benchmark.left_out, "folder": str(options.export),
                  **asdict(written)}  # fmt: skip
        common.write_report(options, report, tables.export_text(report))
        return
    with common.stdout_to_stderr():
        engine = common.load_engine(options)
        run = run_items(engine, benchmark.items, prompt, common.shows_progress(options))
        report = benchmark_report(run, engine.model_name, prompt, benchmark.description)
    report["left_out"] = benchmark.left_out
    if options.html:
        from proxqa_core.evaluation.html import render

        measured = measurements_of(run, engine.model_name, prompt)
        write_text(options.html, render(report, measured, kind, pictures_of(benchmark.items), common.made_by(options)))
    common.write_report(options, report, tables.benchmark_table(report))


def _source(options: argparse.Namespace, data: Path) -> BenchmarkSource:
    from proxqa_core.datasets.depth_source import DepthUnit
    from proxqa_core.evaluation.benchmarks import BenchmarkSource

    return BenchmarkSource(
        data,
        options.images,
        options.grids,
        options.boxes,
        options.depth_maps,
        None if options.depth_unit is None else DepthUnit(options.depth_unit),
        options.depth_model,
        options.device,
        options.points,
        options.limit,
        options.seed,
        progress=common.shows_progress(options),
    )


def run_eval_bag(options: argparse.Namespace) -> None:
    """Measure a model on a bag's images, without ROS."""
    from proxqa_core.evaluation.bag_runner import Selection, evaluate_bag, pictures
    from proxqa_core.evaluation.bag_truth import queries_of, truth_of
    from proxqa_core.evaluation.sequence import report
    from proxqa_core.rosbags.bag import Bag

    wanted = common.object_queries(options.objects)
    with Bag(options.bag) as bag:
        topic = bag.image_topic(options.topic)
        truth = truth_of(bag, options.truth, options.depth, options.tolerance, topic)
        queries = queries_of(bag, truth, wanted)
        selection = Selection(
            every_images=options.every_images,
            rate=options.rate,
            limit=options.limit,
            every_seconds=options.every_seconds,
        )
        with common.stdout_to_stderr():
            engine = common.load_engine(options)
            run = evaluate_bag(engine, bag, topic, truth, queries, selection, options.prompt, _progress(options))
            found = report(run)
        if options.html:
            from proxqa_core.evaluation.bag_html import render, stamps_to_show

            page = render(found, run, pictures(bag, topic, stamps_to_show(run)), common.made_by(options))
            write_text(options.html, page)
    common.write_report(options, found, tables.report_table(found) + "\n\n" + tables.sequence_table(found))


def _add_eval(commands: common.SubParsers) -> None:
    parser = common.add_command(commands, "eval", "measure a model on a labelled folder or a benchmark")
    kinds = "; ".join(f"{kind}: {what}" for kind, what in BENCHMARKS.items())
    parser.usage = "%(prog)s [-h] [options] [KIND] DATA"
    parser.add_argument("kind", metavar="KIND", help=f"what DATA is (left out: folder). {kinds}")
    parser.add_argument("data", metavar="DATA", nargs="?", help="folder with annotations.json, or as KIND says")
    parser.add_argument(
        "--prompt",
        choices=common.PROMPTS,
        help="ask by phrase, or by name and box (default: name; box where the benchmark marks boxes or points)",
    )
    parser.add_argument("--limit", metavar="N", type=common.count, help="only the first N images (others: items)")
    _add_folder_options(parser.add_argument_group("labelled folders"))
    _add_benchmark_options(parser.add_argument_group("benchmarks"))
    _add_html(parser)
    parser.set_defaults(command=run_eval)


def _add_folder_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--train", metavar="DIR", type=Path, help="folder to fit the linear baseline on")
    group.add_argument(
        "--absent",
        metavar="N",
        type=common.count_or_none,
        default=0,
        help="also ask for N names per image that are not in view",
    )
    group.add_argument("--direct", action="store_true", help="also ask which is closer without perceived depths")


def _add_benchmark_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--images", metavar="DIR", type=Path, help="folder of the images, where DATA does not hold them")
    group.add_argument("--depth-maps", metavar="DIR", type=Path, help="depth of GQA's images: maps named as they are")
    group.add_argument(
        "--depth-unit", choices=DEPTH_UNITS, help="what the numbers of the maps are, or of what the model predicts"
    )
    group.add_argument("--depth-model", metavar="ID|DIR", help="… or a depth-estimation model of Hugging Face")
    group.add_argument("--grids", metavar="DIR", type=Path, help="Make3D's folder of depth_sph_corr-NAME.mat")
    group.add_argument(
        "--boxes",
        metavar="FILE",
        type=Path,
        help="COCO-format boxes of Make3D's images (default: nine regions)",
    )
    group.add_argument("--points", metavar="FILE", type=Path, help="where BLINK's points are: lines of {id, A, B}")
    group.add_argument("--seed", metavar="N", type=int, help="which items are drawn, and what is called A (default: 0)")
    group.add_argument(
        "--export",
        metavar="DIR",
        type=Path,
        help="write the benchmark for others (items, VLMEvalKit, lmms-eval) instead of asking a model",
    )


def _add_eval_bag(commands: common.SubParsers) -> None:
    parser = common.add_command(commands, "eval-bag", "measure a model on a rosbag2, without ROS")
    parser.add_argument("bag", metavar="BAG", type=Path, help="folder of a rosbag2 (sqlite3 or mcap), or its file")
    parser.add_argument("--topic", default="", help="topic of the images, raw or compressed (default: the only one)")
    parser.add_argument(
        "--objects", action="append", default=[], metavar="NAMES", help="comma-separated names (default: the labels')"
    )
    truth = parser.add_mutually_exclusive_group()
    truth.add_argument(
        "--truth", default="", metavar="TOPIC", help="labels: ObjectDepthArray (default: the one named ground_truth)"
    )
    truth.add_argument(
        "--depth",
        default="",
        metavar="TOPIC",
        help="aligned depth images (default: the only ones, without labels)",
    )
    parser.add_argument(
        "--tolerance",
        metavar="S",
        type=common.positive,
        default=0.05,
        help="most seconds from image to depth image (0.05)",
    )
    parser.add_argument("--prompt", choices=common.PROMPTS, default="name", help="ask by name, or by name and true box")
    pace = common.add_every_arguments(parser)
    pace.add_argument(
        "--rate", metavar="HZ", type=common.positive, default=math.inf, help="at most so many per second on average"
    )
    parser.add_argument("--limit", metavar="N", type=common.count, help="only the first N images of those")
    _add_html(parser)
    parser.set_defaults(command=run_eval_bag)


def _add_html(parser: common.Parser) -> None:
    parser.add_argument(
        "--html", metavar="FILE", type=common.output_file, help="write the report as one HTML page, with pictures"
    )


def _progress(options: argparse.Namespace) -> Callable[[Run], None] | None:
    """Writes over one line of the terminal after every image; None where nobody watches."""

    def show(run: Run) -> None:
        end = "\n" if run.sent == run.wanted else ""
        print(f"\r{run.source}: {run.sent} of {run.wanted} images", end=end, file=sys.stderr, flush=True)

    return show if common.shows_progress(options) else None
