"""The first step of training: what is drawn is true, losses fall, a stopped run goes on, files come out."""

import dataclasses
import json
import random

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from proxqa_core.model.adapter import read_grounding_head
from proxqa_core.model.base_weights import VISION
from proxqa_core.model.loading import NO_ADAPTER, load
from proxqa_core.vision.regions import region_tokens
from proxqa_core.vision.tower import merge_grid
from proxqa_training.prefetch import prepared
from proxqa_training.tower.run import (
    Pictures,
    TowerConfig,
    TowerRun,
    Vocabulary,
    expected,
    giou_loss,
    main,
    read_images,
    region_pool,
    soft_digits,
)
from proxqa_training.tower.words import means, unsure

CONFIG = TowerConfig(start="current", images=32, batch=4, blocks=1, held_out=0)


def loaded():
    return load("default", NO_ADAPTER, device="cpu", dtype="float32")


@pytest.mark.parametrize(
    ("said", "label"),
    [("couch", "sofa"), ("person", "boy"), ("vehicle", "motorbike"), ("cell phone", "phone"), ("table", "desk")],
)
def test_words_that_mean_a_thing(said, label):
    assert means(said, label) and not unsure(said, label)


@pytest.mark.parametrize(("said", "label"), [("armchair", "chair"), ("sofa", "armchair"), ("cabinet door", "door")])
def test_words_that_may_mean_it(said, label):
    assert unsure(said, label) and not means(said, label)


@pytest.mark.parametrize(("said", "label"), [("dog", "cat"), ("chair", "table"), ("car", "bus")])
def test_words_that_do_not(said, label):
    assert not unsure(said, label) and not means(said, label)


def test_drawn_pictures_are_true(blocks, photographs):
    pictures = Pictures(loaded(), 0.6)
    size, side = pictures.size, pictures.side
    for scene in (*read_images(blocks), *read_images(photographs)):
        for seed in (None, *range(12)):
            picture = pictures.draw(scene, None if seed is None else random.Random(seed))
            assert picture.pixels.shape == (3, size, size) and picture.depth.shape == (side, side)
            assert len(picture.names) == len(picture.boxes) == len(picture.depths) == len(picture.masks)
            for name, box, cover in zip(picture.names, picture.boxes, picture.masks, strict=True):
                x1, y1, x2, y2 = box.tolist()
                assert 0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1
                rows, columns = (cover.reshape(side, side) > 0.5).nonzero(as_tuple=True)
                assert columns.min() / side >= x1 - 0.07 and (columns.max() + 1) / side <= x2 + 0.07
                assert rows.min() / side >= y1 - 0.07 and (rows.max() + 1) / side <= y2 + 0.07
                inside = picture.pixels[:, round(size * (y1 + y2) / 2), round(size * (x1 + x2) / 2)]
                if name == "red block" and seed is None:
                    assert inside[0] > inside[2]
            known = torch.isfinite(picture.depth)
            assert bool(known.all()) == scene.rendered
            if scene.rendered:
                assert float(picture.depth.min()) >= 0 and float(picture.depth.max()) <= 1


def test_what_is_not_labelled_is_absent_only_where_that_is_known(blocks, photographs):
    words = Vocabulary(["red block", "blue block", "dog", "cat", "person"])
    rendered, photo = read_images(blocks)[0], read_images(photographs)[0]
    assert words.may_be_absent(rendered)[words.index["person"]] == 1
    assert words.may_be_absent(photo)[words.index["cat"]] == 1
    assert words.may_be_absent(photo)[words.index["person"]] == 0
    unknown = dataclasses.replace(photo, absent_known=frozenset())
    assert words.may_be_absent(unknown)[words.index["cat"]] == 0
    assert words.may_be_absent(unknown)[words.index["dog"]] == pytest.approx(0.2)


def test_a_patch_shows_what_any_of_its_things_is_called(blocks):
    run = TowerRun(loaded(), [blocks], CONFIG, blocks / "run")
    pictures = [run.pictures.draw(s, None) for s in run.rendered]
    losses, words = run.losses, run.losses.vocabulary
    right, wrong = losses._shows(losses.batch(pictures, random.Random(0)), len(pictures))
    for i, picture in enumerate(pictures):
        for w, word in enumerate(words.words):
            called = [m for m, n in zip(picture.masks, picture.names, strict=True) if means(word, n)]
            none = torch.zeros(run.pictures.side**2)
            cover = torch.stack(called).amax(0) if called else none
            may = [m for m, n in zip(picture.masks, picture.names, strict=True) if unsure(word, n)]
            doubt = torch.stack(may).amax(0) > 0.05 if may else none.bool()
            assert torch.equal(right[i, :, w].bool(), cover > 0.5)
            assert torch.equal(wrong[i, :, w].bool(), (cover <= 0.05) & ~doubt)


def test_steps_prepared_by_others_are_the_same(blocks, tmp_path):
    run = TowerRun(loaded(), [blocks], CONFIG, tmp_path)
    ours, theirs = (list(prepared(run.batch, range(3, 6), workers)) for workers in (0, 2))
    assert len(ours) == len(theirs) == 3
    for one, other in zip(ours, theirs, strict=True):
        for field in dataclasses.fields(one):
            assert torch.equal(*(getattr(b, field.name).nan_to_num(-1) for b in (one, other)))
    with pytest.raises(ValueError, match="workers is -1"):
        next(prepared(run.batch, range(1), -1))


