#!/usr/bin/env bash
# Guess:     transformers 5 reads a GGUF's tokenizer with its `tokenizer.ggml.pre` rule, so text is cut as in
#            llama.cpp.
# Behaviour: it does for some rules (llama-bpe, qwen2, ...). A rule that it does not know ("smollm", with which
#            SmolLM2 is converted) is replaced by GPT-2's without a warning: llama.cpp cuts SmolLM's numbers into
#            single digits before the merges, transformers hands the whole number to the merges.
# Versions:  transformers 5.23.0, tokenizers 0.23.3, gguf 0.19.0, torch 2.13.0
# Source:    transformers/integrations/gguf/gguf_tokenizer_mapping.py, GGUF_PRE_TOKENIZER_SPLITS and
#            set_split_regex; llama.cpp, src/llama-vocab.cpp, LLAMA_VOCAB_PRE_TYPE_SMOLLM ("\\p{N}" first);
#            https://github.com/ggml-org/llama.cpp/pull/6920 (why the key exists)
# Matters:   coordinates and depths in a prompt are numbers. A small VLM tuned on the GGUF's tokenizer in
#            transformers sees other tokens when it is served by llama.cpp, and the other way round.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q 'torch==2.13.0'
"$tmp/venv/bin/pip" install -q 'transformers==5.23.0' 'tokenizers==0.23.3' 'gguf==0.19.0'
cd "$tmp"
HF_HUB_OFFLINE=1 HF_HOME="$tmp/hf" "$tmp/venv/bin/python" - 2>log <<'PY' || { cat log; exit 1; }
import gguf
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoTokenizer


def write(path, rule):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(16)
    writer.add_embedding_length(8)
    writer.add_block_count(1)
    writer.add_feed_forward_length(8)
    writer.add_head_count(1)
    writer.add_layer_norm_rms_eps(1e-5)
    tokens = [*sorted(ByteLevel.alphabet()), "12", "123", "<s>", "</s>"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(rule)
    writer.add_token_list(tokens)
    writer.add_token_merges(["1 2", "12 3"])
    writer.add_token_types([gguf.TokenType.NORMAL] * (len(tokens) - 2) + [gguf.TokenType.CONTROL] * 2)
    writer.add_bos_token_id(len(tokens) - 2)
    writer.add_eos_token_id(len(tokens) - 1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


cuts = {}
for rule in ("gpt-2", "qwen2", "smollm"):
    write(f"{rule}.gguf", rule)
    cuts[rule] = AutoTokenizer.from_pretrained(".", gguf_file=f"{rule}.gguf").tokenize("x123")
    print(f"tokenizer.ggml.pre = {rule}: 'x123' is cut into {cuts[rule]}")
print("llama.cpp's rule for smollm: single digits, as for qwen2")
assert cuts["gpt-2"] == ["x", "123"] and cuts["qwen2"] == ["x", "1", "2", "3"]
assert cuts["smollm"] == cuts["gpt-2"], "the rule is known now"
PY
! grep -i "smollm\|pre_tokenizer\|pre-tokenizer" log
