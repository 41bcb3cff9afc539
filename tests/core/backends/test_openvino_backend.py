"""OpenVINO computes what PyTorch does, with the default model and a tiny LLaVA; what it cannot, PyTorch answers."""

from __future__ import annotations

import importlib.util
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from proxqa_core.backends import choice
from proxqa_core.backends.config import BackendConfig
from proxqa_core.backends.graph_cache import cached, digest, is_whole
from proxqa_core.engine import ProximityEngine
from proxqa_core.errors import BackendError, BadModelError
from proxqa_core.evaluation.bench import picture
from proxqa_core.llm.branching import Branch, Tree
from proxqa_core.model.loading import LoadedModel, load
from proxqa_core.model.parts import LANGUAGE_MODEL_PREFIX
from proxqa_core.types import Box, ObjectQuery
from tests.core.tiny_llava import save_adapter, save_llava

OPENVINO = BackendConfig("openvino")
QUERIES = [ObjectQuery("chair"), ObjectQuery("red lamp"), ObjectQuery("box", Box(10, 20, 300, 400))]


def _need_openvino() -> None:
    if importlib.util.find_spec("openvino") is None:  # importing it here would import its telemetry
        pytest.skip("openvino is not installed")


@pytest.fixture(scope="module")
def openvino() -> ProximityEngine:
    _need_openvino()
    return ProximityEngine.load("default", device="cpu", dtype="float32", backend=OPENVINO)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_llava(tmp_path_factory.mktemp("llava"))


