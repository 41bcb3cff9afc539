"""The stage: everything of a scene that lives in Blender — meshes, materials, textures, lights.

Promises: `Stage.put` stands a model with the bottom of its box at the given point, its front towards -y when yaw is 0,
at the catalogue's true size; a mesh is read from disk once per process. Knows nothing of what makes a good scene.
"""

from __future__ import annotations

import contextlib
import math
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix

from proxqa_training.scenes.catalogue import COLOURS, Model

MAX_FACES = 40_000
MAX_DISTORTION = 1.15


@dataclass
class Item:
    """A model that stands in the scene: its place, points of its surface in the world, and its number in the mask."""

    model: Model
    place: tuple[float, float, float]
    yaw: float
    points: np.ndarray
    number: int
    handle: Any
    colour: str | None = None

    @property
    def bounds(self) -> np.ndarray:
        """Corners [2, 3] of its surroundings in the world, metres."""
        return np.stack([self.points.min(0), self.points.max(0)])


@dataclass(frozen=True)
class _Mesh:
    data: Any
    points: np.ndarray
    slot_areas: tuple[float, ...]


_meshes: dict[str, _Mesh | None] = {}


def _import(model: Model) -> _Mesh:
    before = set(bpy.data.objects)
    bpy.ops.wm.obj_import(filepath=str(model.file))
    new = [o for o in bpy.data.objects if o not in before]
    try:
        solid = [o for o in new if o.type == "MESH" and len(o.data.polygons)]
        bpy.ops.object.select_all(action="DESELECT")
        for o in solid:
            o.select_set(True)
        bpy.context.view_layer.objects.active = solid[0]
        if len(solid) > 1:
            bpy.ops.object.join()
        mesh = solid[0].data
        if len(mesh.polygons) > MAX_FACES:
            raise ValueError(f"{len(mesh.polygons)} faces")
        co = np.empty(len(mesh.vertices) * 3, np.float32)
        mesh.vertices.foreach_get("co", co)
        turn = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], float)  # OBJ is y up, we are z up
        if model.rotation:
            turn = turn @ np.array(model.rotation, float).reshape(3, 3)
        co = co.reshape(-1, 3) @ turn.T
        low, high = co.min(0), co.max(0)
        scale = np.array(model.size) / np.maximum(high - low, 1e-6)
        if not np.isfinite(scale).all() or scale.max() / scale.min() > MAX_DISTORTION:
            raise ValueError(f"its proportions are not the catalogue's: {scale}")
        middle = np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]])
        move = np.eye(4)
        move[:3, :3] = np.diag(scale) @ turn
        move[:3, 3] = -scale * middle
        mesh.transform(Matrix(move.tolist()))
        mesh.use_fake_user = True
        areas = np.empty(len(mesh.polygons), np.float32)
        slots = np.empty(len(mesh.polygons), np.int32)
        mesh.polygons.foreach_get("area", areas)
        mesh.polygons.foreach_get("material_index", slots)
        total = np.bincount(slots, areas, minlength=max(1, len(mesh.materials)))
        for material in mesh.materials:
            shader = material.node_tree.nodes.get("Principled BSDF") if material and material.node_tree else None
            if shader:
                shader.inputs["Roughness"].default_value = max(0.25, shader.inputs["Roughness"].default_value)
        co = ((co - middle) * scale).astype(np.float32)
        ends = co[[*co.argmin(0), *co.argmax(0)]]
        chosen = np.random.default_rng(0).permutation(len(co))[:400]
        return _Mesh(mesh, np.concatenate([co[chosen], ends]), tuple(float(a) for a in total / max(total.sum(), 1e-9)))
    finally:
        for o in new:
            with contextlib.suppress(ReferenceError):  # joining took it away
                bpy.data.objects.remove(o)


def mesh_of(model: Model) -> _Mesh | None:
    """The model's mesh, or None where it cannot be used (too big, distorted, broken)."""
    if model.id not in _meshes:
        try:
            _meshes[model.id] = _import(model)
        except (ValueError, RuntimeError, IndexError):
            _meshes[model.id] = None
    return _meshes[model.id]


