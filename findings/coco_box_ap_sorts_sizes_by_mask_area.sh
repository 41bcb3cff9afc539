#!/usr/bin/env bash
# Guess:     COCO's AP small/medium/large for boxes sorts objects by the area of their boxes.
# Behaviour: ground truth is sorted by its `area` field, which in COCO is the area of the *mask*; detections are
#            sorted by the area of their box. A 60x60 box (3600 > 32*32) around a thin object counts as small, and
#            the area field, not the box, decides.
# Versions:  pycocotools 2.0.11, numpy 2.4.6
# Source:    https://github.com/cocodataset/cocoapi/issues/36; pycocotools/cocoeval.py, evaluateImg (g['area'])
# Matters:   a data set exported with area = width * height gives other AP-small/-large than COCO's convention for
#            the same boxes and detections: size-wise results of two data sets, or two exporters, cannot be
#            compared.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q 'pycocotools==2.0.11' 'numpy==2.4.6'
cd "$tmp"
"$tmp/venv/bin/python" - <<'PY'
import contextlib
import io

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

BOX = [10, 10, 60, 60]  # x, y, width, height in pixels
MASK = [10, 10, 70, 70, 66, 70, 10, 14]  # a thin diagonal bar that fills the box from corner to corner


def ap_by_size(area):
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": 1, "width": 100, "height": 100}],
            "categories": [{"id": 1, "name": "pole"}],
            "annotations": [
                {
                    "id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0,
                    "bbox": BOX, "area": area, "segmentation": [MASK],
                }
            ],
        }
        truth.createIndex()
        detections = truth.loadRes([{"image_id": 1, "category_id": 1, "bbox": BOX, "score": 0.9}])
        evaluation = COCOeval(truth, detections, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(("small", "medium", "large"), evaluation.stats[3:6].tolist(), strict=True))


by_mask, by_box = ap_by_size(232), ap_by_size(60 * 60)
print("one perfect 60x60 detection; -1: no such object")
print("area of the mask (COCO's convention):", by_mask)
print("area of the box:", by_box)
assert by_mask["small"] > 0.99 and by_mask["medium"] == -1
assert by_box["small"] == -1 and by_box["medium"] > 0.99
PY
