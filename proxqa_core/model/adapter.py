"""Adapters on disk: LoRA weights, projector, grounding head and what must be known to use them, always together.

Promises: an adapter folder is read whole or refused with one line; only safetensors are read, never pickles; an
adapter made for another base is refused, and so is one whose weights do not fit it, before any model is changed.
Writing is atomic. Knows nothing of training or of engines.

A folder holds: `proxqa.json` (AdapterInfo), `projector.safetensors`, `adapter_config.json` and
`adapter_model.safetensors` (the last two as `peft` writes them); `grounding_head.safetensors`,
`box_embedding.safetensors` and `order_head.safetensors` where it has them; and `names.json` where it says what it was
taught (`proxqa_core.model.taught_names`). A plain folder of `peft` has the middle two only, of a LLaVA or of its
language model (`proxqa_core.model.peft_folder`).

Source: LoRA, Hu et al. 2021, arXiv 2106.09685.
"""

from __future__ import annotations

import copy
import json
import logging
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from proxqa_core.errors import BadModelError, ModelNotFoundError, first_line_of
from proxqa_core.files import atomic_folder
from proxqa_core.language.templates import BoxForm
from proxqa_core.model import peft_folder
from proxqa_core.model.checkpoint import FLOATS
from proxqa_core.model.parts import LANGUAGE_MODEL_PREFIX, PROJECTOR_PREFIX, VISION_PREFIX, Layout
from proxqa_core.model.sources import HUB_ID as HUB_ID
from proxqa_core.model.taught_names import TaughtNames, read_names
from proxqa_core.types import clean_text
from proxqa_core.vision.box_embedding import BoxEmbedding
from proxqa_core.vision.grounding_head import GroundingHead
from proxqa_core.vision.order_head import OrderHead

log = logging.getLogger(__name__)
Network = TypeVar("Network", bound=nn.Module)

INFO = "proxqa.json"
PROJECTOR = "projector.safetensors"
LORA_CONFIG = "adapter_config.json"
LORA = "adapter_model.safetensors"
GROUNDING_HEAD = "grounding_head.safetensors"
BOX_EMBEDDING = "box_embedding.safetensors"
ORDER_HEAD = "order_head.safetensors"
NETWORKS = {"grounding_head": GROUNDING_HEAD, "box_embedding": BOX_EMBEDDING, "order_head": ORDER_HEAD}
"""Files of the small networks beside the language model, by the fields that say whether there is one."""
FILES = (INFO, PROJECTOR, LORA_CONFIG, LORA)
UNKNOWN = "unknown"
"""Base of an adapter that does not name it."""
MAX_NAME_LENGTH = 200
"""Of an adapter or a base, in characters."""
MAX_JSON_BYTES = 1_000_000
"""Largest description that is read."""
PLAIN = (
    *("r", "lora_alpha", "target_modules", "use_rslora", "bias", "peft_type", "init_lora_weights"),
    *("lora_dropout", "inference_mode", "task_type", "auto_mapping", "runtime_config", "layers_pattern"),
    *("base_model_name_or_path", "revision", "peft_version", "megatron_core", "qalora_group_size"),
    *("eva_config", "ensure_weight_tying"),
)
"""Settings of LoRA that are understood or change nothing once it is trained. Any other one that is set (DoRA, activated
LoRA, patterns of ranks, …) is refused: what is merged here is W + scale * B A, everywhere alike."""
OF_WHOLE_MODELS = ("modules_to_save", "exclude_modules", "layers_to_transform")
"""What may be set besides in a plain folder of `peft`: there the tensors themselves say what is changed."""
UNPICKLED = ("adapter_model.bin", "non_lora_trainables.bin", "mm_projector.bin")
"""Pickles, which are never opened here: LLaVA's own code and older versions of `peft` write them."""
CONVERT = "proxqa train convert"
"""The command that reads those."""
PLAIN_INITIALISATIONS = (None, True, False, "gaussian", "eva", "orthogonal")
"""Those of `peft` that leave the base's weights alone; PiSSA, OLoRA, CorDA, LoftQ and LoRA-GA change them."""
Shapes = Mapping[str, tuple[int, ...]]
FLAGS = (
    *("region_token", "box_coordinates", "box_embedding", "grounding_head", "order_head", "reasons"),
    "general_questions",
)
"""Fields of `AdapterInfo` that are true or false."""


