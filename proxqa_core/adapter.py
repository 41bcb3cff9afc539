"""Adapters on disk: LoRA weights, projector, pointer and what must be known to use them, always together.

Promises: an adapter folder is read whole or refused with one line; only safetensors are read, never pickles; an
adapter made for another base is refused. Writing is atomic. Knows nothing of training or of engines.

A folder holds: `proxqa.json` (AdapterInfo), `projector.safetensors`, `adapter_config.json` and
`adapter_model.safetensors` (the last two as `peft` writes them), and `pointer.safetensors` where it has a pointer.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import tempfile
import warnings
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from proxqa_core.errors import BadModelError, ModelNotFoundError
from proxqa_core.vision.pointing import Pointer

INFO = "proxqa.json"
PROJECTOR = "projector.safetensors"
LORA_CONFIG = "adapter_config.json"
LORA = "adapter_model.safetensors"
POINTER = "pointer.safetensors"
FILES = (INFO, PROJECTOR, LORA_CONFIG, LORA)


@dataclass(frozen=True)
class AdapterInfo:
    """What an adapter is.

    base: identity of the base it was trained on (`base_identity()`, or a Hugging Face id). region_token: boxes are
    also said as region tokens. pointer: it finds what is named (`proxqa_core.vision.pointing`), and asks by name as
    by box. reasons: it was taught stage 2; one that was not compares the perceived depths. general_questions: it can
    answer questions that are not about proximity. depth_temperature, choice_temperature: calibration, > 0, 1 = as the
    model says. training: what it was made from.
    """

    name: str
    base: str
    region_token: bool = True
    pointer: bool = False
    reasons: bool = True
    general_questions: bool = False
    depth_temperature: float = 1.0
    choice_temperature: float = 1.0
    training: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key in ("depth_temperature", "choice_temperature"):
            value = getattr(self, key)
            if not isinstance(value, (int, float)) or not 0.05 <= value <= 20:
                raise BadModelError(f"adapter {self.name!r}: {key} is {value!r}; expected a number in [0.05, 20]")
        for key in ("region_token", "pointer", "reasons", "general_questions"):
            if not isinstance(getattr(self, key), bool):
                raise BadModelError(f"adapter {self.name!r}: {key} is {getattr(self, key)!r}; expected true or false")


def read_info(folder: Path) -> AdapterInfo:
    """The description of an adapter folder. ModelNotFoundError where files are missing, BadModelError where bad."""
    if not folder.is_dir():
        raise ModelNotFoundError(f"adapter folder {str(folder)!r} does not exist")
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise ModelNotFoundError(f"adapter folder {str(folder)!r} lacks {', '.join(missing)}")
    try:
        values = json.loads((folder / INFO).read_text())
        known = {f.name for f in fields(AdapterInfo)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise BadModelError(f"adapter {str(folder)!r}: {INFO} has unknown fields {unknown}; known: {sorted(known)}")
        info = AdapterInfo(**values)
        if info.pointer and not (folder / POINTER).is_file():
            raise ModelNotFoundError(f"adapter folder {str(folder)!r} lacks {POINTER}")
        return info
    except (ValueError, TypeError, AttributeError) as error:
        if isinstance(error, (BadModelError, ModelNotFoundError)):
            raise
        raise BadModelError(f"adapter {str(folder)!r}: {INFO} cannot be read: {error}") from error


def read_pointer(folder: Path) -> Pointer:
    """The pointer of an adapter folder, float32. BadModelError where the file is not a whole pointer."""
    weights = _tensors(folder / POINTER)
    try:
        return Pointer.of_weights({k: v.float() for k, v in weights.items()}).eval().requires_grad_(False)
    except (KeyError, RuntimeError, IndexError) as error:
        reason = str(error).strip().splitlines()[0]
        raise BadModelError(f"{str(folder / POINTER)!r} does not hold a pointer: {reason}") from error


@dataclass(frozen=True, eq=False)
class Lora:
    """LoRA weights of an adapter as they are stored, and the rank and alpha they belong to."""

    rank: int
    alpha: int
    targets: tuple[str, ...]
    rank_stabilised: bool
    weights: dict[str, torch.Tensor]

    def put(self, wrapped: Any, said: str) -> None:
        """Into a `peft.PeftModel` with the same settings. BadModelError where they do not fit; said: the adapter."""
        from peft import set_peft_model_state_dict

        expected = {k: tuple(v.shape) for k, v in wrapped.state_dict().items() if ".lora_" in k}
        given = {k.replace(".weight", ".default.weight"): tuple(v.shape) for k, v in self.weights.items()}
        if expected != given:
            odd = sorted(set(expected.items()) ^ set(given.items()))[0]
            raise BadModelError(f"adapter {said}: LoRA weights do not fit the base, e.g. {odd[0]} {odd[1]}")
        set_peft_model_state_dict(wrapped, self.weights)


def read_lora(folder: Path) -> Lora:
    """The LoRA weights of an adapter folder. BadModelError where they or their settings cannot be read."""
    try:
        values = json.loads((folder / LORA_CONFIG).read_text())
        return Lora(
            int(values["r"]),
            int(values["lora_alpha"]),
            tuple(values["target_modules"]),
            bool(values.get("use_rslora", False)),
            _tensors(folder / LORA),
        )
    except (KeyError, ValueError, TypeError) as error:
        if isinstance(error, BadModelError):
            raise
        raise BadModelError(f"adapter {str(folder)!r}: LoRA cannot be read: {error}") from error


def put_projector(llava: Any, folder: Path) -> None:
    """Replace a LLaVA model's projector by that of an adapter folder. BadModelError where it does not fit."""
    _load_exactly(llava.model.multi_modal_projector, _tensors(folder / PROJECTOR), folder / PROJECTOR)


