"""Train the colour reader, which tells "the red chair" from the blue one, on objects whose colour is labelled.

`python -m proxqa_training.tower.colours --data DIR … [--validate DIR] --out FILE`

Promises: rendered folders teach it, by the objects that were given a clear colour; a minute on one core. What is in the
box is replaced by giving its file as --out. Knows nothing of models.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn import functional as F
from tqdm import tqdm

from proxqa_core.datasets.folder import LabelledFolder
from proxqa_core.errors import ProxqaError
from proxqa_core.language.referring import TERMS
from proxqa_core.vision.colours import ColourReader, light_of, patch_colours
from proxqa_core.vision.preprocessing import Preprocessing

SIDE, PATCH = 24, 14
"""Patches a side and pixels a patch: as the vision tower in the box sees an image."""
STEPS = 800
RATE, DECAY = 0.01, 0.05
LIGHTER, TINTED = 0.2, 0.05
"""Spread (log) of how an image's brightness and its channels are changed while training."""


@dataclass(frozen=True)
class Things:
    """n things of one colour each, m patches that show them.

    patches: [m, 3], mean colours. of: [m], whose patch it is. share: [m], of each patch in its thing, in all 1.
    light: [n, 9]. terms: [n], index of the true term.
    """

    patches: torch.Tensor
    of: torch.Tensor
    share: torch.Tensor
    light: torch.Tensor
    terms: torch.Tensor

    def logits(self, network: ColourReader, gain: torch.Tensor | None = None) -> torch.Tensor:
        """[n, terms]. gain: of each thing's image, [n, 3]."""
        patches, light = self.patches, self.light
        if gain is not None:
            patches = (patches * gain[self.of]).clamp(0, 1)
            light = (light * gain.repeat(1, light.shape[1] // 3)).clamp(0, 1)
        said = network(patches, light[self.of]) * self.share[:, None]
        return torch.zeros(len(light), len(TERMS)).index_add(0, self.of, said)


def read_things(folders: Sequence[Path]) -> Things:
    """All objects of known colour that have a mask. ValueError where there are none."""
    preprocessing = Preprocessing(SIDE * PATCH)
    patches, of, share, light, terms = [], [], [], [], []
    for folder in folders:
        for record in tqdm(LabelledFolder(folder).records, desc=f"colours of {folder.name}", unit="image"):
            objects = [o for o in record.objects if o.colour in TERMS and o.mask_id is not None]
            masks = record.load_masks() if objects else None
            if masks is None:
                continue
            pixels = preprocessing.pixels([record.load_image()])[0]
            seen = patch_colours(preprocessing.as_seen(pixels), SIDE)
            for thing in objects:
                mask = (masks == thing.mask_id).astype(np.float32)
                cover = cv2.resize(mask, (SIDE, SIDE), interpolation=cv2.INTER_AREA).reshape(-1)
                clear = cover > 0.25 * cover.max()
                patches.append(seen[torch.from_numpy(clear)])
                of.append(torch.full((int(clear.sum()),), len(terms)))
                share.append(torch.from_numpy(cover[clear] / cover[clear].sum()))
                light.append(light_of(seen))
                terms.append(TERMS.index(thing.colour))
    if not terms:
        raise ValueError(f"{', '.join(map(str, folders))}: no objects with a colour and a mask to learn from")
    return Things(torch.cat(patches), torch.cat(of), torch.cat(share), torch.stack(light), torch.tensor(terms))


def train(things: Things, seed: int = 0) -> ColourReader:
    torch.manual_seed(seed)
    network = ColourReader()
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    for _ in tqdm(range(STEPS), desc="colours", unit="step"):
        n = len(things.terms)
        gain = torch.exp(LIGHTER * torch.randn(n, 1) + TINTED * torch.randn(n, 3))
        loss = F.cross_entropy(things.logits(network, gain), things.terms)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return network.eval()


@torch.inference_mode()
def share_right(network: ColourReader, things: Things) -> float:
    """Share of the things whose true term is the likeliest."""
    return float((things.logits(network).argmax(1) == things.terms).float().mean())


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m proxqa_training.tower.colours", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="labelled folders to train on")
    parser.add_argument("--validate", type=Path, help="a labelled folder for a look at the result")
    parser.add_argument("--out", type=Path, required=True, help="file to write, colours.safetensors")
    args = parser.parse_args(argv)
    try:
        things = read_things(args.data)
        network = train(things)
        args.out.parent.mkdir(parents=True, exist_ok=True)
        part = args.out.with_name(args.out.name + ".part")
        save_file(network.state_dict(), part)
        part.replace(args.out)
        print(f"{share_right(network, things):.1%} of {len(things.terms)} things trained on told right")
        if args.validate:
            other = read_things([args.validate])
            print(f"{share_right(network, other):.1%} of {len(other.terms)} things not trained on told right")
    except (ProxqaError, ValueError, OSError) as error:
        print(f"training: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
