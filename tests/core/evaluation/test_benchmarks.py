"""Benchmarks: conversions, the published file, exports, and asking an engine."""

from __future__ import annotations

import base64
import csv
import importlib.util
import io
import json
import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from proxqa_core.cli import evaluate as command
from proxqa_core.datasets.benchmarks import HowDeep, Item, WhichCloser, box_around
from proxqa_core.datasets.depth_source import DepthUnit
from proxqa_core.datasets.published import from_json, read_items, to_json, write_items
from proxqa_core.datasets.reading import ReadReport, usable_name
from proxqa_core.errors import BadImageError, ProxqaError
from proxqa_core.evaluation import lmms_task
from proxqa_core.evaluation.benchmarks import KINDS, BenchmarkSource, load_benchmark
from proxqa_core.evaluation.conversions import BadConversionError, ConversionConfig, overlap
from proxqa_core.evaluation.exports import MISSING, export, task_name
from proxqa_core.evaluation.item_runner import benchmark_report, run_items
from proxqa_core.evaluation.metrics import PairResult, rule_accuracy, within_factors
from proxqa_core.types import Box
from tests.core.fake_engine import FakeEngine

WIDTH, HEIGHT = 120, 90
THINGS = {"chair": ([5, 40, 30, 40], 0.2), "table": ([50, 30, 30, 30], 0.6), "lamp": ([90, 5, 25, 25], 0.9)}
"""Boxes [x, y, width, height] and the relative depth that the maps have there."""


def picture(path: Path, size: tuple[int, int] = (WIDTH, HEIGHT), shade: int = 90) -> Path:
    Image.new("RGB", size, (shade, 20, 30)).save(path)
    return path


@pytest.fixture
def gqa(tmp_path: Path) -> BenchmarkSource:
    """Two images of GQA with three things that can be asked about, and some that cannot; maps of disparity."""
    graphs = {}
    for name in ("1", "2"):
        picture(tmp_path / f"{name}.jpg")
        things = {f"{i}": thing(name, box) for i, (name, (box, _)) in enumerate(THINGS.items())}
        things |= {
            "7": thing("cup", [1, 1, 20, 20]),
            "8": thing("cup", [30, 1, 20, 20]),
            "9": thing("speck", [60, 60, 2, 2]),
        }
        graphs[name] = {"width": WIDTH, "height": HEIGHT, "objects": things}
        (tmp_path / "maps").mkdir(exist_ok=True)
        np.save(tmp_path / f"maps/{name}.npy", disparity())
    (tmp_path / "graphs.json").write_text(json.dumps(graphs))
    return BenchmarkSource(
        tmp_path / "graphs.json",
        images=tmp_path,
        depth_maps=tmp_path / "maps",
        depth_unit=DepthUnit.DISPARITY,
    )


def thing(name: str, box: list[int]) -> dict[str, Any]:
    x, y, w, h = box
    return {"name": name, "x": x, "y": y, "w": w, "h": h, "attributes": [], "relations": []}


def disparity() -> np.ndarray[Any, Any]:
    """From 0 (far) to 1 (near), each thing of `THINGS` at its own."""
    found = np.linspace(0, 1, WIDTH * HEIGHT).reshape(HEIGHT, WIDTH)
    for (x, y, w, h), depth in THINGS.values():
        found[y : y + h, x : x + w] = 1 - depth
    return found


# -- conversions ------------------------------------------------------------------------------------------------------


def test_gqa_depth(gqa: BenchmarkSource) -> None:
    benchmark = load_benchmark("gqa-depth", gqa)
    assert [i.item_id for i in benchmark.items] == [f"{k}.jpg#{n}" for k in (1, 2) for n in range(3)]
    for item in benchmark.items:
        assert isinstance(item, HowDeep) and item.depth == pytest.approx(THINGS[item.name][1], abs=0.03)
    assert benchmark.prompt == "name" and benchmark.description["depth"] == "maps maps (disparity)"
    said = "\n".join(benchmark.left_out)
    assert "4 x object that shares its name" in said and "2 x object whose box is too small" in said


