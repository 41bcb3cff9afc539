"""What the commands share: the parser, argument types, groups of options, objects to ask about, reports.

Heavy imports are inside the functions, so that `proxqa --help` answers at once.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from proxqa_core.backends.config import AUTO, BACKENDS, BackendConfig
from proxqa_core.errors import BadObjectError, ProxqaError
from proxqa_core.files import write_text
from proxqa_core.jsontext import to_json

if TYPE_CHECKING:
    from proxqa_core.engine import ProximityEngine
    from proxqa_core.evaluation.html import Provenance
    from proxqa_core.types import ObjectQuery

    SubParsers = argparse._SubParsersAction["Parser"]

STDOUT = "-"
"""As the file of --json: standard output, which then carries nothing else."""
DTYPES = ("auto", "float32", "bfloat16", "float16")
PROMPTS = ("name", "box")
DEPTH_UNITS = ("mm", "m", "disparity")
"""Those of `proxqa_core.datasets.depth_source.DepthUnit`."""
PICTURE_ENDINGS = (".jpg", ".jpeg", ".png")


class BadUsageError(ProxqaError, ValueError):
    """The command line itself is wrong."""


class NotInstalledError(ProxqaError, RuntimeError):
    """A package that a command needs is not installed; the message says how to get it."""


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that raises BadUsageError instead of ending the process."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does; but an argument that may be left out may also stand behind options.

        Before Python 3.13 argparse takes it for left out as soon as an option comes.
        """
        found, rest = super().parse_known_args(args, namespace)
        last = next((a for a in reversed(self._actions) if not a.option_strings), None)
        words = [word for word in rest if not word.startswith("-")]
        if last is not None and last.nargs == argparse.ONE_OR_MORE:  # a list may go on behind options
            getattr(found, last.dest).extend(self._get_values(last, words) if words else [])
            return found, [word for word in rest if word.startswith("-")]
        may_come = last is not None and last.nargs == argparse.OPTIONAL and len(words) == 1
        if last is not None and may_come and getattr(found, last.dest) == last.default:
            setattr(found, last.dest, self._get_values(last, words))
            rest.remove(words[0])
        return found, rest

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        """As argparse does; but an empty text is no path, which would be the current folder."""
        value = super()._get_value(action, arg_string)
        if isinstance(value, Path) and not arg_string:
            self.error(str(argparse.ArgumentError(action, "is empty; expected a file or folder")))
        return value

    def error(self, message: str) -> NoReturn:
        """Raise BadUsageError with a pointer to --help."""
        raise BadUsageError(f"{message}; see '{self.prog} --help'")


# --- argument types --------------------------------------------------------------------------------------------------


def count(text: str, least: int = 1) -> int:
    """A whole number of at least `least`."""
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"{text!r} is no count; expected a whole number from {least}")
    return value


def count_or_none(text: str) -> int:
    """A whole number from 0."""
    return count(text, 0)


def rounds(text: str) -> int:
    """A whole number from 1 of which only those from 2 can be used, as percentiles take several."""
    value = count(text)
    if value < 2:
        raise argparse.ArgumentTypeError(f"{text!r}: expected at least 2")
    return value


def positive(text: str) -> float:
    """A finite number above 0."""
    value = _number(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} cannot be used; expected a number above 0")
    return value


def share(text: str) -> float:
    """A number in [0, 1]."""
    value = _number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share; expected a number in [0, 1]")
    return value


def not_negative(text: str) -> float:
    """A finite number from 0."""
    value = _number(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} cannot be used; expected a number from 0")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def output_file(text: str) -> Path:
    """A file to write: told before the work, not after it, that there is no place for its result."""
    path = Path(text)
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{path}: its folder {path.parent} does not exist; make it first")
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{path}: is a folder; expected a file to write")
    return path


def input_file(text: str) -> Path:
    """A file to read: told before the work that it is not there."""
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(
            f"{path}: {'is a folder; expected a file' if path.is_dir() else 'no such file'}"
        )
    return path


