#!/usr/bin/env python3
"""All that only a GPU can show, in one run of at most eight minutes; without one, as much of it as can be shown.

Promises: every step prints one line and ends in 'ok', 'failed' or 'left out' with the reason; what takes longer than is
left of the time is left out, not cut short. The exit code is 1 where a step failed.

    .venv/bin/python scripts/gpu_check.py [--json FILE] [--photos DIR] [--minutes 8]

Steps: TensorRT flavours; default tower exported, checked, built, tried (cosine with PyTorch in float32); the second
start from the cache; default model with 8 objects, PyTorch against TensorRT: frames per second, p50 and p95, agreement
with float32; LLaVA-1.5-7B's shapes with random weights in bfloat16: the same, and as a multiple of what the GPU's own
rate of multiplication and bandwidth allow.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the checkout's modules

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import AutoTokenizer, CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from proxqa_core.backends.choice import choose, torch_networks
from proxqa_core.backends.config import BackendConfig
from proxqa_core.backends.onnx_export import MIN_COSINE, check_onnx, export_onnx, least_cosine, pictures, reference
from proxqa_core.backends.tensorrt_backend import TensorRtVisionEncoder
from proxqa_core.backends.tensorrt_runtime import FLAVOURS, RTX, Profile, TensorRt, fused_attention
from proxqa_core.engine import ProximityEngine
from proxqa_core.errors import ProxqaError, reason_of
from proxqa_core.evaluation.bench import NAMES
from proxqa_core.files import write_text
from proxqa_core.llm.prompts import Prompter
from proxqa_core.model.adapter import AdapterSpec
from proxqa_core.model.base_weights import default_base
from proxqa_core.model.loading import LoadedModel, load
from proxqa_core.model.parts import Whole
from proxqa_core.vision.image_file import read_image
from proxqa_core.vision.preprocessing import Preprocessing

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
AIM_DEFAULT_HZ, AIM_7B_HZ = 100, 30
"""Frames per second with 8 objects that are aimed at."""
FRAMES = 50
"""Frames that are timed, after a few that are not."""
MAX_DEPTH_APART = 0.01
"""Most that a depth may be from float32's on the bundled pictures."""


@dataclass(frozen=True)
class Shapes:
    """Sizes of a LLaVA; those of LLaVA-1.5-7B, or small ones with which a CPU runs the same steps."""

    vision: dict[str, int]
    text: dict[str, int]
    dtype: torch.dtype


LLAVA_7B = Shapes(
    {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16},
    {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32},
    torch.bfloat16,
)
SMALL = Shapes(
    {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 2},
    {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4},
    torch.float32,
)


class LeftOutError(Exception):
    """A step cannot be shown here."""


class Check:
    """Runs steps and keeps what they found.

    Args:
        device: Of the models.
        seconds: For all steps together.
        photos: To try encoders on, besides the bundled pictures.
    """

    def __init__(self, device: torch.device, seconds: float, photos: Sequence[NDArray[np.uint8]]):
        self.device, self.photos = device, photos
        self.report: dict[str, Any] = {}
        self._ends = time.monotonic() + seconds

    def step(self, name: str, expected_s: float, work: Callable[[], dict[str, Any]], gpu: bool = False) -> None:
        """Run one step, if there is time for it, and a GPU where it needs one."""
        start = time.monotonic()
        try:
            if gpu and self.device.type != "cuda":
                raise LeftOutError("no GPU is to be seen")
            if start + expected_s > self._ends:
                raise LeftOutError(f"it takes about {expected_s:.0f} s, {self._ends - start:.0f} s are left")
            found = {"state": "ok", **work()}
        except LeftOutError as error:
            found = {"state": "left out", "why": str(error)}
        except (ProxqaError, RuntimeError, OSError, AssertionError) as error:
            found = {"state": "failed", "why": reason_of(error)[:300] or type(error).__name__}
        found["seconds"] = round(time.monotonic() - start, 1)
        self.report[name] = found
        print(f"{name}: " + ", ".join(f"{k} {v}" for k, v in found.items() if k != "state") + f": {found['state']}")


def main() -> int:
    """Run all steps; returns the exit code."""
    options = _parser().parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    photos = [read_image(f) for f in sorted(options.photos.rglob("*.jpg"))[:16]] if options.photos else []
    check = Check(device, 60 * options.minutes, photos)
    check.step("machine", 1, lambda: machine(check))
    check.step("encoder ahead of time", 60, lambda: ahead_of_time(check, load(device="cpu", dtype="float32")))
    default_model(check)
    shapes_of_7b(check)
    if options.json:
        write_text(options.json, json.dumps(check.report, indent=1) + "\n")
    states = [found["state"] for found in check.report.values()]
    print(", ".join(f"{states.count(s)} {s}" for s in ("ok", "failed", "left out")))
    return 1 if "failed" in states else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="All that only a GPU can show, in one run.")
    parser.add_argument("--json", metavar="FILE", help="write what was found")
    parser.add_argument("--photos", metavar="DIR", type=Path, help="photographs to try encoders on (at most 16 JPEGs)")
    parser.add_argument("--minutes", type=float, default=8.0, help="for all of it (default 8)")
    return parser


