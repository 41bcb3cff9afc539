#!/usr/bin/env bash
# Guess:     a model loaded in float32 and moved by `.to(torch.bfloat16)` is the one that is loaded in bfloat16.
# Behaviour: their parameters are equal, their answers are not: `.to(dtype)` also rounds the buffers, and with them the
#            inverse frequencies of the rotary positions to 8 bits; from_pretrained leaves these in float32. At position
#            2000 an angle is off by 0.87 rad here, which no message says.
# Versions:  transformers 5.23.0, torch 2.13.0, Python 3.11
# Source:    https://github.com/huggingface/transformers/issues/25681; torch.nn.Module.to: "casts
#            all floating point parameters and buffers"
# Matters:   an evaluation that loads in float32, merges an adapter and goes to bfloat16 measures another model than the
#            server that loads in bfloat16; long prompts (image tokens!) are hurt most.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q 'torch==2.13.0' 'transformers==5.23.0'
cd "$tmp"

cat > show.py <<'PY'
import torch
from transformers import LlamaConfig, LlamaForCausalLM

torch.manual_seed(0)
sizes = dict(hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=2, vocab_size=100)
LlamaForCausalLM(LlamaConfig(**sizes)).save_pretrained("llama")
loaded = LlamaForCausalLM.from_pretrained("llama", dtype=torch.bfloat16)
moved = LlamaForCausalLM.from_pretrained("llama", dtype=torch.float32).to(torch.bfloat16)
same = all(torch.equal(a, b) for a, b in zip(loaded.parameters(), moved.parameters(), strict=True))
kept, rounded = (m.model.rotary_emb.inv_freq for m in (loaded, moved))
angle = float(2000 * (kept - rounded.float()).abs().max())
print("parameters equal:", same, "| inv_freq:", kept.dtype, rounded.dtype, f"| angle at 2000 off by {angle:.2f} rad")
raise SystemExit(not (same and kept.dtype == torch.float32 and rounded.dtype == torch.bfloat16 and angle > 0.5))
PY
"$tmp/venv/bin/python" show.py
