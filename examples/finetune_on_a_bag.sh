#!/usr/bin/env bash
# Fine-tune the bundled model on a bag of your robot, and see whether it helped. No ROS, no GPU needed.
#   examples/finetune_on_a_bag.sh BAG OUT [SAMPLES] [EVERY_SECONDS]
# BAG has images, aligned depth images and boxes (docs/your-own-data.md); demo/bag is one. OUT/adapter is the result:
#   proxqa ask photo.jpg "…" --adapter OUT/adapter
# SAMPLES is how many image conversations it learns from (default: 800, hours on a CPU and minutes on a GPU).
# It ends with order, depth error and calibration before and after, on the last fifth of the drive, which it has not
# learned from. A real check takes another drive: --validate FOLDER.
set -euo pipefail
bag=${1:?the bag}
out=${2:?where the data and the adapter go}
samples=${3:-800}
every=${4:-0.5}
proxqa=${PROXQA:-proxqa}

# 1. a labelled folder: images at least EVERY_SECONDS apart, their boxes, and true distances from the depth images
$proxqa record "$bag" --out "$out/data" --every-seconds "$every" --complete

# 2. the bundled adapter goes on learning from it, and both are judged on what was held out; a stopped run goes on when
# the command is given again
$proxqa train finetune "$out/data" --out "$out/adapter" --num-samples "$samples" --json "$out/report.json"
