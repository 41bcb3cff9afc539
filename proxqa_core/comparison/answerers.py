"""Who is asked in a comparison: our engine, Hugging Face models, OpenAI-compatible servers, recorded answers.

Promises: an answerer gives each question its words, or an error of its own; one question that fails is counted and
never ends a run. Every model gets the same words through its own processor and chat template. Knows nothing of scores.
"""

from __future__ import annotations

import base64
import json
import logging
import math
from collections.abc import Container, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from proxqa_core.comparison.marking import jpeg_bytes, marked
from proxqa_core.comparison.questions import ComparisonQuestion
from proxqa_core.datasets.benchmarks import POINT_NAME
from proxqa_core.datasets.folder import BadDatasetError
from proxqa_core.datasets.json_stream import BYTE_ORDER_MARK
from proxqa_core.datasets.reading import ReadReport
from proxqa_core.errors import BadImageError, BadObjectError, ProxqaError, first_line_of, reason_of
from proxqa_core.llm.time_limit import TEMPLATE_TIMEOUT_S, TimeLimitError, within
from proxqa_core.types import ObjectQuery

log = logging.getLogger(__name__)

NOT_RECORDED = "no recorded answer"
"""What a line or record of a recorded file is counted as that holds none."""


@dataclass(frozen=True)
class Answer:
    """What came back. text: the model's words. probability: of A, in [0, 1], None = not said. error: '' = none."""

    text: str = ""
    probability: float | None = None
    error: str = ""


class Answerer(Protocol):
    """A model that can be asked. name: what reports call it. batch_size: questions it takes at once, or one more."""

    name: str
    batch_size: int

    def answer(self, questions: Sequence[ComparisonQuestion]) -> list[Answer]:
        """One answer a question, in order. Raises nothing for a single question that fails."""
        ...


class EngineAnswerer:
    """Our engine: two boxes, two points or two names in, the probability of each order out.

    Args:
        engine: A `ProximityEngine`.
        prompt: "box" uses boxes (or boxes around points) where there are any, "name" asks by name alone.
    """

    batch_size = 1

    def __init__(self, engine: Any, prompt: str = "box") -> None:
        self._engine, self._prompt = engine, prompt
        self.name = f"{engine.model_name} (by {prompt})"
        self._held: tuple[str, Any] = ("", None)

    def answer(self, questions: Sequence[ComparisonQuestion]) -> list[Answer]:
        """See `Answerer.answer`."""
        return [self._one(q) for q in questions]

    def _one(self, question: ComparisonQuestion) -> Answer:
        try:
            encoded, size = self._encoded(question)
            a, b = self._queries(question, *size)
            found = encoded.closer(a, b)
        except (BadImageError, BadObjectError) as error:
            return Answer(error=str(error))
        certain = found.probability if np.isfinite(found.probability) else found.raw_probability
        named_first = found.objects[0] if found.objects else None
        is_a = named_first is not None and (named_first.name, named_first.box) == (a.name, a.box)
        first = certain if is_a else 1 - certain
        if not np.isfinite(first):
            return Answer(text=found.answer)
        return Answer("A" if first >= 0.5 else "B", float(first))

    def _encoded(self, question: ComparisonQuestion) -> tuple[Any, tuple[int, int]]:
        """The question's image, encoded once for both orders, and its (width, height)."""
        if self._held[0] != question.item.item_id:
            image = question.item.load_image()
            size = (image.shape[1], image.shape[0])
            self._held = (question.item.item_id, (self._engine.encode_image(image), size))
        held: tuple[Any, tuple[int, int]] = self._held[1]
        return held

    def _queries(self, question: ComparisonQuestion, width: int, height: int) -> tuple[ObjectQuery, ObjectQuery]:
        boxes = question.boxes if self._prompt == "box" else None
        if boxes is None and question.item.points is not None:
            boxes = question.item.regions(width, height)
        a, b = question.names if all(question.names) else (POINT_NAME, POINT_NAME)
        if boxes is None and not all(question.names):
            raise BadObjectError("the item has neither names, boxes nor points; expected one of them")
        return (
            (ObjectQuery(a), ObjectQuery(b)) if boxes is None else (ObjectQuery(a, boxes[0]), ObjectQuery(b, boxes[1]))
        )


