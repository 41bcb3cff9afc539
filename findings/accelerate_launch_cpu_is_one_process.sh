#!/usr/bin/env bash
# Guess:     `accelerate launch --cpu --num_processes 2 train.py` runs two processes, as --num_processes says.
# Behaviour: it runs one process and exits 0. The number only sets OMP_NUM_THREADS. `torchrun --nproc_per_node 2` on
#            the same script runs two, and Accelerator(cpu=True) joins them over gloo.
# Versions:  accelerate 1.15.0, torch 2.13.0, Python 3.11
# Source:    https://github.com/huggingface/accelerate/issues/2741 (closed); accelerate/commands/launch.py:
#            launch_command() takes the simple launcher when args.cpu is set and neither MPI nor a device is
#            configured.
# Matters:   a distributed sampler or a gathered metric of a VLM's training loop that was "tested with two processes
#            on the CPU" was tested with one: lost or doubled samples show up only on the real machine.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q 'torch==2.13.0'
"$tmp/venv/bin/pip" install -q 'accelerate==1.15.0'
cd "$tmp"

cat > train.py <<'PY'
import torch
from accelerate import Accelerator

accelerator = Accelerator(cpu=True)
ranks = accelerator.gather(torch.tensor([accelerator.process_index])).tolist()
if accelerator.is_main_process:
    print("RANKS", ranks)
accelerator.end_training()  # leave the process group in order
PY
export OMP_NUM_THREADS=1 PATH="$tmp/venv/bin:$PATH" HF_HOME="$tmp/hf"
accelerate launch --cpu --num_processes 2 train.py >launched 2>&1 || cat launched
torchrun --standalone --nproc_per_node 2 train.py >torchrun 2>&1 || cat torchrun
echo "accelerate launch --cpu --num_processes 2: $(grep RANKS launched)"
echo "torchrun --nproc_per_node 2:               $(grep RANKS torchrun)"
grep -qxF "RANKS [0]" launched && grep -qxF "RANKS [0, 1]" torchrun
