"""Another adapter is another engine: the same answers as loaded with it, and a bad one changes nothing."""

from __future__ import annotations

import gc
import json
import os
import shutil
import weakref

import numpy as np
import pytest
import torch
from safetensors.torch import load, save_file

from proxqa_core.engine import ProximityEngine
from proxqa_core.errors import BadModelError, ModelNotFoundError
from proxqa_core.evaluation.bench import picture
from proxqa_core.model import adapter as adapters
from proxqa_core.model.loading import DEFAULT_ADAPTER
from proxqa_core.vision.grounding_head import GroundingHead
from tests.core.tiny_llava import save_adapter, save_llava

NAMES = ["chair", "table", "the leftmost dog"]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_llava(tmp_path_factory.mktemp("llava"))


@pytest.fixture(scope="module")
def first(base, tmp_path_factory):
    place = tmp_path_factory.mktemp("adapters") / "first"
    save_adapter(base, place)
    return place


@pytest.fixture(scope="module")
def tiny(base):
    return ProximityEngine.load(str(base), device="cpu", dtype="float32")


@pytest.fixture
def adapter(first, tmp_path):
    """A copy, to be damaged."""
    return shutil.copytree(first, tmp_path / "adapter")


def weights(engine):
    return {k: v.clone() for k, v in engine.model.llava.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def alike(a, b):
    """Equal but for the last bits, in which the matrix products of some processors differ with their order."""
    return a.keys() == b.keys() and all(torch.allclose(a[k], b[k], rtol=1e-5, atol=1e-6) for k in a)


def answers(engine_or_view):
    view = engine_or_view.encode_image(picture(3)) if isinstance(engine_or_view, ProximityEngine) else engine_or_view
    return view.depths(NAMES), view.closer("chair", "table").probability


def test_it_is_merged_as_peft_merges(base, tmp_path):
    lora = save_adapter(base, tmp_path / "it", seed=7)
    engine = ProximityEngine.load(str(base), tmp_path / "it", device="cpu", dtype="float32")
    merged, theirs = engine.model.llava.model.language_model.state_dict(), lora.merge_and_unload().state_dict()
    plain = ProximityEngine.load(str(base), device="cpu", dtype="float32").model.llava.model.language_model.state_dict()
    assert alike(merged, theirs)
    changed = {k for k in plain if not torch.equal(plain[k], merged[k])}
    assert changed == {k for k in plain if "q_proj" in k or "down_proj" in k}


def test_another_adapter_answers_as_if_loaded_with_it_and_the_first_engine_stays(base, first, tiny, tmp_path):
    save_adapter(base, tmp_path / "second", seed=2, grounding_head=False)
    view, before = tiny.encode_image(picture(3)), weights(tiny)
    plain = answers(view)
    one = tiny.with_adapter(first)
    two = one.with_adapter(tmp_path / "second")
    assert [e.info()["adapter"] for e in (tiny, one, two)] == [None, "first", "second"]
    assert (
        one.model_name == f"{base}+first" and one.model.grounding_head is not None and two.model.grounding_head is None
    )
    for engine, folder in ((one, first), (two, tmp_path / "second")):
        loaded = ProximityEngine.load(str(base), folder, device="cpu", dtype="float32")
        assert same(weights(engine), weights(loaded))
        assert answers(engine) == answers(loaded) != plain
    assert answers(two.with_adapter("none")) == plain == answers(two.with_adapter(None))
    assert answers(view) == plain == answers(tiny) and same(before, weights(tiny))  # an old view has its own weights
    assert one.model.llava.model.vision_tower is tiny.model.llava.model.vision_tower  # not held twice
    assert one.model.llava.get_input_embeddings() is tiny.model.llava.get_input_embeddings()


def load_file(path):
    """Read, not mapped: these files are written over."""
    return load(path.read_bytes())


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def pickled(path):
    torch.save(load_file(path), path)


def reshaped(path):
    save_file({k: v[:1].contiguous() if v.dim() else v for k, v in load_file(path).items()}, path)


def one_missing(path):
    save_file(dict(sorted(load_file(path).items())[1:]), path)  # the same one whatever the order in the file


def one_more(path):
    save_file(load_file(path) | {"extra\nweight": torch.zeros(1)}, path)


DAMAGE = {
    cut: (BadModelError, "not a whole safetensors file"),
    pickled: (BadModelError, "not a whole safetensors file"),
    lambda path: path.write_bytes(os.urandom(4096)): (BadModelError, "not a whole safetensors file"),
    lambda path: path.write_bytes(b""): (BadModelError, "not a whole safetensors file"),
    lambda path: path.unlink(): (ModelNotFoundError, "lacks"),
    lambda path: os.rename(path, path.with_suffix(".bin")): (ModelNotFoundError, "lacks"),
    lambda path: (path.unlink(), os.mkfifo(path)): (ModelNotFoundError, "lacks"),  # reading it would wait for ever
    reshaped: (BadModelError, "does not fit the model|does not hold a grounding head"),
    one_missing: (BadModelError, "does not fit the model"),
    one_more: (BadModelError, r"does not fit the model: weight 'extra\\nweight' is \[1\], expected unknown"),
}


@pytest.mark.parametrize("file", [adapters.LORA, adapters.PROJECTOR, adapters.GROUNDING_HEAD])
def test_a_bad_file_is_one_line_and_changes_nothing(tiny, adapter, file):
    before = weights(tiny)
    whole = (adapter / file).read_bytes()
    for damage, (kind, message) in DAMAGE.items():
        damage(adapter / file)
        for take in (tiny.check_adapter, tiny.with_adapter):
            with pytest.raises(kind, match=message) as error:
                take(adapter)
            assert "\n" not in str(error.value)
        for rest in adapter.glob(f"{file.split('.')[0]}.*"):
            rest.unlink()
        (adapter / file).write_bytes(whole)
    assert tiny.check_adapter(adapter) == "first"
    assert same(before, weights(tiny))


def test_values_that_cannot_be_used(tiny, adapter):
    for file in (adapters.LORA, adapters.PROJECTOR, adapters.GROUNDING_HEAD):
        tensors = load_file(adapter / file)
        name = next(k for k, v in tensors.items() if v.dim() == 2)
        save_file(tensors | {name: tensors[name].float() * float("inf")}, adapter / file)
        with pytest.raises(BadModelError, match="not finite"):
            tiny.with_adapter(adapter)
        save_file(tensors, adapter / file)
    tensors = load_file(adapter / adapters.PROJECTOR)
    save_file({k: torch.full_like(v.float(), 3e38) for k, v in tensors.items()}, adapter / adapters.PROJECTOR)
    with pytest.raises(BadModelError, match="gives no finite numbers"):  # each weight is finite, what comes of them not
        tiny.with_adapter(adapter)


def test_a_grounding_head_for_another_model_is_refused_before_it_is_asked(tiny, adapter):
    save_file(GroundingHead(6, 5, 8, 12).state_dict(), adapter / adapters.GROUNDING_HEAD)
    for take in (tiny.check_adapter, tiny.with_adapter):
        with pytest.raises(
            BadModelError, match=r"grounding_head.safetensors' does not fit the model: .*, expected \[.*32"
        ):
            take(adapter)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (adapters.LORA_CONFIG, {"use_dora": True}, "not plain LoRA .use_dora"),
        (adapters.LORA_CONFIG, {"alpha_pattern": {"q_proj": 3}}, "not plain LoRA .alpha_pattern"),
        (adapters.LORA_CONFIG, {"bias": "all"}, "not plain LoRA"),
        *(
            (adapters.LORA_CONFIG, {"init_lora_weights": how}, f"not plain LoRA .init_lora_weights '{how}'")
            for how in ("pissa", "pissa_niter_4", "olora", "corda", "loftq", "lora_ga")
        ),
        (adapters.LORA_CONFIG, {"alora_invocation_tokens": [1, 2]}, "not plain LoRA .alora_invocation_tokens"),
        (adapters.LORA_CONFIG, {"rank_pattern": {"q_proj": 8}}, "not plain LoRA .rank_pattern"),
        (adapters.LORA_CONFIG, {"modules_to_save": ["lm_head"]}, "not plain LoRA .modules_to_save"),
        (adapters.LORA_CONFIG, {"target_parameters": ["w"]}, "not plain LoRA .target_parameters"),
        (adapters.LORA_CONFIG, {"trainable_token_indices": [3]}, "not plain LoRA .trainable_token_indices"),
        (adapters.LORA_CONFIG, {"layer_replication": [[0, 2]]}, "not plain LoRA .layer_replication"),
        (adapters.LORA_CONFIG, {"a_kind_of_next_year": 1}, "not plain LoRA .a_kind_of_next_year"),
        (adapters.LORA_CONFIG, {"r": 5}, r"does not fit the model: .* is \[4, 96\], expected \[5, 96\]"),
        (adapters.LORA_CONFIG, {"r": 0}, "r is 0"),
        (adapters.LORA_CONFIG, {"lora_alpha": float("nan")}, "lora_alpha is nan"),
        (adapters.LORA_CONFIG, {"lora_alpha": 10**400}, "cannot be used"),
        (adapters.LORA_CONFIG, {"target_modules": "(a+)+b"}, "expected a list of names"),
        (adapters.LORA_CONFIG, {"target_modules": ["w_proj"]}, "the model has no layers 'w_proj'"),
        (adapters.LORA_CONFIG, {"target_modules": ["q_proj"]}, "expected unknown"),
        (adapters.LORA_CONFIG, {"target_modules": ["q_proj", "down_proj", "k_proj"]}, "is missing, expected"),
        (adapters.INFO, {"base": "another"}, "made for base 'another'"),
        (adapters.INFO, {"name": "two\nlines"}, "name is"),
        (adapters.INFO, {"name": ["x"]}, "name is"),
        (adapters.INFO, {"training": 3}, "training is no object"),
        (adapters.INFO, {"visibility_in_box": [1, 2]}, "visibility_in_box is .1, 2.; expected three numbers"),
    ],
)
def test_descriptions_that_do_not_hold(tiny, adapter, file, change, message):
    (adapter / file).write_text(json.dumps(json.loads((adapter / file).read_text()) | change))
    for take in (tiny.check_adapter, tiny.with_adapter):
        with pytest.raises(BadModelError, match=message) as error:
            take(adapter)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, "x" * 1_100_000])
