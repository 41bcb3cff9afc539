"""Augmented views of labelled images, and batches of them, for the tower's training.

Promises: labels follow the image through cropping and flipping; what is drawn follows from the random generator alone.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from proxqa_core.datasets.folder import LabelledObject, Record
from proxqa_core.depth import relative_depth_map
from proxqa_core.errors import BadImageError
from proxqa_core.model.loading import LoadedModel
from proxqa_training.labels import LabelledImage
from proxqa_training.tower.vocabulary import Vocabulary

CROPPED, FLIPPED, SOFTENED, COMPRESSED, RECOLOURED = 0.8, 0.5, 0.2, 0.2, 0.8
"""Shares of the training views that are augmented so."""
MIN_AREA_KEPT = 0.5
"""An object of which a crop keeps less than this share of its box is left out."""
MIN_SIDE_PX = 3
MIN_MASK_PX = 20
MAYBE = 0.2
"""Value in a mask where a patch may or may not show the object."""


@dataclass
class TowerSample:
    """One training view.

    Attributes:
        pixels: [3, size, size], normalised.
        depth: Relative depth [side, side] of the patches, NaN = unknown.
        boxes: [n, 4], x1, y1, x2, y2 in [0, 1] of the view.
        depths: Relative depths [n] of the objects, NaN = unknown.
        masks: [n, side²], share of each patch that shows the object; 0.2 = may or may not.
        names: Labels of the n objects.
        image: What it is a view of.
    """

    pixels: torch.Tensor
    depth: torch.Tensor
    boxes: torch.Tensor
    depths: torch.Tensor
    masks: torch.Tensor
    names: list[str]
    image: LabelledImage


@dataclass
class Batch:
    """The n views of a step with their m objects together, and what is drawn for them.

    Attributes:
        pixels: [n, 3, size, size], float16.
        depth: [n, side, side].
        image_index: [m], which view an object is in, ascending.
        boxes: [m, 4], as in `TowerSample`.
        depths: [m], as in `TowerSample`.
        masks: [m, side²], as in `TowerSample`, float16.
        labels: [m], number of an object's label.
        words: [m], number of the word it is asked for by.
        jitter: [m, 4], standard normal.
        absence_row: [n], row of `Vocabulary.absence_table` that holds for a view.
    """

    pixels: torch.Tensor
    depth: torch.Tensor
    image_index: torch.Tensor
    boxes: torch.Tensor
    depths: torch.Tensor
    masks: torch.Tensor
    labels: torch.Tensor
    words: torch.Tensor
    jitter: torch.Tensor
    absence_row: torch.Tensor

    def to(self, device: torch.device) -> Batch:
        """The batch on a device."""
        return Batch(*(getattr(self, f.name).to(device, non_blocking=True) for f in dataclasses.fields(self)))


@dataclass(frozen=True)
class _Crop:
    """The part of an image that is shown: corners in pixels, and whether it is flipped left to right."""

    x1: int
    y1: int
    x2: int
    y2: int
    flipped: bool

    def __call__(self, values: NDArray[Any]) -> NDArray[Any]:
        """The part of an array [height, width, …]; not flipped."""
        return values[self.y1 : self.y2, self.x1 : self.x2]

    def box(self, thing: LabelledObject) -> NDArray[np.float64] | None:
        """An object's box [4] in [0, 1] of the part; None where too little of it is left."""
        b = thing.box
        x1, y1 = max(b.x1, self.x1) - self.x1, max(b.y1, self.y1) - self.y1
        x2, y2 = min(b.x2, self.x2) - self.x1, min(b.y2, self.y2) - self.y1
        area = max(0.0, x2 - x1) * max(0.0, y2 - y1)
        if area < MIN_AREA_KEPT * (b.x2 - b.x1) * (b.y2 - b.y1) or min(x2 - x1, y2 - y1) < MIN_SIDE_PX:
            return None
        width, height = self.x2 - self.x1, self.y2 - self.y1
        return np.array((x1, y1, x2, y2)) / [width, height, width, height]


