"""`proxqa ask`, `proxqa depths` and `proxqa chat`: the model is loaded once, then images and questions come.

What is wrong with a question, an object or a place for results is told before anything is loaded.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import logging
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxqa_core.cli import common, tables
from proxqa_core.errors import BadImageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from proxqa_core.language.questions import Question
    from proxqa_core.types import ObjectDepth, ObjectQuery
    from proxqa_core.vision.image_sources import ImageSources, SourceImage

log = logging.getLogger(__name__)

PROGRESS_PERIOD_S = 5.0
"""Least time between two lines of progress, in seconds."""
NODE_CLIENT = "proxqa_ros.ask_node"
"""The module that asks a running node; this package imports nothing of ROS."""
DEFAULT_NODE = "proximity"
NOT_OF_A_NODE = (
    *("save", "every_images", "every_seconds", "most"),  # it has its own image …
    *("model", "adapter", "device", "dtype", "backend", "int8"),  # … and its own model
)
"""What `ask` does not take where it asks a node."""
SOURCES = "an image, a folder of images, a video or a camera (/dev/video0); several are answered with one model"


def add_commands(commands: common.SubParsers) -> None:
    """Add `ask`, `depths` and `chat`."""
    ask = common.add_command(commands, "ask", "answer a question about images, or of a running node")
    ask.usage = "proxqa ask [options] IMAGE [IMAGE ...] QUESTION"
    ask.add_argument("words", metavar="IMAGE ... QUESTION", nargs="+", help=f"{SOURCES}; then what is asked")
    ask.add_argument("--node", action="store_true", help="ask a running node about its newest image, and no file")
    ask.add_argument("--node-name", metavar="NAME", help="… of this name, with its namespace (default: proximity)")
    _add_object_arguments(ask)
    _add_source_arguments(ask)
    ask.set_defaults(command=run_ask, unset={name: ask.get_default(name) for name in NOT_OF_A_NODE})

    depths = common.add_command(commands, "depths", "relative depth of named objects in images")
    depths.add_argument("images", metavar="IMAGE", nargs="+", type=Path, help=SOURCES)
    _add_object_arguments(depths)
    _add_source_arguments(depths)
    depths.set_defaults(command=run_depths)

    chat = common.add_command(commands, "chat", "many questions about one image, line by line")
    chat.add_argument("image", metavar="IMAGE", type=Path)
    _add_object_arguments(chat, save=False)
    chat.set_defaults(command=run_chat)


def run_ask(options: argparse.Namespace) -> None:
    """Answer a question about every image."""
    from proxqa_core.answering import check_question
    from proxqa_core.cli.names import taught_names

    options.node = options.node or options.node_name is not None
    if options.node:
        common.refuse_unused(options, "with --node: a node has its own image and its own model")
    question = _question(options)
    queries = common.object_queries(options.objects, options.box)
    general = options.model != "default" or options.adapter is not None
    asked = check_question(question, queries, general, familiar=options.node or taught_names(options) is not None)
    _warn_of_unused(asked, queries)
    if options.node:
        _ask_node(options, question, queries)
        return
    if len(options.words) < 2:
        raise common.BadUsageError("no image was named; expected IMAGE ... QUESTION, or --node to ask a running node")
    sources = _sources(options, options.words[:-1], queries)
    engine = _loaded(options, sources.is_single)

    def answered(image: NDArray[np.uint8]) -> tuple[dict[str, Any], str, Sequence[ObjectDepth], str]:
        answer = engine.encode_image(image).ask(question, queries)
        report = {
            "question": answer.question,
            "kind": answer.kind.value,
            "answer": answer.answer,
            "closer": answer.closer,
            "farther": answer.farther,
            "probability": answer.probability,
            "objects": [_object_json(o) for o in answer.objects],
        }
        text = [answer.answer, *([tables.object_table(answer.objects)] if answer.objects else [])]
        return report, "\n".join(text), answer.objects, answer.answer

    _answer_all(options, sources, engine.model_name, answered)


def run_depths(options: argparse.Namespace) -> None:
    """Tell the relative depths of named objects in every image."""
    queries = common.object_queries(options.objects, options.box)
    if not queries:
        raise common.BadUsageError("no object was named; give --objects 'chair,table' or --box 'chair=10,20,110,220'")
    sources = _sources(options, options.images, queries)
    engine = _loaded(options, sources.is_single)

    def answered(image: NDArray[np.uint8]) -> tuple[dict[str, Any], str, Sequence[ObjectDepth], str]:
        encoded = engine.encode_image(image)
        found = encoded.depths(queries)
        nearest_first = [found[i] for i in encoded.ranking(queries)]
        return {"objects": [_object_json(o) for o in found]}, tables.object_table(nearest_first), found, ""

    _answer_all(options, sources, engine.model_name, answered)


def run_chat(options: argparse.Namespace) -> None:
    """Answer questions that are typed, until there are no more."""
    from proxqa_core.cli.chat import chat

    queries = common.object_queries(options.objects, options.box)
    image = _checked_boxes(_read(options.image), queries)
    engine = _loaded(options)
    with common.stdout_to_stderr():
        encoded = engine.encode_image(image)
    said = chat(encoded, queries)
    if options.json:
        common.write_report(options, {"image": str(options.image), "model": engine.model_name, "turns": said}, "")


def _question(options: argparse.Namespace) -> str:
    """What is asked, the last of the words.

    Raises:
        BadUsageError: It is a file, one word of several that were not put in quotes, or an image's name is empty.
    """
    *images, question = options.words
    if "" in images:
        raise common.BadUsageError("an image's name is empty; expected IMAGE ... QUESTION")
    if os.path.exists(question):  # unlike Path's also for a text that no file can be called
        raise common.BadUsageError(f"no question was asked: {question!r} is a file; expected IMAGE ... QUESTION")
    missing = next((image for image in images if not os.path.exists(image)), None)
    if missing is not None and " " not in question and "/" not in missing:
        raise common.BadUsageError(
            f"{missing!r} is no image and {question!r} no question; put the question in quotes: IMAGE ... 'QUESTION'"
        )
    return str(question)


def _warn_of_unused(asked: Question, queries: Sequence[ObjectQuery]) -> None:
    """Say that a box is not looked at: its name may be misspelled, and the answer is then of what was found instead."""
    from proxqa_core.answering import OVER_ALL

    unused = [q.name for q in queries if q.box is not None and q.name not in asked.names]
    if unused and asked.names and asked.kind not in OVER_ALL:
        log.warning("the box of %s is not used: the question names %s", ", ".join(unused), ", ".join(asked.names))


def _ask_node(options: argparse.Namespace, question: str, queries: Sequence[ObjectQuery]) -> None:
    """Ask a running node about its newest image."""
    if len(options.words) > 1:
        raise common.BadUsageError(f"{options.words[0]!r} is not used: a node is asked about its own newest image")
    try:
        module = importlib.import_module(NODE_CLIENT)
    except ImportError as error:
        raise common.NotInstalledError(f"a node is asked with ROS 2, of which {error.name} is missing") from error
    report = module.ask(options.node_name or DEFAULT_NODE, question, queries, exact=bool(options.node_name))
    common.write_report(options, report, report["answer"])


def _add_object_arguments(parser: common.Parser, save: bool = True) -> None:
    parser.add_argument(
        "--objects", action="append", default=[], metavar="NAMES", help="comma-separated names: 'chair,red table'"
    )
    parser.add_argument(
        "--box", action="append", default=[], metavar="NAME=X1,Y1,X2,Y2", help="an object and its box in pixels"
    )
    if save:
        parser.add_argument(
            "--save",
            metavar="FILE|DIR",
            type=Path,
            help="also draw the answer on the image (.jpg or .png); of several images, a folder",
        )


def _add_source_arguments(parser: common.Parser) -> None:
    common.add_every_arguments(parser)
    parser.add_argument(
        "--most", metavar="N", type=common.count, help="end after N images (default: all; a camera's until Ctrl-C)"
    )


def _sources(options: argparse.Namespace, paths: Sequence[str | Path], queries: Sequence[ObjectQuery]) -> ImageSources:
    """The images, after a check that all are there, that results have a place and that boxes lie in the only image."""
    from proxqa_core.vision.image_sources import ImageSources

    sources = ImageSources.of([Path(p) for p in paths], options.every_images, options.every_seconds)
    if options.save and sources.is_single:
        common.checked(common.picture_file, "--save", str(options.save))
    elif options.save:
        _make_folder(options.save)
    if sources.is_single:
        sources = replace(sources, decoded=_checked_boxes(_read(sources.paths[0]), queries))
    return sources


def _make_folder(folder: Path) -> None:
    if folder.suffix.lower() in common.PICTURE_ENDINGS or folder.is_file():
        raise common.BadUsageError(f"--save {folder}: is one file for several images; expected a folder")
    folder.mkdir(parents=True, exist_ok=True)


def _read(path: Path) -> NDArray[np.uint8]:
    from proxqa_core.vision.image_file import read_image

    return read_image(path)


def _checked_boxes(image: NDArray[np.uint8], queries: Sequence[ObjectQuery]) -> NDArray[np.uint8]:
    """The image, after a check that every box lies in it."""
    for query in queries:
        if query.box is not None:
            query.box.clipped(image.shape[1], image.shape[0])  # raises where it lies outside
    return image


def _loaded(options: argparse.Namespace, one_image: bool = False) -> Any:
    with common.stdout_to_stderr():
        return common.load_engine(options, one_image)


def _answer_all(options: argparse.Namespace, sources: ImageSources, model: str, answered: Any) -> None:
    """Answer for every image; a single one reports as itself, several as a list with those that could not be used.

    Raises:
        BadImageError: Not one image could be used.
    """
    reports: list[dict[str, Any]] = []
    bad: list[str] = []
    for source in _with_progress(options, sources):
        if source.image is None:
            log.warning("%s", source.problem)
            bad.append(source.problem)
            continue
        with common.stdout_to_stderr():
            report, text, objects, answer = answered(source.image)
        reports.append({"image": source.name, "model": model, **report})
        if options.json != common.STDOUT:
            print(text if sources.is_single else f"{source.name}\n{text}\n", flush=True)
        if options.save:
            _save(_picture_of(options.save, source, sources), source.image, objects, answer)
    if not reports:
        raise BadImageError(bad[0] if len(bad) == 1 else f"none of {len(bad)} images can be used; the first: {bad[0]}")
    if options.save:
        log.info("written to %s", options.save)
    if options.json:
        whole: Any = reports[0] if sources.is_single else {"model": model, "images": reports, "bad_images": bad}
        common.write_json(options, whole)
        if options.json != common.STDOUT:
            log.info("written to %s", options.json)


def _with_progress(options: argparse.Namespace, sources: ImageSources) -> Iterator[SourceImage]:
    """The images; now and then, to somebody who watches, how many are done and how long the rest takes.

    Ctrl-C ends a camera or video as its end does: what was answered is kept.
    """
    began = told = time.monotonic()
    total = sources.total if options.most is None or sources.total is None else min(options.most, sources.total)
    try:
        for done, image in enumerate(itertools.islice(iter(sources), options.most)):
            now = time.monotonic()
            if done and common.shows_progress(options) and now - told >= PROGRESS_PERIOD_S:
                told = now
                left = f" of {total}, about {(now - began) / done * (total - done):.0f} s left" if total else ""
                log.info("%d images%s", done, left)
            yield image
    except KeyboardInterrupt:
        if total is not None:
            raise
        log.info("interrupted: the camera is closed")


def _picture_of(save: Path, source: SourceImage, sources: ImageSources) -> Path:
    """Where an answer's picture goes: two files of one name in different folders do not overwrite each other."""
    if sources.is_single:
        return save
    stem = Path(source.name).name.replace(":", "-")
    path = save / (stem if Path(stem).suffix.lower() in common.PICTURE_ENDINGS else f"{stem}.jpg")
    names = [p.name for p in sources.paths]
    return path if names.count(Path(source.name).name) <= 1 else save / f"{Path(source.name).parent.name}-{path.name}"


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