class Stage:
    """An empty scene to be furnished. One exists at a time: making a new one clears Blender's."""

    def __init__(self, rng: random.Random, textures: list[Path]) -> None:
        self.rng, self.textures = rng, textures
        self.items: list[Item] = []
        self.solids: list[np.ndarray] = []
        self.ambient = (0.5, 0.5, 0.5)
        for o in list(bpy.data.objects):
            bpy.data.objects.remove(o)
        for group in (bpy.data.lights, bpy.data.cameras):
            for block in list(group):
                group.remove(block)
        for mesh in [m for m in bpy.data.meshes if m.users == 0]:
            bpy.data.meshes.remove(mesh)
        for material in [m for m in bpy.data.materials if m.users == 0]:
            bpy.data.materials.remove(material)

    def _link(self, name: str, data: Any) -> Any:
        o = bpy.data.objects.new(name, data)
        bpy.context.scene.collection.objects.link(o)
        return o

    def put(self, model: Model, x: float, y: float, z: float = 0.0, yaw: float = 0.0) -> Item | None:
        """Stands a model there; None where its mesh cannot be used or the scene holds 250 already."""
        mesh = mesh_of(model)
        if mesh is None or len(self.items) >= 250:
            return None
        o = self._link(model.name, mesh.data)
        o.location, o.rotation_euler[2], o.pass_index = (x, y, z), yaw, len(self.items) + 1
        c, s = math.cos(yaw), math.sin(yaw)
        p = mesh.points
        world = np.stack([p[:, 0] * c - p[:, 1] * s + x, p[:, 0] * s + p[:, 1] * c + y, p[:, 2] + z], 1)
        item = Item(model, (x, y, z), yaw, world, o.pass_index, o)
        self.items.append(item)
        self.solids.append(item.bounds)
        return item

    def paint(self, item: Item, colour: str) -> None:
        """Gives most of an item's surface one clear colour; its smallest parts keep their own."""
        shade = self.rng.choice(COLOURS[colour])
        material = self.material(shade, rough=self.rng.uniform(0.3, 0.8))
        mesh = mesh_of(item.model)
        assert mesh is not None  # it stands in the scene
        areas = mesh.slot_areas
        covered = 0.0
        for slot in sorted(range(len(item.handle.material_slots)), key=lambda i: -areas[i]):
            if covered < 0.75 or areas[slot] > 0.12:
                item.handle.material_slots[slot].link = "OBJECT"
                item.handle.material_slots[slot].material = material
                covered += areas[slot]
        item.colour = colour

    def material(
        self,
        colour: tuple[float, ...] = (0.5, 0.5, 0.5),
        texture: Path | None = None,
        scale: float = 1.0,
        rough: float = 0.6,
        noise: float = 0.0,
    ) -> Any:
        """A plain, a textured or a blotchy material."""
        m = bpy.data.materials.new("made")
        m.use_nodes = True
        nodes, links = m.node_tree.nodes, m.node_tree.links
        shader = nodes["Principled BSDF"]
        shader.inputs["Roughness"].default_value = rough
        shader.inputs["Base Color"].default_value = (*colour, 1)
        if texture is None and not noise:
            return m
        place = nodes.new("ShaderNodeTexCoord")
        if texture:
            image, mapping = nodes.new("ShaderNodeTexImage"), nodes.new("ShaderNodeMapping")
            image.image = bpy.data.images.load(str(texture), check_existing=True)
            image.projection = "BOX"
            mapping.inputs["Scale"].default_value = (scale,) * 3
            links.new(place.outputs["Object"], mapping.inputs[0])
            links.new(mapping.outputs[0], image.inputs[0])
            links.new(image.outputs[0], shader.inputs["Base Color"])
        else:
            blotches, ramp = nodes.new("ShaderNodeTexNoise"), nodes.new("ShaderNodeValToRGB")
            blotches.inputs["Scale"].default_value, blotches.inputs["Detail"].default_value = scale, 4
            low, high = ramp.color_ramp.elements
            low.position, high.position = 0.3, 0.7
            low.color = (*[c * (1 - noise) for c in colour], 1)
            high.color = (*[min(1.0, c * (1 + noise)) for c in colour], 1)
            links.new(place.outputs["Object"], blotches.inputs["Vector"])
            links.new(blotches.outputs[0], ramp.inputs[0])
            links.new(ramp.outputs[0], shader.inputs["Base Color"])
        return m

    def surface(self, bright: tuple[float, float] = (0.15, 0.85)) -> Any:
        """A material for something large: one of the textures, or a made one."""
        r = self.rng
        if self.textures and r.random() < 0.55:
            return self.material(texture=r.choice(self.textures), scale=r.uniform(0.4, 1.5), rough=r.uniform(0.25, 0.9))
        value, tint = r.uniform(*bright), r.uniform(0, 0.35 if r.random() < 0.8 else 0.9)
        colour = tuple(value * (1 - tint * r.random()) for _ in range(3))
        return self.material(colour, scale=r.uniform(2, 40), rough=r.uniform(0.3, 0.9), noise=r.choice([0, 0.15, 0.4]))

    def block(
        self,
        centre: tuple[float, float, float],
        size: tuple[float, float, float],
        material: Any,
        yaw: float = 0.0,
        shell: bool = False,
        solid: bool = True,
    ) -> None:
        """A box. A `shell` (wall, floor, ceiling) is seen but lets light through; no camera stands in a solid."""
        x, y, z = (s / 2 for s in size)
        corners = np.array([(a, b, c) for a in (-x, x) for b in (-y, y) for c in (-z, z)])
        mesh = bpy.data.meshes.new("block")
        faces = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
        mesh.from_pydata(corners.tolist(), [], faces)
        mesh.materials.append(material)
        o = self._link("block", mesh)
        o.location, o.rotation_euler[2] = centre, yaw
        if shell:
            o.visible_shadow = o.visible_diffuse = False
        elif solid:
            c, s = abs(math.cos(yaw)), abs(math.sin(yaw))
            half = np.array([x * c + y * s, x * s + y * c, z])
            self.solids.append(np.stack([centre - half, centre + half]))

    def lamp(self, kind: str, place: tuple[float, float, float], energy: float, size: float = 1.0, **more: Any) -> None:
        """A light of Blender's kind AREA or SUN (size: metres, or radians of a SUN); `rotation`, `colour` if given."""
        light = bpy.data.lights.new("lamp", kind)
        light.energy, light.color = energy, more.get("colour", (1, 1, 1))
        if kind == "AREA":
            light.size = size
        else:
            light.angle = size
        o = self._link("lamp", light)
        o.location, o.rotation_euler = place, more.get("rotation", (0, 0, 0))

    def sky(self, colour: tuple[float, float, float]) -> None:
        """The light that comes from everywhere."""
        self.ambient = colour
        node = bpy.context.scene.world.node_tree.nodes["Background"]
        node.inputs[0].default_value = (*colour, 1)
        node.inputs[1].default_value = 1
