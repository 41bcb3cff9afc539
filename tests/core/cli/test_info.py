"""`proxqa info`, and how a model is chosen."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxqa_core.backends.config import BackendConfig
from proxqa_core.cli import main
from proxqa_core.cli.tables import info_table
from proxqa_core.engine import ProximityEngine
from tests.core.fake_engine import FakeEngine


def test_info(fake: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["scale"] is None
    assert main(["info"]) == 0
    assert "fake <model>" in capsys.readouterr().out


def test_info_fits_a_screen_unless_all_is_wanted() -> None:
    training = {"images": 7, "config": {"stages": [{"name": f"s{i}", "rate": 0.1} for i in range(30)]}}
    info = {**{f"fact_{i}": "words " * 40 for i in range(3)}, "training": training, "nothing": None}
    screen = info_table(info).splitlines()
    assert len(screen) <= 22 and max(map(len, screen)) <= 80 and "s29" not in "".join(screen)
    assert "training  images 7" in info_table(info) and "--verbose" in screen[-1]
    assert '"s29"' in info_table(info, everything=True)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], ("default", None, "auto", "auto", BackendConfig())),
        (
            ["--model", "owner/m", "--adapter", "none", "--device", "cpu", "--dtype", "float16"],
            ("owner/m", "none", "cpu", "float16", BackendConfig()),
        ),
        (["--backend", "openvino", "--int8"], ("default", None, "auto", "auto", BackendConfig("openvino", True))),
    ],
)
def test_what_is_loaded(arguments: list[str], expected: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    def load(*given: Any, backend: BackendConfig) -> FakeEngine:
        asked.append((*given, backend))
        return FakeEngine({})

    monkeypatch.setattr(ProximityEngine, "load", load)
    assert main(["info", *arguments]) == 0
    assert asked == [expected]
