"""`proxqa doctor`: what is installed, what runs the model, what is missing and the command that gets it.

Promises: nothing is loaded, downloaded or changed; what is not there never ends it. Exit code 1 where something is
missing that every command needs.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from proxqa_core.cli import common
from proxqa_core.errors import ProxqaError, reason_of

OK, MISSING, OPTIONAL = "ok", "missing", "optional"
SHARED_MEMORY = Path("/dev/shm")
LEAST_SHARED_MEMORY_MB = 64
EXTRAS = {
    "openvino": ("faster answers on CPUs", "pip install openvino"),
    "fastapi": ("`proxqa serve`", "pip install 'proxqa_ros[serve]'"),
    "ray": ("`proxqa data build` on many machines", "pip install 'proxqa_ros[scale]'"),
    "openai": ("asking servers in `proxqa compare`", "pip install 'proxqa_ros[compare]'"),
}
"""Packages that are optional: what for, and how to get them."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: Its name.
        state: OK, MISSING (and needed), or OPTIONAL (missing, and needed by some commands only).
        found: What is there.
        remedy: The command that gets it, or what else to do; '' = nothing.
    """

    what: str
    state: str
    found: str
    remedy: str = ""


class UnwellError(ProxqaError, RuntimeError):
    """Something is missing that every command needs."""


def add_commands(commands: common.SubParsers) -> None:
    """Add `doctor`."""
    parser = common.add_command(
        commands, "doctor", "tell what is installed, what is missing and how to get it", model=False
    )
    parser.set_defaults(command=run_doctor)


def run_doctor(options: argparse.Namespace) -> None:
    """Look at everything and report."""
    with common.stdout_to_stderr():
        findings = [_looked(look) for look in LOOKS]
    findings += [_extra(module) for module in EXTRAS]
    width = max(len(f.what) for f in findings)
    lines = [f"{f.state:8}  {f.what:{width}}  {f.found}{f' -> {f.remedy}' if f.remedy else ''}" for f in findings]
    common.write_report(options, [asdict(f) for f in findings], "\n".join(lines))
    if missing := [f.what for f in findings if f.state == MISSING]:
        raise UnwellError(f"missing: {', '.join(missing)}")


def _looked(look: Callable[[], Finding]) -> Finding:
    try:
        return look()
    except Exception as error:  # a broken installation may raise anything, and that is what is asked about
        return Finding(look.__name__.strip("_").replace("_", " "), MISSING, reason_of(error))


def _program() -> Finding:
    return Finding("proxqa", OK, f"{version()}, Python {platform.python_version()}, {sys.executable}")


def _pytorch() -> Finding:
    import torch

    return Finding("PyTorch", OK, f"{torch.__version__}, {torch.get_num_threads()} threads")


def _gpu() -> Finding:
    import torch

    if not torch.cuda.is_available():
        return Finding("GPU", OPTIONAL, "none that PyTorch can use; the CPU answers")
    return Finding("GPU", OK, ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())))


def _backend() -> Finding:
    import torch

    from proxqa_core.backends.choice import order
    from proxqa_core.backends.config import BackendConfig

    device = "cuda" if torch.cuda.is_available() else "cpu"
    usable = [name for name in order(BackendConfig(), device) if importlib.util.find_spec(name)]
    return Finding("backend", OK, f"{usable[0]} is tried first (`proxqa info` says what answers)")


def _base_weights() -> Finding:
    from proxqa_core.model.base_weights import CACHE_SIZE_MB, INSTALL, LANGUAGE, cache_folder

    spec = importlib.util.find_spec(LANGUAGE.module)
    if spec is None or spec.origin is None or not (Path(spec.origin).parent / LANGUAGE.path).is_file():
        return Finding("base weights", MISSING, "of the default model", INSTALL)
    made = f"made for it in {cache_folder()}" if cache_folder().is_dir() else f"{CACHE_SIZE_MB} MB at the first use"
    return Finding("base weights", OK, f"{Path(spec.origin).parent}; {made}")


def _cache() -> Finding:
    from proxqa_core.model.base_weights import cache_folder
    from proxqa_core.model.kept import size_of

    folder = cache_folder()
    there = next(p for p in (folder, *folder.parents) if p.exists())
    free_mb = shutil.disk_usage(there).free // 10**6
    size_mb = size_of(folder) // 10**6
    if not there.is_dir():
        return Finding("cache", MISSING, f"{folder}: {there} is no folder", "set PROXQA_CACHE to one")
    if not os.access(there, os.W_OK):
        return Finding("cache", MISSING, f"{folder}: {there} cannot be written", "set XDG_CACHE_HOME to one that can")
    return Finding("cache", OK, f"{folder}: {size_mb} MB (`proxqa cache` says of what), {free_mb} MB free")


def _shared_memory() -> Finding:
    if not SHARED_MEMORY.is_dir():
        return Finding("shared memory", OPTIONAL, f"no {SHARED_MEMORY}: large images between nodes may be lost")
    usage = shutil.disk_usage(SHARED_MEMORY)
    found = f"{SHARED_MEMORY}: {usage.free // 10**6} of {usage.total // 10**6} MB free"
    if usage.total >= LEAST_SHARED_MEMORY_MB * 10**6:
        return Finding("shared memory", OK, found)
    return Finding("shared memory", OPTIONAL, found, "docker run --ipc=host or --shm-size=256m")


def _ros() -> Finding:
    needed = ("rclpy", "sensor_msgs", "diagnostic_msgs", "proxqa_ros.msg")
    missing = [name for name in needed if not _is_there(name)]
    domain = os.environ.get("ROS_DOMAIN_ID", "0")
    rmw = os.environ.get("RMW_IMPLEMENTATION", "the default middleware")
    if missing:
        return Finding("ROS 2", OPTIONAL, f"no {', '.join(missing)}: no nodes", "make setup, or colcon build")
    return Finding("ROS 2", OK, f"rclpy and messages; domain {domain}, {rmw}")


LOOKS = (_program, _pytorch, _gpu, _backend, _base_weights, _cache, _shared_memory, _ros)
"""What is looked at, one after the other."""


def _extra(module: str) -> Finding:
    use, remedy = EXTRAS[module]
    if not _is_there(module):
        return Finding(module, OPTIONAL, f"not installed: {use}", remedy)
    try:
        return Finding(module, OK, f"{metadata.version(module)}: {use}")
    except metadata.PackageNotFoundError:
        return Finding(module, OK, use)


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:  # its parent is missing or broken
        return False


def version() -> str:
    """The installed package's version; of a checkout that is not installed, its package.xml's."""
    try:
        return metadata.version("proxqa_ros")
    except metadata.PackageNotFoundError:
        return "unknown (not installed)"
