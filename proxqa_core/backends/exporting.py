"""A model's vision encoder as files for other runtimes: ONNX, TensorRT, OpenVINO.

Promises: what is written has been checked to compute what PyTorch does, as far as that can be done on this machine, and
says what was checked; beside it lies `export.json`, all that is needed to feed it. A folder is written whole or not at
all. The encoder serves every adapter of the model.
"""

from __future__ import annotations

import copy
import json
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from proxqa_core.backends import engine_cache
from proxqa_core.backends.onnx_export import (
    INPUT,
    OPSET,
    OUTPUT,
    check_onnx,
    checked_cosine,
    export_onnx,
    pictures,
    reference,
)
from proxqa_core.backends.openvino_import import import_openvino
from proxqa_core.backends.tensorrt_backend import PRECISION, TensorRtVisionEncoder, capability, engine_key, gpu_name
from proxqa_core.backends.tensorrt_runtime import FLAVOURS, FULL, RTX, Profile, TensorRt, fused_attention
from proxqa_core.backends.torch_backend import VisionFeatures
from proxqa_core.errors import BackendError
from proxqa_core.files import atomic_folder, sha256
from proxqa_core.model.loading import LoadedModel

RUNTIMES = ("onnx", "tensorrt", "openvino")
DESCRIPTION = "export.json"


@dataclass(frozen=True)
class ExportRequest:
    """What to write; a request that exists is valid.

    Attributes:
        runtime: One of RUNTIMES.
        folder: To make or to replace; None = the cache, where the node looks for engines (tensorrt only).
        max_batch: Most images at a time, 1 to 256.
        flavour: Of TensorRT; None = RTX where there is no GPU, else the first that is installed.
        target: The GPUs an engine of RTX is for: 'ampere+', or 'sm86', 'sm86+sm89' …; None = this machine's, ampere+
            where it has none.

    Raises:
        BackendError: A value cannot be used, or does not go with the runtime.
    """

    runtime: str
    folder: Path | None
    max_batch: int = 8
    flavour: str | None = None
    target: str | None = None

    def __post_init__(self) -> None:
        if self.runtime not in RUNTIMES:
            raise BackendError(f"cannot export to {self.runtime[:40]!r}; expected one of {', '.join(RUNTIMES)}")
        if not 1 <= self.max_batch <= 256:
            raise BackendError(f"max-batch {self.max_batch} cannot be used; expected 1 to 256")
        if self.flavour not in (None, *FLAVOURS):
            raise BackendError(f"TensorRT of flavour {self.flavour!r} is unknown; expected {' or '.join(FLAVOURS)}")
        if self.runtime != "tensorrt" and (self.flavour or self.target):
            raise BackendError(f"a flavour and a target belong to tensorrt; the export is to {self.runtime}")
        if self.runtime != "tensorrt" and self.folder is None:
            raise BackendError(f"an export to {self.runtime} needs a folder to write to; say --out DIR")


def export(model: LoadedModel, request: ExportRequest) -> dict[str, Any]:
    """Write the vision encoder of a model.

    Args:
        model: Whose encoder.
        request: What to write.

    Returns:
        What was written and how it was checked, as in `export.json`: plain values, lists and dicts.

    Raises:
        BackendError: A package is missing, or what was made does not compute what PyTorch does.
        WriteError: The folder cannot be written.
    """
    if request.runtime == "tensorrt":
        return _export_engine(model, request)
    assert request.folder is not None
    with atomic_folder(request.folder) as work:
        if request.runtime == "onnx":
            path = export_onnx(model, work, request.max_batch)
            facts = {"opset": OPSET, "precision": PRECISION, "cosine": check_onnx(path, model)}
        else:
            facts = _write_openvino(model, work)
        return _describe(model, request, work, facts)


