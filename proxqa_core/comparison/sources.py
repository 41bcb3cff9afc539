"""Where the pairs of a comparison come from, by name.

Promises: every source gives `WhichCloser` items in an order that does not change. A labelled folder gives the pairs of
`proxqa eval`: two objects that can be told apart, whose depths differ by at least `metrics.MIN_GAP`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

from proxqa_core.comparison.answerers import recorded_answers
from proxqa_core.datasets.benchmarks import WhichCloser, read_blink, read_cv_bench, read_da2k, read_vlmeval_tsv
from proxqa_core.datasets.folder import LabelledFolder, Record
from proxqa_core.datasets.published import read_items
from proxqa_core.datasets.reading import ReadReport
from proxqa_core.evaluation.metrics import MIN_GAP

NO_ITEM = "no item"
"""What a record of a recorded file is counted as that names no right answer."""
Reader = Callable[[Path, Path | None, ReadReport], Iterator[WhichCloser]]


def items_of_folder(path: Path) -> Iterator[WhichCloser]:
    """The which-closer pairs of a labelled folder, named by the phrases that mean each object alone.

    Raises:
        BadDatasetError: The folder cannot be read, or a record is wrong.
    """
    for record in LabelledFolder(path):
        yield from _pairs(record)


def _pairs(record: Record) -> Iterator[WhichCloser]:
    things = [(o.ref, o.box, o.depth_m) for o in record.objects]
    for (i, a), (j, b) in itertools.combinations(enumerate(things), 2):
        (name_a, box_a, depth_a), (name_b, box_b, depth_b) = a, b
        if name_a is None or name_b is None or name_a == name_b or depth_a is None or depth_b is None:
            continue
        gap = abs(depth_a - depth_b) / max(depth_a, depth_b)
        if gap >= MIN_GAP:
            yield WhichCloser(
                f"{record.image}#{i}-{j}",
                record.folder / record.image,
                "A" if depth_a < depth_b else "B",
                names=(name_a, name_b),
                boxes=(box_a, box_b),
                gap=gap,
            )


def items_of_published(path: Path, images: Path | None, report: ReadReport) -> Iterator[WhichCloser]:
    """The which-closer items of a file that `proxqa eval --export` wrote.

    Raises:
        BadDatasetError: The file cannot be read.
    """
    yield from (item for item in read_items(path, images, report) if isinstance(item, WhichCloser))


def items_of_recorded(path: Path, report: ReadReport) -> Iterator[WhichCloser]:
    """The items that a recorded file of BLINK's form answers: without images, for recorded answers alone.

    Args:
        path: The file.
        report: Counts the records that hold no item.

    Raises:
        BadDatasetError: The file cannot be read.
    """
    for row in recorded_answers(path, report, NO_ITEM):
        if row.right in ("(A)", "(B)"):
            yield WhichCloser(row.item_id, b"", "A" if row.right == "(A)" else "B")
        else:
            report.add(NO_ITEM, f"{row.item_id} (its right answer is {row.right[:20]!r}; expected '(A)' or '(B)')")


READERS: dict[str, Reader] = {
    "folder": lambda path, images, report: items_of_folder(path),
    "blink": lambda path, images, report: read_blink(path, images, report),
    "cv-bench": lambda path, images, report: read_cv_bench(path, images, report),
    "da-2k": lambda path, images, report: read_da2k(path, report=report),
    "items": items_of_published,
    "tsv": lambda path, images, report: read_vlmeval_tsv(path, report),
    "recorded": lambda path, images, report: items_of_recorded(path, report),
}