def test_earlier_blocks_are_trained_more_slowly(blocks, tmp_path):
    config = dataclasses.replace(CONFIG, images=4, blocks=3, layer_decay=0.1, weight_decay=0.0)
    run = TowerRun(loaded(), [blocks], config, tmp_path)
    before = {k: v.clone() for k, v in run.student.blocks.state_dict().items()}
    run.train(lambda **_: None)
    far = {k: float((v - before[k]).abs().max()) for k, v in run.student.blocks.state_dict().items()}
    moved = [max(v for k, v in far.items() if k.startswith(f"{i}.")) for i in range(3)]
    assert 0 < moved[0] < 0.2 * moved[1] < 0.04 * moved[2]


def test_regions_are_those_of_the_engine():
    grid = torch.randn(2, 16, 16, 5)
    boxes = torch.tensor([[0.1, 0.2, 0.5, 0.4], [0.0, 0.0, 1.0, 1.0]])
    pooled = region_pool(grid, boxes, 2)
    for i in range(2):
        tokens = merge_grid(grid[i].reshape(1, 256, 5), 2)[0]
        assert torch.allclose(region_tokens(tokens, boxes[i : i + 1], 2)[0], pooled[i], atol=1e-5)


def test_digits_and_boxes():
    depth = torch.tensor([0.05, 0.32, 0.99])
    targets = soft_digits(depth)
    assert targets.argmax(-1).tolist() == [0, 3, 9] and torch.allclose(targets.sum(-1), torch.ones(3))
    assert torch.allclose(expected(targets.log()), depth, atol=0.06)
    same, apart = torch.tensor([[0.1, 0.1, 0.4, 0.4]]), torch.tensor([[0.6, 0.6, 0.9, 0.9]])
    assert giou_loss(same, same).item() == pytest.approx(0, abs=1e-5) and giou_loss(same, apart).item() > 1


def test_a_run_learns_and_writes_what_it_learned(blocks, photographs, tmp_path):
    run = TowerRun(loaded(), [blocks, photographs], CONFIG, tmp_path / "run")
    lines = []
    run.train(lambda **values: lines.append(values))
    batch = run.losses.batch([run.pictures.draw(s, None) for s in (*run.rendered, *run.photos)], random.Random(0))
    with torch.no_grad():
        after, shown = run.losses(batch)
        before, _ = TowerRun(loaded(), [blocks, photographs], CONFIG, tmp_path / "fresh").losses(batch)
    assert after.item() < 0.9 * before.item() and np.isfinite(list(shown.values())).all()
    run.write()
    tower, old = load_file(tmp_path / "run" / "vision_tower.safetensors"), load_file(VISION.find())
    assert {k: v.shape for k, v in tower.items()} == {k: v.shape for k, v in old.items()}
    changed = {k.split(".")[2] for k in tower if k.startswith("encoder.layer.") and not torch.equal(tower[k], old[k])}
    assert changed == {"11"}
    read_grounding_head(tmp_path / "run")
    looked = run.check(run.rendered)
    assert 0 <= looked["region_mae"] <= 1 and looked["names"] == 8


def test_a_stopped_run_goes_on_where_it_was(blocks, tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums in one order: the first steps of AdamW make much of the last bit
    try:
        _stopped_run(blocks, tmp_path)
    finally:
        torch.set_num_threads(threads)


def _stopped_run(blocks, tmp_path):
    config = dataclasses.replace(CONFIG, images=12)

    def trained(place, stop_after):
        run = TowerRun(loaded(), [blocks], config, place)
        if stop_after:
            real, calls = run.losses, []

            class Interrupted:
                batch = staticmethod(real.batch)

                def __call__(self, batch):
                    calls.append(1)
                    if len(calls) > stop_after:
                        raise KeyboardInterrupt
                    return real(batch)

            run.losses = Interrupted()
            with pytest.raises(KeyboardInterrupt):
                run.train(lambda **_: None, minutes_between_checkpoints=0)
            return None
        run.train(lambda **_: None)
        return run.student.state_dict()

    trained(tmp_path / "broken", 2)
    resumed, whole = trained(tmp_path / "broken", 0), trained(tmp_path / "whole", 0)
    assert all(torch.allclose(resumed[k], whole[k], atol=1e-5) for k in whole)


@pytest.mark.parametrize(
    ("text", "said"), [("speed: 3", "unknown"), ("images: 0", "images is 0"), ("start: x", "start is 'x'")]
)
def test_bad_configurations_are_one_line(tmp_path, text, said, capsys):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    assert main([str(path), "--data", str(tmp_path), "--out", str(tmp_path / "o")]) == 2
    err = capsys.readouterr().err.strip()
    assert said in err and len(err.splitlines()) == 1


def test_the_log_is_json(blocks, tmp_path):
    from proxqa_training.stages.run import logger

    log = logger(tmp_path / "log.jsonl")
    log(stage="tower", step=1, loss=0.123456789)
    assert json.loads((tmp_path / "log.jsonl").read_text()) == {"stage": "tower", "step": 1, "loss": 0.12346}
