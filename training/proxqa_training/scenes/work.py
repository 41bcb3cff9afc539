"""One scene from its number to its files: what a worker process does.

Promises: a scene depends on the seed, its number, the set of models and nothing else — not on the worker that made it.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from proxqa_training.scenes import catalogue, dataset
from proxqa_training.scenes.assets import Stage
from proxqa_training.scenes.camera import Camera
from proxqa_training.scenes.dataset import RenderConfig, Seen
from proxqa_training.scenes.layouts import build
from proxqa_training.scenes.render import Renderer, View

MIN_OBJECTS = 3
MIN_PIXELS_SHARE = 0.0022
MAX_TRIES = 4


class Worker:
    """Blender set up once, for any number of scenes."""

    def __init__(self, config: RenderConfig) -> None:
        self.config = config
        folders = catalogue.unpack(config.models, config.cache)
        self.models = catalogue.read(folders, config.models_set)
        self.textures = catalogue.textures(folders)
        self.renderer = Renderer(config.samples)

    def scene(self, number: int) -> list[dict[str, Any]]:
        """Render a scene and write it; returns its records."""
        config = self.config
        records: list[dict[str, Any]] = []
        wanted, attempt = config.views_of(number), 0
        while len(records) < wanted and attempt < MAX_TRIES:
            rng = random.Random(f"{config.seed}/{number}/{attempt}")
            records += self._views(rng, number, len(records), wanted)
            attempt += 1
        dataset.write_json(dataset.scene_file(config.out, config.seed, number), records)
        return records

    def _views(self, rng: random.Random, number: int, done: int, wanted: int) -> list[dict[str, Any]]:
        stage = Stage(rng, self.textures)
        kind, views = build(rng, self.models, stage, self.config.kinds)
        records: list[dict[str, Any]] = []
        if len(stage.items) < MIN_OBJECTS:
            return records
        clouds = [i.points for i in stage.items]
        for _ in range(2 * (wanted - done)):
            camera = views.propose(rng, clouds, stage.solids, self.config.roll)
            if camera is None:
                break
            view = self.renderer.view(camera, rng, stage.ambient)
            record = describe(stage, camera, view, kind)
            if not usable(view, record):
                continue
            name = f"{dataset.scene_name(self.config.seed, number)}-{done + len(records)}"
            record = {"image": f"images/{name}.jpg", **record, "scene": dataset.scene_name(self.config.seed, number)}
            record |= {"depth_map": f"depth/{name}.png", "mask_map": f"masks/{name}.png"}
            record |= {"split": self.config.split, "camera_height": round(camera.position[2] - views.floor, 3)}
            labelled = {o["mask_id"] for o in record["objects"]}
            dataset.write_image(
                self.config.out, name, view.jpeg, dataset.depth_to_map(view.depth), view.numbers, labelled
            )
            records.append(record)
            if done + len(records) == wanted:
                break
        return records


def describe(stage: Stage, camera: Camera, view: View, kind: str) -> dict[str, Any]:
    """Everything of an image's record that does not depend on its name."""
    present = np.bincount(view.numbers.ravel(), minlength=256)
    seen = [
        Seen(i.number, i.model.name, i.colour, i.model.id, visible_share(camera, view.numbers, i.points, i.number))
        for i in stage.items
        if present[i.number]
    ]
    area = camera.width * camera.height
    found = dataset.describe(dataset.depth_to_map(view.depth), view.numbers, seen, int(MIN_PIXELS_SHARE * area))
    focal = round(camera.focal, 3)
    return {
        "width": camera.width,
        "height": camera.height,
        "source": "rendered",
        "kind": kind,
        "licence": dataset.LICENCE,
        "depth_unit": "m",
        "intrinsics": [focal, focal, camera.width / 2, camera.height / 2],
        **found,
    }


def usable(view: View, record: dict[str, Any]) -> bool:
    """Not too dark or flat, nothing right before the lens, and enough objects."""
    near = float((view.depth < 0.18).mean())
    return len(record["objects"]) >= MIN_OBJECTS and view.contrast > 0.04 and near < 0.12


def visible_share(camera: Camera, numbers: np.ndarray, points: np.ndarray, number: int) -> float:
    """The share of an object's surface points in whose place the image shows it (its front counts for its back)."""
    mask = numbers == number
    grown = mask.copy()
    grown[1:] |= mask[:-1]
    grown[:-1] |= mask[1:]
    wide = grown.copy()
    wide[:, 1:] |= grown[:, :-1]
    wide[:, :-1] |= grown[:, 1:]
    uvz = camera.project(points)
    inside = (
        (uvz[:, 2] > 0.02)
        & (uvz[:, 0] >= 0)
        & (uvz[:, 0] < camera.width)
        & (uvz[:, 1] >= 0)
        & (uvz[:, 1] < camera.height)
    )
    u, v = uvz[inside, 0].astype(int), uvz[inside, 1].astype(int)
    return float(wide[v, u].sum() / max(1, len(points)))
