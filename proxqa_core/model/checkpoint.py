"""What is wrong with a checkpoint, in one line, before or after it is read: damaged files, kinds that are not loaded.

Promises: no weight is read, nothing of a folder is run, and a damaged file is named. Knows nothing of questions, images
or adapters.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from proxqa_core.errors import BadModelError, ModelNotFoundError, reason_of

LFS_MARK = b"version https://git-lfs"
"""How a file begins that `git clone` without git-lfs leaves in the place of a large one."""
DERIVED = ("rotary_emb.inv_freq", "position_ids")
"""Ends of the names of tensors that older versions saved and that follow from the configuration."""
STORED = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""Types of tensors as safetensors names them."""
FLOATS = ("F64", "F32", "F16", "BF16")
"""Types of tensors, as safetensors calls them, that are weights as they are."""
OBJECTS = (
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer_config.json",
    "tokenizer.json",
)
"""Files that hold a JSON object."""
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PROCESSORS = OBJECTS[1:3]
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model", "tekken.json")
ADAPTER = "adapter_config.json"
SHOWN = 3
"""How many tensors an error names."""


def check_files(folder: Path) -> None:
    """Whether the files of a checkpoint's folder are whole, by their headers.

    Args:
        folder: In the Hugging Face layout.

    Raises:
        BadModelError: A file is a git-lfs pointer, is cut off, is no JSON, or a file is missing; it names the file.
        OSError: A file cannot be read.
    """
    for path in sorted(p for p in folder.iterdir() if p.is_file()):
        if path.suffix in (".safetensors", ".json", ".model", ".jinja"):
            _check_start(path)
        if path.suffix == ".safetensors":
            _check_safetensors(path)
        elif path.suffix == ".json":
            _check_json(path)


def check_complete(folder: Path, wants_processor: bool) -> None:
    """Whether a folder has all that a model needs, and nothing that `transformers` would load into it besides.

    Args:
        folder: In the Hugging Face layout.
        wants_processor: Whether it must say how an image becomes pixels.

    Raises:
        ModelNotFoundError: A file is missing.
        BadModelError: An adapter is beside the model.
    """

    def there(*names: str) -> bool:
        return any((folder / name).is_file() for name in names)

    missing = ""
    if not there(WEIGHTS, INDEX):
        missing = f"{WEIGHTS}{_instead_of_weights(folder)}"
    elif not there(*TOKENIZERS):
        missing = "tokenizer.json (or tokenizer.model)"
    elif wants_processor and not there(*PROCESSORS):
        missing = f"{' or '.join(PROCESSORS)}: how its images become pixels"
    if missing:
        raise ModelNotFoundError(f"model folder {str(folder)!r} lacks {missing}")
    if there(ADAPTER):
        raise BadModelError(
            f"model folder {str(folder)!r} holds an adapter besides ({ADAPTER}), which would be loaded with it; "
            "expected the adapter in a folder of its own"
        )


def check_config_file(folder: Path) -> None:
    """Whether a folder says which model it is. ModelNotFoundError where it does not."""
    if not (folder / "config.json").is_file():
        adapter = "; it holds an adapter: give it as the adapter" if (folder / ADAPTER).is_file() else ""
        raise ModelNotFoundError(f"model folder {str(folder)!r} lacks config.json{adapter}")


def _instead_of_weights(folder: Path) -> str:
    """What a folder has in the place of weights that are read, for people."""
    names = sorted(p.name for p in folder.iterdir())
    if any(name.startswith("model-") and name.endswith(".safetensors") for name in names):
        return f"; it has shards, expected {INDEX} beside them"
    pickle = next((name for name in names if name.endswith((".bin", ".pth", ".pt"))), "")
    return f"; {pickle!r} is a pickle, which is never opened: convert it to safetensors" if pickle else ""


def _check_start(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(len(LFS_MARK))
    if start == LFS_MARK:
        raise BadModelError(f"{str(path)!r} is a git-lfs pointer, not the file itself; run: git lfs pull")
    if not start:
        raise BadModelError(f"{str(path)!r} is empty; download it again")


def _check_safetensors(path: Path) -> None:
    try:
        with safe_open(path, "pt") as file:
            kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, ValueError, KeyError) as error:
        reason = reason_of(error)[:120]
        raise BadModelError(
            f"{str(path)!r} is not a whole safetensors file ({reason}); was its download cut off?"
        ) from error
    odd = next((n for n, kind in kinds.items() if kind not in FLOATS and not n.endswith(DERIVED)), "")
    if odd:
        raise BadModelError(
            f"{str(path)!r} holds {odd[:80]!r} as {kinds[odd]}, which is quantised; expected the weights in float32, "
            "bfloat16 or float16"
        )


def _check_json(path: Path) -> None:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise BadModelError(f"{str(path)!r} is not valid JSON: {reason_of(error)[:120]}") from error
    if path.name in OBJECTS and not isinstance(values, dict):
        raise BadModelError(f"{str(path)!r} holds a {type(values).__name__}; expected an object")
    if path.name.endswith(".safetensors.index.json"):
        _check_shards(path, values)