class HuggingFaceAnswerer:
    """Any image-text-to-text model of Hugging Face, with its own processor and chat template, decoded greedily.

    A model without a chat template is asked "Question: … Answer:", PaliGemma by its prefix "answer en".

    Args:
        source: An id or a folder.
        device: Of torch. dtype: Name of a type of torch, or "auto".
        max_new_tokens: Longest answer.

    Raises:
        ProxqaError: The model cannot be loaded.
    """

    batch_size = 1

    def __init__(self, source: str, device: str = "auto", dtype: str = "auto", max_new_tokens: int = 64) -> None:
        import torch
        from transformers import AutoModelForImageTextToText, AutoProcessor

        from proxqa_core.model.loading import choose_device

        self.name, self._longest = source, max_new_tokens
        local = Path(source).exists()
        try:
            self._processor = AutoProcessor.from_pretrained(source, trust_remote_code=False, local_files_only=local)
            self._model = AutoModelForImageTextToText.from_pretrained(
                source, dtype=dtype, trust_remote_code=False, use_safetensors=True, local_files_only=local
            )
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise ProxqaError(f"model {source!r} cannot be loaded: {first_line_of(error)}") from error
        self._check_template(source)
        self._model = self._model.to(choose_device(device)).eval()
        self._no_grad = torch.inference_mode

    def _check_template(self, source: str) -> None:
        """Raise ProxqaError on a chat template that never ends: it is a program that came with the model."""
        if not _has_chat_template(self._processor):
            return
        asked = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Where?"}]}]
        try:
            within(TEMPLATE_TIMEOUT_S, lambda: self._processor.apply_chat_template(asked, add_generation_prompt=True))
        except TimeLimitError as error:
            raise ProxqaError(f"model {source!r} cannot be used: its chat template {error}") from error
        except Exception as error:  # what else is wrong with it is each answer's error
            log.debug("chat template of %s: %s", source, error)

    def answer(self, questions: Sequence[ComparisonQuestion]) -> list[Answer]:
        """See `Answerer.answer`."""
        return [self._one(q) for q in questions]

    def _one(self, question: ComparisonQuestion) -> Answer:
        from PIL import Image

        try:
            image = Image.fromarray(marked(question.item, question.flipped))
            inputs = self._inputs(image, question.text).to(self._model.device, dtype=self._model.dtype)
            with self._no_grad():
                out = self._model.generate(**inputs, max_new_tokens=self._longest, do_sample=False)
        except Exception as error:  # a foreign model fails in its own ways; the run goes on
            return Answer(error=f"{type(error).__name__}: {str(error).strip()[:200]}")
        asked, said = inputs["input_ids"], out[0]
        # most models repeat what they were asked; those with an encoder, or asked by embeddings, do not
        if said.shape[0] >= asked.shape[1] and bool((said[: asked.shape[1]] == asked[0]).all()):
            said = said[asked.shape[1] :]
        return Answer(self._processor.decode(said, skip_special_tokens=True).strip())

    def _inputs(self, image: Any, text: str) -> Any:
        """What the model is given: by its chat template where it has one, else as models without one are asked."""
        if _has_chat_template(self._processor):
            content = [{"type": "image", "image": image}, {"type": "text", "text": text}]
            return self._processor.apply_chat_template(
                [{"role": "user", "content": content}],
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
            )
        if self._model.config.model_type == "paligemma":  # trained with task prefixes, arXiv 2407.07726
            return self._processor(images=image, text=f"<image>answer en {text}", return_tensors="pt")
        return self._processor(images=image, text=f"Question: {text} Answer:", return_tensors="pt")


def _has_chat_template(processor: Any) -> bool:
    return any(getattr(p, "chat_template", None) for p in (processor, getattr(processor, "tokenizer", None)))


