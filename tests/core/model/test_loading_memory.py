"""Loading a model takes about what its checkpoint has, swapping an adapter about what that changes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoTokenizer,
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

from proxqa_core.model import adapter as adapters
from proxqa_core.model.adapter import AdapterInfo
from proxqa_core.model.base_weights import default_base
from tests.core.tiny_llava import SIDE, TEMPLATE

MEASURE = """
import json, sys, threading, time
from proxqa_core.model.loading import load, with_adapter

def anonymous():
    return 1024 * int(next(l for l in open("/proc/self/status") if l.startswith("RssAnon")).split()[1])

def peak(work):
    import gc
    gc.collect()
    before, most, done = anonymous(), [0], threading.Event()
    def watch():
        while not done.wait(0.002):
            most[0] = max(most[0], anonymous())
    thread = threading.Thread(target=watch)
    thread.start()
    made = work()
    most[0] = max(most[0], anonymous())
    done.set()
    thread.join()
    return made, most[0] - before

base, adapter, dtype = sys.argv[1:]
load(base, device="cpu", dtype=dtype)  # libraries are loaded
model, loading = peak(lambda: load(base, device="cpu", dtype=dtype))
other, swapping = peak(lambda: with_adapter(model, adapter))
shared = {id(p) for p in model.llava.parameters()} | {p.data_ptr() for p in model.llava.parameters()}
changed = sum(p.nbytes for p in other.llava.parameters() if p.data_ptr() not in shared)
print(json.dumps({"loading": loading, "swapping": swapping, "changed": changed, "dtype": str(model.dtype)}))
"""
MARGIN_BYTES = 8e6
"""What an interpreter needs beside weights: of no account for a model that is worth the measuring."""


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """(a LLaVA of about 100 M parameters in bfloat16, an adapter for it)."""
    place = tmp_path_factory.mktemp("wide")
    tokenizer = AutoTokenizer.from_pretrained(default_base())
    tokenizer.chat_template = TEMPLATE
    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=SIDE, patch_size=14
    )
    text = LlamaConfig(
        hidden_size=768,
        intermediate_size=2048,
        num_hidden_layers=8,
        num_attention_heads=8,
        vocab_size=len(tokenizer),
    )
    config = LlavaConfig(vision_config=vision, text_config=text)
    config.image_token_index = tokenizer.convert_tokens_to_ids("<image>")
    llava = LlavaForConditionalGeneration(config).to(torch.bfloat16)
    llava.save_pretrained(place / "base", max_shard_size="50MB")
    tokenizer.save_pretrained(place / "base")
    size = {"height": SIDE, "width": SIDE}
    CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=size).save_pretrained(place / "base")
    lora = get_peft_model(
        llava.model.language_model, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
    )
    projector = llava.model.multi_modal_projector.state_dict()
    adapters.save(place / "adapter", AdapterInfo("a", str(place / "base")), projector, lora)
    return place / "base", place / "adapter"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="anonymous memory is read from /proc")
@pytest.mark.parametrize(("dtype", "of_stored"), [("bfloat16", 1.0), ("float32", 2.0)])
def test_memory_of_loading_and_swapping(wide, dtype, of_stored):
    base, adapter = wide
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, base, adapter, dtype], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    stored = sum(f.stat().st_size for f in base.glob("*.safetensors"))
    assert seen["dtype"] == f"torch.{dtype}" and stored > 150e6
    assert 0.9 * of_stored * stored < seen["loading"] < 1.3 * of_stored * stored + MARGIN_BYTES
    assert 0.9 * seen["changed"] < seen["swapping"] < 1.3 * seen["changed"] + MARGIN_BYTES
