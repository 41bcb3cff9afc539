"""Streets, roads and gardens: a ground under the sky, with walls, terraces and balconies on which things stand higher.

Promises and ignorance as in `layouts`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from proxqa_training.scenes.camera import SIZES_DASH, SIZES_INDOOR, SIZES_STREET, Views
from proxqa_training.scenes.catalogue import Model
from proxqa_training.scenes.placing import Decorator, Ground, Rule

_CARS = ("car", "van", "truck", "bus")
_ROADSIDE = ("street lamp", "bench", "bicycle", "motorcycle", "trash can", "mailbox", "fire hydrant", "traffic cone")


def _daylight(dec: Decorator) -> None:
    r = dec.rng
    grey = r.uniform(0.5, 1.3)
    dec.stage.sky((grey * r.uniform(0.6, 1), grey * r.uniform(0.75, 1), grey))
    tilt = (r.uniform(-0.9, 0.9), r.uniform(-0.9, 0.9), 0)
    warm = (1, r.uniform(0.88, 1), r.uniform(0.75, 1))
    dec.stage.lamp("SUN", (0, 0, 20), r.uniform(0.3, 5), math.radians(r.uniform(0.5, 12)), rotation=tilt, colour=warm)


def _building(dec: Decorator, x: float, y: float, length: float, height: float, side: int) -> None:
    """A house whose front looks at the road (towards -side), with windows, and things on balconies."""
    r, st = dec.rng, dec.stage
    wall = st.surface((0.35, 0.9))
    st.block((x, y + length / 2, height / 2), (8, length, height), wall)
    glass = st.material((0.05, 0.07, 0.1), rough=0.2)
    at = y + 1.5
    while at < y + length - 1:
        z = 1.6
        while z < height - 1:
            st.block((x - side * 4, at, z), (0.1, 1.1, 1.4), glass, solid=False)
            if z > 3 and z < 6 and r.random() < 0.4:
                st.block((x - side * 4.6, at, z - 1), (1.2, 2.0, 0.15), wall)
                model = dec.pick(
                    lambda m: m.person or (m.planted and m.reach < 2) or m.name in ("chair", "deck chair", "bicycle")
                )
                if model:
                    st.put(model, x - side * 4.6, at + r.uniform(-0.4, 0.4), z - 0.92, r.uniform(0, 6.28))
            z += 2.8
        at += 2.6


def _outside(m: Model) -> bool:
    return m.outdoor and 0.4 < m.reach < 3.2


def _roadway(dec: Decorator, road: float) -> None:
    """A road `road` wide along +y under daylight, a strip for walking on either side, houses along some of it."""
    r, st = dec.rng, dec.stage
    _daylight(dec)
    grey = r.uniform(0.08, 0.35)
    st.block(
        (0, 60, -0.05),
        (300, 300, 0.1),
        st.material((grey, grey, grey), noise=0.25, scale=r.uniform(0.5, 6)),
        solid=False,
    )
    if r.random() < 0.6:
        paint = st.material((0.75, 0.75, 0.72))
        for i in range(1, 12):
            st.block((0, i * 6, 0.003), (0.12, 2.5, 0.01), paint, solid=False)
    for side in (-1, 1):
        walk = st.surface() if r.random() < 0.5 else st.material((0.1, 0.16, 0.05), noise=0.5, scale=5)
        st.block((side * (road / 2 + 9), 60, 0.01), (16, 200, 0.02), walk, solid=False)
        if r.random() < 0.6:
            y = r.uniform(0, 8)
            while y < 70:
                length = r.uniform(6, 18)
                _building(dec, side * (road / 2 + r.uniform(3, 6) + 4), y, length, r.uniform(3, 12), side)
                y += length + r.choice([0, 0, 4])


def street(dec: Decorator) -> Views:
    """A road with cars and people, houses and trees; people and things on walls, loading ramps and balconies."""
    r = dec.rng
    road = r.uniform(6, 12)
    _roadway(dec, road)
    ground = Ground(dec)
    for side in (-1, 1):
        for _ in range(r.randint(0, 4)):
            tree = dec.pick(lambda m: (m.planted and m.reach > 1.2) or m.name == "street lamp")
            near = side * (road / 2 + 1), side * (road / 2 + 3)
            ground.put(tree, (min(near), max(near)), (5, 45), gap=0.2)
        for _ in range(r.randint(3, 6)):
            near = side * (road / 2 + 0.3), side * (road / 2 + 3)
            dec.pedestal(
                ground,
                lambda m: m.person or m.animal or (_outside(m) and m.reach < 2) or m.name in ("motorcycle", "bicycle"),
                (min(near), max(near)),
                (3, 22),
                (0.6, 2.6),
            )
    for _ in range(r.randint(4, 9)):
        kind, side = r.random(), r.choice([-1, 1])
        far = 4 + 36 * r.random() ** 1.5
        if kind < 0.5:
            model = dec.pick((lambda m: m.name == "car") if r.random() < 0.6 else (lambda m: m.name in _CARS))
            x = side * (road / 2 - 1 if r.random() < 0.6 else r.uniform(1.2, road / 2 - 1))
            yaw = r.choice([0, math.pi]) + (r.uniform(-0.1, 0.1) if r.random() < 0.85 else r.uniform(0, 6))
            ground.put(model, (x, x), (far, far), yaw=yaw, gap=0.3, tries=1)
        elif kind < 0.78:
            x = side * r.uniform(0, road / 2 + 3)
            near = 2.5 + 22 * r.random() ** 1.5
            ground.put(dec.pick(lambda m: m.person or m.animal), (x, x), (near, near), tries=1)
        else:
            x = side * r.uniform(0.5, road / 2 + 2)
            near = 2.5 + 20 * r.random() ** 1.5
            ground.put(
                dec.pick(lambda m: (m.vehicle and m.name not in _CARS) or _outside(m)), (x, x), (near, near), tries=1
            )
    heights = ((0.8, 2.2, 0.75), (2.2, 4.5, 0.25))
    return Views(
        (-road / 3, road / 3),
        (-3, 4),
        heights,
        (45, 85),
        1.0,
        0.6,
        SIZES_STREET,
        want=3,
        forward=float(r.random() < 0.35),
    )


def road(dec: Decorator) -> Views:
    """A road as a car's camera sees it: parked and driving vehicles, bicycles, people, trees and lamps, 5 to 60 m away.

    Some stand on blocks and low walls beside the road.
    """
    r = dec.rng
    wide = r.uniform(6.5, 11)
    _roadway(dec, wide)
    ground = Ground(dec)
    lane = wide / 4

    far, put = _far(dec), _put(dec, ground)
    for side in (-1, 1):
        _roadside(dec, ground, side, wide)
    for _ in range(r.randint(2, 6)):
        side = r.choice([-1, 1])
        put(lambda m: m.name in _CARS, side * lane * r.uniform(0.8, 1.1), far(7, 60), math.pi * (side < 0))
    for _ in range(r.randint(1, 5)):
        x = r.uniform(-wide / 2, wide / 2)
        if r.random() < 0.5:
            put(lambda m: m.name in ("bicycle", "motorcycle", "scooter"), x, far(5, 30), r.gauss(0, 0.5), 0.1)
        else:
            put(lambda m: m.person, x, far(5, 35), gap=0.1)
    height = ((1.4, 1.8, 1.0),)
    return Views((-lane - 0.3, lane + 0.3), (-3, 6), height, (65, 95), 1.0, 0.8, SIZES_DASH, want=3, forward=0.9)


def _far(dec: Decorator) -> Callable[[float, float], float]:
    """Draws distances between two, the near ones more often."""
    return lambda low, high: low + (high - low) * dec.rng.random() ** 1.4


def _put(dec: Decorator, ground: Ground) -> Callable[..., None]:
    """Puts a thing that keeps a rule at a place."""

    def put(rule: Rule, x: float, y: float, yaw: float | None = None, gap: float = 0.3) -> None:
        ground.put(dec.pick(rule), (x, x), (y, y), yaw=yaw, gap=gap, tries=1)

    return put


def _roadside(dec: Decorator, ground: Ground, side: int, wide: float) -> None:
    """What stands along one side of a road: parked vehicles, plants, lamps, people, some on blocks and low walls."""
    r, far, put = dec.rng, _far(dec), _put(dec, ground)
    if r.random() < 0.75:
        y = r.uniform(5, 12)
        while y < 60:
            if r.random() < 0.6:
                along = 0 if r.random() < 0.8 else math.pi
                put(lambda m: m.name in ("car", "van"), side * (wide / 2 - 0.2), y, along + r.gauss(0, 0.03))
            y += r.uniform(5.5, 9)
    for _ in range(r.randint(2, 7)):
        put(lambda m: m.planted and m.reach > 1.2, side * (wide / 2 + r.uniform(1.5, 5)), far(6, 60))
    for _ in range(r.randint(0, 4)):
        put(lambda m: m.name in _ROADSIDE, side * (wide / 2 + r.uniform(1, 2.5)), far(4, 35))
    for _ in range(r.randint(2, 6)):
        put(lambda m: m.person or (m.animal and r.random() < 0.2), side * (wide / 2 + r.uniform(1, 3)), far(4, 40))
    for _ in range(r.randint(0, 3)):
        left, right = sorted((side * (wide / 2 + 1), side * (wide / 2 + 3)))
        dec.pedestal(ground, lambda m: m.person or m.name in _ROADSIDE, (left, right), (5, 25), (0.3, 1.6))


def garden(dec: Decorator) -> Views:
    """A lawn with garden furniture, plants, animals and people, much of it on terraces and walls."""
    r, st = dec.rng, dec.stage
    _daylight(dec)
    lawn = st.material((0.07, 0.15, 0.04), noise=0.5, scale=r.uniform(2, 8)) if r.random() < 0.6 else st.surface()
    st.block((0, 40, -0.05), (200, 200, 0.1), lawn, solid=False)
    ground = Ground(dec)
    end = r.uniform(7, 16)
    if r.random() < 0.7:
        st.block((r.uniform(-2, 2), end + 1, 1.2), (18, 0.3, r.uniform(1, 5)), st.surface((0.35, 0.9)))

    def rule(m: Model) -> bool:
        named = m.name in ("bicycle", "chair", "table")
        return _outside(m) or m.person or m.animal or named or (m.planted and m.reach < 3)

    for _ in range(r.randint(4, 8)):
        dec.pedestal(ground, lambda m: rule(m) and m.reach < 2.2, (-4, 4), (2, end), (0.3, 2.2))
    for _ in range(r.randint(3, 7)):
        item = ground.put(dec.pick(rule), (-4.5, 4.5), (1.5, end))
        if item and item.model.table:
            dec.on_top(item, r.randint(1, 3))
    return Views((-3, 3), (-1.5, 2), ((0.5, 1.9, 0.7), (1.9, 3.0, 0.3)), (42, 80), 0.8, 0.4, SIZES_INDOOR)
