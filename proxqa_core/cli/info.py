"""`proxqa info`: what model is loaded, and where it runs; with --verbose or --json all that is known of it."""

from __future__ import annotations

import argparse

from proxqa_core.cli import common, tables


def add_commands(commands: common.SubParsers) -> None:
    """Add `info`."""
    parser = common.add_command(commands, "info", "tell what model is loaded, and where it runs")
    parser.set_defaults(command=run_info)


def run_info(options: argparse.Namespace) -> None:
    """Tell what is loaded."""
    with common.stdout_to_stderr():
        info = common.load_engine(options).info()
    common.write_report(options, info, tables.info_table(info, options.verbose))
