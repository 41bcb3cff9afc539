"""Labelled folders as training samples: cached vision features, objects and dense relative depth.

Promises: every image goes through the frozen vision tower once (plain and mirrored) and never again: the features are
kept beside the folder, keyed by the tower and the image list. Knows nothing of prompts or of optimisers.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from proxqa_core.evaluation.folder import LabelledFolder, Record
from proxqa_core.model import LoadedModel
from proxqa_core.types import Box
from proxqa_core.vision.encoder import TorchVisionEncoder
from training.instructions.build import Labelled

BATCH = 16
MIRRORED = {"left": "right", "right": "left", "leftmost": "rightmost", "rightmost": "leftmost"}


@dataclass(frozen=True)
class Sample:
    """One image, or its mirror image.

    objects: labelled objects with depth. depth: float32 [grid, grid], mean relative depth of each image token's patch
    of the image. cells: int16 [grid, grid], index into `objects` of the object that fills most of it, -1 = none.
    """

    objects: tuple[Labelled, ...]
    depth: np.ndarray
    cells: np.ndarray


@dataclass(frozen=True)
class TrainingSet:
    """features: float16 [2 · images, tokens, hidden]: even rows plain, odd rows mirrored, as `samples`."""

    features: np.ndarray
    samples: tuple[Sample, ...]

    @property
    def names(self) -> list[str]:
        return sorted({o.name for s in self.samples for o in s.objects})


def open_set(folder: Path, model: LoadedModel) -> TrainingSet:
    """Read a folder in the evaluation's format with depth maps (and masks, where it has them)."""
    records = [r for r in LabelledFolder(folder).records if r.depth_map is not None]
    grid = round(model.prompter.image_tokens**0.5)
    samples: list[Sample] = []
    for record in tqdm(records, desc=f"labels of {folder.name}", unit="image"):
        plain = _sample(record, grid)
        samples += [plain, _mirrored(plain)]
    return TrainingSet(_features(folder, records, model), tuple(samples))


def _sample(record: Record, grid: int) -> Sample:
    depth = record.load_relative_depth()
    small = cv2.resize(np.nan_to_num(depth, nan=1.0), (grid, grid), interpolation=cv2.INTER_AREA)
    objects = []
    cells = np.full((grid, grid), -1, np.int16)
    masks = record.load_masks()
    best = np.full((grid, grid), 0.4, np.float32)  # an object fills a cell when it covers more than this share
    for thing in record.objects:
        if thing.depth is None or thing.depth_m is None:
            continue
        box = Box(*(v / s for v, s in zip(thing.box.xyxy, (record.width, record.height) * 2, strict=True)))
        if masks is not None and thing.mask_id is not None:
            share = cv2.resize((masks == thing.mask_id).astype(np.float32), (grid, grid), interpolation=cv2.INTER_AREA)
            cells[share > best] = len(objects)
            best = np.maximum(best, share)
        objects.append(Labelled(thing.name, thing.ref, box, thing.depth, thing.depth_m))
    return Sample(tuple(objects), small.astype(np.float32), cells)


def _mirrored(sample: Sample) -> Sample:
    objects = tuple(
        Labelled(
            o.name,
            None if o.ref is None else " ".join(MIRRORED.get(w, w) for w in o.ref.split()),
            Box(1 - o.box.x2, o.box.y1, 1 - o.box.x1, o.box.y2),
            o.depth,
            o.distance,
        )
        for o in sample.objects
    )
    return Sample(objects, sample.depth[:, ::-1].copy(), sample.cells[:, ::-1].copy())


def _features(folder: Path, records: list[Record], model: LoadedModel) -> np.ndarray:
    """The cached features of a folder; made image by image so that a stopped run goes on where it was."""
    tower = model.llava.model.vision_tower
    weights = next(p for p in tower.parameters() if p.ndim > 1).detach().float().cpu().numpy()
    key = hashlib.sha256(weights.tobytes() + json.dumps([str(r.image) for r in records]).encode()).hexdigest()[:16]
    path, progress = folder / f"features-{key}.npy", folder / f"features-{key}.json"
    hidden = model.llava.config.vision_config.hidden_size
    shape = (2 * len(records), model.prompter.image_tokens, hidden)
    done = json.loads(progress.read_text())["done"] if progress.exists() and path.exists() else 0
    mode = "r+" if done else "w+"
    array = np.lib.format.open_memmap(path, mode=mode, dtype=np.float16, shape=shape)
    encoder = TorchVisionEncoder(model.llava)
    for start in tqdm(range(done, len(records), BATCH), desc=f"features of {folder.name}", unit="batch"):
        images = [r.load_image() for r in records[start : start + BATCH]]
        both = [view for image in images for view in (image, np.ascontiguousarray(image[:, ::-1]))]
        features = encoder.encode(model.preprocessing.pixels(both))
        array[2 * start : 2 * start + len(both)] = features.to(torch.float16).cpu().numpy()
        if (start // BATCH) % 16 == 15 or start + BATCH >= len(records):
            array.flush()
            part = progress.with_suffix(".part")
            part.write_text(json.dumps({"done": min(start + BATCH, len(records))}))
            os.replace(part, progress)
    return array
