#!/usr/bin/env bash
# Guess:     ROS's bayer_rggb8 (first row R G, second G B) is OpenCV's COLOR_BayerRG2BGR.
# Behaviour: it is COLOR_BayerBG2BGR: the two letters of the old names are the second row's second and third pixel.
#            With the like-named code red and blue are exchanged; green is right, so the picture looks plausible.
#            gbrg and grbg are exchanged in the same way. COLOR_BayerRGGB2BGR, an alias, says what it does.
# Versions:  opencv-python-headless 5.0.0.93, numpy 2.4.6
# Source:    https://github.com/opencv/opencv/issues/19629; OpenCV's docs, "Color conversions", Bayer -> RGB;
#            sensor_msgs/image_encodings.hpp for the names of ROS
# Matters:   a detector or VLM behind a raw camera topic sees blue apples and orange skies, finds a part of them all
#            the same, and is asked for "the red cup" in vain. Nothing fails.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q 'opencv-python-headless==5.0.0.93' 'numpy==2.4.6'
cd "$tmp"
"$tmp/venv/bin/python" - <<'PY'
import cv2
import numpy as np

COLOUR_RGB = {"R": 200, "G": 100, "B": 20}


def mosaic(pattern):
    """What a sensor with this 2x2 pattern (row by row, as ROS names it) delivers of an evenly orange wall."""
    raw = np.zeros((16, 16), np.uint8)
    for place, letter in enumerate(pattern):
        raw[place // 2 :: 2, place % 2 :: 2] = COLOUR_RGB[letter]
    return raw


for pattern, right in (("RGGB", "BG"), ("BGGR", "RG"), ("GBRG", "GR"), ("GRBG", "GB")):
    seen = {}
    for code in (f"Bayer{pattern[:2]}2RGB", f"Bayer{right}2RGB", f"Bayer{pattern}2RGB"):
        seen[code] = cv2.cvtColor(mosaic(pattern), getattr(cv2, "COLOR_" + code))[8, 8].tolist()
    print(f"bayer_{pattern.lower()}8 of RGB [200, 100, 20]:", seen)
    assert list(seen.values()) == [[20, 100, 200], [200, 100, 20], [200, 100, 20]]
PY
