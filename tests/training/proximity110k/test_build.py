"""Building conversations from images, boxes and depth: true, deterministic, resumable, the same whoever labels."""

from __future__ import annotations

import functools
import json
import multiprocessing
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from proxqa_core.datasets.coco import CocoInstances
from proxqa_core.datasets.depth_source import DepthMaps, DepthUnit, read_map, to_disparity
from proxqa_core.datasets.folder import LabelledObject, Record
from proxqa_core.datasets.llava import read_conversations
from proxqa_core.datasets.reading import ReadReport
from proxqa_core.errors import BadImageError, ProxqaError
from proxqa_core.types import Box
from proxqa_training.proximity110k.build import (
    SHARDS,
    BadBuildError,
    BuildConfig,
    build,
    split_of,
)
from proxqa_training.proximity110k.labelling import LabellingConfig
from proxqa_training.proximity110k.mixture import Mixture
from proxqa_training.proximity110k.page import render

SIZE = (96, 64)


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """Twelve images whose left third is near, middle third farther, right third far; one is damaged, two are alike."""
    rng = np.random.default_rng(0)
    for name in ("images", "depth"):
        (tmp_path / name).mkdir()
    for i in range(12):
        image = rng.integers(0, 255, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
        Image.fromarray(image).save(tmp_path / f"images/{i:02}.png")
        metres = np.repeat([1.0 + 0.1 * i, 2.5, 6.0], SIZE[0] // 3)[None].repeat(SIZE[1], 0)
        np.save(tmp_path / f"depth/{i:02}.npy", metres)
    (tmp_path / "images/03.png").write_bytes(b"no image")
    (tmp_path / "images/05.png").write_bytes((tmp_path / "images/04.png").read_bytes())
    (tmp_path / "depth/06.npy").unlink()
    return tmp_path


def records(folder: Path, count: int = 12) -> Iterator[Record]:
    boxes = [("cup", Box(2, 10, 30, 60)), ("dog", Box(34, 5, 62, 50)), ("tree", Box(66, 2, 94, 62))]
    things = tuple(LabelledObject(n, b, ref=n) for n, b in boxes)
    for i in range(count):
        yield Record(folder / "images", f"{i:02}.png", *SIZE, things, source="made")


def make_depth(folder: Path) -> functools.partial[DepthMaps]:
    return functools.partial(DepthMaps, folder / "depth", DepthUnit.METRES)


def built(folder: Path, out: Path, **options: Any) -> Any:
    config = BuildConfig(**{"shard_size": 5, "val_fraction": 0.3, **options})
    return build(records(folder), make_depth(folder), out, LabellingConfig(seed=3, absent_names=("boat",)), config)


def files_of(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in ("train.json", "val.json", "report.json")}


def test_conversations_are_true_of_the_depth(scenes: Path, tmp_path: Path) -> None:
    report = built(scenes, tmp_path / "out")
    assert sum(report.images.values()) == 9 and report.left_out.counts["the same image again"] == 1
    assert report.left_out.counts["no depth map"] == 1 and sum(report.left_out.counts.values()) == 3
    assert 7 <= report.as_dict()["questions_per_image"] <= 11
    near = {"cup": 0, "dog": 1, "tree": 2}
    samples = [s for split in ("train", "val") for s in json.loads((tmp_path / f"out/{split}.json").read_text())]
    checked = 0
    for sample in samples:
        turns = sample["conversations"]
        for question, answer in zip(turns[::2], turns[1::2], strict=True):
            names = [n for n in re.findall(r"cup|dog|tree", question["value"])]
            if " closer" in question["value"].lower() and len(names) == 2 and answer["value"].endswith((" A", " B")):
                a, b = names
                assert (near[a] < near[b]) == answer["value"].endswith("A"), (question, answer)
                checked += 1
            if names == ["cup"] and re.fullmatch(r"0\.\d\d", answer["value"]):
                assert float(answer["value"]) < 0.1
                checked += 1
    assert checked > 10
    # the readers of the project read what was written
    for split in ("train", "val"):
        assert len(list(read_conversations(tmp_path / f"out/{split}.json"))) == sum(
            split_matches(s, split, samples, tmp_path) for s in samples
        )


def split_matches(sample: Any, split: str, samples: Any, tmp_path: Path) -> bool:
    return sample in json.loads((tmp_path / f"out/{split}.json").read_text())


def test_the_same_seed_gives_the_same_bytes_and_an_image_is_on_one_side(scenes: Path, tmp_path: Path) -> None:
    built(scenes, tmp_path / "a")
    built(scenes, tmp_path / "b", shard_size=2)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")
    images = [{s["image"] for s in json.loads((tmp_path / f"a/{x}.json").read_text())} for x in ("train", "val")]
    assert images[0] and images[1] and not images[0] & images[1]
    assert split_of("ffffffff", 0.5) == "train" and split_of("00000000", 0.5) == "val" == split_of("", 0.1)


def test_a_build_goes_on_where_it_was(scenes: Path, tmp_path: Path) -> None:
    built(scenes, tmp_path / "whole")
    built(scenes, tmp_path / "cut")
    shards = sorted((tmp_path / "cut" / SHARDS).iterdir())
    shards[1].unlink()
    (tmp_path / "cut/train.json").unlink()
    (shards[1].parent / ".000001.jsonl.part").write_text("torn")
    before = shards[0].stat().st_mtime_ns
    built(scenes, tmp_path / "cut")
    assert files_of(tmp_path / "whole") == files_of(tmp_path / "cut") and shards[0].stat().st_mtime_ns == before
    with pytest.raises(BadBuildError, match="another recipe"):
        built(scenes, tmp_path / "cut", shard_size=4)


def test_two_processes_give_the_same_bytes(scenes: Path, tmp_path: Path) -> None:
    built(scenes, tmp_path / "one")
    built(scenes, tmp_path / "two", workers=2, shard_size=2)
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")


KILLED = """
import sys, time
from pathlib import Path
from proxqa_training.proximity110k import build as b
from tests.training.proximity110k.test_build import built
whole = b.write_text
b.write_text = lambda path, *more, **how: (whole(path, *more, **how), print(path.name, flush=True), time.sleep(0.3))
built(Path(sys.argv[1]), Path(sys.argv[2]), shard_size=2)
"""


def test_a_kill_loses_nothing(scenes: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    built(scenes, tmp_path / "whole", shard_size=2)
    root = request.config.rootpath
    for shards_until in (2, 3):
        command = [sys.executable, "-c", KILLED, str(scenes), str(tmp_path / "cut")]
        env = {"PYTHONPATH": f"{root}:{root / 'training'}", "PATH": "/usr/bin:/bin"}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root, env=env) as process:
            assert process.stdout is not None
            for _ in range(shards_until):  # the first line is of the recipe
                process.stdout.readline()
            process.send_signal(signal.SIGKILL)
    assert 0 < len(list((tmp_path / "cut" / SHARDS).glob("*.jsonl"))) < 6
    built(scenes, tmp_path / "cut", shard_size=2)
    assert files_of(tmp_path / "whole") == files_of(tmp_path / "cut")


def test_mixing_keeps_the_share_and_counts_what_is_bad(scenes: Path, tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]
    other = [{"id": i, "conversations": turns} for i in range(100)] + [{"id": 3}]
    (tmp_path / "mix.json").write_text(json.dumps(other))
    report = built(scenes, tmp_path / "out", mix=tmp_path / "mix.json", mix_share=0.25, val_fraction=0.0)
    samples = json.loads((tmp_path / "out/train.json").read_text())
    mixed = [i for i, s in enumerate(samples) if s["stage"] == "mixed"]
    assert len(mixed) == report.mixed_in and abs(len(mixed) / len(samples) - 0.25) < 0.05
    assert max(np.diff([-1, *mixed])) < 10  # spread, not at the end


def test_configurations_that_cannot_be_are_one_line() -> None:
    mixes: list[dict[str, Any]] = [{"mix": Path("x"), "mix_share": 1.0}, {"mix": Path("x")}]
    for options in ({"shard_size": 0}, {"workers": 0}, {"val_fraction": 1.0}, *mixes):
        with pytest.raises(ProxqaError, match="expected"):
            BuildConfig(**options)


@pytest.mark.parametrize("mode", ["L", "P"])
def test_eight_bits_are_never_millimetres(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (8, 8), 40).save(tmp_path / "a.png")
    with pytest.raises(BadImageError, match=r"palette|16 bits"):
        to_disparity(read_map(tmp_path / "a.png"), DepthUnit.MILLIMETRES, tmp_path / "a.png")


def test_what_a_maps_numbers_mean(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 500], [2000, 65535]], np.uint16)).save(tmp_path / "a.png")
    np.testing.assert_allclose(
        to_disparity(read_map(tmp_path / "a.png"), DepthUnit.MILLIMETRES, tmp_path), [[np.nan, 2.0], [0.5, 0.0]]
    )
    metres = np.array([[0.0, 2.0], [np.nan, np.inf]], np.float32)
    np.testing.assert_allclose(to_disparity(metres, DepthUnit.METRES, tmp_path), [[np.nan, 0.5], [np.nan, 0.0]])
    grey = np.array([[0, 200]], np.uint8)
    np.testing.assert_allclose(to_disparity(grey, DepthUnit.DISPARITY, tmp_path), [[0.0, 200.0]])
    with pytest.raises(BadImageError, match="floating-point"):
        to_disparity(grey, DepthUnit.METRES, tmp_path)


