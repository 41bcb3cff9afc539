"""LoRA folders as peft saves them, of other people's training: merged as peft merges them, or refused with one line."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load, save_file
from transformers import LlavaForConditionalGeneration

from proxqa_core.engine import ProximityEngine
from proxqa_core.errors import BadModelError, ModelNotFoundError
from proxqa_core.evaluation.bench import picture
from proxqa_core.model.adapter import INFO, LORA, LORA_CONFIG, PROJECTOR
from tests.core.tiny_llava import save_llava

LANGUAGE = r".*language_model.*\.(q_proj|down_proj)"
WHOLE = "base_model.model.model."


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_llava(tmp_path_factory.mktemp("llava"))


@pytest.fixture(scope="module")
def tiny(base):
    return ProximityEngine.load(str(base), device="cpu", dtype="float32")


def train(base, place, seed=3, **settings):
    """Save a plain folder; returns the merged model's weights, as peft makes them."""
    llava = LlavaForConditionalGeneration.from_pretrained(base, dtype=torch.float32)
    torch.manual_seed(seed)
    settings = {"r": 4, "lora_alpha": 6, "target_modules": LANGUAGE, "init_lora_weights": False} | settings
    wrapped = get_peft_model(llava, LoraConfig(**settings))
    with torch.no_grad():
        for name, weight in wrapped.named_parameters():
            if "modules_to_save" in name:
                weight.add_(torch.randn_like(weight) / 8)
    wrapped.save_pretrained(place)
    return wrapped.merge_and_unload().state_dict()


def renamed(folder, change):
    path = folder / LORA
    save_file({change(key): value for key, value in load(path.read_bytes()).items()}, path)


def same(engine, weights):
    """Equal but for the last bits, in which the matrix products of some processors differ with their order."""
    ours = engine.model.llava.state_dict()
    near = (torch.allclose(ours[k], v, rtol=1e-5, atol=1e-6) for k, v in weights.items())
    return ours.keys() == weights.keys() and all(near)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"use_rslora": True},
        {"target_modules": r".*(language_model.*\.(q_proj|down_proj)|projector\.linear_1)"},
        {"modules_to_save": ["multi_modal_projector"]},
        {"target_modules": LANGUAGE, "layers_to_transform": [1], "layers_pattern": None},
    ],
)
def test_it_answers_as_peft_merges_and_can_be_swapped(base, tiny, tmp_path, settings):
    if "layers_to_transform" in settings:
        settings = {"target_modules": ["q_proj"], "layers_to_transform": [1], "exclude_modules": ".*vision_tower.*"}
    merged = train(base, tmp_path / "plain", **settings)
    engine = ProximityEngine.load(str(base), tmp_path / "plain", device="cpu", dtype="float32")
    assert same(engine, merged) and not same(tiny, merged)
    assert tiny.check_adapter(tmp_path / "plain") == "plain"
    swapped = tiny.with_adapter(tmp_path / "plain")
    assert same(swapped, merged)
    view, other = engine.encode_image(picture(3)), swapped.encode_image(picture(3))
    assert view.depths(["chair"]) == other.depths(["chair"]) != tiny.encode_image(picture(3)).depths(["chair"])


NAMES = {
    "transformers 4": lambda k: k.replace("model.language_model.layers", "language_model.model.layers"),
    "the inner model": lambda k: k.replace("model.language_model.layers", "language_model.layers"),
    "a causal language model, LLaVA's own": lambda k: k.replace(WHOLE + "language_model.", WHOLE),
    "a language model": lambda k: k.replace(WHOLE + "language_model.", "base_model.model."),
    "a state dict": lambda k: k.replace(".weight", ".default.weight"),
    "no wrapper": lambda k: k.removeprefix("base_model.model."),
}


@pytest.mark.parametrize("names", NAMES)
def test_names_of_other_versions(base, tmp_path, names):
    merged = train(base, tmp_path / "plain")
    renamed(tmp_path / "plain", NAMES[names])
    assert same(ProximityEngine.load(str(base), tmp_path / "plain", device="cpu", dtype="float32"), merged)


