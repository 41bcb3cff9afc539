"""Asking every model every question, and keeping what was answered.

Promises: answers are appended to one JSON-lines file a model as they come; a run that was ended at any moment goes on
where it was and ends with the same result. Errors are asked again, answers are not; an answer to another question of
the same name (another data set, other words) is not taken for one to this. A torn last line is left out. Both orders
of a pair are answered in one go.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from proxqa_core.comparison.answerers import Answer, Answerer
from proxqa_core.comparison.questions import ComparisonQuestion

Progress = Callable[[str, int, int], None]
"""Told (model, questions answered, questions in all)."""


def answers_file(folder: Path, model: str) -> Path:
    """Where a model's answers are kept: its name made fit for a file, and a part of its hash."""
    slug = re.sub(r"[^A-Za-z0-9.-]+", "_", model).strip("._")[-60:]
    return folder / f"{slug}-{hashlib.sha256(model.encode()).hexdigest()[:8]}.jsonl"


def ask_all(
    answerer: Answerer,
    questions: Sequence[ComparisonQuestion],
    folder: Path,
    on_progress: Progress | None = None,
) -> dict[str, Answer]:
    """The answers of one model by the questions' keys; those that the folder holds are not asked again.

    Raises:
        OSError: The folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = answers_file(folder, answerer.name)
    asked = {q.key: q.fingerprint for q in questions}
    answers = {key: answer for key, mark, answer in _kept(path) if not answer.error and asked.get(key) == mark}
    left = [q for q in questions if q.key not in answers]
    done = len(questions) - len(left)
    # half of a surrogate pair in an answer, which is no text, becomes JSON's own escape of it
    with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
        if path.stat().st_size and not _ends_a_line(path):
            file.write("\n")  # what was torn stays behind
        for batch in _batches(left, answerer.batch_size):
            new = answerer.answer(batch)
            answers |= {question.key: answer for question, answer in zip(batch, new, strict=True)}
            file.write("".join(_line(*both) for both in zip(batch, new, strict=True)))
            file.flush()
            os.fsync(file.fileno())
            done += len(batch)
            if on_progress is not None:
                on_progress(answerer.name, done, len(questions))
    return answers


def _batches(questions: Sequence[ComparisonQuestion], size: int) -> Iterator[list[ComparisonQuestion]]:
    """At least so many questions at a time, those about one item together.

    A model that reads an image once for both of them answers the second one up to rounding alike only where it has
    answered the first: they are kept together or not at all.
    """
    batch: list[ComparisonQuestion] = []
    for _, of_item in itertools.groupby(questions, key=lambda q: q.item.item_id):
        batch += of_item
        if len(batch) >= size:
            yield batch
            batch = []
    if batch:
        yield batch


def _kept(path: Path) -> Iterator[tuple[str, str, Answer]]:
    """(key, fingerprint of what was asked, answer) of every whole line."""
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):  # U+2028 in an answer ends no line
        try:
            raw = json.loads(line)
            yield str(raw.pop("key")), str(raw.pop("asked")), Answer(**raw)
        except (ValueError, TypeError, KeyError, AttributeError):
            continue  # torn while it was written


def _line(question: ComparisonQuestion, answer: Answer) -> str:
    row = {"key": question.key, "asked": question.fingerprint, **asdict(answer)}
    return json.dumps(row, ensure_ascii=False) + "\n"


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