def test_the_page_escapes_what_it_shows(scenes: Path, tmp_path: Path) -> None:
    built(scenes, tmp_path / "out")
    file = tmp_path / "out/report.json"
    file.write_text(file.read_text().replace('"perceive"', '"<script>"'))
    page = render(tmp_path / "out", scenes / "images", 4)
    assert page.count("<article>") == 4 and page.count("data:image/jpeg") == 4 and "<script>" not in page
    file.unlink()
    with pytest.raises(BadBuildError, match=r"no report\.json of a finished build"):
        render(tmp_path / "out", scenes / "images")


def a_large_coco(path: Path, count: int) -> None:
    with path.open("w") as file:
        file.write('{"categories": [{"id": 1, "name": "cup"}], "images": [')
        for i in range(count):
            row = f'{{"id": {i}, "file_name": "{i:012}.jpg", "width": 96, "height": 64, "coco_url": "x{i}"}}'
            file.write((",\n" if i else "") + row)
        file.write('], "annotations": [')
        polygon = ", ".join(str(float(v)) for v in range(40))
        for i in range(8 * count):
            box = f'{{"id": {i}, "image_id": {i // 8}, "category_id": 1, "bbox": [1.5, 2, 30, 40], "iscrowd": 0'
            file.write((",\n" if i else "") + f'{box}, "segmentation": [[{polygon}]], "area": 1200.0}}')
        file.write("]}")


