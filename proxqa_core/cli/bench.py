"""`proxqa bench`: how fast the engine answers."""

from __future__ import annotations

import argparse
import logging

from proxqa_core.cli import common, tables

log = logging.getLogger(__name__)


def add_commands(commands: common.SubParsers) -> None:
    """Add `bench`."""
    parser = common.add_command(commands, "bench", "measure speed: one shared prefix against many prompts")
    parser.add_argument(
        "--repeats", metavar="N", type=common.rounds, default=10, help="rounds to measure (from 2; default 10)"
    )
    parser.set_defaults(command=run_bench)


def run_bench(options: argparse.Namespace) -> None:
    """Measure how fast the engine answers."""
    from proxqa_core.evaluation.bench import bench

    with common.stdout_to_stderr():
        report = bench(common.load_engine(options), options.repeats, on_progress=log.info)
    common.write_report(options, report, tables.bench_table(report))
