"""What the tests of the commands share: an image, engines that are no models, one way to check a complaint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from proxqa_core.cli import common, main
from tests import made_bag as made
from tests.core.fake_engine import FakeEngine

KNOWN = {"chair": 0.2, "table": 0.6, "left cup": 0.1, "right cup": 0.8, "lamp": 0.4}


@pytest.fixture
def image(tmp_path: Path) -> str:
    """The path of an image of 64x48."""
    Image.fromarray(np.full((48, 64, 3), 90, np.uint8)).save(tmp_path / "room.jpg")
    return str(tmp_path / "room.jpg")


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    """A bag of 6 images with labels, every second with a depth image."""
    return made.write(tmp_path / "drive", made.drive())


@pytest.fixture
def use_engine(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Sets the engine that the commands get; an exception is raised instead."""

    def use(engine: Any) -> None:
        def load(options: Any, one_image: bool = False) -> Any:
            if isinstance(engine, BaseException):
                raise engine
            print("a library prints while it loads")
            return engine

        monkeypatch.setattr(common, "load_engine", load)

    return use


@pytest.fixture
def fake(use_engine: Callable[[Any], None]) -> FakeEngine:
    """The engine of the commands, which knows some depths by heart."""
    engine = FakeEngine(KNOWN)
    use_engine(engine)
    return engine


@pytest.fixture
def refused(
    use_engine: Callable[[Any], None], capsys: pytest.CaptureFixture[str]
) -> Callable[[Sequence[str], str], None]:
    """Checks that a command line is bad input: code 2 and one line that says this, before any model is loaded."""

    def check(arguments: Sequence[str], says: str) -> None:
        use_engine(AssertionError("the model was loaded before the input was checked"))
        assert main(arguments) == 2
        output = capsys.readouterr()
        assert output.out == "" and output.err.startswith("proxqa: ") and says in output.err
        assert output.err.count("\n") == 1

    return check
