#!/usr/bin/env bash
# Guess:     the `depth` picture that transformers' depth-estimation pipeline returns for a *metric* model shows
#            metres on a fixed scale (0..max_depth, or mm as a 16-bit PNG), so two frames can be compared.
# Behaviour: it is 8 bits, stretched from each frame's own smallest to its own largest depth. Walls at 2.4, 10 and
#            17.6 m, each flat to a hundredth of a millimetre, all become pictures from 0 to 255: only noise is
#            seen. Metres are in `predicted_depth` alone.
# Versions:  transformers 5.23.0, torch 2.13.0, pillow 13.0.0, numpy 2.4.6
# Source:    transformers/pipelines/depth_estimation.py, postprocess: (depth - min) / (max - min) * 255; its
#            docstring says only "The predicted depth by the model as a PIL.Image"
# Matters:   the picture is what most code saves. Thresholds, nearest distances and videos made of it are
#            meaningless from one frame to the next, and for metric models white is far, for relative ones (inverse
#            depth) white is near.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q 'torch==2.13.0'
"$tmp/venv/bin/pip" install -q 'transformers==5.23.0' 'pillow==13.0.0' 'numpy==2.4.6'
cd "$tmp"
HF_HUB_OFFLINE=1 HF_HOME="$tmp/hf" "$tmp/venv/bin/python" - <<'PY'
import numpy as np
import torch
from PIL import Image
from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config
from transformers import DPTImageProcessorPil, pipeline

torch.manual_seed(0)
backbone = Dinov2Config(
    hidden_size=32, num_hidden_layers=4, num_attention_heads=2, image_size=56, patch_size=14,
    out_features=["stage1", "stage2", "stage3", "stage4"], reshape_hidden_states=False,
)  # fmt: skip
config = DepthAnythingConfig(
    backbone_config=backbone, reassemble_hidden_size=32, neck_hidden_sizes=[8] * 4, fusion_hidden_size=8,
    head_hidden_size=8, depth_estimation_type="metric", max_depth=20,
)  # fmt: skip
model = DepthAnythingForDepthEstimation(config).eval()  # random weights: it sees a flat wall whatever it is shown
processor = DPTImageProcessorPil(size={"height": 56, "width": 56})
estimate = pipeline("depth-estimation", model=model, image_processor=processor)
photo = Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8))
for bias in (-2.0, 0.0, 2.0):
    with torch.no_grad():
        model.head.conv3.bias.fill_(bias)  # the head gives max_depth * sigmoid(features + bias)
    result = estimate(photo)
    metres, picture = result["predicted_depth"], np.asarray(result["depth"])
    print(f"predicted {metres.min():.5f} to {metres.max():.5f} m;", end=" ")
    print(f"picture {picture.dtype}, {picture.min()} to {picture.max()}")
    assert metres.max() - metres.min() < 1e-3
    assert picture.dtype == np.uint8 and (picture.min(), picture.max()) == (0, 255)
PY