def test_gqa_proximity_is_right_and_the_same_again(gqa: BenchmarkSource) -> None:
    benchmark = load_benchmark("gqa-proximity", gqa)
    assert len(benchmark.items) == 6
    for item in benchmark.items:
        assert isinstance(item, WhichCloser) and item.depths is not None
        a, b = (THINGS[name][1] for name in item.names)
        assert item.answer == ("A" if a < b else "B") and item.gap == pytest.approx(abs(a - b), abs=0.05)
    assert load_benchmark("gqa-proximity", gqa) == benchmark
    assert load_benchmark("gqa-proximity", replace(gqa, seed=0)).items == benchmark.items
    # an image's items do not hang on the other images; another seed calls other things A
    assert load_benchmark("gqa-proximity", replace(gqa, limit=1)).items == benchmark.items[:3]
    named = [item.names for item in benchmark.items if isinstance(item, WhichCloser)]
    others = [load_benchmark("gqa-proximity", replace(gqa, config=ConversionConfig(seed=s))).items for s in range(1, 5)]
    assert any([i.names for i in items if isinstance(i, WhichCloser)] != named for items in others)


def test_which_of_a_pair_is_called_a_is_a_coin(tmp_path: Path, gqa: BenchmarkSource) -> None:
    answers = [
        item.answer
        for seed in range(40)
        for item in load_benchmark("gqa-proximity", replace(gqa, config=ConversionConfig(seed=seed))).items
        if isinstance(item, WhichCloser)
    ]
    assert 0.4 < answers.count("A") / len(answers) < 0.6


def test_no_more_of_an_image_than_is_wanted(gqa: BenchmarkSource) -> None:
    config = ConversionConfig(objects_per_image=2, pairs_per_image=1)
    assert len(load_benchmark("gqa-depth", replace(gqa, config=config)).items) == 4
    assert len(load_benchmark("gqa-proximity", replace(gqa, config=config)).items) == 2


def test_things_without_one_depth_and_pairs_in_each_other_are_left_out(gqa: BenchmarkSource, tmp_path: Path) -> None:
    graphs = json.loads(gqa.data.read_text())
    graphs["1"]["objects"] |= {"10": thing("wall", [0, 0, 80, 90]), "11": thing("seat", [8, 45, 25, 30])}
    gqa.data.write_text(json.dumps(graphs))
    benchmark = load_benchmark("gqa-proximity", replace(gqa, config=ConversionConfig(min_gap=0.0, pairs_per_image=99)))
    pairs = {frozenset(i.names) for i in benchmark.items if isinstance(i, WhichCloser)}
    assert frozenset(("seat", "table")) in pairs and frozenset(("seat", "chair")) not in pairs
    assert not any("wall" in pair for pair in pairs) and any("no one depth" in line for line in benchmark.left_out)


def test_images_and_maps_that_cannot_be_used_are_counted(gqa: BenchmarkSource, tmp_path: Path) -> None:
    (tmp_path / "1.jpg").write_bytes(b"no image")
    np.save(tmp_path / "maps/2.npy", np.zeros((30, 90)))
    with pytest.raises(BadConversionError, match="leaves nothing to ask") as error:
        load_benchmark("gqa-depth", gqa)
    assert "aspect ratio" in str(error.value) and "cannot be used" in str(error.value)
    np.save(tmp_path / "maps/2.npy", disparity())
    assert len(load_benchmark("gqa-depth", gqa).items) == 3
    (tmp_path / "maps/2.npy").unlink()
    picture(tmp_path / "1.jpg")
    left_out = load_benchmark("gqa-depth", gqa).left_out
    assert any("without depth: 2.jpg" in line for line in left_out)