def input_folder(text: str) -> Path:
    """A folder to read: told before the work that it is not there."""
    path = Path(text)
    if not path.is_dir():
        raise argparse.ArgumentTypeError(
            f"{path}: {'is a file; expected a folder' if path.is_file() else 'no such folder'}"
        )
    return path


def labelled_folder(text: str) -> Path:
    """A labelled folder to read."""
    path = Path(text)
    if not (path / "annotations.json").is_file():
        raise argparse.ArgumentTypeError(
            f"{path}: has no annotations.json; expected a labelled folder, as proxqa record writes"
        )
    return path


def report_file(text: str) -> str:
    """A file to write, or '-' for stdout."""
    return text if text == STDOUT else str(output_file(text))


def picture_file(text: str) -> Path:
    """A .jpg or .png file to write."""
    if Path(text).suffix.lower() not in PICTURE_ENDINGS:
        raise argparse.ArgumentTypeError(f"{text}: cannot write such a file; expected a name that ends in .jpg or .png")
    return output_file(text)


# --- groups of options -----------------------------------------------------------------------------------------------


def add_command(commands: SubParsers, name: str, summary: str, model: bool = True) -> Parser:
    """The parser of a new command that reports.

    Args:
        commands: The sub-parsers of the program.
        name: What the command is called.
        summary: One line on what it does.
        model: Whether it loads a model.

    Returns:
        A parser with -v, -q and --json, and where a model is loaded --model, --adapter, --device, --dtype,
        --backend and --int8.
    """
    parents = [log_options(), report_options(), *([model_options()] if model else [])]
    return commands.add_parser(name, parents=parents, help=summary, description=summary[:1].upper() + summary[1:] + ".")


def log_options() -> Parser:
    """A parent parser with -v and -q."""
    parser = Parser(add_help=False)
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("-v", "--verbose", action="store_true", help="log more: debugging, tracebacks")
    amount.add_argument("-q", "--quiet", action="store_true", help="log errors only")
    return parser


def report_options() -> Parser:
    """A parent parser with --json."""
    parser = Parser(add_help=False)
    parser.add_argument(
        "--json", metavar="FILE", type=report_file, help="write the report as JSON ('-': to stdout, and nothing else)"
    )
    return parser


def model_options() -> Parser:
    """A parent parser with what a model is loaded from and how."""
    parser = Parser(add_help=False)
    group = parser.add_argument_group("model")
    group.add_argument("--model", default="default", help="'default' (bundled), a Hugging Face LLaVA id or a folder")
    group.add_argument(
        "--adapter",
        metavar="DIR",
        help="LoRA weights and projector; 'none' = the base alone (default: the default model's bundled adapter)",
    )
    group.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    group.add_argument("--dtype", default="auto", choices=DTYPES, help="type of the weights (default: auto)")
    group.add_argument(
        "--backend",
        default="auto",
        choices=BACKENDS,
        help="what runs it (default: auto, the fastest that works; for one image torch until its graphs are there)",
    )
    group.add_argument(
        "--int8", action="store_true", help="language model in 8 bits (openvino): faster, depths change by up to 0.03"
    )
    return parser


