"""What is fuzzed: every reader of what comes from outside, on files that are made here.

Each function of `TARGETS` makes undamaged inputs in a folder and gives a function that damages one and uses it.
"""

from __future__ import annotations

import io
import json
import math
import random
import shutil
import struct
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

from proxqa_core.datasets.benchmarks import read_cv_bench
from proxqa_core.datasets.coco import CocoInstances
from proxqa_core.datasets.folder import LabelledFolder
from proxqa_core.datasets.gqa import GqaSceneGraphs
from proxqa_core.datasets.llava import read_conversations
from proxqa_core.datasets.visual_genome import VisualGenome
from proxqa_core.errors import BadImageError, ProxqaError
from proxqa_core.language.questions import understand
from proxqa_core.model import adapter as adapters
from proxqa_core.model.loading import NO_ADAPTER, load
from proxqa_core.rosbags.bag import Bag
from proxqa_core.rosbags.image_messages import depth_to_metres, image_to_rgb
from proxqa_core.types import MAX_NAME_LENGTH, MAX_OBJECTS, ObjectQuery
from proxqa_core.vision.image_file import read_image, read_raw
from proxqa_ros.common.parameters import BadParameterError, WrongTypeError, check_value, of_type
from proxqa_ros.governor import parameters as governor_parameters
from proxqa_ros.proximity import parameters as proximity_parameters
from proxqa_ros.replay import parameters as replay_parameters
from proxqa_training.checkpoints import load_checkpoint, save_checkpoint
from tests import made_bag
from tests.core.tiny_llava import save_adapter, save_llava
from tests.fuzz.mutations import damaged, damaged_json, damaged_text

Use = Callable[[random.Random], bool]
"""Damages an input and uses it; whether what came out is as of the undamaged one."""
LANGUAGE = Path(__file__).parents[1] / "core/language"


# -- bags -------------------------------------------------------------------------------------------------------------


def bags(place: Path) -> Use:
    """A file of a bag, or its metadata.yaml, in every storage and compression: all images and depths are decoded."""
    whole = [
        made_bag.write(place / f"{storage}-{compression}", made_bag.drive(3), storage, compression)
        for storage in ("sqlite3", "mcap")
        for compression in ("", "FILE", "MESSAGE")
    ]
    contents = {path: _images_of(path) for path in whole}

    def use(rng: random.Random) -> bool:
        source, copy = rng.choice(whole), place / "damaged"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(source, copy)
        file = rng.choice(sorted(copy.iterdir()))
        file.write_bytes(damaged(file.read_bytes(), rng))
        return _images_of(copy) == contents[source]

    return use


def _images_of(path: Path) -> list[bytes]:
    """The pixels of all images and depth images that can be used, in turn."""
    found = []
    with Bag(path) as bag:
        topics = [*bag.image_topics(), *bag.depth_topics()]
        for recorded in bag.messages(*topics):
            try:
                message = bag.decode(recorded)
                depth = recorded.topic in [t.name for t in bag.depth_topics()]
                found.append((depth_to_metres if depth else image_to_rgb)(message).tobytes())
            except BadImageError:
                found.append(b"")
    return found


# -- images -----------------------------------------------------------------------------------------------------------


def _encoded(kind: str, pixels: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def _picture() -> np.ndarray:
    smooth = np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8)
    return cv2.resize(smooth, (64, 48), interpolation=cv2.INTER_CUBIC)


