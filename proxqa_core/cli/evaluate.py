"""`proxqa eval` and `proxqa eval-bag`: how good a model is, on a labelled folder or on a rosbag2."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from proxqa_core.cli import common, tables
from proxqa_core.files import write_text

if TYPE_CHECKING:
    from proxqa_core.evaluation.sequence import Run


def add_commands(commands: common.SubParsers) -> None:
    """Add `eval` and `eval-bag`."""
    _add_eval(commands)
    _add_eval_bag(commands)


def run_eval(options: argparse.Namespace) -> None:
    """Measure a model on a labelled folder."""
    from proxqa_core.datasets.folder import LabelledFolder
    from proxqa_core.evaluation.metrics import summary
    from proxqa_core.evaluation.runner import labels, measure

    folder = LabelledFolder(options.folder)
    train = None if options.train is None else labels(options.train)
    with common.stdout_to_stderr():
        measured = measure(
            common.load_engine(options),
            folder,
            options.prompt,
            options.limit,
            progress=common.shows_progress(options),
            absent=options.absent,
            direct=options.direct,
        )
        report = summary(measured, train)
    if options.html:
        from proxqa_core.evaluation.html import render

        write_text(options.html, render(report, measured, folder))
    common.write_report(options, report, tables.report_table(report))


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

            page = render(found, run, pictures(bag, topic, stamps_to_show(run)))
            write_text(options.html, page)
    common.write_report(options, found, tables.report_table(found) + "\n\n" + tables.sequence_table(found))


def _add_eval(commands: common.SubParsers) -> None:
    parser = common.add_command(commands, "eval", "measure a model on a labelled folder")
    parser.add_argument("folder", metavar="DIR", type=Path, help="folder with annotations.json")
    parser.add_argument(
        "--prompt", choices=common.PROMPTS, default="name", help="ask by referring phrase, or by name and box"
    )
    parser.add_argument("--limit", metavar="N", type=common.count, help="only the first N images")
    parser.add_argument("--train", metavar="DIR", type=Path, help="folder to fit the linear baseline on")
    parser.add_argument(
        "--absent",
        metavar="N",
        type=common.count_or_none,
        default=0,
        help="also ask for N names per image that are not in view",
    )
    parser.add_argument("--direct", action="store_true", help="also ask which is closer without perceived depths")
    _add_html(parser)
    parser.set_defaults(command=run_eval)


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
    truth.add_argument("--depth", default="", metavar="TOPIC", help="aligned depth images, read where the model looked")
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
