"""`proxqa data build`: a data set of images with boxes, and a source of depth, become Proximity-110K.

Promises: deterministic by seed, whoever runs it (a local pool or Ray) and however often it is stopped: records are
labelled in shards, a shard is a file that is written whole or not at all, and the result is put together from the
shards in order. Images that hold the same bytes are labelled once. Images go to train or val whole. A bad image is
counted and named. Neither the records' file nor the result is ever in memory as a whole.
"""

from __future__ import annotations

import functools
import json
import logging
import multiprocessing
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from proxqa_core.datasets.depth_source import DepthSource
from proxqa_core.datasets.folder import Record
from proxqa_core.datasets.reading import ReadReport
from proxqa_core.errors import ProxqaError
from proxqa_core.files import write_text
from proxqa_training.proximity110k.labelling import Labeller, LabellingConfig, pack
from proxqa_training.proximity110k.mixture import Mixture, check_share, json_list, require_samples
from proxqa_training.proximity110k.statistics import Statistics

log = logging.getLogger(__name__)

SHARDS, RECIPE, REPORT = "shards", "recipe.json", "report.json"
Row = dict[str, Any]
LabelAll = Callable[[Iterator[list[Row]], Callable[[], Labeller]], Iterator[list[str]]]
"""Labels chunks of packed records: the lines of each chunk, in order."""


class BadBuildError(ProxqaError, ValueError):
    """The data set cannot be built so; the message says what came and what was expected."""


class WorkerLostError(ProxqaError, RuntimeError):
    """A process that labelled is gone; what was finished is kept."""


@dataclass(frozen=True)
class BuildConfig:
    """How a data set is built.

    Attributes:
        shard_size: Records of a shard: what is lost at most, for every worker, when the process is killed.
        val_fraction: Share of the images that go to validation, by a hash of their bytes.
        mix: LLaVA instruction file to mix in, None = none. mix_share: Its share of the training samples, in (0, 1).
        workers: Processes of the local pool.
        limit: Only the first images.
        complete: Everything that has one of the absent names is labelled wherever it is in view.

    Raises:
        BadBuildError: A number is out of range.
    """

    shard_size: int = 256
    val_fraction: float = 0.02
    mix: Path | None = None
    mix_share: float = 0.5
    workers: int = 1
    limit: int | None = None
    complete: bool = True

    def __post_init__(self) -> None:
        if self.shard_size < 1 or self.workers < 1:
            raise BadBuildError(f"shard_size is {self.shard_size}, workers {self.workers}; expected at least 1 of each")
        if not 0 <= self.val_fraction < 1:
            raise BadBuildError(f"val_fraction is {self.val_fraction}; expected a share in [0, 1)")
        if self.mix is not None:
            check_share(self.mix_share)
            if not self.mix.is_file():
                raise BadBuildError(f"{self.mix}: no such file; expected LLaVA instructions to mix in")


@dataclass
class BuildReport:
    """What was built.

    Attributes:
        images: With samples, by split.
        statistics: Of the samples that were built, without those mixed in.
        left_out: Images, by reason. annotations: What the reader left out of the annotations.
        mixed_in: Samples mixed into train. mix_left_out: What could not be used of the file that was mixed in.
    """

    images: Counter[str]
    statistics: Statistics
    left_out: ReadReport
    annotations: ReadReport
    mixed_in: int
    mix_left_out: ReadReport

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        statistics = self.statistics.as_dict()
        questions = sum(self.statistics.questions.values())
        return {
            "images": dict(self.images),
            "questions_per_image": round(questions / max(1, sum(self.images.values())), 3),
            **statistics,
            "mixed_in": self.mixed_in,
            **_counts("left_out", self.left_out),
            **_counts("annotations_left_out", self.annotations),
            **_counts("mix_left_out", self.mix_left_out),
        }


def _counts(name: str, report: ReadReport) -> dict[str, Any]:
    return {name: dict(report.counts.most_common()), f"{name}_examples": report.examples}


