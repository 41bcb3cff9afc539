"""`proxqa export`: the vision encoder as a file for another runtime."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

from proxqa_core.cli import common
from proxqa_core.errors import BackendError

log = logging.getLogger(__name__)

RUNTIMES = ("onnx", "tensorrt", "openvino")
FLAVOURS = ("tensorrt", "tensorrt_rtx")
MAX_BATCH = 8


def add_commands(commands: common.SubParsers) -> None:
    """Add `export`."""
    parser = common.add_command(commands, "export", "write the vision encoder for ONNX, TensorRT or OpenVINO", False)
    parser.add_argument("--to", required=True, choices=RUNTIMES, help="the runtime")
    parser.add_argument(
        "--out", metavar="DIR", type=_new_folder, help="folder to write (tensorrt: default the cache of engines)"
    )
    parser.add_argument(
        "--max-batch", metavar="N", type=common.count, default=MAX_BATCH, help="most images at a time (default 8)"
    )
    parser.add_argument("--flavour", choices=FLAVOURS, help="which TensorRT (default: RTX where there is no GPU)")
    parser.add_argument(
        "--target", metavar="GPUS", help="for tensorrt_rtx: ampere+ (default), or sm75, sm86, sm86+sm89 …"
    )
    parser.add_argument("--model", default="default", help="'default' (bundled), a Hugging Face LLaVA id or a folder")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument(
        "--dtype",
        choices=common.DTYPES,
        help="type that the weights are loaded in; of an engine, the robot's (default: bfloat16 for tensorrt, as GPUs "
        "get it, else float32)",
    )
    parser.set_defaults(command=run_export)


def run_export(options: argparse.Namespace) -> None:
    """Write the vision encoder for another runtime."""
    from proxqa_core.backends.exporting import ExportRequest, export
    from proxqa_core.model.loading import NO_ADAPTER, load

    try:
        request = ExportRequest(options.to, options.out, options.max_batch, options.flavour, options.target)
    except BackendError as error:
        raise common.BadUsageError(str(error)) from error
    dtype = options.dtype or ("bfloat16" if options.to == "tensorrt" else "float32")
    with common.stdout_to_stderr():
        # the encoder is the same with every adapter
        model = load(options.model, NO_ADAPTER, options.device, dtype)
        log.info("exporting the vision encoder of %s", model.name)
        report = export(model, request)
    common.write_report(options, report, _text(report))


def _text(report: dict[str, Any]) -> str:
    """The report for people."""
    lines = [f"{report['folder']}: {', '.join(report['files'])}"]
    if report["runtime"] != "tensorrt":
        return "\n".join([*lines, f"least cosine with PyTorch's features: {report['cosine']:.6f}"])
    lines += [
        f"{report['flavour']} {report['version']} for {report['target']}, {report['precision']}, up to "
        f"{report['max_batch']} images; exported in {report['export_s']} s, built in {report['build_s']} s",
        f"least cosine with PyTorch's features: {report['onnx_cosine']:.6f} of the ONNX file; the engine: "
        + ("tried when it is loaded" if report["cosine"] is None else f"{report['cosine']:.6f}"),
    ]
    if report["fused_attention"] is not None:
        lines.append(f"fused attentions: {report['fused_attention']}")
    return "\n".join(lines)


def _new_folder(text: str) -> Path:
    """A folder to write: not one with other files in it."""
    path = Path(text)
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{path}: its folder {path.parent} does not exist; make it first")
    if path.exists() and not path.is_dir():
        raise argparse.ArgumentTypeError(f"{path}: is a file; expected a folder to write")
    if path.is_dir() and any(path.iterdir()) and not (path / "export.json").is_file():
        raise argparse.ArgumentTypeError(f"{path}: holds other files; expected a new or empty folder, or an export's")
    return path
