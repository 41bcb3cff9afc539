"""Putting single things where they belong: on free ground, on tops, on shelves, on walls, on pedestals.

Promises: things put through one `Ground` do not overlap seen from above. Knows Blender only through the stage.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from proxqa_training.scenes.catalogue import Model

if TYPE_CHECKING:
    from proxqa_training.scenes.assets import Item, Stage

Rule = Callable[[Model], bool]
Range = tuple[float, float]
WALLS = ("back", "left", "right", "front")


class Decorator:
    """Chooses models and puts them on one stage."""

    def __init__(self, rng: random.Random, models: Sequence[Model], stage: Stage) -> None:
        self.rng, self.models, self.stage = rng, models, stage

    def pick(self, rule: Rule) -> Model | None:
        """A model that follows the rule: first a name (frequent ones more often), then one of its models."""
        names: dict[str, list[Model]] = {}
        for model in self.models:
            if rule(model):
                names.setdefault(model.name, []).append(model)
        if not names:
            return None
        words = sorted(names)
        return self.rng.choice(names[self.rng.choices(words, [len(names[w]) ** 0.6 for w in words])[0]])

    def shelf_unit(
        self, x: float, y: float, yaw: float, width: float, levels: int, gap: float, base: float = 0.05
    ) -> None:
        """An open shelf of boards, its front towards -y at yaw 0, with things on its levels at different depths."""
        r, st = self.rng, self.stage
        depth, thick = r.uniform(0.28, 0.5), 0.025
        c, s = math.cos(yaw), math.sin(yaw)
        material = st.surface()

        def board(u: float, v: float, z: float, size: tuple[float, float, float]) -> None:
            st.block((x + u * c - v * s, y + u * s + v * c, z), size, material, yaw)

        height = base + levels * gap
        for side in (-1, 1):
            board(side * width / 2, 0, height / 2, (thick, depth, height + 0.02))
        if r.random() < 0.6:
            board(0, depth / 2, height / 2, (width, 0.01, height))
        for level in range(levels + 1):
            z = base + level * gap
            board(0, 0, z - thick / 2, (width, depth, thick))
            u = -width / 2 + 0.04
            room = (gap if level < levels else 0.5) - thick - 0.01
            while u < width / 2 - 0.1:
                if r.random() < 0.3:
                    u += r.uniform(0.1, 0.35)
                    continue
                free = width / 2 - 0.03 - u
                model = self.pick(_fits_shelf(room, free, depth))
                if model is None:
                    break
                slack = max(0.0, depth - model.size[1]) / 2
                v = r.uniform(-slack, slack)
                at = u + model.size[0] / 2
                st.put(model, x + at * c - v * s, y + at * s + v * c, z, yaw + r.gauss(0, 0.15))
                u += model.size[0] + r.uniform(0.02, 0.2)

    def on_top(self, base: Item, count: int, rule: Rule | None = None, facing: bool = False) -> None:
        """Small things on the top of a table or the like; see `on_plane`."""
        x, y, z = base.place
        width, deep, _ = base.model.size
        inside = 0.7 if base.model.name.startswith("round") else 1.0  # a round top has no corners
        self.on_plane((x, y, z + base.model.top), base.yaw, (width * inside, deep * inside), count, rule, facing)

    def on_plane(
        self,
        centre: tuple[float, float, float],
        yaw: float,
        size: tuple[float, float],
        count: int,
        rule: Rule | None = None,
        facing: bool = False,
    ) -> None:
        """Up to `count` small things beside each other on a level rectangle, those that follow `rule` first.

        `facing`: their fronts look where the rectangle's front does, roughly; else they are turned at random.
        """
        r, ground = self.rng, Ground(self)
        c, s = math.cos(yaw), math.sin(yaw)
        for _ in range(count):

            def fits(m: Model) -> bool:
                return m.small and max(m.size[:2]) < 0.8 * min(size)

            model = (self.pick(lambda m: fits(m) and rule(m)) if rule and r.random() < 0.85 else None) or self.pick(
                fits
            )
            if model is None:
                return
            slack = [max(0.0, side - max(model.size[:2])) / 2 for side in size]
            u, v = r.uniform(-slack[0], slack[0]), r.uniform(-slack[1], slack[1])
            x, y = centre[0] + u * c - v * s, centre[1] + u * s + v * c
            turn = yaw + r.gauss(0, 0.3) if facing else None
            ground.put(model, (x, x), (y, y), z=centre[2], yaw=turn, gap=0.01, tries=1)

    def seats(self, ground: Ground, table: Item, count: int, front_only: bool = False) -> None:
        """Chairs at the long sides of a table, turned to it; at a desk's front only."""
        r = self.rng
        c, s = math.cos(table.yaw), math.sin(table.yaw)
        for _ in range(count):
            model = self.pick(lambda m: m.name in ("chair", "stool", "bar chair") and 0.6 < m.size[2] < 1.3)
            if model is None:
                return
            side = -1 if front_only else r.choice([-1, 1])
            u = r.uniform(-0.35, 0.35) * table.model.size[0]
            v = side * (table.model.size[1] / 2 + model.size[1] / 2 + r.uniform(0.08, 0.4))
            x, y = table.place[0] + u * c - v * s, table.place[1] + u * s + v * c
            ground.put(model, (x, x), (y, y), yaw=table.yaw + (0 if side > 0 else math.pi), gap=0.01, tries=1)

    def pedestal(
        self, ground: Ground, rule: Rule, xs: Range, ys: Range, heights: Range, floor: float = 0.0
    ) -> Item | None:
        """A thing on a block of its own height."""
        model = self.pick(rule)
        height = self.rng.uniform(*heights)
        item = ground.put(model, xs, ys, z=floor + height, gap=0.06) if model else None
        if model and item:
            size = (model.size[0] * self.rng.uniform(1, 1.25), model.size[1] * self.rng.uniform(1, 1.25), height)
            x, y, _ = item.place
            self.stage.block((x, y, floor + height / 2), size, self.stage.surface(), item.yaw)
        return item