def build(
    records: Iterable[Record],
    make_depth: Callable[[], DepthSource],
    out: Path,
    labelling: LabellingConfig,
    config: BuildConfig,
    label_all: LabelAll | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    identity: Mapping[str, str] | None = None,
) -> BuildReport:
    """Label all records and write ``OUT/train.json``, ``OUT/val.json`` and ``OUT/report.json``.

    Args:
        records: Of any reader, in an order of their own that does not change.
        make_depth: Makes the source of depth, in every process; must be picklable where there are several.
        out: Folder of the result and of the shards; the same call on it goes on where an earlier one stopped.
        label_all: Who labels; None = a local pool of config.workers processes.
        on_progress: Told how many records a shard has, and how many were labelled by an earlier run.
        identity: What the records and their depth are known by; a build that goes on must have the same.

    Raises:
        BadBuildError: The folder holds shards of another recipe, or no image could be used.
        BadMixError: The file to mix in holds nothing that can be used.
        WorkerLostError: A worker was killed; the same call goes on.
        OSError: The folder cannot be written to.
    """
    shards = out / SHARDS
    shards.mkdir(parents=True, exist_ok=True)
    _check_recipe(out, {**asdict(labelling), "shard_size": config.shard_size, "limit": config.limit,
                        "complete": config.complete, **(identity or {})})  # fmt: skip
    if config.mix is not None:
        require_samples(config.mix)
    label_all = label_all or local_pool(config.workers)
    told = on_progress or (lambda new, earlier: None)

    make_labeller = functools.partial(Labeller, make_depth, labelling)  # picklable, unlike a function in here
    for number, lines in _labelled(_chunks(records, config), shards, label_all, make_labeller, told):
        write_text(shards / shard_name(number), "".join(line + "\n" for line in lines), errors="backslashreplace")
        told(len(lines), 0)
    report = put_together(out, config)
    report.annotations.merge(getattr(records, "report", ReadReport()))
    if not report.images:
        why = "; ".join([*report.left_out.lines(), *report.annotations.lines()])
        raise BadBuildError(f"{out}: no image could be used ({why or 'there is none'})")
    write_text(out / REPORT, json.dumps(report.as_dict(), indent=1, ensure_ascii=False) + "\n", "backslashreplace")
    return report


def shard_name(number: int) -> str:
    """The file name of a shard."""
    return f"{number:06}.jsonl"


def _check_recipe(out: Path, recipe: dict[str, Any]) -> None:
    """Shards of one recipe only: data, depth, labelling, and how records are cut into shards."""
    path, text = out / RECIPE, json.dumps(recipe, sort_keys=True, indent=1) + "\n"
    if not path.exists():
        write_text(path, text)
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        before = {}
    now = json.loads(text)
    other = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    if other:
        raise BadBuildError(
            f"{out}: holds shards of another recipe ({', '.join(other)} differ from {RECIPE}); "
            "use another folder, or delete this one"
        )


def _chunks(records: Iterable[Record], config: BuildConfig) -> Iterator[list[Row]]:
    """Packed records, a shard at a time."""
    rows = (pack(record, config.complete) for record in islice(records, config.limit))
    while chunk := list(islice(rows, config.shard_size)):
        yield chunk


def _labelled(
    chunks: Iterator[list[Row]],
    shards: Path,
    label_all: LabelAll,
    make_labeller: Callable[[], Labeller],
    told: Callable[[int, int], None],
) -> Iterator[tuple[int, list[str]]]:
    """(number, lines) of the shards that are not there yet."""
    waiting: list[int] = []

    def left() -> Iterator[list[Row]]:
        for number, chunk in enumerate(chunks):
            if (shards / shard_name(number)).exists():
                told(0, len(chunk))
            else:
                waiting.append(number)
                yield chunk

    for lines in label_all(left(), make_labeller):
        yield waiting.pop(0), lines


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
        pool = ProcessPoolExecutor(workers, context, _start, (make_labeller,))
        try:
            yield from _in_order(pool, chunks, 2 * workers)
        except BrokenProcessPool as error:
            raise WorkerLostError(
                "a process that labels images was killed (out of memory?); the same command goes on where this stopped"
            ) from error
        except BaseException:
            for process in multiprocessing.active_children():  # a shard under way is not waited for
                process.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    return label_all


