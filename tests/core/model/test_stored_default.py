"""The bundled default without the code that makes modules: the same weights, words and answers, in less time."""

from __future__ import annotations

import copy
import dataclasses
import gc
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from proxqa_core.backends.reference import language_reference
from proxqa_core.errors import BadModelError
from proxqa_core.model import loading, stored_default
from proxqa_core.model.base_weights import default_base
from proxqa_core.model.loading import LoadedModel, load, with_adapter
from proxqa_core.model.parts import LANGUAGE_MODEL_PREFIX, VISION_PREFIX, Stored, Whole
from proxqa_core.model.stored_tokenizer import StoredTokenizer

PEFT = "base_model.model."
"""How peft begins the names of its weights."""
FIRST_ANSWER = """
import sys
import numpy as np
from proxqa_core.backends.config import BackendConfig
from proxqa_core.engine import ProximityEngine

engine = ProximityEngine.load(backend=BackendConfig("openvino"))
(chair,) = engine.encode_image(np.zeros((60, 80, 3), np.uint8)).depths(["chair"])
assert engine.info()["language_model"].startswith("openvino"), engine.info()
print([name for name in ("transformers", "transformers.modeling_utils") if name in sys.modules])
"""


@pytest.fixture(scope="module")
def stored() -> LoadedModel:
    model = load("default", device="cpu", dtype="bfloat16")
    assert isinstance(model.parts, Stored)
    return model


