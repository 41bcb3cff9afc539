"""A Llama language model and its tokenizer out of a GGUF file, dequantised.

Promises: tokens and weights are those that transformers' `from_pretrained(gguf_file=…)` gives, bit for bit, in a sixth
of its time: that parses the file's metadata three times with the gguf library's reader, and makes the table of all
weights' names anew for each module. Knows Llama's layout alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import MODEL_ARCH, GGUFReader, ReaderTensor, dequantize, get_tensor_name_map


class _Reader(GGUFReader):
    """The library's reader on a plain array: most of its time goes into the slices of `np.memmap`, 300,000 of them."""

    @property
    def data(self) -> np.ndarray:
        """The file's bytes, uint8, still mapped."""
        return self._data

    @data.setter
    def data(self, mapped: np.ndarray) -> None:
        self._data = np.asarray(mapped)

    def value(self, name: str) -> Any:
        """What the file says of the model, or None."""
        field = self.get_field(name)
        return None if field is None else field.contents()


def read_llama(path: Path) -> tuple[Any, Any]:
    """Read a GGUF file.

    Args:
        path: The file; its `general.architecture` is llama.

    Returns:
        A `PreTrainedTokenizerFast`, and a `LlamaForCausalLM` in float32.
    """
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(path.parent, gguf_file=path.name, local_files_only=True)
    reader = _Reader(path)
    config = _config(reader)
    llm = LlamaForCausalLM.from_pretrained(
        None, config=config, state_dict=_weights(reader, config), dtype=torch.float32
    )
    llm.config.name_or_path = path.stem  # never where it is installed: the same file makes the same configuration
    return tokenizer, llm


def _config(reader: _Reader) -> Any:
    """The LlamaConfig that the metadata describe."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=reader.value("llama.vocab_size"),
        hidden_size=reader.value("llama.embedding_length"),
        intermediate_size=reader.value("llama.feed_forward_length"),
        num_hidden_layers=reader.value("llama.block_count"),
        num_attention_heads=reader.value("llama.attention.head_count"),
        num_key_value_heads=reader.value("llama.attention.head_count_kv"),
        max_position_embeddings=reader.value("llama.context_length"),
        rms_norm_eps=reader.value("llama.attention.layer_norm_rms_epsilon"),
        rope_parameters={"rope_type": "default", "rope_theta": reader.value("llama.rope.freq_base")},
        bos_token_id=reader.value("tokenizer.ggml.bos_token_id"),
        eos_token_id=reader.value("tokenizer.ggml.eos_token_id"),
        pad_token_id=reader.value("tokenizer.ggml.padding_token_id"),
        tie_word_embeddings=all(tensor.name != "output.weight" for tensor in reader.tensors),
    )


def _weights(reader: _Reader, config: Any) -> dict[str, torch.Tensor]:
    """The weights under transformers' names, float32."""
    from transformers import LlamaForCausalLM

    with torch.device("meta"):  # the names alone
        names = LlamaForCausalLM(config).state_dict()
    in_file = get_tensor_name_map(MODEL_ARCH.LLAMA, config.num_hidden_layers)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    found = ((name, tensors.get(in_file.get_name(name, try_suffixes=(".weight",)))) for name in names)
    return {name: _weight(tensor, config) for name, tensor in found if tensor is not None}


def _weight(tensor: ReaderTensor, config: Any) -> torch.Tensor:
    """A weight as transformers keeps it, (rows, columns) or (rows,)."""
    weight = dequantize(tensor.data, tensor.tensor_type)
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    if count := heads.get(tensor.name.split(".")[-2]):
        # llama.cpp rotates neighbouring rows of a head, transformers those half a head apart:
        # (heads, pairs, 2, columns) → (heads, 2, pairs, columns)
        weight = weight.reshape(count, -1, 2, weight.shape[-1]).swapaxes(1, 2).reshape(weight.shape)
    return torch.from_numpy(np.array(weight))
