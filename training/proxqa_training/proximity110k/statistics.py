"""What is in a LLaVA-format file: counts, and whether the answers are balanced.

Promises: one sample at a time. Kinds and stages are those that `build` writes; of other files the turns are counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proxqa_core.datasets.llava import IMAGE_MARK, read_samples
from proxqa_core.datasets.reading import ReadReport
from proxqa_core.language.templates import NOT_VISIBLE

DEPTH_BINS = 10
"""Of the histogram of relative depths, each 0.1 wide."""
NO_STAGE = "other"
PAIR_KINDS = ("reason", "direct", "farther")
"""Kinds of question whose answer is A or B."""
_DEPTH = re.compile(r"[01]\.\d+")


@dataclass
class Statistics:
    """Counts of samples.

    Attributes:
        samples, questions: By stage. kinds: Questions by kind.
        depths: Answers of one relative depth, by tenth, nearest first. absent: Answers that nothing is there.
        letters: Answers A and B to which of two is closer, or farther.
        words: Of questions and of answers.
        without_image: Samples that are text alone.
    """

    samples: Counter[str] = field(default_factory=Counter)
    questions: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    depths: list[int] = field(default_factory=lambda: [0] * DEPTH_BINS)
    absent: int = 0
    letters: Counter[str] = field(default_factory=Counter)
    words: Counter[str] = field(default_factory=Counter)
    without_image: int = 0

    def add(self, sample: dict[str, Any]) -> None:
        """Count one sample in LLaVA's form, which alternates questions and answers."""
        turns, stage = sample["conversations"], str(sample.get("stage", NO_STAGE))
        given = sample.get("kinds")
        kinds = given if isinstance(given, list) and len(given) == len(turns) // 2 else [""] * (len(turns) // 2)
        self.samples[stage] += 1
        self.questions[stage] += len(turns) // 2
        self.without_image += not (sample.get("image") or sample.get("images"))
        for kind, question, answer in zip(kinds, turns[::2], turns[1::2], strict=False):
            self.words["questions"] += len(question["value"].replace(IMAGE_MARK, "").split())
            self.words["answers"] += len(answer["value"].split())
            if kind:
                self.kinds[str(kind)] += 1
                self._add_answer(str(kind), answer["value"])

    def _add_answer(self, kind: str, answer: str) -> None:
        if kind == "perceive" and _DEPTH.fullmatch(answer):
            self.depths[min(DEPTH_BINS - 1, int(float(answer) * DEPTH_BINS))] += 1
        self.absent += answer == NOT_VISIBLE
        if kind in PAIR_KINDS and answer.endswith((" A", " B")):
            self.letters[answer[-1]] += 1

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        total = max(1, sum(self.questions.values()))
        return {
            "samples": dict(self.samples),
            "questions": dict(self.questions),
            "kinds": dict(self.kinds),
            "depths_by_tenth": self.depths,
            "absent_answers": self.absent,
            "letters": dict(sorted(self.letters.items())),
            "words_per_question": round(self.words["questions"] / total, 2),
            "words_per_answer": round(self.words["answers"] / total, 2),
            "samples_without_image": self.without_image,
        }


@dataclass
class FileStatistics:
    """Statistics of files, and what of them cannot be used. missing: images without a file, None = not looked for."""

    statistics: Statistics
    images: int
    missing: int | None
    left_out: ReadReport

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "images": self.images,
            "images_missing": self.missing,
            **self.statistics.as_dict(),
            "left_out": dict(self.left_out.counts),
            "left_out_examples": self.left_out.examples,
        }


def statistics_of(paths: Iterable[Path], images: Path | None = None) -> FileStatistics:
    """Count what is in files of LLaVA's form; the names of their images are kept, no more.

    Args:
        paths: JSON lists or JSON lines.
        images: Folder that the images' paths are relative to; None = do not look for them.

    Raises:
        BadDatasetError: A file cannot be read.
    """
    statistics, report = Statistics(), ReadReport()
    names: set[str] = set()
    for path in paths:
        for raw, conversation in read_samples(path, report):
            statistics.add(raw)
            names.update(conversation.images)
    missing = None if images is None else sorted(name for name in names if not (images / name).is_file())
    for name in missing or ():
        report.add("image without a file", name)
    return FileStatistics(statistics, len(names), None if missing is None else len(missing), report)
