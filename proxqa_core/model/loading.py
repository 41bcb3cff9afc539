"""Load a model: the bundled default, a Hugging Face LLaVA, or a local folder, with an optional adapter.

Promises: one model family, `LlavaForConditionalGeneration`, whatever the source; what cannot be loaded is refused with
one line that says why and what would help; another adapter is another model, and the first one stays as it was. Knows
nothing of questions or of images.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from proxqa_core.errors import BadModelError, ModelNotFoundError, ProxqaError
from proxqa_core.language.templates import BoxForm
from proxqa_core.llm.prompts import Prompter
from proxqa_core.memory import is_out_of_memory, naming_what_does_not_fit, return_to_system, weights_apart
from proxqa_core.model import adapter as adapters
from proxqa_core.model.adapter import Adapter, AdapterInfo, AdapterSpec
from proxqa_core.model.base_weights import base_identity, default_base
from proxqa_core.model.checkpoint import (
    check_complete,
    check_config,
    check_config_file,
    check_files,
    check_tensors,
    one_dtype,
)
from proxqa_core.model.sources import DEFAULT as DEFAULT
from proxqa_core.model.sources import DEFAULT_ADAPTER as DEFAULT_ADAPTER
from proxqa_core.model.sources import EXPECTED, adapter_folder, check_there, expanded
from proxqa_core.model.sources import NO_ADAPTER as NO_ADAPTER
from proxqa_core.model.taught_names import TaughtNames
from proxqa_core.vision.box_embedding import BoxEmbedding
from proxqa_core.vision.grounding_head import GroundingHead
from proxqa_core.vision.order_head import OrderHead
from proxqa_core.vision.preprocessing import Preprocessing

MAX_REASON = 300
"""Most characters that are quoted of what a library says is wrong."""


@dataclass
class LoadedModel:
    """A model ready to answer.

    Attributes:
        llava: `LlavaForConditionalGeneration` in eval mode, adapter merged.
        prompter: Makes prompts for its tokenizer.
        preprocessing: Makes its pixels.
        spatial_merge_size: Patches per side of an image token.
        source: As `load` got it.
        spec: What an adapter for it must fit.
        adapter: None = the base as it is.
        grounding_head: Finds what is named; None where the adapter has none.
        box_embedding: Tells region tokens where their boxes are; None where the adapter has none.
        order_head: Tells which of two boxes is nearer; None where the adapter has none.
        taught_names: What the adapter says that it was taught; None where it says nothing.
    """

    llava: Any
    prompter: Prompter
    preprocessing: Preprocessing
    spatial_merge_size: int
    source: str
    spec: AdapterSpec
    adapter: AdapterInfo | None = None
    grounding_head: GroundingHead | None = None
    box_embedding: BoxEmbedding | None = None
    order_head: OrderHead | None = None
    taught_names: TaughtNames | None = None

    @property
    def name(self) -> str:
        """What to call it in messages and reports."""
        return self.source if self.adapter is None else f"{self.source}+{self.adapter.name}"

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        dtype: torch.dtype = self.llava.dtype
        return dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = self.llava.device
        return device

    @property
    def region_token(self) -> bool:
        """Whether boxes are told as region tokens."""
        return self.adapter is not None and self.adapter.region_token

    @property
    def box_form(self) -> BoxForm:
        """How boxes are told in questions: in words alone where no adapter says otherwise."""
        return BoxForm(region_token=False) if self.adapter is None else self.adapter.box_form

    @property
    def general_questions(self) -> bool:
        """Whether it can answer questions that are not about proximity."""
        return self.adapter is None or self.adapter.general_questions

    @property
    def patches_per_side(self) -> int:
        """Of the grid that the vision tower makes of an image."""
        vision = self.llava.config.vision_config
        return int(vision.image_size) // int(vision.patch_size)

    def parameters(self) -> int:
        """How many weights there are, those of the small networks beside the language model included."""
        parts = (self.llava, self.grounding_head, self.box_embedding, self.order_head)
        return sum(p.numel() for part in parts if part is not None for p in part.parameters())


def choose_device(device: str = "auto") -> torch.device:
    """A device by its name.

    Args:
        device: As torch names it; 'auto' = CUDA where there is one, else the CPU.

    Returns:
        A device that can be used.

    Raises:
        BadModelError: It cannot be used.
    """
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
    """The type of the weights by its name.

    Args:
        dtype: 'float32', 'bfloat16', 'float16', or 'auto' = bfloat16 where the hardware multiplies it (GPUs, CPUs with
            AMX or AVX-512 BF16), else float32.
        device: Where the weights will be.

    Returns:
        The type.

    Raises:
        BadModelError: The name is unknown.
    """
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
    on_progress: Callable[[str], None] | None = None,
    allow_download: bool = True,
) -> LoadedModel:
    """Load a model.

    Args:
        source: 'default' (bundled), a Hugging Face id of a LLaVA ('llava-hf/llava-1.5-7b-hf'), or a folder in the
            Hugging Face layout.
        adapter: A folder (see `proxqa_core.model.adapter`); None = the bundled one for 'default' and none for others;
            'none' = none at all.
        device: See `choose_device`.
        dtype: See `choose_dtype`.
        on_progress: See `proxqa_core.model.base_weights.default_base`.
        allow_download: Whether a model that is not here yet may be fetched from its hub.

    Returns:
        The model, ready to answer.

    Raises:
        ModelNotFoundError: The model, its base weights or the adapter are not there.
        BadModelError: They are damaged, of another kind, or do not fit.
        CacheError: The default model's base weights cannot be converted into the cache.
        OutOfMemoryError: It does not fit into memory.
    """
    with naming_what_does_not_fit(f"model {source!r}"), weights_apart():
        return _load(source, adapter, device, dtype, on_progress, allow_download)


def _load(
    source: str,
    adapter: str | os.PathLike[str] | None,
    device: str,
    dtype: str,
    on_progress: Callable[[str], None] | None,
    allow_download: bool,
) -> LoadedModel:
    """See `load`."""
    source = expanded(source)
    check_there(source)
    where = choose_device(device)
    how = choose_dtype(dtype, where)
    if source == DEFAULT:
        folder, base = str(default_base(on_progress)), base_identity()
    else:
        folder, base = str(source), str(source)
    # a folder is never looked up on a hub
    local = os.path.isdir(folder) or not allow_download
    try:
        llava, tokenizer, processor = _load_llava(folder, source, how, local)
    except ModelNotFoundError as error:
        if os.path.isdir(folder) or allow_download:
            raise
        raise ModelNotFoundError(
            f"model {source!r} is not in the hub's cache of this machine and may not be fetched; fetch it first, or "
            "allow it (the node: allow_model_download:=true at start)"
        ) from error
    config = llava.config
    spatial_merge_size = int(getattr(config.vision_config, "spatial_merge_size", 1))
    if processor is not None:
        with _naming(source):
            preprocessing = Preprocessing.of_processor(processor)
    else:
        preprocessing = Preprocessing(config.vision_config.image_size)
    if preprocessing.size != config.vision_config.image_size:
        raise BadModelError(
            f"model {source!r}: its processor makes {preprocessing.size} px, its encoder wants "
            f"{config.vision_config.image_size} px"
        )
    side = config.vision_config.image_size // config.vision_config.patch_size // spatial_merge_size
    with _naming(source):
        prompter = Prompter(tokenizer, config.image_token_index, side * side)
    model = LoadedModel(
        llava, prompter, preprocessing, spatial_merge_size, str(source), AdapterSpec.of(llava, base, spatial_merge_size)
    )
    return _finish(model, _read_adapter(model, adapter), where, how)


@contextlib.contextmanager
def _naming(source: str) -> Iterator[None]:
    """Put the model's name before what is wrong with a part of it."""
    try:
        yield
    except (BadModelError, ValueError, TypeError) as error:
        raise BadModelError(f"model {source!r}: {error}") from error


