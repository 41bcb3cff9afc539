#!/usr/bin/env bash
# Guess:     RealSense's decimation filter takes the median of each block ("downsampling by using the median with
#            specific kernel size", says its header), so every depth that comes out was measured somewhere.
# Behaviour: magnitudes 2 and 3 do. From 4 on it is the mean of the block's valid pixels: at the edge between 1 m
#            and 3 m it reports 1.5 m, where there is nothing. Magnitude 3 pads a 64-pixel row with invalid columns
#            on the right.
# Versions:  pyrealsense2 2.59.1.11053 (no camera needed: software_device), numpy 2.4.6, libusb-package 1.0.30.0
# Source:    https://dev.intelrealsense.com/docs/post-processing-filters ("For larger kernels, 4-8 pixels, the mean
#            depth is used due to performance considerations"), against include/librealsense2/hpp/rs_processing.hpp
#            (quoted above)
# Matters:   turning the magnitude up from 3 to 4 to save time puts phantom points around every object: a nearest
#            distance inside a box that touches an edge is then an invention.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q 'pyrealsense2==2.59.1.11053' 'numpy==2.4.6' 'libusb-package==1.0.30.0'
cd "$tmp"
mkdir lib
ln -s "$tmp"/venv/lib/python3*/site-packages/libusb_package/libusb-1.0.so lib/libusb-1.0.so.0
LD_LIBRARY_PATH="$tmp/lib" "$tmp/venv/bin/python" - <<'PY'
import numpy as np
import pyrealsense2 as rs

WIDTH_PX, HEIGHT_PX, EDGE_PX = 64, 48, 31
depth_mm = np.full((HEIGHT_PX, WIDTH_PX), 1000, np.uint16)
depth_mm[:, EDGE_PX:] = 3000


def decimate(magnitude):
    stream = rs.video_stream()
    stream.type, stream.fmt, stream.fps, stream.bpp = rs.stream.depth, rs.format.z16, 30, 2
    stream.width, stream.height = WIDTH_PX, HEIGHT_PX
    intrinsics = rs.intrinsics()
    intrinsics.width, intrinsics.height, intrinsics.model = WIDTH_PX, HEIGHT_PX, rs.distortion.none
    intrinsics.fx = intrinsics.fy = 50
    intrinsics.ppx, intrinsics.ppy, intrinsics.coeffs = WIDTH_PX / 2, HEIGHT_PX / 2, [0] * 5
    stream.intrinsics = intrinsics
    device = rs.software_device()
    sensor = device.add_sensor("Depth")
    profile = sensor.add_video_stream(stream)
    queue = rs.frame_queue(1)
    sensor.open(profile)
    sensor.start(queue)
    frame = rs.software_video_frame()
    frame.pixels, frame.stride, frame.bpp = depth_mm, 2 * WIDTH_PX, 2
    frame.frame_number, frame.timestamp, frame.depth_units = 1, 1.0, 0.001
    frame.domain, frame.profile = rs.timestamp_domain.system_time, profile.as_video_stream_profile()
    sensor.on_video_frame(frame)
    filtered = rs.decimation_filter(magnitude).process(queue.wait_for_frame(5000))
    return np.asanyarray(filtered.as_depth_frame().get_data()).copy()


seen = {magnitude: sorted(set(decimate(magnitude).ravel().tolist())) for magnitude in (2, 3, 4, 8)}
for magnitude, values in seen.items():
    print(f"magnitude {magnitude}: depths out {values} mm of depths in [1000, 3000] mm (0: invalid)")
assert set(seen[2]) <= {1000, 3000} and set(seen[3]) <= {0, 1000, 3000}, "not the median any more"
assert 1500 in seen[4] and 1250 in seen[8], "not the mean any more"
PY
