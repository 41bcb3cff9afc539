"""The container files name only what there is. That they build is not tested: it takes a registry."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.ros"])
def test_what_is_named_exists(name: str) -> None:
    text = (ROOT / "docker" / name).read_text()
    for path in re.findall(r"(?:src/proxqa/|-c |-r )?((?:requirements|config)/[\w./-]+\w)", text):
        assert (ROOT / path).exists(), path
    for command in re.findall(r"^# +docker .*proxqa(?::\w+)? (proxqa|proximity_node)\b", text, re.M):
        assert f"\n{command} = " in (ROOT / "pyproject.toml").read_text()
    for launch in re.findall(r"[\w.]+\.launch\.py", text):
        assert (ROOT / "launch" / launch).exists()


def test_a_distro_gets_what_the_installation_page_says() -> None:
    """The packages that pip installs there are those of docs/install.md, torch in a line of its own."""
    (said,) = set(re.findall(r'pip install ("torch.*?)\s+#', (ROOT / "docs/install.md").read_text()))
    text = (ROOT / "docker/Dockerfile.ros").read_text()
    assert all(package in text for package in said.split())


def test_nothing_built_is_sent_to_docker() -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {".git", "build"} <= set(ignored) and ".venv*" in ignored
