"""The base model is made of what its carriers hold."""

import torch
from safetensors.torch import load_file

from proxqa_core.base_weights import VISION


def test_the_tower_is_the_one_in_the_package(engine):
    """Weights under their published names arrive in the model, whatever the installed library calls them."""
    published = load_file(VISION.find())
    backbone = engine.model.llava.model.vision_tower.backbone
    assert sum(t.numel() for t in published.values()) == sum(t.numel() for t in backbone.state_dict().values())
    renamed = {"attention.attention.query": "attention.q_proj", "attention.output.dense": "attention.o_proj"}
    loaded = backbone.state_dict()
    for name in (
        "layernorm.weight",
        "encoder.layer.11.attention.attention.query.weight",
        "encoder.layer.3.mlp.fc1.bias",
    ):
        here = name
        for old, new in renamed.items():
            here = here if here in loaded else here.replace(old, new)
        assert torch.allclose(loaded[here].float(), published[name].float(), atol=1e-2, rtol=1e-2), name