class TowerDataset:
    """Draws augmented views of labelled images.

    Args:
        model: Whose input size, patches and normalisation the views have.
        min_crop: Share of each side that a crop keeps at least.
    """

    def __init__(self, model: LoadedModel, min_crop: float):
        self.size = model.preprocessing.size
        self.side = self.size // model.llava.config.vision_config.patch_size
        self.mean = np.asarray(model.preprocessing.mean, np.float32)
        self.std = np.asarray(model.preprocessing.std, np.float32)
        self.min_crop = min_crop

    def sample(self, image: LabelledImage, rng: random.Random | None) -> TowerSample:
        """Draw one view.

        Args:
            image: What to show.
            rng: Draws the augmentations; None = the image as it is.

        Raises:
            BadImageError: The image, its depth map or its mask map is missing or damaged.
        """
        record = image.record
        # 1. what is shown: [height, width, 3], metres [height, width], object numbers [height, width]
        pixels, depth, masks = record.load_image(), _depth_of(record), record.load_masks()
        if masks is not None and masks.shape != pixels.shape[:2]:
            raise BadImageError(
                f"{record.folder / str(record.mask_map)}: is {masks.shape[::-1]} pixels, its image "
                f"{record.width}x{record.height}; expected the same"
            )
        crop = self._draw_crop(pixels.shape[0], pixels.shape[1], rng)
        # 2. relative depth of what is left, [height, width], and of its patches, [side, side]
        relative = None if depth is None else relative_depth_map(crop(depth))
        patches = self._patch_depth(relative)
        # 3. the objects of which enough is left, with their cover of the patches, [side, side] each
        names: list[str] = []
        boxes: list[NDArray[Any]] = []
        depths: list[float] = []
        covers: list[NDArray[Any]] = []
        for thing in record.objects:
            kept = self._object(thing, crop, masks, relative)
            if kept is not None:
                names.append(thing.name)
                boxes.append(kept[0])
                depths.append(kept[1])
                covers.append(kept[2])
        pixels = crop(pixels)
        # 4. flipped left to right: image, patches, boxes and covers alike
        if crop.flipped:
            pixels, patches = pixels[:, ::-1], patches[:, ::-1]
            boxes = [np.array([1 - b[2], b[1], 1 - b[0], b[3]]) for b in boxes]
            covers = [c[:, ::-1] for c in covers]
        n = len(names)
        return TowerSample(
            self._pixels(pixels, rng),
            torch.from_numpy(patches.astype(np.float32).copy()),
            torch.tensor(np.array(boxes), dtype=torch.float32).reshape(n, 4),
            torch.tensor(depths, dtype=torch.float32),
            torch.tensor(np.array(covers), dtype=torch.float32).reshape(n, self.side**2),
            names,
            image,
        )

    def _draw_crop(self, height: int, width: int, rng: random.Random | None) -> _Crop:
        if rng is None:
            return _Crop(0, 0, width, height, False)
        x1, y1, x2, y2 = 0, 0, width, height
        if rng.random() < CROPPED:
            scale = rng.uniform(self.min_crop, 1)
            w = min(width, round(width * scale * rng.uniform(0.85, 1.18)))
            h = min(height, round(height * scale * rng.uniform(0.85, 1.18)))
            x1, y1 = rng.randint(0, width - w), rng.randint(0, height - h)
            x2, y2 = x1 + w, y1 + h
        return _Crop(x1, y1, x2, y2, rng.random() < FLIPPED)

    def _patch_depth(self, relative: NDArray[Any] | None) -> NDArray[Any]:
        """Mean relative depth [side, side] of the patches; NaN where a patch holds unknown pixels."""
        if relative is None:
            return np.full((self.side, self.side), np.nan, np.float32)
        marked = np.nan_to_num(relative, nan=-9)  # a mean with one of these in it is negative
        patches = cv2.resize(marked, (self.side, self.side), interpolation=cv2.INTER_AREA)
        return np.where(patches < 0, np.nan, np.minimum(patches, 1))

    def _object(
        self, thing: LabelledObject, crop: _Crop, masks: NDArray[Any] | None, relative: NDArray[Any] | None
    ) -> tuple[NDArray[Any], float, NDArray[Any]] | None:
        """Box [4], relative depth (NaN = unknown) and cover [side, side] of an object; None where it is left out."""
        box = crop.box(thing)
        if box is None:
            return None
        if masks is None or thing.mask_id is None:
            return box, np.nan, self._box_cover(box)
        mask = crop(masks) == thing.mask_id
        if mask.sum() < MIN_MASK_PX:
            return None
        cover = cv2.resize(mask.astype(np.float32), (self.side, self.side), interpolation=cv2.INTER_AREA)
        if cover.max() < 0.7:  # smaller than a patch: the patch that shows most of it counts as showing it
            cover = cover / max(0.35, float(cover.max()))
        return box, np.nan if relative is None else float(np.nanmedian(relative[mask])), cover

    def _box_cover(self, box: NDArray[np.float64]) -> NDArray[Any]:
        """Where only a box [4] is known, [side, side]: 1 in its inner ellipse, 0.2 in the rest of it."""
        along = (np.arange(self.side) + 0.5) / self.side
        half = np.maximum((box[2:] - box[:2]) / 2, 0.5 / self.side)
        middle = (box[:2] + box[2:]) / 2
        u, v = (along - middle[0]) / half[0], (along - middle[1]) / half[1]
        inner = u[None] ** 2 + v[:, None] ** 2 <= 0.6
        inside = (abs(u[None]) <= 1) & (abs(v[:, None]) <= 1)
        cover = np.where(inner, 1.0, np.where(inside, MAYBE, 0.0)).astype(np.float32)
        if not inner.any():
            column, row = (min(self.side - 1, int(m * self.side)) for m in middle)
            cover[row, column] = 1.0
        return cover

    def _pixels(self, image: NDArray[np.uint8], rng: random.Random | None) -> torch.Tensor:
        """[height, width, 3] → [3, size, size], normalised; augmented where there is a generator."""
        interpolation = cv2.INTER_AREA if max(image.shape[:2]) > self.size else cv2.INTER_CUBIC
        if rng is not None:
            image = degraded(image, rng)
        values = cv2.resize(np.ascontiguousarray(image), (self.size, self.size), interpolation=interpolation)
        values = values.astype(np.float32) / 255
        if rng is not None and rng.random() < RECOLOURED:
            values = recoloured(values, rng)
        values = (values - self.mean) / self.std
        return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1), dtype=np.float32))


