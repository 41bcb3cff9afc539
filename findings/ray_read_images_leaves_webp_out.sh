#!/usr/bin/env bash
# Guess:     ray.data.read_images(paths) reads the images in the list, or raises on one that it cannot read.
# Behaviour: a .webp is left out, from a folder and from an explicit list alike, with no warning and no error,
#            though Pillow decodes it and file_extensions=None reads it. Rows are fewer than paths.
# Versions:  ray 2.60.0, pillow 13.0.0
# Source:    ray/data/_internal/datasource/image_datasource.py, _FILE_EXTENSIONS (png, jpg, jpeg, tif, tiff, bmp,
#            gif), the default of read_images(file_extensions=...); file_based_datasource.py filters and raises only
#            when *none* is left
# Matters:   batch inference over photos from the web loses a part of them, and an average over "all images" is one
#            over the rest. Predictions zipped with the list of paths are shifted from the first .webp on.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q 'ray[data]==2.60.0' 'pillow==13.0.0'
cd "$tmp"
export RAY_USAGE_STATS_ENABLED=0 RAY_TMPDIR="$tmp"
"$tmp/venv/bin/python" - "$tmp" 2>log <<'PY' || { cat log; exit 1; }
import os
import sys

import ray
from PIL import Image

folder = os.path.join(sys.argv[1], "photos")
os.mkdir(folder)
for name in ("a.png", "b.jpg", "c.webp", "d.bmp"):
    Image.new("RGB", (8, 8), "red").save(os.path.join(folder, name))
ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
ray.data.DataContext.get_current().enable_progress_bars = False


def read(paths, **options):
    rows = ray.data.read_images(paths, include_paths=True, **options).take_all()
    return sorted(os.path.basename(row["path"]) for row in rows)


of_folder = read(folder)
of_list = read([os.path.join(folder, name) for name in ("a.png", "c.webp")])
of_all = read(folder, file_extensions=None)
print("on disk:                      ", sorted(os.listdir(folder)))
print("of the folder:                ", of_folder)
print("of the list [a.png, c.webp]:  ", of_list)
print("with file_extensions=None:    ", of_all)
assert of_folder == ["a.png", "b.jpg", "d.bmp"] and of_list == ["a.png"]
assert of_all == ["a.png", "b.jpg", "c.webp", "d.bmp"]
PY
! grep -i webp log
