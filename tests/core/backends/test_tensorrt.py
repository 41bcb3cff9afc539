"""The vision encoder by way of ONNX into TensorRT: export, ahead-of-time builds without a GPU, cache, gate."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from proxqa_core.backends import engine_cache, tensorrt_backend
from proxqa_core.backends.choice import choose
from proxqa_core.backends.config import BackendConfig
from proxqa_core.backends.onnx_export import (
    MIN_COSINE,
    OPSET,
    check_onnx,
    export_onnx,
    least_cosine,
    pictures,
    reference,
)
from proxqa_core.backends.tensorrt_backend import TensorRtVisionEncoder, engine_key
from proxqa_core.backends.tensorrt_runtime import FULL, RTX, Profile, TensorRt, fused_attention
from proxqa_core.cli import main
from proxqa_core.errors import BackendError
from proxqa_core.model.loading import LoadedModel, load
from proxqa_core.model.parts import Whole
from proxqa_core.vision.preprocessing import Preprocessing
from tests.core.tiny_llava import SIDE, save_llava

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("onnxscript", reason="onnxscript is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")


def quiet(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_llava(tmp_path_factory.mktemp("llava"))


@pytest.fixture(scope="module")
def tiny(folder: Path) -> LoadedModel:
    return load(str(folder), device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def exported(tiny: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_onnx(tiny, tmp_path_factory.mktemp("onnx"), 4)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of engines of the test's own."""
    monkeypatch.setenv("PROXQA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def rtx() -> TensorRt:
    try:
        return TensorRt.find(RTX)
    except BackendError as error:
        pytest.skip(str(error))


def operators(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path, load_external_data=False).graph.node)


# --- export ----------------------------------------------------------------------------------------------------------


def test_the_file_computes_what_pytorch_does_for_any_batch(tiny: LoadedModel, exported: Path) -> None:
    import onnxruntime

    assert check_onnx(exported, tiny) >= MIN_COSINE
    graph = onnx.load(exported, load_external_data=False)
    assert [o.version for o in graph.opset_import if not o.domain] == [OPSET] == [20]
    pixels = torch.randn(3, 3, SIDE, SIDE)
    session = onnxruntime.InferenceSession(exported)
    (found,) = session.run(None, {"pixels": pixels.numpy().astype(np.float16)})
    assert found.dtype == np.float16
    assert least_cosine(torch.from_numpy(found), reference(tiny, pixels)) >= MIN_COSINE


def test_an_export_leaves_the_model_as_it_was(tiny: LoadedModel, exported: Path) -> None:
    assert tiny.dtype == torch.float32
    tower = tiny.llava.model.vision_tower
    assert not any(isinstance(v, torch.Tensor) and v.dtype == torch.float16 for v in tower.state_dict().values())


def test_a_file_that_computes_something_else_is_refused(tiny: LoadedModel, tmp_path: Path) -> None:
    path = export_onnx(tiny, tmp_path, 4)
    weights = path.with_name(path.name + ".data")
    damaged = np.frombuffer(weights.read_bytes(), np.float16)[::-1]
    weights.write_bytes(damaged.tobytes())
    with pytest.raises(BackendError, match=r"cosine .* with PyTorch's; expected 0.999"):
        check_onnx(path, tiny)
    weights.unlink()
    with pytest.raises(BackendError, match="ONNX Runtime cannot run") as error:
        check_onnx(path, tiny)
    assert "\n" not in str(error.value)


def test_numbers_that_are_not_finite_have_no_cosine() -> None:
    good = torch.ones(1, 2, 3)
    assert least_cosine(good, good) == pytest.approx(1)
    assert not least_cosine(good * float("inf"), good) >= MIN_COSINE
    assert not least_cosine(good[:, :1], good) >= MIN_COSINE


@pytest.mark.model
def test_the_default_tower_without_interpolation_in_its_graph(
    engine: Any, rtx: TensorRt, tmp_path: Path, real_photos: list[Any]
) -> None:
    model = engine.model
    path = export_onnx(model, tmp_path, 8)
    found = operators(path)
    assert not found["Resize"] and found["Softmax"] == 12
    assert check_onnx(path, model, [*pictures()[:1], *real_photos]) >= MIN_COSINE
    profile = Profile(model.preprocessing.size, 8)
    assert fused_attention(rtx.build(path, profile, "ampere+")) == 12


@pytest.fixture
def real_photos() -> list[Any]:
    """A few photographs of the evaluation's, where they are at hand; to look at, not to tune on."""

    from proxqa_core.vision.image_file import read_image

    place = os.environ.get("PROXQA_REAL_DATA")
    files = sorted(Path(place, "eval_public").rglob("*.jpg"))[:3] if place else []
    return [read_image(f) for f in files]


