"""What benchmarks ask, as items, and the which-closer benchmarks: BLINK, CV-Bench, DA-2K, the TSV of VLMEvalKit.

Promises: every reader yields `WhichCloser` items in the file's order and counts what it cannot read; no answer is
guessed. DA-2K always names the closer point first: its points are shuffled, by a seed and the item alone. A model that
is asked about boxes is asked about a point by the box around it (`box_around`), always the same one.

Sources: BLINK, Fu et al. 2024; CV-Bench, Tong et al. 2024 (Cambrian-1); DA-2K, Yang et al. 2024 (Depth Anything V2);
VLMEvalKit, Duan et al. 2024.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from proxqa_core.datasets.folder import BadDatasetError, is_finite
from proxqa_core.datasets.json_stream import stream_object
from proxqa_core.datasets.reading import ReadReport, is_inside, usable_name
from proxqa_core.datasets.rows import object_rows, tsv_rows
from proxqa_core.errors import BadImageError, BadObjectError
from proxqa_core.types import Box, check_image

Letter = Literal["A", "B"]
SHORTEST_IMAGE = 64
"""VLMEvalKit takes an `image` of at most so many characters for the index of another row, whose image it shares."""
POINT_SHARE = 0.06
"""Side of the box that stands for a point, as a share of the image's shorter side."""
POINT_NAME = "point"
"""What a point is called where a name is needed: what lies under it is not known."""
_LETTER = re.compile(r"\(?([AB])\)?\.?")
BLINK_TASK = "Relative_Depth"
TSV_COLUMNS = {"index", "image", "question", "A", "B", "answer"}
_POINT_CLOSER = re.compile(r"\s*(?:point\s+)?([AB])\s+is\s+closer\b", re.IGNORECASE)


@dataclass(frozen=True)
class WhichCloser:
    """Which of two things in one image is closer.

    Attributes:
        item_id: What the benchmark calls it.
        image: A file, or the bytes of one.
        answer: Which one is closer, None where the file does not say.
        question: As the benchmark asks it, '' where it has no words for it.
        names: What the two are called, '' where they are points.
        boxes: Pixels, or None where there are none.
        points: (x, y) in pixels, or None where there are none.
        gap: By how much their depths differ, in [0, 1]; NaN = not known.
        depths: True relative depths of the two, in [0, 1], or None where they are not known.
    """

    item_id: str
    image: Path | bytes
    answer: Letter | None
    question: str = ""
    names: tuple[str, str] = ("", "")
    boxes: tuple[Box, Box] | None = None
    points: tuple[tuple[float, float], tuple[float, float]] | None = None
    gap: float = math.nan
    depths: tuple[float, float] | None = None

    def load_image(self) -> NDArray[np.uint8]:
        """The image, uint8 [height, width, 3], RGB, upright.

        Raises:
            BadImageError: It is missing or damaged.
        """
        return load_image(self.image, self.item_id)

    def regions(self, width: int, height: int) -> tuple[Box, Box] | None:
        """Where the two are in an image of width x height pixels: boxes, or those around points; None = not known."""
        if self.boxes is not None or self.points is None:
            return self.boxes
        first, second = (box_around(p, width, height) for p in self.points)
        return first, second


@dataclass(frozen=True)
class HowDeep:
    """How far away one thing in an image is, relative to everything in view.

    Attributes:
        item_id: What the benchmark calls it.
        image: A file, or the bytes of one.
        name: What the thing is called.
        box: Pixels.
        depth: True relative depth, in [0, 1].
    """

    item_id: str
    image: Path | bytes
    name: str
    box: Box
    depth: float

    def load_image(self) -> NDArray[np.uint8]:
        """See `WhichCloser.load_image`."""
        return load_image(self.image, self.item_id)


Item = WhichCloser | HowDeep
AnyItem = TypeVar("AnyItem", WhichCloser, HowDeep, Item)


def unique_items(items: Iterable[AnyItem], report: ReadReport | None = None) -> Iterator[AnyItem]:
    """Items without those whose id an earlier one has: answers are kept and scored by id. report: counts the others."""
    seen: set[str] = set()
    for item in items:
        if item.item_id not in seen:
            seen.add(item.item_id)
            yield item
        elif report is not None:
            report.add("item whose id an earlier one has", item.item_id)


def load_image(source: Path | bytes, item_id: str) -> NDArray[np.uint8]:
    """The image of an item, uint8 [height, width, 3], RGB, upright.

    Raises:
        BadImageError: It is missing or damaged.
    """
    from PIL import Image, ImageOps

    from proxqa_core.vision.image_file import read_image

    if isinstance(source, Path):
        return read_image(source)
    try:
        with Image.open(io.BytesIO(source)) as file:
            image = np.asarray(ImageOps.exif_transpose(file).convert("RGB"))
    except Exception as error:  # Pillow raises whatever a damaged file leads it into
        raise BadImageError(f"image of item {item_id!r} cannot be read: {type(error).__name__}") from error
    check_image(image)
    return image


