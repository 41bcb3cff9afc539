"""A benchmark as files for others: items, a TSV for VLMEvalKit, a task folder for lmms-eval.

Promises: the same benchmark gives the same bytes. What a model sees there is what `proxqa compare` shows: asked by box,
A is marked red and B blue; asked by name, nothing is marked. Whatever would be misread by those programs' own readers
(an option called "None", a short image) is written so that it is not.

Sources: VLMEvalKit, Duan et al. 2024, reads `$LMUData/NAME.tsv` (columns index, image, question, A, B, answer,
category; a table with both A and B is multiple choice, any other free questions); lmms-eval, Zhang et al. 2024, reads a
folder with a YAML by `--include_path`.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from proxqa_core.comparison.marking import jpeg_bytes, marked
from proxqa_core.comparison.questions import INSTRUCTION, question_and_choices
from proxqa_core.comparison.scores import is_counter_heuristic
from proxqa_core.datasets.benchmarks import SHORTEST_IMAGE, HowDeep, Item, WhichCloser
from proxqa_core.datasets.published import DESCRIPTION, ITEMS, write_items
from proxqa_core.errors import BadImageError
from proxqa_core.evaluation import lmms_task
from proxqa_core.evaluation.benchmarks import Benchmark
from proxqa_core.evaluation.conversions import BadConversionError
from proxqa_core.files import atomic_write, write_text

IMAGES, TSV_FOLDER, TASK_FOLDER = "images", "vlmevalkit", "lmms_eval"
NUMBER_INSTRUCTION = "Answer with one number between 0.00 and 1.00."
MISSING = frozenset(
    ("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
     "NULL", "NaN", "None", "n/a", "nan", "null")
)  # fmt: skip
"""Cells that pandas, with which VLMEvalKit reads, takes for empty: an option of that name would vanish."""
_EXIF_ORIENTATION = 0x0112


@dataclass(frozen=True)
class Exported:
    """What was written. items, questions: how many. without_picture: why some items are no questions, how many."""

    items: int
    questions: int
    without_picture: dict[str, int]


@dataclass(frozen=True)
class _Question:
    """One item as other programs ask it. choices: () = a number is asked for. picture: a file's bytes."""

    item: Item
    text: str
    choices: tuple[str, ...]
    answer: str
    picture: bytes

    @property
    def picture_name(self) -> str:
        suffix = ".png" if self.picture.startswith(b"\x89PNG") else ".jpg"
        return f"{IMAGES}/{hashlib.sha256(self.picture).hexdigest()[:16]}{suffix}"


def export(benchmark: Benchmark, folder: Path, prompt: str) -> Exported:
    """Write a benchmark into a folder.

    Args:
        benchmark: The items.
        folder: Made where it is missing; files of an earlier export are replaced.
        prompt: "box" marks boxes in the pictures, "name" does not.

    Raises:
        BadConversionError: The items are of two kinds, which are scored apart.
        BadImageError: No image can be used.
        OSError: It cannot be written.
    """
    if len({type(item) for item in benchmark.items}) > 1:
        raise BadConversionError("the items ask for depths and for which is closer; export one kind at a time")
    name = task_name(benchmark.kind)
    folder.mkdir(parents=True, exist_ok=True)
    items, images = _with_files(benchmark, folder)
    count = write_items(folder / ITEMS, items, images)
    write_text(folder / DESCRIPTION, json.dumps(benchmark.description | {"prompt": prompt}, indent=1) + "\n")
    task = folder / TASK_FOLDER / name
    shutil.rmtree(task, ignore_errors=True)
    (task / IMAGES).mkdir(parents=True)
    left_out: dict[str, int] = {}
    questions = 0
    # each question is made once and written twice, a picture at a time
    with (
        atomic_write(folder / TSV_FOLDER / f"{name}.tsv") as tsv,
        tsv.open("w", encoding="utf-8", newline="") as table,
        (task / ITEMS).open("w", encoding="utf-8") as lines,
    ):
        rows = _Table(table, benchmark.kind)
        for question in _questions(items, prompt, left_out):
            rows.add(question)
            lines.write(json.dumps(_document(question), ensure_ascii=False) + "\n")
            (task / question.picture_name).write_bytes(question.picture)
            questions += 1
    if not questions:
        raise BadImageError(f"none of {count} items can be shown, the first: {next(iter(left_out), '')}")
    _write_task(task, name, items)
    return Exported(count, questions, left_out)


def task_name(kind: str) -> str:
    """What VLMEvalKit and lmms-eval call it, such as proxqa_gqa_depth."""
    return f"proxqa_{kind.replace('-', '_')}"


def _with_files(benchmark: Benchmark, folder: Path) -> tuple[list[Item], Path]:
    """Items whose images are files, and the folder that these are named in."""
    if not any(isinstance(item.image, bytes) for item in benchmark.items):
        return list(benchmark.items), benchmark.images
    kept = folder / "source_images"
    kept.mkdir(exist_ok=True)
    return [_with_file(item, kept) for item in benchmark.items], folder


def _with_file(item: Item, folder: Path) -> Item:
    if not isinstance(item.image, bytes):
        return item
    suffix = ".png" if item.image.startswith(b"\x89PNG") else ".jpg"
    path = folder / f"{hashlib.sha256(item.image).hexdigest()[:16]}{suffix}"
    path.write_bytes(item.image)
    return replace(item, image=path)


