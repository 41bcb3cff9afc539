"""TensorRT 10 and 11 and TensorRT-RTX behind one face: build an engine of an ONNX file, load it, run it.

Promises: whichever module is installed is used in the same way, networks are strongly typed, and what the library says
about a failure becomes a BackendError of one line. Knows nothing of models or of caches.

What differs: `tensorrt` chooses kernels by timing them, so it builds only on the GPU that will run the engine.
`tensorrt_rtx` builds anywhere, without a GPU too, for every generation from Ampere on, and compiles the kernels on the
user's machine when they first run. Its targets are compute capabilities 7.5, 8.0, 8.6, 8.9, 12.0 and 12.1 (1.7): not
Jetson's (8.7, 11.0) nor Hopper's or B200's (9.0, 10.0), for which `tensorrt` is.
"""

from __future__ import annotations

import functools
import importlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from proxqa_core.errors import BackendError, reason_of

FULL, RTX = "tensorrt", "tensorrt_rtx"
FLAVOURS = (FULL, RTX)
"""In the order in which they are tried: kernels that were timed are the faster ones."""
_MODULES = {FULL: (FULL,), RTX: (RTX, "tensorrt_rtx_bindings")}
"""What each is imported as; the bindings' wheel has no `tensorrt_rtx`, which a package of its own adds."""
INSTALL = {
    FULL: "pip install --extra-index-url https://pypi.nvidia.com tensorrt  (Jetson: part of JetPack)",
    RTX: "pip install tensorrt-rtx-cu13-libs tensorrt-rtx-cu13-bindings",
}
TURING = (7, 5)
"""Needs an RTX engine of its own."""
_FUSED_ATTENTION = b"__global__ void _gemm_mha_v2"
"""How a kernel of RTX's fused attention begins inside an engine."""


@dataclass(frozen=True)
class Profile:
    """The shapes that an engine is for.

    Attributes:
        size: Side of the square input, in pixels.
        max_batch: Most images at a time; it is made fastest for one.

    Raises:
        ValueError: A value is out of its range.
    """

    size: int
    max_batch: int = 8

    def __post_init__(self) -> None:
        if self.size < 14 or not 1 <= self.max_batch <= 256:
            raise ValueError(f"profile of {self.max_batch} images of {self.size} px; expected 1 to 256 of at least 14")

    def shape(self, batch: int) -> tuple[int, int, int, int]:
        """Of the pixels of a batch."""
        return (batch, 3, self.size, self.size)


