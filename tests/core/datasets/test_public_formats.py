"""Readers of published data sets, on small files in their formats, and on real ones where they are at hand."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from proxqa_core.datasets.benchmarks import letter, read_blink, read_cv_bench, read_da2k, read_vlmeval_tsv
from proxqa_core.datasets.coco import CocoInstances
from proxqa_core.datasets.folder import BadDatasetError
from proxqa_core.datasets.gqa import GqaSceneGraphs, read_questions
from proxqa_core.datasets.llava import IMAGE_MARK, read_conversations, write_turns
from proxqa_core.datasets.make3d import cells_of_box, make3d_images, read_position_grid
from proxqa_core.datasets.reading import MAX_EXAMPLES, ReadReport, clipped_box
from proxqa_core.datasets.visual_genome import VisualGenome
from proxqa_core.errors import BadImageError

REAL = Path(os.environ.get("PROXQA_REAL_DATA", "/nonexistent")) / "formats"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="PROXQA_REAL_DATA names no folder with formats/")


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def png(size: tuple[int, int] = (64, 48), colour: tuple[int, int, int] = (200, 10, 10)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


# -------------------------------------------------------------------- COCO
def coco(annotations: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    images = [{"id": i, "file_name": f"{i:012}.jpg", "width": 100, "height": 80} for i in (7, 9, 8)]
    categories = [{"id": 1, "name": "person"}, {"id": 44, "name": "Bottle "}]
    return {"images": images, "annotations": annotations, "categories": categories, **more}


def box(image: Any, category: Any, bbox: Any, key: int = 0, **more: Any) -> dict[str, Any]:
    return {"id": key, "image_id": image, "category_id": category, "bbox": bbox, "iscrowd": 0, **more}


def test_coco_images_come_in_order_with_their_boxes(tmp_path: Path) -> None:
    annotations = [
        box(8, 44, [1, 2, 10, 20]),
        box(7, 1, [90.5, 70, 30, 30]),  # leaves the image
        box(8, 1, [3, 4, 5, 6]),
        box(8, 1, [30, 40, 5, 6]),
    ]
    path = write(tmp_path / "instances.json", coco(annotations))
    data = CocoInstances(path, tmp_path / "images")
    records = list(data)
    assert [r.image for r in records] == ["000000000007.jpg", "000000000009.jpg", "000000000008.jpg"]
    assert [len(r.objects) for r in records] == [1, 0, 3]  # an image without annotations is there too
    assert records[0].objects[0].box.xyxy == (90.5, 70, 100, 80)
    assert [(o.name, o.ref) for o in records[2].objects] == [("Bottle", "Bottle"), ("person", None), ("person", None)]
    assert data.category_names() == ("person", "Bottle") and not data.report.counts
    assert list(data) == records


def test_what_coco_cannot_use_is_counted_and_named(tmp_path: Path) -> None:
    annotations = [
        box(7, 1, [1, 1, 9, 9], 1, iscrowd=1, segmentation={"counts": [3, 5], "size": [80, 100]}),
        box(5, 1, [1, 1, 9, 9], 2),
        box(7, 3, [1, 1, 9, 9], 3),
        box(7, 1, [1, 1, 9], 4),
        box(7, 1, [1, 1, 0, 9], 5),
        box(7, 1, [200, 1, 9, 9], 6),
        box(7, 1, None, 7),
        {"id": 8},
        box(7, 1, [1, 1, 9, 9], 9),
    ]
    images = [{"id": 1, "file_name": "../x.jpg", "width": 9, "height": 9}, {"id": 2, "file_name": "y.jpg"}, "z"]
    whole = coco(annotations)
    whole["images"] += images
    data = CocoInstances(write(tmp_path / "a.json", whole), tmp_path)
    assert [len(r.objects) for r in data] == [1, 0, 0]
    assert data.report.counts == {
        "crowd": 1,
        "annotation of an image that is not listed": 2,
        "annotation of a category that is not listed": 1,
        "annotation without bbox": 2,
        "box without area in the image": 2,
        "image without id, file_name, width, height": 3,
    }
    assert "1 x crowd: annotation 1" in data.report.lines()


@pytest.mark.parametrize(
    "content, expected",
    [
        ('{"images": [], "annotations": []}', "has no categories"),
        ("[1, 2]", "is a list; expected a COCO instances file"),
        ('{"images": [{"id": 1', "no whole JSON"),
        ("", "no whole JSON"),
        ('{"images": [], "annotations": [], "categories": []}', "no usable category"),
    ],
)
def test_a_file_that_is_no_coco_is_one_line(tmp_path: Path, content: str, expected: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(BadDatasetError, match=expected) as error:
        list(CocoInstances(tmp_path / "a.json", tmp_path))
    assert "\n" not in str(error.value) and "a.json" in str(error.value)


def test_a_file_that_is_not_there_and_one_that_is_compressed(tmp_path: Path) -> None:
    with pytest.raises(BadDatasetError, match="no such file"):
        CocoInstances(tmp_path / "none.json", tmp_path)
    with gzip.open(tmp_path / "a.json.gz", "wt") as file:
        json.dump(coco([box(9, 1, [1, 1, 9, 9])]), file)
    assert sum(len(r.objects) for r in CocoInstances(tmp_path / "a.json.gz", tmp_path)) == 1
    whole = (tmp_path / "a.json.gz").read_bytes()
    (tmp_path / "a.json.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadDatasetError, match=r"a\.json\.gz"):
        list(CocoInstances(tmp_path / "a.json.gz", tmp_path))


@needs_real
def test_real_coco() -> None:
    data = CocoInstances(REAL / "coco/annotations/instances_val2017.json", REAL / "coco/val2017")
    records = list(data)
    assert len(records) == 40 and data.report.counts["crowd"] == 8 and len(data.category_names()) == 80
    assert sum(len(r.objects) for r in records) + sum(data.report.counts.values()) == 607
    assert all(r.load_image().shape[:2] == (r.height, r.width) for r in records[:3])


# -------------------------------------------------------------------- Visual Genome and GQA
def test_visual_genome_names_sizes_and_boxes(tmp_path: Path) -> None:
    things = [
        {"names": ["", "trees"], "x": 0, "y": 0, "w": 900, "h": 557},
        {"name": "dog", "x": 5, "y": 5, "w": 5, "h": 5},
        {"names": [], "x": 5, "y": 5, "w": 5, "h": 5},
        {"names": ["cat"], "x": 500, "y": 5, "w": 5, "h": 5},
    ]
    records = [{"image_id": i, "objects": things} for i in (1, 2, 3)] + [{"objects": 3}]
    data_file = write(tmp_path / "image_data.json", [7, {"image_id": 1, "width": 30, "height": 40},
                                                     {"id": 2, "width": 300, "height": 200}])  # fmt: skip
    (tmp_path / "VG_100K").mkdir()
    Image.new("RGB", (64, 48)).save(tmp_path / "VG_100K/1.jpg")  # not what image_data says
    data = VisualGenome(write(tmp_path / "objects.json", records), tmp_path, data_file)
    first, second = list(data)
    assert (first.image, first.width, first.height) == ("VG_100K/1.jpg", 64, 48)
    assert first.objects[0].name == "trees" and first.objects[0].box.xyxy == (0, 0, 64, 48)
    assert (second.width, second.height) == (300, 200) and len(second.objects) == 2
    assert data.report.counts["size in image_data is not the file's (the file's is used)"] == 1
    assert data.report.counts["image of unknown size (no file, and not in image_data)"] == 1
    assert data.report.counts["entry of image_data that is no object"] == 1
    assert data.report.counts["object without a name"] == 2
    assert data.report.counts["box without area in the image"] == 2
    assert data.report.counts["record without image_id and objects"] == 1


@needs_real
def test_real_visual_genome(tmp_path: Path) -> None:
    raws = json.loads((REAL / "visual_genome/objects.json").read_text())
    sizes = [{"image_id": r["image_id"], "width": 800, "height": 600} for r in raws]
    data = VisualGenome(REAL / "visual_genome/objects.json", tmp_path, write(tmp_path / "image_data.json", sizes))
    found = sum(len(r.objects) for r in data)
    assert found + sum(data.report.counts.values()) == 460 and found > 400


def test_gqa_scene_graphs_and_questions(tmp_path: Path) -> None:
    thing = {"name": "chair", "x": 1, "y": 2, "w": 3, "h": 4, "attributes": ["red", "wooden"], "relations": []}
    graph = {"width": 50, "height": 40, "objects": {"11": thing, "12": {**thing, "w": 0}, "13": {"x": 1}, "14": []}}
    graphs = {"2370799": graph, "n/../1": graph, "3": {"width": 0, "height": 4}, "4": {"width": 9, "height": 9}}
    data = GqaSceneGraphs(write(tmp_path / "g.json", graphs), tmp_path)
    first, last = list(data)
    assert first.image == "2370799.jpg" and last.objects == ()
    assert [(o.name, o.colour, o.box.xyxy) for o in first.objects] == [("chair", "red", (1, 2, 4, 6))]
    assert data.report.counts == {
        "box without area in the image": 1,
        "object without a name": 2,
        "image without a usable id, width and height": 2,
    }
    questions = {"q1": {"imageId": "1", "question": "Is it?", "answer": "yes", "fullAnswer": "Yes, it is."}, "q2": {}}
    report = ReadReport()
    (question,) = read_questions(write(tmp_path / "q.json", questions), report)
    assert (question.image_id, question.answer, question.full_answer) == ("1", "yes", "Yes, it is.")
    assert report.lines() == ["1 x question without imageId, question and answer: question q2"]


# -------------------------------------------------------------------- Make3D
def test_make3d_both_versions_give_the_same_grid(tmp_path: Path) -> None:
    scipy_io, h5py = pytest.importorskip("scipy.io"), pytest.importorskip("h5py")
    grid = np.random.default_rng(0).uniform(1, 60, (55, 305, 4))
    grid[0, 0, 3], grid[0, 1, 3] = 81.4, 0.0
    images, grids = tmp_path / "Test134", tmp_path / "Gridlaserdata"
    images.mkdir(), grids.mkdir()
    for name in ("op1", "op2", "alone"):
        (images / f"img-{name}.jpg").write_bytes(png())
    scipy_io.savemat(grids / "depth_sph_corr-op1.mat", {"Position3DGrid": grid})
    with h5py.File(grids / "depth_sph_corr-op2.mat", "w", userblock_size=512) as file:
        file["Position3DGrid"] = grid.T  # MATLAB counts columns first
    with (grids / "depth_sph_corr-op2.mat").open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64")
    report = ReadReport()
    one, two = make3d_images(images, grids, report)
    assert report.counts == {"image without a grid": 1} and (one.name, two.name) == ("op1", "op2")
    np.testing.assert_array_equal(one.load_depth(), two.load_depth())
    assert one.load_depth()[0, 0] == np.inf and np.isnan(one.load_depth()[0, 1])
    assert one.load_depth()[7, 200] == np.float32(grid[7, 200, 3])
    with pytest.raises(BadDatasetError, match="no such folder"):
        list(make3d_images(tmp_path / "none", grids))
    with pytest.raises(BadDatasetError, match="no img-NAME"):
        list(make3d_images(grids, grids))


def test_make3d_damaged_files_are_one_line(tmp_path: Path) -> None:
    scipy_io = pytest.importorskip("scipy.io")
    file = tmp_path / "depth_sph_corr-x.mat"
    for content in (b"", b"MATLAB 5.0 MAT-file" + bytes(200), b"MATLAB 7.3 MAT-file" + bytes(700)):
        file.write_bytes(content)
        with pytest.raises(BadDatasetError, match=r"depth_sph_corr-x\.mat") as error:
            read_position_grid(file)
        assert "\n" not in str(error.value)
    scipy_io.savemat(file, {"Position3DGrid": np.zeros((305, 55, 4))})
    with pytest.raises(BadDatasetError, match=r"\[305, 55, 4\]; expected numbers \[55, 305, 4\]"):
        read_position_grid(file)
    scipy_io.savemat(file, {"other": np.zeros(3)})
    with pytest.raises(BadDatasetError, match="no variable"):
        read_position_grid(file)


@given(st.floats(-50, 2000), st.floats(0, 900), st.floats(-50, 2500), st.floats(0, 900))
def test_cells_of_a_box_are_inside_the_grid(x: float, w: float, y: float, h: float) -> None:
    rows, columns = cells_of_box((x, y, x + w, y + h), 1704, 2272)
    assert 0 <= rows.start < rows.stop <= 55 and 0 <= columns.start < columns.stop <= 305


# -------------------------------------------------------------------- LLaVA
def sample(*texts: str, **more: Any) -> dict[str, Any]:
    turns = [{"from": ("human", "gpt")[i % 2], "value": t} for i, t in enumerate(texts)]
    return {"id": "a", "conversations": turns, **more}


def test_llava_samples(tmp_path: Path) -> None:
    samples = [
        sample("<image>\nwhat?", "a dog", image="coco/1.jpg"),
        sample("what is <image> here?", "a dog", image=["1.jpg"]),
        sample("what?", "a dog", "and?", "a cat", image="1.jpg"),  # marked nowhere
        sample("hello", "hi"),  # text only
        sample("<image> or <image>?", "the first", image=["1.jpg", "2.jpg"]),
        sample("<image>", "x"),  # no image
        sample("what?", "x", image=["1.jpg", "2.jpg"]),
        sample("what?", "x", image="/etc/1.jpg"),
        sample("what?", "x", image="../1.jpg"),
        sample("what?", "<image>", image="1.jpg"),
        sample("what?"),
        {"id": "b"},
        {"id": "c", "conversations": [{"from": "gpt", "value": "x"}, {"from": "human", "value": "y"}]},
        {"id": "d", "conversations": [{"from": "system", "value": "x"}, 3]},
        3,
    ]
    report = ReadReport()
    found = list(read_conversations(write(tmp_path / "mix.json", samples), report))
    assert [len(c.images) for c in found] == [1, 1, 1, 0, 2]
    assert all(sum(t.text.count(IMAGE_MARK) for t in c.turns) == len(c.images) for c in found)
    assert found[2].turns[0].text == "<image>\nwhat?" and len(found[2].turns) == 4
    assert sum(report.counts.values()) == 10 and all("\n" not in line for line in report.lines())
    lines = "\n".join(json.dumps(s) for s in samples) + "\nnot json\n\n"
    (tmp_path / "mix.jsonl").write_text(lines)
    again = ReadReport()
    assert list(read_conversations(tmp_path / "mix.jsonl", again)) == found
    assert again.counts["line that is no JSON"] == 1
    assert write_turns(found[0].turns) == samples[0]["conversations"]


def test_a_file_that_holds_no_list_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadDatasetError, match="is an object; expected LLaVA's list of samples"):
        list(read_conversations(write(tmp_path / "a.json", {"id": 1})))


def test_a_large_file_is_streamed(tmp_path: Path) -> None:
    """The first sample comes before the damaged end of the file is reached."""
    text = "[" + ",".join(json.dumps(sample("<image>", "x", image="1.jpg")) for _ in range(5000)) + ', {"id'
    (tmp_path / "a.json").write_text(text)
    read = read_conversations(tmp_path / "a.json")
    assert next(read).images == ("1.jpg",)
    with pytest.raises(BadDatasetError, match="no whole JSON"):
        list(read)


# -------------------------------------------------------------------- which is closer
def test_da2k_is_shuffled_by_item_and_seed(tmp_path: Path) -> None:
    pairs = [{"point1": [i, 2 * i], "point2": [300, 400], "closer_point": "point1"} for i in range(200)]
    path = write(tmp_path / "annotations.json", {"images/a.jpg": pairs, "../b.jpg": pairs, "c.jpg": [{"point1": 3}]})
    report = ReadReport()
    items = list(read_da2k(path, 0, report))
    assert len(items) == 200 and sum(report.counts.values()) == 201
    assert 60 < sum(i.answer == "A" for i in items) < 140
    for i, item in enumerate(items):
        assert item.points is not None
        assert item.points["AB".index(item.answer or "")] == (2 * i, i)  # [row, column] became (x, y)
    assert [i.answer for i in read_da2k(path, 0)] == [i.answer for i in items]
    assert [i.answer for i in read_da2k(path, 1)] != [i.answer for i in items]
    assert items[0].image == tmp_path / "images/a.jpg"


def cv_bench_rows() -> list[dict[str, Any]]:
    row = {"idx": 5, "task": "Depth", "prompt": "Which is closer?", "choices": ["chair", "lamp"], "answer": "(B)",
           "filename": "img/1.png", "bbox": [[1, 2, 3, 4], [5, 6, 7, 8]]}  # fmt: skip
    return [row, {**row, "task": "Distance"}, {**row, "answer": "(C)"}, {**row, "bbox": None}]


def test_cv_bench_from_both_kinds_of_file(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = cv_bench_rows()
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    report = ReadReport()
    one, two = read_cv_bench(tmp_path / "t.jsonl", report=report)
    assert (one.answer, one.names, one.image) == ("B", ("chair", "lamp"), tmp_path / "img/1.png")
    assert one.boxes is not None and one.boxes[1].xyxy == (5, 6, 7, 8) and two.boxes is None
    assert list(report.counts.values()) == [1]
    for row in rows:
        row["image"] = {"bytes": png(), "path": None}
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    item = next(read_cv_bench(tmp_path / "t.parquet"))
    assert item.load_image().shape == (48, 64, 3) and item.names == one.names and item.boxes == one.boxes
    (tmp_path / "t.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(BadDatasetError, match="parquet"):
        next(read_cv_bench(tmp_path / "t.parquet"))


def test_blink_items(tmp_path: Path) -> None:
    rows = [{"idx": "val_1", "image_1": "a.png", "answer": "(A)", "prompt": "Which point?"}, {"idx": "val_2"},
            {"idx": "test_1", "image_1": "a.png", "answer": "hidden"}]  # fmt: skip
    (tmp_path / "b.jsonl").write_text("\n".join(map(json.dumps, rows)))
    report = ReadReport()
    first, hidden = read_blink(tmp_path / "b.jsonl", report=report)
    assert first.answer == "A" and hidden.answer is None and sum(report.counts.values()) == 1
    with pytest.raises(BadImageError):
        first.load_image()


def test_blink_reads_its_sub_task_and_its_choices(tmp_path: Path) -> None:
    def row(name: str, **more: Any) -> dict[str, Any]:
        return {"idx": name, "image_1": "a.png", "answer": "(A)", "sub_task": "Relative_Depth"} | more

    rows = [
        row("as_published", choices=["A is closer", "B is closer"]),
        row("swapped", choices=["Point B is closer", "Point A is closer"]),
        row("swapped_hidden", choices=["B is closer", "A is closer"], answer="hidden"),
        row("elsewhere", sub_task="Spatial_Relation", choices=["yes", "no"]),
        row("yes_or_no", choices=["yes", "no"]),
        row("twice", choices=["A is closer", "A is closer"]),
        row("four", choices=["A is closer", "B is closer", "both", "none"]),
        row("odd", choices="A is closer"),
    ]
    (tmp_path / "b.jsonl").write_text("\n".join(map(json.dumps, rows)))
    report = ReadReport()
    items = {item.item_id: item.answer for item in read_blink(tmp_path / "b.jsonl", report=report)}
    assert items == {"as_published": "A", "swapped": "B", "swapped_hidden": None}
    assert report.counts["item of another sub-task than Relative_Depth"] == 1
    assert report.counts["item whose choices are not that A or that B is closer"] == 4


def test_a_row_of_four_options_is_no_pair(tmp_path: Path) -> None:
    coded = base64.b64encode(png()).decode()
    lines = ["index\timage\tquestion\tA\tB\tC\tD\tanswer", f"0\t{coded}\tq\tcup\tdog\tcat\tcow\tA",
             "1\t0\tq\tcup\tdog\t\t\tB"]  # fmt: skip
    (tmp_path / "x.tsv").write_text("\n".join(lines))
    report = ReadReport()
    (item,) = read_vlmeval_tsv(tmp_path / "x.tsv", report)
    assert (item.item_id, item.answer) == ("1", "B")  # whose image the row that is left out has
    assert report.counts["row of more than two options"] == 1


def test_vlmeval_tsv_shares_images(tmp_path: Path) -> None:
    coded = base64.b64encode(png()).decode()
    lines = ["index\timage\tquestion\tA\tB\tanswer", f"0\t{coded}\tcloser?\tcup\tdog\tA", "1\t0\tcloser?\tcup\tdog\tB",
             "2\t17\tcloser?\tcup\tdog\tB", "3\t!!\tq\ta\tb\tA", "4\t0\tq\ta\tb\tC"]  # fmt: skip
    (tmp_path / "x.tsv").write_text("\n".join(lines))
    report = ReadReport()
    one, two = read_vlmeval_tsv(tmp_path / "x.tsv", report)
    assert one.image == two.image and (one.answer, two.answer) == ("A", "B") and one.names == ("cup", "dog")
    assert one.load_image().shape == (48, 64, 3) and sum(report.counts.values()) == 3
    (tmp_path / "x.tsv").write_text("index\timage\tquestion\tanswer\n")
    with pytest.raises(BadDatasetError, match="no column A, B"):
        next(read_vlmeval_tsv(tmp_path / "x.tsv"))


@pytest.mark.parametrize(
    "text, found", [("(A)", "A"), ("B", "B"), (" (B) ", "B"), ("A.", "A"), ("C", None), ("AB", None), (3, None)]
)
def test_letters(text: Any, found: str | None) -> None:
    assert letter(text) == found


# -------------------------------------------------------------------- shared
@given(st.lists(st.one_of(st.floats(), st.integers(-100, 200), st.none(), st.text(max_size=2)), min_size=4, max_size=4))
def test_a_clipped_box_is_inside_or_none(xywh: list[Any]) -> None:
    found = clipped_box(xywh, (100, 80))
    if found is not None:
        assert 0 <= found.x1 < found.x2 <= 100 and 0 <= found.y1 < found.y2 <= 80


def test_a_report_names_the_first_few() -> None:
    report = ReadReport()
    for i in range(10):
        report.add("bad", i)
    assert len(report.examples["bad"]) == MAX_EXAMPLES and report.lines() == ["10 x bad: 0, 1, 2, …"]
