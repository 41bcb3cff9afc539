"""Adapters of others: where the tensors of a LoRA folder as `peft` saves it belong in a LLaVA.

Promises: every tensor is placed, or the folder is refused with one line that names it; nothing is guessed from regular
expressions of outside, which are never run. The names of transformers 4 and 5, of a whole LLaVA, of its language model
alone and of LLaVA's own code are all understood. Knows nothing of files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

from proxqa_core.errors import BadModelError

Shapes = Mapping[str, tuple[int, ...]]
T = TypeVar("T")
PROJECTOR = "multi_modal_projector"
WHOLE = "model."
"""How the names of a LLaVA's parts begin in transformers 5, other than its output's."""
LANGUAGE_MODEL = ("model.language_model.", "language_model.model.", "language_model.", "model.", "")
"""How names of the language model's layers begin: in transformers 5; in 4; in a LLaVA's inner model; in a language
model with its output, and in LLaVA's own code; in a language model alone."""
VISION_ALIAS = "vision_model."
"""Part of the names of a vision tower in some versions."""
_LORA = re.compile(r"(?:base_model\.model\.)?(?P<module>[\w.]+)\.(?P<part>lora_[AB])(?:\.default)?\.weight")
_SAVED = re.compile(
    r"(?:base_model\.model\.)?(?:model\.)?multi_modal_projector\.(?:modules_to_save\.default\.)?(?P<name>[\w.]+)"
)


def lora_keys(layer: str) -> tuple[str, str]:
    """Under which names A and B of a layer are kept: those that `peft` gives them.

    Args:
        layer: Its name in the language model; of other layers, in the whole model.
    """
    return f"base_model.model.{layer}.lora_A.weight", f"base_model.model.{layer}.lora_B.weight"


def holds_projector(names: Mapping[str, object]) -> bool:
    """Whether a folder's tensors contain a projector that was trained whole."""
    return any(_SAVED.fullmatch(name) and not _LORA.fullmatch(name) for name in names)


def expected_shapes(given: Shapes, rank: int, linear: Shapes, others: Shapes, projector: Shapes) -> Shapes:
    """The shapes that the tensors of a folder must have, under the folder's names.

    Args:
        given: The shapes that they have.
        rank: Of the LoRA.
        linear: Shapes [out, in] of the language model's linear layers, by their names in it.
        others: The same of projector and vision tower, by their names in the whole model.
        projector: Shapes of the projector's weights.

    Raises:
        BadModelError: A tensor has no place in the model, or one of a pair is missing.
    """
    expected: dict[str, tuple[int, ...]] = {}
    pairs: dict[str, set[str]] = {}
    for key in given:
        if found := _LORA.fullmatch(key):
            layer = _layer(found["module"], key, linear, others)
            wide, narrow = linear[layer] if layer in linear else others[layer]
            expected[key] = (rank, narrow) if found["part"] == "lora_A" else (wide, rank)
            parts = pairs.setdefault(layer, set())
            if found["part"] in parts:
                raise BadModelError(f"layer {layer[:80]} has two {found['part']}; expected one")
            parts.add(found["part"])
        elif (saved := _SAVED.fullmatch(key)) and saved["name"] in projector:
            expected[key] = projector[saved["name"]]
        else:
            raise _unplaced(key)
    if not pairs:
        raise BadModelError("it holds no LoRA weights; expected lora_A and lora_B of the language model's layers")
    if odd := [layer for layer, parts in pairs.items() if len(parts) != 2]:
        raise BadModelError(f"layer {odd[0][:80]} has only one of lora_A and lora_B; expected both")
    return expected


def placed(tensors: Mapping[str, T], linear: Shapes, others: Shapes) -> tuple[dict[str, T], dict[str, T]]:
    """(LoRA weights by `lora_keys`, the projector's by their own names) of what `expected_shapes` has checked."""
    lora: dict[str, T] = {}
    projector: dict[str, T] = {}
    for key, tensor in tensors.items():
        if found := _LORA.fullmatch(key):
            a, b = lora_keys(_layer(found["module"], key, linear, others))
            lora[a if found["part"] == "lora_A" else b] = tensor
        elif saved := _SAVED.fullmatch(key):
            projector[saved["name"]] = tensor
    return lora, projector


def _layer(module: str, key: str, linear: Shapes, others: Shapes) -> str:
    """The layer of this model that a name means: in the language model, else in the whole model."""
    for start in LANGUAGE_MODEL:
        if module.startswith(start) and module.removeprefix(start) in linear:
            return module.removeprefix(start)
    whole = WHOLE + module.removeprefix(WHOLE)
    tower, _, rest = whole.partition("vision_tower.")
    alias = rest.removeprefix(VISION_ALIAS) if rest.startswith(VISION_ALIAS) else VISION_ALIAS + rest
    for name in (whole, f"{tower}vision_tower.{alias}"):
        if name in others:
            return name
    raise _unplaced(key)


def _unplaced(key: str) -> BadModelError:
    return BadModelError(
        f"weight {key[:120]!r} has no place in the model; "
        "expected LoRA of linear layers (language model, projector, vision tower), or a whole projector"
    )
