#!/usr/bin/env bash
# Guess:     antialias=True in torch's interpolate matters only when an image shrinks, since enlarging cannot alias.
# Behaviour: for mode="bicubic" the flag also changes the kernel: a = -0.75 (as OpenCV) without, a = -0.5 (as
#            Pillow) with it. Enlarging with and without it gives different pixels. mode="bilinear" behaves as
#            guessed.
# Versions:  torch 2.13.0, pillow 13.0.0, opencv-python-headless 5.0.0.93, numpy 2.4.6
# Source:    https://github.com/pytorch/pytorch/pull/68819 (bicubic with antialias, made to match Pillow);
#            https://github.com/Blaizzy/mlx-vlm/pull/1243 (a port of a vision tower that had this wrong); Keys,
#            "Cubic convolution interpolation for digital image processing", 1981 (a = -0.5).
# Matters:   ViT and DINOv2 position embeddings are enlarged bicubically when the image is larger than in training.
#            Who sets the flag "to be safe", or ports the tower to another runtime, feeds the encoder other
#            embeddings.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q 'torch==2.13.0'
"$tmp/venv/bin/pip" install -q 'numpy==2.4.6' 'pillow==13.0.0' 'opencv-python-headless==5.0.0.93'
cd "$tmp"
"$tmp/venv/bin/python" - <<'PY'
import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

plane = np.random.default_rng(0).random((16, 16), dtype=np.float32)


def enlarge(mode, antialias):
    tensor = torch.from_numpy(plane)[None, None]
    return F.interpolate(tensor, size=(37, 37), mode=mode, antialias=antialias)[0, 0].numpy()


def difference(a, b):
    return float(np.abs(a - b).max())


pillow = np.asarray(Image.fromarray(plane).resize((37, 37), Image.Resampling.BICUBIC))
opencv = cv2.resize(plane, (37, 37), interpolation=cv2.INTER_CUBIC)
linear = difference(enlarge("bilinear", False), enlarge("bilinear", True))
cubic = difference(enlarge("bicubic", False), enlarge("bicubic", True))
to_pillow = difference(enlarge("bicubic", True), pillow)
to_opencv = difference(enlarge("bicubic", False), opencv)
print("16x16 -> 37x37, values in 0..1, largest differences")
print(f"with against without antialias: bilinear {linear:.1e}, bicubic {cubic:.3f}")
print(f"bicubic with antialias against Pillow {to_pillow:.1e}; without, against OpenCV {to_opencv:.1e}")
assert linear < 1e-5, "bilinear changes too"
assert cubic > 0.02, "bicubic does not change any more"
assert to_pillow < 1e-5 and to_opencv < 1e-5, "the kernels are others now"
PY
