"""Load a model: the default in the box, a Hugging Face LLaVA, or a local folder, with an optional adapter.

Promises: one model family, `LlavaForConditionalGeneration`, whatever the source; what cannot be loaded is refused with
one line that says why and what would help. Knows nothing of questions or of images.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from proxqa_core import adapter as adapters
from proxqa_core.adapter import AdapterInfo
from proxqa_core.base_weights import base_identity, default_base
from proxqa_core.errors import BadModelError, ModelNotFoundError
from proxqa_core.llm.prompts import Prompter
from proxqa_core.vision.pointing import Pointer
from proxqa_core.vision.preprocessing import Preprocessing

DEFAULT = "default"
NO_ADAPTER = "none"
EXPECTED = "'default', a Hugging Face LLaVA id (owner/name) or a local folder"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
DEFAULT_ADAPTER = Path(__file__).parent / "assets" / "default"


@dataclass
class LoadedModel:
    """A model ready to answer.

    llava: LlavaForConditionalGeneration in eval mode, adapter merged. merge: patches per image-token side.
    name: what to call it in messages and reports. adapter: None = the base as it is. pointer: finds what is named,
    None where the adapter has none.
    """

    llava: Any
    prompter: Prompter
    preprocessing: Preprocessing
    name: str
    merge: int
    adapter: AdapterInfo | None
    pointer: Pointer | None = None

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.llava.dtype
        return dtype

    @property
    def device(self) -> torch.device:
        device: torch.device = self.llava.device
        return device

    def parameters(self) -> int:
        parts = [self.llava] if self.pointer is None else [self.llava, self.pointer]
        return sum(p.numel() for part in parts for p in part.parameters())


def choose_device(device: str = "auto") -> torch.device:
    """'auto' = CUDA where there is one, else the CPU. BadModelError on a device that is not there."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise BadModelError(f"device {device!r} cannot be used: {reason}; expected 'auto', 'cpu', 'cuda'") from error
    return chosen


def choose_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """'auto' = bfloat16 where the hardware multiplies it (GPUs, CPUs with AMX or AVX-512 BF16), else float32."""
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if dtype == "auto":
        cpu = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
        fast = device.type == "cuda" or (device.type == "cpu" and cpu)
        return torch.bfloat16 if fast else torch.float32
    if dtype not in known:
        raise BadModelError(f"dtype {dtype!r} is unknown; expected 'auto' or one of {sorted(known)}")
    return known[dtype]


def load(
    source: str = DEFAULT,
    adapter: str | os.PathLike[str] | None = None,
    device: str = "auto",
    dtype: str = "auto",
    say: Callable[[str], None] | None = None,
) -> LoadedModel:
    """Load a model.

    source: 'default' (the one in the box), a Hugging Face id of a LLaVA ('llava-hf/llava-1.5-7b-hf'), or a folder in
    the Hugging Face layout. adapter: a folder (see `proxqa_core.adapter`); None = the one in the box for 'default' and
    none for others; 'none' = none at all. say: told one line before slow steps.
    Raises ModelNotFoundError, BadModelError.
    """
    where = choose_device(device)
    how = choose_dtype(dtype, where)
    if source == DEFAULT:
        folder, base = str(default_base(say)), base_identity()
        adapter = DEFAULT_ADAPTER if adapter is None else adapter
    elif os.path.isdir(source) or _HUB_ID.fullmatch(source):
        folder, base = str(source), str(source)
    else:  # do not ask the hub for what cannot be there
        raise ModelNotFoundError(f"model {source!r} is not there; expected {EXPECTED}")
    llava, tokenizer, processor = _load_llava(folder, source)
    info, pointer = None, None
    if adapter is not None and str(adapter) not in ("", NO_ADAPTER):
        llava, info = adapters.apply(llava, Path(adapter), base)
        pointer = adapters.read_pointer(Path(adapter)).to(where) if info.pointer else None
    llava = llava.to(device=where, dtype=how).eval().requires_grad_(False)
    config = llava.config
    merge = int(getattr(config.vision_config, "merge", 1))
    preprocessing = Preprocessing.of_processor(processor) if processor is not None else Preprocessing()
    if preprocessing.size != config.vision_config.image_size:
        raise BadModelError(
            f"model {source!r}: its processor makes {preprocessing.size} px, its encoder wants "
            f"{config.vision_config.image_size} px"
        )
    side = config.vision_config.image_size // config.vision_config.patch_size // merge
    prompter = Prompter(tokenizer, config.image_token_index, side * side)
    name = source if info is None else f"{source}+{info.name}"
    return LoadedModel(llava, prompter, preprocessing, name, merge, info, pointer)


def _load_llava(folder: str, source: str) -> tuple[Any, Any, Any]:
    """(model in float32, tokenizer, image processor or None for the default's own preprocessing)."""
    from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer, LlavaForConditionalGeneration
    from transformers.utils import logging

    import proxqa_core.vision.tower as tower  # importing it registers the default's vision tower

    try:
        config = AutoConfig.from_pretrained(folder)
        if config.model_type != "llava":
            raise BadModelError(f"model {source!r} is a {config.model_type!r}; expected a LLaVA (model_type 'llava')")
        processor = None
        if not isinstance(config.vision_config, tower.MergedDinov2Config):
            processor = AutoImageProcessor.from_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        bars = logging.is_progress_bar_enabled()
        if source == DEFAULT and bars:
            logging.disable_progress_bar()  # it takes less than a second
        try:
            # use_safetensors: a pickle is never opened
            llava = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
        finally:
            if source == DEFAULT and bars:
                logging.enable_progress_bar()
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        if isinstance(error, BadModelError):
            raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelNotFoundError(f"model {source!r} cannot be loaded: {reason}; expected {EXPECTED}") from error
    return llava, tokenizer, processor