def apply(llava: Any, folder: Path, base: str) -> tuple[Any, AdapterInfo]:
    """Put an adapter into a LLaVA model: projector replaced, LoRA merged into the language model's weights.

    base: identity of the model's base. Returns (the model, the adapter's description).
    Raises ModelNotFoundError or BadModelError; the model must not be used after that.
    """
    from peft import LoraConfig, get_peft_model

    info = read_info(folder)
    if info.base != base:
        raise BadModelError(f"adapter {info.name!r} was made for base {info.base!r}, not for {base!r}")
    lora = read_lora(folder)
    put_projector(llava, folder)
    try:
        config = LoraConfig(
            r=lora.rank, lora_alpha=lora.alpha, target_modules=list(lora.targets), use_rslora=lora.rank_stabilised
        )
        with warnings.catch_warnings():  # of what the libraries will call things one day
            warnings.simplefilter("ignore", FutureWarning)
            wrapped = get_peft_model(llava.model.language_model, config)
        lora.put(wrapped, repr(info.name))
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        if isinstance(error, BadModelError):
            raise
        raise BadModelError(f"adapter {str(folder)!r}: LoRA cannot be applied: {error}") from error
    llava.model.language_model = wrapped.merge_and_unload()
    return llava, info


def save(
    folder: Path, info: AdapterInfo, projector: dict[str, torch.Tensor], lora: Any, pointer: Pointer | None = None
) -> None:
    """Write an adapter folder atomically, as float16. lora: a `peft.PeftModel` of the language model.

    ValueError where `info.pointer` and `pointer` disagree.
    """
    from peft import get_peft_model_state_dict

    if info.pointer != (pointer is not None):
        raise ValueError(f"adapter {info.name!r} says pointer is {info.pointer}, but got {type(pointer).__name__}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".adapter-", dir=folder.parent))
    try:
        config = copy.copy(lora.peft_config["default"])
        config.base_model_name_or_path = None  # the folder of the machine that trained it says nothing
        config.save_pretrained(work)
        if pointer is not None:
            save_file(_half(pointer.state_dict()), work / POINTER)
        save_file(_half(get_peft_model_state_dict(lora)), work / LORA)
        save_file(_half(projector), work / PROJECTOR)
        (work / INFO).write_text(json.dumps(asdict(info), indent=1) + "\n")
        os.chmod(work, 0o755)
        old = None
        if folder.exists():
            old = Path(tempfile.mkdtemp(prefix=".old-", dir=folder.parent))
            os.replace(folder, old / "adapter")
        os.replace(work, folder)
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _half(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().half().contiguous() for name, tensor in tensors.items()}


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise BadModelError(f"{str(path)!r} is not a whole safetensors file: {error}") from error
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise BadModelError(f"{str(path)!r}: weight {name} has values that are not finite")
    return tensors


def _load_exactly(module: torch.nn.Module, tensors: dict[str, torch.Tensor], path: Path) -> None:
    expected = {name: tuple(t.shape) for name, t in module.state_dict().items()}
    given = {name: tuple(t.shape) for name, t in tensors.items()}
    if expected != given:
        odd = sorted(set(expected.items()) ^ set(given.items()))[0]
        raise BadModelError(f"{str(path)!r} does not fit the model, e.g. {odd[0]} {list(odd[1])}")
    module.load_state_dict(tensors)
