#!/usr/bin/env bash
# Guess:     torch.onnx.export("m.onnx") writes one file; weights go to a second one only beyond protobuf's 2 GB.
# Behaviour: it writes m.onnx *and* m.onnx.data, for 16 kB of weights too (external_data=True is the default of the
#            torch.export-based exporter). m.onnx copied alone, or handed over as bytes, cannot be loaded.
#            external_data=False gives the one file that was guessed.
# Versions:  torch 2.13.0, onnx 1.23.2, onnxscript 0.7.2, onnxruntime 1.32.0
# Source:    docs of torch.onnx.export, external_data ("required for models ... that exceed the ONNX file size
#            limit"); https://github.com/painebenjamin/hey-buddy/issues/29 (the second file after an update of
#            torch)
# Matters:   deployment scripts that upload, cache or embed "the .onnx" of a vision encoder leave its weights
#            behind, and a parser that gets bytes (TensorRT's parser.parse, an ONNX Runtime session) cannot find
#            them.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q 'torch==2.13.0'
"$tmp/venv/bin/pip" install -q 'onnx==1.23.2' 'onnxscript==0.7.2' 'onnxruntime==1.32.0'
cd "$tmp"
mkdir exported elsewhere
"$tmp/venv/bin/python" - 2>/dev/null <<'PY'
import os
import pathlib

import onnxruntime
import torch


def export(path, **options):
    model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU()).eval()
    torch.onnx.export(model, (torch.zeros(1, 64),), path, verbose=False, **options)


def loads(source):
    try:
        onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    except Exception as error:
        return type(error).__name__ + ": " + str(error)[:110]
    return "ok"


export("exported/m.onnx")
files = {name: os.path.getsize("exported/" + name) for name in sorted(os.listdir("exported"))}
graph = pathlib.Path("exported/m.onnx").read_bytes()
pathlib.Path("elsewhere/m.onnx").write_bytes(graph)
export("exported/one.onnx", external_data=False)
print("written for one 64x64 layer:", files)
print("in place:", loads("exported/m.onnx"))
print("copied alone:", loads("elsewhere/m.onnx"))
print("as bytes:", loads(graph))
print("external_data=False, as bytes:", loads(pathlib.Path("exported/one.onnx").read_bytes()))
assert set(files) == {"m.onnx", "m.onnx.data"}
assert loads("exported/m.onnx") == "ok" and loads("elsewhere/m.onnx") != "ok" and loads(graph) != "ok"
assert loads(pathlib.Path("exported/one.onnx").read_bytes()) == "ok"
PY
