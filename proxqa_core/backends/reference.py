"""What PyTorch computes of a model's networks for a given input: what another backend's graphs must compute too.

Promises: a reference that is kept follows from the weights and versions that it is kept under; of a model that is
there as a module it is computed on the spot, of one that would have to be made first it is read where it is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from proxqa_core.backends.graph_cache import cached, key_of
from proxqa_core.errors import WriteError, reason_of
from proxqa_core.model.parts import Parts

REFERENCE_VERSION = "1"
"""Changes whenever a language model's reference is made another way."""
FILE = "reference.safetensors"
LANGUAGE = "language"
"""The kind of entry of the cache that holds a language model's reference."""
CHECKED_TOKENS = 16
"""Tokens that a language model's graph is tried out on."""
Tensors = dict[str, torch.Tensor]
Angles = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""Positions [rows, tokens] → cosines and sines [rows, tokens, head size] of the rotary embedding, float32."""


@dataclass(frozen=True, eq=False)
class Reference:
    """What PyTorch makes of a few words.

    Attributes:
        hidden: States after the last norm, [half of the words, hidden], of those that follow the first half.
        angles: The language model's rotary embedding.
    """

    hidden: torch.Tensor
    angles: Angles


def checked_rows(parts: Parts) -> torch.Tensor:
    """The embeddings that a language model is tried out on, [at most CHECKED_TOKENS, hidden]: words from all over."""
    table = parts.embeddings()
    return table[:: max(1, len(table) // CHECKED_TOKENS)][:CHECKED_TOKENS]


def language_key(identity: str, versions: list[str]) -> str:
    """What a language model's reference is kept under, see `Parts.identity`."""
    return key_of([identity, *versions, REFERENCE_VERSION])


def language_reference(parts: Parts, versions: list[str]) -> Reference:
    """A language model's reference.

    Args:
        parts: The model's.
        versions: What else a kept one follows from.
    """
    if parts.identity is None:
        layers = parts.llava().model.language_model
        return Reference(_hidden(layers, parts), _rotary(layers))
    made: list[Tensors] = []

    def make(folder: Path) -> None:
        made.append(_computed(parts))
        save(made[0], folder)

    folder = cached(LANGUAGE, language_key(parts.identity, versions), make)
    kept = made[0] if made else read(folder) if folder is not None else None
    kept = _computed(parts) if kept is None else kept
    return Reference(kept["hidden"], _angles(kept["frequencies"], kept["scaling"]))


@torch.inference_mode()
def _computed(parts: Parts) -> Tensors:
    """A reference as it is kept. The module is not: it is memory."""
    layers = parts.llava(keep=False).model.language_model
    rotary = layers.rotary_emb
    scaling = torch.tensor(float(rotary.attention_scaling))
    return {
        "hidden": _hidden(layers, parts).float().contiguous(),
        "frequencies": rotary.inv_freq.float().clone(),
        "scaling": scaling,
    }


@torch.inference_mode()
def _hidden(layers: Any, parts: Parts) -> torch.Tensor:
    rows = checked_rows(parts)
    hidden: torch.Tensor = layers(inputs_embeds=rows[None]).last_hidden_state[0, len(rows) // 2 :]
    return hidden


def _rotary(layers: Any) -> Angles:
    """The module's own, which may change its frequencies with the length."""
    like = torch.zeros(1, 1, 1)

    def angles(position: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        cos, sin = layers.rotary_emb(like, position)
        return cos, sin

    return angles


def _angles(frequencies: torch.Tensor, scaling: torch.Tensor) -> Angles:
    """As `LlamaRotaryEmbedding.forward` of transformers has it for frequencies that do not change."""

    def angles(position: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        turns = position[..., None].float() * frequencies
        both = torch.cat([turns, turns], dim=-1)
        return both.cos() * scaling, both.sin() * scaling

    return angles


def save(tensors: Tensors, folder: Path) -> None:
    """Put a reference into a folder. WriteError where it cannot be written."""
    try:
        save_file(tensors, folder / FILE)
    except (SafetensorError, RuntimeError) as error:  # of a full disk, too
        raise WriteError(f"a reference cannot be written: {reason_of(error)}") from error


def read(folder: Path) -> Tensors | None:
    """The reference in a folder; None where it cannot be read."""
    try:
        return load_file(folder / FILE)
    except (SafetensorError, OSError):
        return None
