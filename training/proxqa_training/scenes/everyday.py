"""Corridors, kitchens and offices: indoor scenes in which things stand where one expects them.

Promises and ignorance as in `layouts`.
"""

from __future__ import annotations

import math

from proxqa_training.scenes.camera import ANY_HEIGHT, SIZES_INDOOR, Views
from proxqa_training.scenes.catalogue import Model
from proxqa_training.scenes.placing import Decorator, Room, Rule

_SIDES = ("left", "right")
_APPLIANCES = ("refrigerator", "stove", "oven", "dishwasher", "sink", "washing machine", "cabinet")
_COOKING = frozenset(
    {
        "apple",
        "birthday cake",
        "blender",
        "boiler",
        "bottle",
        "bowl",
        "bread",
        "bread box",
        "butter",
        "chicken",
        "coffee maker",
        "creamer",
        "cup",
        "cup cake",
        "deep fryer",
        "espresso kettle",
        "french fries",
        "glass",
        "grinder",
        "hamburger",
        "hot dog",
        "kitchen scale",
        "knife stand",
        "microwave",
        "milk",
        "mixer",
        "mug",
        "old jar",
        "pan",
        "paper towel holder",
        "roasted chicken",
        "salt shaker",
        "sandwich maker",
        "sugar",
        "teapot",
        "toaster",
        "tray",
        "utensils pot",
        "vase",
        "wine bottle",
        "plant",
        "flowers",
    }
)
_DESK_THINGS = frozenset(
    {
        "bottle",
        "box",
        "briefcase",
        "camera",
        "computer",
        "cup",
        "desk lamp",
        "fan",
        "glass",
        "glasses",
        "handbag",
        "headphones",
        "joystick",
        "lamp",
        "laptop",
        "letter tray",
        "mug",
        "pencil case",
        "phone",
        "picture frame",
        "plant",
        "printer",
        "radio",
        "speaker",
        "stapler",
        "stereo",
        "tv",
        "vase",
        "video projector",
    }
)


_DESKS = ("desk", "table", "workbench")
_BESIDE_DESKS = ("bookcase", "shelf", "filing cabinet", "cabinet", "locker", "trash can", "plant", "water cooler")


def _for_cooking(m: Model) -> bool:
    return m.name in _COOKING


def _for_desks(m: Model) -> bool:
    return m.name in _DESK_THINGS


def corridor(dec: Decorator) -> Views:
    """A long, narrow way with doors, things on and along both walls, on shelves and pillars, and people in it."""
    r = dec.rng
    width, depth = r.uniform(1.7, 3.2), r.uniform(8, 15)
    here = Room(dec, width, depth, r.uniform(2.4, 3.2))
    xs, ys = (-width / 2 + 0.3, width / 2 - 0.3), (1.5, depth - 0.3)
    for y in range(2, int(depth), 4):
        dec.stage.lamp("AREA", (0, y, here.height - 0.06), r.uniform(10, 60), r.uniform(0.2, 0.8))
    for _ in range(r.randint(1, 4)):
        here.against_wall(dec.pick(lambda m: m.name == "door"), walls=(*_SIDES, "back"))
    for _ in range(r.randint(5, 10)):
        model = dec.pick(lambda m: m.on_floor and 0.4 < m.size[2] < 2 and m.size[1] < width / 3 and not m.person)
        item = here.against_wall(model, walls=_SIDES)
        if item and item.model.table:
            dec.on_top(item, r.randint(1, 3))
    for _ in range(r.randint(4, 9)):
        here.wall_shelf(_SIDES)
    here.hang(r.randint(5, 12), (*_SIDES, *_SIDES, "back"))
    for _ in range(r.randint(1, 4)):
        dec.pedestal(here.ground, lambda m: 0.2 < m.reach < 0.9 and (m.small or m.on_floor), xs, ys, (0.4, 1.6))
    for _ in range(r.randint(1, 4)):
        here.ground.put(dec.pick(lambda m: m.person or (m.animal and r.random() < 0.3)), xs, ys)
    return Views(xs, (0.25, depth * 0.55), ANY_HEIGHT, (42, 80), 0.6, 0.16, SIZES_INDOOR, forward=0.5)


def _appliance(width: float) -> Rule:
    """Appliances as high as a worktop that are narrower than a width, metres."""
    return lambda m: m.name in _APPLIANCES and m.size[2] > 0.7 and m.size[0] < width


