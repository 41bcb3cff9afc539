"""The colour reader is learned from labelled colours; a folder without any is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from proxqa_core.language.referring import TERMS
from proxqa_core.vision.colours import ColourReader
from proxqa_training.tower.colours import accuracy, read_dataset

Train = Callable[..., tuple[int, str, str]]


def name_colours(folder: Path) -> None:
    path = folder / "annotations.json"
    records = json.loads(path.read_text())
    for record in records:
        for thing in record["objects"]:
            thing["colour"] = thing["name"].split()[0]
    path.write_text(json.dumps(records))


def test_it_learns_the_colours_it_is_shown(blocks: Path, tmp_path: Path, train: Train) -> None:
    name_colours(blocks)
    file, report = tmp_path / "new" / "colours.safetensors", tmp_path / "report.json"
    later = shutil.copytree(blocks, tmp_path / "later")
    code, output, _ = train("colours", "--data", blocks, "--validate", later, "--out", file, "--json", report)
    assert code == 0 and "100.0% of 8 objects not trained on classified right" in output
    assert json.loads(report.read_text())["validation"] == {"objects": 8, "accuracy": 1.0}
    network = ColourReader()
    network.load_state_dict(load_file(file))
    data = read_dataset([blocks])
    assert accuracy(network, data) == 1.0
    code, _, error = train("colours", "--data", blocks, "--validate", blocks, "--out", file)
    assert code == 2 and "4 of its 4 images are trained on too" in error
    assert [TERMS[t] for t in data.terms] == ["red", "blue"] * 4
    assert torch.zeros(8).index_add(0, data.object_index, data.share).tolist() == pytest.approx([1.0] * 8)


def test_a_folder_without_colours_is_one_line(blocks: Path, tmp_path: Path, train: Train) -> None:
    code, _, error = train("colours", "--data", blocks, "--out", tmp_path / "colours.safetensors")
    assert code == 2
    (line,) = [line for line in error.splitlines() if line.startswith("proxqa: ")]
    assert "no objects with a colour and a mask" in line and not (tmp_path / "colours.safetensors").exists()


def test_what_no_mask_shows_is_neither_learned_nor_judged(blocks: Path, tmp_path: Path, train: Train) -> None:
    name_colours(blocks)
    records = json.loads((blocks / "annotations.json").read_text())
    records[0]["objects"][0]["mask_id"] = 77
    (blocks / "annotations.json").write_text(json.dumps(records))
    assert len(read_dataset([blocks]).terms) == 7

    # nothing to validate on is told before anything is written
    hidden, file = shutil.copytree(blocks, tmp_path / "hidden"), tmp_path / "colours.safetensors"
    for record in records:
        for thing in record["objects"]:
            thing["mask_id"] = 77
    (hidden / "annotations.json").write_text(json.dumps(records))
    file.write_bytes(b"the one before")
    code, _, error = train("colours", "--data", blocks, "--validate", hidden, "--out", file)
    assert code == 2 and f"{hidden}: no objects with a colour and a mask" in error
    assert file.read_bytes() == b"the one before"
