"""A whole small run: two stages, adapter out and into the engine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from proxqa_core.backends.config import BackendConfig
from proxqa_core.engine import ProximityEngine
from proxqa_core.model.adapter import GROUNDING_HEAD, LORA, PROJECTOR, read_info
from proxqa_core.model.loading import LoadedModel
from proxqa_core.vision.grounding_head import GroundingHead
from proxqa_training.stages.run import load_start

CONFIG = """
name: blocks
lora: {rank: 4, alpha: 8}
stages:
  - {name: perceive, num_samples: 3, batch_size: 1, max_seq_len: 192, real_fraction: 0.5,
     recipe: {perceive: 2, absent: 1, present: 1}}
  - {name: reason, num_samples: 1, batch_size: 1, max_seq_len: 256,
     recipe: {perceive: 1, absent: 0, reason: 1, direct: 1}}
torch_compile: false
"""
Train = Callable[..., tuple[int, str, str]]


@pytest.fixture
def start(tmp_path: Path, pristine: LoadedModel) -> Path:
    """What a tower's run leaves behind: a projector and a grounding head, here as they are drawn."""
    place = tmp_path / "start"
    place.mkdir()
    torch.manual_seed(0)
    hidden = pristine.llava.config.vision_config.hidden_size // pristine.spatial_merge_size**2
    grounding_head = GroundingHead(hidden, pristine.llava.config.text_config.hidden_size)
    save_file({k: v.half() for k, v in grounding_head.state_dict().items()}, place / GROUNDING_HEAD)
    projector = pristine.llava.model.multi_modal_projector.state_dict()
    save_file({k: v.half().contiguous() for k, v in projector.items()}, place / PROJECTOR)
    return place


def test_a_run_resumes_and_gives_an_adapter_that_answers(
    blocks: Path,
    photographs: Path,
    start: Path,
    feature_cache: Path,
    tmp_path: Path,
    train: Train,
    fresh_model: Callable[[], LoadedModel],
) -> None:
    out, adapter, config = tmp_path / "run", tmp_path / "adapter", tmp_path / "blocks.yaml"
    config.write_text(CONFIG)
    command = ["run", config, "--start", start, "--data", blocks, photographs, "--out", out, "--cache", feature_cache]
    command += ["--device", "cpu"]
    code, output, error = train(*command, "--adapter", adapter, "--json", "-")
    assert code == 0, error
    assert json.loads(output)["adapter"] == str(adapter)
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert {line["stage"] for line in lines} == {"perceive", "reason"}
    lora = load_file(adapter / LORA)
    assert any(v.abs().max() > 0 for k, v in lora.items() if "lora_B" in k)
    assert json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"] is None
    info = read_info(adapter)
    assert info.grounding_head and info.training["images"] == 6 and info.training["photographs"] == 2

    # the same command again trains nothing and ends with the same weights
    assert train(*command, "--adapter", tmp_path / "again")[0] == 0
    again = load_file(tmp_path / "again" / LORA)
    assert all(torch.equal(lora[k], again[k]) for k in lora)
    assert len((out / "log.jsonl").read_text().splitlines()) == len(lines)

    engine = ProximityEngine.load("default", adapter, device="cpu", backend=BackendConfig("torch"))
    encoded = engine.encode_image(np.zeros((96, 128, 3), np.uint8))
    found = encoded.depths(["red block"])[0]
    assert 0 <= found.depth <= 1 and found.found_at is not None

    # with other settings, data or another start it is another run, whose weights these are not
    config.write_text(CONFIG + "seed: 3\n")
    assert "a run with other config was begun there" in train(*command)[2]
    config.write_text(CONFIG.replace("false", "true"))  # as fast as it may be: the same run
    less = [c for c in command if c != photographs]
    code, _, error = train(*less)
    assert code == 2 and "a run with other folders was begun there" in error
    (start / GROUNDING_HEAD).unlink()
    code, _, error = train(*command)
    assert code == 2 and "a run with other start was begun there" in error

    # an adapter is a start too
    assert load_start(adapter, fresh_model()) is not None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: x\nalign: {speed: 3}", "unknown ['align']"),
        ("name: x\nstages: [{name: a, num_samples: 0}]", "num_samples is 0"),
        ("name: x\nstages: [{name: a, num_samples: 1, recipe: {perceive: -1}}]", "perceive is -1"),
        ("name: x\nlora: 3", "expected a mapping"),
    ],
)
def test_bad_configurations_are_one_line(tmp_path: Path, text: str, says: str, train: Train) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    (tmp_path / "annotations.json").write_text("[]")
    code, _, error = train("run", path, "--start", tmp_path, "--data", tmp_path, "--out", tmp_path / "o")
    assert code == 2 and says in error and len(error.strip().splitlines()) == 1


def test_a_start_without_a_projector_is_refused(tmp_path: Path, pristine: LoadedModel) -> None:
    with pytest.raises(ValueError, match=r"has no projector.safetensors; expected the run of a tower or an adapter"):
        load_start(tmp_path, pristine)
