"""`proxqa ask` and `proxqa depths`: one image, one question."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxqa_core.cli import common, tables

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from proxqa_core.types import ObjectDepth, ObjectQuery


def add_commands(commands: common.SubParsers) -> None:
    """Add `ask` and `depths`."""
    ask = common.add_command(commands, "ask", "answer a question about an image")
    ask.add_argument("image", metavar="IMAGE", type=Path)
    ask.add_argument("question", metavar="QUESTION", help="such as 'which is closer, the chair or the table?'")
    _add_object_arguments(ask)
    ask.set_defaults(command=run_ask)

    depths = common.add_command(commands, "depths", "relative depth of named objects")
    depths.add_argument("image", metavar="IMAGE", type=Path)
    _add_object_arguments(depths)
    depths.set_defaults(command=run_depths)


def run_ask(options: argparse.Namespace) -> None:
    """Answer a question."""
    from proxqa_core.language.questions import understand

    queries = common.object_queries(options.objects, options.box)
    understand(options.question, [q.name for q in queries])
    image = _read_image(options.image, queries)
    with common.stdout_to_stderr():
        engine = common.load_engine(options)
        answer = engine.encode_image(image).ask(options.question, queries)
    if options.save:
        _save(options.save, image, answer.objects, answer.answer)
    report = {
        "image": str(options.image),
        "model": engine.model_name,
        "question": answer.question,
        "kind": answer.kind.value,
        "answer": answer.answer,
        "closer": answer.closer,
        "farther": answer.farther,
        "probability": answer.probability,
        "objects": [_object_json(o) for o in answer.objects],
    }
    text = [answer.answer, *([tables.object_table(answer.objects)] if answer.objects else [])]
    common.write_report(options, report, "\n".join(text))


def run_depths(options: argparse.Namespace) -> None:
    """Tell the relative depths of named objects."""
    queries = common.object_queries(options.objects, options.box)
    if not queries:
        raise common.BadUsageError("no object was named; give --objects 'chair,table' or --box 'chair=10,20,110,220'")
    image = _read_image(options.image, queries)
    with common.stdout_to_stderr():
        engine = common.load_engine(options)
        found = engine.encode_image(image).depths(queries)
    if options.save:
        _save(options.save, image, found)
    report = {
        "image": str(options.image),
        "model": engine.model_name,
        "objects": [_object_json(o) for o in found],
    }
    common.write_report(options, report, tables.object_table(sorted(found, key=lambda o: (not o.is_answered, o.depth))))


def _add_object_arguments(parser: common.Parser) -> None:
    parser.add_argument(
        "--objects", action="append", default=[], metavar="NAMES", help="comma-separated names: 'chair,red table'"
    )
    parser.add_argument(
        "--box", action="append", default=[], metavar="NAME=X1,Y1,X2,Y2", help="an object and its box in pixels"
    )
    parser.add_argument(
        "--save",
        metavar="FILE",
        type=common.picture_file,
        help="also draw the answer on the image (.jpg or .png)",
    )


def _read_image(path: Path, queries: Sequence[ObjectQuery]) -> NDArray[np.uint8]:
    """The image in RGB, after a check that every box lies in it."""
    from proxqa_core.vision.image_file import read_image

    image = read_image(path)
    for query in queries:
        if query.box is not None:
            query.box.clipped(image.shape[1], image.shape[0])  # raises where it lies outside
    return image


def _object_json(thing: ObjectDepth) -> dict[str, Any]:
    return {
        "name": thing.name,
        "box": None if thing.box is None else list(thing.box.xyxy),
        "found_at": None if thing.found_at is None else list(thing.found_at.xyxy),
        "depth": thing.depth if thing.is_answered else None,
        "depth_stddev": thing.depth_stddev if thing.is_answered else None,
        "distance": thing.distance,
        "distance_stddev": thing.distance_stddev,
        "score": thing.score,
        "text": thing.text,
    }


def _save(path: Path, image: NDArray[np.uint8], objects: Sequence[ObjectDepth], answer: str = "") -> None:
    from PIL import Image

    from proxqa_core.vision.drawing import annotate

    Image.fromarray(annotate(image, objects, answer)).save(path)
