"""Labelled folders as training samples: cached vision features, objects, and names that are certainly absent.

Promises: every image goes through the vision tower once (plain and flipped) and never again: the features are kept in
a cache folder, keyed by the tower and the image list. Rendered folders and photographs (whose objects have no depth)
are read alike.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from proxqa_core.backends.torch_backend import TorchVisionEncoder
from proxqa_core.datasets.folder import LabelledFolder, LabelledObject, Record
from proxqa_core.errors import BadImageError
from proxqa_core.files import write_text
from proxqa_core.language.referring import read_expression
from proxqa_core.model.loading import LoadedModel, choose_dtype
from proxqa_core.types import Box
from proxqa_core.vision.colours import ImageColours, by_colour, patch_colours
from proxqa_core.vision.grid import split_grid
from proxqa_core.vision.grounding_head import GroundingHead, choose, encode_patches, ground, patch_probabilities
from proxqa_training.bad_images import BadImages
from proxqa_training.distributed import DistributedContext
from proxqa_training.instructions.build import ImageObject
from proxqa_training.labels import LabelledImage, read_images
from proxqa_training.logs import progress
from proxqa_training.prefetch import prefetch
from proxqa_training.stages.dense import with_boxes
from proxqa_training.tower.words import means, same, unsure

log = logging.getLogger(__name__)

BATCH_SIZE = 16
"""Images that go through the vision tower at once, plain and flipped."""
FLUSH_EVERY_BATCHES = 16
FLIPPED = {"left": "right", "right": "left", "leftmost": "rightmost", "rightmost": "leftmost"}


@dataclass(frozen=True)
class Sample:
    """One image, or its mirror image.

    Attributes:
        objects: What is labelled in it.
        absent: Names of things that are certainly not in it.
        rendered: It is no photograph.
    """

    objects: tuple[ImageObject, ...]
    absent: tuple[str, ...]
    rendered: bool = False


NOTHING = Sample((), ())
"""The sample of an image that cannot be used."""


@dataclass(frozen=True)
class FeatureDataset:
    """Images as features, with what is known of them.

    Attributes:
        features: One array [2 · images, tokens, hidden], float16, for each folder: even rows plain, odd rows flipped.
        colours: Of the patches, [2 · images, side², 3], uint8, likewise.
        samples: Of all folders in turn, in the order of the rows; `NOTHING` of an image that cannot be used.
        bad: The images that cannot be used.
    """

    features: tuple[NDArray[np.float16], ...]
    colours: tuple[NDArray[np.uint8], ...]
    samples: tuple[Sample, ...]
    bad: BadImages = field(default_factory=BadImages)

    def __getitem__(self, index: int) -> NDArray[np.float16]:
        """The features [tokens, hidden] of a sample."""
        row: NDArray[np.float16] = _at(self.features, index)
        return row

    def patch_colours(self, index: int) -> NDArray[np.float32]:
        """The mean colours [side², 3], in [0, 1], of the patches of a sample."""
        colours: NDArray[np.float32] = _at(self.colours, index).astype(np.float32) / np.float32(255)
        return colours

    @property
    def names(self) -> list[str]:
        """The names of all objects, sorted."""
        return sorted({o.name for s in self.samples for o in s.objects})


def open_dataset(
    folders: Path | Sequence[Path | LabelledFolder], model: LoadedModel, cache: Path, num_workers: int = 0
) -> FeatureDataset:
    """Read labelled folders, and run their images through the vision tower where that has not been done.

    Args:
        folders: In the format of `proxqa_core.datasets.folder`.
        model: Whose vision tower it is.
        cache: Where the features go. It is keyed by the folders' names and their lists of images: delete it where
            images were exchanged.
        num_workers: Processes that read images ahead.

    Raises:
        BadDatasetError: A folder is at fault.
        BadImageError: Not one image can be used; others than these are left out, and counted.
    """
    folders = [folders] if isinstance(folders, Path) else list(folders)
    read = [folder if isinstance(folder, LabelledFolder) else LabelledFolder(folder) for folder in folders]
    images = [(folder.path, [_with_boxes(i) for i in read_images(folder)]) for folder in read]
    labelled = [(path, [i for i in of_folder if i.record.objects]) for path, of_folder in images]
    all_names = frozenset(o.name for _, images in labelled for i in images for o in i.record.objects)
    features, colours, samples, bad = [], [], list[Sample](), BadImages()
    occurrences: Counter[str] = Counter()
    for folder, of_folder in labelled:
        if not of_folder:
            continue
        for image in of_folder:
            plain = _sample(image, all_names)
            samples += [plain, _flipped(plain)]
        earlier = occurrences[folder.name]  # folders of the same name
        occurrences[folder.name] += 1
        place = cache / str(earlier) if earlier else cache
        made = FeatureCache(folder, [i.record for i in of_folder], model, place)
        arrays = made.fill(num_workers)
        features.append(arrays[0])
        colours.append(arrays[1])
        bad.update({str(folder / name): reason for name, reason in made.bad.items()})
        first = len(samples) - 2 * len(of_folder)
        for row, image in enumerate(of_folder):
            if image.record.image in made.bad:
                samples[first + 2 * row : first + 2 * row + 2] = [NOTHING, NOTHING]
    if samples and all(s is NOTHING for s in samples):
        raise BadImageError(f"none of {len(samples) // 2} images can be used, the first: {next(iter(bad.reasons))}")
    return FeatureDataset(tuple(features), tuple(colours), tuple(samples), bad)


def open_dataset_distributed(
    folders: Sequence[Path | LabelledFolder],
    model: LoadedModel,
    cache: Path,
    context: DistributedContext,
    num_workers: int = 0,
    dtype: str = "auto",
) -> FeatureDataset:
    """`open_dataset` in all processes of a run: the main one makes the features that the others read.

    Args:
        folders: As of `open_dataset`.
        model: Moved to the process's device.
        cache: As of `open_dataset`.
        context: This process among the others.
        num_workers: As of `open_dataset`.
        dtype: 'auto', 'float32' or 'bfloat16', of the model from now on.
    """
    model.llava.to(context.device, choose_dtype(dtype, context.device))
    data = open_dataset(folders, model, cache, num_workers) if context.is_main_process else None
    context.barrier()
    return open_dataset(folders, model, cache) if data is None else data


def grounder(
    grounding_head: GroundingHead,
    table: torch.Tensor,
    model: LoadedModel,
    features: torch.Tensor,
    patches: torch.Tensor,
) -> Callable[[str], Box]:
    """Where the engine would find a phrase in an image.

    Args:
        grounding_head: What finds it.
        table: Word embeddings [vocabulary, hidden].
        model: Whose prompter tells the words of a phrase.
        features: Of the image, [tokens, hidden].
        patches: Mean colours [side², 3] of its patches, in [0, 1].

    Returns:
        A function from a phrase to a box in [0, 1] of the image, right or wrong.
    """
    reading = encode_patches(grounding_head, split_grid(features[None].float(), model.spatial_merge_size)[0])

    def box_of(phrase: str) -> Box:
        meant = read_expression(phrase)
        words = table[model.prompter.plain_ids(" " + meant.name)].mean(0)[None]
        candidates = ground(grounding_head, reading, words)[0]
        if meant.colours:
            likely = patch_probabilities(grounding_head, reading, words)[:, 0].cpu()
            candidates = by_colour(candidates, ImageColours.of(patches), meant.colours, likely)
        return choose(candidates, meant.place)

    return box_of


class FeatureCache:
    """The features and patch colours of one folder on disk, made image by image: a stopped run goes on where it was.

    Args:
        folder: Of the images, for the name of the files.
        records: The images.
        model: Whose vision tower it is.
        cache: Folder of the files.
        views: Of an image: 2 = plain and flipped, 1 = plain.
    """

    def __init__(self, folder: Path, records: Sequence[Record], model: LoadedModel, cache: Path, views: int = 2):
        self.folder, self.records, self.model, self.views = folder, records, model, views
        cache.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256(json.dumps([str(r.image) for r in records]).encode())
        for weights in model.llava.model.vision_tower.state_dict().values():
            digest.update(weights.detach().float().cpu().numpy().tobytes())
        key = f"{folder.name}-{digest.hexdigest()[:16]}"
        self.paths = cache / f"{key}.npy", cache / f"{key}-colours.npy"
        self.progress = cache / f"{key}.json"
        self.bad: dict[str, str] = {}

    def fill(self, num_workers: int) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
        """Make what is missing.

        Args:
            num_workers: Processes that read images ahead.

        Returns:
            Features [views · images, tokens, hidden] and colours [views · images, side², 3], in files.
        """
        done, self.bad = self._done()
        model, side = self.model, self.model.patches_per_side
        hidden = model.llava.config.vision_config.hidden_size
        features = self._array(0, np.float16, (model.prompter.image_tokens, hidden), done)
        colours = self._array(1, np.uint8, (side * side, 3), done)
        encoder = TorchVisionEncoder(model.llava)
        starts = range(done, len(self.records), BATCH_SIZE)
        batches = prefetch(self._pixels, starts, num_workers)
        bar = progress(batches, total=len(starts), desc=f"features of {self.folder.name}", unit="batch")
        for start, (pixels, bad) in zip(starts, bar, strict=True):
            self.bad |= bad
            rows = slice(self.views * start, self.views * start + len(pixels))
            features[rows] = encoder.encode(pixels).to(torch.float16).cpu().numpy()
            seen = patch_colours(model.preprocessing.as_seen(pixels), side)
            colours[rows] = (255 * seen).round().byte().numpy()
            last_row = start + BATCH_SIZE
            last = last_row >= len(self.records)
            if last or (start // BATCH_SIZE) % FLUSH_EVERY_BATCHES == FLUSH_EVERY_BATCHES - 1:
                features.flush()
                colours.flush()
                write_text(self.progress, json.dumps({"done": min(last_row, len(self.records)), "bad": self.bad}))
        return features, colours

    def _done(self) -> tuple[int, dict[str, str]]:
        """How many images are made already, and why some of these cannot be used, by their names."""
        begun = self.progress.exists() and all(p.exists() for p in self.paths)
        try:
            kept: dict[str, Any] = json.loads(self.progress.read_text()) if begun else {"done": 0}
            return int(kept["done"]), {str(k): str(v) for k, v in kept.get("bad", {}).items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            log.warning("%s is damaged: the features are made anew", self.progress)
            return 0, {}

    def _array(self, number: int, kind: Any, shape: tuple[int, ...], done: int) -> Any:
        """An array [views · images, *shape] in a file."""
        rows = self.views * len(self.records)
        mode = "r+" if done else "w+"
        return np.lib.format.open_memmap(self.paths[number], mode=mode, dtype=kind, shape=(rows, *shape))

    def _pixels(self, start: int) -> tuple[torch.Tensor, dict[str, str]]:
        """The images from a number on, plain and perhaps flipped, [views · n, 3, size, size]; why some cannot be used.

        Those are black: their rows are there, and nobody looks at them.
        """
        images, bad = [], {}
        for record in self.records[start : start + BATCH_SIZE]:
            try:
                images.append(record.load_image())
            except BadImageError as error:
                bad[record.image] = str(error)
                images.append(np.zeros((record.height, record.width, 3), np.uint8))
        shown = [view for image in images for view in (image, np.ascontiguousarray(image[:, ::-1]))[: self.views]]
        return self.model.preprocessing.pixels(shown), bad


def _at(parts: Sequence[NDArray[Any]], index: int) -> NDArray[Any]:
    """The row of a number in all parts in turn."""
    for part in parts:
        if index < len(part):
            row: NDArray[Any] = part[index]
            return row
        index -= len(part)
    raise IndexError(index)


def _with_boxes(image: LabelledImage) -> LabelledImage:
    """An image with boxes on what is measured in it where nothing is labelled; the image itself where that fails."""
    try:
        return dataclasses.replace(image, record=with_boxes(image.record))
    except BadImageError as error:
        log.warning("%s", error)
        return image


def _sample(image: LabelledImage, all_names: frozenset[str]) -> Sample:
    """An image's sample. all_names: all labels of all folders."""
    known = all_names if image.absent_known is None else image.absent_known
    absent = [n for n in sorted(known) if not any(means(n, p) or unsure(n, p) for p in image.present)]
    counts = Counter(o.name for o in image.record.objects)
    objects = (_object(thing, image, counts[thing.name] == 1) for thing in image.record.objects)
    return Sample(tuple(objects), tuple(absent), image.rendered)


