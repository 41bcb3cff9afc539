"""The order head: boxes in order, and an adapter that has one."""

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
from proxqa_core.vision.order_head import OrderHead

NEAR, FAR = ObjectQuery("cup", Box(10, 20, 90, 110)), ObjectQuery("lamp", Box(150, 5, 200, 100))
WEIGHTS = {"closer_weights": [0.5, 0.0, 1.0], "closer_weights_in_box": [0.01, 0.0, 20.0]}


def write(folder: Path, head: OrderHead | None, **changes: object) -> Path:
    shutil.copytree(DEFAULT_ADAPTER, folder)
    (folder / adapters.ORDER_HEAD).unlink(missing_ok=True)
    info = json.loads((folder / adapters.INFO).read_text()) | {"order_head": head is not None} | WEIGHTS | changes
    (folder / adapters.INFO).write_text(json.dumps(info))
    if head is not None:
        save_file(head.state_dict(), folder / adapters.ORDER_HEAD)
    return folder


def head_for(engine: ProximityEngine) -> OrderHead:
    torch.manual_seed(0)
    return OrderHead(engine.model.spec.patch, 32).eval()


def test_what_an_image_says_of_a_box_depends_on_box_patches_and_aspect() -> None:
    torch.manual_seed(0)
    head = OrderHead(24, 32).eval()
    patches, boxes = torch.randn(2, 36, 24), torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.5], [0, 0, 1, 1]])
    aspects = torch.tensor([1.5, 3.0])
    tokens = head.tokens(patches, aspects)
    order = head(tokens[0], boxes, aspects[:1]).detach()
    assert tokens.shape == (2, 36, 32) and order.shape == (3,) and head.distances(tokens).shape == (2, 36)
    # one box after the other, and one image after the other, it is the same
    assert torch.allclose(torch.cat([head(tokens[0], b[None], aspects[:1]) for b in boxes]), order, atol=1e-5)
    assert torch.allclose(head.tokens(patches[1:], aspects[1:])[0], tokens[1], atol=1e-5)
    # another foot, another image, another aspect: something else
    assert abs(float(order[0] - order[1])) > 1e-5
    assert not torch.allclose(head(tokens[1], boxes, aspects[1:]), order, atol=1e-3)
    assert not torch.allclose(head.tokens(patches[:1], torch.tensor([0.5]))[0], tokens[0], atol=1e-3)
    again = OrderHead.from_weights(head.state_dict()).eval()
    assert torch.equal(again(tokens[0], boxes, aspects[:1]), order)


def test_boxes_at_the_rim_and_without_area_give_numbers() -> None:
    head = OrderHead(24, 32).eval()
    aspect = torch.ones(1)
    tokens = head.tokens(torch.randn(1, 36, 24), aspect)[0]
    rim = torch.tensor([[0, 0, 0, 0], [1, 1, 1, 1], [0, 0.99, 1, 1], [0.5, 0.5, 0.5, 0.5]], dtype=torch.float32)
    assert torch.isfinite(head(tokens, rim, aspect)).all()


def test_it_is_read_with_its_adapter_and_has_its_vote(engine: ProximityEngine, tmp_path: Path) -> None:
    def with_head(folder: Path) -> ProximityEngine:
        adapter = adapters.read(folder, engine.model.spec)
        model = dataclasses.replace(engine.model, adapter=adapter.info, order_head=adapter.order_head)
        return ProximityEngine(model, engine.networks)

    image, head = picture(5), head_for(engine)
    right = with_head(write(tmp_path / "right", head))
    assert right.info()["order_head"] and right.info()["closer_by"].endswith("the ground and of the order head")
    encoded = right.encode_image(image)
    near, far = encoded.box_order([NEAR.box, FAR.box]) or (0.0, 0.0)  # type: ignore[list-item]
    assert abs(far - near) > 0.01
    answer = encoded.closer(NEAR, FAR)
    assert answer.closer == ("cup" if near < far else "lamp")
    # turned round, the other one is the nearer, with the same sureness; depths stay as they are
    with torch.no_grad():
        head.scale.neg_()
    wrong = with_head(write(tmp_path / "wrong", head)).encode_image(image)
    other = wrong.closer(NEAR, FAR)
    assert other.closer != answer.closer and other.probability == pytest.approx(answer.probability, abs=0.02)
    assert [o.depth for o in wrong.depths([NEAR, FAR])] == [o.depth for o in encoded.depths([NEAR, FAR])]
    # either order of naming, and several at once, say the same
    many = encoded.closer_many([(NEAR, FAR), (FAR, NEAR)])
    assert [a.closer for a in many] == [answer.closer] * 2
    assert many[0].probability == pytest.approx(many[1].probability)


def test_without_one_nothing_is_said_of_boxes(engine: ProximityEngine, tmp_path: Path) -> None:
    model = dataclasses.replace(engine.model, order_head=None)
    assert ProximityEngine(model, engine.networks).encode_image(picture(5)).box_order([NEAR.box]) is None  # type: ignore[list-item]


def test_what_does_not_fit_is_refused(engine: ProximityEngine, tmp_path: Path) -> None:
    missing = write(tmp_path / "missing", None, order_head=True)
    with pytest.raises(ModelNotFoundError, match=r"lacks order_head\.safetensors"):
        engine.check_adapter(missing)
    narrow = write(tmp_path / "narrow", OrderHead(12, 32))
    with pytest.raises(BadModelError, match="does not fit the model"):
        engine.check_adapter(narrow)
    damaged = write(tmp_path / "damaged", head_for(engine))
    weights = load_file(damaged / adapters.ORDER_HEAD)
    save_file({k: v for k, v in weights.items() if k != "distance.bias"}, damaged / adapters.ORDER_HEAD)
    with pytest.raises(BadModelError, match=r"does not fit the model: weight 'distance.bias' is missing"):
        engine.check_adapter(damaged)
    save_file(weights | {"patch.weight": torch.zeros(30, engine.model.spec.patch)}, damaged / adapters.ORDER_HEAD)
    with pytest.raises(BadModelError, match=r"does not hold a order head: size is 30; expected a multiple of 4"):
        engine.check_adapter(damaged)
    for weights_of, expected in (([1.0, 1.0], "three numbers"), ([1.0, 1.0, -1.0], "three numbers")):
        with pytest.raises(BadModelError, match=expected):
            engine.check_adapter(write(tmp_path / f"{len(weights_of)}", head_for(engine), closer_weights=weights_of))
    with pytest.raises(BadModelError, match="two numbers"):
        engine.check_adapter(write(tmp_path / "none", None, closer_weights=[1.0, 1.0, 1.0]))


def test_distances_of_patches_are_true_up_to_one_constant() -> None:
    """A head whose patches tell their distance puts boxes in its order."""
    head = OrderHead(4, 32).eval()
    tokens = torch.zeros(36, 32)
    tokens[:, 0] = torch.arange(36, dtype=torch.float32)
    with torch.no_grad():
        head.distance.weight.zero_()[0, 0] = 1
        head.box[-1].weight.zero_()
        head.box[-1].bias.zero_()
    boxes = torch.tensor([[0, 0, 1, 1 / 6], [0, 3 / 6, 1, 4 / 6], [0, 5 / 6, 1, 1]])
    order = head(tokens, boxes, torch.ones(1)).detach().numpy()
    assert np.diff(order) == pytest.approx([18 * 4, 12 * 4], rel=1e-3)