# -- questions --------------------------------------------------------------------------------------------------------


def _questions(items: list[Item], prompt: str, left_out: dict[str, int]) -> Iterator[_Question]:
    for item in items:
        try:
            yield _depth_question(item) if isinstance(item, HowDeep) else _closer_question(item, prompt == "box")
        except BadImageError as error:
            reason = f"image that cannot be used: {str(error)[:120]}"
            left_out[reason] = left_out.get(reason, 0) + 1
        except _NoAnswerError:
            left_out["no answer known"] = left_out.get("no answer known", 0) + 1


class _NoAnswerError(Exception):
    """The item does not say which one is closer."""


def _closer_question(item: WhichCloser, marks: bool) -> _Question:
    if item.answer is None:
        raise _NoAnswerError
    drawn = item.points is not None or (marks and item.boxes is not None)
    text, a, b = question_and_choices(item, marks=marks)
    picture = jpeg_bytes(marked(item)) if drawn else _file_bytes(item)
    return _Question(item, text, (a, b), item.answer, picture)


def _depth_question(item: HowDeep) -> _Question:
    text = (
        f"How far away is the {item.name} in this image, on a scale from 0.00 (the nearest that is in view) to 1.00 "
        "(the farthest)?"
    )
    return _Question(item, text, (), f"{item.depth:.2f}", _file_bytes(item))


def _file_bytes(item: Item) -> bytes:
    """The image as a file that every reader shows upright: its own bytes where they do, else a JPEG.

    Raises:
        BadImageError: The image is missing or damaged.
    """
    image: NDArray[np.uint8] = item.load_image()
    raw = item.image if isinstance(item.image, bytes) else item.image.read_bytes()
    try:
        with Image.open(io.BytesIO(raw)) as file:
            upright = file.getexif().get(_EXIF_ORIENTATION, 1) == 1
            plain = file.format in ("JPEG", "PNG") and file.mode in ("RGB", "L")
    except (OSError, UnidentifiedImageError, ValueError):
        upright = plain = False
    return raw if upright and plain else jpeg_bytes(image)


# -- VLMEvalKit -------------------------------------------------------------------------------------------------------


class _Table:
    """Rows of a TSV for VLMEvalKit. file: to write to. category: of every row."""

    def __init__(self, file: Any, category: str) -> None:
        self._writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        self._category, self._rows = category, 0
        self._row_of_picture: dict[bytes, int] = {}
        self._started = False

    def add(self, question: _Question) -> None:
        """One row; a picture that an earlier row has is named by that row's index."""
        if not self._started:
            choices = ["A", "B"] if question.choices else []
            self._writer.writerow(["index", "image", "question", *choices, "answer", "category"])
            self._started = True
        digest = hashlib.sha256(question.picture).digest()
        earlier = self._row_of_picture.setdefault(digest, self._rows)
        coded = base64.b64encode(question.picture).decode()
        assert len(coded) > SHORTEST_IMAGE  # no picture is that small
        image = coded if earlier == self._rows else str(earlier)
        text = question.text if question.choices else f"{question.text} {NUMBER_INSTRUCTION}"
        cells = [_cell(choice) for choice in question.choices]
        self._writer.writerow([self._rows, image, text, *cells, question.answer, self._category])
        self._rows += 1


def _cell(text: str) -> str:
    return f"the {text}" if text in MISSING else text


# -- lmms-eval --------------------------------------------------------------------------------------------------------


def _document(question: _Question) -> dict[str, Any]:
    """A line of the task's data."""
    item = question.item
    document = {"id": item.item_id, "image": question.picture_name, "answer": question.answer}
    if isinstance(item, HowDeep):
        return document | {"question": f"{question.text}\n{NUMBER_INSTRUCTION}"}
    a, b = question.choices
    text = f"{question.text}\n(A) {a}\n(B) {b}\n{INSTRUCTION}"
    return document | {"question": text, "counter_heuristic": is_counter_heuristic(item)}


def _write_task(task: Path, name: str, items: list[Item]) -> None:
    """The YAML and its functions beside the data."""
    depth = isinstance(items[0], HowDeep)
    shutil.copyfile(Path(lmms_task.__file__), task / "utils.py")
    metrics = {"mae": False, "parsed": True} if depth else {"accuracy": True, "counter_heuristic_accuracy": True}
    config = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": ITEMS}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_visual": _Function("utils.doc_to_visual"),
        "doc_to_text": _Function("utils.doc_to_text"),
        "doc_to_target": "answer",
        "process_results": _Function(f"utils.{'depth' if depth else 'closer'}_results"),
        "metric_list": [
            {"metric": metric, "aggregation": "mean", "higher_is_better": higher} for metric, higher in metrics.items()
        ],
        "generation_kwargs": {"max_new_tokens": 32, "temperature": 0, "do_sample": False},
        "metadata": {"version": 1.0},
    }
    write_text(task / f"{name}.yaml", yaml.dump(config, Dumper=_Dumper, sort_keys=False))


class _Function(str):
    """The name of a function, which lmms-eval looks up in a file beside the YAML."""


class _Dumper(yaml.SafeDumper):
    """Writes names of functions with lmms-eval's tag."""


def _represent_function(dumper: yaml.SafeDumper, name: _Function) -> yaml.ScalarNode:
    return dumper.represent_scalar("!function", str(name))


_Dumper.add_representer(_Function, _represent_function)
