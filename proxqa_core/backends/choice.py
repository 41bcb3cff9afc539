"""Choose what runs a model: the backend that is asked for, or the fastest that works; PyTorch where none does.

Promises: whatever is asked for, there is something that answers; what was asked for and does not work is said once, in
one line with the reason; what fails while it answers, PyTorch takes over (`fallback`). A backend is one function in
`MAKERS`; see `Maker`.
"""

from __future__ import annotations

import functools
import logging
from typing import Any

from proxqa_core.backends.config import AUTO, BackendConfig
from proxqa_core.backends.fallback import Current, FallbackLanguageModel, FallbackVisionEncoder
from proxqa_core.backends.protocols import LanguageModel, Maker, Networks, Progress, VisionEncoder
from proxqa_core.backends.torch_backend import TorchLanguageModel, TorchVisionEncoder
from proxqa_core.errors import BackendError, ProxqaError, reason_of
from proxqa_core.model.loading import LoadedModel

log = logging.getLogger(__name__)


def torch_networks(model: LoadedModel, config: BackendConfig, on_progress: Progress) -> Networks:
    """PyTorch, in the model's own device and type: the reference, which can always."""
    return Networks("torch", TorchVisionEncoder(model.llava), lambda other: TorchLanguageModel(other.llava))


def openvino_networks(model: LoadedModel, config: BackendConfig, on_progress: Progress) -> Networks:
    """OpenVINO on a CPU, imported only here."""
    from proxqa_core.backends.openvino_backend import openvino_networks as make

    return make(model, config, on_progress)


def tensorrt_networks(model: LoadedModel, config: BackendConfig, on_progress: Progress) -> Networks:
    """The vision encoder by TensorRT on an NVIDIA GPU, imported only here."""
    from proxqa_core.backends.tensorrt_backend import tensorrt_networks as make

    return make(model, config, on_progress)


MAKERS: dict[str, Maker] = {"torch": torch_networks, "openvino": openvino_networks, "tensorrt": tensorrt_networks}
"""All backends but 'auto'."""


def order(config: BackendConfig, device: str) -> tuple[str, ...]:
    """The backends to try, the fastest first, for a model on a device ('cpu', 'cuda'); the last one always works."""
    if config.name != AUTO:
        return tuple(dict.fromkeys([config.name, "torch"]))
    return ("tensorrt", "torch") if device == "cuda" else ("openvino", "torch")


def choose(model: LoadedModel, config: BackendConfig | None = None, on_progress: Progress | None = None) -> Networks:
    """What runs a model.

    Args:
        model: Loaded, adapter merged.
        config: What is asked for; None = the fastest that works.
        on_progress: Called with one line before work that takes longer; None = logged as a warning.

    Returns:
        The first backend that can, of those to try.
    """
    config = config or BackendConfig()
    for name in order(config, model.device.type):
        maker = MAKERS.get(name)
        try:
            if maker is None:
                raise BackendError(f"{name} is not part of this version")
            return _guarded(maker(model, config, on_progress or log.warning), model, config)
        except (ProxqaError, RuntimeError, OSError) as error:
            level = logging.INFO if config.name == AUTO else logging.WARNING
            log.log(level, "backend %s is not used: %s; the next one answers", name, reason_of(error))
    raise AssertionError("PyTorch can always")


def _guarded(networks: Networks, model: LoadedModel, config: BackendConfig) -> Networks:
    """The same with PyTorch behind, where a backend fails to make a language model or fails while it answers."""
    if networks.name == "torch":
        return networks
    tower = model.parts.tower_source()  # not the model: its language model is another after a swap
    encoder = Current[VisionEncoder](
        "vision encoder", networks.name, networks.encoder, lambda: TorchVisionEncoder(tower())
    )
    made: list[Current[LanguageModel[Any]]] = []

    @functools.wraps(networks.make_language_model)
    def make(other: LoadedModel) -> LanguageModel[Any]:
        if any(current.failure for current in made):  # has been said
            return TorchLanguageModel(other.llava)
        try:
            first = networks.make_language_model(other)
        except (ProxqaError, RuntimeError, OSError) as error:
            level = logging.INFO if config.name == AUTO else logging.WARNING
            log.log(level, "PyTorch runs the language model: %s cannot: %s", networks.name, reason_of(error))
            return TorchLanguageModel(other.llava)
        if type(first) is TorchLanguageModel:
            return first
        made[:] = [Current("language model", networks.name, first, lambda: TorchLanguageModel(other.llava))]
        return FallbackLanguageModel(made[0], other.dtype)

    return Networks(networks.name, FallbackVisionEncoder(encoder), make)
