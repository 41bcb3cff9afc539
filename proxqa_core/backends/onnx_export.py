"""A model's vision encoder as an ONNX file, and whether that file computes what PyTorch does.

Promises: one graph, pixels → features before the projector (so that it serves every adapter), in float16, of any batch
up to a limit, with nothing left in it that follows from the image size alone; checked by ONNX Runtime where that is
installed. Knows nothing of who runs it.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from proxqa_core.backends.torch_backend import VisionFeatures
from proxqa_core.errors import BackendError, reason_of
from proxqa_core.model.loading import LoadedModel
from proxqa_core.vision.image_file import read_image

log = logging.getLogger(__name__)

OPSET = 20
"""From 23 on attention is one operator, which TensorRT-RTX refuses in float32."""
EXPORT_VERSION = "1"
"""Changes whenever the graph is made another way."""
INPUT, OUTPUT = "pixels", "features"
MODEL_FILE = "vision.onnx"
MIN_COSINE = 0.999
"""Least cosine, over the tokens of an image, of what another runtime computes with what PyTorch does in float32."""
INSTALL = "pip install onnx onnxscript onnxruntime"
PICTURES = Path(__file__).parents[1] / "assets" / "pictures"
"""Rendered rooms that an encoder is tried on; see NOTICE."""


def export_onnx(model: LoadedModel, folder: Path, max_batch: int) -> Path:
    """Write the vision encoder as `vision.onnx`, its weights beside it.

    Args:
        model: Whose encoder; it is not changed.
        folder: To write to; there.
        max_batch: Most images at a time.

    Returns:
        The file. Pixels float16 [batch, 3, size, size], normalised → features float16 [batch, tokens, features].

    Raises:
        BackendError: A package is missing, or the encoder cannot be exported.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise BackendError(f"an export to ONNX needs {error.name}; run: {INSTALL}") from error
    size = model.preprocessing.size
    encoder = _ready(VisionFeatures(model.llava), size)
    example = torch.zeros(2, 3, size, size, dtype=torch.float16)
    batch = torch.export.Dim("batch", min=1, max=max(2, max_batch))
    path = folder / MODEL_FILE
    try:
        with _quiet():
            torch.onnx.export(
                encoder,
                (example,),
                path,
                dynamo=True,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: batch},),
                external_data=True,
                verbose=False,
            )
    except Exception as error:  # the exporter raises nearly anything about what it does not know
        raise BackendError(f"the vision encoder cannot be exported to ONNX: {reason_of(error)[:200]}") from error
    return path


def _ready(encoder: VisionFeatures, size: int) -> torch.nn.Module:
    """A copy on the CPU in float16, whose position embeddings are those of the image size."""
    encoder = copy.deepcopy(encoder).cpu().eval()
    for module in encoder.modules():
        if hasattr(module, "interpolate_pos_encoding") and hasattr(module, "position_embeddings"):
            _fold_positions(module, size)
    return encoder.half()


def _fold_positions(embeddings: Any, size: int) -> None:
    """Interpolate DINOv2's position embeddings once; a cubic Resize would stay in the graph, run for every image."""
    side = size // int(embeddings.patch_size)
    channels = embeddings.position_embeddings.shape[-1]
    with torch.no_grad():
        table = embeddings.float().interpolate_pos_encoding(torch.zeros(1, side * side + 1, channels), size, size)
    embeddings.position_embeddings = torch.nn.Parameter(table, requires_grad=False)
    # "always interpolates when tracing", it says, also from a table that has the size already
    embeddings.interpolate_pos_encoding = functools.partial(_positions, embeddings)


def _positions(embeddings: Any, *_: Any) -> torch.Tensor:
    table: torch.Tensor = embeddings.position_embeddings
    return table


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's progress and its notes about packages that are not needed here."""
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        exporter.setLevel(level)


# --- what it computes ------------------------------------------------------------------------------------------------


def check_onnx(path: Path, model: LoadedModel, images: Sequence[NDArray[np.uint8]] | None = None) -> float:
    """Run an exported encoder with ONNX Runtime on the CPU and compare it with PyTorch in float32.

    Args:
        path: The .onnx file.
        model: What it was exported from.
        images: To try it on, uint8 RGB; None = the bundled pictures.

    Returns:
        The least cosine of a token.

    Raises:
        BackendError: ONNX Runtime is missing or cannot run it, or the cosine is below MIN_COSINE.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise BackendError(f"the check of an ONNX file needs onnxruntime; run: {INSTALL}") from error
    pixels = model.preprocessing.pixels(pictures() if images is None else images)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        found = [session.run([OUTPUT], {INPUT: p[None].numpy().astype(np.float16)})[0] for p in pixels]
    except Exception as error:  # its errors have no common base
        raise BackendError(f"ONNX Runtime cannot run {str(path)!r}: {reason_of(error)[:200]}") from error
    return checked_cosine("the ONNX file", torch.from_numpy(np.concatenate(found)), reference(model, pixels))


@torch.inference_mode()
def reference(model: LoadedModel, pixels: torch.Tensor) -> torch.Tensor:
    """What PyTorch computes in float32, whatever the type of the model: [n, tokens, features], float32 on the CPU.

    Args:
        model: Whose vision encoder.
        pixels: float32 [n, 3, size, size], normalised.
    """
    encoder = copy.deepcopy(VisionFeatures(model.llava)).eval().float()
    device = encoder.tower.device
    return torch.cat([encoder(p[None].to(device)).cpu() for p in pixels])


def least_cosine(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """The least cosine of two encoders' features, token by token, both [n, tokens, features].

    NaN where shapes differ or a number is not finite.
    """
    if ours.shape != theirs.shape or not bool(torch.isfinite(ours).all()):
        return float("nan")
    return float(torch.nn.functional.cosine_similarity(ours.double(), theirs.double(), dim=-1).min())


def checked_cosine(what: str, ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """`least_cosine`, where it is enough.

    Args:
        what: Whose features they are, the beginning of the message.
        ours: Its features.
        theirs: PyTorch's.

    Raises:
        BackendError: It is below MIN_COSINE.
    """
    cosine = least_cosine(ours, theirs)
    if not cosine >= MIN_COSINE:  # NaN too
        raise BackendError(f"{what}'s features have cosine {cosine:.5f} with PyTorch's; expected {MIN_COSINE}")
    return cosine


def pictures() -> list[NDArray[np.uint8]]:
    """The bundled pictures, uint8 RGB, that encoders are tried on."""
    return [read_image(path) for path in sorted(PICTURES.glob("*.jpg"))]
