#!/usr/bin/env bash
# Guess:     a model compiled by OpenVINO with INFERENCE_PRECISION_HINT bf16 on a processor that has it takes two bytes a
#            weight: the weights are converted when it is compiled.
# Behaviour: it takes six: packed weights in bfloat16, and beside them the float32 ones of the graph for as long as the
#            compiled model lives, also where nobody else holds the graph any more. Constants in bfloat16 behind a Convert
#            to float32, as compressed weights are written, are unpacked to float32 and kept as well. Only where the
#            product itself is written in bfloat16, its rows converted, are the constants left as they are, and then
#            their memory may be shared with whoever has the weights. Speed and results are the same.
# Versions:  openvino 2026.4.1
# Source:    https://docs.openvino.ai/ (CPU device, "Floating Point Data Types Specifics"; openvino.op.constant,
#            shared_memory)
# Matters:   a language model of 1 GB in bfloat16 grows the process by 3 GB in place of 1, on robots that have 8.
set -euo pipefail
if ! grep -qE 'avx512_bf16|amx_bf16' /proc/cpuinfo; then
  echo "this processor does not compute in bfloat16: nothing to be seen here"
  exit 0
fi
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q 'openvino==2026.4.1' 'numpy==2.4.6'
cd "$tmp"
cat > memory.py <<'PY'
"""Prints by how many bytes a weight the process grows, from the weights in bfloat16 to a model that has answered."""
import sys

sys.modules["openvino_telemetry"] = None
import gc

import numpy as np
import openvino as ov
import openvino.opset13 as op

SIDE, LAYERS = 2048, 24
bits = np.random.default_rng(0).standard_normal((LAYERS, SIDE, SIDE), np.float32).view(np.uint32) >> 16
bits = bits.astype(np.uint16).view(np.int16)


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def constant(layer):
    return op.constant(ov.Tensor(bits[layer], ov.Shape([SIDE, SIDE]), ov.Type.bf16), shared_memory=True)


def product(rows, layer, way):
    if way == "product":
        return op.convert(op.matmul(op.convert(rows, "bf16"), constant(layer), False, True), "f32")
    if way == "convert":
        return op.matmul(rows, op.convert(constant(layer), "f32"), False, True)
    weight = (bits[layer].view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return op.matmul(rows, op.constant(weight, shared_memory=True), False, True)


def graph(way):
    rows = given = op.parameter([-1, SIDE], np.float32)
    for layer in range(LAYERS):
        rows = op.tanh(product(rows, layer, way))
    return ov.Model([rows], [given], "products")


before = resident()
compiled = ov.Core().compile_model(graph(sys.argv[1]), "CPU", {"INFERENCE_PRECISION_HINT": "bf16", "NUM_STREAMS": 1})
gc.collect()
compiled(np.ones((64, SIDE), np.float32))
gc.collect()
print(round((resident() - before) / bits.size, 1))
PY
for way in float32 convert product; do
  declare "$way=$("$tmp/venv/bin/python" memory.py "$way")"
  echo "weights in the graph: $way; the process grew by ${!way} bytes a weight"
done
python3 -c "import sys; a, b, c = map(float, sys.argv[1:]); sys.exit(not (a > 5 and b > 5 and c < 3.5))" \
  "$float32" "$convert" "$product"
