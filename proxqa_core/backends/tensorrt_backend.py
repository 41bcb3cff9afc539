"""The vision encoder run by TensorRT on an NVIDIA GPU; the language model stays PyTorch's.

Promises: an engine is used only after it has computed, of pictures, what PyTorch computes in float32 (cosine of every
token at least `MIN_COSINE`), whether it was kept in the cache or has just been built. What stands in the way is a
BackendError of one line; `proxqa_core.backends.choice` takes the next backend then and says so.
"""

from __future__ import annotations

import functools
from typing import Any

import torch

from proxqa_core.backends import engine_cache, onnx_export
from proxqa_core.backends.config import BackendConfig
from proxqa_core.backends.engine_cache import EngineKey, load_or_build
from proxqa_core.backends.graph_cache import digest
from proxqa_core.backends.onnx_export import check_onnx, checked_cosine, export_onnx, pictures, reference
from proxqa_core.backends.protocols import LanguageModel, Networks, Progress
from proxqa_core.backends.tensorrt_runtime import FULL, LoadedEngine, Profile, TensorRt
from proxqa_core.backends.torch_backend import TorchLanguageModel, VisionFeatures
from proxqa_core.errors import BackendError
from proxqa_core.model.loading import LoadedModel

PRECISION = "float16"
MAX_BATCH = 8
"""Most images that one run of the encoder takes; more are split."""


def tensorrt_networks(model: LoadedModel, config: BackendConfig, on_progress: Progress) -> Networks:
    """The vision encoder by TensorRT; see `proxqa_core.backends.protocols.Maker`."""
    if model.device.type != "cuda":
        raise BackendError(f"tensorrt runs on NVIDIA GPUs only; the model is on {model.device}")
    encoder = TensorRtVisionEncoder(model, TensorRt.find(), on_progress)

    def make_language_model(other: LoadedModel) -> LanguageModel[Any]:
        return TorchLanguageModel(other.llava)

    return Networks("tensorrt", encoder, make_language_model)


class TensorRtVisionEncoder:
    """The vision tower as a TensorRT engine, from the cache where one is there.

    Args:
        model: Whose tower.
        runtime: Builds and runs the engine.
        on_progress: Called with one line before an engine is built.
        max_batch: Most images that one run takes.

    Attributes:
        cosine: The least cosine of a token with PyTorch's in float32, on the bundled pictures.

    Raises:
        BackendError: There is no engine here that computes what PyTorch computes.
    """

    def __init__(self, model: LoadedModel, runtime: TensorRt, on_progress: Progress, max_batch: int = MAX_BATCH):
        self._model, self._runtime = model, runtime
        self._profile = Profile(model.preprocessing.size, max_batch)
        self._gpu = gpu_name(model.device)
        self._key = engine_key(model, runtime, self._profile, runtime.target(capability(model.device)), self._gpu)
        self.cosine = float("nan")

        def build() -> bytes:
            on_progress(f"building the vision encoder's {runtime.flavour} engine once, up to some minutes")
            return build_engine(model, runtime, self._profile, self._key.target)

        self._engine = load_or_build(self._key, self._load, build)
        engine_cache.write_kernels(self._key, self._gpu, self._engine.kernels())
        self.description = f"{runtime.flavour} {runtime.version}, {PRECISION}"

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """See `VisionEncoder.encode`."""
        return self._run(self._engine, pixels).to(self._model.dtype)

    def _run(self, engine: LoadedEngine, pixels: torch.Tensor) -> torch.Tensor:
        return torch.cat([engine.run(part) for part in pixels.split(self._profile.max_batch)])

    def _load(self, engine: bytes) -> LoadedEngine:
        """An engine that loads and computes what PyTorch does."""
        device = self._model.device
        loaded = self._runtime.load(engine, device, engine_cache.read_kernels(self._key, self._gpu))
        pixels, expected = self._tried
        found = self._run(loaded, pixels).float().cpu()
        self.cosine = checked_cosine(f"the {self._runtime.flavour} engine", found, expected)
        return loaded

    @functools.cached_property
    def _tried(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Pixels of pictures, and PyTorch's features of them."""
        pixels = self._model.preprocessing.pixels(pictures())
        return pixels, reference(self._model, pixels)


def capability(device: torch.device) -> tuple[int, int] | None:
    """A GPU's compute capability; None of a CPU."""
    return torch.cuda.get_device_capability(device) if device.type == "cuda" else None


def gpu_name(device: torch.device) -> str:
    """What a GPU is called; "" of a CPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else ""


def engine_key(model: LoadedModel, runtime: TensorRt, profile: Profile, target: str, gpu: str = "") -> EngineKey:
    """All that the engine of a model's vision encoder depends on.

    Args:
        model: Whose encoder.
        runtime: Builds the engine.
        profile: The shapes it is for.
        target: See `TensorRt.target`.
        gpu: Name of the GPU; matters only where kernels are timed.
    """
    import transformers

    encoder = VisionFeatures(model.llava)
    made_by = (torch.__version__, transformers.__version__, str(onnx_export.OPSET), onnx_export.EXPORT_VERSION)
    features = (model.llava.config.vision_feature_layer, model.llava.config.vision_feature_select_strategy)
    graph = digest(encoder, [*made_by, *map(str, features), str(encoder.config)])
    timed_on = gpu if runtime.flavour == FULL else ""
    return EngineKey(
        graph, runtime.flavour, runtime.version, PRECISION, profile.size, profile.max_batch, target, timed_on
    )


def build_engine(model: LoadedModel, runtime: TensorRt, profile: Profile, target: str) -> bytes:
    """Export a model's vision encoder, check the export where ONNX Runtime is installed, and build its engine.

    Args:
        model: Whose encoder.
        runtime: Builds the engine.
        profile: The shapes it is for.
        target: See `TensorRt.build`.

    Raises:
        BackendError: One of the steps failed.
    """
    with engine_cache.scratch() as folder:
        path = export_onnx(model, folder, profile.max_batch)
        if _has_onnxruntime():
            check_onnx(path, model)
        return runtime.build(path, profile, target)


def _has_onnxruntime() -> bool:
    """Whether exports can be checked; on a robot the engine itself is, before it is used."""
    try:
        import onnxruntime  # noqa: F401
    except ImportError:
        return False
    return True
