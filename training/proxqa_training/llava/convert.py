"""LoRA folders of LLaVA's own code, and other pickled ones, as adapters.

Promises: pickles are read as weights only, so that nothing in them is run; every tensor is placed, or the folder
refused.

Source: `train.py` of LLaVA, Liu et al. 2023: `adapter_model.bin`, `non_lora_trainables.bin`, `mm_projector.bin`.
"""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from safetensors import SafetensorError
from safetensors.torch import load

from proxqa_core.errors import BadModelError, ModelNotFoundError, reason_of
from proxqa_core.model import adapter as adapters
from proxqa_core.model.adapter import AdapterInfo
from proxqa_core.model.loading import NO_ADAPTER
from proxqa_core.model.loading import load as load_model
from proxqa_training.llava.run import PROJECTOR, save_adapter

LORA_PICKLE = "adapter_model.bin"
TRAINED = ("non_lora_trainables.bin", "mm_projector.bin")
"""What was trained besides LoRA: the first that is there is read."""
LAYERS = {"0": "linear_1", "2": "linear_2"}
"""LLaVA's projector is a sequence; transformers names its layers."""
_PROJECTOR = re.compile(r"(?:base_model\.model\.)?(?:model\.)?mm_projector\.(?P<layer>\d+)\.(?P<part>weight|bias)")
WHOLE = f"base_model.model.model.{PROJECTOR}."


def convert(folder: Path, model: str, out: Path, base: str | None = None) -> dict[str, Any]:
    """Make an adapter of a folder with pickled weights.

    Args:
        folder: Of LLaVA's `train.py`, or of an older `peft`.
        model: The base in the layout of transformers, as `proxqa_core.model.loading.load` takes it.
        out: Adapter to write.
        base: What the adapter says it belongs to; None = the model, as it was named.

    Returns:
        `adapter`, and how many LoRA and projector tensors it has.

    Raises:
        ModelNotFoundError: A file or the model is not there.
        BadModelError: A file is damaged, holds more than weights, or does not fit the model.
    """
    config_file = folder / adapters.LORA_CONFIG
    if not config_file.is_file():
        raise ModelNotFoundError(
            f"{str(folder)!r} has no {adapters.LORA_CONFIG}; expected the folder of a LoRA training"
        )
    weights = _lora(folder)
    if name := next((n for n in TRAINED if (folder / n).is_file()), None):
        weights |= _projector(folder / name)
    loaded = load_model(model, NO_ADAPTER, device="cpu")
    projector = {k: v for k, v in weights.items() if k.startswith(WHOLE)}
    if not projector:  # the base's own: a folder with a description has one
        state = loaded.llava.model.multi_modal_projector.state_dict()
        weights |= {WHOLE + k: v for k, v in state.items()}
    info = AdapterInfo(
        out.name, base or loaded.spec.base, region_token=False, general_questions=True, training={"from": folder.name}
    )
    save_adapter(out, info, _config(config_file), weights)
    try:
        adapters.read(out, loaded.spec)
    except BadModelError:
        for file in sorted(out.iterdir()):
            file.unlink()
        out.rmdir()
        raise
    return {"adapter": str(out), "lora": sum(".lora_" in k for k in weights), "projector": len(projector)}


def _config(path: Path) -> LoraConfig:
    """The settings, with the projector among what is saved; BadModelError where they cannot be read."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError(f"it holds a {type(values).__name__}")
        config = LoraConfig.from_peft_type(**values)
    except (ValueError, TypeError, KeyError, AttributeError, OSError, RecursionError) as error:
        raise BadModelError(f"{str(path)!r} cannot be used: {reason_of(error)}") from error
    if not isinstance(config, LoraConfig):
        raise BadModelError(f"{str(path)!r} is of {values.get('peft_type')!r}; expected LORA")
    config.modules_to_save = [PROJECTOR]
    return config


def _lora(folder: Path) -> dict[str, torch.Tensor]:
    path = folder / adapters.LORA
    if path.is_file():
        try:
            return dict(load(path.read_bytes()))
        except SafetensorError as error:
            raise BadModelError(f"{str(path)!r} is not a whole safetensors file: {reason_of(error)}") from error
    if not (folder / LORA_PICKLE).is_file():
        raise ModelNotFoundError(f"{str(folder)!r} has neither {adapters.LORA} nor {LORA_PICKLE}")
    return _unpickled(folder / LORA_PICKLE)


def _projector(path: Path) -> dict[str, torch.Tensor]:
    """A projector under the names of `peft`; BadModelError where something else was trained too."""
    made = {}
    for key, tensor in _unpickled(path).items():
        found = _PROJECTOR.fullmatch(key)
        if found is None or found["layer"] not in LAYERS:
            raise BadModelError(
                f"{str(path)!r}: weight {key[:120]!r} has no place; expected a projector of two layers "
                "(mlp2x_gelu) alone"
            )
        made[f"{WHOLE}{LAYERS[found['layer']]}.{found['part']}"] = tensor
    return made


def _unpickled(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a pickle, of which nothing is run."""
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        ValueError,
        KeyError,
        OSError,
        AttributeError,
        TypeError,
    ) as error:
        raise BadModelError(f"{str(path)!r} cannot be read as weights alone: {reason_of(error)[:120]}") from error
    if not isinstance(values, dict) or not all(isinstance(v, torch.Tensor) for v in values.values()):
        raise BadModelError(f"{str(path)!r} does not hold tensors by their names alone")
    return {str(k): v for k, v in values.items()}