def _check_shards(path: Path, values: Any) -> None:
    weights = values.get("weight_map") if isinstance(values, dict) else None
    if not isinstance(weights, dict) or not all(isinstance(v, str) for v in weights.values()):
        raise BadModelError(f"{str(path)!r} has no weight_map of tensors to files")
    shards = sorted(set(weights.values()))
    outside = next((v for v in shards if Path(v).name != v), None)
    if outside is not None:
        raise BadModelError(f"{str(path)!r} names {outside[:80]!r}; expected a file beside it")
    missing = [v for v in shards if not (path.parent / v).is_file()]
    if missing:
        raise BadModelError(f"{str(path)!r} names {missing[0]!r}, which is missing ({len(missing)} such files)")
    if not isinstance(values.get("metadata"), dict):
        raise BadModelError(
            f"{str(path)!r} has no metadata, which transformers wants there: an object, it may be empty"
        )


def one_dtype(files: Iterable[Path]) -> torch.dtype | None:
    """The type that all floating-point tensors of safetensors files have, by their headers.

    Args:
        files: Safetensors.

    Returns:
        It; None where there are several, none, or one that no LLaVA is computed in.

    Raises:
        SafetensorError: A file is damaged.
    """
    kinds = set()
    for path in files:
        with safe_open(path, "pt") as file:
            kinds |= {file.get_slice(n).get_dtype() for n in file.keys() if not n.endswith(DERIVED)}  # noqa: SIM118
    return STORED.get(kinds.pop()) if len(kinds) == 1 else None


def check_config(source: str, config: Any) -> None:
    """Whether a configuration is of a kind that is loaded right.

    Args:
        source: What to call the model in an error.
        config: A `transformers.PretrainedConfig`.

    Raises:
        BadModelError: It is no LLaVA, quantised, or of a vision tower without a fixed image size.
    """
    if config.model_type != "llava":
        raise BadModelError(f"model {source!r} is a {config.model_type!r}; expected a LLaVA (model_type 'llava')")
    _check_indices(source, config)
    _check_sizes(source, config)
    quantised = getattr(config, "quantization_config", None)
    if quantised:
        values = quantised if isinstance(quantised, dict) else vars(quantised)
        method = str(values.get("quant_method", "unknown"))[:40]
        raise BadModelError(
            f"model {source!r} is quantised ({method}); expected the weights in float32, bfloat16 or float16"
        )
    tower = str(getattr(config.vision_config, "model_type", "unknown"))
    if tower == "pixtral":
        raise BadModelError(
            f"model {source!r} has a Pixtral vision tower, of as many patches as an image has; "
            "expected a tower of one image size (CLIP, SigLIP)"
        )


def _check_sizes(source: str, config: Any) -> None:
    """Whether the vision tower cuts its images into patches."""
    size, patch = (getattr(config.vision_config, name, 1) for name in ("image_size", "patch_size"))
    if not (isinstance(size, int) and isinstance(patch, int) and 1 <= patch <= size):
        raise BadModelError(
            f"model {source!r} has a vision tower of {str(size)[:20]} px images in patches of {str(patch)[:20]} px; "
            "expected whole numbers, a patch no larger than the image"
        )


def _check_indices(source: str, config: Any) -> None:
    """Whether the layers of the vision tower and the token of an image are those of the model."""
    layers = config.vision_feature_layer
    chosen = [layers] if isinstance(layers, int) else layers
    depth = getattr(config.vision_config, "num_hidden_layers", None)
    whole = isinstance(chosen, list | tuple) and chosen and all(isinstance(i, int) for i in chosen)
    if not whole or (isinstance(depth, int) and not all(-depth - 1 <= i <= depth for i in chosen)):
        raise BadModelError(
            f"model {source!r} takes the vision tower's layers {str(layers)[:60]}; expected some of its {depth}"
        )
    token, words = config.image_token_index, getattr(config.text_config, "vocab_size", 0)
    if not isinstance(token, int) or not 0 <= token < max(words, 1):
        raise BadModelError(
            f"model {source!r} has {str(token)[:40]} as the token of an image; expected one of its {words} tokens"
        )


def check_tensors(source: str, missing: Iterable[Any], unexpected: Iterable[Any]) -> None:
    """Whether a checkpoint held exactly the tensors of its model.

    Args:
        source: What to call the model in an error.
        missing: Names of tensors that the model has and the checkpoint lacks.
        unexpected: Names of tensors that the checkpoint has and the model lacks.

    Raises:
        BadModelError: It did not; a model of random weights would have answered.
    """
    odd: Mapping[str, list[str]] = {
        "missing": sorted(map(str, missing)),
        "unexpected": sorted(str(k) for k in unexpected if not str(k).endswith(DERIVED)),
    }
    parts = [
        f"{len(names)} {kind} ({', '.join(n[:80] for n in names[:SHOWN])}{', …' if len(names) > SHOWN else ''})"
        for kind, names in odd.items()
        if names
    ]
    if parts:
        raise BadModelError(
            f"model {source!r}: its tensors are not those of a Hugging Face LLaVA: {'; '.join(parts)}; "
            "expected a checkpoint converted for LlavaForConditionalGeneration"
        )
