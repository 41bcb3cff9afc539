"""A robot's short drive through one room, with the truth of every frame.

Promises: the data set's own folder format plus `poses.json`: for every frame its time, the camera's pose and every
object's relative depth, metres and box. Every object has a name of its own; a model that training never saw is taken
where there is one (`model_set` tells which). Knows nothing of bags or of ROS.
"""

from __future__ import annotations

import math
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from proxqa_training.scenes import catalogue, dataset
from proxqa_training.scenes.camera import Camera, looking
from proxqa_training.scenes.catalogue import Model
from proxqa_training.scenes.generate import check_parts

if TYPE_CHECKING:
    from proxqa_training.scenes.assets import Item, Stage

SIZE_PX = (320, 240)
CAMERA_HEIGHT_M = 0.5
FIELD_OF_VIEW_RAD = math.radians(68)
ROOM_M = (5.4, 7.6, 2.6)
MAX_FRAMES = 10_000


@dataclass(frozen=True)
class Spot:
    """Where a thing of this name stands: on the floor, or on a block of height `z`; no longer than `reach`."""

    name: str
    x: float
    y: float
    yaw: float
    z: float = 0.0
    reach: float = 3.0
    height: float = 0.3


SPOTS = (
    Spot("vase", -0.8, 4.1, 0.3, z=0.95),
    Spot("chair", 0.75, 3.9, 0.5, height=0.8),
    Spot("woman", 0.3, 5.4, -0.3, height=1.5),
    Spot("table", -1.45, 5.7, 0.1, reach=1.8),
    Spot("speaker", 1.65, 5.1, -0.3, z=1.0),
    Spot("sofa", 1.3, 7.0, 0.0, reach=2.2),
    Spot("plant", -0.4, 6.9, 0.0, reach=1.3),
    Spot("refrigerator", -2.0, 7.05, 0.0),
)
"""The vase and the speaker stand high: their lower edges are above those of things farther away."""
ON_TABLE = "lamp"


def choose(rng: random.Random, seen: Sequence[Model], heldout: Sequence[Model], spot: Spot) -> Iterator[Model]:
    """Models for a spot in the order to be tried: those held out first."""
    for models in (heldout, seen):
        fitting = [m for m in models if m.name == spot.name and m.reach <= spot.reach and m.size[2] >= spot.height]
        yield from rng.sample(fitting, len(fitting))


def furnish(rng: random.Random, stage: Stage, seen: Sequence[Model], heldout: Sequence[Model]) -> None:
    """Build the room.

    Args:
        rng: Draws the models.
        stage: Where they are put.
        seen: Models that training may have seen.
        heldout: Models that it never saw, taken first.

    Raises:
        ModelsMissingError: The catalogue has no usable model of a name.
    """
    from proxqa_training.scenes.placing import Decorator, Room

    def put(spot: Spot, floor: float) -> Item:
        placed = (stage.put(m, spot.x, spot.y, floor, spot.yaw) for m in choose(rng, seen, heldout, spot))
        item = next((i for i in placed if i), None)
        if item is None:
            raise catalogue.ModelsMissingError(f"no usable model called {spot.name!r}; expected one in the catalogue")
        return item

    Room(Decorator(rng, [], stage), *ROOM_M)
    on_table: tuple[Spot, float] | None = None
    for spot in SPOTS:
        item = put(spot, spot.z)
        if spot.z:
            width = max(item.model.size[:2]) * 1.2
            stage.block((spot.x, spot.y, spot.z / 2), (width, width, spot.z), stage.surface(), spot.yaw)
        if spot.name == "table":
            on_table = Spot(ON_TABLE, spot.x - 0.2, spot.y, 0.0, reach=0.9), item.model.top
    assert on_table is not None
    put(*on_table)


def path(seconds: float, rate: float) -> Iterator[tuple[float, Camera]]:
    """Times and cameras: forward in a slight curve, slowly at both ends."""
    count = round(seconds * rate)
    for i in range(count):
        t = i / max(1, count - 1)
        s = t * t * (3 - 2 * t)
        position = (-0.35 + 0.4 * s, 0.9 + 1.5 * s, CAMERA_HEIGHT_M)
        yaw = -0.06 + 0.14 * math.sin(2 * math.pi * s) * 0.6 + 0.1 * s
        direction = (math.sin(yaw), math.cos(yaw), math.tan(math.radians(3)))
        yield i / rate, looking(position, direction, 0.0, FIELD_OF_VIEW_RAD, SIZE_PX)


