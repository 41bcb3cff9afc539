"""The two networks of a loaded LLaVA, run by PyTorch in their own device and type.

Promises: what `backends.protocols` asks for. Knows nothing of words or of images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import DynamicCache

from proxqa_core.llm.branching import Branch, Row, Tree, in_passes, lay_out


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


@dataclass(frozen=True, eq=False)
class TorchPrefix:
    """Keys and values of a prefix, never changed.

    Attributes:
        layers: One pair (keys, values) per layer, each [1, heads, length, head size].
        length: Tokens in the prefix.
    """

    layers: tuple[tuple[torch.Tensor, torch.Tensor], ...]
    length: int

    def first(self, length: int) -> TorchPrefix:
        """Its first tokens alone, sharing their memory."""
        return TorchPrefix(tuple((k[:, :, :length], v[:, :, :length]) for k, v in self.layers), length)


class BranchCache(DynamicCache):
    """What a pass over several branches attends to: their prefixes, and in each layer what the pass itself adds.

    Only one layer's copy of the prefixes exists at a time, so that many branches of a long prefix fit into memory.

    Args:
        prefixes: Of every branch; each is padded at its end to the longest.
        keep: Whether to keep what the pass adds.

    Attributes:
        own: Keys and values [branches, heads, longest, head size] that the pass added, layer by layer, where kept.
    """

    def __init__(self, prefixes: Sequence[TorchPrefix | None], keep: bool):
        super().__init__()
        self._prefixes, self._keep = prefixes, keep
        self._longest = max((p for p in prefixes if p is not None), key=lambda p: p.length, default=None)
        self.own: list[tuple[torch.Tensor, torch.Tensor]] = []

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens of the longest prefix."""
        return 0 if self._longest is None else self._longest.length

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """All that a layer attends to: the prefixes' keys and values, then the given ones."""
        if self._keep:
            self.own.append((key_states, value_states))
        if self._longest is None:
            return key_states, value_states
        keys, values = (self._before(layer_idx, which) for which in (0, 1))
        return torch.cat([keys, key_states], dim=2), torch.cat([values, value_states], dim=2)

    def _before(self, layer: int, which: int) -> torch.Tensor:
        """Keys (which = 0) or values (1) of a layer of all prefixes, [branches, heads, longest, head size]."""
        assert self._longest is not None
        like = self._longest.layers[layer][which]
        if all(p is self._longest for p in self._prefixes):
            return like.expand(len(self._prefixes), -1, -1, -1)
        joint = like.new_zeros(len(self._prefixes), *like.shape[1:])
        for index, prefix in enumerate(self._prefixes):
            if prefix is not None:
                joint[index, :, : prefix.length] = prefix.layers[layer][which][0]
        return joint


class TorchLanguageModel:
    """Projector, language model and output layer of a `LlavaForConditionalGeneration`.

    Args:
        llava: The loaded model, adapter merged.
    """

    def __init__(self, llava: Any):
        self._llava = llava
        self.description = describe(llava.dtype)

    def project(self, features: torch.Tensor) -> torch.Tensor:
        """See `LanguageModel.project`."""
        embeddings: torch.Tensor = self._llava.model.multi_modal_projector(features.to(self._llava.dtype))
        return embeddings

    def embed(self, ids: Sequence[int]) -> torch.Tensor:
        """See `LanguageModel.embed`."""
        table = self._llava.get_input_embeddings()
        embeddings: torch.Tensor = table(torch.tensor(list(ids), dtype=torch.long, device=self._llava.device))
        return embeddings

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
        # 1. Rows [rows, longest, hidden], padded.
        rows = torch.nn.utils.rnn.pad_sequence([r.rows() for r in asked], batch_first=True)
        # 2. Where each token stands, and an additive mask [rows, 1, longest, prefix + longest].
        layout = lay_out(asked, [_length(r) for r in asked])
        blocked = torch.from_numpy(~layout.allowed).to(rows.device)[:, None]
        mask = torch.zeros(blocked.shape, dtype=rows.dtype, device=rows.device)
        mask.masked_fill_(blocked, torch.finfo(rows.dtype).min)
        # 3. One pass: linear layers over all tokens at once, attention row by row.
        cache = BranchCache([r.after for r in asked], keep)
        hidden = self._llava.model.language_model(
            inputs_embeds=rows,
            attention_mask=mask,
            position_ids=torch.from_numpy(layout.position).to(rows.device),
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        return hidden, cache

    def logits(self, hidden: torch.Tensor, tokens: Sequence[int]) -> NDArray[np.float64]:
        """See `LanguageModel.logits`: a few rows of the output layer, in float32, instead of all 49,000."""
        rows = self._llava.lm_head.weight[torch.tensor(list(tokens), device=hidden.device)]
        values: NDArray[np.float64] = (hidden.float() @ rows.float().T).double().cpu().numpy()
        return values

    @torch.inference_mode()
    def generate(self, embeddings: torch.Tensor, max_new_tokens: int) -> list[int]:
        """See `LanguageModel.generate`: Hugging Face's own, the whole prompt in one pass."""
        prompt = embeddings[None]
        tokens = self._llava.generate(
            inputs_embeds=prompt,
            attention_mask=torch.ones(prompt.shape[:2], dtype=torch.long, device=prompt.device),
            max_new_tokens=max_new_tokens,
            do_sample=False,
        )
        ids: list[int] = tokens[0].tolist()
        return ids


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