def _read_all(path: Path, result: Any) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    count = sum(len(r.objects) for r in CocoInstances(path, path.parent))
    result.put((count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))


@pytest.mark.slow
def test_memory_does_not_grow_with_the_annotations_text(tmp_path: Path) -> None:
    """A COCO file of 24 MB: reading it adds less than half of that; its text alone would be all of it."""
    a_large_coco(tmp_path / "a.json", 8_000)
    size_mb = (tmp_path / "a.json").stat().st_size / 1e6
    context = multiprocessing.get_context("spawn")
    result = context.Queue()
    process = context.Process(target=_read_all, args=(tmp_path / "a.json", result))
    process.start()
    count, grown_kb = result.get(timeout=300)
    process.join()
    assert count == 64_000 and grown_kb / 1e3 < size_mb / 2, (grown_kb, size_mb)


@pytest.mark.slow
def test_the_memory_of_a_build_is_bounded(request: pytest.FixtureRequest) -> None:
    """6,000 records of 5 kB; 100,000 take the same command without --present (docs/scale.md has the figure)."""
    script = request.config.rootpath / "scripts/build_scale.py"
    command = [sys.executable, str(script), "memory", "--records", "6000", "--present", "100", "--workers", "1"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=280, cwd=request.config.rootpath)
    assert run.returncode == 0, run.stderr
    report = json.loads(run.stdout)
    assert report["json_mb"] > 24 and report["peak_mb"] < 150, report  # as Python objects: 150 MB more
    assert sum(report["images"].values()) == 100


@settings(max_examples=40, deadline=None)
@given(
    there=st.integers(1, 60), base=st.integers(1, 80), share=st.floats(0.01, 0.99, exclude_min=True, exclude_max=True)
)
def test_a_mixture_is_even_for_any_counts(
    there: int, base: int, share: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / f"mix-{there}.json"
    if not path.exists():
        turns = [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]
        path.write_text(json.dumps([{"id": i, "conversations": turns} for i in range(there)]))
    mixture = Mixture(path, share, base, ReadReport())
    given_after = [[int(s["id"]) for s in mixture.after(i)] for i in range(base)]
    ids = [i for group in given_after for i in group]
    assert len(ids) == mixture.used == min(there, round(base * share / (1 - share)))
    assert ids == sorted(set(ids))
    counts = [len(group) for group in given_after]
    assert max(counts) - min(counts) <= 1  # in the result
    gaps = np.diff([-1, *ids])
    assert not ids or max(gaps) - min(gaps) <= 1 + there % len(ids)  # in the other file
