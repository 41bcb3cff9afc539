"""A backend that fails while it answers: PyTorch goes on with what had been read, and that is said once."""

from __future__ import annotations

import gc
import importlib.util
import logging
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from proxqa_core.backends.choice import choose
from proxqa_core.backends.config import BackendConfig
from proxqa_core.backends.graph_cache import cached
from proxqa_core.engine import ProximityEngine
from proxqa_core.errors import BackendError, WriteError
from proxqa_core.evaluation.bench import picture
from proxqa_core.model.loading import LoadedModel, load
from tests.core.tiny_llava import save_llava

NAMES = ["chair", "red lamp", "box"]


class Broken:
    """An inference request as it is once its device is lost."""

    def infer(self, *_: Any, **__: Any) -> None:
        raise RuntimeError("Exception from src/inference/src/cpp/infer_request.cpp:223:\ndevice lost")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    if importlib.util.find_spec("openvino") is None:
        pytest.skip("openvino is not installed")
    return load(str(save_llava(tmp_path_factory.mktemp("llava"))), device="cpu", dtype="float32")


@pytest.fixture
def engine(tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ProximityEngine:
    monkeypatch.setattr("proxqa_core.backends.graph_cache.cache_folder", lambda: tmp_path / "cache")
    return ProximityEngine(tiny, choose(tiny, BackendConfig("openvino"), lambda _: None))


def depths(of: Any, names: list[str]) -> list[float]:
    return [o.depth for o in of.depths(names)]


def lose(network: Any) -> None:
    network._current.network._request = Broken()


def test_the_frame_in_hand_is_answered_and_it_is_said_once(
    engine: ProximityEngine, tiny: LoadedModel, caplog: pytest.LogCaptureFixture
) -> None:
    reference = ProximityEngine(tiny, choose(tiny, BackendConfig("torch")))
    image, expected = engine.encode_image(picture(3)), reference.encode_image(picture(3))
    assert depths(image, NAMES[:1]) == pytest.approx(depths(expected, NAMES[:1]), abs=1e-3)
    caplog.clear()
    lose(engine.language_model)
    # its prefix was read by OpenVINO, what is new is read by PyTorch
    assert depths(image, NAMES) == pytest.approx(depths(expected, NAMES), abs=1e-3)
    pair = [(engine.encode_image(picture(5)), reference.encode_image(picture(5)))]
    for ours, theirs in pair:
        assert depths(ours, NAMES) == pytest.approx(depths(theirs, NAMES), abs=1e-3)
        assert ours.closer("chair", "box").raw_probability == pytest.approx(
            theirs.closer("chair", "box").raw_probability, abs=1e-3
        )
    said = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(said) == 1 and said[0].startswith("PyTorch runs the language model from now on: openvino failed: ")
    info = engine.info()
    assert info["language_model"].startswith("torch") and "openvino failed" in info["language_model"]
    assert info["vision_encoder"].startswith("openvino") and "\n" not in info["language_model"]


def test_a_vision_encoder_that_fails_is_replaced(engine: ProximityEngine, tiny: LoadedModel) -> None:
    reference = ProximityEngine(tiny, choose(tiny, BackendConfig("torch")))
    lose(engine.encoder)
    ours, theirs = engine.encode_image(picture(2)), reference.encode_image(picture(2))
    assert depths(ours, NAMES) == pytest.approx(depths(theirs, NAMES), abs=1e-3)
    assert engine.info()["vision_encoder"].startswith("torch")
    assert engine.info()["language_model"].startswith("openvino")


def test_after_a_failure_the_next_adapter_is_pytorchs(engine: ProximityEngine, tiny: LoadedModel) -> None:
    lose(engine.language_model)
    depths(engine.encode_image(picture(1)), NAMES[:1])
    assert engine.networks.make_language_model(tiny).description.startswith("torch")


def test_the_encoder_that_stays_keeps_no_language_model(
    tmp_path: Path, tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A swap of the adapter makes another one: the encoder serves both, and the first is freed."""
    monkeypatch.setattr("proxqa_core.backends.graph_cache.cache_folder", lambda: tmp_path / "cache")
    model = load(str(save_llava(tmp_path / "llava")), device="cpu", dtype="float32")
    networks = choose(model, BackendConfig("openvino"), lambda _: None)
    networks.make_language_model(model)
    first = weakref.ref(model.llava.get_output_embeddings())
    networks.make_language_model(tiny)
    del model
    gc.collect()
    assert first() is None and networks.encoder.description.startswith("openvino")


def test_what_pytorch_cannot_either_is_raised(engine: ProximityEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    lose(engine.encoder)
    monkeypatch.setattr("proxqa_core.backends.choice.TorchVisionEncoder.encode", Broken.infer)
    with pytest.raises(RuntimeError, match="device lost"):
        engine.encode_image(picture(1))


@pytest.mark.parametrize(
    "failure", [WriteError("no space"), OSError(5, "Input/output error"), NotADirectoryError(20, "Not a directory")]
)
def test_a_cache_that_fails_costs_no_graph(
    failure: OSError, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("proxqa_core.backends.graph_cache.cache_folder", lambda: tmp_path)

    def make(_: Path) -> None:
        raise failure

    assert cached("k", "1", make) is None
    assert caplog.text.count("not kept for the next start") == 1


def test_a_cache_that_is_a_file_and_a_failure_to_make(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("no folder")
    monkeypatch.setattr("proxqa_core.backends.graph_cache.cache_folder", lambda: tmp_path / "cache")
    assert cached("k", "1", lambda folder: None) is None

    def fails(_: Path) -> None:
        raise BackendError("cannot be traced")

    monkeypatch.setattr("proxqa_core.backends.graph_cache.cache_folder", lambda: tmp_path)
    with pytest.raises(BackendError, match="cannot be traced"):
        cached("k", "1", fails)


def test_a_graph_that_cannot_be_saved_is_used_without(
    tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import openvino

    def full(*_: Any, **__: Any) -> None:
        raise RuntimeError("Can't write to file")

    monkeypatch.setattr("proxqa_core.backends.graph_cache.cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(openvino, "save_model", full)
    networks = choose(tiny, BackendConfig("openvino"), lambda _: None)
    assert networks.name == "openvino" and "not kept for the next start" in caplog.text
    side = tiny.preprocessing.size
    assert torch.isfinite(networks.encoder.encode(torch.zeros(1, 3, side, side))).all()
