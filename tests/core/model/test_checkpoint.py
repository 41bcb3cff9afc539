"""Checkpoints that people have: other layouts, damaged files, kinds that are not loaded. Each is one line or right."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from proxqa_core.backends.config import BackendConfig
from proxqa_core.engine import ProximityEngine
from proxqa_core.errors import BadModelError, ModelNotFoundError, ProxqaError
from proxqa_core.model.loading import load
from tests.core.tiny_llava import save_adapter, save_llava

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
    monkeypatch.setattr("proxqa_core.model.loading.load_llava", lambda *_: pytest.fail("looked up"))
    assert "is not there" in refusal(source, ModelNotFoundError)


@pytest.mark.parametrize("source", ["models/llava", "checkpoints/step_100", "out/mine"])
def test_a_path_whose_folder_is_missing_too_is_no_hub_id(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("proxqa_core.model.loading.load_llava", lambda *_: pytest.fail("looked up"))
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


def put(folder, name, **changes):
    """Change values of a JSON file; None = left out."""
    values = {k: v for k, v in (json.loads((folder / name).read_text()) | changes).items() if v is not None}
    (folder / name).write_text(json.dumps(values))


def in_shards(folder, metadata=None):
    """Save a checkpoint's tensors in two files; returns which of them each is in."""
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    names = sorted(tensors)
    files = {n: f"model-0000{1 + (i % 2)}-of-00002.safetensors" for i, n in enumerate(names)}
    for file in set(files.values()):
        save_file({n: tensors[n] for n in names if files[n] == file}, folder / file, metadata={"format": "pt"})
    index = {"weight_map": files} | ({} if metadata is None else {"metadata": metadata})
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return files


def answer(folder):
    engine = ProximityEngine.load(str(folder), device="cpu", dtype="float32", backend=BackendConfig("torch"))
    return [o.depth for o in engine.encode_image(np.full((60, 80, 3), 90, np.uint8)).depths(["chair", "lamp"])]


@pytest.fixture(scope="module")
def answered(whole):
    return answer(whole)


def only_processor_config(folder):
    file = folder / "preprocessor_config.json"
    inner = json.loads(file.read_text()) | {"image_processor_type": "CLIPImageProcessor"}
    file.unlink()
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": inner, "patch_size": 14}))


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: in_shards(folder, {"total_size": 1}),
        only_processor_config,
        lambda folder: put(folder, "preprocessor_config.json", crop_size=56, size=56),
        lambda folder: save_file(load_file(folder / WEIGHTS), folder / WEIGHTS),
    ],
    ids=["shards", "processor-config-only", "sizes-as-numbers", "no-format"],
)
def test_other_forms_of_a_folder_answer_the_same(answered, folder, change):
    change(folder)
    assert answer(folder) == pytest.approx(answered, abs=1e-6)


def test_tokens_without_embeddings_are_never_asked_for(answered, folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<new1>", "<new2>"], special_tokens=True)
    tokenizer.save_pretrained(folder)
    assert answer(folder) == pytest.approx(answered, abs=1e-6)


def test_output_tied_to_the_embeddings_needs_no_tensor_of_its_own(folder):
    rename(folder, lambda k: None if "lm_head" in k else k)
    assert "1 missing (lm_head.weight)" in refusal(folder)
    put(folder, "config.json", tie_word_embeddings=True)
    model = load(str(folder), device="cpu", dtype="float32").llava
    assert torch.equal(model.lm_head.weight, model.get_input_embeddings().weight)


def wrong_index(folder):
    files = in_shards(folder, {})
    (folder / "model-00002-of-00002.safetensors").rename(folder.parent / "elsewhere.safetensors")
    moved = {n: "../elsewhere.safetensors" if "00002" in f else f for n, f in files.items()}
    put(folder, "model.safetensors.index.json", weight_map=moved)


def shards_without_index(folder):
    in_shards(folder)
    (folder / "model.safetensors.index.json").unlink()


def pickle_only(folder):
    torch.save(load_file(folder / WEIGHTS), folder / "pytorch_model.bin")
    (folder / WEIGHTS).unlink()


def header_of_another_type(folder):
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data.replace(b'"F32"', b'"F16"'))


def vision(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    put(folder, "config.json", vision_config=config["vision_config"] | changes)


def pointer(folder, name):
    (folder / name).write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 499723\n")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (wrong_index, "index.json' names '../elsewhere.safetensors'; expected a file beside it"),
        (in_shards, "model.safetensors.index.json' has no metadata"),
        (shards_without_index, "lacks model.safetensors; it has shards, expected model.safetensors.index.json"),
        (pickle_only, "lacks model.safetensors; 'pytorch_model.bin' is a pickle, which is never opened"),
        (header_of_another_type, "model.safetensors' is not a whole safetensors file"),
        (lambda f: pointer(f, "tokenizer.model"), "tokenizer.model' is a git-lfs pointer"),
        (lambda f: (f / "tokenizer.json").unlink(), "lacks tokenizer.json (or tokenizer.model)"),
        (lambda f: (f / "preprocessor_config.json").unlink(), "lacks preprocessor_config.json or processor_config"),
        (lambda f: (f / "config.json").unlink(), "lacks config.json"),
        (lambda f: (f / "preprocessor_config.json").write_text("[1]"), "holds a list; expected an object"),
        (lambda f: put(f, "preprocessor_config.json", image_mean=[0.5]), "are not of three channels"),
        (lambda f: put(f, "preprocessor_config.json", crop_size=28, size=28), "its processor makes 28 px"),
        (lambda f: put(f, "config.json", image_token_index=300), "does not put one image ("),
        (lambda f: put(f, "config.json", vision_feature_layer=[-1, -2]), "its tensors have other shapes"),
        (lambda f: vision(f, patch_size=0), "in patches of 0 px"),
        (lambda f: (f / "adapter_config.json").write_text("{}"), "holds an adapter besides (adapter_config.json)"),
    ],
)
def test_folders_that_cannot_be_used_say_why(folder, change, said):
    change(folder)
    message = refusal(folder, ProxqaError)
    assert said in message and str(folder) in message


def test_model_and_adapter_in_each_others_place(whole, tmp_path):
    save_adapter(whole, tmp_path / "it")
    assert "lacks config.json; it holds an adapter" in refusal(tmp_path / "it", ModelNotFoundError)
    with pytest.raises(ModelNotFoundError, match="it holds a whole model: give it as the model"):
        load(str(whole), whole, device="cpu")


def test_a_path_from_the_home_folder_and_a_file(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert load("~/llava", device="cpu", dtype="float32").source == str(folder)
    assert "is a file; expected the folder" in refusal(folder / "config.json", ModelNotFoundError)