def truth(record: dict[str, Any], stage: Stage, depth_map: np.ndarray, numbers: np.ndarray) -> list[dict[str, Any]]:
    """Every object of the scene as this frame shows it; those out of view have no box and no depth."""
    disparity = dataset.disparity_of(depth_map)
    labelled = {o["mask_id"] for o in record["objects"]}
    rows = []
    for item in stage.items:
        mask = numbers == item.number
        row: dict[str, Any] = {"name": item.model.name, "box": None, "depth": None, "depth_m": None}
        if mask.sum() >= 12:
            value = float(np.median(disparity[mask]))
            row["box"] = dataset.box_of(mask)
            row["depth"] = round(dataset.relative_depth(value, record["disparity_p2"], record["disparity_p98"]), 4)
            row["depth_m"] = round(1 / max(value, 1e-3), 4)
        rows.append({**row, "pixels": int(mask.sum()), "labelled": item.number in labelled})
    return rows


def render(
    out: Path,
    seed: int = 1,
    seconds: float = 12.0,
    rate_hz: float = 5.0,
    samples: int = 16,
    models: Path = catalogue.MODELS_DIR,
    cache: Path = catalogue.CACHE_DIR,
) -> int:
    """Render a drive.

    Args:
        out: Folder of the data set.
        seed: The same one gives the same drive.
        seconds: Length of the drive.
        rate_hz: Frames per second.
        samples: Per pixel.
        models: Folder with the archives of models.
        cache: Folder in which they are unpacked.

    Returns:
        How many frames it has.

    Raises:
        ModelsMissingError: The 3D models are not installed.
        ModuleNotFoundError: Blender is not installed.
        ValueError: It would have no frames, or too many.
    """
    if not (seconds > 0 and rate_hz > 0 and 1 <= seconds * rate_hz <= MAX_FRAMES):
        raise ValueError(f"{seconds!r} s at {rate_hz!r} Hz; expected 1 to {MAX_FRAMES} frames")
    check_parts(models, cache)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Blender tells of every file on stdout
    from proxqa_training.scenes.assets import Stage
    from proxqa_training.scenes.render import Renderer
    from proxqa_training.scenes.work import describe

    folders = catalogue.unpack(models, cache)
    renderer, rng = Renderer(samples), random.Random(f"drive/{seed}")
    stage = Stage(rng, catalogue.textures(folders))
    furnish(rng, stage, catalogue.read(folders, "seen"), catalogue.read(folders, "heldout"))
    records, frames, gain = [], [], None
    for i, (time, camera) in enumerate(path(seconds, rate_hz)):
        view, gain = renderer.steady(camera, gain)
        depth_map, name = dataset.depth_to_map(view.depth), f"{i:04d}"
        record = describe(stage, camera, view, "drive")
        dataset.write_image(out, name, view.jpeg, depth_map, view.numbers, {o["mask_id"] for o in record["objects"]})
        files = {"image": f"images/{name}.jpg", "depth_map": f"depth/{name}.png", "mask_map": f"masks/{name}.png"}
        records.append({**files, **record, "scene": f"drive-{seed}", "camera_height": CAMERA_HEIGHT_M})
        pose = {
            "position": [round(v, 5) for v in camera.position],
            "orientation": [round(v, 6) for v in camera.quaternion],
        }
        rows = truth(record, stage, depth_map, view.numbers)
        frames.append({"image": files["image"], "time": round(time, 4), **pose, "objects": rows})
    dataset.write_json(out / "annotations.json", records)
    about = {
        "start": 0.0,
        "period": 1 / rate_hz,
        "frame": "world: z up, metres; orientation x, y, z, w of the optical frame (x right, y down, z forward)",
        "intrinsics": records[0]["intrinsics"],
        "size": list(SIZE_PX),
        "objects": [
            {"name": i.model.name, "model": i.model.id, "model_set": "heldout" if i.model.heldout else "seen"}
            for i in stage.items
        ],
        "frames": frames,
    }
    dataset.write_json(out / "poses.json", about)
    return len(frames)