def box_around(point: tuple[float, float], width: int, height: int) -> Box:
    """The box that stands for a point (x, y), pixels, inside an image of width x height.

    In eighths of a pixel, so that no box of one image is larger than another by a rounding.
    """
    half = max(2.0, _eighths(POINT_SHARE * min(width, height) / 2))
    x, y = (min(max(_eighths(v), half), size - half) for v, size in zip(point, (width, height), strict=True))
    return Box(x - half, y - half, x + half, y + half)


def _eighths(value: float) -> float:
    return round(value * 8) / 8


def read_da2k(annotations: Path, seed: int = 0, report: ReadReport | None = None) -> Iterator[WhichCloser]:
    """DA-2K's pairs of points, from ``annotations.json``; images lie beside it as its keys say.

    Raises:
        BadDatasetError: The file cannot be read.
    """
    for name, raws in stream_object(annotations, "DA-2K's object of pairs of points by image"):
        for number, raw in enumerate(raws if isinstance(raws, list) else [raws]):
            item_id = f"{name}#{number}"
            item = _da2k_item(annotations.parent, name, raw, item_id, seed)
            if item is not None:
                yield item
            elif report is not None:
                report.add("pair without two points and the closer one of them", item_id)


def _da2k_item(folder: Path, name: str, raw: Any, item_id: str, seed: int) -> WhichCloser | None:
    points = [_point(raw.get(key)) for key in ("point1", "point2")] if isinstance(raw, dict) else [None]
    if None in points or raw.get("closer_point") not in ("point1", "point2") or not is_inside(name):
        return None
    first, second = (p for p in points if p is not None)
    answer: Letter = "A" if raw["closer_point"] == "point1" else "B"
    if coin(f"{seed}/{item_id}"):
        first, second, answer = second, first, "B" if answer == "A" else "A"
    return WhichCloser(item_id, folder / name, answer, points=(first, second))


def _point(raw: Any) -> tuple[float, float] | None:
    """(x, y) of a point that is written [row, column]."""
    pair = _finite_pair(raw)
    return None if pair is None else (pair[1], pair[0])


def coin(text: str) -> bool:
    """True for half of all texts, always the same ones: which thing is named first hangs on this alone."""
    return bool(hashlib.sha256(text.encode()).digest()[0] & 1)


def read_cv_bench(path: Path, images: Path | None = None, report: ReadReport | None = None) -> Iterator[WhichCloser]:
    """CV-Bench's depth items: two named objects, in a red and a blue box.

    Args:
        path: ``test_3d.jsonl`` or ``test_3d.parquet`` of CV-Bench; items of other tasks are passed over.
        images: Folder that ``filename`` is relative to; not needed where the file holds the images.
        report: Counts what cannot be read.

    Raises:
        BadDatasetError: The file cannot be read.
        ProxqaError: It is a parquet file and pyarrow is not installed.
    """
    for number, raw in enumerate(object_rows(path, report or ReadReport())):
        if raw.get("task") != "Depth":
            continue
        answer, image = letter(raw.get("answer")), _image_of(raw, images or path.parent, "image", "filename")
        names, boxes = _two_names(raw.get("choices")), _two_boxes(raw.get("bbox"))
        if answer is None or image is None or names is None:
            if report is not None:
                report.add("item without image, two choices and an answer", f"item {raw.get('idx', number)}")
            continue
        question = raw.get("question") or ""
        yield WhichCloser(str(raw.get("idx", number)), image, answer, str(question), names, boxes)


def read_blink(path: Path, images: Path | None = None, report: ReadReport | None = None) -> Iterator[WhichCloser]:
    """BLINK's Relative_Depth items: points A and B are drawn into the image, nothing is named.

    Items of another sub-task, and those whose choices are others than that A or B is closer, are counted and left out.
    Arguments and errors are those of `read_cv_bench`.
    """
    for number, raw in enumerate(object_rows(path, report or ReadReport())):
        answer, image = letter(raw.get("answer")), _image_of(raw, images or path.parent, "image_1", "image")
        item_id = str(raw.get("idx", number))
        reason = _not_relative_depth(raw)
        if not reason and (image is None or (answer is None and "hidden" not in str(raw.get("answer")))):
            reason = "item without image and answer"
        if reason or image is None:
            if report is not None:
                report.add(reason, item_id)
            continue
        if answer is not None and _points_of_choices(raw) == ["B", "A"]:  # the answer is the place of a choice
            answer = "B" if answer == "A" else "A"
        # `prompt` is the question with its choices, which are written anew
        yield WhichCloser(item_id, image, answer, str(raw.get("question") or ""))


