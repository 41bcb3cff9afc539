"""The two networks run by OpenVINO on a CPU.

Promises: what `backends.protocols` asks for, for models on the CPU; a network whose graph does not compute what PyTorch
computes is refused. The vision tower's graph is traced once and kept in the cache; the language model's is written down
from the weights in memory in about a second, so that another adapter is another graph, not another file. Projector,
embeddings and output layer stay PyTorch's: they are small.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.metadata
import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from proxqa_core.backends import reference
from proxqa_core.backends.config import AUTO, BackendConfig
from proxqa_core.backends.ends import Ends
from proxqa_core.backends.graph_cache import cached, digest, is_kept, key_of
from proxqa_core.backends.openvino_import import import_openvino
from proxqa_core.backends.protocols import LanguageModel, Networks, Progress
from proxqa_core.backends.torch_backend import VisionFeatures
from proxqa_core.backends.torch_prefix import TorchPrefix
from proxqa_core.errors import BackendError, WriteError, reason_of
from proxqa_core.llm.branching import Branch, Row, Tree, in_passes, lay_out
from proxqa_core.memory import MB, available
from proxqa_core.model.loading import LoadedModel
from proxqa_core.model.parts import LANGUAGE_MODEL_PREFIX, VISION_PREFIX, Parts, Shapes
from proxqa_core.model.stored_default import quiet

log = logging.getLogger(__name__)

GRAPH_VERSION = "2"
"""Changes whenever the vision tower's graph is made another way."""
MIN_COSINE, MIN_COSINE_INT8 = 0.999, 0.98
"""Least cosine of what a graph computes with what PyTorch does."""
BLOCKED = -1e9
"""Added to attention's logits where a token may not attend to another."""
MAX_AUTO_COPY_MB = 700
"""Largest copy of the weights that is made where nobody asked for OpenVINO; the default model's fits. Loading a model
in bfloat16 is to cost about what its file has."""
VISION, GRAPH_FILE = "openvino", "vision.xml"
"""The kind of entry of the cache that holds a vision tower's graph, and the file in it."""
INT8_ROW_GROUP = 32
"""Channels of a token that share a scale where 8 bits are multiplied: with 64 a depth of 222 moved by 0.036."""
BLOCK_TOKENS = MAX_PADDING = 8
"""What the tokens of a pass are made a multiple of, and how many are added for that at most."""
Floats = NDArray[np.float32]


def openvino_networks(model: LoadedModel, config: BackendConfig, on_progress: Progress) -> Networks:
    """Both networks by OpenVINO; see `proxqa_core.backends.choice.Maker`."""
    runtime = Runtime.of(model, config)
    if config.name == AUTO:
        _check_size(model, runtime)
    if config.prepared:
        _check_prepared(model, runtime)
    pool = ThreadPoolExecutor(1)  # both take a second, mostly on one core
    ready = [(model, pool.submit(OpenVinoLanguageModel, model, runtime))]
    pool.shutdown(wait=False)
    encoder = OpenVinoVisionEncoder(model, runtime, on_progress)

    def make_language_model(other: LoadedModel) -> LanguageModel[Any]:
        first, made = ready.pop() if ready else (None, None)  # kept for one call only: it is memory
        return made.result() if made is not None and other is first else OpenVinoLanguageModel(other, runtime)

    return Networks("openvino", encoder, make_language_model)


