"""`proxqa data build`: a data set of images with boxes, and a source of depth, become Proximity-110K.

Promises: deterministic by seed, whoever runs it (a local pool or Ray) and however often it is stopped: records are
labelled in shards, a shard is a file that is written whole or not at all, and the result is put together from the
shards in order. Images that hold the same bytes are labelled once. Images go to train or val whole. A bad image is
counted and named. Neither the records' file nor the result is ever in memory as a whole.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from proxqa_core.datasets.depth_source import DepthSource
from proxqa_core.datasets.folder import Record
from proxqa_core.datasets.llava import read_conversations, write_turns
from proxqa_core.datasets.reading import ReadReport
from proxqa_core.errors import ProxqaError
from proxqa_core.files import atomic_write, write_text
from proxqa_training.proximity110k.labelling import Labeller, LabellingConfig, pack

SHARDS, RECIPE = "shards", "recipe.json"
Row = dict[str, Any]
LabelAll = Callable[[Iterator[list[Row]], Callable[[], Labeller]], Iterator[list[str]]]
"""Labels chunks of packed records: the lines of each chunk, in order."""


class BadBuildError(ProxqaError, ValueError):
    """The data set cannot be built so; the message says what came and what was expected."""


@dataclass(frozen=True)
class BuildConfig:
    """How a data set is built.

    Attributes:
        shard_size: Records of a shard: what is lost at most when the process is killed.
        val_fraction: Share of the images that go to validation, by a hash of their bytes.
        mix: LLaVA instruction file to mix in, None = none. mix_share: Its share of the training samples, in [0, 1).
        workers: Processes of the local pool.
        limit: Only the first images.

    Raises:
        BadBuildError: A number is out of range.
    """

    shard_size: int = 256
    val_fraction: float = 0.02
    mix: Path | None = None
    mix_share: float = 0.5
    workers: int = 1
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.shard_size < 1 or self.workers < 1:
            raise BadBuildError(f"shard_size is {self.shard_size}, workers {self.workers}; expected at least 1 of each")
        if not 0 <= self.val_fraction < 1:
            raise BadBuildError(f"val_fraction is {self.val_fraction}; expected a share in [0, 1)")
        if self.mix is not None and not 0 < self.mix_share < 1:
            raise BadBuildError(f"mix_share is {self.mix_share}; expected a share above 0 and below 1")


@dataclass
class BuildReport:
    """What was built. images: with samples, by split; samples, questions: by stage; left_out: images, by reason."""

    images: Counter[str]
    samples: Counter[str]
    questions: Counter[str]
    kinds: Counter[str]
    left_out: ReadReport
    mixed_in: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "images": dict(self.images),
            "samples": dict(self.samples),
            "questions": dict(self.questions),
            "questions_per_image": sum(self.questions.values()) / max(1, sum(self.images.values())),
            "kinds": dict(self.kinds),
            "mixed_in": self.mixed_in,
            "left_out": dict(self.left_out.counts),
            "left_out_examples": self.left_out.examples,
        }


def build(
    records: Iterable[Record],
    make_depth: Callable[[], DepthSource],
    out: Path,
    labelling: LabellingConfig,
    config: BuildConfig,
    label_all: LabelAll | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> BuildReport:
    """Label all records and write ``OUT/train.json``, ``OUT/val.json`` and ``OUT/report.json``.

    Args:
        records: Of any reader, in an order of their own that does not change.
        make_depth: Makes the source of depth, in every process; must be picklable where there are several.
        out: Folder of the result and of the shards; the same call on it goes on where an earlier one stopped.
        label_all: Who labels; None = a local pool of config.workers processes.
        on_progress: Told how many records are done.

    Raises:
        BadBuildError: The folder holds shards of another recipe.
        OSError: The folder cannot be written to.
    """
    shards = out / SHARDS
    shards.mkdir(parents=True, exist_ok=True)
    _check_recipe(out, labelling, config)
    label_all = label_all or local_pool(config.workers)

    make_labeller = functools.partial(Labeller, make_depth, labelling)  # picklable, unlike a function in here
    chunks = _chunks(records, config)
    for number, chunk, lines in _labelled(chunks, shards, label_all, make_labeller):
        rows = [json.dumps({"image": r["image"], "digest": r["digest"], **json.loads(line)}, ensure_ascii=False)
                for r, line in zip(chunk, lines, strict=True)]  # fmt: skip
        write_text(shards / shard_name(number), "".join(row + "\n" for row in rows))
        if on_progress is not None:
            on_progress(len(chunk))
    report = put_together(out, config, labelling.seed)
    write_text(out / "report.json", json.dumps(report.as_dict(), indent=1, ensure_ascii=False) + "\n")
    return report


def shard_name(number: int) -> str:
    """The file name of a shard."""
    return f"{number:06}.jsonl"


def _check_recipe(out: Path, labelling: LabellingConfig, config: BuildConfig) -> None:
    """Shards of one recipe only: labelling, and how records are cut into shards."""
    recipe = json.dumps({**asdict(labelling), "shard_size": config.shard_size, "limit": config.limit}, sort_keys=True)
    path = out / RECIPE
    if path.exists() and path.read_text(encoding="utf-8") != recipe:
        raise BadBuildError(f"{out}: holds shards of another recipe ({RECIPE}); use another folder, or delete this one")
    write_text(path, recipe)


def _chunks(records: Iterable[Record], config: BuildConfig) -> Iterator[list[Row]]:
    """Packed records with the digest of their images' bytes, a shard at a time."""
    rows = ({**pack(r), "digest": digest_of(r.folder / r.image)} for r in islice(records, config.limit))
    while chunk := list(islice(rows, config.shard_size)):
        yield chunk


