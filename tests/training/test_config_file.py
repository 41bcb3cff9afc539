"""YAML into dataclasses: what is wrong is quoted with what was expected."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxqa_training.config_file import read_config
from proxqa_training.grounding import GroundingConfig
from proxqa_training.order_head import OrderConfig
from proxqa_training.stages.config import LoraSettings, RunConfig, StageConfig
from proxqa_training.stages.finetune import CONFIG
from proxqa_training.tower.config import TowerConfig

CONFIGS = CONFIG.parent
FULL = """
name: x
lora: {rank: 4}
stages:
  - {name: a, num_samples: 3, lora_lr: 1, recipe: {reason: 2}}
  - {name: b, num_samples: 1}
"""


def test_nested_configurations(tmp_path: Path) -> None:
    path = tmp_path / "full.yaml"
    path.write_text(FULL)
    config = read_config(path, RunConfig)
    assert config.lora == LoraSettings(4) and [s.name for s in config.stages] == ["a", "b"]
    first, second = config.stages
    assert (first.lora_lr, first.recipe.reason) == (1, 2) and second == StageConfig("b", 1)


def test_what_may_be_left_out_may_be_given_and_left_empty(tmp_path: Path) -> None:
    path = tmp_path / "optional.yaml"
    stage = "{name: a, num_samples: 4, measured_photo_fraction: 0.5, per_device_batch_size: 2}"
    path.write_text(f"name: x\nbox_coordinates: true\nstages:\n  - {stage}\n  - {{name: b, num_samples: 1, "
                    "measured_photo_fraction: }\n")  # fmt: skip
    config = read_config(path, RunConfig)
    assert config.box_coordinates is True and config.stages[1].measured_photo_fraction is None
    assert (config.stages[0].measured_photo_fraction, config.stages[0].per_device_batch_size) == (0.5, 2)


OURS = [path for path in sorted(CONFIGS.glob("*.yaml")) if not path.stem.startswith(("accelerate", "llava"))]
"""Accelerate's are its own; that of any LLaVA is read in tests/training/llava."""


@pytest.mark.parametrize("path", OURS, ids=lambda p: p.stem)
def test_the_configurations_that_are_bundled(path: Path) -> None:
    if path.stem.startswith("tower"):
        assert read_config(path, TowerConfig).num_samples >= 24000
    elif path.stem == "grounding":
        assert read_config(path, GroundingConfig).num_steps >= 600
    elif path.stem.startswith("order"):
        assert read_config(path, OrderConfig).num_steps >= (600 if path.stem == "order" else 400)
    else:
        assert sum(stage.num_samples for stage in read_config(path, RunConfig).stages) >= 800


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("# nothing\n")
    assert read_config(path, TowerConfig) == TowerConfig()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: x\nalign: {speed: 3}", "unknown \\['align'\\]"),
        ("name: x\nstages: [{name: a, num_samples: 0}]", "num_samples is 0"),
        ("name: x\nstages: [{name: a, num_samples: 1, recipe: {perceive: -1}}]", "perceive is -1"),
        ("name: x\nbox_coordinates: 3", "box_coordinates is 3; expected true or false"),
        ("name: x\nstages: [{name: a, num_samples: 1, per_device_batch_size: 0}]", "per_device_batch_size is 0"),
        ("name: x\nlora: 3", "expected a mapping"),
        ("name: x\nstages: 3", "stages is 3; expected a list"),
        ("name: x\nstages: [3]", "number 1 of stages is 3; expected a mapping"),
        ("name: x\nstages: [{name: a}]", "has no num_samples; expected one"),
        ("name: x\nstages: [{name: a, num_samples: 1, lora_lr: 1e-4}]", "lora_lr is '1e-4'; expected a number"),
        ("name: x\nseed: 1.5", "seed is 1.5; expected a whole number"),
        ("name: x\nseed: true", "seed is True; expected a whole number"),
        ("name: 3", "name is 3; expected text"),
        ("name: x\ntorch_compile: maybe", "torch_compile is 'maybe'; expected true or false"),
        ("{}", "has no name; expected one"),
        ("[1]", "the configuration is \\[1\\]; expected a mapping"),
        ("name: [", "is no YAML"),
    ],
)
def test_bad_values_are_quoted(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=says) as caught:
        read_config(path, RunConfig)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("speed: 3", "unknown"),
        ("num_samples: 0", "num_samples is 0"),
        ("start: x", "start is 'x'"),
        ("real_fraction: 2", "real_fraction is 2; expected a share in \\[0, 1\\]"),
        ("unfrozen_blocks: 13", "unfrozen_blocks is 13; expected 0 to 12"),
        ("lr: .inf", r"lr is inf; expected a finite number above 0"),
    ],
)
def test_bad_values_of_a_tower_are_quoted(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=says):
        read_config(path, TowerConfig)


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none.yaml: is no file; expected a configuration"):
        read_config(tmp_path / "none.yaml", TowerConfig)