@dataclass(frozen=True, eq=False)
class Runtime:
    """OpenVINO as it is used here.

    Attributes:
        core: OpenVINO itself.
        version: Of OpenVINO, whole.
        precision: What it computes in: 'f32' or 'bf16'.
        int8: Whether the language model's weights are in 8 bits.
    """

    core: Any
    version: str
    precision: str
    int8: bool

    @classmethod
    def of(cls, model: LoadedModel, config: BackendConfig) -> Runtime:
        """The runtime for a model; BackendError where there is none."""
        if model.device.type != "cpu":
            raise BackendError(f"openvino runs on CPUs only; the model is on {model.device}")
        openvino = import_openvino()
        core = openvino.Core()
        bf16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") and model.dtype == torch.bfloat16
        return cls(core, openvino.__version__, "bf16" if bf16 else "f32", config.int8)

    def compile(self, graph: Any, int8: bool = False) -> Any:
        """An inference request of a graph."""
        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            # two robots' processes pinned to the same cores would wait for each other
            "ENABLE_CPU_PINNING": False,
            # said, not left to OpenVINO, which takes bf16 wherever the processor has it
            "INFERENCE_PRECISION_HINT": self.precision,
        }
        if int8:
            settings["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = INT8_ROW_GROUP
        return self.core.compile_model(graph, "CPU", settings).create_infer_request()

    def describe(self, int8: bool = False) -> str:
        """What runs a network, for people."""
        kind = {"f32": "float32", "bf16": "bfloat16"}[self.precision]
        return f"openvino {self.version.split('-')[0]}, {kind}" + (", weights int8" if int8 else "")


class OpenVinoVisionEncoder:
    """The vision tower.

    Args:
        model: Whose tower it is.
        runtime: Runs it.
        on_progress: Called with one line before the graph is made.

    Raises:
        BackendError: Its graph cannot be made, or computes something else.
    """

    def __init__(self, model: LoadedModel, runtime: Runtime, on_progress: Progress):
        self._size = model.preprocessing.size
        self._runtime, self._on_progress = runtime, on_progress
        graph, theirs = self._graph(model.parts)
        self._request = runtime.compile(graph)
        self.description = runtime.describe()
        _check("vision tower", self.encode(_picture(self._size)), theirs, MIN_COSINE)

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """See `VisionEncoder.encode`."""
        outputs = self._request.infer([np.ascontiguousarray(pixels.numpy(), np.float32)])
        return torch.from_numpy(np.array(outputs[0]))

    def _graph(self, parts: Parts) -> tuple[Any, torch.Tensor]:
        """The graph and what PyTorch computes of a picture, from the cache where they are there."""
        made: list[tuple[Any, torch.Tensor]] = []

        def make(folder: Path) -> None:
            self._on_progress("making the vision tower's OpenVINO graph once, up to a minute")
            made.append(self._made(parts))
            graph, features = made[0]
            reference.save({"features": features}, folder)
            try:
                import_openvino().save_model(graph, folder / GRAPH_FILE, compress_to_fp16=False)
            except RuntimeError as error:  # of a full disk, too
                raise WriteError(f"the vision tower's graph cannot be written: {reason_of(error)}") from error

        folder = cached(VISION, _vision_key(parts, self._runtime, self._size), make)
        if folder is not None and not made:
            try:
                kept = reference.read(folder)
                if kept is not None:
                    return self._runtime.core.read_model(folder / GRAPH_FILE), kept["features"]
            except (RuntimeError, KeyError) as error:
                log.warning("the vision tower's graph in %s cannot be read: %s", folder, reason_of(error))
        return made[0] if made else self._made(parts)

    @torch.inference_mode()
    def _made(self, parts: Parts) -> tuple[Any, torch.Tensor]:
        from proxqa_core.backends.openvino_graphs import vision_graph

        # in float32, whatever the model's type: a graph of bfloat16 weights would keep their rounding everywhere
        tower = VisionFeatures(parts.llava(keep=False))
        tower = copy.deepcopy(tower).float() if tower.dtype != torch.float32 else tower
        with _without_warnings():  # tracing warns of every size that is the same for all images
            return vision_graph(tower, self._size), tower(_picture(self._size)).contiguous()


def _vision_key(parts: Parts, runtime: Runtime, size: int) -> str:
    """What a vision tower's graph follows from."""
    facts = [*versions(runtime), GRAPH_VERSION, str(size)]
    if parts.tower_identity is not None:
        return key_of([*facts, parts.tower_identity])
    tower = VisionFeatures(parts.llava())
    return digest(tower, [*facts, str(tower.config)])


def _picture(size: int) -> torch.Tensor:
    """Pixels [1, 3, size, size] that a vision tower is tried out on."""
    along = torch.linspace(-1.5, 1.5, size)
    across, down = along.expand(size, -1), along[:, None].expand(-1, size)
    return torch.stack([across, down, across * down])[None]


@dataclass(frozen=True, eq=False)
class OpenVinoPrefix:
    """Keys and values of a prefix, never changed.

    Attributes:
        keys: [layers, heads, length, head size], contiguous.
        values: The same.
    """

    keys: Floats
    values: Floats

    @property
    def length(self) -> int:
        """Tokens in the prefix."""
        return self.keys.shape[2]

    def first(self, length: int) -> OpenVinoPrefix:
        """Its first tokens alone."""
        return OpenVinoPrefix(*(np.ascontiguousarray(part[:, :, :length]) for part in (self.keys, self.values)))

    def as_torch(self, dtype: torch.dtype) -> TorchPrefix:
        """The same for PyTorch, where it answers in OpenVINO's place."""
        parts = (torch.from_numpy(part).to(dtype)[:, None] for part in (self.keys, self.values))
        return TorchPrefix(tuple(zip(*(part.unbind(0) for part in parts), strict=True)), self.length)


class OpenVinoLanguageModel(Ends):
    """The language model's layers by OpenVINO, the rest by PyTorch.

    Args:
        model: The loaded model, adapter merged.
        runtime: Runs it.

    Raises:
        BackendError: It is of another architecture, does not fit, or its graph computes something else.
    """

    def __init__(self, model: LoadedModel, runtime: Runtime):
        super().__init__(model.parts)
        from proxqa_core.backends.openvino_graphs import LanguageShape, language_graph

        parts, config = model.parts, model.parts.config.text_config
        self._shape = LanguageShape.of(config)
        _check_memory(parts, runtime)
        graph = language_graph(
            config, lambda name: parts.weight(LANGUAGE_MODEL_PREFIX + name), runtime.precision == "bf16", runtime.int8
        )
        self._request = runtime.compile(graph, runtime.int8)
        self.description = runtime.describe(runtime.int8)
        known = reference.language_reference(parts, versions(runtime))
        self._angles = known.angles
        least = MIN_COSINE_INT8 if runtime.int8 else MIN_COSINE
        _check("language model", self._tried(reference.checked_rows(parts)), known.hidden, least)

    def run_prefixes(self, branches: Sequence[Branch]) -> list[Any]:
        """See `LanguageModel.run_prefixes`."""
        return in_passes(branches, self._prefixes_of_pass)

    def run_branches(self, branches: Sequence[Branch]) -> list[torch.Tensor]:
        """See `LanguageModel.run_branches`."""
        return in_passes(branches, self._hidden_of_pass)

    def run_trees(self, trees: Sequence[Tree]) -> list[tuple[Any, list[torch.Tensor]]]:
        """See `LanguageModel.run_trees`."""
        return in_passes(trees, self._trees_of_pass)

    def _hidden_of_pass(self, branches: list[Branch]) -> list[torch.Tensor]:
        hidden = torch.from_numpy(np.array(self._run_pass(branches)[0]))
        return [hidden[row, : branch.size] for row, branch in enumerate(branches)]

    def _prefixes_of_pass(self, branches: list[Branch]) -> list[OpenVinoPrefix]:
        _, *own = self._run_pass(branches)
        return [_extended(branch, own, row) for row, branch in enumerate(branches)]

    def _trees_of_pass(self, trees: list[Tree]) -> list[tuple[OpenVinoPrefix, list[torch.Tensor]]]:
        hidden, *own = self._run_pass(trees)
        states = torch.from_numpy(np.array(hidden))
        return [(_extended(tree.trunk, own, row), tree.split(states[row])) for row, tree in enumerate(trees)]

    @torch.inference_mode()
    def _run_pass(self, asked: Sequence[Row]) -> list[Floats]:
        """Rows side by side → hidden states, keys and values, as `language_graph` gives them; read at once."""
        # 1. Rows [rows, longest, hidden], padded; where each stands, and what it attends to.
        rows = torch.nn.utils.rnn.pad_sequence([r.rows().float() for r in asked], batch_first=True)
        longest = divisible(len(asked), rows.shape[1])
        rows = torch.nn.functional.pad(rows, (0, 0, 0, longest - rows.shape[1]))
        lengths = [0 if r.after is None else r.after.length for r in asked]
        layout = lay_out(asked, lengths, longest)
        mask = np.where(layout.allowed, np.float32(0), np.float32(BLOCKED))[:, None]
        cos, sin = self._angles(torch.from_numpy(layout.position))
        # 2. The prefixes, each once, and which of them each row continues.
        prefixes = list({id(r.after): r.after for r in asked}.values())
        which = {id(p): n for n, p in enumerate(prefixes)}
        index = np.array([which[id(r.after)] for r in asked], np.int64)
        keys, values = (self._joined(prefixes, part, max(lengths)) for part in ("keys", "values"))
        # 3. One pass.
        angles = (part.numpy()[:, :, None] for part in (cos, sin))
        outputs = self._request.infer([rows.numpy(), *angles, mask, index, keys, values], share_inputs=True)
        return [outputs[n] for n in range(3)]

    def _joined(self, prefixes: Sequence[OpenVinoPrefix | None], part: str, longest: int) -> Floats:
        """Keys or values of several prefixes, [layers, prefixes, heads, longest, head size], padded at their ends."""
        if len(prefixes) == 1 and prefixes[0] is not None:
            one: Floats = getattr(prefixes[0], part)[:, None]
            return one
        s = self._shape
        joint = np.zeros((s.layers, len(prefixes), s.kv_heads, longest, s.head_size), np.float32)
        for n, prefix in enumerate(prefixes):
            if prefix is not None:
                joint[:, n, :, : prefix.length] = getattr(prefix, part)
        return joint

    @torch.inference_mode()
    def _tried(self, rows: torch.Tensor) -> torch.Tensor:
        """What it computes of a few tokens [n, hidden], half of them behind a prefix: states of the second half."""
        half = len(rows) // 2
        (prefix,) = self.run_prefixes([Branch(None, rows[:half])])
        (hidden,) = self.run_branches([Branch(prefix, rows[half:])])
        return hidden


def versions(runtime: Runtime) -> list[str]:
    """Of all that graphs and references are made by."""
    return [runtime.version, torch.__version__, importlib.metadata.version("transformers")]


def divisible(rows: int, longest: int) -> int:
    """How long rows that are this long are to be, so that a matrix of all their tokens is quickly multiplied.

    OpenVINO cuts it into equal blocks: 158 = 2 · 79 tokens take a tenth longer than 160. At most MAX_PADDING tokens are
    added in all.
    """
    for more in range(BLOCK_TOKENS):
        if rows * more <= MAX_PADDING and rows * (longest + more) % BLOCK_TOKENS == 0:
            return longest + more
    return longest


def _extended(branch: Branch, own: Sequence[Floats], row: int) -> OpenVinoPrefix:
    """The prefix that ends with a branch, with which this row of a pass began; in memory of its own."""
    parts = [part[:, row, :, : branch.tokens] for part in own]
    if branch.after is not None:
        before = (branch.after.keys, branch.after.values)
        parts = [np.concatenate(both, axis=2) for both in zip(before, parts, strict=True)]
    return OpenVinoPrefix(*(np.array(part) for part in parts))


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Python's warnings and those that transformers logs are left out."""
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _check(what: str, ours: torch.Tensor, theirs: torch.Tensor, least: float) -> None:
    """Raise BackendError where a graph does not compute what PyTorch does."""
    cosine = torch.nn.functional.cosine_similarity(ours.double(), theirs.double(), dim=-1).min().item()
    if not cosine >= least:  # NaN too
        raise BackendError(f"the {what}'s graph computes something else: cosine {cosine:.4f}, expected {least} or more")


def _bytes_per_weight(runtime: Runtime) -> int:
    """What a weight of the language model takes in OpenVINO's copy."""
    return 1 if runtime.int8 else 2 if runtime.precision == "bf16" else 4


def _check_prepared(model: LoadedModel, runtime: Runtime) -> None:
    """Raise BackendError where something would be made that is kept for the next start."""
    parts = model.parts
    kept = is_kept(VISION, _vision_key(parts, runtime, model.preprocessing.size))
    if parts.identity is not None:
        kept &= is_kept(reference.LANGUAGE, reference.language_key(parts.identity, versions(runtime)))
    if not kept:
        raise BackendError("its graphs were not made before")


def _check_size(model: LoadedModel, runtime: Runtime) -> None:
    """Raise BackendError where OpenVINO's copy of the weights is too large for being taken unasked."""
    shapes = model.parts.shapes()
    copy = 4 * _count(shapes, VISION_PREFIX) + _bytes_per_weight(runtime) * _count(shapes, LANGUAGE_MODEL_PREFIX)
    if copy > MAX_AUTO_COPY_MB * MB:
        raise BackendError(
            f"its copy of the weights takes {copy / MB:.0f} MB; at most {MAX_AUTO_COPY_MB} are taken unasked: "
            "backend openvino asks for it"
        )


def _check_memory(parts: Parts, runtime: Runtime) -> None:
    """Raise BackendError where a second copy of the weights does not fit into half of what is available."""
    needed = _bytes_per_weight(runtime) * _count(parts.shapes(), LANGUAGE_MODEL_PREFIX)
    free = available()
    if free is not None and needed > free / 2:
        raise BackendError(f"its copy of the weights takes {needed / MB:.0f} MB, {free / MB:.0f} MB are available")


def _count(shapes: Shapes, prefix: str) -> int:
    """How many weights there are in the parameters whose names begin so."""
    return sum(math.prod(shape) for name, shape in shapes.items() if name.startswith(prefix))
