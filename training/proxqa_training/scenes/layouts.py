"""What scenes are like: rooms, shelves, galleries and table tops, and how often each kind of scene is built.

Promises: `build` furnishes a stage and says where cameras may stand; in every kind, much of what is shown stands at
heights that have nothing to do with its distance. Knows Blender only through the stage.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from proxqa_training.scenes.camera import ANY_HEIGHT, SIZES_INDOOR, Views
from proxqa_training.scenes.catalogue import COLOURS, Model
from proxqa_training.scenes.desks import desk
from proxqa_training.scenes.everyday import corridor, kitchen, office
from proxqa_training.scenes.outdoors import garden, road, street
from proxqa_training.scenes.placing import Decorator, Room

if TYPE_CHECKING:
    from proxqa_training.scenes.assets import Stage


def room(dec: Decorator) -> Views:
    """A furnished room: furniture, things on it, on the walls, on shelves and on blocks, people and pets."""
    r = dec.rng
    width, depth, height = r.uniform(3, 6.5), r.uniform(3.2, 8), r.uniform(2.3, 3)
    here = Room(dec, width, depth, height)
    xs, ys = (-width / 2 + 0.3, width / 2 - 0.3), (0.4, depth - 0.3)
    here.hang(r.randint(2, 6))
    if r.random() < 0.5:
        unit = r.uniform(0.7, 1.6)
        x, y, yaw, _ = here.along_wall(0.3, margin=unit / 2 + 0.1)
        dec.shelf_unit(x, y, yaw, unit, r.randint(2, 5), r.uniform(0.3, 0.45))
        here.ground.take(x, y, 0.6, 0.6)
    for _ in range(r.randint(1, 4)):
        here.wall_shelf()
    for _ in range(r.randint(5, 11)):
        kind = r.random()
        if kind < 0.38:
            item = here.ground.put(dec.pick(lambda m: m.table and m.on_floor), xs, ys)
            if item:
                dec.on_top(item, r.randint(1, 4))
        elif kind < 0.62:
            dec.pedestal(
                here.ground, lambda m: (m.on_floor and m.reach < 1.1) or (m.small and m.reach > 0.2), xs, ys, (0.3, 1.7)
            )
        elif kind < 0.71:
            here.ground.put(dec.pick(lambda m: m.person or m.animal), xs, ys)
        elif kind < 0.84:
            here.against_wall(dec.pick(lambda m: m.on_floor and m.reach > 0.5))
        else:
            here.ground.put(dec.pick(lambda m: m.on_floor and (m.reach > 0.45 or r.random() < 0.2)), xs, ys)
    return Views(xs, (0.25, depth - 0.25), ANY_HEIGHT, (42, 85), 0.5, 0.18, SIZES_INDOOR)


def shelves(dec: Decorator) -> Views:
    """Shelf units at different distances, along walls or in rows, some before others, with things on every level."""
    r = dec.rng
    width, depth, height = r.uniform(2.6, 4.5), r.uniform(3, 6), r.uniform(2.4, 3)
    here = Room(dec, width, depth, height)
    for _ in range(r.randint(2, 4)):
        unit, levels = r.uniform(0.7, 1.7), r.randint(2, 5)
        gap = r.uniform(0.28, min(0.55, 2.0 / levels))
        if r.random() < 0.7:
            x, y, yaw, _ = here.along_wall(0.28, margin=unit / 2 + 0.05)
        else:
            x, y = r.uniform(-width / 2 + 0.7, width / 2 - 0.7), r.uniform(0.8, depth - 0.8)
            yaw = r.uniform(-math.pi, math.pi)
        half = unit / 2 * 0.9
        c, s = abs(math.cos(yaw)), abs(math.sin(yaw))
        half_x, half_y = half * c + 0.25 * s, half * s + 0.25 * c
        if here.ground.free(x, y, half_x, half_y):
            here.ground.take(x, y, half_x, half_y)
            dec.shelf_unit(x, y, yaw, unit, levels, gap)
    for _ in range(r.randint(0, 2)):
        here.wall_shelf()
    xs, ys = (-width / 2 + 0.4, width / 2 - 0.4), (0.5, depth - 0.4)
    for _ in range(r.randint(0, 3)):
        here.ground.put(dec.pick(lambda m: m.on_floor and m.reach < 1.9), xs, ys)
    return Views(xs, (0.3, depth - 0.3), ((0.3, 1.8, 0.8), (1.7, 2.2, 0.2)), (38, 75), 0.25, 0.15, SIZES_INDOOR)


def gallery(dec: Decorator) -> Views:
    """Things on pedestals of all heights and on the walls of a hall, a few people between them."""
    r = dec.rng
    width, depth, height = r.uniform(3.5, 7), r.uniform(4, 10), r.uniform(2.6, 3.5)
    here = Room(dec, width, depth, height)
    xs, ys = (-width / 2 + 0.4, width / 2 - 0.4), (0.6, depth - 0.4)
    here.hang(r.randint(2, 6))
    for _ in range(r.randint(7, 13)):
        dec.pedestal(here.ground, lambda m: 0.25 < m.reach < 1.1 and (m.small or m.on_floor), xs, ys, (0.1, 1.7))
    for _ in range(r.randint(0, 3)):
        here.ground.put(dec.pick(lambda m: m.person or m.animal or (m.on_floor and m.reach > 0.6)), xs, ys)
    return Views(xs, (0.3, depth - 0.3), ANY_HEIGHT, (40, 75), 0.4, 0.2, SIZES_INDOOR)


def tabletop(dec: Decorator) -> Views:
    """Small things on a table top, many on blocks of their own height, seen from low or steeply from above."""
    r = dec.rng
    width, deep, tall = r.uniform(0.9, 2.2), r.uniform(0.7, 1.4), r.uniform(0.4, 1.0)
    here = Room(dec, r.uniform(3, 5), r.uniform(3, 5.5), r.uniform(2.3, 2.8), floor=-tall)
    mid = r.uniform(1.2, here.depth - 1.2)
    dec.stage.block((0, mid, -0.02), (width, deep, 0.04), dec.stage.surface())
    top = type(here.ground)(dec)
    spread = r.uniform(0.4, 0.9)
    xs, ys = (-width / 2 * spread, width / 2 * spread), (mid - deep * 0.47, mid + deep * 0.47)
    high = r.uniform(0.15, 0.6)
    for _ in range(r.randint(6, 13)):
        kind = r.random()
        if kind < 0.55:
            dec.pedestal(top, lambda m: m.small and max(m.size[:2]) < 0.45, xs, ys, (0.03, high))
        else:
            top.put(dec.pick(lambda m: m.small), xs, ys, gap=r.choice([0.0, 0.02]))
    here.hang(r.randint(0, 3))
    here.ground.take(0, mid, width / 2, deep / 2)
    for _ in range(r.randint(1, 4)):
        area = (-here.width / 2 + 0.4, here.width / 2 - 0.4), (0.3, here.depth - 0.3)
        here.ground.put(dec.pick(lambda m: m.on_floor or m.person), *area, z=-tall)
    views = Views(
        (-width / 2 - 0.4, width / 2 + 0.4),
        (mid - deep / 2 - 0.6, mid + deep / 2 + 0.6),
        ((0.05, 0.35, 0.45), (0.3, 0.7, 0.25), (0.6, 1.1, 0.3)),
        (40, 72),
        0.12,
        0.1,
        SIZES_INDOOR,
    )
    return views


KINDS: dict[str, tuple[Callable[[Decorator], Views], float]] = {
    "room": (room, 0.20),
    "shelves": (shelves, 0.13),
    "gallery": (gallery, 0.10),
    "tabletop": (tabletop, 0.14),
    "kitchen": (kitchen, 0.11),
    "office": (office, 0.09),
    "corridor": (corridor, 0.08),
    "street": (street, 0.06),
    "road": (road, 0.06),
    "garden": (garden, 0.03),
    "desk": (desk, 0.0),  # only where it is asked for: what a seed has always given stays
}
"""How each kind of scene is built, and how often where no kinds are asked for."""


def build(rng: random.Random, models: Sequence[Model], stage: Stage, kinds: Sequence[str] = ()) -> tuple[str, Views]:
    """Furnishes the stage as a scene of some kind, colours some things, and says where cameras may stand.

    kinds: one of these, each as often as another; none: all of KINDS, as often as it says.
    """
    shares = [float(kind in kinds) if kinds else share for kind, (_, share) in KINDS.items()]
    kind = rng.choices(list(KINDS), shares)[0]
    views = KINDS[kind][0](Decorator(rng, models, stage))
    _recolour(rng, stage)
    return kind, views


def _recolour(rng: random.Random, stage: Stage) -> None:
    """About a quarter of the things in one clear colour; things of one name often all, each in another colour."""
    by_name: dict[str, list] = {}
    for item in stage.items:
        if item.model.may_be_recoloured:
            by_name.setdefault(item.model.name, []).append(item)
    for items in by_name.values():
        together = len(items) > 1 and rng.random() < 0.4
        colours = rng.sample(sorted(COLOURS), len(COLOURS))
        for i, item in enumerate(items):
            if together or rng.random() < 0.22:
                stage.paint(item, colours[i % len(colours)])
