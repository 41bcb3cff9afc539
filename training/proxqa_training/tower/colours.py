"""Train the colour reader, which tells "the red chair" from the blue one, on objects whose colour is labelled.

Promises: rendered folders teach it, by the objects that were given a clear colour; a minute on one core. The bundled
one is replaced by giving its file as the output.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.nn import functional as F

from proxqa_core.datasets.folder import LabelledFolder, Record
from proxqa_core.errors import BadImageError
from proxqa_core.language.referring import TERMS
from proxqa_core.vision.colours import ColourReader, light_of, patch_colours
from proxqa_core.vision.preprocessing import Preprocessing
from proxqa_training.bad_images import BadImages
from proxqa_training.checkpoints import write_tensors
from proxqa_training.labels import require_apart
from proxqa_training.logs import progress

SIDE, PATCH_PX = 24, 14
"""Patches a side and pixels a patch: as the bundled vision tower sees an image."""
NUM_STEPS = 800
LR, WEIGHT_DECAY = 0.01, 0.05
BRIGHTNESS_STD, TINT_STD = 0.2, 0.05
"""Standard deviations (log) by which an image's brightness and its channels are changed while training."""
SHOWS = 0.25
"""A patch shows an object that covers this share of what it covers of the patch it covers most."""


@dataclass(frozen=True)
class ColourDataset:
    """n objects of one colour each, m patches that show them.

    Attributes:
        patches: [m, 3], mean colours in [0, 1].
        object_index: [m], whose patch it is.
        share: [m], of each patch in its object; 1 in all.
        light: [n, 9], of the object's image, see `proxqa_core.vision.colours.light_of`.
        terms: [n], number of the true colour term.
    """

    patches: torch.Tensor
    object_index: torch.Tensor
    share: torch.Tensor
    light: torch.Tensor
    terms: torch.Tensor

    def logits(self, network: ColourReader, gain: torch.Tensor | None = None) -> torch.Tensor:
        """Logits of the colour terms.

        Args:
            network: What reads them.
            gain: Factors [n, 3] on the channels of each object's image.

        Returns:
            [n, terms].
        """
        patches, light = self.patches, self.light
        if gain is not None:
            patches = (patches * gain[self.object_index]).clamp(0, 1)
            light = (light * gain.repeat(1, light.shape[1] // 3)).clamp(0, 1)
        weighted = network(patches, light[self.object_index]) * self.share[:, None]
        return torch.zeros(len(light), len(TERMS)).index_add(0, self.object_index, weighted)


def read_dataset(folders: Sequence[Path], bad: BadImages | None = None) -> ColourDataset:
    """All objects of known colour that a mask shows.

    Args:
        folders: Labelled folders.
        bad: Takes the images that cannot be used.

    Raises:
        BadDatasetError: A folder is at fault.
        ValueError: There are none.
    """
    preprocessing = Preprocessing(SIDE * PATCH_PX)
    patches: list[torch.Tensor] = []
    share: list[torch.Tensor] = []
    light: list[torch.Tensor] = []
    terms: list[int] = []
    bad = BadImages() if bad is None else bad
    for folder in folders:
        for record in progress(LabelledFolder(folder).records, desc=f"colours of {folder.name}", unit="image"):
            try:
                found = _objects(record, preprocessing)
            except BadImageError as error:
                bad.add(str(record.folder / record.image), str(error))
                continue
            for seen, cover, term in found:
                clear = cover > SHOWS * cover.max()
                patches.append(seen[torch.from_numpy(clear)])
                share.append(torch.from_numpy(cover[clear] / cover[clear].sum()))
                light.append(light_of(seen))
                terms.append(term)
    if not terms:
        raise ValueError(f"{', '.join(map(str, folders))}: no objects with a colour and a mask that shows them")
    index = torch.cat([torch.full((len(p),), i) for i, p in enumerate(patches)])
    return ColourDataset(torch.cat(patches), index, torch.cat(share), torch.stack(light), torch.tensor(terms))


def _objects(record: Record, preprocessing: Preprocessing) -> list[tuple[torch.Tensor, Any, int]]:
    """(patches of the image [side², 3], cover of them [side²], colour term) of each object of known colour."""
    objects = [(o, o.colour) for o in record.objects if o.colour in TERMS and o.mask_id is not None]
    masks = record.load_masks() if objects else None
    if masks is None:
        return []
    pixels = preprocessing.pixels([record.load_image()])[0]
    seen = patch_colours(preprocessing.as_seen(pixels), SIDE)
    found = []
    for thing, colour in objects:
        mask = (masks == thing.mask_id).astype(np.float32)
        if not mask.any():  # hidden, or another image's map: there is nothing to see of it
            continue
        cover = cv2.resize(mask, (SIDE, SIDE), interpolation=cv2.INTER_AREA).reshape(-1)
        found.append((seen, cover, TERMS.index(str(colour))))
    return found


def train(data: ColourDataset, seed: int = 0) -> ColourReader:
    """Train a colour reader.

    Args:
        data: What to train on.
        seed: Of the weights and of how the images are changed.
    """
    torch.manual_seed(seed)
    network = ColourReader()
    optimizer = torch.optim.AdamW(network.parameters(), lr=LR, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, NUM_STEPS)
    for _ in progress(range(NUM_STEPS), desc="colours", unit="step"):
        n = len(data.terms)
        gain = torch.exp(BRIGHTNESS_STD * torch.randn(n, 1) + TINT_STD * torch.randn(n, 3))
        loss = F.cross_entropy(data.logits(network, gain), data.terms)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


@torch.inference_mode()
def accuracy(network: ColourReader, data: ColourDataset) -> float:
    """Share of the objects whose true term is the likeliest."""
    return float((data.logits(network).argmax(1) == data.terms).float().mean())


def train_colours(folders: Sequence[Path], out: Path, val_folder: Path | None = None) -> dict[str, Any]:
    """Train a colour reader and write it.

    Args:
        folders: Labelled folders to train on.
        out: File to write, colours.safetensors.
        val_folder: A labelled folder to validate on.

    Returns:
        `out`, for `train` and `validation` how many `objects` there are and the `accuracy`, and `bad_images`, how many
        were left out and why.

    Raises:
        BadDatasetError: A folder is at fault, or images of `val_folder` are trained on too.
        ValueError: There is nothing to learn from or to validate on; nothing was written.
    """
    require_apart(folders, [val_folder] if val_folder else [])
    bad = BadImages()
    sets = {"train": read_dataset(folders, bad)}
    if val_folder:
        sets["validation"] = read_dataset([val_folder], bad)
    network = train(sets["train"])
    write_tensors(out, network.state_dict())
    figures = {k: {"objects": len(d.terms), "accuracy": accuracy(network, d)} for k, d in sets.items()}
    return {"out": str(out), **figures, "bad_images": bad.report()}
