#!/usr/bin/env bash
# Guess:     RealSense's temporal filter is an exponential mean: it lags, evenly, so the speed of what approaches is right
#            if late; and a pixel that is not measured any more comes out as not measured.
# Behaviour: as it comes (alpha 0.4, delta 20), a change of more than 20 counts since the last *filtered* depth is taken
#            over whole, a smaller one smoothed. What approaches by 15 mm an image lags in one image and has caught up in
#            the next: steps of 6 and 24 mm in turns, a speed that is wrong by a factor of 0.4 or 1.6 in every image; at
#            25 mm an image nothing is filtered. And ("holes fill" 3) what is not measured any more comes out at its old depth
#            for three images, with nothing to tell it from a measurement.
# Versions:  pyrealsense2 2.59.1.11053 (no camera needed: software_device), numpy 2.4.6, libusb-package 1.0.30.0
# Source:    https://dev.intelrealsense.com/docs/post-processing-filters (temporal filter: delta, persistency index)
# Matters:   a speed limit or a time to collision from the difference of two images jumps; depth that is a tenth of a
#            second old carries the stamp of now. Measure speed over several images, or leave the filter out.
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


def at_the_thing(images):
    return [int(image[24, 32]) for image in images]


def steps(values):
    return [before - after for before, after in zip(values, values[1:])]


slow = at_the_thing(filtered(rs.temporal_filter(), [scene(1000 - 15 * n) for n in range(12)]))
fast = at_the_thing(filtered(rs.temporal_filter(), [scene(1000 - 25 * n) for n in range(12)]))
gone = at_the_thing(filtered(rs.temporal_filter(), [scene(1000)] * 8 + [scene(0)] * 8))
print("approaching by 15 mm an image, steps that come out:", steps(slow), "mm")
print("approaching by 25 mm an image, steps that come out:", steps(fast), "mm")
print("not measured after 8 images, depths that come out after them:", gone[8:], "mm")
assert {6, 24} <= set(steps(slow)), "steady motion stays steady"
assert set(steps(fast)) == {25}
assert gone[8:11] == [1000] * 3 and gone[11] == 0, "what is not measured is not shown"
PY
