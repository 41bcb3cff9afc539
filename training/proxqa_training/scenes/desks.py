"""Desks at arm's length: small things a few centimetres apart, as a robot's hand or a camera on its head sees them.

Promises and ignorance as in `layouts`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from typing import TYPE_CHECKING

from proxqa_training.scenes.camera import SIZES_INDOOR, Views
from proxqa_training.scenes.catalogue import Model
from proxqa_training.scenes.placing import Decorator, Ground, Range, Room

if TYPE_CHECKING:
    from proxqa_training.scenes.assets import Item

TOY_REACH = (0.06, 0.22)
"""Longest side of a toy, metres."""
SMALL_REACH = 0.3
"""Longest side of what lies on a desk, metres."""
FLAT_TOP = 0.7
"""A thing carries another where it is at most this high for its width."""
CLEAR = 0.01
"""Least free space around a thing, metres."""


def toy(model: Model) -> Model:
    """The same model as a toy: so small that it stands on a desk, always of the same size, and called a toy."""
    share = int(hashlib.sha1(model.id.encode()).hexdigest()[:8], 16) / 2**32
    reach = TOY_REACH[0] + share * (TOY_REACH[1] - TOY_REACH[0])
    wide, deep, high = (side * reach / model.reach for side in model.size)
    top = model.top * reach / model.reach
    return dataclasses.replace(
        model, id=f"{model.id}/toy", name=f"toy {model.name}", category="Toys", size=(wide, deep, high), top=top
    )


def _lies_on_desks(model: Model) -> bool:
    return model.small and model.reach <= SMALL_REACH


def _makes_a_toy(model: Model) -> bool:
    stands = model.on_floor or model.vehicle or model.animal or model.person
    return stands and min(model.size) > 0.2 * model.reach and not model.planted


class _Desk:
    """What is put on one top; `share`: of toys among its things."""

    def __init__(self, dec: Decorator, xs: Range, ys: Range, share: float) -> None:
        self.dec, self.xs, self.ys, self.share = dec, xs, ys, share
        self.ground = Ground(dec)

    def thing(self) -> Model | None:
        """Something small, or a toy."""
        if self.dec.rng.random() >= self.share:
            return self.dec.pick(_lies_on_desks)
        model = self.dec.pick(_makes_a_toy)
        return None if model is None else toy(model)

    def put(self) -> Item | None:
        """A thing on the top itself, sometimes with another one on it."""
        item = self.ground.put(self.thing(), self.xs, self.ys, gap=self.dec.rng.choice((CLEAR, CLEAR, 0.03)))
        if item and item.model.size[2] < FLAT_TOP * min(item.model.size[:2]):
            self._stack(item)
        return item

    def _stack(self, base: Item) -> None:
        above, (x, y, z) = self.thing(), base.place
        if above and max(above.size[:2]) <= max(base.model.size[:2]):
            self.dec.stage.put(above, x, y, z + base.model.size[2], self.dec.rng.uniform(0, 2 * math.pi))

    def raised(self) -> Item | None:
        """A thing on a block of its own."""
        model, r = self.thing(), self.dec.rng
        high = r.uniform(0.02, 0.2)
        item = self.ground.put(model, self.xs, self.ys, z=high, gap=CLEAR)
        if model and item:
            wide, deep = (side * r.uniform(1, 1.2) for side in model.size[:2])
            self.dec.stage.block((*item.place[:2], high / 2), (wide, deep, high), self.dec.stage.surface(), item.yaw)
        return item

    def platform(self) -> None:
        """A box, a tray or a pile with a few things side by side on it."""
        r, stage = self.dec.rng, self.dec.stage
        wide, deep, high = r.uniform(0.18, 0.4), r.uniform(0.15, 0.3), r.uniform(0.02, 0.2)
        x, y, half = r.uniform(*self.xs), r.uniform(*self.ys), math.hypot(wide, deep) / 2
        if not self.ground.free(x, y, half, half):
            return
        self.ground.take(x, y, half, half)
        yaw = r.uniform(0, math.pi)
        stage.block((x, y, high / 2), (wide, deep, high), stage.surface(), yaw)
        upper = _Desk(self.dec, (x - wide / 3, x + wide / 3), (y - deep / 3, y + deep / 3), self.share)
        for _ in range(r.randint(1, 4)):
            upper.ground.put(upper.thing(), upper.xs, upper.ys, z=high, gap=CLEAR / 2, tries=4)


def _backdrop(dec: Decorator, mid: float, width: float, deep: float) -> None:
    """Sometimes what stands at the far edge of a desk: a panel, as a screen or a wall would be."""
    r = dec.rng
    if r.random() < 0.35:
        high, side = r.uniform(0.2, 0.8), r.choice((-1, 1))
        place = (r.uniform(-0.2, 0.2), mid + side * (deep / 2 - 0.03), high / 2)
        dec.stage.block(place, (width * r.uniform(0.4, 1), 0.03, high), dec.stage.surface(), r.gauss(0, 0.05))


def desk(dec: Decorator) -> Views:
    """Small things on a desk, a few centimetres apart, some on each other, on blocks and boxes, seen from above."""
    r = dec.rng
    width, deep, tall = r.uniform(0.8, 1.8), r.uniform(0.6, 1.1), r.uniform(0.5, 1.0)
    here = Room(dec, r.uniform(2.6, 5), r.uniform(2.6, 5), r.uniform(2.3, 2.8), floor=-tall)
    mid = r.uniform(1.1, here.depth - 1.1)
    dec.stage.block((0, mid, -0.02), (width, deep, 0.04), dec.stage.surface())
    _backdrop(dec, mid, width, deep)
    spread = r.uniform(0.18, 0.4)
    top = _Desk(dec, (-spread * 1.2, spread * 1.2), (mid - spread, mid + spread), r.uniform(0.1, 0.7))
    for _ in range(r.randint(0, 2)):
        top.platform()
    blocks = r.choice((0.0, 0.15, 0.4))
    for _ in range(r.randint(10, 26)):
        if r.random() < blocks:
            top.raised()
        else:
            top.put()
    here.ground.take(0, mid, width / 2, deep / 2)
    for _ in range(r.randint(0, 3)):
        area = (-here.width / 2 + 0.4, here.width / 2 - 0.4), (0.3, here.depth - 0.3)
        here.ground.put(dec.pick(lambda m: m.on_floor or m.person), *area, z=-tall)
    heights = ((0.12, 0.35, 0.15), (0.35, 0.7, 0.45), (0.6, 1.0, 0.4))
    return Views((-0.7, 0.7), (mid - 0.7, mid + 0.7), heights, (32, 62), 0.08, 0.08, SIZES_INDOOR, want=5)
