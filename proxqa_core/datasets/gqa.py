"""GQA: scene graphs (objects with boxes, attributes) and questions, both read as streams.

Promises: one image's graph is in memory at a time; boxes that leave the image are cut, those without area counted. Left
and right in the data are the viewer's.

Source: GQA, Hudson and Manning 2019; the formats as documented with the data set.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxqa_core.datasets.folder import Record
from proxqa_core.datasets.json_stream import stream_object
from proxqa_core.datasets.reading import ReadReport, clipped_box, is_inside, size_of, usable_name, with_refs
from proxqa_core.language.referring import TERMS
from proxqa_core.types import Box

SOURCE = "gqa"
GRAPHS = "GQA's object of scene graphs by the id of their image"
QUESTIONS = "GQA's object of questions by their id"


class GqaSceneGraphs:
    """The images of a scene-graph file with their named boxes, in the file's order.

    Args:
        scene_graphs: Such as ``val_sceneGraphs.json``.
        images: Folder with the images, ``ID.jpg``.
    """

    def __init__(self, scene_graphs: Path, images: Path) -> None:
        self.scene_graphs, self.images = Path(scene_graphs), Path(images)
        self.report = ReadReport()

    def __iter__(self) -> Iterator[Record]:
        self.report = ReadReport()
        for key, raw in stream_object(self.scene_graphs, GRAPHS):
            size = size_of(raw)
            if not size or Path(key).name != key or not is_inside(key):
                self.report.add("image without a usable id, width and height", key)
                continue
            objects = raw.get("objects")
            things = self._things(objects if isinstance(objects, dict) else {}, key, size)
            yield Record(self.images, f"{key}.jpg", *size, with_refs(things), source=SOURCE)

    def _things(self, raws: dict[str, Any], key: str, size: tuple[int, int]) -> list[tuple[str, Box, str]]:
        things = []
        for number, raw in raws.items():
            name = usable_name(raw.get("name")) if isinstance(raw, dict) else None
            box = None if name is None else clipped_box([raw.get(k) for k in ("x", "y", "w", "h")], size)
            if name is None:
                self.report.add("object without a name", f"object {number} of image {key}")
            elif box is None:
                self.report.add("box without area in the image", f"{name}, object {number} of image {key}")
            else:
                things.append((name, box, _colour_of(raw.get("attributes"))))
        return things


def _colour_of(attributes: Any) -> str:
    """The object's colour where its attributes name exactly one basic colour term, else ''."""
    named = [a for a in attributes if a in TERMS] if isinstance(attributes, list) else []
    return named[0] if len(named) == 1 else ""


@dataclass(frozen=True)
class GqaQuestion:
    """One question of GQA. answer: a word or short phrase; full_answer: a sentence, '' where there is none."""

    question_id: str
    image_id: str
    question: str
    answer: str
    full_answer: str = ""


def read_questions(path: Path, report: ReadReport | None = None) -> Iterator[GqaQuestion]:
    """The questions of a file such as ``val_balanced_questions.json`` one by one.

    Args:
        path: The JSON file.
        report: Counts records that have no question, image or answer.

    Raises:
        BadDatasetError: The file cannot be read.
    """
    for key, raw in stream_object(path, QUESTIONS):
        given = [raw.get(k) for k in ("imageId", "question", "answer")] if isinstance(raw, dict) else []
        values = [v for v in given if isinstance(v, str) and v]
        if len(values) < 3:
            if report is not None:
                report.add("question without imageId, question and answer", f"question {key}")
            continue
        full = raw.get("fullAnswer")
        yield GqaQuestion(key, values[0], values[1], values[2], full if isinstance(full, str) else "")
