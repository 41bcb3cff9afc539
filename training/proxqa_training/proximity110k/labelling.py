"""The labelling step: records of images with boxes in, conversations of both stages out.

Promises: one stateful class whose call takes a batch and gives one, in the same order, as Ray Data's `map_batches`
wants it and a local pool too: what comes out depends on the record, the recipe and the seed alone, not on the batch or
the process. A record that cannot be used comes out with the reason, never as an exception.

Source: the two instruction sets of Proximity QA, arXiv 2401.17862; about nine questions an image.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proxqa_core.datasets.depth_source import DepthSource
from proxqa_core.datasets.folder import Record
from proxqa_core.datasets.llava import IMAGE_MARK
from proxqa_core.depth import disparity_percentiles, object_relative_depth, relative_of_disparity
from proxqa_core.errors import BadImageError, BadObjectError
from proxqa_core.files import sha256
from proxqa_core.language.templates import BoxForm
from proxqa_core.types import Box
from proxqa_core.vision.image_file import read_image
from proxqa_training.instructions.build import ImageObject, Recipe, Turn, build_turns, not_among

MAX_OBJECTS = 20
"""Most objects of an image that are asked about, the largest ones."""
LEAST_SHARE = 0.001
"""Least part of the image that a box must cover to be asked about: the depth of a speck is not known."""
PERCEIVE = Recipe(perceive=4, absent=1, several=1, box_fraction=0.5, paraphrase_fraction=0.5)
REASON = Recipe(
    perceive=0, absent=0, reason=2, farther=1, nearest=1, box_fraction=0.5, paraphrase_fraction=0.5, depth_noise=0.0
)
"""Together about nine questions an image where it has enough objects, as in the paper. The depths that lead an answer
are learned as a part of it, unlike in our own training: they are the true ones."""


@dataclass(frozen=True)
class LabellingConfig:
    """What shapes the conversations.

    Attributes:
        seed: All chance comes from it and the image's name.
        absent_names: Names to ask for where they are not in view, in images whose labels are known to be complete.
        image_prefix: Folder that is put before the images' paths in the conversations, '' = none.
        perceive, reason: How many questions of which kind.
    """

    seed: int = 0
    absent_names: tuple[str, ...] = ()
    image_prefix: str = ""
    perceive: Recipe = field(default_factory=lambda: PERCEIVE)
    reason: Recipe = field(default_factory=lambda: REASON)


def pack(record: Record, complete: bool) -> dict[str, Any]:
    """A record as plain values: what travels between processes.

    Args:
        record: The image with its objects.
        complete: Everything that has one of the data set's names is labelled wherever it is in view.
    """
    things = [{"name": o.name, "box": list(o.box.xyxy), "ref": o.ref, "colour": o.colour} for o in record.objects]
    here = {o.name for o in record.objects}.union(record.unboxed_names, record.visible_names or ())
    known = complete or record.visible_names is not None
    return {
        "folder": str(record.folder),
        "image": record.image,
        "width": record.width,
        "height": record.height,
        "source": record.source,
        "objects": json.dumps(things),
        "in_view": json.dumps(sorted(here) if known else None),
    }


class Labeller:
    """Labels batches of packed records.

    Args:
        make_depth: Makes the source of depth; called once in every process, since a model cannot travel.
        config: What shapes the conversations.
    """

    def __init__(self, make_depth: Callable[[], DepthSource], config: LabellingConfig) -> None:
        self._depth, self._config = make_depth(), config

    def __call__(self, batch: Mapping[str, Sequence[Any]]) -> dict[str, list[str]]:
        """Columns of packed records in, the columns `image` and `lines` out.

        Returns:
            lines: JSON of ``{"image", "digest", "samples", "objects", "problem"}`` for each record, in order: the
            digest of the file's bytes, conversations, the objects that they are about, and why there are none.
        """
        rows = [dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)]
        lines: list[str] = []
        for start in range(0, len(rows), self._depth.batch_size):
            lines += self._chunk(rows[start : start + self._depth.batch_size])
        return {"image": [str(row["image"]) for row in rows], "lines": lines}

    def _chunk(self, rows: list[dict[str, Any]]) -> list[str]:
        loaded = [_load(row) for row in rows]
        good = [(str(row["image"]), image) for row, (_, image) in zip(rows, loaded, strict=True)
                if not isinstance(image, str)]  # fmt: skip
        found = iter(self._depth.disparities(good) if good else [])
        lines = []
        for row, (digest, image) in zip(rows, loaded, strict=True):
            disparity = image if isinstance(image, str) else next(found)
            made = self._label(row, disparity)
            lines.append(json.dumps({"image": row["image"], "digest": digest, **made}, ensure_ascii=False))
        return lines

    def _label(self, row: dict[str, Any], disparity: NDArray[np.float64] | str) -> dict[str, Any]:
        """Samples and objects of one image. disparity: [rows, columns], NaN = not known; or why there is none."""
        if isinstance(disparity, str):
            return _nothing(reason_without_path(disparity))
        width, height = int(row["width"]), int(row["height"])
        objects = labelled(json.loads(str(row["objects"])), width, height, disparity)
        if not objects:
            return _nothing("no object with a known depth")
        samples = self._samples(row, objects)
        shown = [{"name": o.name, "box": _pixels(o.box, width, height), "depth": o.depth} for o in objects]
        return {"samples": samples, "objects": shown, "problem": "" if samples else "no question could be asked"}

    def _samples(self, row: dict[str, Any], objects: list[ImageObject]) -> list[dict[str, Any]]:
        """One conversation a stage, as far as the objects allow one."""
        config, image = self._config, str(row["image"])
        in_view = json.loads(str(row["in_view"]))  # also what is too small to be asked about, or has no box
        absent = [] if in_view is None else not_among(config.absent_names, in_view)
        samples = []
        for stage, recipe in (("perceive", config.perceive), ("reason", config.reason)):
            rng = random.Random(seed_of(config.seed, stage, image))
            drawn = build_turns(objects, absent, recipe, rng, form=BoxForm(region_token=False))
            if drawn:
                path = str(PurePosixPath(config.image_prefix, image))
                samples.append(conversation(path, stage, str(row["source"]), drawn))
        return samples


def _nothing(problem: str) -> dict[str, Any]:
    return {"samples": [], "objects": [], "problem": problem}


def _pixels(box: Box, width: int, height: int) -> list[int]:
    return [round(v * size) for v, size in zip(box.xyxy, (width, height, width, height), strict=True)]


def _load(row: dict[str, Any]) -> tuple[str, NDArray[np.uint8] | str]:
    """The digest of an image's file, and its pixels or why they cannot be used."""
    path = Path(str(row["folder"])) / str(row["image"])
    try:
        image = read_image(path)
        digest = digest_of(path)
    except BadImageError as error:
        return "", reason_without_path(str(error))
    except OSError as error:
        return "", f"cannot be read ({error.strerror})"
    if image.shape[:2] != (row["height"], row["width"]):
        return digest, "image of another size than its record says"
    return digest, image


