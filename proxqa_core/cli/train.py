"""`proxqa train …` and `proxqa data …`: the training package's commands as part of this program.

Promises: the training package (`proxqa_training`) is imported only where one of them is what was asked for; from a
checkout it is the checkout's own. The function `add_commands` of a module of `GROUPS` adds the commands.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from types import ModuleType

from proxqa_core.cli import common
from proxqa_core.errors import ProxqaError

PACKAGE = "proxqa_training"
CHECKOUT = Path(__file__).resolve().parents[2] / "training"
"""Where a checkout has the package; there is no such folder beside an installed core."""
GROUPS = {
    "train": (f"{PACKAGE}.cli", "make training data, train, calibrate and compare adapters"),
    "data": (f"{PACKAGE}.proximity110k.cli", "build instruction data of images, boxes and depth; mix and count it"),
}
"""Groups of commands: the module that has them, and a line of help."""
Command = Callable[[argparse.Namespace], None]


def add_groups(commands: common.SubParsers, chosen: Collection[str]) -> None:
    """Add `train` and `data`.

    Args:
        commands: The sub-parsers of the program.
        chosen: Groups whose sub-commands are added, for which the training package is imported.

    Raises:
        NotInstalledError: They are wanted, and the package is not installed.
    """
    for name, (module, summary) in GROUPS.items():
        parser = commands.add_parser(name, help=summary, description=summary[:1].upper() + summary[1:] + ".")
        if name in chosen:
            leaves = parser.add_subparsers(
                title="commands", required=True, metavar="COMMAND", parser_class=common.Parser
            )
            _training_commands(module).add_commands(leaves, common.Parser, [common.log_options()])


def checked(command: Command) -> Command:
    """A training command whose ValueErrors, which tell bad input, and missing packages end like any other command's."""

    def run(options: argparse.Namespace) -> None:
        try:
            command(options)
        except (ProxqaError, OSError):
            raise
        except ImportError as error:
            raise common.NotInstalledError(_not_installed(error)) from error
        except ValueError as error:
            raise common.BadUsageError(str(error)) from error

    return run


def _training_commands(module: str) -> ModuleType:
    if (CHECKOUT / PACKAGE).is_dir() and str(CHECKOUT) not in sys.path:
        sys.path.insert(0, str(CHECKOUT))
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if str(error.name).split(".")[0] != PACKAGE:
            raise common.NotInstalledError(_not_installed(error)) from error
        raise common.NotInstalledError(
            f"the training package ({PACKAGE}) is not installed; run `pip install .` in a checkout of the project, "
            "or run from its root"
        ) from error


def _not_installed(error: ImportError) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"the package {error.name} is not installed; this command needs it: pip install {error.name}"
    return str(error)