class DecisionAnswerer:
    """Hugging Face's ``decision`` pipeline: any chat model's probability of each choice, in one order.

    Args:
        source: An id or a folder. device: Of torch.

    Raises:
        ProxqaError: The installed transformers has no such pipeline, or the model cannot be loaded.
    """

    batch_size = 1

    def __init__(self, source: str, device: str = "auto") -> None:
        from transformers import pipeline

        from proxqa_core.model.loading import choose_device

        self.name = f"{source} (decision)"
        try:
            self._decide = pipeline("decision", model=source, device=choose_device(device), trust_remote_code=False)
        except (KeyError, ImportError) as error:
            raise ProxqaError(f"the installed transformers has no pipeline 'decision': {error}") from error
        except (OSError, ValueError, RuntimeError) as error:
            raise ProxqaError(f"model {source!r} cannot be loaded: {first_line_of(error)}") from error

    def answer(self, questions: Sequence[ComparisonQuestion]) -> list[Answer]:
        """See `Answerer.answer`."""
        return [self._one(q) for q in questions]

    def _one(self, question: ComparisonQuestion) -> Answer:
        from PIL import Image

        a, b = question.names if all(question.names) else ("point A", "point B")
        ask = {
            "type": "choice",
            "instructions": question.text,
            "criteria": {"A": f"{a} is closer", "B": f"{b} is closer"},
        }
        try:
            photo = Image.fromarray(marked(question.item, question.flipped))
            # its documentation calls assets an argument of the call, which refuses it (5.23): the request carries them
            request = {"state": "The photo: <photo>", "questions": {"closer": ask}, "assets": {"<photo>": photo}}
            said = self._decide(request)["closer"]
            return decision_answer(said)
        except Exception as error:  # a foreign model fails in its own ways; the run goes on
            return Answer(error=f"{type(error).__name__}: {str(error).strip()[:200]}")


def decision_answer(said: dict[str, Any]) -> Answer:
    """An answer of the ``decision`` pipeline to a ``choice``, with the probability of each option."""
    chances = _option_probabilities(said)
    total = sum(chances.values())
    if chances.keys() != {"A", "B"} or not total > 0:
        return Answer(error=f"not a choice of A and B: {json.dumps(said, default=str)[:120]}")
    first = chances["A"] / total
    return Answer("A" if first >= 0.5 else "B", first)


def _option_probabilities(said: Any) -> dict[str, float]:
    """The probabilities of A and B wherever the answer holds them."""
    if isinstance(said, dict):
        if {"A", "B"} <= said.keys() and all(isinstance(said[k], int | float) for k in "AB"):
            return {k: float(said[k]) for k in ("A", "B")}
        inner = list(said.values())
    else:
        inner = said if isinstance(said, list) else []
    return next((found for value in inner if (found := _option_probabilities(value))), {})


class OpenAIAnswerer:
    """A server with ``/v1/chat/completions`` that takes images: vLLM, llama.cpp, ``transformers serve`` and others.

    Args:
        base_url: Such as ``http://localhost:8000/v1``.
        model: The model's name there.
        concurrency: Requests under way at once.
        retries: Of a request that fails, with growing pauses.
        timeout_s: Longest wait for one answer.

    Raises:
        ProxqaError: The package openai is not installed.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key: str = "none",
        concurrency: int = 4,
        retries: int = 4,
        timeout_s: float = 120.0,
        max_tokens: int = 64,
    ) -> None:
        try:
            import openai
        except ImportError as error:
            raise ProxqaError("asking a server needs the package openai; pip install openai") from error
        self.name, self.batch_size, self._max_tokens = model, concurrency, max_tokens
        self._client = openai.OpenAI(base_url=base_url, api_key=api_key, timeout=timeout_s, max_retries=retries)
        self._error_type = openai.OpenAIError

    def answer(self, questions: Sequence[ComparisonQuestion]) -> list[Answer]:
        """See `Answerer.answer`."""
        with ThreadPoolExecutor(self.batch_size) as pool:
            return list(pool.map(self._one, questions))

    def _one(self, question: ComparisonQuestion) -> Answer:
        try:
            coded = base64.b64encode(jpeg_bytes(marked(question.item, question.flipped))).decode()
            content: Any = [
                {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{coded}"}},
                {"type": "text", "text": question.text},
            ]
            done = self._client.chat.completions.create(
                model=self.name,
                messages=[{"role": "user", "content": content}],
                temperature=0,
                max_tokens=self._max_tokens,
            )
        except (self._error_type, BadImageError) as error:
            return Answer(error=f"{type(error).__name__}: {str(error).strip()[:200]}")
        return Answer((done.choices[0].message.content or "").strip())


class RecordedAnswerer:
    """Answers that were recorded: a JSON of BLINK's form, or JSON lines of ``{"key" or "id", "answer"}``.

    Args:
        path: The file; reports call the model as it is named.
        report: Counts the lines that hold no answer. Their questions are answered "not recorded".

    Raises:
        BadDatasetError: The file cannot be read or holds no answers.
    """

    batch_size = 256

    def __init__(self, path: Path, report: ReadReport | None = None) -> None:
        left_out = ReadReport()
        self.name = path.stem
        self._rows = list(recorded_answers(path, left_out))
        self._answers = {a.item_id: a.text for a in self._rows}
        if not self._answers:
            why = f" ({'; '.join(left_out.lines())[:300]})" if left_out.counts else ""
            raise BadDatasetError(f"{path}: holds no recorded answers{why}")
        if report is not None:
            report.merge(left_out)

    def answer(self, questions: Sequence[ComparisonQuestion]) -> list[Answer]:
        """See `Answerer.answer`."""
        return [self._one(q) for q in questions]

    def accuracy_as_recorded(self, item_ids: Container[str]) -> float:
        """The share of the recorded choices that are the recorded right ones: what was published, recomputed.

        Args:
            item_ids: The items that count.

        Returns:
            In [0, 1]; NaN where the file records no choices.
        """
        right = [r.prediction == r.right for r in self._rows if r.prediction and r.item_id in item_ids]
        return sum(right) / len(right) if right else math.nan

    def _one(self, question: ComparisonQuestion) -> Answer:
        for key in (question.key, question.item.item_id):
            if key in self._answers and (key == question.key or not question.flipped):
                return Answer(self._answers[key])
        return Answer(error="not recorded")


@dataclass(frozen=True)
class RecordedAnswer:
    """item_id: of the item, or the question's key. text: what was said. prediction, right: as recorded, '' = not."""

    item_id: str
    text: str
    prediction: str = ""
    right: str = ""