@pytest.mark.slow
def test_depth_may_come_from_any_model_of_hugging_face(gqa: BenchmarkSource, tmp_path: Path) -> None:
    from transformers import GLPNConfig, GLPNForDepthEstimation, GLPNImageProcessor

    config = GLPNConfig(hidden_sizes=[8] * 4, depths=[1] * 4, num_attention_heads=[1] * 4, decoder_hidden_size=8)
    GLPNForDepthEstimation(config).save_pretrained(tmp_path / "model")
    GLPNImageProcessor().save_pretrained(tmp_path / "model")
    model = {"depth_maps": None, "depth_unit": DepthUnit.METRES, "depth_model": str(tmp_path / "model")}
    source = replace(gqa, **model, device="cpu", config=ConversionConfig(max_spread=1.0))
    benchmark = load_benchmark("gqa-depth", source)
    assert len(benchmark.items) == 6 and benchmark.description["depth"] == "model (m)"
    assert len({i.depth for i in benchmark.items if isinstance(i, HowDeep)}) > 1
    assert load_benchmark("gqa-depth", source).items == benchmark.items
    with pytest.raises(ProxqaError, match="predicts m by its configuration"):
        load_benchmark("gqa-depth", replace(source, depth_unit=None))  # disparity, where nothing is said


@pytest.mark.parametrize(
    "change, says",
    [
        ({"images": None}, "needs --images"),
        ({"depth_maps": None}, "GQA has no depth"),
        ({"depth_model": "x"}, "GQA has no depth"),
        ({"depth_unit": None}, "mm, m, disparity"),
        ({"depth_maps": Path("/nonexistent")}, "no such folder"),
        ({"grids": Path("x")}, "makes no use of --grids"),
    ],
)
def test_what_gqa_needs(gqa: BenchmarkSource, change: dict[str, Any], says: str) -> None:
    with pytest.raises(BadConversionError, match=says):
        load_benchmark("gqa-depth", replace(gqa, **change))


@pytest.mark.parametrize("change", [{"min_gap": 2.0}, {"max_spread": math.nan}, {"pairs_per_image": 0}])
def test_choices_out_of_range_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(BadConversionError, match=next(iter(change))):
        ConversionConfig(**change)


@pytest.fixture
def make3d(tmp_path: Path) -> BenchmarkSource:
    """A portrait photograph whose laser depths grow from 5 m at the bottom to no return at the top."""
    scipy_io = pytest.importorskip("scipy.io")
    (tmp_path / "grids").mkdir()
    (tmp_path / "photos").mkdir()
    picture(tmp_path / "photos/img-a.jpg", (180, 240))
    grid = np.zeros((55, 305, 4))
    grid[..., 3] = np.linspace(90, 5, 55)[:, None]
    scipy_io.savemat(tmp_path / "grids/depth_sph_corr-a.mat", {"Position3DGrid": grid})
    return BenchmarkSource(tmp_path / "photos", grids=tmp_path / "grids")


def test_make3d_without_boxes_asks_about_regions(make3d: BenchmarkSource) -> None:
    config = ConversionConfig(max_spread=0.5, pairs_per_image=99)
    benchmark = load_benchmark("make3d-proximity", replace(make3d, config=config))
    assert benchmark.prompt == "box" and not benchmark.by_name
    assert benchmark.description["boxes"] == "nine regions of each image"
    rows = {"top": 0, "left": 1, "central": 1, "right": 1, "bottom": 2}
    for item in benchmark.items:
        assert isinstance(item, WhichCloser)
        a, b = (rows[name.split()[0]] for name in item.names)
        assert item.answer == ("A" if a > b else "B")
        assert "top" not in " ".join(item.names)  # 70 m and more are not known
    assert len(benchmark.items) == 9


def test_a_photograph_of_make3d_that_was_turned_is_named(make3d: BenchmarkSource) -> None:
    """The grid is laid over upright ones: a turned one would be asked about the depths of other places."""
    picture(make3d.data / "img-a.jpg", (240, 180))
    with pytest.raises(BadConversionError, match=r"1 x image that lies on its side.*img-a\.jpg \(240x180\)"):
        load_benchmark("make3d-proximity", make3d)


