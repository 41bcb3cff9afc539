"""A box as an embedding, and an adapter that has one."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from proxqa_core.engine import ProximityEngine
from proxqa_core.errors import BadModelError, ModelNotFoundError
from proxqa_core.evaluation.bench import picture
from proxqa_core.model import adapter as adapters
from proxqa_core.model.loading import DEFAULT_ADAPTER
from proxqa_core.types import Box, ObjectQuery
from proxqa_core.vision.box_embedding import BoxEmbedding

THINGS = [ObjectQuery("cup", Box(10, 20, 90, 110)), ObjectQuery("lamp", Box(150, 5, 200, 100))]


def write(folder: Path, embedding: BoxEmbedding | None, **changes: object) -> Path:
    shutil.copytree(DEFAULT_ADAPTER, folder)
    info = json.loads((folder / adapters.INFO).read_text()) | {"box_embedding": embedding is not None} | changes
    (folder / adapters.INFO).write_text(json.dumps(info))
    if embedding is not None:
        save_file(embedding.state_dict(), folder / adapters.BOX_EMBEDDING)
    return folder


def test_a_new_one_gives_nothing_and_a_trained_one_tells_boxes_apart() -> None:
    torch.manual_seed(0)
    embedding = BoxEmbedding(8)
    boxes = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.41], [0, 0, 1, 1]])
    assert torch.equal(embedding(boxes), torch.zeros(3, 8))
    torch.nn.init.normal_(embedding.out.weight)
    told = embedding(boxes)
    assert (told[0] - told[1]).abs().max() > 1e-3 and torch.allclose(embedding(boxes[2:]), told[2:], atol=1e-5)
    again = BoxEmbedding.from_weights(embedding.state_dict())
    assert torch.equal(again(boxes), told)


def test_it_is_read_with_its_adapter_and_answers_with_it(engine: ProximityEngine, tmp_path: Path) -> None:
    def with_embedding(folder: Path) -> ProximityEngine:
        adapter = adapters.read(folder, engine.model.spec)
        model = dataclasses.replace(engine.model, adapter=adapter.info, box_embedding=adapter.box_embedding)
        return ProximityEngine(model, engine.networks)

    image = picture(5)
    before = [o.depth for o in engine.encode_image(image).depths(THINGS)]
    torch.manual_seed(0)
    embedding = BoxEmbedding(engine.model.spec.word)
    new = with_embedding(write(tmp_path / "new", embedding))
    assert new.info()["box_embedding"] and not engine.info()["box_embedding"]
    assert [o.depth for o in new.encode_image(image).depths(THINGS)] == pytest.approx(before, abs=1e-4)
    torch.nn.init.normal_(embedding.out.weight, std=0.2)
    trained = with_embedding(write(tmp_path / "trained", embedding))
    after = [o.depth for o in trained.encode_image(image).depths(THINGS)]
    assert np.abs(np.subtract(after, before)).max() > 1e-3
    other = adapters.read(write(tmp_path / "other", None), engine.model.spec)
    assert other.box_embedding is None  # nothing of it is left where the next adapter has none


def test_what_does_not_fit_is_refused(engine: ProximityEngine, tmp_path: Path) -> None:
    missing = write(tmp_path / "missing", None, box_embedding=True)
    with pytest.raises(ModelNotFoundError, match=r"lacks box_embedding\.safetensors"):
        engine.check_adapter(missing)
    narrow = write(tmp_path / "narrow", BoxEmbedding(12))
    with pytest.raises(BadModelError, match="does not fit the model"):
        engine.check_adapter(narrow)
    damaged = write(tmp_path / "damaged", BoxEmbedding(engine.model.spec.word))
    weights = load_file(damaged / adapters.BOX_EMBEDDING)
    save_file({k: v for k, v in weights.items() if k != "inner.bias"}, damaged / adapters.BOX_EMBEDDING)
    with pytest.raises(BadModelError, match=r"does not fit the model: weight 'inner.bias' is missing"):
        engine.check_adapter(damaged)
