#!/usr/bin/env bash
# Guess:     rosbags-image turns a depth image into the same uint16 millimetres whether it comes raw or as a 16-bit
#            PNG (lossless) in a CompressedImage.
# Behaviour: the raw image gives uint16 mm. The PNG gives uint8: every depth divided by 256, so 1000 mm is 3 and all
#            below 256 mm is 0, the value for "invalid". OpenCV decodes the very same bytes right with
#            IMREAD_UNCHANGED.
# Versions:  rosbags-image 0.10.4, rosbags 0.11.9, opencv-python-headless 5.0.0.93, numpy 2.4.6
# Source:    rosbags/image/image.py, compressed_image_to_cvimage: cv2.imdecode(..., cv2.IMREAD_ANYCOLOR), without
#            IMREAD_ANYDEPTH; OpenCV's ImreadModes: without it the image is converted to 8 bits
# Matters:   depth recorded on a `compressed` topic reads without an error, looks like a depth map, and is wrong by
#            a factor of 256. Check the dtype, or decode the data of a depth topic yourself.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q 'rosbags==0.11.9' 'rosbags-image==0.10.4' 'numpy==2.4.6' \
    'opencv-python-headless==5.0.0.93'
cd "$tmp"
"$tmp/venv/bin/python" - <<'PY'
import cv2
import numpy as np
from rosbags.image import message_to_cvimage
from rosbags.typesys import Stores, get_typestore

depth_mm = np.array([[0, 200, 1000], [1500, 5000, 65535]], np.uint16)
types = get_typestore(Stores.ROS2_HUMBLE).types
header = types["std_msgs/msg/Header"](stamp=types["builtin_interfaces/msg/Time"](sec=0, nanosec=0), frame_id="camera")
raw = types["sensor_msgs/msg/Image"](
    header=header, height=2, width=3, encoding="16UC1", is_bigendian=0, step=6, data=depth_mm.view(np.uint8).ravel()
)
png = cv2.imencode(".png", depth_mm)[1].ravel()
compressed = types["sensor_msgs/msg/CompressedImage"](header=header, format="16UC1; png compressed ", data=png)

from_raw, from_png = message_to_cvimage(raw), message_to_cvimage(compressed)
from_opencv = cv2.imdecode(png, cv2.IMREAD_UNCHANGED)
print("sent, mm:         ", depth_mm.tolist())
print("raw:              ", from_raw.dtype, from_raw.tolist())
print("16-bit PNG:       ", from_png.dtype, from_png.tolist())
print("the PNG by OpenCV:", from_opencv.dtype, from_opencv.tolist())
assert from_raw.dtype == np.uint16 and (from_raw == depth_mm).all() and (from_opencv == depth_mm).all()
assert from_png.dtype == np.uint8 and from_png.tolist() == [[0, 0, 3], [5, 19, 255]], "mended, or broken otherwise"
PY
