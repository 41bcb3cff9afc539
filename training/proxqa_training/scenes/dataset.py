"""The folder of rendered scenes: what is written for an image, how a run goes on after a stop, and annotations.json.

Promises: every file is whole or absent; a scene counts as done when its JSON under `scenes/` exists; the relative depth
of every object follows the design's formula on the depth map as stored. Knows nothing of Blender.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from proxqa_core.files import atomic_write
from proxqa_training.scenes.camera import ROLL_DEG
from proxqa_training.scenes.catalogue import CACHE_DIR, MODEL_SETS, MODELS_DIR, could_mean

SPLITS = ("train", "val", "test")
KINDS = (
    *("room", "shelves", "gallery", "tabletop", "kitchen", "office", "corridor", "street", "road", "garden", "desk"),
)
"""Kinds of scenes; those of `proxqa_training.scenes.layouts.KINDS`, which a test compares."""
LICENCE = "rendered from Sweet Home 3D models (CC-BY 3.0, CC0, see NOTICE)"
FAR = 65535
"""Depth-map value of sky and of everything beyond 65.5 m; 0 means no measurement and does not occur."""
MOST_ROLL_DEG = 60.0
MIN_GAP = 0.08
"""Two objects make a which-closer pair when their depths differ by this share of the farther one."""


@dataclass(frozen=True)
class RenderConfig:
    """One run: how many images go where.

    Attributes:
        out: Folder of the data set; finished scenes in it are kept.
        count: Images in all.
        seed: The same one gives the same scenes.
        split: train, val or test, written into the records.
        models_set: seen, heldout or all models.
        workers: Processes of one thread each.
        views: Images of a scene.
        samples: Per pixel.
        kinds: Only scenes of these, of KINDS; none: all, as often as `layouts` says.
        roll: Standard deviation of the cameras' roll, degrees.
        models: Folder with the archives of models.
        cache: Folder in which they are unpacked.

    Raises:
        ValueError: Quotes a value that is out of range.
    """

    out: Path
    count: int
    seed: int
    split: str = "train"
    models_set: str = "seen"
    workers: int = 2
    views: int = 5
    samples: int = 7
    models: Path = MODELS_DIR
    cache: Path = CACHE_DIR
    kinds: tuple[str, ...] = ()
    roll: float = ROLL_DEG

    def __post_init__(self) -> None:
        for name, low, high in (
            ("count", 1, 10_000_000),
            ("seed", 0, 2**53),
            ("workers", 1, 256),
            ("views", 1, 50),
            ("samples", 1, 4096),
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or not low <= value <= high:
                raise ValueError(f"{name} is {value!r}; expected a whole number from {low} to {high}")
        for name, allowed in (("split", SPLITS), ("models_set", MODEL_SETS)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected one of {', '.join(allowed)}")
        for kind in self.kinds:
            if kind not in KINDS:
                raise ValueError(f"kinds has {kind!r}; expected some of {', '.join(KINDS)}")
        if not 0 <= self.roll <= MOST_ROLL_DEG:
            raise ValueError(f"roll is {self.roll!r}; expected degrees from 0 to {MOST_ROLL_DEG:g}")

    @property
    def scenes(self) -> int:
        """How many scenes there are."""
        return -(-self.count // self.views)

    def views_of(self, scene: int) -> int:
        """How many images scene number `scene` gives: `views`, fewer for the last one."""
        return min(self.views, self.count - scene * self.views)


@dataclass(frozen=True)
class Seen:
    """One instance in view: its number in the mask, its name, its colour where it was given one, its model."""

    number: int
    name: str
    colour: str | None
    model: str
    visible: float


def depth_to_map(depth: np.ndarray) -> np.ndarray:
    """Metres (infinite = sky) → 16-bit millimetres."""
    return np.clip(np.nan_to_num(depth * 1000, posinf=FAR).round(), 1, FAR).astype(np.uint16)


def disparity_of(depth_map: np.ndarray) -> np.ndarray:
    """16-bit millimetres → 1/m; 0 for sky and beyond, NaN where nothing was measured."""
    millimetres = depth_map.astype(np.float64)
    with np.errstate(divide="ignore"):
        disparity = 1000 / np.where(millimetres == 0, np.nan, millimetres)
    return np.where(depth_map == FAR, 0.0, disparity)


def relative_depth(disparity: float, low: float, high: float) -> float:
    """Relative depth in [0, 1], 0 = nearest, of a disparity (1/m), given the image's 2nd and 98th percentiles."""
    return float(np.clip(1 - (disparity - low) / max(high - low, 1e-9), 0, 1))


