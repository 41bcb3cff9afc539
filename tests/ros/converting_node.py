"""The real node with the real model, whose base weights are "converted" by copying those converted before. A program.

The real conversion reads for 8 s and then writes. The writing is the same here: the same library writes the same bytes
into the same folder, which is then verified and moved by the code that is being tested.

CONVERTED: folder of the base that was converted before. FILE_LIMIT: most bytes in a file (default: no limit), which a
test lifts again from outside. PAUSE: seconds between two pieces of 16 MB (default: the library's own writing, at once).
"""

from __future__ import annotations

import os
import resource
import shutil
import sys
import time
from pathlib import Path

from safetensors.torch import load_file, save_file

from proxqa_core.model import base_weights
from proxqa_ros.proximity import node

PAUSE = float(os.environ.get("PAUSE", "0"))
PIECE = 16 * 2**20


def write_slowly(source: Path, target: Path) -> None:
    with source.open("rb") as read, target.open("wb", buffering=0) as write:
        while piece := read.read(PIECE):
            write.write(piece)
            time.sleep(PAUSE)


def convert(language: Path, vision: Path, out: Path) -> None:
    for file in sorted(Path(os.environ["CONVERTED"]).iterdir()):
        if file.suffix == ".safetensors" and PAUSE:
            write_slowly(file, out / file.name)
        elif file.suffix == ".safetensors":
            save_file(load_file(file), out / file.name, metadata={"format": "pt"})
        elif file.name != base_weights.MANIFEST:
            shutil.copyfile(file, out / file.name)


if __name__ == "__main__":
    node.DIAGNOSTICS_PERIOD_S = 0.1
    base_weights._convert = convert
    if limit := os.environ.get("FILE_LIMIT"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
    sys.exit(node.main())
