"""Engines kept in the cache beside the base weights, each under all that it depends on.

Promises: an entry is whole and as it was written, or it counts as missing. What is there is replaced only by an engine
that has been tried and found good, never because the old one did not load: that may be the machine's fault (no GPU to
be seen). Where the cache cannot be written, the engine is used all the same, and that is said.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from proxqa_core.backends.graph_cache import is_whole
from proxqa_core.errors import BackendError
from proxqa_core.files import atomic_folder, atomic_write
from proxqa_core.model.base_weights import cache_folder, seal

log = logging.getLogger(__name__)

ENGINE, KEY, KERNELS = "engine.plan", "key.json", "kernels"
T = TypeVar("T")


@dataclass(frozen=True)
class EngineKey:
    """What an engine depends on.

    Attributes:
        graph: What it computes: a digest of the weights and of how the graph is made.
        flavour: Of TensorRT.
        version: Of TensorRT.
        precision: 'float16' …
        size: Side of the square input, in pixels.
        max_batch: Most images at a time.
        target: The GPUs it is for.
        gpu: The name of the GPU that its kernels were timed on; "" where they were not.
    """

    graph: str
    flavour: str
    version: str
    precision: str
    size: int
    max_batch: int
    target: str
    gpu: str = ""

    @property
    def folder(self) -> Path:
        """Of the entry."""
        text = json.dumps(asdict(self), sort_keys=True)
        return cache_folder() / f"{self.flavour}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def read(key: EngineKey) -> bytes | None:
    """The engine of an entry; None where there is no whole one."""
    with contextlib.suppress(OSError):
        if is_whole(key.folder):
            return (key.folder / ENGINE).read_bytes()
    return None


def write(key: EngineKey, engine: bytes) -> Path | None:
    """Put an engine into its entry; None, and said, where the cache cannot be written."""
    try:
        with atomic_folder(key.folder, len(engine)) as work:
            (work / ENGINE).write_bytes(engine)
            (work / KEY).write_text(json.dumps(asdict(key), indent=1) + "\n", encoding="utf-8")
            seal(work)
    except OSError as error:
        log.warning("the engine is not kept for the next start: %s", error)
        return None
    return key.folder


def read_kernels(key: EngineKey, gpu: str) -> bytes:
    """What RTX compiled for a GPU once; b"" where it is not there."""
    with contextlib.suppress(OSError):
        return _kernels(key, gpu).read_bytes()
    return b""


def write_kernels(key: EngineKey, gpu: str, kernels: bytes) -> None:
    """Keep what RTX compiled for a GPU, where the engine is kept too."""
    with contextlib.suppress(OSError):
        if kernels and key.folder.is_dir():
            with atomic_write(_kernels(key, gpu), len(kernels)) as work:
                work.write_bytes(kernels)


def _kernels(key: EngineKey, gpu: str) -> Path:
    return key.folder / f"{KERNELS}-{hashlib.sha256(gpu.encode()).hexdigest()[:8]}"


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """An empty folder in the cache, where there is room for an encoder, or else among the system's temporary ones."""
    place: Path | None = cache_folder()
    try:
        cache_folder().mkdir(parents=True, exist_ok=True)
        (cache_folder() / ".try").touch()
        (cache_folder() / ".try").unlink()
    except OSError:
        place = None
    with tempfile.TemporaryDirectory(prefix=".onnx-", dir=place) as folder:
        yield Path(folder)


def load_or_build(key: EngineKey, load: Callable[[bytes], T], build: Callable[[], bytes]) -> T:
    """The engine of a key, loaded and tried: from the cache, else built.

    Args:
        key: What it depends on.
        load: Loads an engine and tries it; BackendError where it does not load or does not compute what it should.
        build: Makes one; BackendError where that cannot be done.

    Returns:
        What `load` gave.

    Raises:
        BackendError: Neither the kept engine nor a new one is any good. The kept one is left where it is.
    """
    kept = read(key)
    if kept is not None:
        try:
            return load(kept)
        except BackendError as error:
            log.warning("the engine in %s is not used, it is built again: %s", key.folder, error)
    built = build()
    if built == kept:
        raise BackendError("the engine that was kept and the one built again are the same, and it cannot be used here")
    ready = load(built)
    write(key, built)
    return ready
