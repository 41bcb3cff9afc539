"""Renders a data set of scenes in worker processes; goes on where an earlier run stopped.

Promises: an image is there whole or not at all; worker processes that crash are replaced, up to a limit. Blender is
imported in the workers alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import logging
import multiprocessing
import os
import signal
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from proxqa_core.errors import ProxqaError
from proxqa_training.logs import progress
from proxqa_training.scenes import catalogue, dataset
from proxqa_training.scenes.dataset import RenderConfig

log = logging.getLogger(__name__)

INSTALL_BPY = "pip install bpy==5.0.1 pillow numpy tqdm (with Python 3.11)"
ASSEMBLE_EVERY_IMAGES = 50
MAX_CRASHES = 5
BLENDER_LOG = "blender.log"
PR_SET_PDEATHSIG = 1
"""Of prctl(2): the signal to a process whose parent dies."""
_worker: Any = None


class RenderError(ProxqaError, RuntimeError):
    """Rendering failed."""


def generate(config: RenderConfig) -> dict[str, float]:
    """Render a data set, or what is left of it.

    Args:
        config: How many images go where.

    Returns:
        As of `dataset.shares`.

    Raises:
        ModelsMissingError: The 3D models are not installed.
        ModuleNotFoundError: Blender is not installed.
        RenderError: Worker processes crash again and again.
    """
    check_parts(config.models, config.cache)
    scenes = render_all(config)
    log.info("%d scenes rendered into %s", scenes, config.out)
    return dataset.shares(dataset.assemble(config.out))


def check_parts(models: Path, cache: Path) -> None:
    """Check that Blender and the models are there.

    Args:
        models: Folder with the archives of models.
        cache: Folder in which they are unpacked.

    Raises:
        ModelsMissingError: The models are not installed; says what to install.
        ModuleNotFoundError: Blender is not installed; says what to install.
    """
    if importlib.util.find_spec("bpy") is None:
        raise ModuleNotFoundError(f"Blender's module bpy is not installed; install it: {INSTALL_BPY}")
    catalogue.unpack(models, cache)


def render_all(config: RenderConfig) -> int:
    """Render what is missing; replaces worker processes that crash.

    Returns:
        How many scenes were rendered now.

    Raises:
        RenderError: They crash again and again.
    """
    todo = [i for i in range(config.scenes) if not dataset.scene_file(config.out, config.seed, i).exists()]
    config.out.mkdir(parents=True, exist_ok=True)
    done = crashes = 0
    finished = sum(map(config.views_of, set(range(config.scenes)) - set(todo)))
    bar = progress(total=config.count, unit="image", initial=finished)
    while todo:
        try:
            done += _pool(config, todo, bar)
        except BrokenProcessPool as error:
            crashes += 1
            if crashes > MAX_CRASHES:
                raise RenderError(
                    f"{crashes} renders crashed; see {config.out / BLENDER_LOG} for what Blender says"
                ) from error
        todo = [i for i in todo if not dataset.scene_file(config.out, config.seed, i).exists()]
    bar.close()
    return done


def _start(config: RenderConfig) -> None:
    """Set up a worker process. Blender is imported only there: it changes sys.path, which children would inherit."""
    global _worker
    with contextlib.suppress(OSError, AttributeError):  # not Linux
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # else it renders on when the parent was killed
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Blender tells of every file on stdout, of missing textures on stderr
    os.dup2(os.open(config.out / BLENDER_LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), 2)
    from proxqa_training.scenes.work import Worker

    _worker = Worker(config)


def _render_scene(number: int) -> int:
    return len(_worker.scene(number))


def _pool(config: RenderConfig, todo: Sequence[int], bar: Any) -> int:
    context = multiprocessing.get_context("spawn")
    fresh = done = 0
    with ProcessPoolExecutor(config.workers, context, initializer=_start, initargs=(config,)) as pool:
        for future in as_completed([pool.submit(_render_scene, i) for i in todo]):
            images = future.result()
            bar.update(images)
            done, fresh = done + 1, fresh + images
            if fresh >= ASSEMBLE_EVERY_IMAGES:
                dataset.assemble(config.out)
                fresh = 0
    return done