def digest_of(path: Path) -> str:
    """What a file's bytes are known by; '' where it cannot be read, which labelling will say."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:32]
    except OSError:
        return ""


def _labelled(
    chunks: Iterator[list[Row]], shards: Path, label_all: LabelAll, make_labeller: Callable[[], Labeller]
) -> Iterator[tuple[int, list[Row], list[str]]]:
    """(number, chunk, lines) of the shards that are not there yet."""
    waiting: list[tuple[int, list[Row]]] = []

    def left() -> Iterator[list[Row]]:
        for number, chunk in enumerate(chunks):
            if not (shards / shard_name(number)).exists():
                waiting.append((number, chunk))
                yield chunk

    for lines in label_all(left(), make_labeller):
        number, chunk = waiting.pop(0)
        yield number, chunk, lines


# -------------------------------------------------------------------- who labels
def local_pool(workers: int) -> LabelAll:
    """A pool of processes on this machine; one worker is this process itself."""

    def label_all(chunks: Iterator[list[Row]], make_labeller: Callable[[], Labeller]) -> Iterator[list[str]]:
        if workers == 1:
            labeller = make_labeller()
            for chunk in chunks:
                yield labeller(columns(chunk))["lines"]
            return
        context = multiprocessing.get_context("spawn")  # torch and OpenCV do not survive a fork
        with context.Pool(workers, _start, (make_labeller,)) as pool:
            under_way: list[Any] = []
            for chunk in chunks:  # not imap: it would read all records ahead
                under_way.append(pool.apply_async(_work, (chunk,)))
                if len(under_way) >= 2 * workers:
                    yield under_way.pop(0).get()
            for result in under_way:
                yield result.get()

    return label_all


def columns(chunk: Sequence[Row]) -> dict[str, list[Any]]:
    """Rows as columns."""
    return {key: [row[key] for row in chunk] for key in chunk[0]} if chunk else {}


_labeller: Labeller | None = None
"""Of a process of the pool."""


def _start(make_labeller: Callable[[], Labeller]) -> None:
    global _labeller
    _labeller = make_labeller()


def _work(chunk: list[Row]) -> list[str]:
    assert _labeller is not None
    return _labeller(columns(chunk))["lines"]


# -------------------------------------------------------------------- putting together
def put_together(out: Path, config: BuildConfig, seed: int) -> BuildReport:
    """The shards, in order, as ``train.json`` and ``val.json``; what is mixed in is spread evenly over train."""
    report = BuildReport(Counter(), Counter(), Counter(), Counter(), ReadReport())
    seen: set[str] = set()
    extra = _mixed(config, report)
    with ExitStack() as stack:
        files = {split: stack.enter_context(_json_list(out / f"{split}.json")) for split in ("train", "val")}
        owed = 0.0
        for row in _rows(out / SHARDS):
            if row["problem"] or row["digest"] in seen:
                report.left_out.add(row["problem"] or "the same image again", row["image"])
                continue
            seen.add(row["digest"])
            split = split_of(row["digest"], config.val_fraction)
            report.images[split] += 1
            for sample in row["samples"]:
                files[split].add(sample)
                report.samples[sample["stage"]] += 1
                report.questions[sample["stage"]] += len(sample["kinds"])
                report.kinds.update(sample["kinds"])
                owed += config.mix_share / (1 - config.mix_share) if split == "train" and extra is not None else 0.0
            while owed >= 1 and extra is not None and (other := next(extra, None)) is not None:
                files["train"].add(other)
                report.mixed_in += 1
                owed -= 1
    return report


def split_of(digest: str, val_fraction: float) -> str:
    """Train or val, by the image's bytes alone: the same image is always on the same side."""
    return "val" if int(digest[:8] or "0", 16) / 0xFFFFFFFF < val_fraction else "train"


def _rows(shards: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(shards.glob("*.jsonl")):
        with path.open(encoding="utf-8") as file:
            for line in file:
                yield json.loads(line)


def _mixed(config: BuildConfig, report: BuildReport) -> Iterator[dict[str, Any]] | None:
    """Samples of the file to mix in, in its order, with `stage` mixed."""
    if config.mix is None:
        return None
    return (
        {
            "id": c.sample_id,
            **({"image": c.images[0] if len(c.images) == 1 else list(c.images)} if c.images else {}),
            "stage": "mixed",
            "conversations": write_turns(c.turns),
        }
        for c in read_conversations(config.mix, report.left_out)
    )


class _JsonList:
    """A JSON list that is written to a file one element at a time."""

    def __init__(self, file: TextIO) -> None:
        self._file, self._empty = file, True
        file.write("[")

    def add(self, value: Any) -> None:
        self._file.write(("\n" if self._empty else ",\n") + json.dumps(value, ensure_ascii=False))
        self._empty = False

    def end(self) -> None:
        self._file.write("\n]\n")


@contextlib.contextmanager
def _json_list(path: Path) -> Iterator[_JsonList]:
    """A list that is there whole at the end of the `with` block, or not at all."""
    with atomic_write(path) as work, work.open("w", encoding="utf-8") as file:
        yield (elements := _JsonList(file))
        elements.end()