LAYERS = 24 if os.environ.get("PROXQA_WHOLE_VIT_L") else 3


@pytest.mark.slow
def test_vit_l_14_336_of_llava_1_5_builds_without_a_gpu(rtx: TensorRt, tmp_path: Path) -> None:
    """Random weights. What fuses depends neither on them nor on the number of layers: an eighth of them, or all 24
    (303 million weights, 2.9 GiB, minutes) with PROXQA_WHOLE_VIT_L=1."""
    model = llava_1_5()
    path = export_onnx(model, tmp_path, 2)
    engine = rtx.build(path, Profile(336, 2), "ampere+")
    assert fused_attention(engine) == LAYERS - 1  # the features are those before the last layer


def llava_1_5() -> LoadedModel:
    """The vision tower of LLaVA-1.5 beside a language model that is next to nothing, random weights in float16."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    vision = CLIPVisionConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=LAYERS,
        num_attention_heads=16,
        image_size=336,
        patch_size=14,
        projection_dim=768,
    )
    text = LlamaConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=1, vocab_size=32)
    with torch.device("meta"):
        llava = LlavaForConditionalGeneration(LlavaConfig(vision_config=vision, text_config=text))
    tower = llava.model.vision_tower.half().to_empty(device="cpu")
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in tower.parameters():
            weight.normal_(0, 0.02)
        for name, buffer in tower.named_buffers():
            assert name.endswith("position_ids")
            buffer.copy_(torch.arange(buffer.shape[-1]).expand_as(buffer))
    unused: Any = None
    return LoadedModel(Whole(llava), unused, Preprocessing(336, "pad"), 1, "random", unused)


# --- TensorRT-RTX itself ---------------------------------------------------------------------------------------------


def test_targets_and_refusals_of_rtx(rtx: TensorRt, exported: Path, capfd: pytest.CaptureFixture[str]) -> None:
    profile = Profile(SIDE, 4)
    everywhere = rtx.build(exported, profile, "ampere+")
    assert everywhere == rtx.build(exported, profile, "ampere+") != rtx.build(exported, profile, "sm86+sm89")
    assert {"sm75", "sm86", "sm89", "sm120"} <= set(rtx.targets())
    with pytest.raises(BackendError, match=r"cannot build for 'sm87'; expected ampere\+ or some of sm75, "):
        rtx.build(exported, profile, "sm87")
    with pytest.raises(BackendError, match=r"cannot read absent\.onnx") as error:
        rtx.build(exported.with_name("absent.onnx"), profile, "ampere+")
    assert "\n" not in str(error.value)
    assert rtx.target(None) == rtx.target((8, 6)) == "ampere+" and rtx.target((7, 5)) == "sm75"
    with pytest.raises(BackendError, match=r"nothing for compute capability 8.7 .*pip install"):
        rtx.target((8, 7))
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("engine", [b"", b"rubbish", None])
def test_an_engine_that_does_not_load_is_one_line(
    rtx: TensorRt, exported: Path, engine: bytes | None, capfd: pytest.CaptureFixture[str]
) -> None:
    data = rtx.build(exported, Profile(SIDE, 4), "ampere+") if engine is None else engine
    with pytest.raises(BackendError, match=r"tensorrt_rtx .* does not load the engine: ") as error:
        rtx.load(data, torch.device("cpu"))
    assert "\n" not in str(error.value) and capfd.readouterr().err == ""


def test_the_real_bindings_have_all_that_is_used(rtx: TensorRt) -> None:
    trt = rtx.module
    used = {
        trt.Runtime: ["deserialize_cuda_engine"],
        trt.ICudaEngine: [
            "create_execution_context", "create_runtime_config", "get_tensor_dtype", "get_tensor_mode",
            "get_tensor_name", "num_io_tensors",
        ],
        trt.IExecutionContext: ["execute_async_v3", "get_tensor_shape", "set_input_shape", "set_tensor_address"],
        trt.IRuntimeConfig: ["create_runtime_cache", "get_runtime_cache", "set_runtime_cache"],
        trt.IRuntimeCache: ["deserialize", "serialize"],
        trt.TensorIOMode: ["INPUT", "OUTPUT"],
        trt.DataType: ["HALF", "FLOAT"],
        trt.ILogger.Severity: ["ERROR", "INTERNAL_ERROR"],
    }  # fmt: skip
    missing = [f"{kind.__name__}.{name}" for kind, names in used.items() for name in names if not hasattr(kind, name)]
    assert missing == []


def test_what_is_not_installed_is_said_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.import_module", lambda name: (_ for _ in ()).throw(ImportError(f"no {name}")))
    with pytest.raises(BackendError, match=r"TensorRT is not installed \(tensorrt: no tensorrt; pip .*tensorrt_rtx: "):
        TensorRt.find()


# --- cache and gate, on a TensorRT that runs on the CPU --------------------------------------------------------------


@pytest.fixture
def fake(cache: Path, exported: Path, monkeypatch: pytest.MonkeyPatch) -> TensorRt:
    """A machine with a GPU: what is not TensorRT's own is real; the export, which takes seconds, is made once."""
    from tests.core.backends import fake_tensorrt

    def copied(model: LoadedModel, folder: Path, max_batch: int) -> Path:
        return Path(shutil.copytree(exported.parent, folder, dirs_exist_ok=True)) / exported.name

    monkeypatch.setattr(tensorrt_backend, "export_onnx", copied)
    monkeypatch.setattr(fake_tensorrt.Builder, "built", 0)
    monkeypatch.setattr(fake_tensorrt.Builder, "broken", False)
    monkeypatch.setattr(fake_tensorrt.Runtime, "blind", False)
    monkeypatch.setattr(tensorrt_backend, "capability", lambda device: (8, 7))
    monkeypatch.setattr(tensorrt_backend, "gpu_name", lambda device: "Orin")
    return TensorRt(fake_tensorrt, FULL, fake_tensorrt.__version__)