def with_adapter(model: LoadedModel, adapter: str | os.PathLike[str] | None = None) -> LoadedModel:
    """The same model with another adapter, in the same device and type.

    What an adapter changes is read from the base again, not undone: the answers are those of a model that was loaded
    with it. The rest (vision tower, word embeddings) both models share.

    Args:
        model: Is not changed.
        adapter: As for `load`.

    Returns:
        The other model.

    Raises:
        ModelNotFoundError: The adapter or the base are not there.
        BadModelError: The adapter is damaged or does not fit, or the base has changed meanwhile.
        OutOfMemoryError: There is no room for both.
    """
    which = f"adapter {str(adapter)!r}" if adapter else "its own adapter"
    with naming_what_does_not_fit(f"model {model.source!r} with {which} beside the old one"), weights_apart():
        return _with_adapter(model, adapter)


def _with_adapter(model: LoadedModel, adapter: str | os.PathLike[str] | None) -> LoadedModel:
    """See `with_adapter`."""
    other = _read_adapter(model, adapter)  # first: what is wrong with it is known at once
    if other is not None:
        adapters.refuse_vision_tower(other.info, other.lora.weights)
    folder = str(default_base()) if model.source == DEFAULT else model.source
    base, old = _read_llava(folder, model.source, model.dtype, local_files_only=True), model.llava
    shared = {"vision tower": (base.model.vision_tower, old.model.vision_tower)}
    shared |= {"word embeddings": (base.get_input_embeddings(), old.get_input_embeddings())}
    shared |= {"output": (base.lm_head, old.lm_head)}
    for part, (ours, theirs) in shared.items():
        if not _same(ours, theirs):
            raise BadModelError(
                f"model {model.source!r}: its {part} is not what it was when it was loaded; load it again"
            )
    base.model.vision_tower, base.lm_head = old.model.vision_tower, old.lm_head
    base.set_input_embeddings(old.get_input_embeddings())
    nothing: dict[str, Any] = dict.fromkeys(("adapter", *adapters.NETWORKS, "taught_names"))
    other_model = replace(model, llava=base, **nothing)
    return _finish(other_model, other, model.device, model.dtype, dict(old.named_parameters()))


