#!/usr/bin/env bash
# Guess:     how long OpenVINO takes to compile a language model follows from its weights, which are packed for the
#            processor: what is kept of a start is to be had by smaller or shared weights.
# Behaviour: it follows from the number of nodes. The same layers with 64 times fewer weights take as long, half as many
#            layers half as long. Two of five nodes are scalars and sizes that converters and the Python API write anew
#            wherever one is needed; shared by all layers, they are a third of the nodes fewer, and some time.
# Versions:  openvino 2026.4.1
# Source:    https://docs.openvino.ai/ ("First Inference Latency", which speaks of model caching and of loading weights)
# Matters:   a robot's node waits for this at every start and after every change of an adapter.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q 'openvino==2026.4.1' 'numpy==2.4.6'
cd "$tmp"
cat > compile.py <<'PY'
"""Times the compilation of stacks of gated layers behind norms: small or large weights, constants shared or not."""
import sys

sys.modules["openvino_telemetry"] = None
import statistics
import time

import numpy as np
import openvino as ov
import openvino.opset13 as op

LAYERS, ROUNDS = 60, 5
core = ov.Core()


def graph(side, layers, shared):
    kept = {}

    def fixed(value):
        if not shared:
            return op.constant(value)
        return kept.setdefault(f"{type(value).__name__} {value}", op.constant(value))

    def norm(x):
        mean = op.reduce_mean(op.power(x, fixed(np.float32(2))), fixed([-1]), True)
        root = op.sqrt(op.add(mean, fixed(np.float32(1e-5))))
        return op.multiply(op.multiply(x, op.divide(fixed(np.float32(1)), root)), op.constant(np.ones(side, np.float32)))

    def heads(x):
        split = op.reshape(x, fixed([0, 0, -1, 8]), True)
        turned = op.transpose(split, fixed([0, 2, 1, 3]))
        return op.reshape(op.transpose(turned, fixed([0, 2, 1, 3])), fixed([0, 0, -1]), True)

    rows = given = op.parameter([-1, -1, side], np.float32)
    for layer in range(layers):
        weight = np.random.default_rng(layer).standard_normal((side, side), np.float32) / side
        one, two = (op.matmul(norm(rows), op.constant(w), False, True) for w in (weight, weight + 1e-3))
        rows = op.add(rows, heads(op.multiply(op.swish(one), two)))
    return ov.Model([rows], [given])


def seconds(model):
    start = time.perf_counter()
    core.compile_model(model, "CPU")
    return time.perf_counter() - start


kinds = {
    "small": (64, LAYERS, False),
    "large": (512, LAYERS, False),
    "large, half": (512, LAYERS // 2, False),
    "large, shared": (512, LAYERS, True),
}
times = {kind: [] for kind in kinds}
for _ in range(ROUNDS):
    for kind, of in kinds.items():
        model = graph(*of)
        times[kind].append(seconds(model))
        nodes = len(model.get_ops())
        print(f"{kind:14} {nodes:5} nodes, {of[1] * 2 * of[0] ** 2 / 1e6:6.1f} M weights: {times[kind][-1]:.2f} s")
small, large, half, shared = (min(times[kind]) for kind in kinds)
print(f"64 times the weights: {large / small:.2f} times as long; half the layers: {half / large:.2f} times; "
      f"shared constants: {shared / large:.2f} times")
assert large < 2 * small, "the weights do count"
assert half < 0.75 * large, "the nodes do not count"
PY
"$tmp/venv/bin/python" compile.py