def reason_without_path(text: str) -> str:
    """What is wrong, of an error that says ``PATH: what``: so that many files of one fault are one reason."""
    return text.partition(": ")[2] or text


def digest_of(path: Path) -> str:
    """What a file's bytes are known by: 128 bits of their SHA-256, 32 hexadecimal digits.

    Raises:
        OSError: It cannot be read.
    """
    return sha256(path)[:32]


def seed_of(seed: int, stage: str, image: str) -> int:
    """The seed of one image's questions."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{stage}/{image}".encode()).digest()[:8], "big")


def labelled(
    things: Sequence[dict[str, Any]], width: int, height: int, disparity: NDArray[np.float64]
) -> list[ImageObject]:
    """The objects of an image with their relative depth by the image's disparity.

    Args:
        things: Name, box (pixels), ref of each.
        width, height: Of the image that the boxes are of, pixels; the disparity may be of another resolution.
        disparity: [rows, columns], NaN = not known.

    Returns:
        The largest `MAX_OBJECTS` whose depth is known, with a number in place of metres (see `_distance`). A name that
        is ambiguous stays so where its namesake was left out.
    """
    # the relative depth of every pixel [rows, columns]; of every box its median over the central half
    low, high = disparity_percentiles(disparity)
    if not high > low:
        return []
    relative = relative_of_disparity(disparity, low, high)
    across, down = disparity.shape[1] / width, disparity.shape[0] / height
    found: list[ImageObject] = []
    for thing in sorted(things, key=lambda t: -_area(t["box"])):
        x1, y1, x2, y2 = thing["box"]
        if _area(thing["box"]) < LEAST_SHARE * width * height or len(found) == MAX_OBJECTS:
            continue
        try:
            depth = object_relative_depth(relative, Box(x1 * across, y1 * down, x2 * across, y2 * down))
        except BadObjectError:
            continue
        if np.isfinite(depth):
            box = Box(x1 / width, y1 / height, x2 / width, y2 / height)
            found.append(ImageObject(thing["name"], thing["ref"], box, round(depth, 4), _distance(depth)))
    return found


def _distance(depth: float) -> float:
    """A number in [1, 2] that grows with relative depth, in place of metres, which a relative estimator does not give.

    Two objects make a pair where these differ by 8 % of the farther: by 0.08 to 0.16 of the relative scale.
    """
    return 1.0 + depth


def _area(box: Sequence[float]) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def conversation(image: str, stage: str, source: str, drawn: Sequence[Turn]) -> dict[str, Any]:
    """One sample in LLaVA's form; the image's mark stands in the first question."""
    said: list[dict[str, str]] = []
    for i, turn in enumerate(drawn):
        question = f"{IMAGE_MARK}\n{turn.question}" if i == 0 else turn.question
        answer = f"{turn.lead}{turn.answer}".strip()
        said += [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    kinds = [turn.kind for turn in drawn]
    about = {"id": f"{stage}/{image}", "image": image, "stage": stage, "source": source}
    return {**about, "kinds": kinds, "conversations": said}
