"""Renders a furnished stage through a camera: photo-like RGB, depth along the axis, and the object in each pixel.

Promises: depth and object numbers belong to the same surface in every pixel; the same seed gives the same pixels.
Knows nothing of names, boxes or files of the data set.
"""

from __future__ import annotations

import io
import random
import tempfile
from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np
from PIL import Image, ImageFilter

from proxqa_training.scenes import exr
from proxqa_training.scenes.camera import Camera

SENSOR_WIDTH = 36.0
SKY_DISTANCE = 900.0


@dataclass(frozen=True)
class View:
    """What one camera saw: 8-bit RGB as JPEG bytes, depth in metres (infinite = sky), object numbers (0 = none)."""

    jpeg: bytes
    depth: np.ndarray
    numbers: np.ndarray
    contrast: float


class Renderer:
    """Blender's Cycles on the CPU, one thread, set up once per process."""

    def __init__(self, samples: int) -> None:
        if not 1 <= samples <= 4096:
            raise ValueError(f"{samples!r} samples per pixel; expected 1 … 4096")
        bpy.ops.wm.read_factory_settings(use_empty=True)
        scene = bpy.context.scene
        scene.render.engine = "CYCLES"
        cycles = scene.cycles
        cycles.device, cycles.samples, cycles.seed = "CPU", samples, 0
        cycles.use_denoising, cycles.use_adaptive_sampling = True, False
        cycles.denoising_prefilter, cycles.denoising_quality = "FAST", "FAST"
        cycles.max_bounces, cycles.diffuse_bounces, cycles.glossy_bounces = 3, 2, 1
        cycles.transparent_max_bounces, cycles.transmission_bounces, cycles.sample_clamp_indirect = 4, 2, 4
        cycles.caustics_reflective = cycles.caustics_refractive = False
        render = scene.render
        render.threads_mode, render.threads = "FIXED", 1
        render.use_persistent_data = True
        render.use_compositing = render.use_sequencer = False
        render.film_transparent = True
        scene.world = bpy.data.worlds.new("sky")
        scene.world.use_nodes = True
        layer = bpy.context.view_layer
        layer.use_pass_z = layer.use_pass_object_index = True
        image = render.image_settings
        image.media_type = "MULTI_LAYER_IMAGE"
        image.file_format, image.exr_codec, image.color_depth = "OPEN_EXR_MULTILAYER", "NONE", "32"
        self._folder = tempfile.TemporaryDirectory(prefix="proxqa-scenes-")

    def channels(self, camera: Camera) -> dict[str, np.ndarray]:
        """Linear R, G, B, A, Depth and Index as Cycles made them."""
        scene = bpy.context.scene
        if scene.camera is None:
            scene.camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
            scene.collection.objects.link(scene.camera)
        lens = scene.camera.data
        lens.sensor_fit, lens.sensor_width = "HORIZONTAL", SENSOR_WIDTH
        lens.lens = camera.focal / camera.width * SENSOR_WIDTH
        lens.clip_start, lens.clip_end = 0.02, 1000
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = camera.rotation, camera.position
        scene.camera.matrix_world = pose.T.tolist()
        scene.render.resolution_x, scene.render.resolution_y = camera.width, camera.height
        path = Path(self._folder.name) / "view.exr"
        scene.render.filepath = str(path)
        bpy.ops.render.render(write_still=True)
        raw = exr.read(path)
        found = {}
        for name, values in raw.items():
            end = name.rsplit(".", 1)[-1]
            if "Combined" in name:
                found[end] = values
            elif "Depth" in name:
                found["Depth"] = values
            elif "Index" in name:
                found["Index"] = values
        return found

    def view(self, camera: Camera, rng: random.Random, ambient: tuple[float, float, float]) -> View:
        """One image with the imperfections of a real camera."""
        c = self.channels(camera)
        depth, numbers = _surfaces(c)
        noise = np.random.default_rng(rng.getrandbits(32))
        rgb = np.stack([c["R"], c["G"], c["B"]], -1) + (1 - c["A"][..., None]) * _clouds(camera, rng, noise, ambient)
        picture, contrast = _develop(rgb, rng, noise)
        return View(picture, depth, numbers, contrast)

    def steady(self, camera: Camera, gain: float | None, quality: int = 85) -> tuple[View, float]:
        """One frame of a film, exposed by `gain` (None: chosen for this frame), and the gain it was exposed by."""
        c = self.channels(camera)
        depth, numbers = _surfaces(c)
        rgb = np.stack([c["R"], c["G"], c["B"]], -1)
        gain = gain or 0.85 / max(float(np.percentile(rgb.mean(-1), 92)), 1e-4)
        x = _tone(rgb * gain)
        return View(_jpeg(_picture(x), quality), depth, numbers, float(x.mean(-1).std())), gain


def _surfaces(channels: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Depth in metres, infinite where there is sky, and object numbers."""
    depth = np.where(channels["Depth"] > SKY_DISTANCE, np.inf, channels["Depth"]).astype(np.float64)
    numbers = np.rint(channels["Index"]).astype(np.uint8)
    numbers[~np.isfinite(depth)] = 0
    return depth, numbers


def _tone(x: np.ndarray) -> np.ndarray:
    """Linear light → display values 0 … 1, highlights rolled off."""
    x = np.where(x > 0.8, 0.8 + 0.2 * (1 - np.exp(-(x - 0.8) / 0.2)), np.maximum(x, 0))
    return np.where(x <= 0.0031308, 12.92 * x, 1.055 * np.maximum(x, 1e-6) ** (1 / 2.4) - 0.055)


def _picture(x: np.ndarray) -> Image.Image:
    return Image.fromarray((x.clip(0, 1) * 255 + 0.5).astype(np.uint8))


def _jpeg(picture: Image.Image, quality: int) -> bytes:
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=quality)
    return out.getvalue()


def _clouds(
    camera: Camera, rng: random.Random, noise: np.random.Generator, ambient: tuple[float, float, float]
) -> np.ndarray:
    """A painted sky in linear light: a gradient with soft clouds."""
    size = (camera.width, camera.height)
    seed = noise.random((rng.randint(2, 6), rng.randint(3, 9))).astype(np.float32)
    soft = np.asarray(Image.fromarray(seed).resize(size, Image.Resampling.BICUBIC))
    cover = np.clip((soft - rng.uniform(0.2, 0.9)) * 2, 0, 1)[..., None] * rng.uniform(0.2, 1)
    ramp = np.linspace(rng.uniform(0.5, 1), 1.05, camera.height)[:, None, None]
    return np.asarray(ambient) * ramp * (1 - cover) + max(ambient) * 1.15 * cover


def _develop(rgb: np.ndarray, rng: random.Random, noise: np.random.Generator) -> tuple[bytes, float]:
    """Linear light → JPEG: exposure, white balance, tone curve, blur, sensor noise, compression. Also the contrast."""
    light = rgb.mean(-1)
    x = rgb * (rng.uniform(0.5, 1.15) / max(float(np.percentile(light, 92)), 1e-4))
    x = x * np.array([rng.uniform(0.93, 1.07), 1.0, rng.uniform(0.93, 1.07)])
    x = _tone(x)
    contrast = float(x.mean(-1).std())
    picture = _picture(x)
    if rng.random() < 0.3:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.0)))
    if rng.random() < 0.6:
        grain = noise.normal(0, rng.uniform(1, 7), x.shape) + noise.normal(0, rng.uniform(0, 3), x.shape[:2])[..., None]
        picture = Image.fromarray((np.asarray(picture) + grain).clip(0, 255).astype(np.uint8))
    return _jpeg(picture, rng.randint(60, 95)), contrast