def _fits_shelf(height: float, width: float, depth: float) -> Rule:
    """Small things that fit on a shelf of this clear height, width and depth, metres."""

    def fits(m: Model) -> bool:
        wide, deep, high = m.size
        return m.small and high < height and m.reach > 0.1 and wide < min(width, 0.55) and deep < depth + 0.08

    return fits


class Ground:
    """A level on which things stand beside each other."""

    def __init__(self, decorator: Decorator) -> None:
        self.decorator = decorator
        self.taken: list[tuple[float, float, float, float]] = []

    def free(self, x: float, y: float, half_x: float, half_y: float) -> bool:
        """Whether nothing stands in a rectangle, given by its centre and half its sides, metres."""
        return all(x + half_x < t[0] or t[2] < x - half_x or y + half_y < t[1] or t[3] < y - half_y for t in self.taken)

    def take(self, x: float, y: float, half_x: float, half_y: float) -> None:
        """Note that something stands in a rectangle."""
        self.taken.append((x - half_x, y - half_y, x + half_x, y + half_y))

    def put(
        self,
        model: Model | None,
        xs: Range,
        ys: Range,
        z: float = 0.0,
        yaw: float | None = None,
        gap: float = 0.05,
        tries: int = 20,
    ) -> Item | None:
        """Stands the model where it is free in the area, turned at random unless `yaw` says how; None if nowhere."""
        if model is None:
            return None
        r = self.decorator.rng
        yaw = r.uniform(0, 2 * math.pi) if yaw is None else yaw
        c, s = abs(math.cos(yaw)), abs(math.sin(yaw))
        half_x = (model.size[0] * c + model.size[1] * s) / 2
        half_y = (model.size[0] * s + model.size[1] * c) / 2
        for _ in range(tries):
            x, y = r.uniform(*xs), r.uniform(*ys)
            if self.free(x, y, half_x + gap, half_y + gap):
                item = self.decorator.stage.put(model, x, y, z, yaw)
                if item:
                    self.take(x, y, half_x + gap, half_y + gap)
                return item
        return None


