#!/usr/bin/env bash
# Guess:     handing sensor_msgs/Image.data the numpy array is quickest, and bytes are the slow way (so say the
#            issues below, from Dashing on: bytes were checked element by element).
# Behaviour: now the other way round. `msg.data = frame.tobytes()` is a copy; `msg.data = frame.ravel()` walks
#            through the array element by element, some hundred times slower: 70 ms and more for one VGA image.
# Versions:  ros-sensor-msgs 5.5.1 (Kilted), ros-rclpy 9.1.2, numpy 2.4.6
# Source:    https://github.com/ros2/rosidl_python/issues/156 (bytes slow, still open), /issues/79;
#            sensor_msgs/msg/_image.py, the setter of data: array.array('B', value)
# Matters:   a Python camera node that publishes 1080p this way spends half a second per image, and the camera seems
#            to drop frames. CompressedImage and PointCloud2 have the same setter.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q 'ros-kilted-rclpy[fastrtps]==9.1.2' 'ros-rclpy==9.1.2' \
    'ros-sensor-msgs==5.5.1' 'numpy==2.4.6'
cd "$tmp"
unset AMENT_PREFIX_PATH PYTHONPATH _ROS_WHEELS_BOOTSTRAP_COMPLETE
cat >assign.py <<'PY'
import array
import time

import numpy as np
from sensor_msgs.msg import Image

frame = np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8)


def milliseconds(value_of):
    best, message = float("inf"), Image()
    for _ in range(5):
        begin = time.perf_counter()
        message.data = value_of()
        best = min(best, (time.perf_counter() - begin) * 1e3)
    assert message.data.tobytes() == frame.tobytes()
    return best


took = {
    "frame.ravel()": milliseconds(frame.ravel),
    "frame.tobytes()": milliseconds(frame.tobytes),
    "array.array('B', frame.tobytes())": milliseconds(lambda: array.array("B", frame.tobytes())),
}
for how, ms in took.items():
    print(f"msg.data = {how}: {ms:.2f} ms for 640x480 RGB")
assert took["frame.ravel()"] > 10 * took["frame.tobytes()"], "numpy arrays are quick now"
PY
"$tmp/venv/bin/python" assign.py
