"""Cameras: where one may stand in a scene, and where points of the world fall in its image. Pure numpy, no Blender.

Promises: every camera proposed stands outside all solid things and has several objects in front of it.
Axes: world z up; camera x right, y up, looking along -z (Blender's own). Knows nothing of rendering.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SIZES_INDOOR = ((320, 240),) * 6 + ((320, 180),) * 2 + ((240, 320),) * 2
SIZES_STREET = ((360, 200),) * 4 + ((320, 240),) * 4 + ((320, 180),) * 2
SIZES_DASH = ((320, 96),) * 4 + ((320, 112),) * 3 + ((288, 160),) * 2
ROLL_DEG = 2.5
"""Standard deviation of a camera's roll, as it mostly stands; drawn within MAX_ROLLS of them."""
MAX_ROLLS = 2.4
ANY_HEIGHT = ((0.2, 0.7, 0.3), (0.7, 1.8, 0.45), (1.6, 2.2, 0.25))


@dataclass(frozen=True)
class Camera:
    """A pinhole camera: position, rotation (columns right, up, backwards), horizontal field of view (rad), size."""

    position: tuple[float, float, float]
    rotation: np.ndarray
    fov: float
    width: int
    height: int

    def __post_init__(self) -> None:
        if not 0.1 < self.fov < 2.6:
            raise ValueError(f"field of view {self.fov!r} rad; expected 0.1 … 2.6")
        if min(self.width, self.height) < 16:
            raise ValueError(f"image of {self.width}x{self.height}; expected sides of at least 16")

    @property
    def focal(self) -> float:
        """Focal length in pixels."""
        return self.width / 2 / math.tan(self.fov / 2)

    @property
    def quaternion(self) -> tuple[float, float, float, float]:
        """Rotation (x, y, z, w) from the optical frame (x right, y down, z forward) to the world."""
        m = self.rotation * [1, -1, -1]
        w = math.sqrt(max(0.0, 1 + m[0, 0] + m[1, 1] + m[2, 2])) / 2
        x = math.copysign(math.sqrt(max(0.0, 1 + m[0, 0] - m[1, 1] - m[2, 2])) / 2, m[2, 1] - m[1, 2])
        y = math.copysign(math.sqrt(max(0.0, 1 - m[0, 0] + m[1, 1] - m[2, 2])) / 2, m[0, 2] - m[2, 0])
        z = math.copysign(math.sqrt(max(0.0, 1 - m[0, 0] - m[1, 1] + m[2, 2])) / 2, m[1, 0] - m[0, 1])
        return x, y, z, w

    def project(self, points: np.ndarray) -> np.ndarray:
        """N×3 world points → N×3 of pixel u, pixel v and depth along the axis (u, v are NaN behind the camera)."""
        p = (points - np.asarray(self.position)) @ self.rotation
        z = -p[:, 2]
        safe = np.where(z > 0.02, z, np.nan)
        u = self.width / 2 + self.focal * p[:, 0] / safe
        v = self.height / 2 - self.focal * p[:, 1] / safe
        return np.stack([u, v, z], 1)


def drawn_roll(rng: random.Random, stddev_deg: float) -> float:
    """How far a camera is turned about its axis, radians, at most MAX_ROLLS standard deviations."""
    most = MAX_ROLLS * stddev_deg
    return math.radians(max(-most, min(most, rng.gauss(0, stddev_deg))))


def looking(
    position: Sequence[float] | np.ndarray,
    direction: Sequence[float] | np.ndarray,
    roll: float,
    fov: float,
    size: tuple[int, int],
) -> Camera:
    """The camera at `position` (m) that looks along `direction`, turned by `roll` (rad) about it."""
    f = np.asarray(direction, float) / np.linalg.norm(direction)
    right = np.cross(f, (0, 0, 1))
    right = right / np.linalg.norm(right) if np.linalg.norm(right) > 1e-3 else np.array([1.0, 0, 0])
    up = np.cross(right, f)
    c, s = math.cos(roll), math.sin(roll)
    rotation = np.stack([c * right + s * up, c * up - s * right, -f], 1)
    x, y, z = (float(v) for v in position)
    return Camera((x, y, z), rotation, fov, *size)


