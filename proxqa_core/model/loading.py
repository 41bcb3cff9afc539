"""Load a model: the bundled default, a Hugging Face LLaVA, or a local folder, with an optional adapter.

Promises: one model family, `LlavaForConditionalGeneration`, whatever the source; what cannot be loaded is refused with
one line that says why and what would help; another adapter is another model, and the first one stays as it was. Knows
nothing of questions or of images.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from proxqa_core.errors import BadModelError, ModelNotFoundError, first_line_of
from proxqa_core.language.templates import BoxForm
from proxqa_core.llm.prompts import Prompter
from proxqa_core.memory import naming_what_does_not_fit, return_to_system, weights_apart
from proxqa_core.model import adapter as adapters
from proxqa_core.model.adapter import Adapter, AdapterInfo, AdapterSpec, Scratch
from proxqa_core.model.base_weights import base_identity, default_base
from proxqa_core.model.hugging_face import load_llava, read_llava
from proxqa_core.model.parts import Layout, Parts, Stored, StoredBase, Whole
from proxqa_core.model.sources import DEFAULT as DEFAULT
from proxqa_core.model.sources import DEFAULT_ADAPTER as DEFAULT_ADAPTER
from proxqa_core.model.sources import NO_ADAPTER as NO_ADAPTER
from proxqa_core.model.sources import adapter_folder, check_there, expanded
from proxqa_core.model.stored_default import merge, open_base, read_tokenizer
from proxqa_core.model.taught_names import TaughtNames
from proxqa_core.vision.box_embedding import BoxEmbedding
from proxqa_core.vision.grounding_head import GroundingHead
from proxqa_core.vision.order_head import OrderHead
from proxqa_core.vision.preprocessing import Preprocessing

_CHANGED = "model {!r}: its {} is not what it was when it was loaded; load it again"


@dataclass
class LoadedModel:
    """A model ready to answer.

    Attributes:
        parts: What it is made of, adapter merged.
        make_prompter: Gives its `prompter`, the same one every time.
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

    parts: Parts
    make_prompter: Callable[[], Prompter]
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
    def llava(self) -> Any:
        """PyTorch's `LlavaForConditionalGeneration` in eval mode, which the default model makes on first use."""
        return self.parts.llava()

    @property
    def prompter(self) -> Prompter:
        """Makes prompts for its tokenizer, which the default model reads on first use."""
        return self.make_prompter()

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.parts.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.parts.device

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
        vision = self.parts.config.vision_config
        return int(vision.image_size) // int(vision.patch_size)

    def parameters(self) -> int:
        """How many weights there are, those of the small networks beside the language model included."""
        networks = (self.grounding_head, self.box_embedding, self.order_head)
        beside = sum(p.numel() for network in networks if network is not None for p in network.parameters())
        return beside + sum(math.prod(shape) for shape in self.parts.shapes().values())


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
        reason = first_line_of(error)
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
        adapter: A folder (see `proxqa_core.model.adapter`); None or '' = the bundled one for 'default' and none for
            others; 'none' = none at all.
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
    folder = source
    if source == DEFAULT:
        folder = str(default_base(on_progress))
        if (stored := _stored_base(folder, source, adapter)) is not None:
            model = _described(source, stored, lambda: read_tokenizer(Path(folder)), None)
            read = _read_adapter(source, model.spec, adapter)
            return _with_networks(replace(model, parts=merge(stored, read, where, how)), read, where)
    # a folder is never looked up on a hub
    local = os.path.isdir(folder) or not allow_download
    try:
        llava, tokenizer, processor = load_llava(folder, source, how, local)
    except ModelNotFoundError as error:
        if os.path.isdir(folder) or allow_download:
            raise
        raise ModelNotFoundError(
            f"model {source!r} is not in the hub's cache of this machine and may not be fetched; fetch it first, or "
            "allow it (the node: allow_model_download:=true at start)"
        ) from error
    model = _described(source, Whole(llava), lambda: tokenizer, processor)
    model.make_prompter()  # what is wrong with it is known at once
    return _finish(model, llava, _read_adapter(source, model.spec, adapter), where, how)


def _stored_base(folder: str, source: str, adapter: str | os.PathLike[str] | None) -> StoredBase | None:
    """The default's base, to be merged with an adapter; None where that takes the module."""
    place = adapter_folder(source, None if adapter is None else str(adapter))
    if place is not None and adapters.changes_vision_tower(place):
        return None
    return open_base(Path(folder))


