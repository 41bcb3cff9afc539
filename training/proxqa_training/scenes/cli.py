"""`python -m proxqa_training.scenes`: renders a data set of scenes, goes on where an earlier run stopped.

Promises: exit 0 when all images are there, 2 with one clear line when something is missing or an argument is wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import importlib.util
import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from tqdm import tqdm

from proxqa_training.scenes import catalogue, dataset
from proxqa_training.scenes.dataset import RenderConfig

INSTALL_BPY = "pip install bpy==5.0.1 pillow numpy tqdm (with Python 3.11)"
ASSEMBLE_EVERY = 50
MAX_CRASHES = 5
PR_SET_PDEATHSIG = 1
"""Of prctl(2): the signal to a process whose parent dies."""
_worker: Any = None


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m proxqa_training.scenes", description="Render synthetic scenes with true depth and names."
    )
    p.add_argument("--out", type=Path, required=True, help="folder of the data set; finished scenes in it are kept")
    p.add_argument("--count", type=int, required=True, help="images in all")
    p.add_argument("--seed", type=int, default=1, help="the same seed gives the same scenes (default: %(default)s)")
    p.add_argument(
        "--split", default="train", help="train, val or test, written into the records (default: %(default)s)"
    )
    p.add_argument("--models-set", default="seen", help="seen, heldout or all models (default: %(default)s)")
    p.add_argument("--workers", type=int, default=2, help="processes of one thread each (default: %(default)s)")
    p.add_argument("--views", type=int, default=5, help="images of a scene (default: %(default)s)")
    p.add_argument("--samples", type=int, default=7, help="samples per pixel (default: %(default)s)")
    p.add_argument(
        "--models", type=Path, default=catalogue.MODELS_DIR, help="folder with the .sh3f files and sweethome3d.jar"
    )
    p.add_argument(
        "--cache", type=Path, default=Path(".cache/sweethome3d"), help="where they are unpacked (default: %(default)s)"
    )
    return p


def check_parts(models: Path, cache: Path) -> None:
    """Raises ModelsMissingError or ModuleNotFoundError, saying what to install, where a part is missing."""
    if importlib.util.find_spec("bpy") is None:
        raise ModuleNotFoundError(f"Blender's module bpy is not installed; install it: {INSTALL_BPY}")
    catalogue.unpack(models, cache)


def render_all(config: RenderConfig) -> int:
    """Renders what is missing; how many scenes were rendered now. Survives worker processes that crash."""
    todo = [i for i in range(config.scenes) if not dataset.scene_file(config.out, config.seed, i).exists()]
    config.out.mkdir(parents=True, exist_ok=True)
    done = crashes = 0
    bar = tqdm(
        total=config.count, unit="image", initial=sum(map(config.views_of, set(range(config.scenes)) - set(todo)))
    )
    while todo:
        try:
            done += _pool(config, todo, bar)
        except BrokenProcessPool:
            crashes += 1
            if crashes > MAX_CRASHES:
                raise
        todo = [i for i in todo if not dataset.scene_file(config.out, config.seed, i).exists()]
    bar.close()
    return done


def _start(config: RenderConfig) -> None:
    """Sets up a worker process. Blender is imported only there: it changes sys.path, which children would inherit."""
    global _worker
    with contextlib.suppress(OSError, AttributeError):  # not Linux
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # else it renders on when the parent was killed
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Blender tells of every file on stdout, of missing textures on stderr
    os.dup2(os.open(config.out / "blender.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), 2)
    from proxqa_training.scenes.work import Worker

    _worker = Worker(config)


def _render_scene(number: int) -> int:
    return len(_worker.scene(number))


def _pool(config: RenderConfig, todo: Sequence[int], bar: tqdm) -> int:
    context = multiprocessing.get_context("spawn")
    fresh = done = 0
    with ProcessPoolExecutor(config.workers, context, initializer=_start, initargs=(config,)) as pool:
        for future in as_completed([pool.submit(_render_scene, i) for i in todo]):
            images = future.result()
            bar.update(images)
            done, fresh = done + 1, fresh + images
            if fresh >= ASSEMBLE_EVERY:
                dataset.assemble(config.out)
                fresh = 0
    return done


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    try:
        config = RenderConfig(**vars(args))
        check_parts(config.models, config.cache)
    except (ValueError, ModuleNotFoundError, catalogue.ModelsMissingError) as error:
        print(f"proxqa_training.scenes: {error}", file=sys.stderr)
        return 2
    render_all(config)
    records = dataset.assemble(config.out)
    print(json.dumps(dataset.shares(records)))
    return 0