@pytest.fixture(autouse=True)
def own_cache(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Graphs of tiny models go into a cache of their own."""
    if "openvino" not in request.fixturenames:
        monkeypatch.setattr("proxqa_core.backends.graph_cache.cache_folder", lambda: tmp_path / "cache")


def test_it_says_what_runs(openvino: ProximityEngine) -> None:
    info = openvino.info()
    assert info["backend"] == "openvino"
    for part in ("vision_encoder", "language_model"):
        assert info[part].startswith("openvino 2") and info[part].endswith("float32")


def test_nothing_is_sent_home(openvino: ProximityEngine) -> None:
    """OpenVINO's Python package reports its imports and conversions, without being asked to."""
    assert not sys.modules.get("openvino_telemetry")


def test_depths_and_choices_agree_with_torch(openvino: ProximityEngine, exact: ProximityEngine) -> None:
    ours, theirs = openvino.encode_image(picture(3)), exact.encode_image(picture(3))
    for a, b in zip(ours.depths(QUERIES), theirs.depths(QUERIES), strict=True):
        assert a.depth == pytest.approx(b.depth, abs=1e-3) and a.score == pytest.approx(b.score, abs=1e-3)
    pairs = [(a, b) for a in QUERIES for b in QUERIES if a != b]
    for mine, reference in zip(ours.closer_many(pairs), theirs.closer_many(pairs), strict=True):
        assert mine.raw_probability == pytest.approx(reference.raw_probability, abs=5e-3)


def test_features_of_several_images_agree_with_torch(openvino: ProximityEngine, exact: ProximityEngine) -> None:
    pixels = exact.model.preprocessing.pixels([picture(1), picture(2), picture(7)])
    ours, theirs = openvino.encoder.encode(pixels), exact.encoder.encode(pixels)
    assert torch.nn.functional.cosine_similarity(ours, theirs, dim=-1).min() > 0.9999


def test_branches_of_different_prefixes_share_a_pass(openvino: ProximityEngine, exact: ProximityEngine) -> None:
    ours, theirs = openvino.language_model, exact.language_model
    starts = [ours.embed(range(200, 200 + n)) for n in (30, 12)]
    rows = [ours.embed(range(300 + n, 309 + n)) for n in range(4)]
    tails = ours.embed(exact.model.prompter.digits)
    results = []
    for lm in (ours, theirs):
        prefixes = lm.run_prefixes([Branch(None, s) for s in starts])
        assert [p.length for p in prefixes] == [30, 12]
        after = [*prefixes, prefixes[0].first(5), None]
        results.append(lm.run_branches([Branch(p, r, tails) for p, r in zip(after, rows, strict=True)]))
    for a, b in zip(*results, strict=True):
        assert a.shape == b.shape == (19, ours.embed([1]).shape[1]) and torch.allclose(a, b, atol=5e-3)


def test_images_and_their_objects_are_read_in_one_pass(openvino: ProximityEngine, exact: ProximityEngine) -> None:
    ours, theirs = openvino.language_model, exact.language_model
    table = [theirs.embed(range(200, 200 + n)) for n in (12, 30, 9, 5, 7)]
    results = []
    for lm in (ours, theirs):
        (start,) = lm.run_prefixes([Branch(None, table[0])])
        trunks = [Branch(start, table[1]), Branch(None, table[2])]
        read = lm.run_trees([Tree(t, (Branch(None, table[3]), Branch(None, table[4], table[2]))) for t in trunks])
        assert [prefix.length for prefix, _ in read] == [42, 9]
        after = lm.run_branches([Branch(prefix, table[3]) for prefix, _ in read])
        results.append([state for _, states in read for state in states] + after)
    for a, b in zip(*results, strict=True):
        assert a.shape == b.shape and torch.allclose(a, b, atol=5e-3)


@pytest.mark.parametrize(
    ("rows", "longest", "padded"), [(1, 158, 160), (1, 160, 160), (2, 33, 36), (3, 33, 33), (8, 11, 11), (12, 11, 11)]
)
def test_a_pass_has_a_number_of_tokens_that_is_easily_cut(rows: int, longest: int, padded: int) -> None:
    _need_openvino()
    from proxqa_core.backends.openvino_backend import divisible

    assert divisible(rows, longest) == padded


def test_int8_weights_stay_close(exact: ProximityEngine) -> None:
    _need_openvino()
    small = ProximityEngine(exact.model, choice.choose(exact.model, BackendConfig("openvino", int8=True)))
    assert "int8" in small.info()["language_model"] and "int8" not in small.info()["vision_encoder"]
    ours, theirs = small.encode_image(picture(3)), exact.encode_image(picture(3))
    for a, b in zip(ours.depths(QUERIES), theirs.depths(QUERIES), strict=True):
        assert a.depth == pytest.approx(b.depth, abs=0.03)


def test_weights_in_bfloat16_stay_as_they_are(base: Path) -> None:
    """Written down in float32 they would be held twice, once of them in twice the memory."""
    _need_openvino()
    from proxqa_core.backends.openvino_graphs import language_graph

    parts = load(str(base), device="cpu", dtype="bfloat16").parts

    def graph_of(bf16: bool) -> Any:
        return language_graph(parts.config.text_config, lambda n: parts.weight(LANGUAGE_MODEL_PREFIX + n), bf16)

    def matrices(graph: Any) -> set[str]:
        constants = (o for o in graph.get_ops() if o.get_type_name() == "Constant" and len(o.shape) == 2)
        return {o.get_element_type().get_type_name() for o in constants}

    assert matrices(graph_of(bf16=True)) == {"bf16"} and matrices(graph_of(bf16=False)) == {"f32"}


def test_another_adapter_is_another_graph(base: Path, tmp_path: Path) -> None:
    _need_openvino()
    save_adapter(base, tmp_path / "it")
    plain = ProximityEngine.load(str(base), device="cpu", dtype="float32", backend=OPENVINO)
    swapped = plain.with_adapter(tmp_path / "it")
    torch_engine = ProximityEngine.load(str(base), tmp_path / "it", "cpu", "float32", backend=BackendConfig("torch"))
    assert swapped.info()["backend"] == "openvino" and swapped.encoder is plain.encoder
    image = picture(2)
    depths = [e.encode_image(image).depths(["chair"])[0].depth for e in (plain, swapped, torch_engine)]
    assert depths[1] == pytest.approx(depths[2], abs=1e-3) and depths[0] != pytest.approx(depths[1], abs=1e-5)


def test_a_damaged_graph_is_made_again(base: Path, tmp_path: Path) -> None:
    _need_openvino()
    said: list[str] = []
    model = load(str(base), device="cpu", dtype="float32")
    choice.choose(model, OPENVINO, said.append)
    assert len(said) == 1 and "once" in said[0]
    choice.choose(model, OPENVINO, said.append)
    assert len(said) == 1  # from the cache
    (file,) = (tmp_path / "cache").glob("openvino-*/vision.bin")
    file.write_bytes(file.read_bytes()[:-4] + b"\0\1\2\3")
    assert choice.choose(model, OPENVINO, said.append).name == "openvino"
    assert len(said) == 2 and is_whole(file.parent)


def test_a_cache_that_cannot_be_written_costs_no_answer(
    base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _need_openvino()
    (tmp_path / "cache").mkdir(mode=0o500)
    model = load(str(base), device="cpu", dtype="float32")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("proxqa_core.files.os.replace", _no_room)
        assert choice.choose(model, OPENVINO, lambda _: None).name == "openvino"
    assert "not kept for the next start" in caplog.text


def _no_room(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_torch_answers_where_openvino_fails_and_that_is_said_once(
    base: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = load(str(base), device="cpu", dtype="float32")

    def fails(*_: object) -> None:
        raise RuntimeError("no such\nprimitive")

    monkeypatch.setitem(choice.MAKERS, "openvino", fails)
    caplog.set_level(logging.INFO)
    assert choice.choose(model, OPENVINO).name == "torch"
    assert [(r.levelno, r.getMessage()) for r in caplog.records] == [
        (logging.WARNING, "backend openvino is not used: no such primitive; the next one answers")
    ]
    caplog.clear()
    assert choice.choose(model).name == "torch"
    assert [r.levelno for r in caplog.records] == [logging.INFO]


def test_a_graph_that_computes_something_else_is_refused(
    base: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _need_openvino()
    from proxqa_core.backends import openvino_graphs

    good = openvino_graphs._constant
    monkeypatch.setattr(openvino_graphs, "_constant", lambda weight: good(weight.flip(0)))
    engine = ProximityEngine.load(str(base), device="cpu", dtype="float32", backend=OPENVINO)
    assert engine.info()["language_model"].startswith("torch")
    assert engine.info()["vision_encoder"].startswith("openvino")
    assert "computes something else" in caplog.text


def test_an_architecture_that_is_not_written_down_is_refused() -> None:
    _need_openvino()
    from transformers import GemmaConfig

    from proxqa_core.backends.openvino_graphs import LanguageShape

    with pytest.raises(BackendError, match=r"'gemma'.*expected llama"):
        LanguageShape.of(GemmaConfig())


@pytest.mark.parametrize(
    ("name", "device", "expected"),
    [
        ("auto", "cpu", ("openvino", "torch")),
        ("auto", "cuda", ("tensorrt", "torch")),
        ("torch", "cpu", ("torch",)),
        ("tensorrt", "cuda", ("tensorrt", "torch")),
    ],
)
def test_the_fastest_is_tried_first_and_torch_last(name: str, device: str, expected: tuple[str, ...]) -> None:
    assert choice.order(BackendConfig(name), device) == expected


def test_an_unknown_backend_is_one_line() -> None:
    with pytest.raises(BadModelError, match="backend 'fast' is unknown; expected one of auto, torch"):
        BackendConfig("fast")


def test_a_cache_entry_follows_from_weights_and_facts(tmp_path: Path) -> None:
    layer = torch.nn.Linear(3, 2)
    first = digest(layer, ["a"])
    assert digest(layer, ["a"]) == first != digest(layer, ["b"])
    with torch.no_grad():
        layer.bias[0] += 1e-6
    assert digest(layer, ["a"]) != first
    calls = []

    def make(folder: Path) -> None:
        calls.append(folder)
        (folder / "x").write_bytes(b"1")

    assert cached("k", "1", make) == cached("k", "1", make) and len(calls) == 1


def test_a_model_that_does_not_fit_twice_is_refused(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _need_openvino()
    monkeypatch.setattr("proxqa_core.backends.openvino_backend.available", lambda: 1000)
    model: LoadedModel = load(str(base), device="cpu", dtype="float32")
    networks = choice.choose(model, OPENVINO)
    assert networks.make_language_model(model).description.startswith("torch")
    assert np.isfinite(networks.encoder.encode(torch.zeros(1, 3, 56, 56)).numpy()).all()


def test_a_large_copy_is_not_made_unasked(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _need_openvino()
    monkeypatch.setattr("proxqa_core.backends.openvino_backend.MAX_AUTO_COPY_MB", 0.1)
    model = load(str(base), device="cpu", dtype="float32")
    assert choice.choose(model, BackendConfig("auto")).name == "torch"
    assert choice.choose(model, OPENVINO, lambda _: None).name == "openvino"
