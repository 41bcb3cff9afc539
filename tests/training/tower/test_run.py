"""The first step of training: losses fall, a stopped run goes on, files come out."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from proxqa_core.model.adapter import read_grounding_head
from proxqa_core.model.base_weights import vision_weights
from proxqa_core.model.loading import LoadedModel
from proxqa_training.prefetch import prefetch
from proxqa_training.tower.config import TowerConfig
from proxqa_training.tower.data import Batch
from proxqa_training.tower.run import TowerRun

CONFIG = TowerConfig(start="current", num_samples=10, batch_size=2, unfrozen_blocks=1, val_fraction=0)
Fresh = Callable[[], LoadedModel]


def no_metrics(**_: Any) -> None:
    pass


def test_steps_prepared_by_others_are_the_same(blocks: Path, tmp_path: Path, fresh_model: Fresh) -> None:
    run = TowerRun(fresh_model(), [blocks], CONFIG, tmp_path)
    ours, theirs = (list(prefetch(run.batch, range(3, 6), workers)) for workers in (0, 2))
    assert len(ours) == len(theirs) == 3
    for one, other in zip(ours, theirs, strict=True):
        for field in dataclasses.fields(one):
            assert torch.equal(*(getattr(b, field.name).nan_to_num(-1) for b in (one, other)))
    with pytest.raises(ValueError, match="workers is -1"):
        next(prefetch(run.batch, range(1), -1))


def test_earlier_blocks_are_trained_more_slowly(blocks: Path, tmp_path: Path, fresh_model: Fresh) -> None:
    config = dataclasses.replace(CONFIG, num_samples=2, unfrozen_blocks=3, layer_decay=0.1, weight_decay=0.0)
    run = TowerRun(fresh_model(), [blocks], config, tmp_path)
    before = {k: v.clone() for k, v in run.tower.blocks.state_dict().items()}
    run.train(no_metrics)
    far = {k: float((v - before[k]).abs().max()) for k, v in run.tower.blocks.state_dict().items()}
    moved = [max(v for k, v in far.items() if k.startswith(f"{i}.")) for i in range(3)]
    assert 0 < moved[0] < 0.2 * moved[1] < 0.04 * moved[2]


def test_a_run_learns_and_writes_what_it_learned(
    blocks: Path, photographs: Path, tmp_path: Path, fresh_model: Fresh
) -> None:
    run = TowerRun(fresh_model(), [blocks, photographs], CONFIG, tmp_path / "run")
    samples = [run.dataset.sample(image, None) for image in (*run.rendered, *run.photos)]
    batch = run.collate(samples, random.Random(0))
    with torch.no_grad():
        before, _ = run.losses(batch)
    lines: list[dict[str, Any]] = []
    run.train(lambda **values: lines.append(values))
    assert [line["step"] for line in lines] == [0] and lines[0]["stage"] == "tower"
    with torch.no_grad():
        after, figures = run.losses(batch)
    assert after.item() < 0.9 * before.item() and np.isfinite(list(figures.values())).all()
    run.write()
    tower, old = load_file(tmp_path / "run" / "vision_tower.safetensors"), load_file(vision_weights().find())
    assert {k: v.shape for k, v in tower.items()} == {k: v.shape for k, v in old.items()}
    changed = {k.split(".")[2] for k in tower if k.startswith("encoder.layer.") and not torch.equal(tower[k], old[k])}
    assert changed == {"11"}
    read_grounding_head(tmp_path / "run")
    validated = run.validate(run.rendered)
    assert 0 <= validated["region_mae"] <= 1 and validated["names"] == 8


def test_a_stopped_run_goes_on_where_it_was(blocks: Path, tmp_path: Path, fresh_model: Fresh) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums in one order: the first steps of AdamW make much of the last bit
    try:
        _stopped_run(blocks, tmp_path, fresh_model)
    finally:
        torch.set_num_threads(threads)


def _stopped_run(blocks: Path, tmp_path: Path, fresh_model: Fresh) -> None:
    config = dataclasses.replace(CONFIG, num_samples=6)

    def trained(place: Path) -> dict[str, torch.Tensor]:
        run = TowerRun(fresh_model(), [blocks], config, place)
        run.train(no_metrics)
        return run.tower.state_dict()

    def interrupted(place: Path, stop_after: int) -> None:
        run = TowerRun(fresh_model(), [blocks], config, place)
        real, calls = run.losses, []

        def losses(batch: Batch) -> Any:
            calls.append(1)
            if len(calls) > stop_after:
                raise KeyboardInterrupt
            return real(batch)

        run.losses = losses  # type: ignore[assignment]
        with pytest.raises(KeyboardInterrupt):
            run.train(no_metrics, minutes_between_checkpoints=0)

    interrupted(tmp_path / "broken", 2)
    resumed, whole = trained(tmp_path / "broken"), trained(tmp_path / "whole")
    assert all(torch.allclose(resumed[k], whole[k], atol=1e-5) for k in whole)


def test_another_run_is_not_begun_in_the_same_folder(
    blocks: Path, photographs: Path, tmp_path: Path, train: Callable[..., tuple[int, str, str]]
) -> None:
    config, out = tmp_path / "tower.yaml", tmp_path / "run"
    command = ("tower", config, "--device", "cpu", "--out", out, "--data", blocks)
    config.write_text(yaml.safe_dump(dataclasses.asdict(CONFIG)))
    assert "4 of its 4 images are trained on too" in train(*command, "--validate", blocks)[2] and not out.exists()
    for seed, more, code, says in ((0, (), 0, ""), (1, (), 2, "other config"), (0, (photographs,), 2, "other folders")):
        config.write_text(yaml.safe_dump(dataclasses.asdict(dataclasses.replace(CONFIG, num_samples=2, seed=seed))))
        given, _, error = train(*command, *more)
        assert given == code and (f"a run with {says} was begun there" in error) is (code == 2)


@pytest.mark.parametrize(
    ("text", "says"), [("speed: 3", "unknown"), ("num_samples: 0", "num_samples is 0"), ("start: x", "start is 'x'")]
)
def test_bad_configurations_are_one_line(
    tmp_path: Path, text: str, says: str, train: Callable[..., tuple[int, str, str]]
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    (tmp_path / "annotations.json").write_text("[]")
    code, _, error = train("tower", path, "--data", tmp_path, "--out", tmp_path / "o")
    assert code == 2 and says in error and len(error.strip().splitlines()) == 1
