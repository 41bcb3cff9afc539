"""LLaVA's conversations: a JSON list or JSON lines of ``{id, image, conversations: [{from, value}]}``.

Promises: read as a stream, 1.5 GB as well as 1 kB; a sample that is handed out has as many ``<image>`` marks as images,
a human's turn first and turns that alternate. ``<image>`` may stand anywhere in a human's turn; one image that is
marked nowhere comes before the first. Images are named, not read. Samples without an image are text only, and fine.
A first turn that is the model's is left out, as in LLaVA's own training, and counted.

Source: LLaVA, Liu et al. 2023: ``llava_v1_5_mix665k.json``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from proxqa_core.datasets.json_stream import opened, stream_list
from proxqa_core.datasets.reading import ReadReport, brief, is_inside

IMAGE_MARK = "<image>"
ROLES: dict[str, Literal["user", "assistant"]] = {"human": "user", "user": "user", "gpt": "assistant"}
ROLES |= {"assistant": "assistant"}
BEGUN_BY_GPT = "first turn that is gpt's (the rest is kept)"


@dataclass(frozen=True)
class Turn:
    """One turn. text: of a user may hold ``<image>``, once for every image of the sample in all its turns."""

    role: Literal["user", "assistant"]
    text: str


@dataclass(frozen=True)
class Conversation:
    """One sample.

    Attributes:
        sample_id: As the file has it, or its number.
        images: Paths as the file names them, relative to whatever folder the images are in.
        turns: User and assistant in turns.
        stage: 'perceive', 'reason' or 'mixed' as `proxqa data build` writes it; '' where nothing is said.
    """

    sample_id: str
    images: tuple[str, ...]
    turns: tuple[Turn, ...]
    stage: str = ""


def read_conversations(path: Path, report: ReadReport | None = None) -> Iterator[Conversation]:
    """The conversations of a ``.json`` (a list) or ``.jsonl`` file one by one, in order.

    Args:
        path: The file, also a ``.gz`` of it.
        report: Counts and names samples that cannot be used.

    Raises:
        BadDatasetError: The file is not there, or no JSON from some point on.
    """
    yield from (conversation for _, conversation in read_samples(path, report))


def read_samples(path: Path, report: ReadReport | None = None) -> Iterator[tuple[dict[str, Any], Conversation]]:
    """As `read_conversations`, each with the object that it was read from and whatever else that holds."""
    report = ReadReport() if report is None else report
    for number, given in enumerate(_samples(Path(path), report)):
        raw = _from_the_human_on(given)
        made = _conversation(raw, number)
        name = raw.get("id") if isinstance(raw, dict) else None
        label = f"sample {number}" if name is None else f"sample {number} ({brief(name)})"
        if not isinstance(made, Conversation):
            report.add(made, label)
            continue
        if raw is not given:
            report.add(BEGUN_BY_GPT, label)
        yield raw, made


def _samples(path: Path, report: ReadReport) -> Iterator[Any]:
    if ".jsonl" not in path.suffixes:
        yield from stream_list(path, "LLaVA's list of samples, or JSON lines in a .jsonl file")
        return
    with opened(path) as file:
        for number, line in enumerate(file):
            if line.strip():
                try:
                    yield json.loads(line)
                except (ValueError, RecursionError):
                    report.add("line that is no JSON", f"line {number + 1}")


def _from_the_human_on(raw: Any) -> Any:
    """The sample without a first turn that is the model's, which LLaVA's own training leaves out as well."""
    turns = raw.get("conversations") if isinstance(raw, dict) else None
    first = turns[0].get("from") if isinstance(turns, list) and turns and isinstance(turns[0], dict) else None
    is_answer = isinstance(first, str) and ROLES.get(first) == "assistant"
    return raw | {"conversations": turns[1:]} if is_answer and turns else raw


def _conversation(raw: Any, number: int) -> Conversation | str:
    """The sample, or why it cannot be used."""
    if not isinstance(raw, dict) or not isinstance(raw.get("conversations"), list):
        return "sample without conversations"
    images = _images(raw.get("image", raw.get("images")))
    if images is None:
        return "image that is no path inside a folder"
    turns = []
    for i, turn in enumerate(raw["conversations"]):
        speaker = turn.get("from") if isinstance(turn, dict) else None
        role = ROLES.get(speaker) if isinstance(speaker, str) else None
        if role is None or not isinstance(turn.get("value"), str):
            return "turn without a known 'from' and a text 'value'"
        if role != ("user", "assistant")[i % 2]:
            return "turns that do not alternate, beginning with the human"
        turns.append(Turn(role, turn["value"]))
    if len(turns) < 2:
        return "sample without a question and an answer"
    stage = raw.get("stage", "")
    return _marked(str(raw.get("id", number)), images, turns, stage if isinstance(stage, str) else "")


def _images(raw: Any) -> tuple[str, ...] | None:
    """Paths of a sample's images; none where it has none, None where one leads out of the folder."""
    named = [] if raw is None else raw if isinstance(raw, list) else [raw]
    for name in named:
        if not isinstance(name, str) or not is_inside(name):
            return None
    return tuple(named)


def _marked(sample_id: str, images: tuple[str, ...], turns: list[Turn], stage: str) -> Conversation | str:
    """The sample with one mark an image."""
    if any(IMAGE_MARK in t.text for t in turns if t.role == "assistant"):
        return f"{IMAGE_MARK} in an answer"
    marks = sum(t.text.count(IMAGE_MARK) for t in turns)
    if len(images) == 1 and marks == 0:
        turns[0] = Turn("user", f"{IMAGE_MARK}\n{turns[0].text}")
        marks = 1
    if marks != len(images):
        return f"as many {IMAGE_MARK} marks as images are expected"
    return Conversation(sample_id, images, tuple(turns), stage)


def write_turns(turns: tuple[Turn, ...]) -> list[dict[str, str]]:
    """Turns in LLaVA's own form: ``[{"from": "human", "value": …}, {"from": "gpt", …}]``."""
    names = {"user": "human", "assistant": "gpt"}
    return [{"from": names[t.role], "value": t.text} for t in turns]
