"""A backend's networks with PyTorch behind them: where one fails while it answers, PyTorch does from then on.

Promises: a network that fails loses no answer, the one in hand included; what it had read of a prompt is taken over. It
is not tried again, since what fails once in a runtime fails again, and that is logged once and part of `description`.
What PyTorch itself raises is passed on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from proxqa_core.backends.protocols import LanguageModel, VisionEncoder
from proxqa_core.backends.torch_prefix import TorchPrefix
from proxqa_core.errors import ProxqaError, reason_of
from proxqa_core.llm.branching import Branch, Tree

log = logging.getLogger(__name__)

FAILURES = (ProxqaError, RuntimeError, OSError, ValueError)
"""What runtimes raise where they cannot compute."""
MAX_REASON = 120
"""Most characters of a reason in a description."""
NetworkT = TypeVar("NetworkT", VisionEncoder, LanguageModel[Any])
ResultT = TypeVar("ResultT")


@dataclass
class Current(Generic[NetworkT]):
    """The network that runs, and PyTorch's where that has failed.

    Attributes:
        what: It, for people: "vision encoder".
        backend: The name of the backend it is of.
        network: The one that runs.
        torch: Makes PyTorch's.
        failure: Why the backend's does not run any more; '' = it does.
    """

    what: str
    backend: str
    network: NetworkT
    torch: Callable[[], NetworkT]
    failure: str = field(default="", init=False)

    @property
    def description(self) -> str:
        """What runs the network, for people, and why no other."""
        return self.network.description + (f" ({self.backend} failed: {self.failure})" if self.failure else "")

    def run(self, use: Callable[[NetworkT], ResultT]) -> ResultT:
        """What a use of the network gives; where the network fails, the same use of PyTorch's."""
        if not self.failure:
            try:
                return use(self.network)
            except FAILURES as error:
                self._fail(error)
        return use(self.network)

    def _fail(self, error: Exception) -> None:
        """Have PyTorch run the network from now on; the backend's memory is freed."""
        self.failure = reason_of(error)[:MAX_REASON]
        self.network = self.torch()
        log.warning("PyTorch runs the %s from now on: %s failed: %s", self.what, self.backend, self.failure)


class FallbackVisionEncoder:
    """See the module.

    Args:
        current: The encoder that runs first.
    """

    def __init__(self, current: Current[VisionEncoder]):
        self._current = current

    @property
    def description(self) -> str:
        """See `VisionEncoder.description`."""
        return self._current.description

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """See `VisionEncoder.encode`."""
        return self._current.run(lambda network: network.encode(pixels))


class FallbackLanguageModel:
    """See the module.

    Args:
        current: The language model that runs first.
        dtype: Of PyTorch's weights.
    """

    def __init__(self, current: Current[LanguageModel[Any]], dtype: torch.dtype):
        self._current, self._dtype = current, dtype

    @property
    def description(self) -> str:
        """See `LanguageModel.description`."""
        return self._current.description

    def project(self, features: torch.Tensor) -> torch.Tensor:
        """See `LanguageModel.project`."""
        return self._current.network.project(features)

    def embed(self, ids: Sequence[int]) -> torch.Tensor:
        """See `LanguageModel.embed`."""
        return self._current.network.embed(ids)

    def run_prefixes(self, branches: Sequence[Branch]) -> list[Any]:
        """See `LanguageModel.run_prefixes`."""
        return self._current.run(lambda network: network.run_prefixes(self._taken_over(branches)))

    def run_branches(self, branches: Sequence[Branch]) -> list[torch.Tensor]:
        """See `LanguageModel.run_branches`."""
        return self._current.run(lambda network: network.run_branches(self._taken_over(branches)))

    def run_trees(self, trees: Sequence[Tree]) -> list[tuple[Any, list[torch.Tensor]]]:
        """See `LanguageModel.run_trees`."""

        def run(network: LanguageModel[Any]) -> list[tuple[Any, list[torch.Tensor]]]:
            trunks = self._taken_over([tree.trunk for tree in trees])
            return network.run_trees([replace(t, trunk=trunk) for t, trunk in zip(trees, trunks, strict=True)])

        return self._current.run(run)

    def logits(self, hidden: torch.Tensor, tokens: Sequence[int]) -> NDArray[np.float64]:
        """See `LanguageModel.logits`."""
        return self._current.network.logits(hidden, tokens)

    def generate(self, embeddings: torch.Tensor, max_new_tokens: int) -> list[int]:
        """See `LanguageModel.generate`."""
        return self._current.network.generate(embeddings, max_new_tokens)

    def _taken_over(self, branches: Sequence[Branch]) -> Sequence[Branch]:
        """Branches for the network that runs: once it is PyTorch's, prefixes that the backend has read are too."""
        if not self._current.failure:
            return branches
        ours: dict[int, Any] = {id(None): None}
        for after in (b.after for b in branches):
            if id(after) not in ours:
                ours[id(after)] = after if isinstance(after, TorchPrefix) else after.as_torch(self._dtype)
        return [replace(b, after=ours[id(b.after)]) for b in branches]
