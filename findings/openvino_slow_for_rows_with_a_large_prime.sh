#!/usr/bin/env bash
# Guess:     a pass over fewer tokens takes less time, or the same: who has 157 tokens gains nothing by adding three.
# Behaviour: on CPUs the rows of a matrix product are cut into equal blocks. A number of rows that has a large prime factor
#            (157, 158 = 2 · 79, 163, 166 = 2 · 83) has no good cut: the pass takes longer than that of the next multiple of
#            8, which is computed for more rows. Numbers beside them (153, 154, 156) take what their size lets expect.
# Versions:  openvino 2026.4.1
# Source:    https://uxlfoundation.github.io/oneDNN/ (matrix multiplication; blocking is left to the implementation)
# Matters:   prompts have whatever length they have; padding them by a few tokens spares up to a tenth of a pass.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q 'openvino==2026.4.1' 'numpy==2.4.6'
cd "$tmp"
cat > rows.py <<'PY'
"""Times a stack of the products of a small language model's layers, by the number of rows, in turns."""
import sys

sys.modules["openvino_telemetry"] = None
import statistics
import time

import numpy as np
import openvino as ov
import openvino.opset13 as op

HIDDEN, INNER, LAYERS, ROUNDS = 576, 1536, 20, 15
UNEVEN, EVEN = (157, 158, 163, 166), (160, 160, 168, 168)
kind = "bf16" if "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"
draw = np.random.default_rng(0).standard_normal


def weight(out, into):
    return op.constant(draw((out, into), np.float32) / into**0.5)


rows = given = op.parameter([-1, HIDDEN], np.float32)
for _ in range(LAYERS):
    wide = op.multiply(op.swish(op.matmul(rows, weight(INNER, HIDDEN), False, True)),
                       op.matmul(rows, weight(INNER, HIDDEN), False, True))
    rows = op.tanh(op.add(rows, op.matmul(wide, weight(HIDDEN, INNER), False, True)))
settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": 2, "INFERENCE_PRECISION_HINT": kind}
request = ov.Core().compile_model(ov.Model([rows], [given]), "CPU", settings).create_infer_request()
inputs = {n: draw((n, HIDDEN), np.float32) for n in sorted({*UNEVEN, *EVEN, 153, 156})}
times = {n: [] for n in inputs}
for _ in range(ROUNDS):
    for n, x in inputs.items():
        request.infer([x])
        start = time.perf_counter()
        request.infer([x])
        times[n].append(time.perf_counter() - start)
median = {n: 1000 * statistics.median(spans) for n, spans in times.items()}
print(kind, ", ".join(f"{n} rows: {ms:.1f} ms" for n, ms in median.items()))
ratios = [median[a] / median[b] for a, b in zip(UNEVEN, EVEN)]
print("fewer rows take", ", ".join(f"{ratio:.2f}" for ratio in ratios), "times as long as the next multiple of 8")
assert statistics.mean(ratios) > 1.02, "rows with a large prime factor are as quick"
PY
"$tmp/venv/bin/python" rows.py