def test_descriptions_that_cannot_be_read(tiny, adapter, text):
    for file in (adapters.LORA_CONFIG, adapters.INFO):
        whole = (adapter / file).read_text()
        (adapter / file).write_text(text)
        with pytest.raises(BadModelError, match=f"{file} cannot be"):
            tiny.with_adapter(adapter)
        (adapter / file).write_text(whole)


def test_a_base_that_has_changed_meanwhile_is_refused(base, first, tmp_path):
    """Else the new half of the model would not belong to the shared one."""
    copy = shutil.copytree(base, tmp_path / "copy")
    engine = ProximityEngine.load(str(copy), device="cpu", dtype="float32")
    before = answers(engine)
    tensors = load_file(copy / "model.safetensors")
    name = next(k for k in tensors if "vision_tower" in k and k.endswith("fc1.weight"))
    save_file(tensors | {name: tensors[name] + 1}, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BadModelError, match="its vision tower is not what it was"):
        engine.with_adapter(None)
    shutil.rmtree(copy)
    with pytest.raises(ModelNotFoundError, match="cannot be loaded"):
        engine.with_adapter(None)
    assert answers(engine) == before


@pytest.mark.model
def test_the_default_takes_another_adapter_and_goes_back(engine, tmp_path):
    """There and back: answers equal to the last digit, and the layers of the one left are let go."""
    other = shutil.copytree(DEFAULT_ADAPTER, tmp_path / "other")
    halved = {k: v / 2 for k, v in load_file(other / adapters.LORA).items()}
    save_file(halved, other / adapters.LORA)
    info = json.loads((other / adapters.INFO).read_text()) | {"name": "other"}
    (other / adapters.INFO).write_text(json.dumps(info))
    image = np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)

    def replies(by):
        view = by.encode_image(image)
        return view.depths(NAMES), view.ask("Which is closer, the chair or the table?")

    before = replies(engine)
    there = engine.with_adapter(other)
    assert there.model_name == "default+other" and replies(there) != before
    back = there.with_adapter(None)
    layer = weakref.ref(there.model.llava.model.language_model.layers[0])
    del there
    gc.collect()
    assert layer() is None
    assert back.model_name == engine.model_name and replies(back) == before == replies(engine)