@dataclass(frozen=True)
class AdapterInfo:
    """What an adapter is; a value that exists is valid.

    Attributes:
        name: What it is called, one line.
        base: Identity of the base it was trained on (`base_identity()`, or a Hugging Face id).
        region_token: Boxes are told as region tokens.
        box_coordinates: Boxes are told by their coordinates in words.
        box_embedding: Region tokens tell where their boxes are (`proxqa_core.vision.box_embedding`).
        grounding_head: It finds what is named (`proxqa_core.vision.grounding_head`), and asks by name as by box.
        order_head: It tells which of two boxes is nearer by what the tower sees (`proxqa_core.vision.order_head`).
        reasons: Stage 2 tells which is closer; else the perceived depths are compared, with `closer_weights`.
        general_questions: It can answer questions that are not about proximity.
        depth_digits: Digits of a depth that are asked for, 1 or 2: where the second one tells nothing, it is taken as
            equally likely, which spares ten tokens for every object.
        depth_temperature: Calibration of depths, in [0.05, 20], 1 = as the model has it.
        choice_temperature: The same of choices.
        visibility: Calibration, whether what is asked by name is in view: weights of the log-odds by the language model
            and by the grounding head, and a constant; None = as the language model has it.
        visibility_in_box: The same of what is asked by name and box.
        closer_weights: Calibration of comparing things asked by name: weights of the difference of the depths, of
            which box ends lower and, where there is an order head, of what that says
            (`proxqa_core.llm.readout.closer_evidence`); None = the depths alone decide.
        closer_weights_in_box: The same of things asked by box.
        closer_doubt: Calibration of comparing things asked by name: how much less sure a choice is the less sure it is
            that they are in view (`proxqa_core.llm.readout.doubted`), in [0, 5]; 0 = not at all.
        training: What it was made from.

    Raises:
        BadModelError: A value is of another kind or out of its range.
    """

    name: str
    base: str
    region_token: bool = True
    box_coordinates: bool = True
    box_embedding: bool = False
    grounding_head: bool = False
    order_head: bool = False
    reasons: bool = True
    general_questions: bool = False
    depth_digits: int = 2
    depth_temperature: float = 1.0
    choice_temperature: float = 1.0
    visibility: tuple[float, float, float] | None = None
    visibility_in_box: tuple[float, float, float] | None = None
    closer_weights: tuple[float, ...] | None = None
    closer_weights_in_box: tuple[float, ...] | None = None
    closer_doubt: float = 0.0
    training: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._check_texts()
        if not isinstance(self.training, dict):
            raise BadModelError(f"adapter {self.name!r}: training is no object")
        for key in ("depth_temperature", "choice_temperature"):
            self._check_number(key, 0.05, 20)
        self._check_number("closer_doubt", 0, 5)
        for key in FLAGS:
            if not isinstance(getattr(self, key), bool):
                raise BadModelError(f"adapter {self.name!r}: {key} is {getattr(self, key)!r}; expected true or false")
        if type(self.depth_digits) is not int or self.depth_digits not in (1, 2):
            raise BadModelError(f"adapter {self.name!r}: depth_digits is {self.depth_digits!r}; expected 1 or 2")
        if not (self.region_token or self.box_coordinates):
            raise BadModelError(
                f"adapter {self.name!r}: neither region_token nor box_coordinates; expected one of them"
            )
        if self.box_embedding and not self.region_token:
            raise BadModelError(f"adapter {self.name!r}: box_embedding without region_token; expected both")
        self._check_visibility()
        self._check_closer_weights()

    @property
    def closer_by(self) -> str:
        """What tells which of two things is closer, for people."""
        if self.reasons:
            return "stage 2"
        if not (self.closer_weights or self.closer_weights_in_box):
            return "perceived depths"
        return f"perceived depths, with a vote of the ground{' and of the order head' if self.order_head else ''}"

    @property
    def box_form(self) -> BoxForm:
        """How boxes are told in questions."""
        return BoxForm(self.region_token, self.box_coordinates)

    def _check_texts(self) -> None:
        for key in ("name", "base"):
            value = getattr(self, key)
            if not isinstance(value, str) or not 1 <= len(value) <= MAX_NAME_LENGTH or clean_text(value) != value:
                raise BadModelError(
                    f"adapter: {key} is {repr(value)[:60]}; expected one line of 1 to {MAX_NAME_LENGTH} characters"
                )

    def _check_number(self, key: str, low: float, high: float) -> None:
        value = getattr(self, key)
        if not isinstance(value, (int, float)) or not low <= value <= high:
            raise BadModelError(f"adapter {self.name!r}: {key} is {value!r}; expected a number in [{low}, {high}]")

    def _check_visibility(self) -> None:
        def right(weights: Any) -> bool:
            return self.grounding_head and _are_weights(weights, 3)

        for key in ("visibility", "visibility_in_box"):
            self._check_weights(key, right, "three numbers in [-20, 20], and a grounding head")

    def _check_closer_weights(self) -> None:
        count, said = (3, "three") if self.order_head else (2, "two")

        def right(weights: Any) -> bool:
            return _are_weights(weights, count) and weights[0] > 0 and min(weights) >= 0

        for key in ("closer_weights", "closer_weights_in_box"):
            self._check_weights(key, right, f"{said} numbers in [0, 20], the first above 0")

    def _check_weights(self, key: str, right: Callable[[Any], bool], expected: str) -> None:
        weights = getattr(self, key)
        if weights is None:
            return
        if not right(weights):
            raise BadModelError(f"adapter {self.name!r}: {key} is {repr(weights)[:60]}; expected {expected}")
        object.__setattr__(self, key, tuple(float(v) for v in weights))  # JSON has lists only