def _described(source: str, layout: Layout, tokenizer: Callable[[], Any], processor: Any) -> LoadedModel:
    """A model of which all is known but its weights. BadModelError where its parts do not go together."""
    config = layout.config
    vision = config.vision_config
    spatial_merge_size = int(getattr(vision, "spatial_merge_size", 1))
    if processor is not None:
        with _naming(source):
            preprocessing = Preprocessing.of_processor(processor)
    else:
        preprocessing = Preprocessing(vision.image_size)
    if preprocessing.size != vision.image_size:
        raise BadModelError(
            f"model {source!r}: its processor makes {preprocessing.size} px, its encoder wants {vision.image_size} px"
        )
    side = vision.image_size // vision.patch_size // spatial_merge_size
    base = base_identity() if source == DEFAULT else source

    @functools.cache
    def prompter() -> Prompter:
        with _naming(source):
            return Prompter(tokenizer(), config.image_token_index, side * side)

    spec = AdapterSpec.of(layout, base, spatial_merge_size)
    unknown: Any = None
    return LoadedModel(unknown, prompter, preprocessing, spatial_merge_size, source, spec)


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
    place = adapter_folder(model.source, None if adapter is None else str(adapter))
    if place is not None:
        adapters.refuse_vision_tower(place)
    other = _read_adapter(model.source, model.spec, adapter)  # first: what is wrong with it is known at once
    nothing: dict[str, Any] = dict.fromkeys(("adapter", *adapters.NETWORKS, "taught_names"))
    plain = replace(model, **nothing)
    folder = str(default_base()) if model.source == DEFAULT else model.source
    stored = open_base(Path(folder)) if isinstance(model.parts, Stored) else None
    if stored is not None:
        parts = merge(stored, other, model.device, model.dtype, model.parts)
        return _with_networks(replace(plain, parts=parts), other, model.device)
    base, old = read_llava(folder, model.source, model.dtype, local_files_only=True), model.llava
    shared = {"vision tower": (base.model.vision_tower, old.model.vision_tower)}
    shared |= {"word embeddings": (base.get_input_embeddings(), old.get_input_embeddings())}
    shared |= {"output": (base.lm_head, old.lm_head)}
    for part, (ours, theirs) in shared.items():
        if not _same(ours, theirs):
            raise BadModelError(_CHANGED.format(model.source, part))
    base.model.vision_tower, base.lm_head = old.model.vision_tower, old.lm_head
    base.set_input_embeddings(old.get_input_embeddings())
    return _finish(plain, base, other, model.device, model.dtype, dict(old.named_parameters()))


def check_adapter(model: LoadedModel, folder: str | os.PathLike[str]) -> AdapterInfo:
    """See `proxqa_core.model.adapter.check`."""
    return adapters.check(Path(expanded(folder)), model.spec)


def _read_adapter(source: str, spec: AdapterSpec, adapter: str | os.PathLike[str] | None) -> Adapter | None:
    folder = adapter_folder(source, None if adapter is None else str(adapter))
    return None if folder is None else adapters.read(folder, spec)


def _finish(
    model: LoadedModel,
    llava: Any,
    adapter: Adapter | None,
    device: torch.device,
    dtype: torch.dtype,
    old: Mapping[str, torch.nn.Parameter] | None = None,
) -> LoadedModel:
    """The adapter merged into a model fresh from its base, and all of it where it is to answer.

    One parameter after the other: beside the result there is never more than one layer in float32. What was read may be
    a mapped file that others write to, so that all is copied, except for what equals the parameter of that name in old.
    """
    scratch = Scratch()
    for name, parameter in llava.named_parameters():
        ours, theirs = parameter.data, None if old is None else old.get(name)
        if parameter is theirs:
            continue
        new = None if adapter is None else adapter.changed(name, ours, scratch)
        if new is None and theirs is not None and torch.equal(ours.to(theirs), theirs):
            parameter.data = theirs.data
        else:
            parameter.data = (ours if new is None else new).to(device=device, dtype=dtype, copy=True)
    # buffers stay in float32, as transformers keeps them: rounded rotary frequencies turn far positions by radians. The
    # default's answers were measured with rounded ones
    buffers = dtype if model.source == DEFAULT else None
    llava = llava.to(device=device, dtype=buffers).eval().requires_grad_(False)
    return_to_system()
    return _with_networks(replace(model, parts=Whole(llava)), adapter, device)


def _with_networks(model: LoadedModel, adapter: Adapter | None, device: torch.device) -> LoadedModel:
    """The same model with what else an adapter holds."""
    if adapter is None:
        return model
    networks = {key: getattr(adapter, key) for key in adapters.NETWORKS}
    beside: dict[str, Any] = {key: None if network is None else network.to(device) for key, network in networks.items()}
    return replace(model, adapter=adapter.info, taught_names=adapter.names, **beside)


def _same(new: Any, old: Any) -> bool:
    """Whether two modules have the same weights, in the device and type of the second."""
    ours, theirs = new.state_dict(), old.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k].to(t), t) for k, t in theirs.items())
