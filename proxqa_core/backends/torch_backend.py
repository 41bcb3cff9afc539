"""The two networks of a loaded LLaVA, run by PyTorch in their own device and type.

Promises: what `backends.protocols` asks for. Knows nothing of words or of images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import DynamicCache

from proxqa_core.llm.branching import Branch, pack, split_into_passes


class TorchVisionEncoder:
    """The vision tower inside a `LlavaForConditionalGeneration`.

    Args:
        llava: The loaded model; only its vision tower is kept.
    """

    def __init__(self, llava: Any):
        self._tower = llava.model.vision_tower
        self._config = llava.config

    @torch.inference_mode()
    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """See `VisionEncoder.encode`."""
        layer = self._config.vision_feature_layer
        pixels = pixels.to(device=self._tower.device, dtype=self._tower.dtype)
        states = self._tower(pixels, output_hidden_states=True).hidden_states
        chosen = [states[i] for i in ([layer] if isinstance(layer, int) else layer)]
        if self._config.vision_feature_select_strategy == "default":
            chosen = [state[:, 1:] for state in chosen]  # without the class token
        features: torch.Tensor = torch.cat(chosen, dim=-1)
        return features


@dataclass(frozen=True)
class TorchPrefix:
    """Keys and values of a prefix, never changed.

    Attributes:
        layers: One pair (keys, values) per layer, each [1, heads, length, head size].
        length: Tokens in the prefix.
    """

    layers: tuple[tuple[torch.Tensor, torch.Tensor], ...]
    length: int

    def cache(self) -> DynamicCache:
        """A cache to continue from; growing it leaves the prefix as it is (appending makes new tensors)."""
        cache = DynamicCache()
        for index, (keys, values) in enumerate(self.layers):
            cache.update(keys, values, index)
        return cache


class TorchLanguageModel:
    """Projector, language model and output layer of a `LlavaForConditionalGeneration`.

    Args:
        llava: The loaded model, adapter merged.
    """

    def __init__(self, llava: Any):
        self._llava = llava

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
    def run_prefix(self, embeddings: torch.Tensor) -> TorchPrefix:
        """See `LanguageModel.run_prefix`."""
        cache = DynamicCache()
        self._llava.model.language_model(inputs_embeds=embeddings[None], past_key_values=cache, use_cache=True)
        return TorchPrefix(tuple((layer.keys, layer.values) for layer in cache.layers), len(embeddings))

    @torch.inference_mode()
    def run_branches(self, prefix: TorchPrefix, branches: Sequence[Branch]) -> Iterator[torch.Tensor]:
        """See `LanguageModel.run_branches`."""
        for some in split_into_passes(branches):
            yield from torch.split(self._run_packed(prefix, some), [b.size for b in some])

    def _run_packed(self, prefix: TorchPrefix, branches: Sequence[Branch]) -> torch.Tensor:
        """Branches of n tokens in all, side by side in one row → hidden states [n, hidden]."""
        # 1. All branches in one row: rows [n, hidden].
        rows = torch.cat(
            [e for b in branches for e in ((b.embeddings,) if b.tails is None else (b.embeddings, b.tails))]
        )
        # 2. Where each row stands after the prefix, [n], and which rows it may attend to, [n, n].
        position, allowed = pack([(b.tokens, b.size - b.tokens) for b in branches])
        # 3. An additive mask [1, 1, n, length + n]: the whole prefix is open, of the rest what is allowed.
        mask = torch.zeros(1, 1, len(rows), prefix.length + len(rows), dtype=rows.dtype, device=rows.device)
        blocked = torch.from_numpy(~allowed).to(rows.device)
        mask[0, 0, :, prefix.length :].masked_fill_(blocked, torch.finfo(rows.dtype).min)
        # 4. One pass behind one copy of the prefix's keys and values: [1, n, hidden].
        hidden: torch.Tensor = self._llava.model.language_model(
            inputs_embeds=rows[None],
            attention_mask=mask,
            position_ids=torch.from_numpy(position + prefix.length)[None].to(rows.device),
            past_key_values=prefix.cache(),
            use_cache=True,
        ).last_hidden_state
        return hidden[0]

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