def entries(cache: Path) -> list[Path]:
    return sorted(cache.glob("tensorrt-*"))


def test_an_engine_is_built_once_and_computes_what_pytorch_does(tiny: LoadedModel, fake: TensorRt, cache: Path) -> None:
    said: list[str] = []
    encoder = TensorRtVisionEncoder(tiny, fake, said.append, max_batch=2)
    assert encoder.cosine >= MIN_COSINE and "tensorrt 11.4.0, float16" in encoder.description
    assert len(said) == 1 and "once" in said[0]
    pixels = torch.randn(5, 3, SIDE, SIDE)  # more than one run takes
    found = encoder.encode(pixels)
    assert found.dtype == tiny.dtype and least_cosine(found, reference(tiny, pixels)) >= MIN_COSINE
    again = TensorRtVisionEncoder(tiny, fake, said.append, max_batch=2)
    assert len(said) == 1 == fake.module.Builder.built
    assert torch.equal(again.encode(pixels), found)
    (entry,) = entries(cache)
    assert json.loads((entry / "key.json").read_text())["gpu"] == "Orin"


def test_the_key_has_all_that_an_engine_depends_on(tiny: LoadedModel, fake: TensorRt, rtx: TensorRt) -> None:
    profile = Profile(SIDE, 2)
    key = engine_key(tiny, fake, profile, "sm87", "Orin")
    others = [
        engine_key(tiny, fake, profile, "sm87", "another"),
        engine_key(tiny, fake, profile, "sm89", "Orin"),
        engine_key(tiny, fake, Profile(SIDE, 3), "sm87", "Orin"),
        engine_key(tiny, TensorRt(fake.module, FULL, "10.3"), profile, "sm87", "Orin"),
        engine_key(tiny, rtx, profile, "sm87", "Orin"),
    ]
    weight = next(tiny.llava.model.vision_tower.parameters())
    before = weight.clone()
    with torch.no_grad():
        weight.flatten()[0] += 1
        others.append(engine_key(tiny, fake, profile, "sm87", "Orin"))
        weight.copy_(before)
    assert len({k.folder for k in [key, *others]}) == 7
    assert engine_key(tiny, fake, profile, "sm87", "Orin").folder == key.folder
    # RTX's engines run on any GPU that they are for
    assert engine_key(tiny, rtx, profile, "ampere+", "A").folder == engine_key(tiny, rtx, profile, "ampere+").folder


def test_an_engine_that_computes_something_else_is_never_used(
    tiny: LoadedModel, fake: TensorRt, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake.module.Builder, "broken", True)
    with pytest.raises(BackendError, match=r"engine's features have cosine .*; expected 0.999"):
        TensorRtVisionEncoder(tiny, fake, quiet)
    assert entries(cache) == []


