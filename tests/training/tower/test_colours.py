"""The colour reader is learned from labelled colours; a folder without any is refused."""

import json

import pytest
import torch
from safetensors.torch import load_file

from proxqa_core.language.referring import TERMS
from proxqa_core.vision.colours import ColourReader
from proxqa_training.tower.colours import main, read_things, share_right


def name_colours(folder):
    path = folder / "annotations.json"
    records = json.loads(path.read_text())
    for record in records:
        for thing in record["objects"]:
            thing["colour"] = thing["name"].split()[0]
    path.write_text(json.dumps(records))


def test_it_learns_the_colours_it_is_shown(blocks, tmp_path, capsys):
    name_colours(blocks)
    file = tmp_path / "new" / "colours.safetensors"
    assert main(["--data", str(blocks), "--validate", str(blocks), "--out", str(file)]) == 0
    assert "100.0% of 8 things not trained on told right" in capsys.readouterr().out
    network = ColourReader()
    network.load_state_dict(load_file(file))
    things = read_things([blocks])
    assert share_right(network, things) == 1.0
    assert [TERMS[t] for t in things.terms] == ["red", "blue"] * 4
    assert torch.zeros(8).index_add(0, things.of, things.share).tolist() == pytest.approx([1.0] * 8)


def test_a_folder_without_colours_is_one_line(blocks, tmp_path, capsys):
    assert main(["--data", str(blocks), "--out", str(tmp_path / "colours.safetensors")]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("training:")]
    assert "no objects with a colour and a mask" in line and not (tmp_path / "colours.safetensors").exists()
