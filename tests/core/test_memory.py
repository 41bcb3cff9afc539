"""Where memory has run out it is said what did not fit, whoever noticed."""

from __future__ import annotations

import sys

import pytest
import torch

from proxqa_core import memory
from proxqa_core.cli.main import main
from proxqa_core.errors import ModelNotFoundError, OutOfMemoryError
from proxqa_core.memory import naming_what_does_not_fit
from proxqa_core.model import loading


def torch_wants_too_much() -> None:
    torch.empty(2**50, dtype=torch.uint8)


def python_wants_too_much() -> None:
    bytearray(2**60)


def cuda_wants_too_much() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.50 GiB. GPU 0 has …\nlines")


@pytest.mark.parametrize(
    ("fails", "wanted"),
    [
        (torch_wants_too_much, "1125899906.8 MB more were wanted, "),
        (python_wants_too_much, ""),
        (cuda_wants_too_much, "1.50 GiB more were wanted, "),
    ],
)
def test_what_does_not_fit_is_named(fails, wanted):
    with pytest.raises(OutOfMemoryError) as caught, naming_what_does_not_fit("model 'm'"):
        fails()
    text = str(caught.value)
    assert text.startswith(f"model 'm' does not fit into memory: {wanted}") and "MB are available" in text
    assert "\n" not in text


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="shape"), naming_what_does_not_fit("model"):
        raise RuntimeError("shape")
    with pytest.raises(OutOfMemoryError, match=r"^inner$"), naming_what_does_not_fit("outer"):
        raise OutOfMemoryError("inner")


def test_a_model_that_does_not_fit(monkeypatch, tmp_path):
    monkeypatch.setattr(loading, "load_llava", lambda *_: torch_wants_too_much())
    with pytest.raises(OutOfMemoryError, match=f"model '{tmp_path}' does not fit into memory") as caught:
        loading.load(str(tmp_path))
    assert not isinstance(caught.value, ModelNotFoundError)


@pytest.mark.parametrize("fails", [torch_wants_too_much, python_wants_too_much])
def test_the_program_ends_with_one_line(monkeypatch, capsys, fails):
    monkeypatch.setattr(sys.modules["proxqa_core.cli.main"], "_dispatch", lambda *_: fails())
    assert main(["info"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("proxqa: memory has run out: ") and error.count("\n") == 1


def test_how_much_there_is_is_known_on_linux():
    available = memory.available()
    assert available is None or available > 0
    memory.return_to_system()