def default_model(check: Check) -> None:
    """Steps with the bundled model."""
    model = load(device=str(check.device))
    check.step("encoder", 120, lambda: encoder(check, model), gpu=True)
    check.step("default model, torch", 30, lambda: frames(check, model, "torch", AIM_DEFAULT_HZ))
    check.step("default model, tensorrt", 30, lambda: frames(check, model, "tensorrt", AIM_DEFAULT_HZ), gpu=True)
    check.step("agreement with float32", 40, lambda: agreement(check, model))


def shapes_of_7b(check: Check) -> None:
    """Steps with a LLaVA of random weights."""
    model = llava_of(LLAVA_7B if check.device.type == "cuda" else SMALL, check.device)
    check.step("7B's shapes, torch", 60, lambda: frames(check, model, "torch", AIM_7B_HZ))
    check.step("7B's shapes, tensorrt", 150, lambda: frames(check, model, "tensorrt", AIM_7B_HZ), gpu=True)


# --- steps -----------------------------------------------------------------------------------------------------------


def machine(check: Check) -> dict[str, Any]:
    """What there is to run on."""
    found: dict[str, Any] = {"torch": torch.__version__, "gpu": "none"}
    if check.device.type == "cuda":
        facts = torch.cuda.get_device_properties(check.device)
        found |= {"gpu": facts.name, "capability": f"{facts.major}.{facts.minor}", "MB": facts.total_memory // 10**6}
    for flavour in FLAVOURS:
        try:
            found[flavour] = TensorRt.find(flavour).version
        except ProxqaError:
            found[flavour] = "not installed"
    return found


def ahead_of_time(check: Check, model: LoadedModel) -> dict[str, Any]:
    """Export and, with TensorRT-RTX, an engine for GPUs that need not be here."""
    with tempfile.TemporaryDirectory() as folder:
        path = export_onnx(model, Path(folder), 8)
        cosine = check_onnx(path, model, [*pictures(), *check.photos])
        try:
            runtime = TensorRt.find(RTX)
        except ProxqaError as error:
            return {"onnx_cosine": round(cosine, 6), "engine": str(error)[:80]}
        engine = runtime.build(path, Profile(model.preprocessing.size), "ampere+")
    return {"onnx_cosine": round(cosine, 6), "engine_MB": len(engine) // 10**6, "fused": fused_attention(engine)}


def encoder(check: Check, model: LoadedModel) -> dict[str, Any]:
    """Built and tried, then loaded from the cache, and compared with PyTorch on all pictures."""
    runtime = TensorRt.find()
    start = time.perf_counter()
    built = TensorRtVisionEncoder(model, runtime, lambda _: None)
    middle = time.perf_counter()
    again = TensorRtVisionEncoder(model, runtime, lambda _: None)
    end = time.perf_counter()
    pixels = model.preprocessing.pixels([*pictures(), *check.photos])
    cosine = least_cosine(again.encode(pixels).float().cpu(), reference(model, pixels))
    assert cosine >= MIN_COSINE, f"cosine {cosine:.5f}"
    one = pixels[:1].to(check.device)
    found = {"flavour": built.description, "first_s": round(middle - start, 1), "cached_s": round(end - middle, 1)}
    return found | {"cosine": round(cosine, 6)} | _timed(lambda: again.encode(one), check.device)


def frames(check: Check, model: LoadedModel, backend: str, aim_hz: float) -> dict[str, Any]:
    """Whole frames with 8 objects: per second, p50 and p95, and how far from what the GPU could do."""
    engine = ProximityEngine(model, choose(model, BackendConfig(backend)))
    assert engine.networks.name == backend, f"{engine.networks.name} answers instead of {backend}"
    shown = pictures()
    turn = iter(range(10**9))

    def frame() -> None:
        engine.encode_image(shown[next(turn) % len(shown)]).depths(NAMES)

    found = _timed(frame, check.device, FRAMES if check.device.type == "cuda" else 3)
    floor_ms = _floor_ms(model, check.device)
    found |= {"hz": round(1000 / found["p50_ms"], 1), "aim_hz": aim_hz, "times_the_floor": found["p50_ms"] / floor_ms}
    return found | {"times_the_floor": round(found["times_the_floor"], 2)}


def agreement(check: Check, model: LoadedModel) -> dict[str, Any]:
    """Depths of what answers here against PyTorch in float32."""
    exact_model = load(device=str(check.device), dtype="float32")
    exact = ProximityEngine(exact_model, torch_networks(exact_model, BackendConfig("torch"), lambda _: None))
    name = "tensorrt" if check.device.type == "cuda" else "torch"
    ours = ProximityEngine(model, choose(model, BackendConfig(name)))
    apart, flips = 0.0, 0
    for image in [*pictures(), *check.photos]:
        pairs = list(zip(ours.encode_image(image).depths(NAMES), exact.encode_image(image).depths(NAMES), strict=True))
        seen = [(a.depth, b.depth) for a, b in pairs if b.score > 0.5]
        apart = max([apart, *(abs(a - b) for a, b in seen)])
        flips += sum((a - c) * (b - d) < 0 for i, (a, b) in enumerate(seen) for c, d in seen[:i])
    if check.device.type == "cuda":
        assert apart <= MAX_DEPTH_APART, f"a depth is {apart:.4f} from float32's"
    return {"backend": ours.networks.name, "max_depth_apart": round(apart, 4), "orders_flipped": flips}


# --- tools -----------------------------------------------------------------------------------------------------------


def _timed(work: Callable[[], Any], device: torch.device, rounds: int = FRAMES) -> dict[str, float]:
    """p50 and p95 of wall-clock milliseconds until the GPU has finished."""
    times = []
    for i in range(rounds + 3):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if i >= min(3, rounds):
            times.append(1000 * (time.perf_counter() - start))
    return {"p50_ms": round(statistics.median(times), 2), "p95_ms": round(float(np.percentile(times, 95)), 2)}


def _floor_ms(model: LoadedModel, device: torch.device) -> float:
    """What a frame with 8 objects takes at this machine's own rate of multiplication and bandwidth.

    A network's pass takes at least its multiplications, 2 a weight and token, and at least reading its weights once.
    """
    vision, language = model.llava.model.vision_tower, model.llava.model.language_model
    weights = [sum(p.numel() for p in part.parameters()) for part in (vision, language)]
    patches = model.patches_per_side**2 + 1
    branches = 8 * 38  # tokens of eight objects, about
    passes = [(weights[0], patches), (weights[1], model.prompter.prefix_length), (weights[1], branches)]
    per_s, bytes_per_s = _rates(model.dtype, device)
    size = torch.empty(0, dtype=model.dtype).element_size()
    return 1000 * sum(max(2 * count * tokens / per_s, count * size / bytes_per_s) for count, tokens in passes)


def _rates(dtype: torch.dtype, device: torch.device) -> tuple[float, float]:
    """(operations per second of a large multiplication of matrices, bytes per second of a large copy, read once)."""
    side = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    multiply_s = _timed(lambda: a @ b, device, 10)["p50_ms"] / 1000
    copy_s = _timed(lambda: a.clone(), device, 10)["p50_ms"] / 1000
    return 2 * side**3 / multiply_s, 2 * a.numel() * a.element_size() / copy_s


def llava_of(shapes: Shapes, device: torch.device) -> LoadedModel:
    """A LLaVA of random weights, with the tokenizer of the default model and CLIP's 336 pixels."""
    tokenizer = AutoTokenizer.from_pretrained(default_base())
    tokenizer.chat_template = None
    vision = CLIPVisionConfig(**shapes.vision, image_size=336, patch_size=14)
    text = LlamaConfig(**shapes.text, vocab_size=len(tokenizer))
    config = LlavaConfig(vision_config=vision, text_config=text)
    config.image_token_index = tokenizer.convert_tokens_to_ids("<image>")
    with torch.device("meta"):
        llava = LlavaForConditionalGeneration(config)
    llava = llava.to_empty(device=device).to(shapes.dtype) if device.type == "cpu" else _on_gpu(llava, shapes, device)
    torch.manual_seed(0)
    for name, weight in llava.named_parameters():
        weight.data.fill_(1.0) if "norm" in name and name.endswith("weight") else weight.data.normal_(0, 0.02)
    _set_buffers(llava)
    preprocessing = Preprocessing(336, "pad", CLIP_MEAN, CLIP_STD, Image.Resampling.BICUBIC)
    llava = llava.eval().requires_grad_(False)
    prompter = Prompter(tokenizer, config.image_token_index, 24 * 24)
    parts = Whole(llava)
    return LoadedModel(parts, lambda: prompter, preprocessing, 1, "random", AdapterSpec.of(parts, "random", 1))


def _on_gpu(llava: Any, shapes: Shapes, device: torch.device) -> Any:
    """In its type before it has memory: in float32 it would take twice the room."""
    return llava.to(shapes.dtype).to_empty(device=device)


def _set_buffers(llava: Any) -> None:
    """What is no weight and follows from the configuration: positions, and frequencies of the rotary embeddings."""
    for module in llava.modules():
        if hasattr(module, "position_ids") and isinstance(module.position_ids, torch.Tensor):
            count = module.position_ids.shape[-1]
            module.position_ids.copy_(torch.arange(count).expand_as(module.position_ids))
        if hasattr(module, "inv_freq") and hasattr(module, "config"):
            fresh = type(module)(module.config)
            for name, buffer in fresh.named_buffers():
                getattr(module, name).copy_(buffer)


if __name__ == "__main__":
    sys.exit(main())