def _are_weights(values: Any, count: int) -> bool:
    if not isinstance(values, list | tuple):
        return False
    numbers = [v for v in values if isinstance(v, (int, float)) and not isinstance(v, bool) and -20 <= v <= 20]
    return len(numbers) == len(values) == count


@dataclass(frozen=True)
class AdapterSpec:
    """What an adapter must fit.

    Attributes:
        base: Identity of the model's base.
        projector: Shapes of the projector's weights.
        linear: Shapes [out, in] of the language model's linear layers.
        others: The same of projector and vision tower, under their names in the whole model.
        patch: Channels of a patch, for the grounding head.
        word: Channels of a word embedding, for the grounding head.
    """

    base: str
    projector: Shapes
    linear: Shapes
    patch: int
    word: int
    others: Shapes = field(default_factory=dict)

    @classmethod
    def of(cls, layout: Layout, base: str, spatial_merge_size: int) -> AdapterSpec:
        """The specification of a model.

        Args:
            layout: Of its parameters.
            base: Identity of its base.
            spatial_merge_size: Patches per side of an image token.
        """
        joined = layout.config.vision_feature_layer
        features = layout.config.vision_config.hidden_size * (1 if isinstance(joined, int) else len(joined))
        linear = layout.linear()
        return cls(
            base,
            _without(PROJECTOR_PREFIX, layout.shapes()),
            _without(LANGUAGE_MODEL_PREFIX, linear),
            features // spatial_merge_size**2,
            layout.word_size(),
            {n: shape for n, shape in linear.items() if n.startswith((PROJECTOR_PREFIX, VISION_PREFIX))},
        )


class Scratch:
    """Memory for one tensor in float32 after the other: fresh memory costs more time than what is computed in it."""

    def __init__(self) -> None:
        self._room = torch.empty(0)

    def copy(self, tensor: torch.Tensor) -> torch.Tensor:
        """A copy on the CPU, in float32, until the next one."""
        if self._room.numel() < tensor.numel():
            self._room = torch.empty(tensor.numel())
        return self._room[: tensor.numel()].view(tensor.shape).copy_(tensor)


@dataclass(frozen=True, eq=False)
class Adapter:
    """An adapter that was read whole and fits.

    Attributes:
        info: Its description.
        projector: The projector's weights; none where that of the base stays.
        lora: LoRA of the language model; a plain folder's also of projector and vision tower.
        grounding_head: None where it has none.
        box_embedding: None where it has none.
        order_head: None where it has none.
        names: What it was taught; None where it does not say.
    """

    info: AdapterInfo
    projector: dict[str, torch.Tensor]
    lora: Lora
    grounding_head: GroundingHead | None
    box_embedding: BoxEmbedding | None
    order_head: OrderHead | None = None
    names: TaughtNames | None = None

    def changed(self, name: str, weight: torch.Tensor, scratch: Scratch | None = None) -> torch.Tensor | None:
        """What a parameter of the model becomes with this adapter.

        Args:
            name: Of the parameter, among those of a `LlavaForConditionalGeneration`.
            weight: Its value in the base.
            scratch: Where the new value may be until the next one: it is to be copied. None = in memory of its own.

        Returns:
            The new value, on the CPU, in float32 or as the projector is stored; None where the adapter leaves it.
        """
        own = self.projector.get(name.removeprefix(PROJECTOR_PREFIX)) if name.startswith(PROJECTOR_PREFIX) else None
        if not name.endswith(".weight"):
            return own
        layer = name.removeprefix(LANGUAGE_MODEL_PREFIX).removesuffix(".weight")
        merged = self.lora.merged(layer, weight if own is None else own, scratch)
        return own if merged is None else merged


