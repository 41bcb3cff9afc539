#!/usr/bin/env bash
# Guess:     nearest-neighbour shrinking is the same everywhere, so it is the safe way to bring a depth map to the
#            size of a mask or of the encoder's grid.
# Behaviour: OpenCV's INTER_NEAREST and torch's mode="nearest" take the source pixel floor(x * scale), the block's
#            top left corner. Pillow's NEAREST, OpenCV's INTER_NEAREST_EXACT and torch's "nearest-exact" take its
#            centre. From 1280 to 160 pixels that is 4 source pixels up and to the left.
# Versions:  torch 2.13.0, opencv-python-headless 5.0.0.93, pillow 13.0.0, numpy 2.4.6
# Source:    torch's docs of interpolate ("Mode mode='nearest' matches buggy OpenCV's INTER_NEAREST"); OpenCV's docs
#            of InterpolationFlags, INTER_NEAREST_EXACT
# Matters:   depth shrunk by one library and boxes or masks by another do not lie on each other: along one side of a
#            thin object (a pole, a cup's handle) the depth is the background's.
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

WIDTH_PX, SMALL_PX = 1280, 160
columns = np.tile(np.arange(WIDTH_PX, dtype=np.uint16), (WIDTH_PX, 1))  # every pixel holds the number of its column
tensor = torch.from_numpy(columns.astype(np.float32))[None, None]
size = (SMALL_PX, SMALL_PX)
taken = {
    "cv2 INTER_NEAREST": cv2.resize(columns, size, interpolation=cv2.INTER_NEAREST),
    "torch nearest": F.interpolate(tensor, size=size, mode="nearest")[0, 0].numpy(),
    "cv2 INTER_NEAREST_EXACT": cv2.resize(columns, size, interpolation=cv2.INTER_NEAREST_EXACT),
    "torch nearest-exact": F.interpolate(tensor, size=size, mode="nearest-exact")[0, 0].numpy(),
    "Pillow NEAREST": np.asarray(Image.fromarray(columns).resize(size, Image.Resampling.NEAREST)),
}
for name, small in taken.items():
    print(f"{name:24} columns taken: {small[0, :4].astype(int).tolist()} ... {int(small[0, -1])}")
firsts = {name: int(small[0, 0]) for name, small in taken.items()}
assert firsts["cv2 INTER_NEAREST"] == firsts["torch nearest"] == 0
assert firsts["cv2 INTER_NEAREST_EXACT"] == firsts["torch nearest-exact"] == firsts["Pillow NEAREST"] == 4

pole_mm = np.full((SMALL_PX, WIDTH_PX), 4000, np.uint16)
pole_mm[:, 641:648] = 1000  # 7 pixels wide, 3 m before the wall
corner = cv2.resize(pole_mm, size, interpolation=cv2.INTER_NEAREST)
centre = np.asarray(Image.fromarray(pole_mm).resize(size, Image.Resampling.NEAREST))
print(f"nearest depth with a 7-pixel pole at 1 m, mm: cv2 INTER_NEAREST {corner.min()}, Pillow NEAREST {centre.min()}")
assert corner.min() == 4000 and centre.min() == 1000
PY