def test_make3d_with_boxes_of_a_coco_file(make3d: BenchmarkSource, tmp_path: Path) -> None:
    boxes = [("car", [10, 180, 60, 50]), ("tree", [90, 80, 60, 40])]
    coco = {
        "images": [{"id": 1, "file_name": "img-a.jpg", "width": 180, "height": 240}],
        "categories": [{"id": i, "name": name} for i, (name, _) in enumerate(boxes)],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": i, "bbox": box, "iscrowd": 0} for i, (_, box) in enumerate(boxes)
        ],
    }
    (tmp_path / "boxes.json").write_text(json.dumps(coco))
    source = replace(make3d, boxes=tmp_path / "boxes.json", config=ConversionConfig(max_spread=1.0))
    benchmark = load_benchmark("make3d-proximity", source)
    (item,) = benchmark.items
    assert isinstance(item, WhichCloser) and set(item.names) == {"car", "tree"} and benchmark.prompt == "name"
    assert item.names["AB".index(item.answer or "")] == "car" and 0.5 < item.gap < 0.9
    assert benchmark.description["boxes"].startswith("boxes.json, sha256 ")
    coco["images"][0]["width"] = 240
    (tmp_path / "boxes.json").write_text(json.dumps(coco))
    with pytest.raises(BadConversionError, match="another size"):
        load_benchmark("make3d-proximity", source)


def test_blink_without_and_with_the_places_of_its_points(tmp_path: Path) -> None:
    picture(tmp_path / "x.jpg")
    lines = [{"idx": f"val_{i}", "image_1": "x.jpg", "answer": "(A)", "question": "Which?"} for i in range(2)]
    (tmp_path / "blink.jsonl").write_text("\n".join(map(json.dumps, lines)))
    source = BenchmarkSource(tmp_path / "blink.jsonl")
    with pytest.raises(ProxqaError, match=r"places that are not known; expected .* --points"):
        run_items(FakeEngine({}), load_benchmark("blink", source).items, "box")
    (tmp_path / "points.jsonl").write_text('{"id": "val_1", "A": [20, 30], "B": [60, 70]}\n')
    items = load_benchmark("blink", replace(source, points=tmp_path / "points.jsonl")).items
    run = run_items(FakeEngine({"point": 0.5}), items, "box")
    assert run.not_asked == {"places that are not known": 1} and len(run.pairs) == 2
    assert run.pairs[0].near_box == box_around((20, 30), WIDTH, HEIGHT).xyxy
    (tmp_path / "points.jsonl").write_text('{"id": "val_1", "A": [20, "x"]}\n')
    with pytest.raises(ProxqaError, match="in pixels"):
        load_benchmark("blink", replace(source, points=tmp_path / "points.jsonl"))
    for content, says in (
        ('{"id": "x", "A": [1, 2], "B": [3, 4]}', "'val_0'"),
        ("[]", "is a list; expected JSON lines"),
    ):
        (tmp_path / "points.jsonl").write_text(content)
        with pytest.raises(ProxqaError, match=says):
            load_benchmark("blink", replace(source, points=tmp_path / "points.jsonl"))


def test_an_id_counts_once(tmp_path: Path) -> None:
    first = HowDeep("1", tmp_path / "x.jpg", "cup", Box(0, 0, 9, 9), 0.5)
    write_items(tmp_path / "items.jsonl", [first, replace(first, name="dog")], tmp_path)
    benchmark = load_benchmark("items", BenchmarkSource(tmp_path))
    assert benchmark.items == (first,) and "id an earlier one has" in benchmark.left_out[0]


def test_every_kind_can_be_named() -> None:
    assert tuple(command.BENCHMARKS) == tuple(KINDS)
    assert tuple(unit.value for unit in DepthUnit) == command.DEPTH_UNITS


# -- the published file -----------------------------------------------------------------------------------------------

