"""Mixing another instruction file into a data set, at a share.

Promises: the samples that are taken lie evenly over the other file, and evenly over the result, so that training sees
the same mixture throughout; the same files and share give the same result. Neither file is held in memory.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from proxqa_core.datasets.llava import Conversation, read_conversations, read_samples, write_turns
from proxqa_core.datasets.reading import ReadReport
from proxqa_core.errors import ProxqaError
from proxqa_core.files import atomic_write

log = logging.getLogger(__name__)

MIXED = "mixed"
"""The stage of samples that were mixed in."""


class BadMixError(ProxqaError, ValueError):
    """The files cannot be mixed so; the message says what came and what was expected."""


def check_share(share: float) -> None:
    """Refuse a share that no mixture can have.

    Raises:
        BadMixError: It is not above 0 and below 1.
    """
    if not 0 < share < 1:
        raise BadMixError(f"the share to mix in is {share}; expected a number above 0 and below 1")


def require_samples(path: Path) -> None:
    """Refuse a file before there is work to lose.

    Raises:
        BadMixError: It holds nothing that can be used.
        BadDatasetError: It cannot be read.
    """
    report = ReadReport()
    if next(read_conversations(path, report), None) is None:
        raise BadMixError(
            f"{path}: holds no sample that can be used ({'; '.join(report.lines())[:200] or 'it is empty'})"
        )


class Mixture:
    """Samples of a file, to be put between those of a data set.

    Args:
        path: LLaVA instruction file. share: Of the result, in (0, 1).
        base_count: Samples of the data set itself.
        report: Counts what cannot be used of the file.

    Attributes:
        wanted, used: Samples that the share asks for, and that there are.
    """

    def __init__(self, path: Path, share: float, base_count: int, report: ReadReport) -> None:
        check_share(share)
        self._available = sum(1 for _ in read_conversations(path, report))
        self._base_count = base_count
        self.wanted = round(base_count * share / (1 - share))
        self.used = min(self.wanted, self._available)
        if self.used < self.wanted:
            reached = self.used / max(1, self.used + base_count)
            log.warning("%s holds %d samples, the share asks for %d; it is %.3f in place of %g",
                        path, self._available, self.wanted, reached, share)  # fmt: skip
        self._samples = self._chosen(path)
        self._given = 0

    def _chosen(self, path: Path) -> Iterator[dict[str, Any]]:
        for i, conversation in enumerate(read_conversations(path)):
            if (i + 1) * self.used // self._available > i * self.used // self._available:
                yield _mixed(conversation)

    def after(self, index: int) -> Iterator[dict[str, Any]]:
        """The samples that come behind sample `index` (from 0) of the data set; each index is asked for once."""
        due = (index + 1) * self.used // max(1, self._base_count)
        while self._given < due:
            self._given += 1
            yield next(self._samples)


def _mixed(c: Conversation) -> dict[str, Any]:
    image = {"image": c.images[0] if len(c.images) == 1 else list(c.images)} if c.images else {}
    return {"id": c.sample_id, **image, "stage": MIXED, "conversations": write_turns(c.turns)}


@dataclass(frozen=True)
class MixReport:
    """What was mixed. samples: of the data set; mixed_in: of the other file; left_out: of both, by reason."""

    samples: int
    mixed_in: int
    left_out: ReadReport

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        total = self.samples + self.mixed_in
        return {
            "samples": self.samples,
            "mixed_in": self.mixed_in,
            "share": self.mixed_in / max(1, total),
            "left_out": dict(self.left_out.counts),
            "left_out_examples": self.left_out.examples,
        }


def mix(base: Path, other: Path, share: float, out: Path) -> MixReport:
    """Write a LLaVA file of all samples of one file and a share of another's.

    Args:
        base: The data set, JSON list or JSON lines. other: What is mixed in.
        share: Of `other` in the result, in (0, 1).
        out: File to write.

    Raises:
        BadMixError: The share is none, or one of the files holds nothing that can be used.
        BadDatasetError: A file cannot be read.
        OSError: `out` cannot be written.
    """
    check_share(share)
    for path in (base, other):
        require_samples(path)
    report = ReadReport()
    count = sum(1 for _ in read_samples(base, report))
    mixture = Mixture(other, share, count, report)
    with json_list(out) as samples:
        for i, (raw, _) in enumerate(read_samples(base)):
            samples.add(raw)
            for sample in mixture.after(i):
                samples.add(sample)
    return MixReport(count, mixture.used, report)


class JsonList:
    """A JSON list that is written to a file one element at a time."""

    def __init__(self, file: TextIO) -> None:
        self._file, self._empty = file, True
        file.write("[")

    def add(self, value: Any) -> None:
        """Write one more element, on a line of its own."""
        self._file.write(("\n" if self._empty else ",\n") + json.dumps(value, ensure_ascii=False))
        self._empty = False

    def end(self) -> None:
        """Close the list."""
        self._file.write("\n]\n")


@contextlib.contextmanager
def json_list(path: Path) -> Iterator[JsonList]:
    """A list that is in the file as a whole at the end of the `with` block, or not at all."""
    # half of a surrogate pair, which is no text, becomes JSON's own escape of it
    with atomic_write(path) as work, work.open("w", encoding="utf-8", errors="backslashreplace") as file:
        yield (elements := JsonList(file))
        elements.end()