def _write_openvino(model: LoadedModel, work: Path) -> dict[str, Any]:
    """vision.xml and vision.bin, in float32: OpenVINO computes in what it is told to when it compiles them."""
    openvino = import_openvino()
    from proxqa_core.backends.openvino_graphs import vision_graph

    encoder = copy.deepcopy(VisionFeatures(model.llava)).cpu().eval().float()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns of every size that is the same for all images
        graph = vision_graph(encoder, model.preprocessing.size)
    openvino.save_model(graph, work / "vision.xml", compress_to_fp16=False)
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(work / "vision.xml", "CPU", settings)
    pixels = model.preprocessing.pixels(pictures())
    found = torch.cat([torch.from_numpy(compiled([p[None].numpy()])[0].copy()) for p in pixels])
    cosine = checked_cosine("OpenVINO", found, reference(model, pixels))
    return {"version": openvino.__version__, "precision": "float32", "cosine": cosine}


# --- TensorRT --------------------------------------------------------------------------------------------------------


def _export_engine(model: LoadedModel, request: ExportRequest) -> dict[str, Any]:
    """An engine, built here; tried here too where there is a GPU."""
    gpu = capability(model.device)
    runtime = TensorRt.find(request.flavour or (RTX if gpu is None else None))
    if runtime.flavour == FULL and request.target:
        raise BackendError("tensorrt builds for the GPU it runs on; only tensorrt_rtx can be told a target")
    target = request.target or runtime.target(gpu)
    if request.target:
        runtime.wanted(target)  # what is wrong with it is told before the export
    profile = Profile(model.preprocessing.size, request.max_batch)
    key = engine_key(model, runtime, profile, target, gpu_name(model.device))
    start = time.perf_counter()
    with engine_cache.scratch() as scratch:
        onnx = export_onnx(model, scratch, request.max_batch)
        cosine = check_onnx(onnx, model)
        exported = time.perf_counter()
        engine = runtime.build(onnx, profile, target)
    facts: dict[str, Any] = {
        "flavour": runtime.flavour,
        "version": runtime.version,
        "target": target,
        "precision": PRECISION,
        "max_batch": request.max_batch,
        "fused_attention": fused_attention(engine) if runtime.flavour == RTX else None,
        "onnx_cosine": cosine,
        "export_s": round(exported - start, 1),
        "build_s": round(time.perf_counter() - exported, 1),
        "cosine": None,
    }
    if request.folder is None:
        kept = engine_cache.write(key, engine)
        if kept is None:
            raise BackendError(f"the engine cannot be put into the cache {str(key.folder.parent)!r}; say --out DIR")
        if gpu is not None and target == runtime.target(gpu):
            facts["cosine"] = TensorRtVisionEncoder(model, runtime, lambda _: None, request.max_batch).cosine
        return _facts(model, request, kept, facts)
    with atomic_folder(request.folder, len(engine)) as work:
        (work / engine_cache.ENGINE).write_bytes(engine)
        return _describe(model, request, work, facts | {"key": asdict(key)})


# --- description -----------------------------------------------------------------------------------------------------


def _describe(model: LoadedModel, request: ExportRequest, work: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """Put export.json beside what was written."""
    report = _facts(model, request, work, facts)
    (work / DESCRIPTION).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return report


def _facts(model: LoadedModel, request: ExportRequest, folder: Path, facts: dict[str, Any]) -> dict[str, Any]:
    import transformers

    pixels = model.preprocessing
    resample = None if pixels.resample is None else pixels.resample.name.lower()
    return {
        "model": model.source,
        "runtime": request.runtime,
        "folder": str(request.folder or folder),
        "files": {p.name: sha256(p) for p in sorted(folder.iterdir()) if p.suffix != ".json"},
        "input": {
            "name": INPUT,
            "shape": ["batch", 3, pixels.size, pixels.size],
            "geometry": pixels.geometry,
            "resample": resample or "opencv area",
            "mean": list(pixels.mean),
            "std": list(pixels.std),
        },
        "output": {"name": OUTPUT, "shape": ["batch", *_output_shape(model)]},
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        **facts,
    }


def _output_shape(model: LoadedModel) -> list[int]:
    """Tokens and features of an image."""
    size = model.preprocessing.size
    return list(reference(model, torch.zeros(1, 3, size, size)).shape[1:])
