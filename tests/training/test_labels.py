"""What may be judged on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from proxqa_core.datasets.folder import BadDatasetError, LabelledFolder
from proxqa_training.labels import require_apart


def test_nothing_is_judged_on_what_it_was_trained_on(blocks: Path, photographs: Path, tmp_path: Path) -> None:
    require_apart([blocks], [])
    require_apart([blocks], [photographs])
    other = tmp_path / "other"  # another folder with the last of the same images
    other.mkdir()
    (other / "images").symlink_to(blocks / "images")
    last = LabelledFolder(blocks).raw[-1:]
    (other / "annotations.json").write_text(json.dumps([r | {"depth_map": None, "mask_map": None} for r in last]))
    with pytest.raises(BadDatasetError, match=r"other: 1 of its 1 images are trained on too, such as .*3.png;"):
        require_apart([photographs, blocks], [other])
    require_apart([LabelledFolder(blocks).subset([0, 1, 2])], [other])  # it is held out there
