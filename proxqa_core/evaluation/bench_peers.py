"""Other ways of asking the same model the same questions, as users of `transformers` would.

Promises: each way gives the text that the model decodes greedily for every name; all ask the engine's own prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import DynamicCache

from proxqa_core.engine import ProximityEngine
from proxqa_core.types import ObjectQuery

Peer = Callable[[ProximityEngine, NDArray[np.uint8], Sequence[str]], list[str]]
"""(engine, image uint8 RGB [height, width, 3], names) → the model's text for every name."""


def loop_of_generate(engine: ProximityEngine, image: NDArray[np.uint8], names: Sequence[str]) -> list[str]:
    """For every name the image again, and the whole prompt through `generate()`."""
    return [engine.encode_image(image).perceive_by_generating(name) for name in names]


@torch.inference_mode()
def batched_generate(engine: ProximityEngine, image: NDArray[np.uint8], names: Sequence[str]) -> list[str]:
    """The image encoded once, all prompts padded on the left in one `generate()`."""
    prompts = engine.encode_image(image).prompts([ObjectQuery(name) for name in names])
    rows = [torch.cat([prompts.prefix, suffix]) for suffix in prompts.suffixes]
    embeddings, mask = _left_padded(rows)
    tokens = engine.model.llava.generate(
        inputs_embeds=embeddings, attention_mask=mask, max_new_tokens=prompts.max_new_tokens, do_sample=False
    )
    return [_text(engine, row) for row in tokens]


@torch.inference_mode()
def shared_cache_batched(engine: ProximityEngine, image: NDArray[np.uint8], names: Sequence[str]) -> list[str]:
    """The image read once, its cache repeated for every name, the suffixes decoded together."""
    prompts = engine.encode_image(image).prompts([ObjectQuery(name) for name in names])
    llava, cache = engine.model.llava, DynamicCache()
    layers = llava.model.language_model
    layers(inputs_embeds=prompts.prefix[None], past_key_values=cache, use_cache=True)
    cache.batch_repeat_interleave(len(names))
    rows, own = _left_padded(prompts.suffixes)
    mask = torch.cat([own.new_ones(len(names), len(prompts.prefix)), own], dim=1)
    ends = _ends(engine)
    found: list[torch.Tensor] = []
    for _ in range(prompts.max_new_tokens):
        position = (mask.cumsum(1) - 1).clamp_min(0)[:, -rows.shape[1] :]
        hidden = layers(
            inputs_embeds=rows, attention_mask=mask, position_ids=position, past_key_values=cache, use_cache=True
        ).last_hidden_state[:, -1]
        found.append(llava.lm_head(hidden).argmax(-1))
        if torch.isin(torch.stack(found), ends).any(0).all():
            break
        rows = llava.get_input_embeddings()(found[-1])[:, None]
        mask = torch.cat([mask, mask.new_ones(len(names), 1)], dim=1)
    return [_text(engine, row) for row in torch.stack(found, 1)]


PEERS: dict[str, Peer] = {
    "loop of generate": loop_of_generate,
    "batched generate": batched_generate,
    "shared cache, batched": shared_cache_batched,
}


def _left_padded(rows: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings [n, longest, hidden] of rows [tokens, hidden], and an attention mask [n, longest]."""
    longest = max(map(len, rows))
    embeddings = rows[0].new_zeros(len(rows), longest, rows[0].shape[1])
    mask = torch.zeros(len(rows), longest, dtype=torch.long, device=rows[0].device)
    for index, row in enumerate(rows):
        embeddings[index, longest - len(row) :] = row
        mask[index, longest - len(row) :] = 1
    return embeddings, mask


def _ends(engine: ProximityEngine) -> torch.Tensor:
    """The tokens that end an answer."""
    ends = engine.model.llava.generation_config.eos_token_id
    return torch.tensor(ends if isinstance(ends, list) else [ends], device=engine.model.device)


def _text(engine: ProximityEngine, tokens: torch.Tensor) -> str:
    """What the model said, up to where it ended."""
    ended = torch.isin(tokens, _ends(engine)).nonzero()
    upto = int(ended[0]) if len(ended) else len(tokens)
    text: str = engine.model.prompter.tokenizer.decode(tokens[:upto], skip_special_tokens=True)
    return text.strip()
