"""What a model is made of: its configuration, its weights with the adapter merged, and PyTorch's module of them.

Promises: the weights are those that the module has, whichever is asked for first. The bundled default's module is made
where somebody asks for it and not before: importing the code that makes it takes longer than all the rest of a start.
Knows nothing of adapters' files, of words or of images.
"""

from __future__ import annotations

import json
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import torch
from safetensors import safe_open
from torch import nn

from proxqa_core.memory import naming_what_does_not_fit, return_to_system, weights_apart

LANGUAGE_MODEL_PREFIX = "model.language_model."
PROJECTOR_PREFIX = "model.multi_modal_projector."
VISION_PREFIX = "model.vision_tower."
"""How the names of these parameters begin in a LLaVA."""
EMBEDDINGS = LANGUAGE_MODEL_PREFIX + "embed_tokens.weight"
"""The name of the table of words in the bundled default, where it is the output layer's matrix too."""
STORED_PREFIXES = {
    "language_model.model.": LANGUAGE_MODEL_PREFIX,
    "multi_modal_projector.": PROJECTOR_PREFIX,
    "vision_tower.": VISION_PREFIX,
}
"""How these names begin in a file that transformers wrote."""
PROJECTOR = tuple(f"{PROJECTOR_PREFIX}linear_{n}.{part}" for n in (1, 2) for part in ("weight", "bias"))
"""The parameters of a projector that is not made as a module."""
Weights = Mapping[str, torch.Tensor]
Shapes = Mapping[str, tuple[int, ...]]
Change = Callable[[str, torch.Tensor], "torch.Tensor | None"]
"""What a parameter, by name and value, becomes with an adapter; None where it stays."""


class Layout(Protocol):
    """What parameters a `LlavaForConditionalGeneration` has, whatever their values."""

    config: Any
    """The model's configuration: `vision_config`, `text_config` and the rest by the names of transformers."""

    def shapes(self) -> Shapes:
        """Shapes of all parameters, by name; of a tensor with two names one."""
        ...

    def linear(self) -> Shapes:
        """Shapes [out, in] of all linear layers, by name."""
        ...

    def word_size(self) -> int:
        """Channels of a word embedding."""
        ...


class Parts(Layout, Protocol):
    """A `LlavaForConditionalGeneration`, adapter merged, as a module or as what one can be made of."""

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        ...

    @property
    def identity(self) -> str | None:
        """What the language model's weights follow from, if that is known without reading them all."""
        ...

    @property
    def tower_identity(self) -> str | None:
        """The same of the vision tower's."""
        ...

    def weight(self, name: str) -> torch.Tensor | None:
        """A parameter of the language model by its name; None where there is none."""
        ...

    def embeddings(self) -> torch.Tensor:
        """Those of all words, [words, hidden]."""
        ...

    def output(self) -> torch.Tensor:
        """The output layer's matrix, [words, hidden]."""
        ...

    def project(self, features: torch.Tensor) -> torch.Tensor:
        """Vision features [..., features] → embeddings [..., hidden] of the language model."""
        ...

    def llava(self, keep: bool = True) -> Any:
        """The module in eval mode.

        Args:
            keep: Whether it stays once it was made; else only for as long as somebody holds it.
        """
        ...

    def tower(self) -> Weights:
        """The vision tower's parameters by their names; none where there is no module yet."""
        ...

    def tower_source(self) -> Callable[[], Any]:
        """What gives a module with this vision tower later on, without holding the language model's weights."""
        ...