def add_every_arguments(parser: Parser) -> argparse._MutuallyExclusiveGroup:
    """Add --every-images and --every-seconds, which exclude each other; returns their group."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--every-images", metavar="N", type=count, default=1, help="only each Nth image")
    group.add_argument(
        "--every-seconds", metavar="S", type=not_negative, default=0.0, help="least seconds between two images"
    )
    return group


def refuse_unused(options: argparse.Namespace, why: str) -> None:
    """Refuse what was given and would be ignored.

    Args:
        options: `unset` holds the options in question with their defaults.
        why: Where they are not used.

    Raises:
        BadUsageError: One was given.
    """
    for name, unset in options.unset.items():
        if getattr(options, name) != unset:
            raise BadUsageError(f"--{name.replace('_', '-')} is not used {why}")


# --- work ------------------------------------------------------------------------------------------------------------


def load_engine(options: argparse.Namespace, one_image: bool = False) -> ProximityEngine:
    """The engine that --model, --adapter, --device, --dtype, --backend and --int8 ask for.

    Args:
        options: Of the command line.
        one_image: Whether a single image is asked about: `auto` is PyTorch then where another backend's graphs would
            have to be made first.
    """
    from proxqa_core.model.base_weights import verifying_ahead
    from proxqa_core.model.sources import check_there

    check_there(options.model, options.adapter)
    prepared = one_image and options.backend == AUTO and not options.int8
    backend = BackendConfig(options.backend, options.int8, prepared)
    # while the import takes Python's own time
    with verifying_ahead() if options.model == "default" else contextlib.nullcontext():
        from proxqa_core.engine import ProximityEngine

        return ProximityEngine.load(options.model, options.adapter, options.device, options.dtype, backend=backend)


def shows_progress(options: argparse.Namespace) -> bool:
    """Whether progress lines and bars are shown: only to somebody who watches a terminal."""
    return sys.stderr.isatty() and not options.quiet


def stdout_to_stderr() -> contextlib.AbstractContextManager[Any]:
    """What libraries print while a model works goes to stderr: stdout carries the answer."""
    return contextlib.redirect_stdout(sys.stderr)


def object_queries(names: Sequence[str], boxes: Sequence[str] = ()) -> list[ObjectQuery]:
    """The objects named by --objects and --box.

    Args:
        names: Comma-separated names, one text for every --objects.
        boxes: NAME=X1,Y1,X2,Y2 in pixels, one for every --box: goes to the object of its name, or is one more object.

    Returns:
        The queries, at most MAX_OBJECTS, in the order given.

    Raises:
        BadObjectError: A name or a box cannot be used, or there are too many.
    """
    from proxqa_core.types import MAX_OBJECTS, ObjectQuery

    single = [name.strip() for given in names for name in given.split(",") if name.strip()]
    queries = [ObjectQuery(name) for name in dict.fromkeys(single)]
    for text in boxes:
        boxed = _boxed_query(text)
        alike = next((i for i, q in enumerate(queries) if q.name == boxed.name and q.box is None), None)
        if alike is None:
            queries.append(boxed)
        else:
            queries[alike] = boxed
    if len(queries) > MAX_OBJECTS:
        raise BadObjectError(f"{len(queries)} objects are too many for one request; at most {MAX_OBJECTS}")
    return queries


def _boxed_query(text: str) -> ObjectQuery:
    from proxqa_core.types import Box, ObjectQuery

    name, separator, corners = text.rpartition("=")
    try:
        x1, y1, x2, y2 = (float(v) for v in corners.split(","))
    except ValueError:
        separator = ""
    if not separator:
        raise BadObjectError(f"box {text!r} cannot be read; expected NAME=X1,Y1,X2,Y2 in pixels")
    return ObjectQuery(name, Box(x1, y1, x2, y2))


def made_by(options: argparse.Namespace) -> Provenance:
    """What a page says that it was made by: the command as it was given, version and date."""
    from proxqa_core.evaluation.html import Provenance

    return Provenance.now(["proxqa", *options.given])


def write_report(options: argparse.Namespace, report: Any, text: str) -> None:
    """Put a command's result where --json wants it.

    Args:
        options: Has `json`: None, a file, or '-' for stdout.
        report: Plain values, lists and dicts; NaN becomes null.
        text: The same for people, printed unless the JSON goes to stdout.
    """
    if options.json:
        write_json(options, report)
    if options.json != STDOUT:
        print(text)


def write_json(options: argparse.Namespace, report: Any) -> None:
    """Write a report to the file of --json, or print it where that is stdout."""
    if options.json == STDOUT:
        print(to_json(report))
        return
    # a file's name, which the report may hold, need not be text
    write_text(options.json, to_json(report) + "\n", errors="backslashreplace")


def checked(kind: Callable[[str], Any], option: str, text: str) -> Any:
    """What an argument type makes of a text, for options whose type depends on others; BadUsageError where it fails."""
    try:
        return kind(text)
    except argparse.ArgumentTypeError as error:
        raise BadUsageError(f"argument {option}: {error}") from error
