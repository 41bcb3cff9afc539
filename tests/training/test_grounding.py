"""Teaching the grounding head: that it learns and keeps, goes on where it was, and what it writes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch.nn import functional as F

from proxqa_core.model import adapter as adapters
from proxqa_core.model.loading import DEFAULT_ADAPTER, LoadedModel
from proxqa_training import frozen_tower
from proxqa_training.frozen_tower import HeadRun
from proxqa_training.grounding import GroundingConfig, GroundingTrainer, NamedView, _flipped, read_views
from proxqa_training.labels import hash_share

SMALL: dict[str, Any] = {"batch_size": 4, "val_fraction": 0.0}


@pytest.fixture
def run(fresh_model: Callable[[], LoadedModel], tmp_path: Path, feature_cache: Path) -> HeadRun:
    info = adapters.read_info(DEFAULT_ADAPTER)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / frozen_tower.FEATURES).symlink_to(feature_cache)
    return HeadRun(DEFAULT_ADAPTER, info, tmp_path / "out", tmp_path / "run", fresh_model(), torch.device("cpu"))


@pytest.fixture
def views(run: HeadRun, blocks: Path, photographs: Path) -> list[NamedView]:
    """Of renders and of photographs."""
    return [*read_views(run, blocks), *read_views(run, photographs)]


def silent(**_: Any) -> None:
    pass


def similarity(trainer: GroundingTrainer, head: Any, name: str, view: NamedView) -> float:
    """How like a name the patches of its objects are, against those of others."""
    table = trainer.run.model.llava.get_input_embeddings().weight.detach().float()
    words = table[trainer.run.model.prompter.plain_ids(" " + name)].mean(0)[None]
    logits = head.similarity(head.patch_vectors(trainer._patches(view))[0], head.name_vectors(words))[:, 0]
    own = view.sample.masks[view.sample.names.index(name)] > 0.5
    return float((logits[own].mean() - logits[~own].mean()).detach())


def test_new_names_are_learned_and_what_was_known_is_mixed_in(
    views: list[NamedView], run: HeadRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = GroundingTrainer(GroundingConfig(num_steps=12, mix=1.0, **SMALL), views, run)
    assert len(trainer.rendered) == 4 and len(trainer.photos) == 2 and trainer.val == []
    view = trainer.rendered[0]
    before = similarity(trainer, trainer.before, "blue block", view)
    trainer.train(silent)
    learned = {k: v.clone() for k, v in trainer.head.state_dict().items()}
    assert similarity(trainer, trainer.head, "blue block", view) > before + 1
    assert trainer.found([view])["names"] == 2 and trainer.found(trainer.rendered)["found"] > 0.7
    # the same run, mixed by half with what it was
    half = GroundingTrainer(GroundingConfig(num_steps=12, mix=0.5, **SMALL), views, run)  # its checkpoint is at the end
    half.train(silent)
    start = half.before.state_dict()
    for key, value in half.head.state_dict().items():
        assert torch.allclose(value, (learned[key] + start[key]) / 2, atol=1e-6)


def test_mirror_images_and_their_labels_go_together(views: list[NamedView], run: HeadRun) -> None:
    trainer = GroundingTrainer(GroundingConfig(**SMALL), views, run)
    for view in trainer.rendered[:2]:
        plain, flipped = trainer._patches(view), trainer._patches(view, flipped=True)
        mirrored = plain.reshape(24, 24, -1).flip(1).flatten(0, 1)
        alike, unlike = (F.cosine_similarity(p, flipped).mean() for p in (mirrored, plain))
        assert alike > unlike + 0.02
        turned = _flipped(view.sample)
        assert turned.boxes[:, [0, 2]].tolist() == (1 - view.sample.boxes[:, [2, 0]]).tolist()
        assert torch.equal(turned.masks.reshape(-1, 24, 24), view.sample.masks.reshape(-1, 24, 24).flip(2))


def test_photographs_that_are_kept_are_not_trained_on(views: list[NamedView], run: HeadRun) -> None:
    paths = [v.image.record.image for v in views if not v.image.rendered]
    share = sum(map(hash_share, paths)) / 2  # between the two
    trainer = GroundingTrainer(GroundingConfig(val_fraction=share), views, run)
    assert len(trainer.val) == len(trainer.photos) == 1 and len(trainer.rendered) == 4
    assert hash_share(trainer.val[0].image.record.image) < share <= hash_share(trainer.photos[0].image.record.image)


def test_a_stopped_run_goes_on_where_it_was(views: list[NamedView], run: HeadRun) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums in one order: the first steps of AdamW make much of the last bit
    try:
        _stopped_run(views, run)
    finally:
        torch.set_num_threads(threads)


def _stopped_run(views: list[NamedView], run: HeadRun) -> None:
    config = GroundingConfig(num_steps=4, batch_size=2, val_fraction=0.0)

    def trained(stop_at: int | None = None) -> torch.Tensor:
        trainer = GroundingTrainer(config, views, run)
        plain_step = trainer.step

        def step(number: int) -> Any:
            if number == stop_at:
                raise KeyboardInterrupt
            return plain_step(number)

        trainer.step = step  # type: ignore[method-assign]
        trainer.train(silent, 0)
        return torch.cat([p.detach().flatten() for p in trainer.head.parameters()])

    with pytest.raises(KeyboardInterrupt):
        trained(stop_at=2)
    resumed = trained()
    (run.work / frozen_tower.CHECKPOINT).unlink()
    assert torch.equal(trained(), resumed)


def test_the_command_writes_the_adapter_with_the_new_head(
    train: Callable[..., tuple[int, str, str]],
    blocks: Path,
    photographs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run: HeadRun,
) -> None:
    monkeypatch.setattr(frozen_tower, "load", lambda *_, **__: run.model)
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"num_steps": 2, "batch_size": 2, "val_fraction": 0.0}))
    out, report = tmp_path / "new", tmp_path / "report.json"
    later = shutil.copytree(blocks, tmp_path / "later")
    asked = ("grounding", DEFAULT_ADAPTER, "--data", blocks, photographs, "--out", out, "--val", later)
    code, _, complaint = train(*asked, photographs)
    assert code == 2 and "2 of its 2 images are trained on too" in complaint
    code, printed, complaint = train(*asked, "--config", config, "--json", report)
    assert code == 0, complaint
    assert "proxqa train calibrate" in printed and "of 8 names found" in printed
    told = json.loads(report.read_text())
    assert told["validation"][str(later)]["after"]["names"] == 8 and "photographs kept" not in told["validation"]
    info, given = adapters.read_info(out), adapters.read_info(DEFAULT_ADAPTER)
    record = info.training.pop("grounding_head")
    assert (record["images"], record["photographs"], record["config"]["num_steps"]) == (6, 2, 2)
    given.training.pop("grounding_head", None)
    assert info == given  # nothing else has changed
    new, old = (adapters.read_grounding_head(f).state_dict() for f in (out, DEFAULT_ADAPTER))
    assert any(not torch.equal(new[k], old[k]) for k in old)
    code, _, complaint = train(*asked)  # as configured by default
    assert code == 2 and "a run with other config was begun there" in complaint


@pytest.mark.parametrize(
    ("changed", "message"), [({"mix": 0.0}, "mix is 0"), ({"mix": 1.5}, "mix is 1.5"), ({"weight_decay": -1.0}, "-1.0")]
)
def test_what_is_out_of_range_is_quoted(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GroundingConfig(**changed)
