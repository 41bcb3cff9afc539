"""`proxqa train …`: how the training package's commands come in, and how they end."""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from proxqa_core.cli import main, train
from proxqa_core.cli.common import Parser
from proxqa_core.cli.main import build_parser
from proxqa_core.errors import BadModelError

ROOT = Path(__file__).parents[3]
landed = pytest.mark.skipif(
    not (ROOT / "training/proxqa_training/cli.py").exists(), reason="the training package has no commands yet"
)


@pytest.fixture
def made_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[argparse.Namespace], None]], None]:
    """Puts a training package in place whose only command, `colours`, does this."""

    def put(command: Callable[[argparse.Namespace], None]) -> None:
        def add_commands(commands: Any, parser_class: type[Parser], parents: Sequence[Any]) -> None:
            colours = commands.add_parser("colours", parents=parents, help="train colours")
            assert isinstance(colours, parser_class)
            colours.add_argument("--steps", type=int, default=1)
            colours.set_defaults(command=command)

        module = ModuleType("proxqa_training.cli")
        module.add_commands = add_commands  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "proxqa_training.cli", module)

    return put


def test_a_command(made_of: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def command(options: argparse.Namespace) -> None:
        logging.getLogger("proxqa_training.colours").info("step %d", options.steps)
        print(json.dumps({"steps": options.steps}))

    made_of(command)
    assert main(["train", "colours", "--steps", "3"]) == 0
    output = capsys.readouterr()
    assert json.loads(output.out) == {"steps": 3} and output.err == "proxqa: step 3\n"
    assert main(["train", "colours", "-q"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (ValueError("lr is -1; expected\nmore than 0"), 2, "proxqa: lr is -1; expected more than 0\n"),
        (BadModelError("weights are damaged"), 1, "proxqa: weights are damaged\n"),
        (OSError(28, "No space left on device"), 1, "proxqa: [Errno 28] No space left on device\n"),
        (ModuleNotFoundError("No module named 'bpy'", name="bpy"), 1, "pip install bpy\n"),
        (ImportError("matplotlib is too old"), 1, "proxqa: matplotlib is too old\n"),
        (KeyboardInterrupt(), 130, "proxqa: interrupted\n"),
    ],
)
def test_how_a_command_ends(
    error: BaseException, code: int, says: str, made_of: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(options: argparse.Namespace) -> None:
        raise error

    made_of(command)
    assert main(["train", "colours"]) == code
    output = capsys.readouterr()
    assert output.out == "" and output.err.startswith("proxqa: ") and output.err.endswith(says)
    assert output.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [([], "COMMAND"), (["dance"], "dance"), (["colours", "--steps", "few"], "proxqa train colours --help")],
)
def test_bad_usage(
    arguments: list[str], says: str, made_of: Any, refused: Callable[[Sequence[str], str], None]
) -> None:
    made_of(lambda options: None)
    refused(["train", *arguments], says)


@pytest.mark.parametrize("missing", ["proxqa_training", "proxqa_training.cli", "yaml"])
def test_where_something_is_not_installed(
    missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def import_module(name: str) -> ModuleType:
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    monkeypatch.setattr(train.importlib, "import_module", import_module)
    assert main(["train", "colours"]) == 1
    error = capsys.readouterr().err
    assert "not installed" in error and "pip install" in error and missing.split(".")[0] in error
    assert error.count("\n") == 1


OF_TRAINING = {
    "scenes", "drive", "contact-sheet", "tower", "run", "finetune", "calibrate", "colours", "compare", "curves",
    "perceive", "reason", "convert", "names", "grounding", "order",
}  # fmt: skip


def leaves_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    (choices,) = (a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return dict(choices)


@landed
def test_the_training_commands_log_and_load_alike() -> None:
    commands = leaves_of(leaves_of(build_parser(groups=["train"]))["train"])
    assert set(commands) == OF_TRAINING
    for name, parser in commands.items():
        options = {option: action for action in parser._actions for option in action.option_strings}
        assert {"-v", "--verbose", "-q", "--quiet"} <= set(options), name
        assert parser.get_default("command") is not None, name
        assert "--json" not in options or options["--json"].metavar == "FILE", name


@landed
def test_help_of_training_imports_nothing_heavy_and_the_checkout_goes_first() -> None:
    program = (
        "import sys; from proxqa_core import cli\n"
        "try: cli.main(['train', '--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "assert not {'torch', 'transformers', 'bpy', 'matplotlib'} & set(sys.modules), sorted(sys.modules)\n"
        "import proxqa_training; print(proxqa_training.__file__)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    *help_text, file = run.stdout.splitlines()
    assert all(any(name in line for line in help_text) for name in OF_TRAINING)
    assert Path(file).parent == ROOT / "training" / "proxqa_training"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "finetune", "{}", "--out", "{}/a"], "has no annotations.json; expected a labelled folder"),
        (["train", "run", "{}/none.yaml", "--start", "{}", "--data", "{}", "--out", "{}/r"], "no such file"),
        (["train", "perceive", "--model", "default", "--data", "{}", "--out", "{}/r"], "is a folder; expected a file"),
        (
            ["train", "perceive", "--model", "default", "--data", "{}/m.json", "--out", "{}/r", "--start", "{}/m.json"],
            "is a",
        ),
        (["info", "--model", "models/none"], "is not there; expected 'default'"),
        (["info", "--adapter", "{}/none"], "does not exist"),
    ],
)
def test_what_is_not_there_is_told_before_anything_heavy_is_imported(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m.json").write_text("[]")
    monkeypatch.setitem(sys.modules, "proxqa_core.engine", None)  # whoever imports it fails
    monkeypatch.setitem(sys.modules, "torch", None)
    try:
        code = main([a.format(tmp_path) for a in arguments])
    except SystemExit as ended:
        code = int(str(ended.code))
    assert code in (1, 2)
    error = capsys.readouterr().err.strip()
    assert says in error and len(error.splitlines()) == 1