@dataclass(frozen=True, eq=False)
class LoraConfig:
    """What `adapter_config.json` holds of plain LoRA.

    Attributes:
        rank: Rows of A, columns of B.
        alpha: What B A is scaled by, before the division by the rank.
        targets: Last parts of the names of the layers that it changes.
        rank_stabilised: B A is divided by √rank, not rank.
    """

    rank: int
    alpha: float
    targets: tuple[str, ...]
    rank_stabilised: bool

    @property
    def scale(self) -> float:
        """What B A is multiplied by."""
        return self.alpha / (math.sqrt(self.rank) if self.rank_stabilised else self.rank)

    def layers(self, linear: Shapes) -> list[str]:
        """Which of a language model's linear layers it changes."""
        ends = tuple("." + t for t in self.targets)
        return [name for name in linear if name in self.targets or name.endswith(ends)]

    def shapes(self, linear: Shapes) -> Shapes:
        """The shapes that its weights must have for a language model's linear layers."""
        expected: dict[str, tuple[int, ...]] = {}
        for name in self.layers(linear):
            wide, narrow = linear[name]
            a, b = peft_folder.lora_keys(name)
            expected |= {a: (self.rank, narrow), b: (wide, self.rank)}
        return expected


@dataclass(frozen=True, eq=False)
class Lora(LoraConfig):
    """LoRA weights of an adapter as they are stored, and the settings that they belong to.

    Attributes:
        weights: Under the names that `peft` stores them by.
    """

    weights: dict[str, torch.Tensor]

    def merged(self, layer: str, weight: torch.Tensor, scratch: Scratch | None = None) -> torch.Tensor | None:
        """W + scale · B A of a layer.

        Args:
            layer: Its name in the language model.
            weight: W, [out, in].
            scratch: See `Adapter.changed`.

        Returns:
            The sum in float32 [out, in]; None where this LoRA does not change the layer.
        """
        a, b = (self.weights.get(key) for key in peft_folder.lora_keys(layer))
        if a is None or b is None:
            return None
        # B [out, rank] A [rank, in] onto W, in one pass: adding W of another type takes ten times as long
        whole = weight.to(torch.float32, copy=True) if scratch is None else scratch.copy(weight)
        return whole.addmm_(b.float(), a.float(), alpha=self.scale)

    def load_into(self, wrapped: Any, name: str) -> None:
        """Replace the LoRA weights of a model that is being trained.

        Args:
            wrapped: A `peft.PeftModel` with the same settings.
            name: What to call the adapter in an error.

        Raises:
            BadModelError: They do not fit.
        """
        from peft import set_peft_model_state_dict

        expected = {k: tuple(v.shape) for k, v in wrapped.state_dict().items() if ".lora_" in k}
        given = {k.replace(".weight", ".default.weight"): tuple(v.shape) for k, v in self.weights.items()}
        if expected != given:
            odd = sorted(set(expected.items()) ^ set(given.items()))[0]
            raise BadModelError(f"adapter {name}: LoRA weights do not fit the base, e.g. {odd[0]} {odd[1]}")
        set_peft_model_state_dict(wrapped, self.weights)