def check_adapter(model: LoadedModel, folder: str | os.PathLike[str]) -> AdapterInfo:
    """See `proxqa_core.model.adapter.check`."""
    return adapters.check(Path(expanded(folder)), model.spec)


def _read_adapter(model: LoadedModel, adapter: str | os.PathLike[str] | None) -> Adapter | None:
    folder = adapter_folder(model.source, None if adapter is None else str(adapter))
    return None if folder is None else adapters.read(folder, model.spec)


def _finish(
    model: LoadedModel,
    adapter: Adapter | None,
    device: torch.device,
    dtype: torch.dtype,
    old: Mapping[str, torch.nn.Parameter] | None = None,
) -> LoadedModel:
    """The adapter merged into a model fresh from its base, and all of it where it is to answer.

    One parameter after the other: beside the result there is never more than one layer in float32. What was read may be
    a mapped file that others write to, so that all is copied, except for what equals the parameter of that name in old.
    """
    for name, parameter in model.llava.named_parameters():
        ours, theirs = parameter.data, None if old is None else old.get(name)
        if parameter is theirs:
            continue
        new = None if adapter is None else adapter.changed(name, ours)
        if new is None and theirs is not None and torch.equal(ours.to(theirs), theirs):
            parameter.data = theirs.data
        else:
            parameter.data = (ours if new is None else new).to(device=device, dtype=dtype, copy=True)
    # buffers stay in float32, as transformers keeps them: rounded rotary frequencies turn far positions by radians. The
    # default's answers were measured with rounded ones
    buffers = dtype if model.source == DEFAULT else None
    llava = model.llava.to(device=device, dtype=buffers).eval().requires_grad_(False)
    return_to_system()
    if adapter is None:
        return replace(model, llava=llava)
    networks = {key: getattr(adapter, key) for key in adapters.NETWORKS}
    beside: dict[str, Any] = {key: None if network is None else network.to(device) for key, network in networks.items()}
    return replace(model, llava=llava, adapter=adapter.info, taught_names=adapter.names, **beside)


def _same(new: Any, old: Any) -> bool:
    """Whether two modules have the same weights, in the device and type of the second."""
    ours, theirs = new.state_dict(), old.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k].to(t), t) for k, t in theirs.items())


def _load_llava(folder: str, source: str, dtype: torch.dtype, local_files_only: bool) -> tuple[Any, Any, Any]:
    """(model as `_read_llava` has it, tokenizer, image processor or None for the default's own preprocessing)."""
    from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer, ProcessorMixin

    import proxqa_core.vision.tower as tower  # importing it registers the default's vision tower

    with _refusing(source):
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
    return _read_llava(folder, source, dtype, local_files_only), tokenizer, processor


def _read_llava(folder: str, source: str, dtype: torch.dtype, local_files_only: bool = False) -> Any:
    """The model of a base as it is stored, on the CPU: its tensors may be mapped from the files.

    Tensors of several types become the one that is wanted; else the type is changed after an adapter was merged.
    ModelNotFoundError where it cannot be loaded.
    """
    from transformers import LlavaForConditionalGeneration
    from transformers.utils import logging

    with _refusing(source):
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
def _refusing(source: str) -> Iterator[None]:
    """What transformers raises as ModelNotFoundError, in one line."""
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
