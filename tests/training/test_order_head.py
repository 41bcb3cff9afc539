"""Training the order head: what it learns from, that it learns, goes on where it was, and what it writes."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml

from proxqa_core.datasets.folder import LabelledFolder, Record
from proxqa_core.model import adapter as adapters
from proxqa_core.model.loading import DEFAULT_ADAPTER, LoadedModel
from proxqa_training import frozen_tower
from proxqa_training.frozen_tower import HeadRun
from proxqa_training.order_head import (
    OrderConfig,
    OrderFolder,
    OrderTrainer,
    ordered_pairs,
    patch_distances,
    read_folder,
)
from proxqa_training.parts import Part

CPU = torch.device("cpu")
SMALL: dict[str, Any] = {"batch_size": 4, "size": 32, "dropout": 0.0}


def run_in(work: Path, model: LoadedModel) -> HeadRun:
    return HeadRun(DEFAULT_ADAPTER, adapters.read_info(DEFAULT_ADAPTER), work / "out", work, model, CPU)


@pytest.fixture
def folder(pristine: LoadedModel, blocks: Path, feature_cache: Path, tmp_path: Path) -> OrderFolder:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / frozen_tower.FEATURES).symlink_to(feature_cache)
    return read_folder(run_in(tmp_path / "run", pristine), blocks)


def silent(**_: Any) -> None:
    pass


def test_only_what_differs_enough_is_ordered() -> None:
    near, far, gaps = ordered_pairs(torch.tensor([2.0, 1.0, 1.05, 4.0]))
    assert gaps.tolist() == pytest.approx([0.5, 0.475, 0.5, 0.75, 0.7375])
    assert {(int(a), int(b)) for a, b in zip(near, far, strict=True)} == {(1, 0), (2, 0), (0, 3), (1, 3), (2, 3)}


def test_patches_have_the_median_of_what_is_measured_in_them() -> None:
    metres = np.full((12, 18), np.nan, np.float32)
    metres[:6, :9] = 2.0
    metres[0, 0] = np.inf
    metres[6:, 9:14] = 3.0  # 5 of 9 columns
    metres[6:9, :9] = 5.0  # half
    metres[6, 0] = np.nan  # a little less than half
    assert np.exp(patch_distances(metres, 2)).tolist() == pytest.approx([2.0, np.nan, np.nan, 3.0], nan_ok=True)


def test_samples_are_pairs_of_mirror_images(folder: OrderFolder) -> None:
    assert folder.rendered and len(folder.samples) == 8
    plain, mirrored = folder.samples[:2]
    assert plain.boxes[0].tolist() == pytest.approx([10 / 128, 50 / 96, 50 / 128, 90 / 96])
    assert mirrored.boxes[0].tolist() == pytest.approx([78 / 128, 50 / 96, 118 / 128, 90 / 96])
    assert (plain.near.tolist(), plain.far.tolist()) == ([0], [1])  # 1 m and 4 m
    last = folder.samples[-1]
    assert (last.near.tolist(), last.far.tolist()) == ([1], [0])  # 4 m and 1 m
    assert plain.patches is not None and mirrored.patches is not None
    assert torch.equal(plain.patches.reshape(24, 24).flip(1).flatten(), mirrored.patches)
    assert plain.aspect == pytest.approx(128 / 96)


def test_parts_of_images_teach_and_are_not_judged_on(
    pristine: LoadedModel, blocks: Path, feature_cache: Path, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / frozen_tower.FEATURES).symlink_to(feature_cache)
    folder = read_folder(run_in(tmp_path / "run", pristine), blocks, parts=1)
    parts = folder.samples[8:]
    assert [s.plain for s in folder.samples[:8]] == [True, False] * 4 and 0 < len(parts) <= 4
    for part in parts:
        assert not part.plain and len(part.near) == 1 and part.boxes.shape == (2, 4)
        side = part.boxes[:, 3] - part.boxes[:, 1]
        assert part.patches is not None and side.max() > 40 / 96  # larger than in the whole image
        assert not any(np.array_equal(part.features, s.features) for s in folder.samples[:8])
    trainer = OrderTrainer(OrderConfig(**SMALL), [folder], pristine, tmp_path, CPU)
    assert trainer.right(folder)[1] == 4


def test_parts_are_turned_as_far_as_is_asked_for(
    pristine: LoadedModel, blocks: Path, feature_cache: Path, tmp_path: Path
) -> None:
    def rolls(name: str, **asked: float) -> list[float]:
        (tmp_path / name).mkdir()
        (tmp_path / name / frozen_tower.FEATURES).symlink_to(feature_cache)
        seen = run_in(tmp_path / name, pristine).see(blocks, lambda image: True, parts=2, **asked)  # type: ignore[arg-type]
        return [i.image.record.roll for i in seen.images if isinstance(i.image.record, Part)]

    assert rolls("upright") and set(rolls("again")) == {0.0}
    turned = rolls("turned", roll_deg=10.0)
    assert len(set(turned)) == len(turned) > 2


def test_pairs_that_break_the_rule_or_are_near_each_other_weigh_more(
    folder: OrderFolder, pristine: LoadedModel
) -> None:
    config = OrderConfig(breaking_weight=3.0, near_weight=2.0, **SMALL)
    trainer = OrderTrainer(config, [folder], pristine, Path(), CPU)
    boxes = torch.tensor([[0.1, 0.1, 0.2, 0.9], [0.3, 0.1, 0.4, 0.5], [0.5, 0.1, 0.6, 0.3]])
    near, far, gaps = ordered_pairs(torch.tensor([1.0, 1.1, 0.5]))  # the third is nearest, and ends highest
    sample = dataclasses.replace(folder.samples[0], boxes=boxes, near=near, far=far, gaps=gaps)
    weights = dict(zip(zip(near.tolist(), far.tolist(), strict=True), trainer._weights(sample).tolist(), strict=True))
    assert weights == {(0, 1): 2.0, (2, 0): 3.0, (2, 1): 3.0}
    near, far, gaps = ordered_pairs(torch.tensor([1.1, 1.0, 5.0]))
    sample = dataclasses.replace(sample, near=near, far=far, gaps=gaps)
    assert trainer._weights(sample).tolist() == [6.0, 1.0, 1.0]


def test_it_goes_on_with_a_head_that_is_there(folder: OrderFolder, pristine: LoadedModel, tmp_path: Path) -> None:
    given = adapters.read_order_head(DEFAULT_ADAPTER)
    trainer = OrderTrainer(OrderConfig(size=32), [folder], pristine, tmp_path, CPU, given)
    for key, value in given.state_dict().items():
        assert torch.equal(trainer.head.state_dict()[key], value)
    assert trainer.head.dropout.p == 0.2


def test_of_an_image_without_labels_the_depth_map_is_read_once(
    pristine: LoadedModel, blocks: Path, feature_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = json.loads((blocks / "annotations.json").read_text())
    (blocks / "annotations.json").write_text(json.dumps([{**r, "objects": []} for r in records]))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / frozen_tower.FEATURES).symlink_to(feature_cache)
    read: list[str] = []
    load = Record.load_depth
    monkeypatch.setattr(Record, "load_depth", lambda record: read.append(record.image) or load(record))
    folder = read_folder(run_in(tmp_path / "run", pristine), blocks)
    assert sorted(read) == [f"images/{i}.png" for i in range(4)]
    assert len(folder.samples) == 8 and all(len(s.boxes) for s in folder.samples)
    first, metres = folder.samples[0].patches, load(LabelledFolder(blocks).records[0])
    assert first is not None and torch.equal(first, patch_distances(metres, pristine.patches_per_side))


def test_it_learns_what_breaks_the_rule_too(pristine: LoadedModel, tmp_path: Path) -> None:
    """What is nearer is larger here, wherever it stands."""
    (tmp_path / "images").mkdir()
    records = []
    for i, near_is_lower in enumerate((True, False, True, False)):
        image = np.full((96, 128, 3), 90, np.uint8)
        near, far = ((10, 46, 60, 94), (90, 4, 106, 20)) if near_is_lower else ((10, 4, 60, 52), (90, 70, 106, 86))
        for x1, y1, x2, y2 in (near, far):
            image[y1:y2, x1:x2] = (200 - 20 * i, 30, 30)
        cv2.imwrite(str(tmp_path / f"images/{i}.png"), image)
        things = [{"name": "block", "box": box, "depth_m": metres} for box, metres in ((near, 1.0), (far, 3.0))]
        records.append({"image": f"images/{i}.png", "width": 128, "height": 96, "objects": things})
    (tmp_path / "annotations.json").write_text(json.dumps(records))
    folder = read_folder(run_in(tmp_path / "run", pristine), tmp_path)
    assert not folder.rendered and folder.samples[0].patches is None
    trainer = OrderTrainer(OrderConfig(num_steps=25, lr=2e-3, **SMALL), [folder], pristine, tmp_path, CPU)
    logged: list[dict[str, Any]] = []
    trainer.train(lambda **values: logged.append(values))
    assert trainer.right(folder) == (4, 4)
    assert logged[-1]["order"] < 0.5 * logged[0]["order"]


def test_it_learns_the_distances_of_patches(folder: OrderFolder, pristine: LoadedModel, tmp_path: Path) -> None:
    trainer = OrderTrainer(OrderConfig(num_steps=25, lr=2e-3, **SMALL), [folder], pristine, tmp_path, CPU)
    _, before = trainer.losses(folder.samples[:4])
    trainer.train(silent)
    _, after = trainer.losses(folder.samples[:4])
    assert after["patches"] < 0.7 * before["patches"]


def test_a_stopped_run_goes_on_where_it_was(folder: OrderFolder, pristine: LoadedModel, tmp_path: Path) -> None:
    config = OrderConfig(num_steps=6, batch_size=2, size=32, dropout=0.1)

    def trained(place: Path, stop_at: int | None = None) -> torch.Tensor:
        place.mkdir(exist_ok=True)
        trainer = OrderTrainer(config, [folder], pristine, place, CPU)
        plain_batch = trainer.batch

        def batch(step: int) -> Any:
            if step == stop_at:
                raise KeyboardInterrupt
            return plain_batch(step)

        trainer.batch = batch  # type: ignore[method-assign]
        trainer.train(silent, 0)
        return torch.cat([p.detach().flatten() for p in trainer.head.parameters()])

    whole = trained(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "stopped", stop_at=3)
    assert torch.equal(trained(tmp_path / "stopped"), whole)


def test_the_command_adds_the_head_to_an_adapter(
    train: Callable[..., tuple[int, str, str]],
    blocks: Path,
    photographs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pristine: LoadedModel,
) -> None:
    monkeypatch.setattr(frozen_tower, "load", lambda *_, **__: pristine)
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"num_steps": 2, "batch_size": 2, "go_on": True, "parts": 1, "roll_deg": 9.0}))
    out, report = tmp_path / "out", tmp_path / "report.json"
    later = shutil.copytree(blocks, tmp_path / "later")
    asked = ("order", DEFAULT_ADAPTER, "--data", blocks, "--out", out, "--config", config, "--val")
    code, _, complaint = train(*asked, blocks)
    assert code == 2 and "4 of its 4 images are trained on too" in complaint
    asked = (*asked, later, photographs)
    code, printed, complaint = train(*asked, "--json", report)
    assert code == 0, complaint
    assert "calibrate it next" in printed
    told = json.loads(report.read_text())
    assert told["validation"][str(photographs)] == {"right": None, "pairs": 0}  # nothing is 0 % of nothing
    assert f"{photographs}: - of 0 pairs" in printed
    assert told["validation"][str(later)]["pairs"] == 4 and told["bad_images"]["count"] == 0
    info, given = adapters.read_info(out), adapters.read_info(DEFAULT_ADAPTER)
    assert info.training["order_head"]["images"] == 4 and info.training["order_head"]["config"]["num_steps"] == 2
    assert info.order_head and info.closer_weights is None and info.closer_weights_in_box is None
    assert (info.name, info.visibility, info.depth_temperature) == (
        given.name,
        given.visibility,
        given.depth_temperature,
    )
    adapter = adapters.read(out, pristine.spec)
    assert adapter.order_head is not None and adapter.grounding_head is not None
    assert adapter.order_head.patch.weight.shape == (160, 384)  # that of the one it went on with
    # another run is not begun in the same folder, nor the start written over
    config.write_text(yaml.safe_dump({"num_steps": 3, "batch_size": 2, "size": 32}))
    code, _, complaint = train(*asked)
    assert code == 2 and "a run with other config was begun there" in complaint
    code, _, complaint = train("order", out, "--data", blocks, "--out", out)
    assert code == 2 and "is the adapter to start from" in complaint


def test_what_teaches_nothing_is_said(
    train: Callable[..., tuple[int, str, str]],
    photographs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pristine: LoadedModel,
) -> None:
    monkeypatch.setattr(frozen_tower, "load", lambda *_, **__: pristine)
    code, _, complaint = train("order", DEFAULT_ADAPTER, "--data", photographs, "--out", tmp_path / "out")
    assert code == 2 and "no two things whose distances differ by 8 %" in complaint
    assert not (tmp_path / "out").exists()


def test_an_adapter_without_an_order_head_cannot_go_on_with_one(
    train: Callable[..., tuple[int, str, str]],
    photographs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pristine: LoadedModel,
) -> None:
    """It is said before anything is read."""
    monkeypatch.setattr(frozen_tower, "load", lambda *_, **__: pristine)
    monkeypatch.setattr(HeadRun, "see", lambda *_: pytest.fail("images are read"))
    bare = tmp_path / "bare"
    shutil.copytree(DEFAULT_ADAPTER, bare)
    (bare / adapters.ORDER_HEAD).unlink()
    changes = {"order_head": False, "closer_weights": None, "closer_weights_in_box": None}
    (bare / adapters.INFO).write_text(json.dumps(json.loads((bare / adapters.INFO).read_text()) | changes))
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"go_on": True}))
    code, _, complaint = train("order", bare, "--data", photographs, "--out", tmp_path / "out", "--config", config)
    assert code == 1 and "has no order head to go on with; expected one, or go_on: false" in complaint


def test_a_damaged_depth_map_is_counted_and_the_others_teach(
    blocks: Path, pristine: LoadedModel, tmp_path: Path
) -> None:
    shutil.copytree(blocks, tmp_path / "some")
    (tmp_path / "some/depth/1.png").write_bytes(b"no picture")
    run = run_in(tmp_path / "run", pristine)
    read = read_folder(run, tmp_path / "some")
    assert len(read.samples) == 6 and len(run.bad) == 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"num_steps": 0}, "num_steps is 0"),
        ({"dropout": 1.5}, "dropout is 1.5"),
        ({"patch_weight": -1.0}, "patch_weight is -1.0; expected a number of 0 or more"),
        ({"patch_weight": math.nan}, "patch_weight is nan"),
        ({"parts": -1}, "parts is -1"),
        ({"roll_deg": -1.0}, "roll_deg is -1.0"),
        ({"breaking_weight": 0.0}, "breaking_weight is 0.0"),
        ({"near_weight": math.nan}, "near_weight is nan"),
        ({"weight_decay": math.inf}, "weight_decay is inf"),
    ],
)
def test_what_is_out_of_range_is_quoted(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OrderConfig(**changed)
