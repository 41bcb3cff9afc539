"""`proxqa bench`: how fast the engine answers."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from proxqa_core.cli import common, tables
from proxqa_core.files import write_text

log = logging.getLogger(__name__)


def add_commands(commands: common.SubParsers) -> None:
    """Add `bench`."""
    parser = common.add_command(commands, "bench", "measure speed: stages, objects, pairs, callers, cameras, peers")
    parser.add_argument(
        "--repeats", metavar="N", type=common.rounds, default=10, help="rounds to measure (from 2; default 10)"
    )
    parser.add_argument(
        "--only", metavar="TEXT", action="append", default=[], help="only cases with this in their name (again)"
    )
    parser.add_argument("--no-peers", action="store_true", help="do not measure other ways of asking the same model")
    parser.add_argument(
        "--threads", metavar="N", type=common.count, action="append", default=[], help="also on so many threads (again)"
    )
    parser.add_argument("--plot", metavar="FILE", type=common.output_file, help="draw the times, as SVG")
    parser.add_argument(
        "--against", metavar="VENV", type=Path, help="measure another installation's proxqa in turns with this one"
    )
    parser.set_defaults(command=run_bench)


def run_bench(options: argparse.Namespace) -> None:
    """Measure how fast the engine answers."""
    if options.against is not None:
        _run_against(options)
        return
    from proxqa_core.evaluation.bench import BenchConfig, bench
    from proxqa_core.evaluation.bench_plot import svg

    config = BenchConfig(options.repeats, tuple(options.threads), not options.no_peers, tuple(options.only))
    with common.stdout_to_stderr():
        report = bench(common.load_engine(options), config, on_progress=log.info)
    if options.plot:
        write_text(options.plot, svg(report["milliseconds"], f"{report['model']}: {report['language_model']}"))
    common.write_report(options, report, tables.bench_table(report))


def _run_against(options: argparse.Namespace) -> None:
    """Two installations in turns; both run the default model."""
    from proxqa_core.evaluation.bench_against import against

    if options.model != "default" or options.adapter or options.plot or options.threads or options.only:
        raise common.BadUsageError(
            "--against measures the default model in three cases; expected no --model, --adapter, --plot, --threads or "
            "--only"
        )
    report = against(options.against, options.repeats, options.device, options.backend, options.int8, log.info)
    common.write_report(options, report, tables.against_table(report))
