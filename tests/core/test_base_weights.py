"""The vision tower read out of its carrier computes what the carrier computes."""

import copy

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from proxqa_core.base_weights import VISION


def test_the_tower_computes_what_the_onnx_graph_does(engine):
    model = onnx.load(str(VISION.find()))
    nodes = list(model.graph.node)
    last = max(i for i, n in enumerate(nodes) if n.name.startswith("/backbone/layernorm/"))
    output = nodes[last].output[0]
    del model.graph.node[last + 1 :]
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, None))
    pixels = np.random.default_rng(0).normal(size=(1, 3, 224, 224)).astype(np.float32)
    theirs = ReferenceEvaluator(model).run(None, {"input_image": pixels})[0]
    tower = engine.model.llava.model.vision_tower.backbone
    with torch.inference_mode():
        ours = copy.deepcopy(tower).float()(torch.from_numpy(pixels)).last_hidden_state.numpy()
    assert theirs.shape == ours.shape == (1, 257, 384)
    correlation = np.corrcoef(theirs.ravel(), ours.ravel())[0, 1]
    assert correlation > 0.9999, (correlation, np.abs(theirs - ours).max())
