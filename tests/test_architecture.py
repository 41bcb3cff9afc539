"""How the modules depend on each other: no import cycles, a core without ROS, nothing odd in site-packages."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import setuptools

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {"proxqa_core": ROOT, "proxqa_ros": ROOT, "proxqa_training": ROOT / "training"}
"""The folder that each package lies in."""
FOLDERS = ("proxqa_core", "proxqa_ros", "training", "launch", "msg", "srv", "action", "config", "tests", "docs")
ROS_MODULES = {"rclpy", "launch", "launch_ros", "ament_index_python", "tf2_ros", "proxqa_ros", "rosidl_runtime_py"}
INSTALLED = {"proxqa_core", "proxqa_ros", "proxqa_training"}

Graph = dict[str, set[str]]


def modules() -> dict[str, Path]:
    """The files of all modules by their dotted names; a package has the name of its folder."""
    found = {}
    for package, folder in PACKAGES.items():
        for file in (folder / package).rglob("*.py"):
            parts = file.relative_to(folder).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imports_of(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Every import statement, inside functions too, but for those that only a type checker sees."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from imports_of(ast.Module(node.orelse, []))
        else:
            yield from imports_of(node)


def names_in(statement: ast.Import | ast.ImportFrom, module: str, is_package: bool) -> Iterator[str]:
    """The dotted names that an import statement of a module may mean, of modules or of what is in them."""
    if isinstance(statement, ast.Import):
        yield from (alias.name for alias in statement.names)
        return
    base = statement.module or ""
    if statement.level:
        parts = module.split(".") if is_package else module.split(".")[:-1]
        base = ".".join([*parts[: len(parts) - statement.level + 1], *([base] if base else [])])
    yield from (f"{base}.{alias.name}" for alias in statement.names)


def import_graph() -> Graph:
    """The modules that each module imports, by name. Importing a submodule is no import of its package."""
    files = modules()
    graph: Graph = {}
    for module, file in files.items():
        tree = ast.parse(file.read_text(encoding="utf-8"), str(file))
        graph[module] = set()
        for statement in imports_of(tree):
            for name in names_in(statement, module, file.name == "__init__.py"):
                target = name if name in files else name.rpartition(".")[0]
                graph[module] |= {target} & (files.keys() - {module})
    return graph


def cycles(graph: Graph) -> list[list[str]]:
    """Groups of modules that import each other, directly or through others: Tarjan's strongly connected components."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for other in sorted(graph[module]):
            if other not in index:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], index[other])
        if low[module] == index[module]:
            at = stack.index(module)
            group, stack[at:] = stack[at:], []
            if len(group) > 1:
                found.append(sorted(group))

    for module in sorted(graph):
        if module not in index:
            visit(module)
    return found


def imported_by(package: str) -> Iterable[tuple[str, str]]:
    """(module, dotted name) of everything that the modules of a package import."""
    for module, file in modules().items():
        if module.split(".")[0] == package:
            for statement in imports_of(ast.parse(file.read_text(encoding="utf-8"))):
                for name in names_in(statement, module, file.name == "__init__.py"):
                    yield module, name


def test_cycles_are_found() -> None:
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set()}) == [["b", "c"]]
    assert cycles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_imports_in_functions_count_and_those_for_types_do_not() -> None:
    tree = ast.parse("if TYPE_CHECKING:\n    import a\nelse:\n    import b\ndef f():\n    from c import d, e\n")
    assert [n for s in imports_of(tree) for n in names_in(s, "m", False)] == ["b", "c.d", "c.e"]
    assert list(names_in(ast.parse("from ..x import y").body[0], "p.q.m", False)) == ["p.x.y"]  # type: ignore[arg-type]


def test_no_module_imports_itself_through_others() -> None:
    assert cycles(import_graph()) == []


def test_the_core_imports_no_ros() -> None:
    packages = {name.split(".")[0] for _, name in imported_by("proxqa_core")}
    assert "numpy" in packages
    assert not packages & ROS_MODULES
    assert not [name for name in packages if name.endswith(("_msgs", "_srvs", "_interfaces"))]


def test_the_node_does_not_import_training() -> None:
    assert not [name for _, name in imported_by("proxqa_ros") if name.startswith("proxqa_training")]


def test_nothing_called_training_is_installed() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    find = settings["packages"]["find"]
    packages = [
        package
        for where in find["where"]
        for package in setuptools.find_namespace_packages(str(ROOT / where), find["exclude"], find["include"])
    ]
    assert {name.split(".")[0] for name in packages} == INSTALLED
    assert not [name for name in packages if name.endswith("__pycache__")]


@pytest.mark.parametrize("folder", FOLDERS)
def test_top_folders_are_there(folder: str) -> None:
    assert (ROOT / folder).is_dir() and any((ROOT / folder).iterdir())
