"""The paper from end to end on COCO's images: build, mix, train both stages in two processes, and ask the node."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sensor_msgs.msg import RegionOfInterest

from proxqa_core.model.adapter import read_info
from proxqa_ros.proximity.node import load_engine
from tests.core.tiny_depth import save_depth_anything
from tests.core.tiny_llava import save_llava
from tests.ros.conftest import wait_until

REAL = Path(os.environ.get("PROXQA_REAL_DATA", "/nonexistent")) / "formats/coco"
ROOT = Path(__file__).resolve().parents[2]
RECIPE = """
batch_size: 4
per_device_batch_size: 2
num_epochs: 1
lr: 0.002
projector_lr: 0.001
max_seq_len: 700
lora: {rank: 4, alpha: 8, dropout: 0.0}
"""
PROGRAM = ("-m", "proxqa_core.cli")
TWO_PROCESSES = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "--", "proxqa_core.cli")
"""Without the --, torchrun takes --start for an abbreviation of its --start-method."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not REAL.is_dir(), reason="PROXQA_REAL_DATA names no folder with formats/coco"),
]


def proxqa(*arguments: object, program: tuple[str, ...] = PROGRAM) -> None:
    """Run the command as a user would."""
    command = [sys.executable, *program, *map(str, arguments)]
    path = os.pathsep.join([str(ROOT), str(ROOT / "training"), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400)
    assert run.returncode == 0, run.stderr[-2000:]


def test_from_coco_to_an_answer_of_the_node(graph, tmp_path):
    images = REAL / "val2017"
    # 1. conversations of both stages, by a depth model of random weights
    proxqa("data", "build", "coco", REAL / "annotations/instances_val2017.json", "--images", images, "--workers", 1,
           "--depth-model", save_depth_anything(tmp_path / "depth"), "--depth-unit", "disparity", "--device", "cpu",
           "--out", tmp_path / "built", "--val-fraction", 0.1)  # fmt: skip
    # 2. other instructions mixed in
    told = [{"from": "human", "value": "What is two and two?"}, {"from": "gpt", "value": "Four."}]
    (tmp_path / "other.json").write_text(json.dumps([{"id": i, "conversations": told} for i in range(20)]))
    mixed = tmp_path / "mix.json"
    proxqa("data", "mix", tmp_path / "built/train.json", "--with", tmp_path / "other.json", "--share", 0.1,
           "--out", mixed)  # fmt: skip
    # 3. both stages, two processes each
    base, recipe = save_llava(tmp_path / "base"), tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE)
    start: tuple[object, ...] = ()
    for stage in ("perceive", "reason"):
        proxqa("train", stage, "--model", base, "--data", mixed, "--images", images, "--config", recipe, "--steps", 2,
               "--out", tmp_path / stage, "--device", "cpu", *start, program=TWO_PROCESSES)  # fmt: skip
        start = ("--start", tmp_path / stage / "adapter")
    adapter = tmp_path / "reason/adapter"
    assert read_info(adapter).reasons
    # 4. the node answers with it
    graph.start(load_engine, model=str(base), adapter=str(adapter), device="cpu", objects=[""])
    picture = np.asarray(Image.open(sorted(images.glob("*.jpg"))[0]).convert("RGB"))
    camera = graph.camera()
    camera.publish(graph.image(picture))
    assert wait_until(lambda: graph.diagnostic(frames_received="1"))
    height, width = picture.shape[:2]
    left = RegionOfInterest(width=width // 2, height=height)
    right = RegionOfInterest(x_offset=width // 2, width=width // 2, height=height)
    answer = graph.query(objects=["chair", "table"], regions=[left, right], max_image_age=600.0)
    assert {o.name for o in answer.objects} == {"chair", "table"}, answer
    assert all(0 <= o.depth <= 1 and 0 <= o.score <= 1 for o in answer.objects)