@pytest.fixture(scope="module")
def whole() -> LoadedModel:
    """The same by way of transformers alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "open_base", lambda _: None)
        model = load("default", device="cpu", dtype="bfloat16")
    assert isinstance(model.parts, Whole)
    return model


@pytest.fixture(scope="module")
def tokenizers() -> tuple[StoredTokenizer, Any]:
    folder = default_base()
    ours = stored_default.read_tokenizer(folder)
    assert isinstance(ours, StoredTokenizer)
    return ours, stored_default._whole_tokenizer(folder)


def test_an_adapter_must_fit_the_same(stored: LoadedModel, whole: LoadedModel) -> None:
    ours, theirs = (dataclasses.asdict(model.spec) for model in (stored, whole))
    of_tower = [name for name in theirs["others"] if name.startswith(VISION_PREFIX)]
    assert len(of_tower) == 72  # they have other names in the file
    assert ours == theirs | {"others": {n: s for n, s in theirs["others"].items() if n not in of_tower}}
    assert stored.parameters() == whole.parameters()


def test_weights_are_those_of_the_module(stored: LoadedModel, whole: LoadedModel) -> None:
    parts, module = stored.parts, whole.llava
    names = [name for name, _ in module.named_parameters() if name.startswith(LANGUAGE_MODEL_PREFIX)]
    assert len(names) == 272
    for name in names:
        ours = parts.weight(name)
        assert ours is not None and torch.equal(ours, module.get_parameter(name)), name
    assert parts.weight(LANGUAGE_MODEL_PREFIX + "layers.0.self_attn.q_proj.bias") is None
    assert torch.equal(parts.embeddings(), module.get_input_embeddings().weight)
    assert torch.equal(parts.output(), module.lm_head.weight)
    features = torch.randn(3, 3456, generator=torch.Generator().manual_seed(0))
    assert torch.equal(parts.project(features), whole.parts.project(features))


def test_its_module_is_the_same_and_goes_when_nobody_holds_it(stored: LoadedModel, whole: LoadedModel) -> None:
    module = stored.parts.llava(keep=False)
    theirs = whole.llava.state_dict()
    assert module.state_dict().keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in module.state_dict().items())
    assert stored.parts.llava(keep=False) is module
    (seen,) = [weakref.ref(module)]
    del module
    gc.collect()
    assert seen() is None


def test_who_changes_the_module_changes_the_model(whole: LoadedModel) -> None:
    model = load("default", device="cpu", dtype="bfloat16")
    name = LANGUAGE_MODEL_PREFIX + "norm.weight"
    with torch.no_grad():
        model.llava.get_parameter(name).fill_(3)
    changed = model.parts.weight(name)
    assert changed is not None and (changed == 3).all()
    assert model.llava is model.llava and model.parts.tower().keys() == whole.parts.tower().keys()
    model.llava.float()
    assert model.dtype == torch.float32


def test_weights_are_there_while_another_thread_makes_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = load("default", "none", device="cpu", dtype="bfloat16").parts
    making = threading.Event()
    make = parts._make  # type: ignore[attr-defined]
    monkeypatch.setattr(parts, "_make", lambda weights: (making.set(), make(weights))[1])
    with ThreadPoolExecutor(1) as pool:
        module = pool.submit(parts.llava)
        assert making.wait(60)
        features = torch.zeros(1, 3456)
        assert parts.embeddings().shape == parts.output().shape == (49216, 576)
        assert parts.project(features).shape == (1, 576)
        assert parts.weight(LANGUAGE_MODEL_PREFIX + "norm.weight") is not None
        assert module.result() is parts.llava()


def test_the_kept_reference_is_what_torch_computes(stored: LoadedModel, whole: LoadedModel) -> None:
    kept, computed = language_reference(stored.parts, ["v"]), language_reference(whole.parts, ["v"])
    assert torch.equal(kept.hidden, computed.hidden.float())
    position = torch.tensor([[0, 1, 2, 7], [5, 40, 999, 0]])
    for ours, theirs in zip(kept.angles(position), computed.angles(position), strict=True):
        assert ours.dtype == torch.float32 and torch.equal(ours, theirs)


def test_an_adapter_of_the_vision_tower_takes_the_module(stored: LoadedModel, tmp_path: Path) -> None:
    weights = {f"{PEFT}model.vision_tower.backbone.x.lora_A.weight": torch.zeros(2, 2)}
    save_file(weights, tmp_path / "adapter_model.safetensors")
    assert loading._stored_base(str(default_base()), "default", tmp_path) is None
    assert loading._stored_base(str(default_base()), "default", None) is not None
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": null}')
    with pytest.raises(BadModelError, match="changes the vision tower, which a model that is loaded shares"):
        with_adapter(stored, tmp_path)


def test_an_answer_takes_no_import_of_transformers() -> None:
    """Importing it takes as long as all the rest."""
    pytest.importorskip("openvino")
    for _ in range(2):  # the first may make what is kept
        done = subprocess.run([sys.executable, "-c", FIRST_ANSWER], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        if done.stdout == "[]\n":
            return
    pytest.fail(done.stdout)


PIECES = [*" \nabz019.,<|>_éß漢🙂", "<image>", "<|im_end|>", "<|im_start|>", "0.37", "Which "]
TEXT = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)


@given(text=TEXT, split=st.booleans(), special=st.booleans())
def test_words_are_cut_the_same(tokenizers: tuple[StoredTokenizer, Any], text: str, split: bool, special: bool) -> None:
    ours, theirs = (t(text, add_special_tokens=special, split_special_tokens=split).input_ids for t in tokenizers)
    assert ours == theirs
    for skip in (True, False):
        first, second = (t.decode(ours, skip_special_tokens=skip) for t in tokenizers)
        assert first == second


def test_what_else_is_known_of_a_tokenizer_is_the_same(tokenizers: tuple[StoredTokenizer, Any]) -> None:
    ours, theirs = tokenizers
    for known in ("bos_token", "chat_template", "all_special_ids", "eos_token_id", "pad_token_id"):
        assert getattr(ours, known) == getattr(theirs, known), known
    assert ours.get_added_vocab() == theirs.get_added_vocab()
    assert [ours.convert_ids_to_tokens(i) for i in (1, 500, 49152)] == theirs.convert_ids_to_tokens([1, 500, 49152])
    said = [{"role": "user", "content": "<image>\nHow far?"}]
    asked = {"tokenize": False, "add_generation_prompt": True}
    assert ours.apply_chat_template(said, **asked) == theirs.apply_chat_template(said, **asked)
    copied = copy.deepcopy(ours)
    copied.chat_template = "{% for message in messages %}{{ message.content }};{% endfor %}"
    assert copied.apply_chat_template(said, **asked) == "<image>\nHow far?;"
    assert ours.chat_template == theirs.chat_template
    assert copy.deepcopy(ours)("a").input_ids == ours("a").input_ids
    with pytest.raises(AttributeError):
        _ = ours.no_such_thing


def test_a_base_that_is_stored_otherwise_is_left_to_transformers(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"projector_hidden_act": "gelu", "tie_word_embeddings": true}')
    save_file({"model.words": torch.zeros(2, 2)}, tmp_path / "model.safetensors")
    assert stored_default.open_base(tmp_path) is None
