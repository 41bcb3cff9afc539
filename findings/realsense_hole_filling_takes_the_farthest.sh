#!/usr/bin/env bash
# Guess:     RealSense's hole filling filter puts into a hole what is around it, or, as befits a robot, the nearest of
#            that: a gap in the depth of an obstacle is closed with the obstacle.
# Behaviour: as it comes (mode 1) it takes the *farthest* of the neighbours, and what was filled fills what is beside it.
#            A strip that is not measured from top to bottom of a thing at 1 m (a gloss, a cable, a dark edge) comes out at
#            the 3 m of the wall behind: an opening where there is none. Modes 0 (left) and 2 (nearest) close it; behind
#            the thing, where the sensor sees nothing (its shadow), these make it wider in turn.
# Versions:  pyrealsense2 2.59.1.11053 (no camera needed: software_device), numpy 2.4.6, libusb-package 1.0.30.0
# Source:    https://dev.intelrealsense.com/docs/post-processing-filters (holes filling filter: farest_from_around)
# Matters:   the depth in the middle of a box, and a scan made of the image, then say that the way is free for two metres
#            more. What is not measured is better left out.
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

WIDTH_PX, HEIGHT_PX, BACKGROUND_MM = 64, 48, 3000
THING = slice(16, 32), slice(24, 40)


def filtered(used, depths_mm):
    """What a filter makes of depth images that a camera of 30 Hz sends."""
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
    seen = []
    for number, depth_mm in enumerate(depths_mm):
        frame = rs.software_video_frame()
        frame.pixels, frame.stride, frame.bpp = depth_mm, 2 * WIDTH_PX, 2
        frame.frame_number, frame.timestamp, frame.depth_units = number + 1, 1000 / 30 * number, 0.001
        frame.domain, frame.profile = rs.timestamp_domain.system_time, profile.as_video_stream_profile()
        sensor.on_video_frame(frame)
        image = used.process(queue.wait_for_frame(5000)).as_depth_frame()
        seen.append(np.asanyarray(image.get_data()).copy())
    return seen


def scene(thing_mm):
    """A thing before a wall; 0: not measured."""
    depth_mm = np.full((HEIGHT_PX, WIDTH_PX), BACKGROUND_MM, np.uint16)
    depth_mm[THING] = thing_mm
    return depth_mm


gap = scene(1000)
gap[THING[0], 30:34] = 0
shadow = scene(1000)
shadow[THING[0], 40:46] = 0
rows = {}
for mode in (None, 0, 1, 2):
    used = rs.hole_filling_filter() if mode is None else rs.hole_filling_filter(mode)
    in_gap, in_shadow = (filtered(used, [image])[0][24] for image in (gap, shadow))
    rows[mode] = set(in_gap[30:34].tolist()), set(in_shadow[40:46].tolist())
    print(f"mode {'as it comes' if mode is None else mode}: in the gap of a thing at 1000 mm {sorted(rows[mode][0])} mm,"
          f" in its shadow before a wall at 3000 mm {sorted(rows[mode][1])} mm")
assert rows[None] == rows[1] == ({3000}, {3000}), "the farthest is not what it takes any more"
assert rows[0] == rows[2] == ({1000}, {1000})
PY