class Collator:
    """Puts views together to batches, on the CPU.

    Attributes:
        absence: [rows, words], of `Vocabulary.absence_table`.

    Args:
        vocabulary: The words that objects may be asked for by.
        images: All images whose views will come.
    """

    def __init__(self, vocabulary: Vocabulary, images: Sequence[LabelledImage]):
        self.vocabulary = vocabulary
        self.absence, self._row_of = vocabulary.absence_table(images)

    def __call__(self, samples: Sequence[TowerSample], rng: random.Random) -> Batch:
        """Make a batch.

        Args:
            samples: The views.
            rng: Draws by which word each object is asked for, and the jitter of the boxes.
        """
        vocabulary = self.vocabulary
        names = [n for s in samples for n in s.names]
        return Batch(
            torch.stack([s.pixels for s in samples]).half(),
            torch.stack([s.depth for s in samples]),
            torch.tensor([i for i, s in enumerate(samples) for _ in s.names], dtype=torch.long),
            torch.cat([s.boxes for s in samples]),
            torch.cat([s.depths for s in samples]),
            torch.cat([s.masks for s in samples]).half(),
            torch.tensor([vocabulary.label_index[n] for n in names], dtype=torch.long),
            torch.tensor([vocabulary.draw_word(n, rng) for n in names], dtype=torch.long),
            torch.randn(len(names), 4, generator=torch.Generator().manual_seed(rng.getrandbits(32))),
            torch.tensor([self._row_of[id(s.image)] for s in samples]),
        )


def _depth_of(record: Record) -> NDArray[np.float32] | None:
    """Depth in metres, of the image's size; None where there is none."""
    if record.depth_map is None:
        return None
    depth = record.load_depth()
    if depth.shape == (record.height, record.width):
        return depth
    return cv2.resize(depth, (record.width, record.height), interpolation=cv2.INTER_NEAREST)


def degraded(image: NDArray[np.uint8], rng: random.Random) -> NDArray[np.uint8]:
    """A share of the images softened, a share of them compressed."""
    if rng.random() < SOFTENED:
        factor = rng.uniform(0.35, 0.9)
        image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    if rng.random() < COMPRESSED:
        quality = [cv2.IMWRITE_JPEG_QUALITY, rng.randint(20, 70)]
        image = cv2.imdecode(cv2.imencode(".jpg", np.ascontiguousarray(image), quality)[1], cv2.IMREAD_COLOR)
    return image


def recoloured(values: NDArray[Any], rng: random.Random) -> NDArray[Any]:
    """Saturation, contrast, brightness and white balance changed; values in [0, 1], [height, width, 3]."""
    grey = values.mean(-1, keepdims=True)
    values = grey + (values - grey) * (0.0 if rng.random() < 0.04 else rng.uniform(0.6, 1.4))
    values = (values - values.mean()) * rng.uniform(0.7, 1.3) + values.mean() * rng.uniform(0.7, 1.3)
    return np.clip(values * np.array([rng.uniform(0.92, 1.08) for _ in range(3)], np.float32), 0, 1)