def image_files(place: Path) -> Use:
    """A JPEG, PNG, TIFF, WebP, BMP or GIF, read as an image or as a depth map."""
    rgb = _picture()
    depth = np.random.default_rng(1).integers(0, 9000, (48, 64)).astype(np.uint16)
    files = {kind: _encoded(kind, rgb) for kind in ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF")}
    files |= {"progressive": _encoded("JPEG", rgb, progressive=True), "depth PNG": _encoded("PNG", depth)}

    def use(rng: random.Random) -> bool:
        kind = rng.choice(sorted(files))
        read = read_raw if kind == "depth PNG" else read_image
        file = place / "image"
        file.write_bytes(files[kind])
        before = read(file)
        file.write_bytes(damaged(files[kind], rng))
        return np.array_equal(before, read(file))

    return use


def image_messages(_: Path) -> Use:
    """CompressedImage of every kind, compressedDepth as PNG and RVL, and raw Images with fields exchanged."""
    rgb = _picture()
    depth = np.tile(np.arange(64, dtype=np.uint16) * 100, (48, 1))
    compressed = [(kind.lower(), _encoded(kind, rgb), image_to_rgb) for kind in ("JPEG", "PNG", "TIFF", "WEBP")]
    head = struct.pack("<iff", 0, 0.0, 0.0)
    compressed.append(("16UC1; compressedDepth png", head + _encoded("PNG", depth), depth_to_metres))
    compressed.append(("16UC1; compressedDepth rvl", head + _rvl_of_ramp(depth), depth_to_metres))
    encodings = ("rgb8", "bgra8", "mono16", "bayer_rggb8", "yuv422", "nv12", "16UC1", "32FC1", "8UC3", "", "jpeg")

    def use(rng: random.Random) -> bool:
        if rng.random() < 0.5:
            format_, data, decode = rng.choice(compressed)
            message: Any = SimpleNamespace(format=format_, data=data)
            before = decode(message)
            message.data = damaged(data, rng)
            if rng.random() < 0.2:
                message.format = rng.choice([f for f, *_ in compressed])
            return np.array_equal(before, decode(message), equal_nan=before.dtype.kind == "f")
        message = SimpleNamespace(
            encoding=rng.choice(encodings),
            height=rng.choice((0, 1, 2, 48, 2**31)),
            width=rng.choice((0, 1, 3, 64, 2**32 - 1)),
            step=rng.choice((0, 1, 64, 128, 192, 256, 2**32 - 1)),
            is_bigendian=rng.randrange(2),
            data=rng.randbytes(rng.choice((0, 1, 48 * 64, 48 * 64 * 3, 48 * 192, 4608))),
        )
        return bool((depth_to_metres if rng.random() < 0.3 else image_to_rgb)(message).size < 0)

    return use


def _rvl_of_ramp(depth: np.ndarray) -> bytes:
    """RVL of depths above 0: one run of zeros, of length 0, one of depths, and their differences."""
    nibbles: list[int] = []
    values = depth.ravel().astype(int) + 1
    steps = np.diff(values, prepend=0)
    for value in (0, len(values), *((2 * s if s >= 0 else -2 * s - 1) for s in steps)):
        while True:
            value, low = int(value) >> 3, int(value) & 7
            nibbles.append(low | (8 if value else 0))
            if not value:
                break
    nibbles += [0] * (-len(nibbles) % 8)
    words = ["".join(f"{n:x}" for n in nibbles[i : i + 8]) for i in range(0, len(nibbles), 8)]
    return struct.pack("<II", depth.shape[1], depth.shape[0]) + b"".join(struct.pack("<I", int(w, 16)) for w in words)


# -- models -----------------------------------------------------------------------------------------------------------


def models(place: Path) -> Use:
    """A file of a LLaVA folder: its weights, configuration, tokenizer or processor; the whole is loaded."""
    whole = save_llava(place / "llava")
    before = _weights(load(str(whole), NO_ADAPTER, device="cpu", dtype="float32").llava)
    files = sorted(p.name for p in whole.iterdir() if p.suffix in (".safetensors", ".json"))

    def use(rng: random.Random) -> bool:
        name = rng.choice([*files, *["model.safetensors"] * len(files)])
        file, content = whole / name, (whole / name).read_bytes()
        try:
            file.write_bytes(damaged_json(content, rng) if file.suffix == ".json" else damaged(content, rng))
            model = load(str(whole), NO_ADAPTER, device="cpu", dtype="float32")
            return _weights(model.llava) == before and bool(model.prompter.plain_ids(" chair"))
        finally:
            file.write_bytes(content)

    return use


def _weights(module: torch.nn.Module) -> int:
    return hash(b"".join(v.detach().float().numpy().tobytes() for v in module.state_dict().values()))


def adapter_folders(place: Path) -> Use:
    """A file of an adapter: LoRA, projector, grounding head, both descriptions."""
    base, whole = save_llava(place / "llava"), place / "adapter"
    save_adapter(base, whole)
    spec = load(str(base), NO_ADAPTER, device="cpu", dtype="float32").spec
    before = _tensors_of(adapters.read(whole, spec))
    files = sorted(p.name for p in whole.iterdir() if p.suffix in (".safetensors", ".json"))

    def use(rng: random.Random) -> bool:
        file = whole / rng.choice(files)
        content = file.read_bytes()
        try:
            file.write_bytes(damaged_json(content, rng) if file.suffix == ".json" else damaged(content, rng))
            adapters.check(whole, spec)
            return _tensors_of(adapters.read(whole, spec)) == before
        finally:
            file.write_bytes(content)

    return use


def _tensors_of(adapter: adapters.Adapter) -> int:
    tensors = [*adapter.projector.values(), *adapter.lora.weights.values()]
    return hash(b"".join(t.float().numpy().tobytes() for t in tensors))


def checkpoints(place: Path) -> Use:
    """A checkpoint of a training, with its checksum."""

    def optimizer(value: float) -> torch.optim.Optimizer:
        made = torch.optim.AdamW([torch.nn.Parameter(torch.full((5, 3), value))])
        made.param_groups[0]["params"][0].grad = torch.ones(5, 3)
        made.step()
        return made

    file = place / "checkpoint.safetensors"
    save_checkpoint(file, 7, optimizer(1.0))
    content = file.read_bytes()

    def use(rng: random.Random) -> bool:
        file.write_bytes(damaged(content, rng))
        resumed = optimizer(5.0)
        step = load_checkpoint(file, resumed)
        weights = resumed.param_groups[0]["params"][0]
        return step == 7 and bool(torch.equal(weights, optimizer(1.0).param_groups[0]["params"][0]))

    return use


# -- annotations ------------------------------------------------------------------------------------------------------


def annotations(place: Path) -> Use:
    """The JSON of a labelled folder, of COCO, Visual Genome, GQA, LLaVA conversations and CV-Bench."""
    things = [
        {"name": "chair", "box": [4, 4, 20, 20], "depth": 0.2, "depth_m": 1.5},
        {"name": "lamp", "box": [0, 0, 9, 9]},
    ]
    record = {"image": "a.png", "width": 64, "height": 48, "objects": things, "depth_map": "d.png"}
    coco_box = {"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 2, 30, 20], "area": 600, "iscrowd": 0}
    size = {"width": 64, "height": 48}
    box = {"x": 1, "y": 2, "w": 9, "h": 9}
    scene = {"7": {**size, "objects": {"1": {"name": "chair", **box, "attributes": ["red"], "relations": []}}}}
    talk = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A chair."}]
    choice = {
        "idx": 1,
        "task": "Depth",
        "choices": ["chair", "lamp"],
        "answer": "(A)",
        "filename": "a.png",
        "bbox": [[1, 2, 9, 9], [3, 4, 9, 9]],
    }
    readers: dict[str, tuple[Any, Callable[[Path], Any]]] = {
        "annotations.json": ([record], lambda p: LabelledFolder(p.parent).records),
        "coco.json": (
            {
                "images": [{"id": 1, "file_name": "a.jpg", **size}],
                "annotations": [coco_box],
                "categories": [{"id": 3, "name": "chair"}],
            },
            lambda p: list(CocoInstances(p, p.parent)),
        ),
        "objects.json": (
            [{"image_id": 1, "objects": [{"object_id": 1, "names": ["chair"], **box}]}],
            lambda p: list(VisualGenome(p, p.parent, p.parent / "image_data.json")),
        ),
        "gqa.json": (scene, lambda p: list(GqaSceneGraphs(p, p.parent))),
        "llava.json": ([{"id": "1", "image": "a.jpg", "conversations": talk}], lambda p: list(read_conversations(p))),
        "cv.jsonl": (choice, lambda p: list(read_cv_bench(p))),
    }
    (place / "image_data.json").write_text(json.dumps([{"image_id": 1, **size}]))
    wholes = {}
    for name, (raw, read) in readers.items():
        (place / name).write_text(json.dumps(raw))
        wholes[name] = repr(read(place / name))

    def use(rng: random.Random) -> bool:
        name = rng.choice(sorted(readers))
        raw, read = readers[name]
        (place / name).write_bytes(damaged_json(json.dumps(raw).encode(), rng))
        return repr(read(place / name)) == wholes[name]

    return use


# -- words ------------------------------------------------------------------------------------------------------------


def questions(_: Path) -> Use:
    """Questions of both tables with words exchanged, left out, doubled and spelled otherwise."""
    lines: list[str] = []
    for name in ("field_phrasings.json", "field_phrasings_2.json"):
        lines += [q["question"] for q in json.loads((LANGUAGE / name).read_text(encoding="utf-8"))["questions"]]

    def use(rng: random.Random) -> bool:
        text = rng.choice(lines)
        asked = damaged_text(text, rng)
        found = understand(asked)
        _check_names(found.names)
        try:
            before = understand(text)
        except ProxqaError:
            return False
        return (found.kind, found.names, found.yes_no) == (before.kind, before.names, before.yes_no)

    return use


def _check_names(names: Sequence[str]) -> None:
    """What is understood can be asked for: at most so many names, each a valid one, once."""
    assert len(names) <= MAX_OBJECTS and len({n.casefold() for n in names}) == len(names)
    for name in names:
        assert ObjectQuery(name).name == name and len(name) <= MAX_NAME_LENGTH


def parameters(_: Path) -> Use:
    """Parameters of all three nodes with values of any kind that YAML or another node can give."""
    specs = {**replay_parameters.SPECS, **governor_parameters.SPECS, **proximity_parameters.SPECS}
    texts = ("", "chair", "0: chair", "door: 2.0", "null", "x" * 999, "a\nb", "\ud83d", "../..", "-1", "nan")
    numbers = (0, 1, -1, 2**63 - 1, 0.0, 0.5, -0.0, 1e308, math.nan, math.inf, True)

    def value(rng: random.Random) -> Any:
        kind = rng.randrange(4)
        if kind == 0:
            return rng.choice(texts)
        if kind == 1:
            return rng.choice(numbers)
        if kind == 2:
            return rng.choice((None, [], b"\0", array("d", [1.0]), {}))
        return [rng.choice(rng.choice((texts, numbers))) for _ in range(rng.choice((1, 2, 6, 80)))]

    def use(rng: random.Random) -> bool:
        name = rng.choice(sorted(specs))
        try:
            found = of_type(name, specs[name].default, value(rng))
        except WrongTypeError as error:
            raise BadParameterError(str(error)) from error
        check_value(name, specs[name], found)
        return bool(type(found) is type(specs[name].default))

    return use


TARGETS: dict[str, Callable[[Path], Use]] = {
    "bags": bags,
    "image files": image_files,
    "image messages": image_messages,
    "model folders": models,
    "adapters": adapter_folders,
    "training checkpoints": checkpoints,
    "annotations": annotations,
    "questions": questions,
    "parameters": parameters,
}
