"""The two networks of a loaded LLaVA, run by PyTorch in their own device and type.

Promises: what `backends.protocols` asks for. Knows nothing of words or of images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from proxqa_core.backends.ends import Ends
from proxqa_core.backends.torch_prefix import TorchPrefix
from proxqa_core.llm.branching import Branch, Row, Tree, in_passes, lay_out
from proxqa_core.model.parts import Whole

if TYPE_CHECKING:
    from proxqa_core.backends.branch_cache import BranchCache


def describe(dtype: torch.dtype) -> str:
    """What runs a network, for people."""
    return f"torch {torch.__version__}, {str(dtype).removeprefix('torch.')}"


class VisionFeatures(torch.nn.Module):
    """What is taken of a vision tower, as a module that can be traced and exported.

    Args:
        llava: The loaded `LlavaForConditionalGeneration`; only its vision tower is kept.

    Attributes:
        config: The model's vision configuration.
    """

    def __init__(self, llava: Any):
        super().__init__()
        self.tower, self.config = llava.model.vision_tower, llava.config.vision_config
        self._layer = llava.config.vision_feature_layer
        self._without_class_token = llava.config.vision_feature_select_strategy == "default"

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        dtype: torch.dtype = self.tower.dtype
        return dtype

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels [n, 3, size, size] in the tower's type → features [n, tokens, features] before the projector."""
        states = self.tower(pixels, output_hidden_states=True).hidden_states
        chosen = [states[i] for i in ([self._layer] if isinstance(self._layer, int) else self._layer)]
        if self._without_class_token:
            chosen = [state[:, 1:] for state in chosen]
        return torch.cat(chosen, dim=-1)


class TorchVisionEncoder:
    """The vision tower inside a `LlavaForConditionalGeneration`.

    Args:
        llava: The loaded model; only its vision tower is kept.
    """

    def __init__(self, llava: Any):
        self._features = VisionFeatures(llava).eval()
        self.description = describe(llava.dtype)

    @torch.inference_mode()
    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """See `VisionEncoder.encode`."""
        tower = self._features.tower
        features: torch.Tensor = self._features(pixels.to(device=tower.device, dtype=tower.dtype))
        return features


class TorchLanguageModel(Ends):
    """Projector, language model and output layer of a `LlavaForConditionalGeneration`.

    Args:
        llava: The loaded model, adapter merged.
    """

    def __init__(self, llava: Any):
        super().__init__(Whole(llava))
        self._layers = llava.model.language_model
        self.description = describe(llava.dtype)

    @torch.inference_mode()
    def run_prefixes(self, branches: Sequence[Branch]) -> list[TorchPrefix]:
        """See `LanguageModel.run_prefixes`."""

        def run(some: list[Branch]) -> list[TorchPrefix]:
            _, cache = self._run_pass(some, keep=True)
            return [_extended(branch, cache, row) for row, branch in enumerate(some)]

        return in_passes(branches, run)

    @torch.inference_mode()
    def run_branches(self, branches: Sequence[Branch]) -> list[torch.Tensor]:
        """See `LanguageModel.run_branches`."""

        def run(some: list[Branch]) -> list[torch.Tensor]:
            hidden, _ = self._run_pass(some, keep=False)
            return [hidden[row, : branch.size] for row, branch in enumerate(some)]

        return in_passes(branches, run)

    @torch.inference_mode()
    def run_trees(self, trees: Sequence[Tree]) -> list[tuple[TorchPrefix, list[torch.Tensor]]]:
        """See `LanguageModel.run_trees`."""

        def run(some: list[Tree]) -> list[tuple[TorchPrefix, list[torch.Tensor]]]:
            hidden, cache = self._run_pass(some, keep=True)
            return [(_extended(tree.trunk, cache, row), tree.split(hidden[row])) for row, tree in enumerate(some)]

        return in_passes(trees, run)

    def _run_pass(self, asked: Sequence[Row], keep: bool) -> tuple[torch.Tensor, BranchCache]:
        """Branches or trees side by side → hidden states [rows, longest, hidden], and the keys and values kept."""
        from proxqa_core.backends.branch_cache import BranchCache

        # 1. Rows [rows, longest, hidden], padded.
        rows = torch.nn.utils.rnn.pad_sequence([r.rows() for r in asked], batch_first=True)
        # 2. Where each token stands, and an additive mask [rows, 1, longest, prefix + longest].
        layout = lay_out(asked, [_length(r) for r in asked])
        blocked = torch.from_numpy(~layout.allowed).to(rows.device)[:, None]
        mask = torch.zeros(blocked.shape, dtype=rows.dtype, device=rows.device)
        mask.masked_fill_(blocked, torch.finfo(rows.dtype).min)
        # 3. One pass: linear layers over all tokens at once, attention row by row.
        cache = BranchCache([r.after for r in asked], keep)
        hidden = self._layers(
            inputs_embeds=rows,
            attention_mask=mask,
            position_ids=torch.from_numpy(layout.position).to(rows.device),
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        return hidden, cache


def _length(row: Row) -> int:
    """Tokens of the prefix that a branch or tree continues."""
    return 0 if row.after is None else int(row.after.length)


def _extended(branch: Branch, cache: BranchCache, row: int) -> TorchPrefix:
    """The prefix that ends with a branch, with which this row of a pass began; in memory of its own."""
    layers = []
    for layer, (keys, values) in enumerate(cache.own):
        before = ((), ()) if branch.after is None else branch.after.layers[layer]
        own = (part[row : row + 1, :, : branch.tokens] for part in (keys, values))
        joined = [torch.cat([*([b] if branch.after else []), o], dim=2) for b, o in zip(before, own, strict=True)]
        layers.append((joined[0], joined[1]))
    return TorchPrefix(tuple(layers), _length(branch) + branch.tokens)
