"""How well an adapter finds each name that it was taught: what `names.json` in its folder says.

Every name that is labelled in an image is asked for by name alone, and beside these some names of which the image holds
nothing. A name is found where the adapter calls it seen and the box that it found overlaps one labelled so.

Promises: images that tower and grounding head were trained on are not asked about (what the stages' language model was
trained on is not known here); the same folders give the same figures. Where a folder does
not say what is not in its images, nothing there counts as absent.
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from proxqa_core.engine import EncodedImage, ProximityEngine
from proxqa_core.errors import BadImageError
from proxqa_core.evaluation.runner import depths_of
from proxqa_core.model.taught_names import TaughtName, TaughtNames, write_names
from proxqa_core.types import ObjectQuery
from proxqa_core.vision.grounding_head import largest_iou
from proxqa_training.bad_images import BadImages
from proxqa_training.labels import LabelledImage, hash_share, read_images
from proxqa_training.logs import progress
from proxqa_training.scenes import catalogue
from proxqa_training.tower.words import means, same, unsure

log = logging.getLogger(__name__)

MIN_IOU = 0.3
"""Least overlap (intersection over union) of a box that was found with one labelled so."""
ABSENT_PER_IMAGE = 48
"""Names that are not there, asked for in every image: those that were asked for least so far."""


@dataclass(frozen=True)
class NamesData:
    """What names are counted in, and what they are measured on.

    Attributes:
        taught: Labelled folders that were trained on.
        unseen: Labelled folders that were not.
        val_fraction: Share of the photographs of `taught`, by hash of their path, that the training kept for validation
            (`TowerConfig.val_fraction`): these are measured on too, and not counted as taught.
        models: Names of the 3D models that the rendered images of the training were made of, one for every model.
    """

    taught: tuple[Path, ...] = ()
    unseen: tuple[Path, ...] = ()
    val_fraction: float = 0.0
    models: tuple[str, ...] = ()


@dataclass
class _Counts:
    """How often each name was asked for, and what came of it."""

    asked: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    absent: Counter[str] = field(default_factory=Counter)
    mistaken: Counter[str] = field(default_factory=Counter)


def seen_models(folder: Path, cache: Path) -> tuple[str, ...]:
    """Names of the 3D models of the catalogue that rendered training images are made of, one for every model.

    Raises:
        ModelsMissingError: The models are not installed.
    """
    return tuple(m.name for m in catalogue.read(catalogue.unpack(folder, cache), "seen"))


def measure_names(
    adapter: Path, data: NamesData, device: str = "auto", dtype: str = "auto", limit: int | None = None
) -> TaughtNames:
    """Measure an adapter of the default model, and write `names.json` into its folder.

    Args:
        adapter: Its folder.
        data: What it was taught, and what to measure on.
        device: As of `ProximityEngine.load`.
        dtype: As of `ProximityEngine.load`.
        limit: Only the first images of those that are measured on.

    Returns:
        What was written.

    Raises:
        ProxqaError: The adapter or a folder is at fault.
        ValueError: Nothing names anything, or a folder is given as trained on and as not trained on.
    """
    trained_on = {folder.resolve() for folder in data.taught}
    if both := [folder for folder in data.unseen if folder.resolve() in trained_on]:
        raise ValueError(
            f"{both[0]}: is given as trained on and as not trained on; expected it in one of --taught, --data"
        )
    taught, images = _split(data)
    boxes = Counter(o.name for image in taught for o in image.record.objects)
    models = Counter(data.models)
    names = sorted(boxes.keys() | models.keys())
    if not names:
        raise ValueError("no name was taught by these folders; expected labelled objects or --catalogue")
    engine = ProximityEngine.load(adapter=adapter, device=device, dtype=dtype)
    bad = BadImages()
    counts, used = _measure(engine, images[:limit], names, bad)
    written = TaughtNames(
        _measured_on(used),
        tuple(
            TaughtName(name, tuple(sorted(same(name) - {name})), models[name], boxes[name],
                       counts.asked[name], counts.found[name], counts.absent[name], counts.mistaken[name])
            for name in names
        ),
    )  # fmt: skip
    write_names(adapter, written)
    return written


def _split(data: NamesData) -> tuple[list[LabelledImage], list[LabelledImage]]:
    """The images that were trained on, and those to measure on."""
    given = [i for folder in data.taught for i in read_images(folder)]
    kept = [i for i in given if not i.rendered and hash_share(i.record.image) < data.val_fraction]
    held_out = {id(i) for i in kept}
    taught = [i for i in given if id(i) not in held_out]
    return taught, [*(i for folder in data.unseen for i in read_images(folder)), *kept]


def _measure(
    engine: ProximityEngine, images: Sequence[LabelledImage], names: Sequence[str], bad: BadImages
) -> tuple[_Counts, list[LabelledImage]]:
    """Ask about every image; gives the counts and the images that could be used."""
    counts, used = _Counts(), []
    for image in progress(images, desc="names", unit="image"):
        try:
            encoded = engine.encode_image(image.record.load_image())
        except BadImageError as error:
            bad.add(str(image.record.folder / image.record.image), str(error))
            continue
        used.append(image)
        _ask_present(encoded, image, counts)
        _ask_absent(encoded, image, names, counts)
    return counts, used


def _ask_present(encoded: EncodedImage, image: LabelledImage, counts: _Counts) -> None:
    present = sorted({o.name for o in image.record.objects})
    for thing in depths_of(encoded, [ObjectQuery(name) for name in present]):
        boxes = [o.box for o in image.record.objects if means(thing.name, o.name)]
        counts.asked[thing.name] += 1
        there = thing.found_at is not None and largest_iou(thing.found_at, boxes) >= MIN_IOU
        counts.found[thing.name] += thing.is_answered and there


def _ask_absent(encoded: EncodedImage, image: LabelledImage, names: Sequence[str], counts: _Counts) -> None:
    rng = random.Random(image.record.image)
    free = [n for n in names if _is_absent(n, image)]
    order = sorted(free, key=lambda n: (counts.absent[n], rng.random()))
    for thing in depths_of(encoded, [ObjectQuery(name) for name in order[:ABSENT_PER_IMAGE]]):
        counts.absent[thing.name] += 1
        counts.mistaken[thing.name] += thing.is_answered


def _is_absent(name: str, image: LabelledImage) -> bool:
    """Whether nothing in an image may be called so, as far as its labels tell."""
    if image.absent_known is not None and name not in image.absent_known:
        return False
    return not any(means(a, b) or unsure(a, b) for p in image.present for a, b in ((name, p), (p, name)))


def _measured_on(used: Sequence[LabelledImage]) -> str:
    rendered = sum(i.rendered for i in used)
    return f"{rendered} rendered images and {len(used) - rendered} photographs that tower and grounding head never saw"
