"""`proxqa cache`: what is kept on the disk, and how to be rid of what other versions left there.

Promises: no model is loaded. Nothing is removed unless `--remove-unused` says so.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from proxqa_core.cli import common

if TYPE_CHECKING:
    from proxqa_core.model import kept


def add_commands(commands: common.SubParsers) -> None:
    """Add `cache`."""
    parser = common.add_command(commands, "cache", "tell what is kept on the disk, and how large it is", model=False)
    parser.add_argument(
        "--remove-unused",
        action="store_true",
        help="remove converted base weights of other versions of proxqa or transformers; "
        "an installation that still reads them makes them again, in about 8 s",
    )
    parser.set_defaults(command=run_cache)


def run_cache(options: argparse.Namespace) -> None:
    """List the cache, or remove what this installation does not read."""
    from proxqa_core.model.base_weights import cache_folder
    from proxqa_core.model.kept import UNUSED, entries, remove_unused

    removed = remove_unused() if options.remove_unused else []
    left = entries()
    report = {"folder": str(cache_folder()), "kept": _rows(left), "removed": _rows(removed)}
    lines = [f"{cache_folder()}: {_mb(left)} MB"]
    lines += [f"  {entry.state:7}  {_mb([entry]):5} MB  {entry.path.name}" for entry in left]
    if options.remove_unused:
        lines += [f"  removed  {_mb([entry]):5} MB  {entry.path.name}" for entry in removed]
        lines += [f"removed {_mb(removed)} MB" if removed else "nothing is unused; nothing was removed"]
    elif unused := [entry for entry in left if entry.state == UNUSED]:
        lines += [f"{_mb(unused)} MB are of other versions -> proxqa cache --remove-unused"]
    common.write_report(options, report, "\n".join(lines))


def _rows(these: list[kept.Kept]) -> list[dict[str, object]]:
    return [{"name": e.path.name, "state": e.state, "mb": _mb([e])} for e in these]


def _mb(these: list[kept.Kept]) -> int:
    return round(sum(entry.size for entry in these) / 10**6)
