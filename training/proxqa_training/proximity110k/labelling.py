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
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proxqa_core.datasets.depth_source import DepthSource
from proxqa_core.datasets.folder import Record
from proxqa_core.datasets.llava import IMAGE_MARK
from proxqa_core.depth import disparity_percentiles, object_relative_depth, relative_of_disparity
from proxqa_core.errors import BadImageError, BadObjectError
from proxqa_core.types import Box
from proxqa_core.vision.image_file import read_image
from proxqa_training.instructions.build import ImageObject, Recipe, Turn, build_turns

MAX_OBJECTS = 20
"""Most objects of an image that are asked about, the largest ones."""
LEAST_SHARE = 0.001
"""Least part of the image that a box must cover to be asked about: the depth of a speck is not known."""
PERCEIVE = Recipe(perceive=4, absent=1, several=1, box_fraction=0.5, paraphrase_fraction=0.5)
REASON = Recipe(
    perceive=0, absent=0, reason=2, farther=1, nearest=1, sort=0, equal=0, box_fraction=0.5, paraphrase_fraction=0.5
)
"""Together about nine questions an image where it has enough objects, as in the paper."""


@dataclass(frozen=True)
class LabellingConfig:
    """What shapes the conversations.

    Attributes:
        seed: All chance comes from it and the image's name.
        absent_names: Names to ask for where they are not in view; only of data sets whose classes are complete.
        perceive, reason: How many questions of which kind.
    """

    seed: int = 0
    absent_names: tuple[str, ...] = ()
    perceive: Recipe = field(default_factory=lambda: PERCEIVE)
    reason: Recipe = field(default_factory=lambda: REASON)


def pack(record: Record) -> dict[str, Any]:
    """A record as plain values: what travels between processes."""
    things = [{"name": o.name, "box": list(o.box.xyxy), "ref": o.ref, "colour": o.colour} for o in record.objects]
    return {
        "folder": str(record.folder),
        "image": record.image,
        "width": record.width,
        "height": record.height,
        "source": record.source,
        "objects": json.dumps(things),
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
            lines: JSON of ``{"samples": [...], "problem": ""}`` for each record, in order.
        """
        rows = [dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)]
        lines: list[str] = []
        for start in range(0, len(rows), self._depth.batch_size):
            lines += self._chunk(rows[start : start + self._depth.batch_size])
        return {"image": [str(row["image"]) for row in rows], "lines": lines}

    def _chunk(self, rows: list[dict[str, Any]]) -> list[str]:
        images: list[NDArray[np.uint8] | str] = [_load(row) for row in rows]
        good = [(str(r["image"]), i) for r, i in zip(rows, images, strict=True) if not isinstance(i, str)]
        found = iter(self._depth.disparities(good) if good else [])
        lines = []
        for row, image in zip(rows, images, strict=True):
            disparity = image if isinstance(image, str) else next(found)
            if isinstance(disparity, str):
                lines.append(_line([], disparity))
            else:
                lines.append(self._label(row, disparity))
        return lines

    def _label(self, row: dict[str, Any], disparity: NDArray[np.float64]) -> str:
        objects = labelled(json.loads(str(row["objects"])), int(row["width"]), int(row["height"]), disparity)
        if not objects:
            return _line([], "no object with a known depth")
        config, image = self._config, str(row["image"])
        samples = []
        for stage, recipe in (("perceive", config.perceive), ("reason", config.reason)):
            rng = random.Random(seed_of(config.seed, stage, image))
            drawn = build_turns(objects, config.absent_names, recipe, rng, region_token=False)
            if drawn:
                samples.append(conversation(image, stage, str(row["source"]), drawn))
        return _line(samples, "" if samples else "no question could be asked")


def _load(row: dict[str, Any]) -> NDArray[np.uint8] | str:
    try:
        image = read_image(Path(str(row["folder"])) / str(row["image"]))
    except BadImageError as error:
        return str(error)
    if image.shape[:2] != (row["height"], row["width"]):
        return f"image is {image.shape[1]}x{image.shape[0]} pixels, its record says {row['width']}x{row['height']}"
    return image


def _line(samples: list[dict[str, Any]], problem: str) -> str:
    return json.dumps({"samples": samples, "problem": problem}, ensure_ascii=False)


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
