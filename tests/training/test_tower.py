"""The first step of training: what is drawn is true, losses fall, a stopped run goes on, files come out."""

import dataclasses
import json
import random

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from proxqa_core.adapter import read_pointer
from proxqa_core.base_weights import VISION
from proxqa_core.model import NO_ADAPTER, load
from proxqa_core.vision.regions import region_tokens
from proxqa_core.vision.tower import merge_grid
from training.tower import (
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
from training.words import means, unsure

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
    for scene in (*read_images(blocks), *read_images(photographs)):
        for seed in (None, *range(12)):
            picture = pictures.draw(scene, None if seed is None else random.Random(seed))
            assert picture.pixels.shape == (3, 224, 224) and picture.depth.shape == (16, 16)
            assert len(picture.names) == len(picture.boxes) == len(picture.depths) == len(picture.masks)
            for name, box, cover in zip(picture.names, picture.boxes, picture.masks, strict=True):
                x1, y1, x2, y2 = box.tolist()
                assert 0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1
                rows, columns = (cover.reshape(16, 16) > 0.5).nonzero(as_tuple=True)
                assert columns.min() / 16 >= x1 - 0.07 and (columns.max() + 1) / 16 <= x2 + 0.07
                assert rows.min() / 16 >= y1 - 0.07 and (rows.max() + 1) / 16 <= y2 + 0.07
                inside = picture.pixels[:, round(224 * (y1 + y2) / 2), round(224 * (x1 + x2) / 2)]
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
    batch = [run.pictures.draw(s, None) for s in (*run.rendered, *run.photos)]
    with torch.no_grad():
        after, shown = run.losses(batch, random.Random(0))
        fresh = TowerRun(loaded(), [blocks, photographs], CONFIG, tmp_path / "fresh")
        before, _ = fresh.losses(batch, random.Random(0))
    assert after.item() < 0.9 * before.item() and np.isfinite(list(shown.values())).all()
    run.write()
    tower, old = load_file(tmp_path / "run" / "vision_tower.safetensors"), load_file(VISION.find())
    assert {k: v.shape for k, v in tower.items()} == {k: v.shape for k, v in old.items()}
    changed = {k.split(".")[2] for k in tower if k.startswith("encoder.layer.") and not torch.equal(tower[k], old[k])}
    assert changed == {"11"}
    read_pointer(tmp_path / "run")
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
            real, calls = run.losses.__call__, []

            def losses(*args):
                calls.append(1)
                if len(calls) > stop_after:
                    raise KeyboardInterrupt
                return real(*args)

            run.losses = losses
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
    from training.run import logger

    log = logger(tmp_path / "log.jsonl")
    log(stage="tower", step=1, loss=0.123456789)
    assert json.loads((tmp_path / "log.jsonl").read_text()) == {"stage": "tower", "step": 1, "loss": 0.12346}
