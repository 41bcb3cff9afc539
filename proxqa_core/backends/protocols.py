"""What a backend must be able to do to run the two networks of a model.

Promises: the engine asks nothing else of a backend. Tensors that pass between the two are torch tensors in the
backend's own device and type; what a prefix is made of is the backend's own business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from proxqa_core.backends.config import BackendConfig
from proxqa_core.llm.branching import Branch, Tree
from proxqa_core.model.loading import LoadedModel


class Prefix(Protocol):
    """A backend's handle of tokens that have been read; the engine keeps it and hands it back."""

    @property
    def length(self) -> int:
        """How many tokens have been read."""
        ...

    def first(self, length: int) -> Self:
        """The handle of its first tokens alone."""
        ...


PrefixT = TypeVar("PrefixT", bound=Prefix)


class VisionEncoder(Protocol):
    """Turns pixels into features. It does not change with the adapter, so engines share it."""

    @property
    def description(self) -> str:
        """What runs it and in which type, for people: 'torch 2.13.0, float32'."""
        ...

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Run the vision tower.

        Args:
            pixels: float32 [n, 3, size, size], normalised.

        Returns:
            Features [n, tokens, features], before the projector.
        """
        ...


class LanguageModel(Protocol[PrefixT]):
    """The language model with its projector: all that an adapter changes."""

    @property
    def description(self) -> str:
        """What runs it and in which type, for people."""
        ...

    def project(self, features: torch.Tensor) -> torch.Tensor:
        """Vision features [..., features] → embeddings [..., hidden] of the language model."""
        ...

    def embed(self, ids: Sequence[int]) -> torch.Tensor:
        """Token ids → embeddings [tokens, hidden]."""
        ...

    def run_prefixes(self, branches: Sequence[Branch]) -> list[PrefixT]:
        """Read what questions will begin with.

        Args:
            branches: What is read, each with the prefix that it continues, None = none; no tails.

        Returns:
            For every branch, in order, the handle of a prefix that ends with it. Any number of branches may continue
            it; none of them changes it.
        """
        ...

    def run_branches(self, branches: Sequence[Branch]) -> list[torch.Tensor]:
        """Continue prefixes by branches, none of which sees another.

        Args:
            branches: Each with the prefix that it continues; the tails of a branch see the branch and themselves only.

        Returns:
            For every branch, in order, the hidden states after the last norm, [branch.size, hidden].
        """
        ...

    def run_trees(self, trees: Sequence[Tree]) -> list[tuple[PrefixT, list[torch.Tensor]]]:
        """Read prefixes and what continues each of them at once.

        Args:
            trees: Each with the prefix that its trunk continues, None = none.

        Returns:
            For every tree, in order, what `run_prefixes` would give for its trunk, and `run_branches` for its branches.
        """
        ...

    def logits(self, hidden: torch.Tensor, tokens: Sequence[int]) -> NDArray[np.float64]:
        """Hidden states [..., hidden] → logits [..., len(tokens)] of a few tokens of the vocabulary."""
        ...

    def generate(self, embeddings: torch.Tensor, max_new_tokens: int) -> list[int]:
        """Greedy decoding.

        Args:
            embeddings: The whole prompt, [tokens, hidden].
            max_new_tokens: Where to stop if the model does not.

        Returns:
            The ids of the tokens generated.
        """
        ...


Progress = Callable[[str], None]
"""Called with one line before work that takes longer."""


@dataclass(frozen=True, eq=False)
class Networks:
    """What runs a model's two networks.

    Attributes:
        name: Of the backend.
        encoder: Runs the vision tower.
        make_language_model: Makes what runs the language model, also of the same model with another adapter.
    """

    name: str
    encoder: VisionEncoder
    make_language_model: Callable[[LoadedModel], LanguageModel[Any]]


Maker = Callable[[LoadedModel, BackendConfig, Progress], Networks]
"""Makes a backend for a model; raises BackendError, one line, where it cannot run it here."""
