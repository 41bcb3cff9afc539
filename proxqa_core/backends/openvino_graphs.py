"""The networks as OpenVINO graphs: the vision tower traced, the language model written down layer by layer.

Promises: a graph computes what the loaded model does, adapter and all, in float32 unless it is compiled for less. The
language model's graph runs branches as a batch: linear layers over all tokens, attention branch by branch over the
prefix and itself. Knows nothing of caches or of how graphs are compiled.

Source: Llama, Touvron et al. 2023, arXiv 2302.13971; grouped queries, Ainslie et al. 2023, arXiv 2305.13245.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from proxqa_core.backends.openvino_import import import_openvino
from proxqa_core.errors import BackendError

ov, op = import_openvino(), import_openvino("openvino.opset13")

Floats = NDArray[np.float32]
Weight = Callable[[str], "torch.Tensor | None"]
"""A parameter of the language model by its name in there; None where there is none."""
ARCHITECTURES = ("llama", "mistral", "qwen2")
"""Model types of `transformers` whose layers are these: RMS norm, rotary embeddings, grouped queries, gated SiLU."""
INT8_GROUP = 64
"""Weights along the input that share a scale in 8 bits."""
_NEGATIVE, _ONE, _TWO = np.float32(-1), np.float32(1), np.float32(2)


@dataclass(frozen=True)
class LanguageShape:
    """Sizes of a language model.

    Attributes:
        hidden: Channels of an embedding.
        layers: Number of layers.
        heads: Of the queries.
        kv_heads: Of keys and values.
        head_size: Channels of a head.
        eps: Of the norms.
    """

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    eps: float

    @classmethod
    def of(cls, config: Any) -> LanguageShape:
        """The sizes in a configuration of `transformers`; BackendError where the layers are of another kind."""
        kind, activation = config.model_type, config.hidden_act
        if kind not in ARCHITECTURES or activation != "silu":
            raise BackendError(
                f"the language model is {kind!r} with {activation!r}; expected {', '.join(ARCHITECTURES)} with 'silu'"
            )
        head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return cls(
            config.hidden_size,
            config.num_hidden_layers,
            config.num_attention_heads,
            config.num_key_value_heads,
            head_size,
            config.rms_norm_eps,
        )


def vision_graph(encoder: Any, size: int) -> Any:
    """The vision tower.

    Args:
        encoder: A module, pixels [n, 3, size, size] → features [n, tokens, channels].
        size: Side of the square input, in pixels.

    Returns:
        A graph of the same input and output, of any n.
    """
    example = torch.zeros(2, 3, size, size)
    with torch.inference_mode():
        return ov.convert_model(encoder, example_input=example, input=[ov.PartialShape([-1, 3, size, size])])


def language_graph(config: Any, weight: Weight, bf16: bool = False, int8: bool = False) -> Any:
    """The layers of a language model of one of ARCHITECTURES, with its last norm.

    Args:
        config: Of the language model.
        weight: Gives its weights, which must stay as they are for as long as the graph and what is compiled of it are
            used: their memory is shared.
        bf16: Whether linear layers are written down in bfloat16 where the weights are in it. A graph in float32 that is
            compiled for bfloat16 computes the same and keeps the weights in float32 beside it.
        int8: Whether the weights of the linear layers are rounded to 8 bits, in groups of INT8_GROUP.

    Returns:
        A graph with the inputs rows [branches, tokens, hidden]; cos and sin [branches, tokens, 1, head_size] of their
        positions; mask [branches, 1, tokens, before + tokens], added to attention's logits; index [branches], which
        prefix each branch continues; keys and values [layers, prefixes, kv_heads, before, head_size] of the prefixes.
        Its outputs are the hidden states [branches, tokens, hidden], and the keys and values
        [layers, branches, kv_heads, tokens, head_size] of the rows.
    """
    return _LanguageGraph(config, weight, bf16, int8).build()


class _LanguageGraph:
    """Writes the graph down, see `language_graph`."""

    def __init__(self, config: Any, weight: Weight, bf16: bool, int8: bool):
        self._weight, self._bf16, self._int8 = weight, bf16, int8
        self._constants: dict[str, Any] = {}
        self._narrowed: tuple[Any, Any] | None = None
        self._shape = s = LanguageShape.of(config)
        self._rows = op.parameter([-1, -1, s.hidden], np.float32, "rows")
        self._cos, self._sin = (op.parameter([-1, -1, 1, s.head_size], np.float32, n) for n in ("cos", "sin"))
        self._mask = op.parameter([-1, 1, -1, -1], np.float32, "mask")
        self._index = op.parameter([-1], np.int64, "index")
        past = [s.layers, -1, s.kv_heads, -1, s.head_size]
        self._past = tuple(op.parameter(past, np.float32, n) for n in ("keys", "values"))

    def build(self) -> Any:
        # the queries of a group stand one below the other, so the mask does too: [branches, 1, groups · tokens, all]
        groups = self._shape.heads // self._shape.kv_heads
        self._mask_of_groups = op.concat([self._mask] * groups, 2) if groups > 1 else self._mask
        rows, kept = self._rows, []
        for index in range(self._shape.layers):
            layer = f"layers.{index}."
            attended, new = self._attention(index, layer + "self_attn.", self._norm(rows, layer + "input_layernorm"))
            kept.append(new)
            rows = op.add(rows, attended)
            rows = op.add(rows, self._gated(layer + "mlp.", self._norm(rows, layer + "post_attention_layernorm")))
        outputs = [self._norm(rows, "norm")]
        outputs += [op.concat([op.unsqueeze(new[which], self._fixed(0)) for new in kept], 0) for which in (0, 1)]
        return ov.Model(outputs, [self._rows, self._cos, self._sin, self._mask, self._index, *self._past], "language")

    def _attention(self, index: int, module: str, rows: Any) -> tuple[Any, tuple[Any, Any]]:
        """Attention of a layer → what it adds to the rows, and the rows' keys and values."""
        s = self._shape
        # 1. Queries [branches, kv_heads, groups · tokens, head], keys and values [branches, kv_heads, tokens, head].
        q = op.transpose(self._rotated(self._heads(module + "q_proj", rows, s.heads)), self._fixed([0, 2, 1, 3]))
        q = op.reshape(q, self._fixed([0, s.kv_heads, -1, s.head_size]), True)
        new_keys = op.transpose(
            self._rotated(self._heads(module + "k_proj", rows, s.kv_heads)), self._fixed([0, 2, 1, 3])
        )
        new_values = op.transpose(self._heads(module + "v_proj", rows, s.kv_heads), self._fixed([0, 2, 1, 3]))
        # 2. Behind those of the prefixes, which are one for all branches or one for each.
        keys = op.concat([self._before(0, index), new_keys], 2)
        values = op.concat([self._before(1, index), new_values], 2)
        # 3. [branches, kv_heads, groups · tokens, head] → [branches, tokens, heads · head].
        out = op.scaled_dot_product_attention(q, keys, values, self._mask_of_groups)
        out = op.reshape(out, self._fixed([0, s.heads, -1, s.head_size]), True)
        out = op.reshape(op.transpose(out, self._fixed([0, 2, 1, 3])), self._fixed([0, 0, s.heads * s.head_size]), True)
        return self._linear(module + "o_proj", out), (new_keys, new_values)

    def _heads(self, module: str, rows: Any, heads: int) -> Any:
        """[branches, tokens, heads, head size]."""
        return op.reshape(self._linear(module, rows), self._fixed([0, 0, heads, self._shape.head_size]), True)

    def _rotated(self, x: Any) -> Any:
        """Rotary embedding of [branches, tokens, heads, head size]."""
        first, second = op.split(x, self._fixed(3), 2).outputs()
        turned = op.concat([op.multiply(second, self._fixed(_NEGATIVE)), first], 3)
        return op.add(op.multiply(x, self._cos), op.multiply(turned, self._sin))

    def _before(self, which: int, layer: int) -> Any:
        """Keys (which = 0) or values (1) in a layer of the prefix of every branch."""
        of_layer = op.gather(self._past[which], self._fixed(layer), self._fixed(0))
        return op.gather(of_layer, self._index, self._fixed(0))

    def _gated(self, module: str, rows: Any) -> Any:
        return self._linear(
            module + "down_proj",
            op.multiply(op.swish(self._linear(module + "gate_proj", rows)), self._linear(module + "up_proj", rows)),
        )

    def _norm(self, rows: Any, module: str) -> Any:
        mean = op.reduce_mean(op.power(rows, self._fixed(_TWO)), self._fixed([-1]), True)
        root = op.sqrt(op.add(mean, self._fixed(np.float32(self._shape.eps))))
        return op.multiply(op.multiply(rows, op.divide(self._fixed(_ONE), root)), _constant(self._known(module)))

    def _linear(self, module: str, rows: Any) -> Any:
        weight, bias = self._known(module), self._weight(module + ".bias")
        if self._bf16 and not self._int8 and weight.dtype == torch.bfloat16:
            out = op.convert(op.matmul(self._narrow(rows), _as_it_is(weight), False, True), "f32")
        else:
            out = op.matmul(rows, _int8(weight) if self._int8 else _constant(weight), False, True)
        return out if bias is None else op.add(out, _constant(bias))

    def _narrow(self, rows: Any) -> Any:
        """The same in bfloat16, for several layers that read it one after the other."""
        if self._narrowed is None or self._narrowed[0] is not rows:
            self._narrowed = (rows, op.convert(rows, "bf16"))
        return self._narrowed[1]

    def _fixed(self, value: Any) -> Any:
        """A number, or sizes; those of all layers are one: compiling takes time for everything that is in a graph."""
        key = f"{type(value).__name__} {value}"
        if key not in self._constants:
            self._constants[key] = op.constant(value)
        return self._constants[key]

    def _known(self, module: str) -> torch.Tensor:
        """The weight of a layer. BackendError where there is none."""
        weight = self._weight(module + ".weight")
        if weight is None:
            raise BackendError(f"the language model has no {module}.weight")
        return weight


