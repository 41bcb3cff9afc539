"""The bundled default model out of its converted base, without the code that makes modules.

Promises: the same weights, tokenizer and, when it is asked for, module as `proxqa_core.model.hugging_face` gives of the
same folder. What it leaves out until then is most of a start.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from proxqa_core.model.adapter import Adapter, Scratch
from proxqa_core.model.base_weights import base_identity, default_base
from proxqa_core.model.parts import VISION_PREFIX, Parts, Stored, StoredBase, Weights
from proxqa_core.model.sources import DEFAULT
from proxqa_core.model.stored_tokenizer import StoredTokenizer


def open_base(folder: Path) -> StoredBase | None:
    """A converted base; None where an installed transformers stores it in a form that is not known here."""
    try:
        return StoredBase(folder)
    except (KeyError, AttributeError):
        return None


def read_tokenizer(folder: Path) -> Any:
    """The tokenizer of a converted base."""
    try:
        return StoredTokenizer(folder, lambda: _whole_tokenizer(folder))
    except (KeyError, OSError, ValueError):  # another version of transformers may store it otherwise
        return _whole_tokenizer(folder)


def _whole_tokenizer(folder: Path) -> Any:
    """The same, of the class that transformers would choose for it."""
    from transformers import PreTrainedTokenizerFast

    with quiet():  # it wonders that the folder holds a LLaVA
        return PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)


def merge(
    base: StoredBase, adapter: Adapter | None, device: torch.device, dtype: torch.dtype, old: Parts | None = None
) -> Stored:
    """The default model's parts with an adapter.

    Args:
        base: Of the default model.
        adapter: Merged into it, one that leaves the vision tower alone; None = the base as it is.
        device: Where the weights are to be.
        dtype: Their type.
        old: The same base with another adapter: what is the same is shared.
    """

    def change(name: str, ours: torch.Tensor, scratch: Scratch | None = None) -> torch.Tensor | None:
        return None if adapter is None else adapter.changed(name, ours, scratch)

    make = _maker(device, dtype, {} if old is None else old.tower())
    tower, lora = f"{base_identity()} {dtype}", {} if adapter is None else adapter.lora.weights
    return Stored(
        base,
        functools.partial(change, scratch=Scratch()),
        device,
        dtype,
        make,
        f"{_digest(lora)} {base_identity()} {dtype}",
        tower,
        old,
    )


def _maker(device: torch.device, dtype: torch.dtype, old_tower: Weights) -> Callable[[Weights], Any]:
    """What makes a module of merged weights and the base's vision tower; where the old model has that, it is shared."""

    def make(weights: Weights) -> Any:
        from proxqa_core.model.hugging_face import read_llava

        llava = read_llava(str(default_base()), DEFAULT, dtype, local_files_only=True)
        for name, parameter in llava.named_parameters():
            if name in weights or name in old_tower:
                parameter.data = (weights if name in weights else old_tower)[name]
            elif name.startswith(VISION_PREFIX):
                parameter.data = parameter.data.to(device=device, dtype=dtype, copy=True)
        # the default's answers were measured with rotary frequencies that are rounded
        return llava.to(device=device, dtype=dtype).eval().requires_grad_(False)

    return make


def _digest(weights: Mapping[str, torch.Tensor]) -> str:
    """What tells weights apart, as 16 hexadecimal digits."""
    total = hashlib.sha256()
    for name, weight in sorted(weights.items()):
        total.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        total.update(weight.contiguous().reshape(-1).view(torch.uint8).numpy())
    return total.hexdigest()[:16]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """What transformers logs in this thread is left out, but for errors."""
    from transformers.utils.logging import get_logger

    get_logger()  # makes its handlers
    thread = threading.get_ident()

    def is_shown(record: logging.LogRecord) -> bool:
        return record.thread != thread or record.levelno >= logging.ERROR

    handlers = list(logging.getLogger("transformers").handlers)
    for handler in handlers:
        handler.addFilter(is_shown)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(is_shown)