class Whole:
    """A model that is there as a module.

    Args:
        llava: It.
    """

    identity: str | None = None
    tower_identity: str | None = None

    def __init__(self, llava: Any):
        self._llava, self.config = llava, llava.config

    @property
    def dtype(self) -> torch.dtype:
        """See `Parts.dtype`."""
        dtype: torch.dtype = self._llava.dtype
        return dtype

    @property
    def device(self) -> torch.device:
        """See `Parts.device`."""
        device: torch.device = self._llava.device
        return device

    def shapes(self) -> Shapes:
        """See `Layout.shapes`."""
        return {name: tuple(p.shape) for name, p in self._llava.named_parameters()}

    def linear(self) -> Shapes:
        """See `Layout.linear`."""
        return {n: tuple(m.weight.shape) for n, m in self._llava.named_modules() if isinstance(m, nn.Linear)}

    def word_size(self) -> int:
        """See `Layout.word_size`."""
        return self.embeddings().shape[1]

    def embeddings(self) -> torch.Tensor:
        """See `Parts.embeddings`."""
        table: torch.Tensor = self._llava.get_input_embeddings().weight
        return table

    def output(self) -> torch.Tensor:
        """See `Parts.output`."""
        matrix: torch.Tensor = self._llava.lm_head.weight
        return matrix

    def weight(self, name: str) -> torch.Tensor | None:
        """See `Parts.weight`."""
        try:
            found: torch.Tensor = self._llava.get_parameter(name)
        except AttributeError:
            return None
        return found

    def project(self, features: torch.Tensor) -> torch.Tensor:
        """See `Parts.project`."""
        embeddings: torch.Tensor = self._llava.model.multi_modal_projector(features.to(self.dtype))
        return embeddings

    def llava(self, keep: bool = True) -> Any:
        """See `Parts.llava`."""
        return self._llava

    def tower(self) -> Weights:
        """See `Parts.tower`."""
        tower = self._llava.model.vision_tower.named_parameters()
        return {VISION_PREFIX + name: parameter.data for name, parameter in tower}

    def tower_source(self) -> Callable[[], Any]:
        """See `Parts.tower_source`."""
        model, config = SimpleNamespace(vision_tower=self._llava.model.vision_tower), self.config
        return lambda: SimpleNamespace(model=model, config=config, dtype=model.vision_tower.dtype)


