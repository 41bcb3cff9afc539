"""What every backend leaves to PyTorch: the projector, words in and words out, and Hugging Face's own decoding.

Promises: these parts of `backends.protocols.LanguageModel`, in the model's own device and type: they are small beside
the layers in between.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from proxqa_core.model.parts import Parts


class Ends:
    """Projector, word embeddings and output layer.

    Args:
        parts: Of the model, adapter merged.
    """

    def __init__(self, parts: Parts):
        self._parts = parts

    def project(self, features: torch.Tensor) -> torch.Tensor:
        """See `LanguageModel.project`."""
        return self._parts.project(features)

    def embed(self, ids: Sequence[int]) -> torch.Tensor:
        """See `LanguageModel.embed`."""
        table = self._parts.embeddings()
        return torch.nn.functional.embedding(torch.tensor(list(ids), dtype=torch.long, device=table.device), table)

    def logits(self, hidden: torch.Tensor, tokens: Sequence[int]) -> NDArray[np.float64]:
        """See `LanguageModel.logits`: a few rows of the output layer, in float32, instead of all 49,000."""
        rows = self._parts.output()[torch.tensor(list(tokens), device=hidden.device)]
        values: NDArray[np.float64] = (hidden.float() @ rows.float().T).double().cpu().numpy()
        return values

    @torch.inference_mode()
    def generate(self, embeddings: torch.Tensor, max_new_tokens: int) -> list[int]:
        """See `LanguageModel.generate`: Hugging Face's own, the whole prompt in one pass."""
        prompt = embeddings[None]
        tokens = self._parts.llava().generate(
            inputs_embeds=prompt,
            attention_mask=torch.ones(prompt.shape[:2], dtype=torch.long, device=prompt.device),
            max_new_tokens=max_new_tokens,
            do_sample=False,
        )
        ids: list[int] = tokens[0].tolist()
        return ids
