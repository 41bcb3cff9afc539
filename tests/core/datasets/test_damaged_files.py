"""Files of another kind than expected, and files that are damaged in one place: what came is said, the rest is read."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from proxqa_core.datasets.benchmarks import read_blink, read_cv_bench, read_da2k, read_points, read_vlmeval_tsv
from proxqa_core.datasets.coco import CocoInstances
from proxqa_core.datasets.folder import BadDatasetError, LabelledFolder
from proxqa_core.datasets.folder_records import FolderRecords
from proxqa_core.datasets.gqa import GqaSceneGraphs, read_questions
from proxqa_core.datasets.json_stream import MOST_DIGITS, stream_list, stream_object
from proxqa_core.datasets.llava import BEGUN_BY_GPT, read_samples
from proxqa_core.datasets.published import read_items
from proxqa_core.datasets.reading import ReadReport
from proxqa_core.datasets.visual_genome import VisualGenome

LONG = 10**399
COCO = {
    "images": [{"id": i, "file_name": f"{i}.jpg", "width": 100, "height": 80} for i in (1, 2)],
    "annotations": [{"id": i, "image_id": i, "category_id": 7, "bbox": [1, 2, 30.5, 40]} for i in (1, 2)],
    "categories": [{"id": 7, "name": "cup"}],
}
READERS: dict[str, Callable[[Path], Iterable[Any]]] = {
    "coco": lambda p: CocoInstances(p, p.parent),
    "vg": lambda p: VisualGenome(p, p.parent),
    "vg sizes": lambda p: VisualGenome(written(p.parent / "o.json", []), p.parent, p),
    "graphs": lambda p: GqaSceneGraphs(p, p.parent),
    "questions": read_questions,
    "da-2k": read_da2k,
    "llava": read_samples,
    "folder": lambda p: FolderRecords(p.rename(p.parent / "annotations.json").parent),
    "cv-bench": read_cv_bench,
    "blink": read_blink,
    "points": read_points,
}


def written(path: Path, value: Any) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


# -------------------------------------------------------------------- another kind of file
@pytest.mark.parametrize(
    "reader, came, what",
    [
        ("coco", [COCO], "is a list; expected a COCO instances file with"),
        ("coco", "3", "is a single value; expected a COCO"),
        ("coco", COCO | {"images": {"1": {}}}, "images is an object; expected a list"),
        ("coco", COCO | {"annotations": "none"}, "annotations is a text; expected a list"),
        ("vg", {"1": {"objects": []}}, "is an object; expected Visual Genome's list of images"),
        ("vg sizes", {"1": {}}, "is an object; expected Visual Genome's list of images, with image_id, width"),
        ("graphs", [{"width": 3}], "is a list; expected GQA's object of scene graphs"),
        ("questions", [{"imageId": "3"}], "is a list; expected GQA's object of questions"),
        ("da-2k", [{"point1": [1, 2]}], "is a list; expected DA-2K's object of pairs"),
        ("llava", {"id": 3}, "is an object; expected LLaVA's list of samples, or JSON lines"),
        ("llava", '"text"', "is a text; expected LLaVA's list"),
        ("folder", {"image": "a"}, "is an object; expected a list of records"),
        ("cv-bench", [{"idx": 1}], "is a list; expected JSON lines"),
        ("blink", '"x"', "is a text; expected JSON lines"),
        ("blink", "<html>", "line 1 is no JSON object; expected JSON lines"),
        ("points", '{"id": "a", "A": [1, 2], "B": [3, 4]}\n[]', "line 2 is no JSON object"),
    ],
)
def test_a_file_of_another_kind_is_one_line(tmp_path: Path, reader: str, came: Any, what: str) -> None:
    with pytest.raises(BadDatasetError) as error:
        list(READERS[reader](written(tmp_path / "a.json", came)))
    assert f".json: {what}" in str(error.value) and "\n" not in str(error.value)


# -------------------------------------------------------------------- byte-order marks
@pytest.mark.parametrize("name", ["a.json", "a.json.gz"])
def test_a_byte_order_mark_is_passed_over(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    samples = [{"id": "a", "conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "ho"}]}]

    def put(value: Any) -> Path:
        content = b"\xef\xbb\xbf" + json.dumps(value).encode()
        path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
        return path

    assert [len(r.objects) for r in CocoInstances(put(COCO), tmp_path)] == [1, 1]
    assert len(list(read_samples(put(samples)))) == 1
    assert len(list(stream_object(put(COCO)))) == 3
    (tmp_path / "annotations.json").write_bytes(b"\xef\xbb\xbf[]")
    assert len(LabelledFolder(tmp_path)) == 0
    lines = tmp_path / "a.jsonl"
    lines.write_bytes(b"\xef\xbb\xbf" + b"\n".join(json.dumps(s).encode() for s in samples))
    assert len(list(read_samples(lines))) == 1
    lines.write_bytes(b'\xef\xbb\xbf{"id": "a", "A": [1, 2], "B": [3, 4]}\n')
    assert read_points(lines) == {"a": ((1, 2), (3, 4))}


# -------------------------------------------------------------------- numbers that are none
def test_a_number_of_400_digits_costs_its_own_record(tmp_path: Path) -> None:
    images = [*COCO["images"], {"id": LONG, "file_name": "l.jpg", "width": 9, "height": 9}]
    boxes = [[LONG, 2, 3, 4], [1, 2, 30, 40], [1, 2, 3, 4]]
    keys = [1, 2, LONG]
    rows = [{"id": i, "image_id": k, "category_id": 7, "bbox": b} for i, (k, b) in enumerate(zip(keys, boxes))]  # noqa: B905
    data = CocoInstances(written(tmp_path / "a.json", COCO | {"images": images, "annotations": rows}), tmp_path)
    assert [[o.box.xyxy for o in r.objects] for r in data] == [[], [(1, 2, 31, 42)]]
    assert data.report.counts == {
        "image without id, file_name, width, height": 1,
        "annotation without bbox": 1,
        "annotation of an image that is not listed": 1,
    }
    things = [
        {"names": ["cup"], "x": LONG, "y": 1, "w": 5, "h": 5},
        {"names": ["dog"], "x": 1, "y": 1, "w": 5.5, "h": 5},
    ]
    sizes = written(tmp_path / "sizes.json", [{"image_id": 1, "width": LONG, "height": 2}, {"image_id": 2, "width": 9,
                                              "height": 9}])  # fmt: skip
    objects = written(tmp_path / "o.json", [{"image_id": i, "objects": things} for i in (1, LONG, 2)])
    genome = VisualGenome(objects, tmp_path, sizes)
    (record,) = genome
    assert [(o.name, o.box.xyxy) for o in record.objects] == [("dog", (1, 1, 6.5, 6))]
    assert genome.report.counts["entry of image_data without image_id, width and height"] == 1
    pairs = [{"point1": [LONG, 2], "point2": [3, 4], "closer_point": "point1"},
             {"point1": [1, 2], "point2": [3, 4], "closer_point": "point1"}]  # fmt: skip
    assert len(list(read_da2k(written(tmp_path / "d.json", {"a.jpg": pairs})))) == 1


@pytest.mark.parametrize("number", [str(LONG), "1e999", "9" * 400 + ".5", "-" + "9" * 30])
def test_what_comes_behind_a_number_that_no_machine_holds_is_read_once(tmp_path: Path, number: str) -> None:
    path = written(tmp_path / "a.json", f'[{{"a": 1.5}}, 2, {{"a": [{number}]}}, {{"a": 3.5, "b": [1, null, "x"]}}]')
    first, second, beyond, last = stream_list(path)
    assert (first, second, last) == ({"a": 1.5}, 2, {"a": 3.5, "b": [1, None, "x"]})
    assert isinstance(last["a"], float) and isinstance(beyond["a"][0], float) and abs(beyond["a"][0]) > 1e29
    inside = written(tmp_path / "o.json", f'{{"x": 1, "y": {number}, "z": 2}}')
    assert [key for key, _ in stream_object(inside)] == ["x", "y", "z"]


@pytest.mark.parametrize("before", [0, 65_530 - MOST_DIGITS])  # across two reads of the file
def test_a_number_of_a_thousand_digits_and_more_is_one_line(tmp_path: Path, before: int) -> None:
    text = f'{{"images": [{{"id": "{"x" * before}", "w": {"7" * 1500}}}]}}'
    with pytest.raises(BadDatasetError, match=r"a\.json: holds a number of more than 1000 digits"):
        CocoInstances(written(tmp_path / "a.json", text), tmp_path)


def test_numbers_of_400_digits_in_lines(tmp_path: Path) -> None:
    row = {"idx": 1, "task": "Depth", "choices": ["cup", "dog"], "answer": "(A)", "filename": "a.png",
           "bbox": [[LONG, 2, 3, 4], [5, 6, 7, 8]]}  # fmt: skip
    (item,) = read_cv_bench(written(tmp_path / "a.jsonl", row))
    assert item.boxes is None and item.names == ("cup", "dog")
    report = ReadReport()
    line = {"id": "a", "task": "depth", "image": "a.png", "name": "cup", "box": [LONG, 2, 3, 4], "depth": 0.5}
    assert not list(read_items(written(tmp_path / "items.jsonl", line), report=report)) and len(report.counts) == 1
    label = {"image": "a.png", "width": LONG, "height": 9, "objects": []}
    records = FolderRecords(written(tmp_path / "annotations.json", [label]).parent)
    assert not list(records) and "finite number" in records.report.lines()[0]
    with pytest.raises(BadDatasetError, match="a finite number"):
        list(LabelledFolder(tmp_path))


def test_what_is_nested_thousands_deep_is_counted(tmp_path: Path) -> None:
    deep = "[" * 3000 + "]" * 3000
    for extra in ("", f", {LONG}"):
        data = VisualGenome(written(tmp_path / "o.json", f"[{deep}{extra}]"), tmp_path)
        assert not list(data) and data.report.counts["record without image_id and objects"] == 1 + bool(extra)


# -------------------------------------------------------------------- lines
def test_a_damaged_line_costs_itself(tmp_path: Path) -> None:
    good = json.dumps({"idx": 1, "image_1": "a.png", "answer": "(A)"}).encode()
    path = tmp_path / "b.jsonl"
    path.write_bytes(b"\n".join([b"", good, b'{"idx": 2', b"\xff\xfe", b"[3]", b"[" * 9000, good]))
    report = ReadReport()
    assert len(list(read_blink(path, report=report))) == 2
    assert report.lines() == ["4 x line that is no JSON object: line 3, line 4, line 5, …"]


PICTURE = base64.b64encode(b"x" * 90).decode()
HEADER = "index\timage\tquestion\tA\tB\tanswer"


def tsv(path: Path, rows: list[str], header: str = HEADER) -> tuple[list[str], dict[str, list[str]]]:
    """The indices that are read of a TSV, and what is reported."""
    path.write_bytes("\n".join([header, *rows, ""]).encode("utf-8", "surrogateescape"))
    report = ReadReport()
    return [item.item_id for item in read_vlmeval_tsv(path, report)], report.examples


def row(index: int, question: str = "closer?", answer: str = "A") -> str:
    return f"{index}\t{PICTURE}\t{question}\tcup\tdog\t{answer}"


@pytest.mark.parametrize("opened", ['"Which', '"', '"a ""b"" c', '"Which\nis it'])
@pytest.mark.parametrize("later", ["closer?", '"closer?"', 'the "cup"', '"the ""cup"" or"', '"'])
def test_a_quote_that_is_not_closed_swallows_no_other_row(tmp_path: Path, opened: str, later: str) -> None:
    found, told = tsv(tmp_path / "x.tsv", [row(0), row(1, opened), row(2, later), row(3), row(4)])
    assert found == (["0", "3", "4"] if later == '"' else ["0", "2", "3", "4"])
    assert "line 3" in told["row with a quote that is not closed"]


def test_quotes_that_are_right_are_read_as_ever(tmp_path: Path) -> None:
    rows = [row(0, '"which\nof\tthese?"'), row(1, '"say ""cup"""'), row(2, '"cup" or dog'), row(3, 'a "b'), row(4)]
    found, told = tsv(tmp_path / "x.tsv", rows)
    assert (found, told) == (["0", "1", "2", "3", "4"], {})
    questions = [item.question for item in read_vlmeval_tsv(tmp_path / "x.tsv")]
    assert questions == ["which\nof\tthese?", 'say "cup"', '"cup" or dog', 'a "b', "closer?"]
    assert tsv(tmp_path / "y.tsv", [row(0, answer='"A'), row(1)])[0] == ["1"]  # in the last cell too


