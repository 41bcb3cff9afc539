"""The program as a whole: its options are the same in every command, and how it ends."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from proxqa_core.backends.config import BACKENDS
from proxqa_core.cli import main
from proxqa_core.cli.common import DTYPES
from proxqa_core.cli.main import build_parser
from proxqa_core.errors import BadModelError, ModelNotFoundError
from tests.core.fake_engine import FakeEngine

ROOT = Path(__file__).parents[3]
GROUPS = {"train", "data"}
"""Commands of the training package."""
COMMANDS = {"ask", "depths", "chat", "eval", "eval-bag", "compare", "record", "bench", "info", *GROUPS}
COMMANDS |= {"serve", "export", "doctor", "names", "cache"}
WITH_MODEL = COMMANDS - {"record", "export", "doctor", "names", "cache", *GROUPS}


def commands_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    (choices,) = (a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return dict(choices)


def options_of(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    return {option: action for action in parser._actions for option in action.option_strings}


def leaves() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command but those of the training package."""
    yield from ((name, parser) for name, parser in commands_of(build_parser()).items() if name not in GROUPS)


def test_the_commands() -> None:
    assert set(commands_of(build_parser())) == COMMANDS


@pytest.mark.parametrize(("name", "parser"), leaves(), ids=lambda x: x if isinstance(x, str) else "")
def test_every_command_logs_and_reports_alike(name: str, parser: argparse.ArgumentParser) -> None:
    options = options_of(parser)
    assert options["-v"] is options["--verbose"] and options["-q"] is options["--quiet"]
    if name != "serve":  # which reports nothing
        assert options["--json"].nargs is None and options["--json"].metavar == "FILE"
    assert parser.get_default("command") is not None
    assert not [a.option_strings for a in parser._actions if not a.help and not a.metavar], "says nothing of an option"


@pytest.mark.parametrize(("name", "parser"), leaves(), ids=lambda x: x if isinstance(x, str) else "")
def test_a_model_is_chosen_alike_wherever_one_is_loaded(name: str, parser: argparse.ArgumentParser) -> None:
    options = options_of(parser)
    chosen = {"--model", "--adapter", "--device", "--dtype", "--backend", "--int8"} & set(options)
    if name == "export":  # the base as it is, for other runtimes
        assert chosen == {"--model", "--device", "--dtype"}
        return
    if name == "names":  # of which only what is said is read
        assert chosen == {"--model", "--adapter"}
        return
    assert len(chosen) == (6 if name in WITH_MODEL else 0)
    if chosen:
        assert options["--dtype"].choices == DTYPES == ("auto", "float32", "bfloat16", "float16")
        assert options["--device"].default == "auto"
        assert options["--backend"].choices == BACKENDS and options["--backend"].default == "auto"


@pytest.mark.parametrize("name", ["record", "eval-bag"])
def test_images_are_chosen_alike_from_every_bag(name: str) -> None:
    parser = commands_of(build_parser())[name]
    options = options_of(parser)
    assert options["--every-images"].metavar == "N" and options["--every-seconds"].metavar == "S"
    (group,) = (g for g in parser._mutually_exclusive_groups if options["--every-images"] in g._group_actions)
    assert options["--every-seconds"] in group._group_actions


@pytest.mark.parametrize("name", sorted(COMMANDS - GROUPS))
def test_help_of_every_command(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    assert end.value.code == 0
    assert f"usage: proxqa {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "COMMAND"),
        (["dance"], "dance"),
        (["info", "-v", "-q"], "not allowed"),
        (["info", "--json"], "expected one argument"),
        (["info", "--json", "nowhere/r.json"], "does not exist"),
        (["info", "--dtype", "int3"], "int3"),
        (["info", "more"], "more"),
        (["depths", "", "--objects", "cup"], "IMAGE: is empty; expected a file or folder"),
        (["depths", "a.jpg", "-q", ""], "IMAGE: is empty"),
        (["ask", "", "How far is the cup?"], "an image's name is empty"),
        (["record", "bag", "--out", ""], "--out: is empty"),
        (["eval", ""], "DATA is empty"),
    ],
)
def test_bad_usage(arguments: list[str], says: str, refused: Callable[[Sequence[str], str], None]) -> None:
    refused(arguments, says)


@pytest.mark.parametrize(
    "error",
    [
        ModelNotFoundError("no model; run get-base"),
        BadModelError("weights are\ndamaged"),
        OSError(28, "No space left on device"),
        PermissionError(13, "Permission denied", "x"),
    ],
)
@pytest.mark.parametrize("quiet", [[], ["-q"]])
def test_failures_are_one_line_and_code_1(
    error: Exception,
    quiet: list[str],
    image: str,
    use_engine: Callable[[Any], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    use_engine(error)
    assert main(["depths", image, "--objects", "chair", *quiet]) == 1
    output = capsys.readouterr()
    assert output.out == "" and output.err.startswith("proxqa: ") and output.err.count("\n") == 1


def test_verbose_shows_where_it_failed(use_engine: Callable[[Any], None], capsys: pytest.CaptureFixture[str]) -> None:
    use_engine(BadModelError("weights are damaged"))
    assert main(["info", "-v"]) == 1
    error = capsys.readouterr().err
    assert "Traceback" in error and error.splitlines()[-1] == "proxqa: weights are damaged"


def test_interrupted(use_engine: Callable[[Any], None], capsys: pytest.CaptureFixture[str]) -> None:
    use_engine(KeyboardInterrupt())
    assert main(["info"]) == 130
    assert capsys.readouterr().err == "proxqa: interrupted\n"


def test_an_error_of_the_program_itself_is_not_hidden(use_engine: Callable[[Any], None]) -> None:
    use_engine(ValueError("a mistake in the code"))
    with pytest.raises(ValueError, match="a mistake"):
        main(["info"])


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; from proxqa_core import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'torch', 'numpy', 'cv2', 'PIL', 'transformers', 'proxqa_training'}\n"
        "assert not heavy & set(sys.modules), sorted(sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert all(name in run.stdout for name in COMMANDS)


def test_as_a_module() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "proxqa_core.cli", "depths", "nowhere.jpg", "--objects", "chair"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
    )
    assert run.returncode == 2 and run.stdout == ""
    assert run.stderr.startswith("proxqa: ") and "no such file" in run.stderr and run.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [["depths", "IMAGE", "--objects", "chair", "--json", "-"], ["depths", "--help"]], ids=["json", "help"]
)
def test_a_closed_pipe_is_no_error(arguments: list[str], image: str) -> None:
    given = [image if a == "IMAGE" else a for a in arguments]
    program = (
        "import sys\nfrom tests.core.fake_engine import FakeEngine\nfrom proxqa_core.cli import common, main\n"
        "common.load_engine = lambda *_: FakeEngine({'chair': 0.2})\n"
        f"sys.exit(main({given!r}))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as run:
        assert run.stdout is not None and run.stderr is not None
        run.stdout.close()
        assert run.stderr.read() == ""
    assert run.returncode == 0


def test_json_to_a_file_leaves_stdout_to_people(
    fake: FakeEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", "--json", str(tmp_path / "info.json")]) == 0
    assert "fake <model>" in capsys.readouterr().out
    assert '"scale": null' in (tmp_path / "info.json").read_text()