def describe(
    depth_map: np.ndarray, numbers: np.ndarray, seen: Iterable[Seen], min_pixels: int, most: int = 12
) -> dict[str, Any]:
    """Objects, percentiles and visible names of one image: the part of a record that comes from its maps.

    An object with fewer than `min_pixels` or less than 40 % visible is not labelled, but still keeps others of its name
    from being `unique`.

    Args:
        depth_map: 16-bit millimetres [height, width].
        numbers: Object numbers [height, width].
        seen: The instances in view.
        min_pixels: Fewest pixels of a labelled object.
        most: Objects labelled at most, the best visible ones.

    Returns:
        The fields `disparity_p2`, `disparity_p98`, `visible_names` and `objects` of a record.
    """
    disparity = disparity_of(depth_map)
    low, high = (float(v) for v in np.nanpercentile(disparity, [2, 98]))
    pixels = np.bincount(numbers.ravel(), minlength=256)
    there = [s for s in seen if pixels[s.number] >= 12]
    able = [s for s in there if pixels[s.number] >= min_pixels and s.visible >= 0.4]
    able = sorted(
        sorted(able, key=lambda s: -s.visible * min(pixels[s.number], 4 * min_pixels))[:most], key=lambda s: s.number
    )
    boxes = {s.number: box_of(numbers == s.number) for s in there}
    objects = []
    for s in able:
        value = float(np.median(disparity[numbers == s.number]))
        unique = not any(could_mean(s.name, t.name) for t in there if t is not s)
        objects.append(
            {
                "name": s.name,
                "box": boxes[s.number],
                "depth_m": round(1 / max(value, 1e-3), 4),
                "depth": round(relative_depth(value, low, high), 4),
                "method": "rendered",
                "unique": unique,
                "ref": s.name if unique else _phrase(s, there, boxes, numbers.shape[1]),
                "colour": s.colour,
                "mask_id": s.number,
                "pixels": int(pixels[s.number]),
                "visible": round(s.visible, 3),
                "model": s.model,
            }
        )
    return {
        "disparity_p2": low,
        "disparity_p98": high,
        "visible_names": sorted({s.name for s in there}),
        "objects": objects,
    }


def box_of(mask: np.ndarray) -> list[int]:
    """The pixels of a mask as x1, y1, x2, y2, the latter two exclusive."""
    ys, xs = np.nonzero(mask)
    return [int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1]


def _phrase(s: Seen, there: list[Seen], boxes: dict[int, list[int]], width: int) -> str | None:
    """Words that mean this object alone although its name does not: its colour, or leftmost and rightmost."""
    others = [t for t in there if t is not s and could_mean(s.name, t.name)]
    if s.colour and all(t.colour and t.colour != s.colour for t in others):
        return f"{s.colour} {s.name}"
    if any(t.name != s.name for t in others):
        return None
    middle = {n: (b[0] + b[2]) / 2 for n, b in boxes.items()}
    apart = [middle[s.number] - middle[t.number] for t in others]
    if max(apart) < -0.08 * width:
        return f"leftmost {s.name}"
    return f"rightmost {s.name}" if min(apart) > 0.08 * width else None


def pairs(record: dict[str, Any], only_ref: bool = False) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """The image's which-closer pairs, (closer, farther)."""
    objects = [o for o in record["objects"] if o["ref"] or not only_ref]
    found = []
    for i, a in enumerate(objects):
        for b in objects[i + 1 :]:
            near, far = (a, b) if a["depth_m"] < b["depth_m"] else (b, a)
            if far["depth_m"] - near["depth_m"] >= MIN_GAP * far["depth_m"]:
                found.append((near, far))
    return found


def shares(records: Iterable[dict[str, Any]]) -> dict[str, float]:
    """How often simple rules hold over all pairs: `lower_breaks`, `lower_ties`, `larger_closer`, and counts."""
    breaks = ties = larger = total = images = objects = 0
    for record in records:
        images, objects = images + 1, objects + len(record["objects"])
        for near, far in pairs(record):
            total += 1
            breaks += near["box"][3] < far["box"][3]
            ties += near["box"][3] == far["box"][3]
            larger += _area(near) > _area(far)
    n = max(1, total)
    return {
        "images": images,
        "objects_per_image": round(objects / max(1, images), 2),
        "pairs": total,
        "lower_breaks": round(breaks / n, 4),
        "lower_ties": round(ties / n, 4),
        "larger_closer": round(larger / n, 4),
    }


def _area(o: dict[str, Any]) -> int:
    x1, y1, x2, y2 = o["box"]
    return (x2 - x1) * (y2 - y1)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is seen whole or not at all."""
    with atomic_write(path) as part:
        part.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Write compact JSON so that it is seen whole or not at all."""
    write_whole(path, json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def png(array: np.ndarray) -> bytes:
    """An array [height, width], 8 or 16 bits, as a PNG file."""
    out = io.BytesIO()
    Image.fromarray(array).save(out, "PNG")
    return out.getvalue()


def scene_name(seed: int, scene: int) -> str:
    """With what the names of a scene's images begin."""
    return f"{seed}-{scene:05d}"


def scene_file(out: Path, seed: int, scene: int) -> Path:
    """The records of a finished scene: that the file exists marks the scene as done."""
    return out / "scenes" / f"{scene_name(seed, scene)}.json"


def write_image(
    out: Path, name: str, jpeg: bytes, depth_map: np.ndarray, numbers: np.ndarray, labelled: set[int]
) -> None:
    """The three pictures of one image; unlabelled objects are 0 in the mask."""
    write_whole(out / "images" / f"{name}.jpg", jpeg)
    write_whole(out / "depth" / f"{name}.png", png(depth_map))
    write_whole(
        out / "masks" / f"{name}.png", png(np.where(np.isin(numbers, sorted(labelled)), numbers, 0).astype(np.uint8))
    )


def assemble(out: Path) -> list[dict[str, Any]]:
    """Make annotations.json of all finished scenes; returns its records."""
    records = [r for f in sorted((out / "scenes").glob("*.json")) for r in json.loads(f.read_text())]
    write_whole(out / "annotations.json", json.dumps(records, ensure_ascii=False, indent=0).encode())
    return records