def _counter(dec: Decorator, here: Room, wall: str) -> None:
    """Worktops and appliances side by side along a wall, with things on them; cupboards and shelves above."""
    r, st = dec.rng, dec.stage
    deep, top = r.uniform(0.55, 0.68), r.uniform(0.82, 0.95)
    front, slab = st.surface((0.3, 0.9)), st.surface()
    low, high = here.span(wall)
    at = low + r.uniform(0.02, 0.5)
    while at < high - 0.4:
        left = high - 0.02 - at
        model = dec.pick(_appliance(left))
        if model and r.random() < 0.5:
            item = here.against_wall(model, walls=(wall,), along=at + model.size[0] / 2)
            if item and item.model.top < 1.3 and item.model.name != "sink":
                on_it = (lambda m: m.name == "pan") if item.model.name == "stove" else _for_cooking
                dec.on_top(item, r.randint(0, 2), on_it)
            at += model.size[0] + 0.02
            continue
        width = min(left, r.uniform(0.4, 1.2))
        x, y, yaw = here.at_wall(wall, at + width / 2, deep / 2 + 0.005)
        sides = (width / 2, deep / 2) if wall in ("back", "front") else (deep / 2, width / 2)
        if here.ground.free(x, y, *sides):
            here.ground.take(x, y, *sides)
            here.walls[wall].take(at + width / 2, top / 2 + 0.2, width / 2, top / 2 + 0.2)
            st.block((x, y, (top - 0.04) / 2), (width - 0.01, deep - 0.06, top - 0.04), front, yaw)
            st.block((x, y, top - 0.02), (width, deep, 0.04), slab, yaw)
            dec.on_plane((x, y, top), yaw, (width, deep), r.randint(2, 6), _for_cooking, r.random() < 0.6)
        at += width + 0.01
    for _ in range(r.randint(2, 5)):
        model = dec.pick(lambda m: m.name in ("wall cabinet", "range hood") and m.on_wall)
        item = here.against_wall(model, r.uniform(1.4, 1.6), (wall,))
        if item and here.height - item.place[2] - item.model.size[2] > 0.35:
            dec.on_plane(
                (item.place[0], item.place[1], item.place[2] + item.model.size[2]),
                item.yaw,
                item.model.size[:2],
                r.randint(0, 2),
                lambda m: m.size[2] < 0.33,
            )
    for _ in range(r.randint(1, 4)):
        here.wall_shelf((wall,), _for_cooking)


def kitchen(dec: Decorator) -> Views:
    """Counters along one or two walls, cupboards above, a laid table with chairs, and people."""
    r = dec.rng
    width, depth = r.uniform(2.6, 5), r.uniform(3, 6.5)
    here = Room(dec, width, depth, r.uniform(2.35, 2.9))
    xs, ys = (-width / 2 + 0.35, width / 2 - 0.35), (0.4, depth - 0.35)
    for wall in r.sample(("back", *_SIDES), r.choice([1, 2, 2])):
        _counter(dec, here, wall)
    for _ in range(r.choice([1, 1, 2])):
        model = dec.pick(lambda m: m.name in ("table", "round table", "island") and m.table and 0.6 < m.top < 1.05)
        table = here.ground.put(model, xs, ys, yaw=r.choice([0, math.pi / 2]), gap=0.02)
        if table:
            dec.on_top(table, r.randint(4, 10), _for_cooking)
            dec.seats(here.ground, table, r.randint(2, 5))
    for _ in range(r.randint(1, 3)):
        dec.pedestal(here.ground, lambda m: m.small and m.reach > 0.15, xs, ys, (0.4, 1.6))
    here.hang(r.randint(3, 7))
    for _ in range(r.randint(1, 4)):
        here.wall_shelf(rule=_for_cooking)
    for _ in range(r.randint(1, 3)):
        here.ground.put(dec.pick(lambda m: m.person or m.animal or m.name in ("trash can", "stool", "plant")), xs, ys)
    return Views(
        xs,
        (0.25, depth - 0.25),
        ((0.2, 0.85, 0.5), (0.85, 1.8, 0.35), (1.6, 2.2, 0.15)),
        (50, 85),
        0.4,
        0.16,
        SIZES_INDOOR,
        want=5,
    )


def office(dec: Decorator) -> Views:
    """Desks along the walls and free in the room with computers, lamps and cups; cabinets, shelves, people."""
    r = dec.rng
    width, depth = r.uniform(2.8, 6), r.uniform(3, 7)
    here = Room(dec, width, depth, r.uniform(2.4, 3))
    xs, ys = (-width / 2 + 0.35, width / 2 - 0.35), (0.4, depth - 0.35)
    for _ in range(r.randint(3, 6)):
        model = dec.pick(lambda m: m.name in _DESKS and m.table and 0.65 < m.top < 0.9 and m.size[0] > 0.9)
        if r.random() < 0.55:
            desk = here.against_wall(model)
        else:
            desk = here.ground.put(model, xs, ys, yaw=r.randrange(4) * math.pi / 2, gap=0.02)
        if desk:
            dec.on_top(desk, r.randint(6, 14), _for_desks, facing=True)
            dec.seats(here.ground, desk, r.choice([0, 1, 1, 2]), front_only=True)
    for _ in range(r.randint(1, 4)):
        item = here.against_wall(dec.pick(lambda m: m.on_floor and m.name in _BESIDE_DESKS))
        if item and item.model.table:
            dec.on_top(item, r.randint(1, 2), _for_desks)
    for _ in range(r.randint(4, 9)):
        here.wall_shelf(rule=_for_desks)
    here.hang(r.randint(3, 8))
    for _ in range(r.randint(1, 3)):
        here.ground.put(dec.pick(lambda m: m.person or m.name in ("trash can", "chair", "fan", "suitcase")), xs, ys)
    return Views(xs, (0.25, depth - 0.25), ANY_HEIGHT, (50, 85), 0.35, 0.16, SIZES_INDOOR, want=5)
