"""LoRA folders of LLaVA's own code become adapters; their pickles run nothing."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from proxqa_core.engine import ProximityEngine
from proxqa_core.model.adapter import LORA_CONFIG
from tests.core.tiny_llava import save_llava

START = "base_model.model.model."
Train = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_llava(tmp_path_factory.mktemp("llava"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """As LLaVA's train.py leaves it: q_proj and down_proj, rank 4, a projector of two layers."""
    torch.manual_seed(0)
    place = tmp_path / "llava-lora"
    place.mkdir()
    settings = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, "bias": "none"}
    settings |= {"target_modules": ["q_proj", "down_proj"], "base_model_name_or_path": "lmsys/vicuna-7b-v1.5"}
    (place / LORA_CONFIG).write_text(json.dumps(settings))
    lora = {}
    for layer in range(2):
        for name, (wide, narrow) in {"self_attn.q_proj": (64, 64), "mlp.down_proj": (64, 96)}.items():
            lora[f"{START}layers.{layer}.{name}.lora_A.weight"] = torch.randn(4, narrow).half()
            lora[f"{START}layers.{layer}.{name}.lora_B.weight"] = torch.randn(wide, 4).half()
    torch.save(lora, place / "adapter_model.bin")
    shapes = {"0.weight": (64, 32), "0.bias": (64,), "2.weight": (64, 64), "2.bias": (64,)}
    torch.save(
        {f"{START}mm_projector.{k}": torch.randn(s).half() for k, s in shapes.items()},
        place / "non_lora_trainables.bin",
    )
    return place


def test_a_folder_of_llava_answers(base: Path, folder: Path, train: Train, tmp_path: Path) -> None:
    code, out, err = train("convert", folder, "--model", base, "--out", tmp_path / "a", "--json", "-")
    assert code == 0, err
    assert json.loads(out) == {"adapter": str(tmp_path / "a"), "lora": 8, "projector": 4}
    engine = ProximityEngine.load(str(base), tmp_path / "a", device="cpu", dtype="float32")
    plain = ProximityEngine.load(str(base), device="cpu", dtype="float32")
    lora = torch.load(folder / "adapter_model.bin", weights_only=True)
    name = "layers.1.mlp.down_proj"
    a, b = (lora[f"{START}{name}.lora_{part}.weight"].float() for part in "AB")
    was, now = (e.model.llava.model.language_model.get_submodule(name).weight for e in (plain, engine))
    assert torch.allclose(now, was + 2 * b @ a, atol=1e-5)
    projector = torch.load(folder / "non_lora_trainables.bin", weights_only=True)
    ours = engine.model.llava.model.multi_modal_projector
    assert torch.equal(ours.linear_2.weight, projector[f"{START}mm_projector.2.weight"].float())


def test_without_a_projector_that_of_the_base_stays(base: Path, folder: Path, train: Train, tmp_path: Path) -> None:
    (folder / "non_lora_trainables.bin").unlink()
    tensors = torch.load(folder / "adapter_model.bin", weights_only=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_model.bin").unlink()
    code, _, err = train("convert", folder, "--model", base, "--out", tmp_path / "a")
    assert code == 0, err
    engines = [ProximityEngine.load(str(base), a, device="cpu", dtype="float32") for a in (None, tmp_path / "a")]
    one, two = (e.model.llava.model.multi_modal_projector.linear_1.weight for e in engines)
    assert torch.allclose(one, two, atol=1e-3)  # float16


class Evil:
    """Would make a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_what_is_refused_leaves_nothing(base: Path, folder: Path, train: Train, tmp_path: Path) -> None:
    def refused(message: str) -> None:
        code, _, err = train("convert", folder, "--model", base, "--out", tmp_path / "a")
        assert code != 0 and message in err and "Traceback" not in err, err
        assert not (tmp_path / "a").exists()

    whole = shutil.copytree(folder, tmp_path / "copy")

    def restore() -> None:
        shutil.rmtree(folder)
        shutil.copytree(whole, folder)

    torch.save({"x": Evil(tmp_path / "made")}, folder / "non_lora_trainables.bin")
    refused("cannot be read as weights alone")
    assert not (tmp_path / "made").exists()
    torch.save({f"{START}mm_projector.weight": torch.zeros(64, 32)}, folder / "non_lora_trainables.bin")
    refused("expected a projector of two layers")
    torch.save({f"{START}embed_tokens.weight": torch.zeros(2, 2)}, folder / "non_lora_trainables.bin")
    refused("embed_tokens.weight' has no place")
    restore()
    (folder / "adapter_model.bin").write_bytes(b"PK half")
    refused("adapter_model.bin' cannot be read as weights alone")
    restore()
    torch.save({f"{START}layers.7.self_attn.q_proj.lora_A.weight": torch.zeros(4, 64)}, folder / "adapter_model.bin")
    refused("has no place in the model")
    restore()
    (folder / LORA_CONFIG).write_text("[")
    refused(f"{LORA_CONFIG}' cannot be used")
    (folder / LORA_CONFIG).unlink()
    refused(f"has no {LORA_CONFIG}")