boxes = st.tuples(*[st.integers(0, 50)] * 2, *[st.integers(51, 100)] * 2).map(lambda v: Box(*map(float, v)))
names = st.text(st.characters(categories=("L", "N")), min_size=1, max_size=20).map(usable_name).filter(bool)
shares = st.floats(0, 1)
images = st.from_regex(r"[a-z0-9]{1,8}(/[a-z0-9]{1,8})?\.jpg", fullmatch=True).map(lambda name: Path("images") / name)
points = st.tuples(st.floats(0, 100), st.floats(0, 100))
pairs = st.builds(
    WhichCloser,
    st.text(min_size=1),
    images,
    st.sampled_from(["A", "B", None]),
    st.text(),
    st.tuples(names, names) | st.just(("", "")),
    st.none() | st.tuples(boxes, boxes),
    st.none() | st.tuples(points, points),
    st.just(math.nan) | shares,
    st.none() | st.tuples(shares, shares),
)


@given(st.lists(pairs | st.builds(HowDeep, st.text(min_size=1), images, names, boxes, shares), max_size=3))
def test_items_are_read_as_they_were_written(items: list[Item]) -> None:
    for item in items:
        raw = json.loads(json.dumps(to_json(item, Path("images"))))
        assert from_json(raw, Path("images")) == item


keys = st.sampled_from(["id", "task", "image", "answer", "names", "boxes", "box"])
anything = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner),
)


@given(anything)
def test_a_line_that_is_no_item_is_told(raw: Any) -> None:
    line = {"task": "closer", **raw} if isinstance(raw, dict) else raw
    try:
        item = from_json(line, Path("images"))
    except (ValueError, TypeError, KeyError, AttributeError):
        return
    assert isinstance(item.id, str) and item.image != Path("images")  # a folder is no image
    assert from_json(json.loads(json.dumps(to_json(item, Path("images")))), Path("images")) == item