@dataclass(frozen=True, eq=False)
class TensorRt:
    """A TensorRT that can be imported.

    Attributes:
        module: The library.
        flavour: One of FLAVOURS.
        version: Of the library.
    """

    module: Any
    flavour: str
    version: str

    @classmethod
    def find(cls, flavour: str | None = None) -> TensorRt:
        """The first that can be imported.

        Args:
            flavour: One of FLAVOURS; None = any.

        Raises:
            BackendError: None can; it says why and how to get one.
        """
        why = []
        for name in FLAVOURS if flavour is None else (flavour,):
            for module in _MODULES[name]:
                try:
                    found = importlib.import_module(module)
                    return cls(found, name, str(found.__version__))
                except (ImportError, OSError, AttributeError) as error:
                    reason = reason_of(error)[:120]
            why.append(f"{name}: {reason}; {INSTALL[name]}")
        raise BackendError(f"TensorRT is not installed ({' | '.join(why)})")

    def target(self, capability: tuple[int, int] | None) -> str:
        """What an engine for a GPU is built for, as text for a cache's key.

        Args:
            capability: The GPU's compute capability; None = there is no GPU.

        Raises:
            BackendError: This flavour makes no engines for it, or needs the GPU to build.
        """
        if self.flavour == FULL:
            if capability is None:
                raise BackendError("tensorrt builds engines on the GPU that will run them, and there is none here")
            return f"sm{capability[0]}{capability[1]}"
        if capability is None:
            return "ampere+"
        if not hasattr(self.module.ComputeCapability, f"SM{capability[0]}{capability[1]}"):
            known = ", ".join(t.removeprefix("sm") for t in self.targets())
            raise BackendError(
                f"tensorrt_rtx {self.version} has nothing for compute capability {capability[0]}.{capability[1]} "
                f"(it has {known}); {INSTALL[FULL]}"
            )
        return f"sm{capability[0]}{capability[1]}" if capability == TURING else "ampere+"

    def targets(self) -> list[str]:
        """The single GPU generations that RTX can build for, as 'sm75' or 'sm86'."""
        names = [n.lower() for n in dir(self.module.ComputeCapability) if re.fullmatch(r"SM\d+", n)]
        return sorted(names, key=lambda n: int(n[2:]))

    # --- build -------------------------------------------------------------------------------------------------------

    def build(self, onnx: Path, profile: Profile, target: str) -> bytes:
        """An engine of an ONNX file, of the types that the file has.

        Args:
            onnx: The file; its weights may lie beside it.
            profile: The shapes it is for.
            target: See `target`; for RTX also a list such as 'sm86+sm89'.

        Returns:
            The engine. With RTX equal inputs give equal bytes.

        Raises:
            BackendError: The file cannot be read or an engine cannot be built.
        """
        log = _log(self.module)
        builder = self.module.Builder(log)
        # its number differs: 1 in TensorRT 10, 0 in 11 and RTX
        flag = self.module.NetworkDefinitionCreationFlag.STRONGLY_TYPED
        network = builder.create_network(1 << int(flag))
        parser = self.module.OnnxParser(network, log)
        # from the file: of bytes the parser does not find the weights beside them
        if not parser.parse_from_file(str(onnx)):
            errors = [reason_of(Exception(parser.get_error(i).desc())) for i in range(parser.num_errors)]
            raise BackendError(f"{self.flavour} cannot read {onnx.name}: {'; '.join(errors)[:300] or log.reason()}")
        config = builder.create_builder_config()
        if self.flavour == RTX:
            self._set_targets(config, target)
        shapes = builder.create_optimization_profile()
        shapes.set_shape(network.get_input(0).name, *(profile.shape(n) for n in (1, 1, profile.max_batch)))
        config.add_optimization_profile(shapes)
        engine = builder.build_serialized_network(network, config)
        if engine is None:
            raise BackendError(f"{self.flavour} {self.version} cannot build an engine for {target}: {log.reason()}")
        return bytes(engine)

    def wanted(self, target: str) -> list[str]:
        """The GPU generations in a target of RTX's; none where it is all from Ampere on.

        Raises:
            BackendError: It cannot be built for.
        """
        wanted = [] if target == "ampere+" else target.split("+")
        unknown = [t for t in wanted if t not in self.targets()]
        if unknown:
            raise BackendError(
                f"tensorrt_rtx cannot build for {unknown[0][:20]!r}; expected ampere+ or some of "
                f"{', '.join(self.targets())}, joined by '+'"
            )
        return wanted

    def _set_targets(self, config: Any, target: str) -> None:
        wanted = self.wanted(target)
        if wanted:
            config.num_compute_capabilities = len(wanted)
        for place, name in enumerate(wanted):
            config.set_compute_capability(getattr(self.module.ComputeCapability, name.upper()), place)

    # --- run ---------------------------------------------------------------------------------------------------------

    def load(self, engine: bytes, device: torch.device, kernels: bytes = b"") -> LoadedEngine:
        """Make an engine ready to run.

        Args:
            engine: From `build`.
            device: Of the GPU.
            kernels: What `LoadedEngine.kernels` gave once: RTX need not compile them again.

        Raises:
            BackendError: It does not run here.
        """
        log = _log(self.module)
        with torch.cuda.device(device) if device.type == "cuda" else torch.device(device):
            loaded = self.module.Runtime(log).deserialize_cuda_engine(engine)
            if loaded is None:  # no exception, whatever is wrong
                raise BackendError(f"{self.flavour} {self.version} does not load the engine: {log.reason()}")
            settings = self._settings(loaded, kernels)
            context = loaded.create_execution_context(*([settings] if settings is not None else []))
        if context is None:
            raise BackendError(f"{self.flavour} {self.version} does not start the engine: {log.reason()}")
        return LoadedEngine(self, loaded, context, settings, device, log)

    def _settings(self, engine: Any, kernels: bytes) -> Any:
        """RTX's settings of a context, with the kernels that were compiled before; None for the other flavour."""
        if self.flavour != RTX:
            return None
        settings = engine.create_runtime_config()
        cache = settings.create_runtime_cache()
        if kernels:
            cache.deserialize(kernels)  # what does not fit this GPU is ignored
        settings.set_runtime_cache(cache)
        return settings


