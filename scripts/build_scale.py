#!/usr/bin/env python3
"""How fast, and in how much memory, does `proxqa data build` run here?

Promises: the real command, as processes of its own, on images that this makes: photographs of a folder cropped at
random so that no two are the same, with depth maps, or small noise for memory's sake. Peak memory is the sum of the
proportional set sizes of all its processes, looked at ten times a second.

    python scripts/build_scale.py speed --images DIR --count 200 [--depth-model ID|DIR --depth-unit disparity]
    python scripts/build_scale.py memory --records 100000
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the checkout's modules

from proxqa_core.jsontext import to_json

OBJECTS = 8
"""Annotations of an image, as in COCO (7.3 on average)."""
POLYGONS = 997
"""Different polygons: making them takes longer than reading them."""
COMMAND = (sys.executable, "-m", "proxqa_core.cli", "data", "build", "coco")
POLL_S = 0.1


def make_images(source: Path, out: Path, count: int, seed: int = 0) -> None:
    """Photographs of 480 x 360 out of those of a folder, each with a depth map in millimetres and annotations."""
    rng, photos = random.Random(seed), sorted(source.glob("*.jpg"))
    if not photos:
        raise SystemExit(f"{source}: holds no .jpg; expected photographs")
    width, height = 480, 360
    ramp = np.linspace(6000, 1000, height)[:, None].repeat(width, 1).astype(np.uint16)
    for folder in ("images", "depth"):
        (out / folder).mkdir(parents=True)
    for i in range(count):
        photo = Image.open(photos[i % len(photos)]).convert("RGB").resize((640, 480))
        x, y = rng.randrange(640 - width), rng.randrange(480 - height)
        photo.crop((x, y, x + width, y + height)).save(out / f"images/{i:06}.jpg", quality=90)
        Image.fromarray(ramp).save(out / f"depth/{i:06}.png")
    write_coco(out / "coco.json", count, (width, height), seed)


def make_noise(out: Path, count: int, present: int, seed: int = 0) -> None:
    """Annotations of `count` images of 96 x 64, of which `present` are there, with maps."""
    rng = np.random.default_rng(seed)
    for folder in ("images", "depth"):
        (out / folder).mkdir(parents=True)
    ramp = np.linspace(6000, 1000, 64)[:, None].repeat(96, 1).astype(np.uint16)
    for i in range(present):
        noise = rng.integers(0, 255, (8, 12, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((96, 64)).save(out / f"images/{i:06}.jpg")
        Image.fromarray(ramp).save(out / f"depth/{i:06}.png")
    write_coco(out / "coco.json", count, (96, 64), seed)


def write_coco(path: Path, count: int, size: tuple[int, int], seed: int) -> None:
    """An instances file with polygons, written as a stream: about 5 kB an image. The polygons come again and again."""
    rng, names = random.Random(seed), [f"thing{i}" for i in range(80)]
    polygons = [json.dumps([[round(rng.uniform(0, 99), 2) for _ in range(60)]]) for _ in range(POLYGONS)]
    with path.open("w") as file:
        categories = json.dumps([{"id": i, "name": name} for i, name in enumerate(names)])
        file.write(f'{{"categories": {categories}, "images": [')
        for i in range(count):
            row = {"id": i, "file_name": f"{i:06}.jpg", "width": size[0], "height": size[1], "coco_url": f"x{i}"}
            file.write((",\n" if i else "") + json.dumps(row))
        file.write('], "annotations": [')
        for i in range(OBJECTS * count):
            box = [round(rng.uniform(0, v * 0.5), 1) for v in size] + [
                round(rng.uniform(0.2, 0.5) * v, 1) for v in size
            ]
            row = {"id": i, "image_id": i // OBJECTS, "category_id": rng.randrange(80), "bbox": box, "iscrowd": 0}
            segmentation = f', "area": 1.0, "segmentation": {polygons[i % POLYGONS]}}}'
            file.write((",\n" if i else "") + json.dumps(row).removesuffix("}") + segmentation)
        file.write("]}")


def run_build(data: Path, out: Path, *options: str) -> dict[str, Any]:
    """Run the command. Returns seconds, seconds of CPU, peak megabytes of all its processes, and its report."""
    report = out.with_suffix(".json")
    command = [*COMMAND, str(data / "coco.json"), "--images", str(data / "images"), "--out", str(out), "--json",
               str(report), *options]  # fmt: skip
    start, cpu_before, peak_kb = time.monotonic(), cpu_seconds(), 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peak_kb = max(peak_kb, sum(pss_kb(pid) for pid in family(process.pid)))
            time.sleep(POLL_S)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}")
    figures = {"seconds": time.monotonic() - start, "cpu_seconds": cpu_seconds() - cpu_before}
    rounded = {key: round(value, 1) for key, value in figures.items()}
    return {**rounded, "peak_mb": round(peak_kb / 1024), **json.loads(report.read_text())}


def cpu_seconds() -> float:
    """CPU time of the processes that have ended and were waited for, which a busy machine does not stretch."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def family(pid: int) -> list[int]:
    """A process and all that it has started."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found = [pid]
    for parent in found:
        found += children.get(parent, [])
    return found


def pss_kb(pid: int) -> int:
    """Memory of a process with its part of what it shares; 0 where it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def speed(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Images per second of each way to label, whole run and all."""
    make_images(options.images, work / "data", options.count)
    depth = ["--depth-maps", str(work / "data/depth"), "--depth-unit", "mm"]
    if options.depth_model:
        depth = ["--depth-model", options.depth_model, "--depth-unit", options.depth_unit, "--device", "cpu"]
    ways = {"1 worker": ["--workers", "1"], "2 workers": ["--workers", "2"], "Ray, 2": ["--workers", "2", "--ray"]}
    shard = ["--shard-size", str(max(1, options.count // 8)), "-q"]
    found, files = {}, set()
    for i, (name, way) in enumerate(ways.items()):
        run = run_build(work / "data", work / f"out{i}", *depth, *shard, *way)
        files.add((work / f"out{i}/train.json").read_bytes())
        kept = {key: run[key] for key in ("seconds", "cpu_seconds", "peak_mb")}
        found[name] = {"images_per_s": round(options.count / run["seconds"], 2), **kept}
    return {"images": options.count, "cpus": os.cpu_count(), "ways": found, "same_bytes": len(files) == 1}


def memory(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Peak memory of a build of so many records."""
    present = options.records if options.present is None else options.present
    make_noise(work / "data", options.records, present)
    depth = ("--depth-maps", str(work / "data/depth"), "--depth-unit", "mm")
    run = run_build(work / "data", work / "out", *depth, "--workers", str(options.workers), "-q")
    size_mb = round((work / "data/coco.json").stat().st_size / 1e6)
    kept = ("seconds", "cpu_seconds", "peak_mb", "images", "samples", "questions_per_image", "left_out")
    return {"records": options.records, "json_mb": size_mb, **{key: run[key] for key in kept}}


def main() -> None:
    """Measure one of the two."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ways = parser.add_subparsers(required=True)
    fast = ways.add_parser("speed")
    fast.add_argument("--images", type=Path, required=True, help="folder of .jpg photographs")
    fast.add_argument("--count", type=int, default=200)
    fast.add_argument("--depth-model")
    fast.add_argument("--depth-unit", default="disparity")
    fast.set_defaults(measure=speed)
    small = ways.add_parser("memory")
    small.add_argument("--records", type=int, default=100_000)
    small.add_argument("--present", type=int, help="how many of the images are there (default: all)")
    small.add_argument("--workers", type=int, default=2)
    small.set_defaults(measure=memory)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        print(to_json(options.measure(options, Path(work))))


if __name__ == "__main__":
    main()