def _not_relative_depth(raw: dict[str, Any]) -> str:
    """Why a row of BLINK is no item of its Relative_Depth; '' where it is one, or does not say."""
    if raw.get("sub_task") not in (None, "", BLINK_TASK):
        return f"item of another sub-task than {BLINK_TASK}"
    if raw.get("choices") is not None and _points_of_choices(raw) not in (["A", "B"], ["B", "A"]):
        return "item whose choices are not that A or that B is closer"
    return ""


def _points_of_choices(raw: dict[str, Any]) -> list[str]:
    """The points that the choices of a row of BLINK name, in order; [] where it lists none."""
    choices = raw.get("choices")
    if not isinstance(choices, list):
        return []
    found = [_POINT_CLOSER.match(choice) if isinstance(choice, str) else None for choice in choices]
    return ["" if match is None else match.group(1) for match in found]


def read_points(path: Path) -> dict[str, tuple[tuple[float, float], tuple[float, float]]]:
    """Where points A and B are, by item: JSON lines of ``{"id": "…", "A": [x, y], "B": [x, y]}``, pixels.

    BLINK draws its points into the image and does not say where they are.

    Raises:
        BadDatasetError: The file cannot be read, or a line is something else.
    """
    found = {}
    for number, raw in enumerate(object_rows(path)):
        first, second = (_finite_pair(raw.get(key)) for key in "AB")
        if not isinstance(raw.get("id"), str | int) or first is None or second is None:
            raise BadDatasetError(
                f'{path}: entry {number} is {str(raw)[:60]}; expected {{"id": "…", "A": [x, y], "B": [x, y]}} in pixels'
            )
        found[str(raw["id"])] = (first, second)
    if not found:
        raise BadDatasetError(f'{path}: holds no line of {{"id": "…", "A": [x, y], "B": [x, y]}}')
    return found


def with_points(
    items: Iterator[WhichCloser], points: dict[str, tuple[tuple[float, float], tuple[float, float]]]
) -> Iterator[WhichCloser]:
    """Items with the points that a file of its own gives (`read_points`), where it does."""
    for item in items:
        yield replace(item, points=points.get(item.item_id, item.points))


def _finite_pair(raw: Any) -> tuple[float, float] | None:
    if not isinstance(raw, list) or len(raw) != 2 or not all(map(is_finite, raw)):
        return None
    return float(raw[0]), float(raw[1])


def read_vlmeval_tsv(path: Path, report: ReadReport | None = None) -> Iterator[WhichCloser]:
    """A two-option multiple-choice TSV as VLMEvalKit reads it: columns index, image, question, A, B, answer.

    Rows with a third option, and rows that are damaged, are counted and left out.

    Raises:
        BadDatasetError: The file cannot be read, or lacks one of the columns (without both A and B, VLMEvalKit takes
            the file for free questions).
    """
    images: dict[str, bytes] = {}
    for raw in tsv_rows(path, TSV_COLUMNS, report):
        index, coded = raw["index"], raw["image"]
        image = images.get(coded) if len(coded) <= SHORTEST_IMAGE else _decoded(coded)
        answer = letter(raw["answer"])
        if image is not None:
            images[index] = image
        more = any(raw.get(option, "").strip() for option in "CD")
        if image is None or answer is None or more:
            if report is not None:
                report.add(
                    "row of more than two options" if more else "row without image and answer A or B", f"row {index}"
                )
            continue
        names = (usable_name(raw["A"]) or "", usable_name(raw["B"]) or "")
        yield WhichCloser(index, image, answer, raw["question"], names)


def _decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


def letter(text: Any) -> Letter | None:
    """'(A)', 'A', 'A.' → 'A'; None for anything else."""
    match = _LETTER.fullmatch(text.strip()) if isinstance(text, str) else None
    return None if match is None else "A" if match.group(1) == "A" else "B"


def _image_of(raw: dict[str, Any], folder: Path, *keys: str) -> Path | bytes | None:
    """The image of a row: bytes as Hugging Face data sets embed them, else a file."""
    for key in keys:
        value = raw.get(key)
        if isinstance(value, dict) and isinstance(value.get("bytes"), bytes):
            return value["bytes"]
        if isinstance(value, str) and is_inside(value):
            return folder / value
    return None


def _two_names(raw: Any) -> tuple[str, str] | None:
    names = [usable_name(v) for v in raw] if isinstance(raw, list) else []
    return (names[0], names[1]) if len(names) == 2 and names[0] and names[1] else None


def _two_boxes(raw: Any) -> tuple[Box, Box] | None:
    """Boxes written [[x1, y1, x2, y2], [x1, y1, x2, y2]]; None where they are not."""
    try:
        first, second = raw
        return Box(*(float(v) for v in first)), Box(*(float(v) for v in second))
    except (TypeError, ValueError, OverflowError, BadObjectError):
        return None