class LoadedEngine:
    """An engine that runs, with one input of pixels and one output.

    Args:
        runtime: What loaded it.
        engine: TensorRT's.
        context: TensorRT's.
        settings: RTX's, or None.
        device: Of the GPU.
        log: What the library says.
    """

    def __init__(self, runtime: TensorRt, engine: Any, context: Any, settings: Any, device: torch.device, log: Any):
        self._engine, self._context, self._settings, self._log = engine, context, settings, log
        self._device, self._flavour = device, runtime.flavour
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        inputs = [n for n in names if engine.get_tensor_mode(n) == runtime.module.TensorIOMode.INPUT]
        outputs = [n for n in names if n not in inputs]
        if len(inputs) != 1 or len(outputs) != 1:
            raise BackendError(f"the engine has {len(inputs)} inputs and {len(outputs)} outputs; expected one of each")
        self._input, self._output = inputs[0], outputs[0]
        kinds = {runtime.module.DataType.HALF: torch.float16, runtime.module.DataType.FLOAT: torch.float32}
        try:
            self._types = [kinds[engine.get_tensor_dtype(n)] for n in (self._input, self._output)]
        except KeyError as error:
            raise BackendError(f"the engine computes in {error}; expected float16 or float32") from error

    def run(self, pixels: torch.Tensor) -> torch.Tensor:
        """Run the engine.

        Args:
            pixels: [n, 3, size, size] of any type on any device, n within the profile.

        Returns:
            Features [n, tokens, features] in the engine's type, on its device.

        Raises:
            BackendError: The shape is none of the profile's, or the GPU failed.
        """
        pixels = pixels.to(device=self._device, dtype=self._types[0]).contiguous()
        if not self._context.set_input_shape(self._input, tuple(pixels.shape)):
            raise BackendError(f"the engine does not take pixels {list(pixels.shape)}: {self._log.reason()}")
        shape = tuple(self._context.get_tensor_shape(self._output))
        features = torch.empty(shape, dtype=self._types[1], device=self._device)
        self._context.set_tensor_address(self._input, pixels.data_ptr())
        self._context.set_tensor_address(self._output, features.data_ptr())
        # on PyTorch's own stream: what made the pixels is done before, what reads the features comes after
        stream = torch.cuda.current_stream(self._device).cuda_stream if self._device.type == "cuda" else 0
        if not self._context.execute_async_v3(stream):
            raise BackendError(f"{self._flavour} failed to run the engine: {self._log.reason()}")
        return features

    def kernels(self) -> bytes:
        """What RTX compiled for this GPU until now, for `TensorRt.load`; nothing of the other flavour."""
        if self._settings is None:
            return b""
        return bytes(self._settings.get_runtime_cache().serialize() or b"")


def fused_attention(engine: bytes) -> int:
    """How many attentions of an RTX engine are one kernel each; the others would be several, through memory."""
    return engine.count(_FUSED_ATTENTION)


def _log(module: Any) -> Any:
    """The library's logger, empty: it keeps errors instead of printing them."""
    log = _only_log(module)
    log.errors.clear()
    return log


@functools.cache
def _only_log(module: Any) -> Any:
    """One logger for the process's life: the library logs to the first that it ever got, also when that is gone."""

    class Log(module.ILogger):
        def __init__(self) -> None:
            module.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (module.ILogger.Severity.ERROR, module.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(message)

        def reason(self) -> str:
            """The last errors on one line."""
            return reason_of(Exception(" | ".join(self.errors[-2:])))[:300] or "it does not say why"

    return Log()