class StoredBase:
    """A base as `proxqa_core.model.base_weights` writes it.

    Args:
        folder: Holds `config.json` and weights in `*.safetensors`.

    Attributes:
        config: See `Layout.config`.

    Raises:
        KeyError: It is not stored as expected, as another version of transformers may.
    """

    def __init__(self, folder: Path):
        self.config = json.loads((folder / "config.json").read_text(encoding="utf-8"), object_hook=_namespace)
        self._paths = sorted(folder.glob("*.safetensors"))
        self._shapes: dict[str, tuple[int, ...]] = {}
        for path in self._paths:
            with safe_open(path, "pt") as file:
                self._shapes |= {_name(key): tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
        if not {EMBEDDINGS, *PROJECTOR} <= self._shapes.keys() or self.config.projector_hidden_act != "gelu":
            raise KeyError("projector")
        if not self.config.tie_word_embeddings:
            raise KeyError("lm_head")

    def shapes(self) -> Shapes:
        """See `Layout.shapes`."""
        return self._shapes

    def linear(self) -> Shapes:
        """See `Layout.linear`: all that is a matrix, but the table of words, and but for the vision tower's.

        Those have other names in a module, by the installed version of transformers.
        """
        return {
            name.removesuffix(".weight"): shape
            for name, shape in self._shapes.items()
            if len(shape) == 2
            and name.endswith(".weight")
            and name != EMBEDDINGS
            and not name.startswith(VISION_PREFIX)
        }

    def word_size(self) -> int:
        """See `Layout.word_size`."""
        return self._shapes[EMBEDDINGS][1]

    def without_tower(self) -> Iterator[tuple[str, torch.Tensor]]:
        """The names of all parameters but the vision tower's, each with its value, mapped from the file."""
        for path in self._paths:
            with safe_open(path, "pt") as file:
                for key in file.keys():  # noqa: SIM118 - it cannot be iterated
                    if not (name := _name(key)).startswith(VISION_PREFIX):
                        yield name, file.get_tensor(key)


def _namespace(values: dict[str, Any]) -> Any:
    return SimpleNamespace(**values)


def _name(stored: str) -> str:
    """The name of a parameter by that of its stored tensor; KeyError where it cannot be told."""
    for start, ours in STORED_PREFIXES.items():
        if stored.startswith(start):
            return ours + stored.removeprefix(start)
    raise KeyError(stored)


class Stored:
    """A base with an adapter, merged when a weight is asked for, and made a module when that is.

    Projector and language model are in memory from then on, the vision tower in the file only.

    Args:
        base: It.
        change: What the adapter does to each parameter.
        device: Where the weights are to be.
        dtype: Their type.
        make: Makes a module of these weights and the base's vision tower; it keeps what it is given.
        identity: See `Parts.identity`.
        tower_identity: See `Parts.tower_identity`.
        old: Whose weights are shared where both have the same.
    """

    def __init__(
        self,
        base: StoredBase,
        change: Change,
        device: torch.device,
        dtype: torch.dtype,
        make: Callable[[Weights], Any],
        identity: str,
        tower_identity: str | None,
        old: Parts | None = None,
    ):
        self.config, self._base, self._make = base.config, base, make
        self.identity, self.tower_identity = identity, tower_identity
        self._device, self._dtype = device, dtype
        self._merge: Callable[[], Weights] = lambda: {
            name: _changed(name, ours, change, device, dtype, old) for name, ours in base.without_tower()
        }
        self._merged: Weights | None = None
        self._lock = threading.RLock()
        self._kept: Whole | None = None
        self._lent: Callable[[], Any] = lambda: None

    @property
    def dtype(self) -> torch.dtype:
        """See `Parts.dtype`."""
        return self._dtype if self._kept is None else self._kept.dtype

    @property
    def device(self) -> torch.device:
        """See `Parts.device`."""
        return self._device if self._kept is None else self._kept.device

    def shapes(self) -> Shapes:
        """See `Layout.shapes`."""
        return self._base.shapes()

    def linear(self) -> Shapes:
        """See `Layout.linear`."""
        return self._base.linear()

    def word_size(self) -> int:
        """See `Layout.word_size`."""
        return self._base.word_size()

    def _weights(self) -> Weights:
        """Projector and language model, merged."""
        with self._lock:
            if self._merged is None:
                with naming_what_does_not_fit("the model"), weights_apart():
                    self._merged = self._merge()
                self._merge = dict  # what it holds, adapter and old weights, is not needed any more
                return_to_system()
            return self._merged

    def weight(self, name: str) -> torch.Tensor | None:
        """See `Parts.weight`."""
        with self._lock:  # else another thread may make the module meanwhile
            if self._kept is not None:
                return self._kept.weight(name)  # whoever has the module may have changed it
            return self._weights().get(name)

    def embeddings(self) -> torch.Tensor:
        """See `Parts.embeddings`."""
        with self._lock:
            return self._weights()[EMBEDDINGS] if self._kept is None else self._kept.embeddings()

    def output(self) -> torch.Tensor:
        """See `Parts.output`."""
        with self._lock:
            return self._weights()[EMBEDDINGS] if self._kept is None else self._kept.output()

    def project(self, features: torch.Tensor) -> torch.Tensor:
        """See `Parts.project`."""
        with self._lock:
            if self._kept is not None:
                return self._kept.project(features)
            first, first_bias, second, second_bias = (self._weights()[name] for name in PROJECTOR)
        inner = nn.functional.gelu(nn.functional.linear(features.to(self._dtype), first, first_bias))
        return nn.functional.linear(inner, second, second_bias)

    def llava(self, keep: bool = True) -> Any:
        """See `Parts.llava`."""
        with self._lock:
            if self._kept is not None:
                return self._kept.llava()
            llava = self._lent()
            if llava is None:
                llava = self._make(self._weights())
                self._lent = weakref.ref(llava)
            if keep:
                self._kept, self._merged = Whole(llava), {}
            return llava

    def tower(self) -> Weights:
        """See `Parts.tower`."""
        return {} if self._kept is None else self._kept.tower()

    def tower_source(self) -> Callable[[], Any]:
        """See `Parts.tower_source`."""
        make = self._make
        return (lambda: make({})) if self._kept is None else self._kept.tower_source()


def _changed(
    name: str, ours: torch.Tensor, change: Change, device: torch.device, dtype: torch.dtype, old: Parts | None
) -> torch.Tensor:
    """A parameter of the base in the model: in memory of its own, or the old model's where that has the same."""
    new = change(name, ours)
    theirs = old.weight(name) if old is not None and new is None else None
    if theirs is not None and torch.equal(ours.to(theirs), theirs):
        return theirs.data
    # what was read is a mapped file that others may write to
    return (ours if new is None else new).to(device=device, dtype=dtype, copy=True)