def _object(thing: LabelledObject, image: LabelledImage, alone: bool) -> ImageObject:
    """A labelled object as turns are made of it. alone: no other object of the image has its name."""
    record = image.record
    box = Box(*(v / s for v, s in zip(thing.box.xyxy, (record.width, record.height) * 2, strict=True)))
    box = Box(max(0, box.x1), max(0, box.y1), min(1, box.x2), min(1, box.y2))
    others = [p for p in image.present if p != thing.name]
    synonyms = [w for w in sorted(same(thing.name)) if w != thing.name and not any(means(w, p) for p in others)]
    return ImageObject(
        thing.name,
        thing.ref,
        box,
        thing.depth if thing.depth_m is not None else None,
        thing.depth_m,
        tuple(synonyms) if alone and thing.ref == thing.name else (),
    )


def _flipped(sample: Sample) -> Sample:
    """The sample of the image flipped left to right."""
    objects = tuple(
        ImageObject(
            o.name,
            None if o.ref is None else " ".join(FLIPPED.get(w, w) for w in o.ref.split()),
            Box(1 - o.box.x2, o.box.y1, 1 - o.box.x1, o.box.y2),
            o.depth,
            o.distance,
            o.synonyms,
        )
        for o in sample.objects
    )
    return Sample(objects, sample.absent, sample.rendered)
