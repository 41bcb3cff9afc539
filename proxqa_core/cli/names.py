"""`proxqa names`: what the model was taught to find, and how well it was measured to find it. No model is loaded."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxqa_core.cli import common, tables
from proxqa_core.errors import BadObjectError, ModelNotFoundError
from proxqa_core.model.sources import DEFAULT, adapter_folder

if TYPE_CHECKING:
    from proxqa_core.model.taught_names import TaughtName, TaughtNames


def add_commands(commands: common.SubParsers) -> None:
    """Add `names`."""
    parser = common.add_command(
        commands, "names", "what the model was taught to find, and how well it does", model=False
    )
    parser.add_argument(
        "texts", metavar="TEXT", nargs="*", help="only names, or other words for them, with this in them"
    )
    parser.add_argument("--model", default=DEFAULT, help="as of the other commands (default: default)")
    parser.add_argument("--adapter", metavar="DIR", help="an adapter's folder (default: the bundled one)")
    parser.set_defaults(command=run_names)


def run_names(options: argparse.Namespace) -> None:
    """Tell the names."""
    taught = taught_names(options)
    if taught is None:
        what = f"adapter {options.adapter!r}" if options.adapter else f"model {options.model!r}"
        raise ModelNotFoundError(
            f"{what} does not say what it was taught (it has no names.json); expected an adapter for which "
            "`proxqa train names` was run"
        )
    report = names_report(taught, _chosen(taught, options.texts))
    common.write_report(options, report, tables.names_table(report))


def taught_names(options: argparse.Namespace) -> TaughtNames | None:
    """The names of the model that --model and --adapter ask for; None where it does not say.

    Raises:
        ModelNotFoundError: The adapter's folder does not exist.
        BadModelError: Its names cannot be used.
    """
    from proxqa_core.model.taught_names import read_names

    folder: Path | None = adapter_folder(options.model, options.adapter)
    if folder is None:
        return None
    if not folder.is_dir():
        raise ModelNotFoundError(f"adapter folder {str(folder)!r} does not exist")
    return read_names(folder)


def names_report(taught: TaughtNames, names: Sequence[TaughtName]) -> dict[str, Any]:
    """Some of the names with their figures, as plain values.

    Args:
        taught: All names.
        names: Those to report.
    """
    from proxqa_core.model.taught_names import total

    return {
        "measured_on": taught.measured_on,
        "taught": len(taught.names),
        "looked_for_unasked": len(taught.reliable),
        **total(names),
        "names": [
            {
                "name": n.name,
                "also": list(n.also),
                "models": n.models,
                "photographs": n.photographs,
                "asked": n.asked,
                "found": n.found,
                "absent": n.absent,
                "mistaken": n.mistaken,
                "looked_for_unasked": n.is_reliable,
            }
            for n in names
        ],
    }


def _chosen(taught: TaughtNames, texts: Sequence[str]) -> list[TaughtName]:
    """The names with one of some texts in them, all without a text; BadObjectError where a text is in none."""
    if not texts:
        return list(taught.names)
    chosen: set[str] = set()
    for text in texts:
        found = taught.matching(text)
        if not found:
            alike = " or ".join(repr(word) for word in taught.alike(text))
            hint = f"did you mean {alike}?" if alike else f"`proxqa names` lists all {len(taught.names)}"
            raise BadObjectError(
                f"{text!r} was not taught; {hint} (it may be asked for all the same: look at its score)"
            )
        chosen |= {n.name for n in found}
    return [n for n in taught.names if n.name in chosen]
