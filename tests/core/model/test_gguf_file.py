"""A GGUF file is read as transformers reads it, bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter, quantize

from proxqa_core.model.gguf_file import read_llama

WIDTH, HEADS, KV_HEADS, INNER, LAYERS = 64, 4, 2, 96, 2
TOKENS = ["<|end|>", "<|start|>", "a", "b", "ab", "Ġ"]


def write_llama(path: Path, tied: bool) -> None:
    """A Llama with random weights of the kinds that the published file has: Q8_0, Q4_1 and F32."""
    writer = GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_block_count(LAYERS)
    writer.add_context_length(128)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(5000.0)
    writer.add_layer_norm_rms_eps(1e-4)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3, 1, 1, 1, 1])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(0)
    writer.add_pad_token_id(0)
    rng, kind = np.random.default_rng(0), GGMLQuantizationType
    shapes = {"token_embd": (len(TOKENS), WIDTH)} | ({} if tied else {"output": (len(TOKENS), WIDTH)})
    for n in range(LAYERS):
        kv = (WIDTH * KV_HEADS // HEADS, WIDTH)
        layer = {"attn_q": (WIDTH, WIDTH), "attn_k": kv, "attn_v": kv, "attn_output": (WIDTH, WIDTH)}
        layer |= {"ffn_up": (INNER, WIDTH), "ffn_gate": (INNER, WIDTH), "ffn_down": (WIDTH, INNER)}
        shapes |= {f"blk.{n}.{name}": shape for name, shape in layer.items()}
        shapes |= {f"blk.{n}.attn_norm": (WIDTH,), f"blk.{n}.ffn_norm": (WIDTH,)}
    for name, shape in (shapes | {"output_norm": (WIDTH,)}).items():
        kept = kind.F32 if len(shape) == 1 else kind.Q4_1 if name.startswith("blk") else kind.Q8_0
        weights = rng.normal(size=shape).astype(np.float32)
        writer.add_tensor(f"{name}.weight", quantize(weights, kept), raw_dtype=kept)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize("tied", [True, False])
def test_it_is_what_transformers_reads(tmp_path: Path, tied: bool) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    write_llama(tmp_path / "tiny.gguf", tied)
    tokenizer, llm = read_llama(tmp_path / "tiny.gguf")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="tiny.gguf", dtype=torch.float32)
    ours, expected = llm.state_dict(), theirs.state_dict()
    assert list(ours) == list(expected)
    for name, weight in expected.items():
        assert ours[name].dtype == torch.float32 and torch.equal(ours[name], weight), name
    named_by_file = {"_name_or_path", "_model_name_or_path", "quantization_config", "unk_token_id"}
    config, expected = llm.config.to_dict(), theirs.config.to_dict()
    assert {k: config[k] for k in expected.keys() - named_by_file} == {
        k: expected[k] for k in expected.keys() - named_by_file
    }
    assert llm.config.name_or_path == "tiny" and (llm.lm_head.weight is llm.model.embed_tokens.weight) is tied
    their_tokenizer = AutoTokenizer.from_pretrained(tmp_path, gguf_file="tiny.gguf")
    assert tokenizer.get_vocab() == their_tokenizer.get_vocab() and tokenizer("ab ba<|end|>") == their_tokenizer(
        "ab ba<|end|>"
    )
    assert tokenizer.backend_tokenizer.to_str() == their_tokenizer.backend_tokenizer.to_str()