def test_a_vision_tower_is_merged_at_loading_and_not_swapped(base, tiny, tmp_path):
    """What `target_modules=["q_proj", "v_proj"]` on a whole LLaVA does: CLIP has layers of these names."""
    merged = train(base, tmp_path / "both", target_modules=["q_proj", "v_proj"])
    assert same(ProximityEngine.load(str(base), tmp_path / "both", device="cpu", dtype="float32"), merged)
    for take in (tiny.check_adapter, tiny.with_adapter):
        with pytest.raises(BadModelError, match="'both' changes the vision tower"):
            take(tmp_path / "both")
    renamed(tmp_path / "both", lambda k: k.replace("vision_tower.", "vision_tower.vision_model."))
    assert same(ProximityEngine.load(str(base), tmp_path / "both", device="cpu", dtype="float32"), merged)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"use_dora": True}, "not plain LoRA .use_dora"),
        ({"rank_pattern": {"q_proj": 8}}, "not plain LoRA .rank_pattern"),
        ({"alpha_pattern": {"q_proj": 8}}, "not plain LoRA .alpha_pattern"),
        ({"init_lora_weights": "pissa"}, "not plain LoRA .init_lora_weights 'pissa'"),
        ({"modules_to_save": ["lm_head"]}, "weight '.*lm_head.*' has no place in the model"),
        ({"target_modules": ["lm_head"]}, "weight '.*lm_head.*' has no place in the model"),
        ({"target_modules": ["embed_tokens"]}, "embed_tokens.* has no place in the model"),
        ({"base_model": "llava-hf/another-7b-hf"}, "made for base 'llava-hf/another-7b-hf', not for 'owner/name'"),
    ],
)
def test_what_is_refused(base, tiny, tmp_path, settings, message):
    other = settings.pop("base_model", None)
    train(base, tmp_path / "plain", **settings)
    if other is not None:
        config = json.loads((tmp_path / "plain" / LORA_CONFIG).read_text())
        (tmp_path / "plain" / LORA_CONFIG).write_text(json.dumps(config | {"base_model_name_or_path": other}))
        spec = tiny.model.spec
        object.__setattr__(spec, "base", "owner/name")
    try:
        for take in (tiny.check_adapter, tiny.with_adapter):
            with pytest.raises(BadModelError, match=message) as error:
                take(tmp_path / "plain")
            assert "\n" not in str(error.value)
    finally:
        object.__setattr__(tiny.model.spec, "base", str(base))


def test_in_bfloat16_it_is_what_transformers_loads(base):
    """Buffers too: rotary frequencies that are rounded are other positions."""
    ours = ProximityEngine.load(str(base), device="cpu", dtype="bfloat16").model.llava
    theirs = LlavaForConditionalGeneration.from_pretrained(base, dtype=torch.bfloat16).eval()
    for kind in ("named_parameters", "named_buffers"):
        mine, wanted = dict(getattr(ours, kind)()), dict(getattr(theirs, kind)())
        assert mine.keys() == wanted.keys()
        assert all(mine[k].dtype == v.dtype and torch.equal(mine[k], v) for k, v in wanted.items())


def one_less(tensors):
    return dict(list(sorted(tensors.items()))[1:])


def two_names(tensors):
    return tensors | {NAMES["transformers 4"](k): v.clone() for k, v in list(tensors.items())[:1]}


def half_a_projector(tensors):
    return tensors | {WHOLE + "multi_modal_projector.linear_1.weight": torch.zeros(64, 32)}


DAMAGE = {
    one_less: "has only one of lora_A and lora_B",
    two_names: "has two lora_[AB]; expected one",
    half_a_projector: "its projector lacks linear_1.bias",
    lambda t: {k: v[:2].contiguous() for k, v in t.items()}: "does not fit the model",
    lambda t: t | {"base_model.model.x.lora_magnitude_vector": torch.zeros(1)}: "lora_magnitude_vector' has no place",
    lambda _: {}: "holds no LoRA weights",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_weights(base, tiny, tmp_path, damage):
    train(base, tmp_path / "plain")
    path = tmp_path / "plain" / LORA
    save_file(damage(load(path.read_bytes())), path)
    for take in (tiny.check_adapter, tiny.with_adapter):
        with pytest.raises(BadModelError, match=DAMAGE[damage]):
            take(tmp_path / "plain")


def test_pickles_and_halves_of_other_folders_are_named(base, tiny, tmp_path):
    train(base, tmp_path / "plain")
    folder = shutil.copytree(tmp_path / "plain", tmp_path / "copy")
    for name in ("non_lora_trainables.bin", "mm_projector.bin"):
        (folder / name).write_bytes(b"x")
        with pytest.raises(ModelNotFoundError, match=f"weights in {name}, a pickle: `proxqa train convert`"):
            tiny.check_adapter(folder)
        (folder / name).unlink()
    (folder / LORA).rename(folder / "adapter_model.bin")
    with pytest.raises(ModelNotFoundError, match=r"lacks .*adapter_model.bin is a pickle"):
        tiny.check_adapter(folder)
    (folder / "adapter_model.bin").rename(folder / LORA)
    (folder / PROJECTOR).write_bytes(b"x")  # of our own form, whose description is gone
    with pytest.raises(ModelNotFoundError, match=f"lacks {INFO}"):
        tiny.check_adapter(folder)
