"""Checkpoints that people have: other layouts, damaged files, kinds that are not loaded. Each is one line or right."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from proxqa_core.engine import ProximityEngine
from proxqa_core.errors import BadModelError, ModelNotFoundError
from proxqa_core.model.loading import load
from tests.core.tiny_llava import save_llava

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return save_llava(tmp_path_factory.mktemp("llava"))


@pytest.fixture
def folder(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "llava")


def rename(folder, change):
    """Save a checkpoint's tensors under other names; None = left out."""
    tensors = {change(k): v for k, v in load_file(folder / WEIGHTS).items()}
    tensors.pop(None, None)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def refusal(folder, kind=BadModelError):
    with pytest.raises(kind) as error:
        load(str(folder), device="cpu", dtype="float32")
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda k: "module." + k,
        lambda k: k.replace("multi_modal_projector.linear_1", "mm_projector.0"),
        lambda k: None if "multi_modal_projector" in k else k,
        lambda k: None if "vision_tower" in k else k,
        lambda k: None if k.endswith("layers.1.self_attn.q_proj.weight") else k,
    ],
    ids=["prefix", "original-projector", "no-projector", "no-tower", "one-missing"],
)
def test_weights_that_would_be_random_are_refused(folder, change):
    rename(folder, change)
    assert "missing (" in refusal(folder)


def test_tensors_without_a_place_are_refused(folder):
    tensors = load_file(folder / WEIGHTS)
    tensors["model.multi_modal_projector.linear_3.weight"] = next(iter(tensors.values())).clone()
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    assert "1 unexpected (" in refusal(folder)


@pytest.mark.parametrize("name", [WEIGHTS, "config.json", "tokenizer.json"])
@pytest.mark.parametrize("damage", ["pointer", "cut", "empty"])
def test_damaged_files_are_named(folder, name, damage):
    data = (folder / name).read_bytes()
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4943162240\n"
    (folder / name).write_bytes({"pointer": pointer, "cut": data[: len(data) // 2], "empty": b""}[damage])
    message = refusal(folder)
    assert str(folder / name) in message and ("git lfs pull" in message) == (damage == "pointer")


def test_a_missing_shard_is_named(folder):
    (folder / WEIGHTS).rename(folder / "model-00001-of-00002.safetensors")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "'model-00002-of-00002.safetensors', which is missing" in refusal(folder)


@pytest.mark.parametrize("method", ["bitsandbytes", "gptq", "awq", "fp8"])
def test_quantised_checkpoints_are_refused(folder, method):
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": method, "bits": 4, "load_in_4bit": True}
    (folder / "config.json").write_text(json.dumps(config))
    assert f"is quantised ({method})" in refusal(folder)


def test_a_tower_of_any_image_size_is_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"] = {"model_type": "pixtral", "hidden_size": 32, "num_attention_heads": 2}
    (folder / "config.json").write_text(json.dumps(config))
    assert "Pixtral" in refusal(folder)


def test_code_of_a_folder_is_never_run_nor_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "custom_llava", "auto_map": {"AutoConfig": "configuration_custom.CustomConfig"}})
    )
    (tmp_path / "configuration_custom.py").write_text("raise SystemExit('run')\n")
    said = refusal(tmp_path, ModelNotFoundError)
    assert "it needs code that comes with it (auto_map in its config.json), which is never run" in said
    assert "trust_remote_code" not in said and "hf.co" not in said


@pytest.mark.parametrize("source", ["./llava", "../llava", "models/llava"])
def test_paths_are_never_looked_up_on_a_hub(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    monkeypatch.setattr("proxqa_core.model.loading._load_llava", lambda *_: pytest.fail("looked up"))
    assert "is not there" in refusal(source, ModelNotFoundError)


@pytest.mark.parametrize("source", ["models/llava", "checkpoints/step_100", "out/mine"])
def test_a_path_whose_folder_is_missing_too_is_no_hub_id(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("proxqa_core.model.loading._load_llava", lambda *_: pytest.fail("looked up"))
    assert "is not there" in refusal(source, ModelNotFoundError)


@pytest.mark.parametrize("layers", [99, -99, [], [-2, 40], "last", None])
def test_layers_that_the_vision_tower_has_not_are_refused(folder, layers):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vision_feature_layer": layers}))
    with pytest.raises((BadModelError, ModelNotFoundError)) as error:
        load(str(folder), device="cpu", dtype="float32")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("token", [999999, -1])
def test_a_token_of_an_image_outside_the_vocabulary_is_refused(folder, token):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"image_token_index": token}))
    assert f"has {token} as the token of an image" in refusal(folder)


def test_weights_stored_as_integers_are_quantised(folder):
    file = folder / "model.safetensors"
    tensors = {k: v.to(torch.int8) for k, v in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})
    assert "as I8, which is quantised" in refusal(folder)


def test_weights_that_are_not_finite_never_pass_for_an_answer(folder):
    file = folder / "model.safetensors"
    tensors = load_file(file)
    next(v for k, v in tensors.items() if "lm_head" in k or "embed_tokens" in k).fill_(float("nan"))
    save_file(tensors, file, metadata={"format": "pt"})
    engine = ProximityEngine.load(source=str(folder), adapter="none", device="cpu", dtype="float32")
    encoded = engine.encode_image(np.zeros((60, 80, 3), np.uint8))
    with pytest.raises(BadModelError, match="numbers that are not finite"):
        encoded.depths(["chair"])
