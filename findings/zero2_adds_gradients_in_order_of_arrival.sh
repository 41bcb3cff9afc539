#!/usr/bin/env bash
# Guess:     data parallel training adds up the gradients of one parameter over the processes, whatever path a batch takes
#            through the model; under DeepSpeed's ZeRO 2 as under DistributedDataParallel.
# Behaviour: ZeRO 2 puts gradients into a bucket in the order in which they come. Where two processes' backward passes
#            reach the parameters in another order, gradients of *different* parameters are added, without a message:
#            here a has gradient 5 in one process and 20 in the other, b 7 and 10. Under DistributedDataParallel a moves
#            by (5 + 20) / 2 = 12.5 and b by (7 + 10) / 2 = 8.5; under ZeRO 2 both by (5 + 10) / 2 = 7.5.
# Versions:  deepspeed 0.19.8, torch 2.13.0, Python 3.11
# Source:    deepspeed/runtime/zero/stage_1_and_2.py, reduce_independent_p_g_buckets_and_remove_grads: copies each
#            gradient behind the one before it in the bucket (contiguous_gradients), one sum over all
# Matters:   a VLM's process whose batch is text alone reaches the projector last (or by a "+ 0 * weights.sum()", first)
#            while the others reach it between tower and language model: ZeRO 3 hangs then, ZeRO 2 trains, wrongly. Every
#            batch needs an image, if need be a blank one that nothing is learnt of.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q 'torch==2.13.0' numpy setuptools wheel
"$tmp/venv/bin/pip" install -q --no-build-isolation 'deepspeed==0.19.8'
cd "$tmp"

cat > show.py <<'PY'
import os

os.environ["DS_ACCELERATOR"] = "cpu"
import deepspeed
import torch
import torch.distributed as dist


class Two(torch.nn.Module):
    """Gradients of a and b: 5 and 7 on the first process, 20 and 10 on the second, reached in the other order."""

    def __init__(self):
        super().__init__()
        self.a, self.b = (torch.nn.Parameter(torch.zeros(4)) for _ in "ab")

    def forward(self, rank):
        if rank == 0:
            return (self.a * 5).sum() + (self.b * 7).sum()
        return (self.b * 10).sum() + (self.a * 20).sum()


deepspeed.init_distributed("gloo", verbose=False)
rank = dist.get_rank()
plain = torch.nn.parallel.DistributedDataParallel(Two())
plain(rank).backward()
right = [-float(p.grad[0]) for p in plain.module.parameters()]
model = Two()
settings = {"train_micro_batch_size_per_gpu": 1, "gradient_clipping": 0.0, "zero_allow_untested_optimizer": True}
settings |= {"zero_optimization": {"stage": 2, "reduce_bucket_size": 1000}}
engine, *_ = deepspeed.initialize(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=1.0), config=settings)
engine.backward(engine(rank))
engine.step()
got = [float(p.detach()[0]) for p in model.parameters()]
if rank == 0:
    print("MOVED a, b by", right, "under DistributedDataParallel,", got, "under ZeRO 2", flush=True)
dist.barrier()
os._exit(not (right == [-12.5, -8.5] and got == [-7.5, -7.5]))
PY
export PATH="$tmp/venv/bin:$PATH" OMP_NUM_THREADS=1
torchrun --standalone --nproc_per_node 2 show.py >shown 2>&1 || { grep -v Warning shown | tail -20; exit 1; }
grep MOVED shown
