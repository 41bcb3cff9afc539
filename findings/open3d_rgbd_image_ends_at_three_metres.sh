#!/usr/bin/env bash
# Guess:     Open3D makes the same point cloud of a depth image, with colours or without.
# Behaviour: RGBDImage.create_from_color_and_depth drops all beyond depth_trunc, 3 m by default, and turns colours
#            to grey (convert_rgb_to_intensity=True). PointCloud.create_from_depth_image keeps 1000 m. A wall at 4 m
#            is in the one cloud and not in the other; the dropped pixels are 0, as if the sensor had failed there.
# Versions:  open3d 0.20.0, numpy 2.4.6, libusb-package 1.0.30.0
# Source:    Open3D's docs of the two functions (depth_trunc=3.0, depth_trunc=1000.0);
#            https://github.com/isl-org/Open3D/issues/1420, https://github.com/luxonis/oak-examples/pull/413
# Matters:   ground truth of distances made through an RGB-D image ends at 3 m: far objects have "no depth", and an
#            evaluation of near against far leaves out the far half.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q 'open3d==0.20.0' 'numpy==2.4.6' 'libusb-package==1.0.30.0'
cd "$tmp"
mkdir lib
ln -s "$tmp"/venv/lib/python3*/site-packages/libusb_package/libusb-1.0.so lib/libusb-1.0.so.0
LD_LIBRARY_PATH="$tmp/lib" "$tmp/venv/bin/python" - <<'PY'
import numpy as np
import open3d as o3d

WIDTH_PX, HEIGHT_PX = 64, 48
depth_mm = np.full((HEIGHT_PX, WIDTH_PX), 1000, np.uint16)
depth_mm[:, WIDTH_PX // 2 :] = 4000
red = np.zeros((HEIGHT_PX, WIDTH_PX, 3), np.uint8)
red[..., 0] = 255
depth, colour = o3d.geometry.Image(depth_mm), o3d.geometry.Image(red)
camera = o3d.camera.PinholeCameraIntrinsic(WIDTH_PX, HEIGHT_PX, 50, 50, WIDTH_PX / 2, HEIGHT_PX / 2)


def with_colours(**options):
    image = o3d.geometry.RGBDImage.create_from_color_and_depth(colour, depth, **options)
    return image, o3d.geometry.PointCloud.create_from_rgbd_image(image, camera)


def distances_m(cloud):
    return sorted(set(np.asarray(cloud.points)[:, 2].round(3).tolist()))


image, by_default = with_colours()
_, as_guessed = with_colours(depth_trunc=1000.0, convert_rgb_to_intensity=False)
plain = o3d.geometry.PointCloud.create_from_depth_image(depth, camera)
print("depth alone:             ", len(plain.points), "points at", distances_m(plain), "m")
print("with colours:            ", len(by_default.points), "points at", distances_m(by_default), "m")
kept_m = np.unique(np.asarray(image.depth)).tolist()
print("  its depth image holds  ", kept_m, "m; its colours are", np.asarray(image.color).shape)
print("with both options named: ", len(as_guessed.points), "points at", distances_m(as_guessed), "m")
assert distances_m(plain) == distances_m(as_guessed) == [1.0, 4.0]
assert distances_m(by_default) == [1.0] and np.asarray(image.color).ndim == 2
PY
