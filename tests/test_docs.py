"""The documentation names only what there is: links, files, functions, commands, options, topics, parameters."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from proxqa_core.types import QuestionKind

ROOT = Path(__file__).resolve().parents[1]
FOLDERS_OF_PAGES = (".github", "docs", "examples", "findings", "training")
PAGES = sorted([*ROOT.glob("*.md"), *(page for folder in FOLDERS_OF_PAGES for page in (ROOT / folder).rglob("*.md"))])
FENCED = re.compile(r"^```.*?^```$", re.M | re.S)
FOLDERS = (
    "proxqa_core|proxqa_ros|training|tests|config|launch|scripts|examples|docs|demo|findings"  # and the interfaces:
    "|msg|srv|action"
)
GROUPS = ("train", "data")
"""Commands of the training package."""
OF_OLD = {"CHANGELOG.md"}
"""Pages that name what there was."""


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


every_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


def slug(heading: str) -> str:
    """A heading's anchor, as the repository's viewer and MyST make it."""
    plain = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading.strip().lower())
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    return {slug(h) for h in re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text()), re.M)}


@every_page
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCED.sub("", page.read_text())):
        if re.match(r"[a-z]+:", target) or "api/generated" in target or target.startswith("generated/"):
            continue
        file, _, anchor = target.partition("#")
        place = (page.parent / file).resolve() if file else page
        assert place.exists() and place.is_relative_to(ROOT), f"{name_of(page)}: no {target}"
        if anchor and place.suffix == ".md":
            assert anchor in anchors(place), f"{name_of(page)}: {target}: no such heading"


@every_page
def test_files_that_are_named_exist(page):
    if name_of(page) in OF_OLD:
        pytest.skip("names what there was")
    for path in re.findall(rf"`((?:{FOLDERS})/[\w/.-]*)`", page.read_text()):
        message_type = re.fullmatch(r"proxqa_ros/[A-Z]\w+", path)
        assert message_type or (ROOT / path).exists(), f"{name_of(page)}: no {path}"


def test_functions_that_the_architecture_names_are_where_it_says():
    text = (ROOT / "docs/architecture.md").read_text()
    named = re.findall(r"`([\w/]+\.py)`, `([\w.]+)`", text)
    assert len(named) >= 3
    for file, function in named:
        name = function.rpartition(".")[2]
        assert re.search(rf"^\s*(def|class) {name}\b", (ROOT / file).read_text(), re.M), f"no {function} in {file}"


# -- the command line -------------------------------------------------------------------------------------------------


COMMAND = re.compile(r"(?:^|[\s/])(?:proxqa|-m proxqa_core\.cli) (?=[a-z][a-z-]*(?:\s|$))(.*)")


def commands_in(text: str) -> Iterator[list[str]]:
    """Every `proxqa COMMAND …` in code, as words; a line that ends in a backslash goes on."""
    code = [*FENCED.findall(text), *re.findall(r"`([^`\n]*(?:\n[^`\n]+)?)`", FENCED.sub("", text))]
    for piece in code:
        for line in re.sub(r"\\\n", " ", piece).splitlines() if piece.startswith("```") else [" ".join(piece.split())]:
            if found := COMMAND.search(line.split(" #")[0]):
                yield re.sub(r'"[^"]*"', "TEXT", found.group(1)).split()


def options_of(parser: argparse.ArgumentParser, words: list[str]) -> tuple[str, set[str]]:
    """The sub-command that the words begin with, and its options."""
    names = []
    while subparsers := [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]:
        choices = subparsers[0].choices
        if not words or words[0] not in choices:
            assert names and (not words or not re.fullmatch(r"[a-z][a-z-]*", words[0])), f"no command {words[:2]}"
            break
        names.append(words[0])
        parser, words = choices[words[0]], words[1:]
    return " ".join(names), set(parser._option_string_actions)


@pytest.fixture(scope="module")
def parser():
    from proxqa_core.cli.main import build_parser

    return build_parser(groups=GROUPS)


@every_page
def test_commands_and_options_exist(page, parser):
    if name_of(page) in OF_OLD:
        pytest.skip("names what there was")
    for words in commands_in(page.read_text()):
        command, options = options_of(parser, words)
        for word in words:
            if word.startswith("--"):
                option = word.split("=")[0].rstrip(",;.:)")
                assert option in options, f"{name_of(page)}: proxqa {command} has no {option}"


def test_every_command_is_documented(parser):
    text = (ROOT / "docs/commands.md").read_text() + (ROOT / "docs/training.md").read_text()
    (top,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    missing = {c for c in top.choices if f"`proxqa {c}" not in text}
    for group in GROUPS:
        (leaves,) = (a for a in top.choices[group]._actions if isinstance(a, argparse._SubParsersAction))
        missing |= {f"{group} {c}" for c in leaves.choices if f"`proxqa {group} {c}`" not in text}
    assert not missing


# -- ROS --------------------------------------------------------------------------------------------------------------


def in_code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def rows_under(text: str, header: str) -> list[list[str]]:
    """The cells of the table with this header row."""
    assert header in text
    rows = text[text.index(header) :].split("\n\n")[0].splitlines()[2:]
    return [[c.strip() for c in row.strip("|").split("|")] for row in rows]


def parameters(*nodes: str) -> set[str]:
    return {p for n in nodes for p in yaml.safe_load((ROOT / f"config/{n}.yaml").read_text())["/**"]["ros__parameters"]}


def test_topics_that_are_documented_exist():
    source = "".join(f.read_text() for f in (ROOT / "proxqa_ros").rglob("*.py"))
    for page in ("docs/ros.md", "docs/navigation.md"):
        for name, *_ in rows_under((ROOT / page).read_text(), "| name | type | |"):
            for topic in in_code(name):
                last = topic.rpartition("/")[2]
                assert re.search(rf"[\"'/]{last}[\"'{{]", source), f"{page}: no topic or service {topic}"


def test_parameters_that_are_documented_exist_and_none_is_left_out():
    documented = [
        n for row in rows_under((ROOT / "docs/ros.md").read_text(), "| parameter | default |") for n in in_code(row[0])
    ]
    assert len(documented) == len(set(documented))
    assert set(documented) == parameters("proximity")


def test_parameters_and_launch_arguments_in_running_text_exist():
    known = parameters("proximity", "speed_governor", "replay_evaluation") | {"use_sim_time"}
    launch = "".join(f.read_text() for f in (ROOT / "launch").glob("*.py"))
    for page in (*PAGES,):
        text = page.read_text()
        for name in re.findall(r"parameters? `(\w+)`", text):
            assert name in known, f"{name_of(page)}: no parameter {name}"
        for line in re.sub(r"\\\n", " ", text).splitlines():
            for name in re.findall(r"\b(\w+):=", line) if "ros2 launch" in line or ".launch.py" in line else ():
                assert re.search(rf"[\"']{name}[\"']", launch) or name in known, f"{name_of(page)}: no argument {name}"


def test_the_server_page_names_every_kind_of_question():
    [row] = (r for r in rows_under((ROOT / "docs/serve.md").read_text(), "| key | |") if r[0] == "`kind`")
    assert set(in_code(row[1])) == {kind.value for kind in QuestionKind} | {"refused"}


# -- the whole --------------------------------------------------------------------------------------------------------


def test_the_readme_is_short_and_leads_to_every_page():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 160
    linked = set(re.findall(r"\((docs/[\w-]+\.md)\)", text))
    assert linked >= {name_of(p) for p in PAGES if p.parent == ROOT / "docs"} - {"docs/index.md"}


@every_page
def test_nothing_of_one_machine(page):
    assert not re.search(r"(?<![\w.])/(work|tmp|root|home)/|localhost|\bpypi\.org|pythonhosted", page.read_text())


def test_documented_python_is_python():
    """The Python in README and docs compiles, and imports names that there are."""
    for page in PAGES:
        for code in re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.M | re.S):
            compile(code, name_of(page), "exec")
            exec("\n".join(x for x in code.splitlines() if re.match(r"(from|import) proxqa", x)), {})
