#!/usr/bin/env bash
# Guess:     `zero3_init_flag: false` in accelerate's DeepSpeed configuration means that a model is loaded whole, and cut
#            when the Trainer prepares it; so what is done between (checks of shapes, an adapter merged, layers counted)
#            works as without DeepSpeed.
# Behaviour: as soon as TrainingArguments exist, from_pretrained cuts every parameter while it reads it, flag or no flag:
#            each is a tensor of shape [0] afterwards, without a message. Only accelerate's own zero3_init_context_manager
#            reads the flag; transformers asks whether the configuration is ZeRO 3. Before
#            TrainingArguments are made, the same call loads whole weights.
# Versions:  accelerate 1.15.0, transformers 5.23.0, deepspeed 0.19.8, torch 2.13.0, Python 3.11
# Source:    accelerate/utils/dataclasses.py, DeepSpeedPlugin.set_deepspeed_weakref (the flag is only looked at for an
#            import there), called by transformers/training_args.py; transformers/integrations/deepspeed.py,
#            is_deepspeed_zero3_enabled
# Matters:   a training script that reads a base model, inspects or changes its weights and then adds LoRA ends in an
#            IndexError of a shape, or changes nothing at all, under ZeRO 3 alone.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q 'torch==2.13.0' 'transformers==5.23.0' 'accelerate==1.15.0' setuptools wheel
"$tmp/venv/bin/pip" install -q --no-build-isolation 'deepspeed==0.19.8'
cd "$tmp"

cat > zero3.yaml <<'YAML'
compute_environment: LOCAL_MACHINE
distributed_type: DEEPSPEED
deepspeed_config: {zero_stage: 3, zero3_init_flag: false, gradient_accumulation_steps: 1}
mixed_precision: bf16
num_machines: 1
num_processes: 1
YAML
cat > show.py <<'PY'
import os

from transformers import LlamaConfig, LlamaForCausalLM, TrainingArguments

sizes = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=1, num_attention_heads=2, vocab_size=100)
LlamaForCausalLM(LlamaConfig(**sizes)).save_pretrained("llama")
shapes = []
for _ in range(2):
    shapes.append(tuple(LlamaForCausalLM.from_pretrained("llama").model.embed_tokens.weight.shape))
    arguments = TrainingArguments(output_dir="out", use_cpu=True, bf16=True, report_to="none")
flag = os.environ["ACCELERATE_DEEPSPEED_ZERO3_INIT"]
print(f"SHAPES before TrainingArguments {shapes[0]}, after {shapes[1]}; zero3_init_flag {flag}")
raise SystemExit(not (flag == "false" and shapes == [(100, 64), (0,)]))
PY
export PATH="$tmp/venv/bin:$PATH" HF_HOME="$tmp/hf" HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1
accelerate launch --config_file zero3.yaml show.py >shown 2>&1 || { cat shown; exit 1; }
grep SHAPES shown
