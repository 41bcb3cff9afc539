"""A LLaVA out of a folder or a hub, as transformers reads it.

Promises: what cannot be loaded is refused in one line; a pickle is never opened, no code of a model's is run. Knows
nothing of adapters.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from proxqa_core.errors import ModelNotFoundError, ProxqaError
from proxqa_core.memory import is_out_of_memory
from proxqa_core.model.checkpoint import (
    check_complete,
    check_config,
    check_config_file,
    check_files,
    check_tensors,
    one_dtype,
)
from proxqa_core.model.sources import DEFAULT, EXPECTED

MAX_REASON = 300
"""Most characters that are quoted of what a library says is wrong."""


def load_llava(folder: str, source: str, dtype: torch.dtype, local_files_only: bool) -> tuple[Any, Any, Any]:
    """A model with what makes its inputs.

    Args:
        folder: In the Hugging Face layout, or a hub's id.
        source: What it is called in messages.
        dtype: Wanted, see `read_llava`.
        local_files_only: Whether nothing may be fetched.

    Returns:
        The model as `read_llava` has it, its tokenizer, and its image processor: None for the default, which has pixels
        of its own.

    Raises:
        ModelNotFoundError: It cannot be loaded.
        BadModelError: It is damaged, or of a kind that is not loaded.
    """
    from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer, ProcessorMixin

    import proxqa_core.vision.tower as tower  # importing it registers the default's vision tower

    with refusing(source):
        local: dict[str, Any] = {"local_files_only": local_files_only, "trust_remote_code": False}
        if os.path.isdir(folder):
            check_config_file(Path(folder))
            check_files(Path(folder))
        config = AutoConfig.from_pretrained(folder, **local)
        check_config(source, config)
        processor = None
        own_pixels = isinstance(config.vision_config, tower.MergedDinov2Config)
        if os.path.isdir(folder):
            check_complete(Path(folder), wants_processor=not own_pixels)
        if not own_pixels:
            processor = AutoImageProcessor.from_pretrained(folder, **local)
        tokenizer = AutoTokenizer.from_pretrained(folder, **local)
        if processor is not None:
            # the processor's own template comes first, wherever it is kept
            kept, _ = ProcessorMixin.get_processor_dict(folder, local_files_only=local_files_only)
            tokenizer.chat_template = kept.get("chat_template") or tokenizer.chat_template
    return read_llava(folder, source, dtype, local_files_only), tokenizer, processor


def read_llava(folder: str, source: str, dtype: torch.dtype, local_files_only: bool = False) -> Any:
    """The model of a base as it is stored, on the CPU: its tensors may be mapped from the files.

    Args:
        folder, source, local_files_only: As of `load_llava`.
        dtype: Of the tensors where they are of several types; else the stored type stays, to be changed after an
            adapter was merged.

    Returns:
        A `LlavaForConditionalGeneration`.

    Raises:
        ModelNotFoundError: It cannot be loaded.
    """
    from transformers import LlavaForConditionalGeneration
    from transformers.utils import logging

    import proxqa_core.vision.tower  # noqa: F401 - importing it registers the default's vision tower

    with refusing(source):
        bars = logging.is_progress_bar_enabled()
        if source == DEFAULT and bars:
            logging.disable_progress_bar()  # it takes less than a second
        try:
            # use_safetensors: a pickle is never opened
            llava, seen = LlavaForConditionalGeneration.from_pretrained(
                folder,
                dtype=_stored_dtype(folder, local_files_only) or dtype,
                use_safetensors=True,
                local_files_only=local_files_only,
                trust_remote_code=False,
                output_loading_info=True,
            )
            check_tensors(source, seen["missing_keys"], seen["unexpected_keys"])
            return llava
        finally:
            if source == DEFAULT and bars:
                logging.enable_progress_bar()


def _stored_dtype(folder: str, local_files_only: bool) -> torch.dtype | None:
    """The one type of a checkpoint's tensors; None where there are several, or no safetensors."""
    from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, cached_file

    def find(name: str) -> str | None:
        place: str | None = cached_file(
            folder, name, local_files_only=local_files_only, _raise_exceptions_for_missing_entries=False
        )
        return place

    whole = find(SAFE_WEIGHTS_NAME)
    index = None if whole else find(SAFE_WEIGHTS_INDEX_NAME)
    if index:
        shards = sorted(set(json.loads(Path(index).read_text(encoding="utf-8"))["weight_map"].values()))
        files = [find(name) for name in shards]
    else:
        files = [whole]
    return one_dtype([Path(f) for f in files if f])


@contextlib.contextmanager
def refusing(source: str) -> Iterator[None]:
    """What transformers raises as ModelNotFoundError, in one line.

    Args:
        source: What the model is called in it.

    Raises:
        ModelNotFoundError: Anything was raised that is no error of ours and not of memory.
    """
    try:
        yield
    except Exception as error:  # on a damaged folder transformers raises nearly anything
        if isinstance(error, ProxqaError) or is_out_of_memory(error):
            raise
        lines = str(error).strip().splitlines() or [type(error).__name__]
        reason = " ".join(lines[: 2 if lines[0].endswith(":") else 1])[:MAX_REASON]
        if "ignore_mismatched_sizes" in str(error):
            reason = "its tensors have other shapes than its config.json says"
        if "trust_remote_code" in str(error):
            reason = "it needs code that comes with it (auto_map in its config.json), which is never run"
        raise ModelNotFoundError(f"model {source!r} cannot be loaded: {reason}; expected {EXPECTED}") from error