def recorded_answers(
    path: Path, report: ReadReport | None = None, reason: str = NOT_RECORDED
) -> Iterator[RecordedAnswer]:
    """The answers of a recorded file one by one.

    Args:
        path: The file.
        report: Counts the lines and records that hold no answer.
        reason: What they are counted as.

    Raises:
        BadDatasetError: It cannot be read.
    """
    for place, row in _recorded_rows(path):
        try:
            yield _recorded(row() if callable(row) else row)
        except (ValueError, RecursionError) as error:
            if report is not None:
                report.add(reason, f"{path.name} {place} ({reason_of(error)[:50] or type(error).__name__})")


def _recorded_rows(path: Path) -> Iterator[tuple[str, Any]]:
    """Where each record is, and the record; of a JSON line a function that reads it, for it alone may be damaged."""
    try:
        content = path.read_bytes().removeprefix(BYTE_ORDER_MARK)
        raw = None if path.suffix == ".jsonl" else json.loads(content.decode())
    except (OSError, ValueError, RecursionError) as error:
        raise BadDatasetError(f"{path}: cannot be read as recorded answers ({reason_of(error)[:80]})") from error
    if path.suffix == ".jsonl":
        lines = enumerate(content.split(b"\n"), 1)  # U+2028 in an answer ends no line
        yield from ((f"line {number}", partial(_line_of, line)) for number, line in lines if line.strip())
        return
    rows = next((v for v in raw.values() if isinstance(v, list)), []) if isinstance(raw, dict) else raw
    yield from ((f"record {number}", row) for number, row in enumerate(rows if isinstance(rows, list) else [], 1))


def _line_of(line: bytes) -> Any:
    return json.loads(line.decode())


def _recorded(row: Any) -> RecordedAnswer:
    """A record's answer. BadDatasetError where it holds none."""
    if not isinstance(row, dict):
        raise BadDatasetError(f"is a {type(row).__name__}; expected an object")
    key = row.get("key", row.get("id", row.get("idx")))
    if key is None:
        raise BadDatasetError("has no 'key' or 'id'")
    said = row.get("full_prediction", row.get("text", row.get("answer")))
    if not isinstance(said, str):
        raise BadDatasetError(f"its answer is {str(said)[:20]!r}; expected text")
    return RecordedAnswer(str(key), said, str(row.get("prediction", "")), str(row.get("answer", "")))