@pytest.mark.parametrize("fault", ["other", "cut"])
def test_a_bad_entry_is_built_again(
    tiny: LoadedModel, fake: TensorRt, cache: Path, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    TensorRtVisionEncoder(tiny, fake, quiet)
    (entry,) = entries(cache)
    good = (entry / "engine.plan").read_bytes()
    if fault == "cut":
        (entry / "engine.plan").write_bytes(good[: len(good) // 2])
    else:  # whole, and of an engine that does not load
        key = engine_key(tiny, fake, Profile(SIDE), "sm87", "Orin")
        assert engine_cache.write(key, b"an engine of something else") == entry
    TensorRtVisionEncoder(tiny, fake, quiet)
    assert fake.module.Builder.built == 2 and (entry / "engine.plan").read_bytes() == good
    assert ("built again" in caplog.text) == (fault == "other")


def test_a_good_engine_stays_where_no_gpu_is_seen(
    tiny: LoadedModel, fake: TensorRt, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    TensorRtVisionEncoder(tiny, fake, quiet)
    (entry,) = entries(cache)
    before = {p.name: p.read_bytes() for p in entry.iterdir()}
    with monkeypatch.context() as context:
        context.setattr(fake.module.Runtime, "blind", True)
        with pytest.raises(BackendError, match=r"driver|the same"):
            TensorRtVisionEncoder(tiny, fake, quiet)
    assert {p.name: p.read_bytes() for p in entry.iterdir()} == before
    built = fake.module.Builder.built
    TensorRtVisionEncoder(tiny, fake, quiet)
    assert fake.module.Builder.built == built


def test_a_cache_that_cannot_be_written_costs_the_next_start_only(
    tiny: LoadedModel, fake: TensorRt, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.write_text("a file where the folder should be")
    try:
        encoder = TensorRtVisionEncoder(tiny, fake, quiet)
    except OSError:
        pytest.fail("the engine was not used")
    assert encoder.cosine >= MIN_COSINE


def test_without_a_gpu_pytorch_answers_and_that_is_said_once(
    tiny: LoadedModel, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        networks = choose(tiny, BackendConfig("tensorrt"))
    assert networks.name == "torch"
    (line,) = [r.getMessage() for r in caplog.records if "tensorrt" in r.getMessage()]
    assert "NVIDIA GPUs only; the model is on cpu" in line


# --- proxqa export ---------------------------------------------------------------------------------------------------


def test_export_to_onnx(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    arguments = ["export", "--to", "onnx", "--out", str(out), "--model", str(folder), "--device", "cpu", "--json", "-"]
    assert main(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    assert report == json.loads((out / "export.json").read_text())
    assert report["cosine"] >= MIN_COSINE and report["files"].keys() == {"vision.onnx", "vision.onnx.data"}
    assert report["input"]["shape"] == ["batch", 3, SIDE, SIDE] and report["input"]["resample"] == "bicubic"
    assert report["output"]["shape"] == ["batch", 16, 32]
    assert main(arguments) == 0  # over its own export


def test_export_to_openvino(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed")
    out = tmp_path / "out"
    assert main(["export", "--to", "openvino", "--out", str(out), "--model", str(folder), "--device", "cpu"]) == 0
    report = json.loads((out / "export.json").read_text())
    assert report["cosine"] >= MIN_COSINE and report["files"].keys() == {"vision.xml", "vision.bin"}
    assert "least cosine" in capsys.readouterr().out


def test_export_to_tensorrt_without_a_gpu(
    folder: Path, rtx: TensorRt, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = ["export", "--to", "tensorrt", "--model", str(folder), "--device", "cpu", "--max-batch", "4"]
    assert main([*here, "--out", str(tmp_path / "engine")]) == 0
    assert "fused attentions" in capsys.readouterr().out
    assert main(here) == 0
    model = load(str(folder), device="cpu", dtype="bfloat16")
    key = engine_key(model, rtx, Profile(SIDE, 4), "ampere+")
    assert engine_cache.read(key) == (tmp_path / "engine" / "engine.plan").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--to", "onnx"], "say --out DIR"),
        (["--to", "onnx", "--out", "OUT", "--target", "sm86"], "belong to tensorrt"),
        (["--to", "tensorrt", "--out", "FULL"], "holds other files"),
        (["--to", "tensorrt", "--out", "OUT", "--target", "sm87"], "cannot build for 'sm87'"),
        (["--to", "onnx", "--out", "OUT", "--max-batch", "1000"], "expected 1 to 256"),
        (["--to", "caffe", "--out", "OUT"], "invalid choice"),
    ],
)
def test_bad_exports_are_one_line(
    folder: Path, tmp_path: Path, rtx: TensorRt, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "FULL").mkdir()
    (tmp_path / "FULL" / "letters.txt").write_text("of somebody")
    places = [str(tmp_path / a) if a.isupper() else a for a in arguments]
    assert main(["export", *places, "--model", str(folder), "--device", "cpu"]) in (1, 2)
    error = capsys.readouterr().err
    (line,) = [line for line in error.splitlines() if said in line]
    assert line.startswith("proxqa: ") and line == error.splitlines()[-1]
    assert not (tmp_path / "OUT").exists()


def test_pictures_are_bundled() -> None:
    assert len(pictures()) == 4 and all(p.shape == (240, 320, 3) for p in pictures())