class Room:
    """Four walls, a floor and a ceiling with y from 0 to `depth`, x around 0, and the light in it."""

    def __init__(self, decorator: Decorator, width: float, depth: float, height: float, floor: float = 0.0) -> None:
        self.decorator, self.width, self.depth, self.height, self.floor = decorator, width, depth, height, floor
        self.ground = Ground(decorator)
        self.walls = {wall: Ground(decorator) for wall in WALLS}
        r, st = decorator.rng, decorator.stage
        wall, mid, top = st.surface((0.35, 0.9)), depth / 2, floor + height
        st.block((0, mid, floor - 0.05), (width, depth, 0.1), st.surface(), shell=True)
        st.block((0, mid, top + 0.05), (width, depth, 0.1), st.material((r.uniform(0.6, 0.9),) * 3), shell=True)
        z = floor + height / 2
        for x, y, w, d in (
            (0, depth + 0.05, width, 0.1),
            (0, -0.05, width, 0.1),
            (-width / 2 - 0.05, mid, 0.1, depth),
            (width / 2 + 0.05, mid, 0.1, depth),
        ):
            st.block((x, y, z), (w, d, height), wall if r.random() < 0.8 else st.surface((0.35, 0.9)), shell=True)
        grey = r.uniform(0.3, 1.0)
        st.sky((grey, grey * r.uniform(0.9, 1), grey * r.uniform(0.8, 1.05)))
        for _ in range(r.choice([1, 1, 2])):
            place = (r.uniform(-0.35, 0.35) * width, r.uniform(0.15, 0.85) * depth, top - 0.06)
            warm = (1, r.uniform(0.75, 1), r.uniform(0.6, 1))
            st.lamp("AREA", place, r.uniform(30, 180), r.uniform(0.2, 1.5), colour=warm)
        if r.random() < 0.4:
            side = r.choice([-1, 1])
            place = (side * (width / 2 - 0.04), r.uniform(0.3, 0.8) * depth, floor + 1.5)
            st.lamp("AREA", place, r.uniform(40, 250), 1.2, rotation=(0, side * math.pi / 2, 0), colour=(0.85, 0.93, 1))

    def along_wall(self, away: float, wall: str | None = None, margin: float = 0.4) -> tuple[float, float, float, str]:
        """A place `away` from a wall and the yaw that turns a front into the room."""
        r = self.decorator.rng
        wall = wall or r.choice(WALLS)
        along_x = r.uniform(-self.width / 2 + margin, self.width / 2 - margin)
        along_y = r.uniform(margin, self.depth - margin)
        return *self.at_wall(wall, along_x if wall in ("back", "front") else along_y, away), wall

    def at_wall(self, wall: str, along: float, away: float) -> tuple[float, float, float]:
        """The place `away` from a wall at x (back, front) or y (left, right) = `along`, and the yaw into the room."""
        return {
            "back": (along, self.depth - away, 0.0),
            "front": (along, away, math.pi),
            "left": (-self.width / 2 + away, along, math.pi / 2),
            "right": (self.width / 2 - away, along, -math.pi / 2),
        }[wall]

    def span(self, wall: str) -> Range:
        """Where a wall begins and ends, as `along` counts."""
        return (-self.width / 2, self.width / 2) if wall in ("back", "front") else (0.0, self.depth)

    def against_wall(
        self, model: Model | None, z: float = 0.0, walls: Sequence[str] = WALLS, along: float | None = None
    ) -> Item | None:
        """Puts the model with its back to one of the walls, its bottom `z` above the floor; None where nothing is free.

        It covers nothing else on that wall, and where its bottom is lower than 0.3 m nothing else on the floor.
        """
        if model is None or z + model.size[2] > self.height:
            return None
        r, (half, deep, tall) = self.decorator.rng, (model.size[0] / 2, model.size[1], model.size[2])
        for _ in range(6 if along is None else 1):
            wall = r.choice(walls)
            low, high = self.span(wall)
            if high - low < 2 * half + 0.1:
                continue
            at = r.uniform(low + half + 0.05, high - half - 0.05) if along is None else along
            x, y, yaw = self.at_wall(wall, at, deep / 2 + 0.005)
            sides = (half, deep / 2) if wall in ("back", "front") else (deep / 2, half)
            stands = z < 0.3
            if self.walls[wall].free(at, z + tall / 2, half, tall / 2) and (
                not stands or self.ground.free(x, y, *sides)
            ):
                item = self.decorator.stage.put(model, x, y, self.floor + z, yaw)
                if item:
                    self.walls[wall].take(at, z + tall / 2, half, tall / 2)
                    if stands:
                        self.ground.take(x, y, *sides)
                return item
        return None

    def hang(self, count: int, walls: Sequence[str] = WALLS) -> None:
        """Pictures, screens, doors, windows, cabinets on the walls; lamps from the ceiling."""
        r, st = self.decorator.rng, self.decorator.stage
        for _ in range(count):
            if r.random() < 0.12:
                lamp = self.decorator.pick(lambda m: m.on_ceiling)
                if lamp and lamp.size[2] < 1.3:
                    z = self.floor + self.height - lamp.size[2]
                    st.put(lamp, r.uniform(-0.3, 0.3) * self.width, r.uniform(0.2, 0.8) * self.depth, z)
                continue
            model = self.decorator.pick(lambda m: m.on_wall)
            if model:
                high = r.uniform(0.1, max(0.15, self.height - model.size[2] - 0.1))
                self.against_wall(model, 0.0 if model.name == "door" else high, walls)

    def wall_shelf(self, walls: Sequence[str] = WALLS, rule: Rule | None = None) -> None:
        """A board on a wall with a few small things on it, most of them such as follow `rule`."""
        r, dec = self.decorator.rng, self.decorator
        width, deep, z = r.uniform(0.5, 1.4), r.uniform(0.2, 0.35), r.uniform(0.6, 1.9)
        for _ in range(4):
            x, y, yaw, wall = self.along_wall(deep / 2 + 0.01, r.choice(walls), margin=width / 2 + 0.05)
            along = x if wall in ("back", "front") else y
            if self.walls[wall].free(along, z + 0.15, width / 2, 0.2):
                break
        else:
            return
        self.walls[wall].take(along, z + 0.15, width / 2, 0.2)
        dec.stage.block((x, y, self.floor + z - 0.015), (width, deep, 0.03), dec.stage.surface(), yaw)
        u = -width / 2

        def fits(m: Model) -> bool:
            return m.small and m.reach > 0.15 and m.size[0] < 0.5 and m.size[1] < deep + 0.06

        for _ in range(r.randint(1, 4)):
            model = (dec.pick(lambda m: fits(m) and rule(m)) if rule and r.random() < 0.85 else None) or dec.pick(fits)
            if model is None or u + model.size[0] > width / 2:
                return
            at = u + model.size[0] / 2
            dec.stage.put(model, x + at * math.cos(yaw), y + at * math.sin(yaw), self.floor + z, yaw)
            u += model.size[0] + r.uniform(0.03, 0.25)