def test_rows_that_are_no_text_or_too_long_are_named(tmp_path: Path) -> None:
    rows = [row(0), row(1, "\udcff\udcfe"), row(2, "a\x00b"), row(3) + "\tmore", row(4) + "\t", "5", "", row(6, "a\rb")]
    found, told = tsv(tmp_path / "x.tsv", rows)
    assert found == ["0", "4", "6"]
    assert told == {
        "row that is no text (no UTF-8, or a NUL)": ["line 3", "line 4"],
        "row of more cells than there are columns": ["line 5"],
        "row without image and answer A or B": ["row 5"],
    }
    with pytest.raises(BadDatasetError, match="has no column A, B"):
        tsv(tmp_path / "x.tsv", [], "index\timage\tquestion\tanswer")
    with pytest.raises(BadDatasetError, match="has no column A, B, answer, image, index, question"):
        tsv(tmp_path / "x.tsv", [], "\udcff")
    assert tsv(tmp_path / "x.tsv", [row(7)], "\ufeff" + HEADER)[0] == ["7"]


# -------------------------------------------------------------------- LLaVA
def test_a_conversation_that_gpt_begins_is_kept_from_the_human_on(tmp_path: Path) -> None:
    def said(*speakers: str) -> dict[str, Any]:
        return {"id": "a", "image": "1.jpg", "conversations": [{"from": s, "value": f"{i} {s}"} for i, s in
                                                              enumerate(speakers)]}  # fmt: skip

    samples = [said("gpt", "human", "gpt"), said("human", "gpt"), said("gpt", "human"), said("gpt"), said("gpt", "gpt")]
    report = ReadReport()
    found = list(read_samples(written(tmp_path / "a.json", samples), report))
    assert [[t.text for t in c.turns] for _, c in found] == [
        ["<image>\n1 human", "2 gpt"],
        ["<image>\n0 human", "1 gpt"],
    ]
    assert [len(raw["conversations"]) for raw, _ in found] == [2, 2]  # what is counted and written on is what is read
    assert report.counts[BEGUN_BY_GPT] == 1 and sum(report.counts.values()) == 4