@pytest.mark.parametrize("image", ["", ".", "/a.jpg", "../a.jpg", "a\x00.jpg", 3, None])
def test_an_image_that_is_no_file_of_the_folder(image: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        from_json({"task": "closer", "id": "1", "image": image, "answer": "A"}, Path("images"))


def test_bad_lines_are_counted_and_paths_stay_inside(tmp_path: Path) -> None:
    good = HowDeep("1", tmp_path / "x.jpg", "cup", Box(0, 0, 9, 9), 0.5)
    write_items(tmp_path / "items.jsonl", [good], tmp_path)
    line = json.loads((tmp_path / "items.jsonl").read_text())
    bad: list[Any] = ["{", "[]", json.dumps(line | {"image": "../x.jpg"}), json.dumps(line | {"depth": 2}),
                      json.dumps(line | {"task": "x"}), json.dumps(line | {"box": [5, 5, 1, 1]})]  # fmt: skip
    (tmp_path / "items.jsonl").write_text("\n".join([*bad, json.dumps(line)]))
    report = ReadReport()
    assert list(read_items(tmp_path, report=report)) == [good] and report.counts.total() == len(bad)


# -- exports ----------------------------------------------------------------------------------------------------------


def tsv(folder: Path, kind: str) -> list[dict[str, str]]:
    csv.field_size_limit(10**8)
    with (folder / f"vlmevalkit/{task_name(kind)}.tsv").open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_the_tsv_is_what_vlmevalkit_reads(gqa: BenchmarkSource, tmp_path: Path) -> None:
    export(load_benchmark("gqa-proximity", gqa), tmp_path / "out", "name")
    rows = tsv(tmp_path / "out", "gqa-proximity")
    assert list(rows[0]) == ["index", "image", "question", "A", "B", "answer", "category"]
    assert [row["index"] for row in rows] == [str(i) for i in range(6)]
    by_index = {row["index"]: row["image"] for row in rows}
    for row in rows:
        # an image of at most 64 characters is another row's index, which must have one of its own
        image = row["image"] if len(row["image"]) > 64 else by_index[row["image"]]
        Image.open(io.BytesIO(base64.b64decode(image))).verify()
        assert row["answer"] in ("A", "B") and not {row["A"], row["B"]} & MISSING
    assert any(len(row["image"]) <= 64 for row in rows)
    export(load_benchmark("gqa-depth", gqa), tmp_path / "out", "name")
    assert "A" not in tsv(tmp_path / "out", "gqa-depth")[0]  # free questions, not multiple choice
    assert "one number" in tsv(tmp_path / "out", "gqa-depth")[0]["question"]


def test_names_that_read_as_empty_do_not_vanish(gqa: BenchmarkSource, tmp_path: Path) -> None:
    text = gqa.data.read_text().replace('"chair"', '"None"').replace('"table"', '"NA"')
    gqa.data.write_text(text)
    export(load_benchmark("gqa-proximity", gqa), tmp_path / "out", "name")
    options = {row[letter] for row in tsv(tmp_path / "out", "gqa-proximity") for letter in "AB"}
    assert options == {"the None", "the NA", "lamp"}


def test_the_same_benchmark_gives_the_same_bytes(gqa: BenchmarkSource, tmp_path: Path) -> None:
    for out in ("one", "two"):
        export(load_benchmark("gqa-proximity", gqa), tmp_path / out, "box")
    files = sorted(p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*") if p.is_file())
    assert len(files) > 6
    assert all((tmp_path / "one" / f).read_bytes() == (tmp_path / "two" / f).read_bytes() for f in files)
    # asked by box, the two are marked and the words say so
    (_, row, *_) = tsv(tmp_path / "one", "gqa-proximity")
    assert row["A"].endswith("(red box)") and row["B"].endswith("(blue box)")


def test_what_was_published_gives_the_same_items(gqa: BenchmarkSource, tmp_path: Path) -> None:
    benchmark = load_benchmark("gqa-proximity", gqa)
    export(benchmark, tmp_path / "out", "name")
    again = load_benchmark("items", BenchmarkSource(tmp_path / "out", images=gqa.images))
    assert again.items == benchmark.items and again.prompt == "name"
    assert again.description["made_from"]["choices"] == benchmark.description["choices"]


def test_images_that_a_benchmark_holds_are_written_beside_it(tmp_path: Path) -> None:
    coded = picture(tmp_path / "x.png").read_bytes()
    items = (
        WhichCloser("1", coded, "A", names=("cup", "dog"), boxes=(Box(0, 0, 9, 9), Box(20, 20, 40, 40))),
        WhichCloser("2", coded, None, names=("cup", "dog")),
        WhichCloser("3", b"no image", "A", names=("cup", "dog")),
    )
    benchmark = replace(benchmark_of(items), images=tmp_path)
    written = export(benchmark, tmp_path / "out", "box")
    assert (written.items, written.questions) == (3, 1) and sum(written.without_picture.values()) == 2
    first, *_ = read_items(tmp_path / "out")
    assert (first.load_image() == items[0].load_image()).all()


def benchmark_of(items: Sequence[Item]) -> Any:
    from proxqa_core.evaluation.benchmarks import Benchmark

    return Benchmark("items", tuple(items), Path(), "box", True, {"kind": "items"}, [])


def test_two_kinds_or_no_pictures_are_not_exported(tmp_path: Path) -> None:
    deep = HowDeep("1", tmp_path / "x.jpg", "cup", Box(0, 0, 9, 9), 0.5)
    with pytest.raises(BadConversionError, match="one kind at a time"):
        export(benchmark_of([deep, WhichCloser("2", tmp_path / "x.jpg", "A")]), tmp_path / "out", "box")
    with pytest.raises(BadImageError, match="none of 1 items"):
        export(replace(benchmark_of([deep]), images=tmp_path), tmp_path / "out", "box")


class _TaskLoader(yaml.SafeLoader):
    """Reads a task as lmms-eval does: functions are looked up in the file beside it."""


def load_task(folder: Path, name: str) -> dict[str, Any]:
    spec = importlib.util.spec_from_file_location("utils", folder / "utils.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    _TaskLoader.add_constructor("!function", lambda loader, node: getattr(module, str(node.value).split(".")[1]))
    loaded: dict[str, Any] = yaml.load((folder / f"{name}.yaml").read_text(), _TaskLoader)
    return loaded


@pytest.mark.parametrize("kind, said, figures", [
    ("gqa-proximity", "A", {"accuracy"}),
    ("gqa-depth", "about 0.5", {"mae", "parsed"}),
])  # fmt: skip
def test_the_task_is_what_lmms_eval_loads(
    gqa: BenchmarkSource, tmp_path: Path, kind: str, said: str, figures: set[str]
) -> None:
    export(load_benchmark(kind, gqa), tmp_path / "out", "name")
    folder = tmp_path / "out/lmms_eval" / task_name(kind)
    task = load_task(folder, task_name(kind))
    data = folder / task["dataset_kwargs"]["data_files"]["test"]
    documents = [json.loads(line) for line in data.read_text().splitlines()]
    assert len(documents) == 6
    for document in documents:
        (image,) = task["doc_to_visual"](document)
        assert image.size == (WIDTH, HEIGHT) and task["doc_to_text"](document).startswith(document["question"])
        assert set(task["process_results"](document, [said])) >= figures
    assert figures <= {metric["metric"] for metric in task["metric_list"]}


@pytest.mark.slow
def test_lmms_eval_itself_loads_the_task(gqa: BenchmarkSource, tmp_path: Path) -> None:
    pytest.importorskip("lmms_eval", reason="lmms-eval is not installed")
    export(load_benchmark("gqa-proximity", gqa), tmp_path / "out", "name")
    code = (
        "import sys; from lmms_eval.tasks import TaskManager, get_task_dict\n"
        "manager = TaskManager('ERROR', include_path=sys.argv[1], include_defaults=False)\n"
        "(task,) = get_task_dict(['proxqa_gqa_proximity'], manager).values()\n"
        "print('loaded', len(task.test_docs()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "out/lmms_eval")],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert "loaded 6" in done.stdout, done.stderr[-2000:]


@pytest.mark.parametrize("text, letter, number", [
    ("A", "A", None), ("(B) the cup", "B", None), ("b.", "B", None), ("The answer is A.", "A", None),
    ("A or B", "", None), ("cup", "", None), ("", "", None), ("Both", "", None), ("0.37", "", 0.37),
    ("about .5.", "", 0.5), ("between 0.2 and 0.4", "", None), ("1.00", "", 1.0), ("0", "", 0.0), ("37 %", "", None),
    ("1.7", "", None), ("0.30, so 0.30", "", 0.3),
])  # fmt: skip
def test_what_the_task_reads_out_of_answers(text: str, letter: str, number: float | None) -> None:
    assert lmms_task.chosen(text) == letter and lmms_task.stated(text) == number


def test_answers_that_cannot_be_parsed_are_the_worst() -> None:
    assert lmms_task.depth_results({"answer": "0.80"}, ["no idea"]) == {"mae": 0.8, "parsed": 0.0}
    both = lmms_task.closer_results({"answer": "A", "counter_heuristic": True}, ["?"])
    assert both == {"accuracy": 0.0, "counter_heuristic_accuracy": 0.0}


# -- asking -----------------------------------------------------------------------------------------------------------


def test_a_model_that_knows_is_right_and_the_rules_are_beside_it(gqa: BenchmarkSource) -> None:
    benchmark = load_benchmark("gqa-proximity", gqa)
    known = {name: depth for name, (_, depth) in THINGS.items()}
    run = run_items(FakeEngine(known), benchmark.items, "name")
    report = benchmark_report(run, "fake", "name", benchmark.description)
    assert report["pairs"] == 6 and report["pair_accuracy"] == 1.0 == report["pair_accuracy_from_depths"]
    # chair, table and lamp end one above the other, and each is smaller than the last
    assert report["baselines"]["lower_edge"] == 1.0 == report["baselines"]["larger_box"]
    assert report["baselines"]["lower_edge_by_gap"][">30"] == 1.0
    assert report["benchmark"] == benchmark.description and report["not_asked"] == {}
    wrong = run_items(FakeEngine({name: 1 - depth for name, depth in known.items()}), benchmark.items, "name")
    assert benchmark_report(wrong, "fake", "name", {})["pair_accuracy"] == 0.0


def test_depths_are_scored(gqa: BenchmarkSource) -> None:
    benchmark = load_benchmark("gqa-depth", gqa)
    run = run_items(FakeEngine({name: depth for name, (_, depth) in THINGS.items()}), benchmark.items, "name")
    report = benchmark_report(run, "fake", "name", benchmark.description)
    assert report["objects"] == 6 and report["mae"] < 0.03 and report["spearman"] > 0.9 and report["pairs"] == 0
    assert report["delta"]["1.25"] == 1.0 and report["baselines"]["larger_box_spearman"] > 0.9
    assert report["baselines"]["lower_edge_spearman"] > 0.9


def test_all_of_an_image_is_asked_at_once(gqa: BenchmarkSource) -> None:
    engine = FakeEngine({})
    run_items(engine, load_benchmark("gqa-proximity", gqa).items, "name")
    assert engine.calls == [("depths", 3)] * 2


def test_points_at_one_place_count_as_wrong(tmp_path: Path) -> None:
    here, there = (20.0, 20.0), (60.0, 60.0)
    items = [
        WhichCloser("1", picture(tmp_path / "x.png"), "A", points=(here, here)),
        WhichCloser("2", tmp_path / "x.png", "A", points=(here, there)),
    ]
    run = run_items(FakeEngine({"point": 0.5}), items, "box")
    assert run.not_asked == {"things at one place": 1} and sorted(p.correct for p in run.pairs)[0] is False


@given(st.lists(st.tuples(st.floats(-5, 700), st.floats(-5, 700)), min_size=2, max_size=2), st.integers(50, 700))
def test_boxes_around_points_are_inside_and_none_is_larger(places: list[tuple[float, float]], side: int) -> None:
    a, b = (box_around(place, 640, side) for place in places)
    for box in (a, b):
        assert 0 <= box.x1 < box.x2 <= 640 and 0 <= box.y1 < box.y2 <= side
    pair = PairResult(0, "point", "point", math.nan, a.xyxy, b.xyxy, True, math.nan, 1.0)
    assert rule_accuracy([pair])["larger_box"] == 0.5


def test_missing_images_are_counted(tmp_path: Path) -> None:
    good = WhichCloser("1", picture(tmp_path / "x.png"), "A", names=("cup", "dog"))
    bad = replace(good, item_id="2", image=tmp_path / "none.png")
    run = run_items(FakeEngine({"cup": 0.1, "dog": 0.5}), [good, bad], "name")
    assert run.bad == 1 and "none.png" in run.bad_reasons[0] and len(run.pairs) == 1
    with pytest.raises(BadImageError, match="none of 1 images"):
        run_items(FakeEngine({}), [bad], "name")


def test_within_factors() -> None:
    found = within_factors(np.array([0.5, 0.5, 0.0, np.nan]), np.array([0.5, 0.7, 0.009, 0.5]))
    assert found == {"1.25": pytest.approx(2 / 3), "1.25^2": 1.0, "1.25^3": 1.0}
    assert math.isnan(within_factors(np.empty(0), np.empty(0))["1.25"])


@given(boxes, boxes)
def test_overlap_is_a_share(a: Box, b: Box) -> None:
    assert 0 <= overlap(a, b) == overlap(b, a) <= 1 and overlap(a, a) == 1
