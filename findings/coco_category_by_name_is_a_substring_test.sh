#!/usr/bin/env bash
# Guess:     COCO.getCatIds(catNms="hot dog") gives the category "hot dog", as catIds=58 gives category 58.
# Behaviour: it gives every category whose name is a part of the string: "dog" and "hot dog", in the order of the
#            file. So [0] is dog. A list of names works; a name that does not exist gives [] in both cases.
# Versions:  pycocotools 2.0.11
# Source:    https://github.com/cocodataset/cocoapi/issues/291 (open since 2019: "carrot" gives car);
#            pycocotools/coco.py, getCatIds: a str passes _isArrayLike, and `cat['name'] in catNms` is a substring
#            test.
# Matters:   the usual line coco.getCatIds(catNms=name)[0] trains and scores an object named in words on another
#            object's boxes. Three of COCO's 80 names are hit; open vocabularies (Visual Genome's "table",
#            "tablecloth") are full of such names.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q 'pycocotools==2.0.11'
cd "$tmp"
"$tmp/venv/bin/python" - <<'PY'
import contextlib
import io

from pycocotools.coco import COCO

NAMES = ["car", "cat", "dog", "bear", "skateboard", "carrot", "hot dog", "keyboard", "teddy bear"]  # in COCO's order
coco = COCO()  # no file: the data set is made here
coco.dataset = {
    "images": [],
    "annotations": [],
    "categories": [{"id": number, "name": name, "supercategory": "thing"} for number, name in enumerate(NAMES, 1)],
}
with contextlib.redirect_stdout(io.StringIO()):
    coco.createIndex()


def found(names):
    return [category["name"] for category in coco.loadCats(coco.getCatIds(catNms=names))]


for name in NAMES:
    if found(name) != [name]:
        print(f"catNms={name!r}: {found(name)}; catNms=[{name!r}]: {found([name])}")
assert found("hot dog") == ["dog", "hot dog"] and found("carrot") == ["car", "carrot"]
assert found("teddy bear") == ["bear", "teddy bear"] and found("keyboard") == ["keyboard"]
assert all(found([name]) == [name] for name in NAMES)
PY
