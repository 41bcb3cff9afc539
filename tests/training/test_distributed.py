"""One process, and two."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from proxqa_training.distributed import DistributedContext

ROOT = Path(__file__).parents[2]
TWO_PROCESSES = """
import sys

import torch
from proxqa_training.distributed import DistributedContext
context = DistributedContext("cpu")
weight = torch.nn.Parameter(torch.zeros(2))
if context.rank == 0:
    weight.grad = torch.tensor([2.0, 4.0])  # the other one has none
context.all_reduce_mean([weight])
context.barrier()
assert weight.grad.tolist() == [1.0, 2.0], weight.grad
sys.stdout.write(f"{context.world_size} {context.rank_seed('s')} {context.is_main_process}\\n")
sys.stdout.flush()
torch.distributed.destroy_process_group()
"""


def test_one_process() -> None:
    context = DistributedContext("cpu")
    assert (context.rank, context.world_size, context.is_main_process, context.rank_seed("s")) == (0, 1, True, "s")
    weight = torch.nn.Parameter(torch.zeros(1))
    weight.grad = torch.ones(1)
    context.all_reduce_mean([weight])
    context.barrier()
    assert weight.grad.item() == 1


def test_unknown_devices_are_quoted() -> None:
    with pytest.raises(ValueError, match="device is 'tpu'; expected one of auto, cpu, cuda"):
        DistributedContext("tpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_not_silently_replaced() -> None:
    with pytest.raises(ValueError, match="no CUDA device"):
        DistributedContext("cuda")


def test_two_processes_average_their_gradients(tmp_path: Path) -> None:
    script = tmp_path / "two.py"
    script.write_text(TWO_PROCESSES)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    here = [str(ROOT), str(ROOT / "training"), os.environ.get("PYTHONPATH")]
    paths = {"PYTHONPATH": os.pathsep.join(p for p in here if p)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ | paths)
    assert done.returncode == 0, done.stderr[-2000:]
    assert sorted(line for line in done.stdout.splitlines() if line) == ["2 s True", "2 s/1 False"]