@dataclass(frozen=True)
class Views:
    """Where cameras of a scene may stand and look.

    `x`, `y`: the ground area; `z`: (low, high) heights, each with its weight;
    `fov`: degrees; `jitter`: how far from an object's centre the camera aims, metres; `clearance`: nearest solid;
    `forward`: the share of cameras that look along +y, as from a car or down a corridor, rather than at an object.
    """

    x: tuple[float, float]
    y: tuple[float, float]
    z: tuple[tuple[float, float, float], ...]
    fov: tuple[float, float]
    jitter: float
    clearance: float
    sizes: tuple[tuple[int, int], ...]
    floor: float = 0.0
    want: int = 4
    forward: float = 0.0

    def propose(
        self, rng: random.Random, targets: list[np.ndarray], solids: list[np.ndarray], roll_deg: float = ROLL_DEG
    ) -> Camera | None:
        """One camera that sees at least `want` targets (point clouds) in its frame; None where 60 tries find none.

        Of the first few that do, at random any or the one before which `lower edge = closer` fails most. `roll_deg`:
        standard deviation of its roll.
        """
        good: list[tuple[float, Camera]] = []
        wanted = rng.choice((1, 3, 4, 6))
        for _ in range(60):
            camera = self._any(rng, targets, roll_deg)
            if camera is None or any(self._blocked(np.asarray(camera.position), s) for s in solids):
                continue
            boxes = [b for b in (self._in_frame(camera, t) for t in targets) if b is not None]
            if len(boxes) >= self.want:
                good.append((_counter_heuristic(boxes), camera))
                if len(good) == wanted:
                    break
        return max(good, key=lambda g: g[0])[1] if good else None

    def _any(self, rng: random.Random, targets: list[np.ndarray], roll_deg: float) -> Camera | None:
        low, high, _ = rng.choices(self.z, [w for *_, w in self.z])[0]
        position = np.array([rng.uniform(*self.x), rng.uniform(*self.y), self.floor + rng.uniform(low, high)])
        shake = [rng.gauss(0, self.jitter), rng.gauss(0, self.jitter), rng.gauss(0, self.jitter / 2)]
        direction = rng.choice(targets).mean(0) + shake - position
        if rng.random() < self.forward:
            yaw, pitch = rng.gauss(0, 0.25), rng.gauss(-0.06, 0.1)
            direction = np.array([math.sin(yaw), math.cos(yaw), math.tan(pitch)])
        size = rng.choice(self.sizes)
        fov = math.radians(rng.uniform(*self.fov)) * (0.8 if size[1] > size[0] else 1)
        roll = drawn_roll(rng, roll_deg)
        return looking(position, direction, roll, fov, size) if np.linalg.norm(direction) > 0.3 else None

    def _blocked(self, position: np.ndarray, solid: np.ndarray) -> bool:
        return bool(((position > solid[0] - self.clearance) & (position < solid[1] + self.clearance)).all())

    @staticmethod
    def _in_frame(camera: Camera, points: np.ndarray) -> tuple[float, float] | None:
        """Lower edge (pixels) and depth of a target that is mostly in the frame and large enough, else None."""
        uvz = camera.project(points[:: max(1, len(points) // 40)])
        inside = (uvz[:, 0] > 0) & (uvz[:, 0] < camera.width) & (uvz[:, 1] > 0) & (uvz[:, 1] < camera.height)
        inside &= uvz[:, 2] > 0.25
        if inside.mean() < 0.5:
            return None
        spread = np.ptp(uvz[inside, 0]) * np.ptp(uvz[inside, 1])
        if spread < 0.006 * camera.width * camera.height:
            return None
        return float(uvz[inside, 1].max()), float(np.median(uvz[inside, 2]))


def _counter_heuristic(boxes: list[tuple[float, float]]) -> float:
    """Share, times √pairs, of the pairs 8 % or more apart in which the lower edge is not closer."""
    pairs = broken = 0
    for i, (edge, depth) in enumerate(boxes):
        for other_edge, other_depth in boxes[i + 1 :]:
            if abs(depth - other_depth) >= 0.08 * max(depth, other_depth):
                pairs += 1
                broken += (edge - other_edge) * (depth - other_depth) > 0
    return broken / math.sqrt(pairs) if pairs else 0.0