def _in_order(pool: ProcessPoolExecutor, chunks: Iterator[list[Row]], at_once: int) -> Iterator[list[str]]:
    """The lines of each chunk, in order, with no more than so many chunks read ahead."""
    under_way: list[Future[list[str]]] = []
    for chunk in chunks:
        under_way.append(pool.submit(_work, chunk))
        if len(under_way) >= at_once:
            yield under_way.pop(0).result()
    for future in under_way:
        yield future.result()


def columns(chunk: Sequence[Row]) -> dict[str, list[Any]]:
    """Rows as columns."""
    return {key: [row[key] for row in chunk] for key in chunk[0]} if chunk else {}


_labeller: Labeller | ProxqaError | None = None
"""Of a process of the pool; an error where it could not be made."""


def _start(make_labeller: Callable[[], Labeller]) -> None:
    global _labeller
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that was started, which ends this one
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        _labeller = make_labeller()
    except ProxqaError as error:  # else the pool would only say that it is broken
        _labeller = error


def _end_with_parent() -> None:
    """A worker would wait for work for ever if its parent is killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(chunk: list[Row]) -> list[str]:
    if isinstance(_labeller, ProxqaError):
        raise _labeller
    assert _labeller is not None
    return _labeller(columns(chunk))["lines"]


# -------------------------------------------------------------------- putting together
def put_together(out: Path, config: BuildConfig) -> BuildReport:
    """The shards, in order, as ``train.json`` and ``val.json``; what is mixed in is spread evenly over train.

    Raises:
        BadDatasetError: The file to mix in cannot be read.
        BadBuildError: A shard is damaged.
    """
    # 1. which images are kept, and how many training samples there are to mix into
    report = BuildReport(Counter(), Statistics(), ReadReport(), ReadReport(), 0, ReadReport())
    seen: set[int] = set()
    splits: list[str] = []
    trained = 0
    for row in _rows(out / SHARDS):
        splits.append(_split_or_none(row, seen, config.val_fraction, report))
        trained += len(row["samples"]) if splits[-1] == "train" else 0
    mixture = None
    if config.mix is not None and trained:
        mixture = Mixture(config.mix, config.mix_share, trained, report.mix_left_out)
        report.mixed_in = mixture.used
    # 2. their samples
    with ExitStack() as stack:
        files = {split: stack.enter_context(json_list(out / f"{split}.json")) for split in ("train", "val")}
        index = 0
        for row, split in zip(_rows(out / SHARDS), splits, strict=True):
            for sample in row["samples"] if split else ():
                files[split].add(sample)
                report.statistics.add(sample)
                if split == "train" and mixture is not None:
                    for other in mixture.after(index):
                        files["train"].add(other)
                    index += 1
    return report


def _split_or_none(row: Row, seen: set[int], val_fraction: float, report: BuildReport) -> str:
    """The split of an image that is kept, '' of one that is not. seen: 64 bits of the digests of images before it."""
    key = int(row["digest"][:16] or "0", 16)
    if row["problem"] or key in seen:
        report.left_out.add(row["problem"] or "the same image again", row["image"])
        return ""
    seen.add(key)
    split = split_of(row["digest"], val_fraction)
    report.images[split] += 1
    return split


def split_of(digest: str, val_fraction: float) -> str:
    """Train or val, by the image's bytes alone: the same image is always on the same side."""
    return "val" if int(digest[:8] or "0", 16) / 0xFFFFFFFF < val_fraction else "train"


def _rows(shards: Path) -> Iterator[Row]:
    for path in sorted(shards.glob("*.jsonl")):
        try:
            with path.open(encoding="utf-8") as file:
                yield from map(json.loads, file)
        except ValueError as error:
            raise BadBuildError(f"{path}: is damaged; delete it and run the same command again") from error