def read_info(folder: Path) -> AdapterInfo:
    """The description of an adapter folder.

    Raises:
        ModelNotFoundError: Files are missing.
        BadModelError: The description cannot be read or does not hold.
    """
    if not folder.is_dir():
        raise ModelNotFoundError(f"adapter folder {str(folder)!r} does not exist")
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing == [PROJECTOR] and _is_of_whole_model(folder):
        missing = []
    elif missing == [INFO, PROJECTOR]:
        return _plain_info(folder)
    if missing:
        odd = [name for name in UNPICKLED if (folder / name).is_file()]
        hint = f"; {odd[0]} is a pickle: `{CONVERT}` makes an adapter of it" if odd else ""
        if not odd and (folder / "config.json").is_file():
            hint = "; it holds a whole model: give it as the model"
        raise ModelNotFoundError(f"adapter folder {str(folder)!r} lacks {', '.join(missing)}{hint}")
    try:
        values = _json(folder / INFO)
        known = {f.name for f in fields(AdapterInfo)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise BadModelError(f"adapter {str(folder)!r}: {INFO} has unknown fields {unknown}; known: {sorted(known)}")
        info = AdapterInfo(**values)
        for key, file in NETWORKS.items():
            if getattr(info, key) and not (folder / file).is_file():
                raise ModelNotFoundError(f"adapter folder {str(folder)!r} lacks {file}")
        return info
    except (ValueError, TypeError, AttributeError, OSError) as error:
        if isinstance(error, (BadModelError, ModelNotFoundError)):
            raise
        raise BadModelError(f"adapter {str(folder)!r}: {INFO} cannot be read: {error}") from error


def _is_of_whole_model(folder: Path) -> bool:
    """Whether the LoRA weights are those of a whole LLaVA, with its projector among them."""
    return peft_folder.holds_projector(_header(folder / LORA))


def _plain_info(folder: Path) -> AdapterInfo:
    """What is known of a plain folder of `peft`. ModelNotFoundError where it is only a part of one."""
    for name in UNPICKLED:
        if (folder / name).is_file():
            raise ModelNotFoundError(
                f"adapter folder {str(folder)!r} has weights in {name}, a pickle: `{CONVERT}` makes an adapter of it"
            )
    try:
        base = _json(folder / LORA_CONFIG).get("base_model_name_or_path")
    except (ValueError, OSError) as error:
        raise BadModelError(f"adapter {str(folder)!r}: {LORA_CONFIG} cannot be used: {error}") from error
    if not (isinstance(base, str) and 1 <= len(base) <= MAX_NAME_LENGTH and clean_text(base) == base):
        base = UNKNOWN
    name = clean_text(folder.resolve().name)[:MAX_NAME_LENGTH]
    return AdapterInfo(name or "peft", base, region_token=False, general_questions=True)


def _check_base(info: AdapterInfo, spec: AdapterSpec, folder: Path) -> None:
    """BadModelError where an adapter is of another base.

    The path that the folder of a whole LLaVA's LoRA names is one of the machine it was trained on and says nothing; a
    hub's id does.
    """
    same = info.base == spec.base or _same_folder(info.base, spec.base)
    whole = not (folder / PROJECTOR).is_file()
    if not same and whole and (os.path.isabs(info.base) or HUB_ID.fullmatch(info.base) or not (folder / INFO).exists()):
        ids = [text for text in (info.base, spec.base) if HUB_ID.fullmatch(text) and not os.path.exists(text)]
        same = len(ids) < 2 or ids[0].lower() == ids[1].lower()
        if same and info.base != UNKNOWN:
            log.warning("adapter %r was trained on %r; it is used with %r", info.name, info.base, spec.base)
    if not same:
        raise BadModelError(f"adapter {info.name!r} was made for base {info.base!r}, not for {spec.base!r}")


def _same_folder(a: str, b: str) -> bool:
    return os.path.isdir(a) and os.path.isdir(b) and os.path.samefile(a, b)


def read_grounding_head(folder: Path) -> GroundingHead:
    """The grounding head of an adapter folder, float32.

    Raises:
        BadModelError: The file does not hold a whole grounding head.
    """
    return _GROUNDING_HEAD.read(folder)


def read_box_embedding(folder: Path) -> BoxEmbedding:
    """The box embedding of an adapter folder, float32.

    Raises:
        BadModelError: The file does not hold a whole box embedding.
    """
    return _BOX_EMBEDDING.read(folder)


def read_order_head(folder: Path) -> OrderHead:
    """The order head of an adapter folder, float32.

    Raises:
        BadModelError: The file does not hold a whole order head.
    """
    return _ORDER_HEAD.read(folder)


def read_lora(folder: Path) -> Lora:
    """The LoRA weights of an adapter folder, for whatever base.

    Raises:
        BadModelError: They cannot be read.
    """
    return Lora(**vars(_read_lora_config(folder)), weights=_tensors(folder / LORA))


def load_projector_into(llava: Any, folder: Path) -> None:
    """Replace a LLaVA model's projector by that of an adapter folder.

    Raises:
        BadModelError: It cannot be read or does not fit.
    """
    module = llava.model.multi_modal_projector
    module.load_state_dict(_tensors(folder / PROJECTOR, lambda _: _shapes(module.state_dict())))


def check(folder: Path, spec: AdapterSpec) -> AdapterInfo:
    """Whether an adapter folder can be loaded, by its descriptions and its files' headers; no weight is read.

    Args:
        folder: The adapter folder.
        spec: What it must fit.

    Returns:
        Its description.

    Raises:
        ModelNotFoundError: As `read`.
        BadModelError: As `read`, and where it changes the vision tower, which swapped adapters share.
    """
    refuse_vision_tower(folder)
    info: AdapterInfo = _read(folder, spec, _header)[0]
    return info


def changes_vision_tower(folder: Path) -> bool:
    """Whether there are weights of the vision tower in an adapter folder, by their names; of a damaged one no."""
    if not (folder / LORA).is_file():  # a pipe is waited for without an end
        return False
    try:
        return any(VISION_PREFIX.split(".")[1] in name for name in _header(folder / LORA))
    except BadModelError:
        return False  # whoever reads it tells what is wrong


def refuse_vision_tower(folder: Path) -> None:
    """BadModelError where the LoRA weights of an adapter folder, by their names, change the vision tower."""
    if changes_vision_tower(folder):
        raise BadModelError(
            f"adapter {read_info(folder).name!r} changes the vision tower, which a model that is loaded shares with "
            "the next one; expected it when the model is loaded"
        )


def read(folder: Path, spec: AdapterSpec) -> Adapter:
    """The whole adapter, checked against what it must fit.

    Args:
        folder: The adapter folder.
        spec: What it must fit.

    Returns:
        The adapter with its weights.

    Raises:
        ModelNotFoundError: Files are missing.
        BadModelError: Files are damaged, of another base, of other shapes, no safetensors, not finite, or of a kind of
            LoRA that is not plain.
    """
    info, config, projector, lora = _read(folder, spec, _tensors)
    grounding_head = read_grounding_head(folder) if info.grounding_head else None
    box_embedding = read_box_embedding(folder) if info.box_embedding else None
    weights = Lora(**vars(config), weights=lora)
    order_head = read_order_head(folder) if info.order_head else None
    return Adapter(info, projector, weights, grounding_head, box_embedding, order_head, read_names(folder))


def _read(folder: Path, spec: AdapterSpec, get: Callable[[Path, Callable[[Shapes], Shapes]], Any]) -> Any:
    """(description, LoRA configuration, projector, LoRA), the last two by `get(path, what shapes to expect)`."""
    info = read_info(folder)
    plain = not (folder / PROJECTOR).is_file()
    _check_base(info, spec, folder)
    config = _read_lora_config(folder, plain)
    if plain:
        projector, lora = _read_plain(folder, spec, config, get)
    else:
        projector = get(folder / PROJECTOR, lambda _: spec.projector)
        if not config.layers(spec.linear):
            raise BadModelError(f"adapter {info.name!r}: the model has no layers {', '.join(config.targets)[:80]!r}")
        lora = get(folder / LORA, lambda _: config.shapes(spec.linear))
    for key, network in _NETWORKS.items():
        if getattr(info, key):
            network.check(folder, spec)
    return info, config, projector, lora


def _read_plain(folder: Path, spec: AdapterSpec, config: LoraConfig, get: Any) -> tuple[Any, Any]:
    """(projector, LoRA) of a plain folder of `peft`, by the names that they have in this model."""

    def expected(given: Shapes) -> Shapes:
        try:
            return peft_folder.expected_shapes(given, config.rank, spec.linear, spec.others, spec.projector)
        except BadModelError as error:
            raise BadModelError(f"adapter {str(folder)!r}: {error}") from error

    lora, projector = peft_folder.placed(get(folder / LORA, expected), spec.linear, spec.others)
    if projector and projector.keys() != spec.projector.keys():
        missing = sorted(spec.projector.keys() - projector.keys())
        raise BadModelError(f"adapter {str(folder)!r}: its projector lacks {missing[0]}")
    return projector, lora


def save(
    folder: Path,
    info: AdapterInfo,
    projector: dict[str, torch.Tensor],
    lora: Any,
    grounding_head: GroundingHead | None = None,
    box_embedding: BoxEmbedding | None = None,
    order_head: OrderHead | None = None,
) -> None:
    """Write an adapter folder atomically, as float16.

    Args:
        folder: Is made or replaced.
        info: Its description.
        projector: The projector's weights.
        lora: A `peft.PeftModel` of the language model.
        grounding_head: None where it has none.
        box_embedding: None where it has none.
        order_head: None where it has none.

    Raises:
        ValueError: `info` and what is given disagree.
        WriteError: There is no room, or no right to write; the message says where and how much it takes.
    """
    from peft import get_peft_model_state_dict

    networks = {"grounding_head": grounding_head, "box_embedding": box_embedding, "order_head": order_head}
    for key, network in networks.items():
        if getattr(info, key) != (network is not None):
            raise ValueError(f"adapter {info.name!r}: {key} is {getattr(info, key)}, but got {type(network).__name__}")
    parts = {NETWORKS[key]: _half(network.state_dict()) for key, network in networks.items() if network is not None}
    parts |= {LORA: _half(get_peft_model_state_dict(lora)), PROJECTOR: _half(projector)}
    needed_bytes = sum(t.numel() * t.element_size() for part in parts.values() for t in part.values())
    with atomic_folder(folder, needed_bytes) as work:
        config = copy.copy(lora.peft_config["default"])
        config.base_model_name_or_path = None  # the folder of the machine that trained it tells nothing
        config.save_pretrained(work)
        for name, tensors in parts.items():
            save_file(tensors, work / name)
        (work / INFO).write_text(json.dumps(asdict(info), indent=1) + "\n")


def _half(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().half().contiguous() for name, tensor in tensors.items()}


def _shapes(tensors: Mapping[str, torch.Tensor]) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _without(prefix: str, shapes: Shapes) -> Shapes:
    """Those whose names begin so, by the rest of their names."""
    return {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}


def _json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. ValueError, OSError."""
    if path.stat().st_size > MAX_JSON_BYTES:
        raise ValueError(f"it has {path.stat().st_size} bytes; at most {MAX_JSON_BYTES}")
    try:
        values = json.loads(path.read_text())
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(values, dict):
        raise ValueError(f"it holds a {type(values).__name__}; expected an object")
    return values


def _read_lora_config(folder: Path, plain: bool = False) -> LoraConfig:
    """BadModelError where it cannot be read or is not of plain LoRA.

    plain: of a plain folder, whose target_modules may be a regular expression, which is not run.
    """
    try:
        values = _json(folder / LORA_CONFIG)
        rank, alpha, targets = (values[key] for key in ("r", "lora_alpha", "target_modules"))
        if odd := _not_plain({k: v for k, v in values.items() if not (plain and k in OF_WHOLE_MODELS)}):
            raise ValueError(f"it is not plain LoRA ({', '.join(odd)[:200]}); expected plain LoRA")
        if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
            raise ValueError(f"r is {rank!r}; expected a whole number >= 1")
        if not isinstance(alpha, (int, float)) or isinstance(alpha, bool) or not (math.isfinite(alpha) and alpha > 0):
            raise ValueError(f"lora_alpha is {alpha!r}; expected a number > 0")
        if plain and isinstance(targets, str):
            targets = [targets]
        if not isinstance(targets, list) or not targets or not all(isinstance(t, str) and t for t in targets):
            raise ValueError(f"target_modules is {str(targets)[:60]!r}; expected a list of names")
    except (ValueError, KeyError, OSError, OverflowError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise BadModelError(f"adapter {str(folder)!r}: {LORA_CONFIG} cannot be used: {reason}") from error
    return LoraConfig(rank, alpha, tuple(targets), bool(values.get("use_rslora")))


def _not_plain(values: dict[str, Any]) -> list[str]:
    """The settings of a LoRA configuration that make it another kind, with their values."""
    odd = [key for key, value in values.items() if key not in PLAIN and value]
    start = values.get("init_lora_weights", True)
    if not any(start is known or (isinstance(start, str) and start == known) for known in PLAIN_INITIALISATIONS):
        odd.append("init_lora_weights")
    odd += [key for key, plain in (("bias", "none"), ("peft_type", "LORA")) if values.get(key, plain) != plain]
    return [f"{key} {values[key]!r}"[:60] for key in odd]


@dataclass(frozen=True)
class _NetworkFile(Generic[Network]):
    """A small network beside the language model, in a file of its own.

    Attributes:
        file: Its name.
        what: What the network is called.
        matrix: The matrix whose two sizes tell the inner sizes.
        from_weights: Makes the network of a whole state dict; any error says that it is another's.
        build: The same of what it must fit and the sizes of the matrix.
    """

    file: str
    what: str
    matrix: str
    from_weights: Callable[[dict[str, torch.Tensor]], Network]
    build: Callable[[AdapterSpec, tuple[int, ...]], Network]

    def check(self, folder: Path, spec: AdapterSpec) -> None:
        """BadModelError where the file's header does not fit."""
        _header(folder / self.file, lambda given: self._shapes(folder / self.file, given, spec))

    def _shapes(self, path: Path, given: Shapes, spec: AdapterSpec) -> Shapes:
        sizes = given.get(self.matrix, ())
        if len(sizes) != 2:
            raise BadModelError(f"{str(path)!r} does not hold a {self.what}: no matrix {self.matrix!r}")
        try:
            with torch.device("meta"):
                return _shapes(self.build(spec, sizes).state_dict())
        except ValueError as error:
            raise BadModelError(f"{str(path)!r} does not hold a {self.what}: {error}") from error

    def read(self, folder: Path) -> Network:
        """The network, float32; BadModelError where the file does not hold a whole one."""
        path = folder / self.file
        weights = _tensors(path)
        try:
            network = self.from_weights({name: tensor.float() for name, tensor in weights.items()})
        except (KeyError, RuntimeError, IndexError, ValueError, TypeError) as error:
            reason = first_line_of(error)
            raise BadModelError(f"{str(path)!r} does not hold a {self.what}: {reason}") from error
        return network.eval().requires_grad_(False)


_GROUNDING_HEAD = _NetworkFile(
    file=GROUNDING_HEAD,
    what="grounding head",
    matrix="patch_out.weight",
    from_weights=GroundingHead.from_weights,
    build=lambda spec, sizes: GroundingHead(spec.patch, spec.word, *sizes),
)
_BOX_EMBEDDING = _NetworkFile(
    file=BOX_EMBEDDING,
    what="box embedding",
    matrix="out.weight",
    from_weights=BoxEmbedding.from_weights,
    build=lambda spec, sizes: BoxEmbedding(spec.word, sizes[1]),
)
_ORDER_HEAD = _NetworkFile(
    file=ORDER_HEAD,
    what="order head",
    matrix="patch.weight",
    from_weights=OrderHead.from_weights,
    build=lambda spec, sizes: OrderHead(spec.patch, sizes[0]),
)
_NETWORKS: dict[str, _NetworkFile[Any]] = {
    "grounding_head": _GROUNDING_HEAD,
    "box_embedding": _BOX_EMBEDDING,
    "order_head": _ORDER_HEAD,
}


def _header(path: Path, expected: Callable[[Shapes], Shapes] | None = None) -> Shapes:
    """The shapes in a safetensors file, from its header. BadModelError where it is no whole file or others are there.

    expected: given the shapes that are there, those that should be.
    """
    try:
        with safe_open(path, "pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            given = {name: tuple(part.get_shape()) for name, part in slices.items()}
            kinds = {name: part.get_dtype() for name, part in slices.items()}
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise BadModelError(f"{str(path)!r} is not a whole safetensors file: {error}") from error
    for name, kind in kinds.items():
        if kind not in FLOATS:
            raise BadModelError(f"{str(path)!r}: weight {name[:80]} is {_dtype(kind)}; expected a floating-point type")
    if expected is not None:
        _compare(path, given, expected(given))
    return given


def _dtype(kind: str) -> str:
    """A type of safetensors as torch names it: I8 → int8."""
    return kind.replace("U", "uint").replace("I", "int") if kind[:1] in "UI" else kind


def _tensors(path: Path, expected: Callable[[Shapes], Shapes] | None = None) -> dict[str, torch.Tensor]:
    """The tensors in a safetensors file, finite; BadModelError as `_header`."""
    shapes = _header(path, expected)  # first: what is not wanted may be large
    try:
        # read, not mapped: a file that shrinks while it is copied over would end the process
        with safe_open(path, "pt", backend="pread") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise BadModelError(f"{str(path)!r} is not a whole safetensors file: {error}") from error
    _compare(path, _shapes(tensors), shapes)
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor.float()).all():
            raise BadModelError(f"{str(path)!r}: weight {name} has values that are not finite")
    return tensors


def _compare(path: Path, given: Shapes, expected: Shapes) -> None:
    odd = sorted(set(given.items()) ^ set(expected.items()))
    if odd:
        name = odd[0][0]
        came = str(list(given[name])) if name in given else "missing"
        wanted = str(list(expected[name])) if name in expected else "unknown"
        raise BadModelError(f"{str(path)!r} does not fit the model: weight {name[:80]!r} is {came}, expected {wanted}")
