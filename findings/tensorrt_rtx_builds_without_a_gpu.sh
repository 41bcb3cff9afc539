#!/usr/bin/env bash
# Guess:     a TensorRT engine is built on the GPU that will run it (kernels are timed there), so it differs from
#            build to build, a machine without a GPU cannot make one, and any NVIDIA device of the right age is a
#            target.
# Behaviour: TensorRT-RTX builds with no GPU to be seen, for one or for several GPU generations, and two builds are
#            equal byte for byte. The targets are SM 7.5, 8.0, 8.6, 8.9, 12.0 and 12.1: there is none for Jetson
#            Orin (8.7), Hopper (9.0) or Thor (11.0).
# Versions:  tensorrt-rtx-cu13-libs and tensorrt-rtx-cu13-bindings 1.7.1.116, numpy 2.4.6
# Source:    https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest/inference-library/cpu-engines.html
# Matters:   engines of a vision encoder can be made, hashed and cached by a CI without a GPU; the kernels are
#            chosen on the user's machine at load time. A robot with a Jetson still needs TensorRT proper.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q 'tensorrt-rtx-cu13-libs==1.7.1.116' \
    'tensorrt-rtx-cu13-bindings==1.7.1.116' 'numpy==2.4.6'
cd "$tmp"
CUDA_VISIBLE_DEVICES="" "$tmp/venv/bin/python" - <<'PY'
import numpy as np
import tensorrt_rtx_bindings as trt

log = trt.Logger(trt.Logger.ERROR)
weights = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float16)


def build(*targets):
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    pixels = network.add_input("x", trt.float16, (1, 64))
    constant = network.add_constant((64, 64), trt.Weights(weights)).get_output(0)
    plain = trt.MatrixOperation.NONE
    network.mark_output(network.add_matrix_multiply(pixels, plain, constant, plain).get_output(0))
    config = builder.create_builder_config()
    if targets:
        config.num_compute_capabilities = len(targets)
    for place, target in enumerate(targets):
        config.set_compute_capability(target, place)
    return bytes(builder.build_serialized_network(network, config))


known = sorted(int(name[2:]) for name in dir(trt.ComputeCapability) if name.startswith("SM"))
first, second = build(), build()
ada = build(trt.ComputeCapability.SM89)
several = build(trt.ComputeCapability.SM86, trt.ComputeCapability.SM89, trt.ComputeCapability.SM120)
print(f"built without a GPU: {len(first)} bytes; the second build is equal: {first == second}")
print(f"for SM 8.9: {len(ada)} bytes; for 8.6, 8.9 and 12.0: {len(several)} bytes")
print("targets:", known)
assert first == second and ada and several
assert {75, 86, 89, 120} <= set(known) and not {87, 90, 110} & set(known)
PY
