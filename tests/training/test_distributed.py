"""Alone and in company."""

import os
import subprocess
import sys

import torch

from proxqa_training.distributed import DistributedContext

COMPANY = """
import sys

import torch
from proxqa_training.distributed import World
world = World("cpu")
weight = torch.nn.Parameter(torch.zeros(2))
if world.rank == 0:
    weight.grad = torch.tensor([2.0, 4.0])  # the other one has none
world.average([weight])
world.wait()
assert weight.grad.tolist() == [1.0, 2.0], weight.grad
sys.stdout.write(f"{world.size} {world.seed('s')} {world.writes}\\n")
sys.stdout.flush()
torch.distributed.destroy_process_group()
"""


def test_alone():
    world = DistributedContext("cpu")
    assert (world.rank, world.size, world.writes, world.seed("s")) == (0, 1, True, "s")
    weight = torch.nn.Parameter(torch.zeros(1))
    weight.grad = torch.ones(1)
    world.average([weight])
    world.wait()
    assert weight.grad.item() == 1


def test_two_processes_average_their_gradients(tmp_path):
    script = tmp_path / "company.py"
    script.write_text(COMPANY)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    paths = {"PYTHONPATH": os.pathsep.join(p for p in (os.getcwd(), os.environ.get("PYTHONPATH")) if p)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ | paths)
    assert done.returncode == 0, done.stderr[-2000:]
    assert sorted(line for line in done.stdout.splitlines() if line) == ["2 s True", "2 s/1 False"]
