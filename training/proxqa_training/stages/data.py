"""Labelled folders as training samples: cached vision features, objects, and names that are surely absent.

Promises: every image goes through the vision tower once (plain and mirrored) and never again: the features are kept in
a cache folder, keyed by the tower and the image list. Rendered folders and photographs (whose objects have no depth)
are read alike. Knows nothing of prompts or of optimisers.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from proxqa_core.backends.vision_encoder import TorchVisionEncoder
from proxqa_core.datasets.folder import Record
from proxqa_core.language.referring import read_expression
from proxqa_core.model.loading import LoadedModel
from proxqa_core.types import Box
from proxqa_core.vision.colours import Colours, by_colour, patch_colours
from proxqa_core.vision.grounding_head import GroundingHead, choose, find, likelihood, read
from proxqa_core.vision.tower import split_grid
from proxqa_training.instructions.build import Labelled
from proxqa_training.labels import LabelledImage, read_images
from proxqa_training.prefetch import prepared
from proxqa_training.tower.words import means, same, unsure

BATCH = 16
MIRRORED = {"left": "right", "right": "left", "leftmost": "rightmost", "rightmost": "leftmost"}


@dataclass(frozen=True)
class Sample:
    """One image, or its mirror image. absent: names of things that are surely not in it."""

    objects: tuple[Labelled, ...]
    absent: tuple[str, ...]


@dataclass(frozen=True)
class TrainingSet:
    """features: one array [2 · images, tokens, hidden], float16, a folder: even rows plain, odd rows mirrored.

    colours: of the patches, [2 · images, side², 3], uint8, likewise. samples: of all folders in turn.
    """

    features: tuple[np.ndarray, ...]
    colours: tuple[np.ndarray, ...]
    samples: tuple[Sample, ...]

    def __getitem__(self, index: int) -> np.ndarray:
        """The features [tokens, hidden] of sample number `index`."""
        return _at(self.features, index)

    def patch_colours(self, index: int) -> np.ndarray:
        """The mean colours [side², 3], in [0, 1], of the patches of sample number `index`."""
        return _at(self.colours, index).astype(np.float32) / 255

    @property
    def names(self) -> list[str]:
        return sorted({o.name for s in self.samples for o in s.objects})


def open_set(folders: Path | Sequence[Path], model: LoadedModel, cache: Path, workers: int = 0) -> TrainingSet:
    """Read folders in the evaluation's format. cache: where the features go. workers: of `prepared`, for the images.

    A cache goes by the folders' names and their lists of images: it is of no use where images were exchanged.
    """
    folders = [folders] if isinstance(folders, Path) else list(folders)
    read = [(folder, [i for i in read_images(folder) if i.record.objects]) for folder in folders]
    everything = frozenset(o.name for _, images in read for i in images for o in i.record.objects)
    features, colours, samples = [], [], []
    places: Counter[str] = Counter()
    for folder, images in read:
        if not images:
            continue
        for image in images:
            plain = _sample(image, everything)
            samples += [plain, _mirrored(plain)]
        earlier = places[folder.name]  # folders of the same name
        places[folder.name] += 1
        place = cache / str(earlier) if earlier else cache
        seen = _features(folder, [i.record for i in images], model, place, workers)
        features.append(seen[0])
        colours.append(seen[1])
    return TrainingSet(tuple(features), tuple(colours), tuple(samples))


def _at(parts: Sequence[np.ndarray], index: int) -> np.ndarray:
    """The row of number `index` of all parts in turn."""
    for part in parts:
        if index < len(part):
            row: np.ndarray = part[index]
            return row
        index -= len(part)
    raise IndexError(index)


def pointing(
    grounding_head: GroundingHead,
    table: torch.Tensor,
    model: LoadedModel,
    features: torch.Tensor,
    patches: torch.Tensor,
) -> Callable[[str], Box]:
    """Where the engine would look for a phrase in an image of these features and mean colours of patches.

    Returns a box in [0, 1]. table: of words.
    """
    reading = read(grounding_head, split_grid(features[None].float(), model.spatial_merge_size)[0])

    def point(phrase: str) -> Box:
        meant = read_expression(phrase)
        words = table[model.prompter.plain_ids(" " + meant.name)].mean(0)[None]
        found = find(grounding_head, reading, words)[0]
        if meant.colours:
            likely = likelihood(grounding_head, reading, words)[:, 0].cpu()
            found = by_colour(found, Colours.of(patches), meant.colours, likely)
        return choose(found, meant.place)

    return point


def _sample(image: LabelledImage, everything: frozenset[str]) -> Sample:
    """everything: all labels of all folders."""
    record, present = image.record, image.present
    known = everything if image.absent_known is None else image.absent_known
    absent = [n for n in sorted(known) if not any(means(n, p) or unsure(n, p) for p in present)]
    counts = Counter(o.name for o in record.objects)
    objects = []
    for thing in record.objects:
        box = Box(*(v / s for v, s in zip(thing.box.xyxy, (record.width, record.height) * 2, strict=True)))
        box = Box(max(0, box.x1), max(0, box.y1), min(1, box.x2), min(1, box.y2))
        measured = thing.depth is not None and thing.depth_m is not None
        alone = thing.ref == thing.name and counts[thing.name] == 1
        others = [p for p in present if p != thing.name]
        also = [w for w in sorted(same(thing.name)) if w != thing.name and not any(means(w, p) for p in others)]
        objects.append(
            Labelled(
                thing.name,
                thing.ref,
                box,
                thing.depth if measured else None,
                thing.depth_m if measured else None,
                tuple(also) if alone else (),
            )
        )
    return Sample(tuple(objects), tuple(absent))


def _mirrored(sample: Sample) -> Sample:
    objects = tuple(
        Labelled(
            o.name,
            None if o.ref is None else " ".join(MIRRORED.get(w, w) for w in o.ref.split()),
            Box(1 - o.box.x2, o.box.y1, 1 - o.box.x1, o.box.y2),
            o.depth,
            o.distance,
            o.also,
        )
        for o in sample.objects
    )
    return Sample(objects, sample.absent)


def _features(
    folder: Path, records: list[Record], model: LoadedModel, cache: Path, workers: int
) -> tuple[np.ndarray, np.ndarray]:
    """The cached features and colours of a folder; made image by image so that a stopped run goes on where it was."""
    tower = model.llava.model.vision_tower
    cache.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(json.dumps([str(r.image) for r in records]).encode())
    for weights in tower.state_dict().values():
        digest.update(weights.detach().float().cpu().numpy().tobytes())
    key = f"{folder.name}-{digest.hexdigest()[:16]}"
    paths, progress = (cache / f"{key}.npy", cache / f"{key}-colours.npy"), cache / f"{key}.json"
    hidden, side = model.llava.config.vision_config.hidden_size, model.patches_a_side
    begun = progress.exists() and all(p.exists() for p in paths)
    done = json.loads(progress.read_text())["done"] if begun else 0
    array, colours = (
        np.lib.format.open_memmap(path, mode="r+" if done else "w+", dtype=kind, shape=(2 * len(records), *shape))
        for path, kind, shape in zip(
            paths, (np.float16, np.uint8), ((model.prompter.image_tokens, hidden), (side * side, 3)), strict=True
        )
    )
    encoder = TorchVisionEncoder(model.llava)

    def pixels(start: int) -> torch.Tensor:
        images = [r.load_image() for r in records[start : start + BATCH]]
        both = [view for image in images for view in (image, np.ascontiguousarray(image[:, ::-1]))]
        return model.preprocessing.pixels(both)

    starts = range(done, len(records), BATCH)
    bar = tqdm(prepared(pixels, starts, workers), total=len(starts), desc=f"features of {folder.name}", unit="batch")
    for start, both in zip(starts, bar, strict=True):
        rows = slice(2 * start, 2 * start + len(both))
        array[rows] = encoder.encode(both).to(torch.float16).cpu().numpy()
        colours[rows] = (255 * patch_colours(model.preprocessing.as_seen(both), side)).round().byte().numpy()
        if (start // BATCH) % 16 == 15 or start + BATCH >= len(records):
            array.flush()
            colours.flush()
            part = progress.with_suffix(".part")
            part.write_text(json.dumps({"done": min(start + BATCH, len(records))}))
            os.replace(part, progress)
    return array, colours
