"""Parse, dispatch, end: the parser of all commands, and what every end of the program looks like.

Promises: bad input is one line on stderr, `proxqa: …`, and exit code 2; a failure (no model, no disk) is one line and
exit code 1. What is wrong with the input is told before the model is loaded, except where only the model can tell.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import sys
from collections.abc import Callable, Collection, Sequence

from proxqa_core.cli import (
    ask,
    bench,
    cache,
    compare,
    doctor,
    evaluate,
    export,
    info,
    logs,
    names,
    record,
    serve,
    train,
)
from proxqa_core.cli.common import Parser
from proxqa_core.errors import BadModelError, ProxqaError
from proxqa_core.memory import is_out_of_memory

log = logging.getLogger(__name__)

OK, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: As on the command line, without the program's name. None = the process's own.

    Returns:
        The exit code: 0 = fine, 1 = failure, 2 = bad input or usage, 130 = interrupted.

    Raises:
        SystemExit: With code 0, after --help and --version.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name need not be text
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        try:
            return _run(given)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # e.g. `proxqa … | head`: the reader has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK


def build_parser(groups: Collection[str] = ()) -> Parser:
    """The parser of the whole program.

    Args:
        groups: Which of `train` and `data` get their sub-commands, which takes the training package.

    Returns:
        A parser whose namespaces hold `command`, a function of the namespace.

    Raises:
        NotInstalledError: Sub-commands of a group are wanted, and the training package is not installed.
    """
    parser = Parser(prog="proxqa", description="How far is it, and which is closer? Asked of one camera image.")
    parser.add_argument("--version", action="version", version=f"proxqa {doctor.version()}")
    parser.set_defaults(verbose=False, quiet=False)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", parser_class=Parser)
    for group in (ask, evaluate, compare, record, bench, export, serve, names, info, cache, doctor):
        group.add_commands(commands)
    train.add_groups(commands, groups)
    return parser


def _run(arguments: Sequence[str]) -> int:
    try:
        groups = train.GROUPS.keys() & set(arguments[:1])
        options = build_parser(groups).parse_args(arguments)
        options.given = tuple(arguments)  # for reports, which say what made them
        with logs.to_stderr(options.verbose, options.quiet):
            _dispatch(train.checked(options.command) if groups else options.command, options)
    except KeyboardInterrupt:
        return _complain("interrupted", INTERRUPTED)
    except BrokenPipeError:
        raise
    except (ProxqaError, OSError) as error:
        bad_input = isinstance(error, ValueError) and not isinstance(error, BadModelError)
        return _complain(str(error) or type(error).__name__, BAD_INPUT if bad_input else FAILED)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return _complain(f"memory has run out: {str(error) or type(error).__name__}", FAILED)
    return OK


def _dispatch(command: Callable[[argparse.Namespace], None], options: argparse.Namespace) -> None:
    try:
        command(options)
    except (ProxqaError, OSError):
        log.debug("where it failed:", exc_info=True)
        raise


def _complain(message: str, code: int) -> int:
    print(f"proxqa: {' '.join(message.split())}", file=sys.stderr)
    return code
