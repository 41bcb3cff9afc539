"""Labelled folders of any size: the records of `annotations.json` one by one, bad ones counted instead of fatal.

Promises: one record is in memory at a time. `LabelledFolder` is for folders whose every record must be right.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from proxqa_core.datasets.folder import ANNOTATIONS, BadDatasetError, Record, record_of
from proxqa_core.datasets.json_stream import stream_list
from proxqa_core.datasets.reading import ReadReport


@dataclass
class FolderRecords:
    """The records of a labelled folder, in the file's order.

    Args:
        path: The folder.
        report: Counts and names the records that cannot be used.
    """

    path: Path
    report: ReadReport = field(default_factory=ReadReport)

    def __iter__(self) -> Iterator[Record]:
        self.report = ReadReport()
        file = self.path / ANNOTATIONS
        if not file.is_file():
            raise BadDatasetError(f"{file}: no such file; expected a folder with {ANNOTATIONS}")
        for number, raw in enumerate(stream_list(file)):
            try:
                yield record_of(self.path, f"record {number}", raw)
            except BadDatasetError as error:
                self.report.add("record that cannot be used", error)