def _constant(weight: torch.Tensor) -> Any:
    """A weight in float32; its memory is shared where it is in float32 already."""
    return op.constant(weight.detach().float().contiguous().numpy(), shared_memory=True)


def _as_it_is(weight: torch.Tensor) -> Any:
    """A weight in bfloat16, which NumPy does not know; its memory is shared."""
    bits = weight.detach().contiguous().view(torch.int16).numpy()
    return op.constant(ov.Tensor(bits, ov.Shape(list(weight.shape)), ov.Type.bf16), shared_memory=True)


def _int8(weight: torch.Tensor) -> Any:
    """A matrix [out, in] rounded to 8 bits: scale of each group times whole numbers from -127 to 127."""
    matrix = weight.detach().float()
    wide, narrow = matrix.shape
    group = INT8_GROUP if narrow % INT8_GROUP == 0 else narrow
    grouped = matrix.reshape(wide, narrow // group, group)
    scale = (grouped.abs().amax(-1, keepdim=True) / 127).clamp_min(1e-12)
    whole = (grouped / scale).round().clamp(-127, 127).to(torch.int8)
    unpacked = op.multiply(op.convert(op.constant(whole.numpy()), "f32"), op.constant(scale.numpy()))
    return op.reshape(unpacked, [wide, narrow], False)
